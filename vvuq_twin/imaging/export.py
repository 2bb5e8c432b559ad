"""A patient's maps and masks out again: NIfTI, DICOM objects, and meshes of the tumour."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..domain.files import require_empty, whole_folder
from ..domain.grid import Grid
from ..domain.patient import Visit, load_patient
from .dicom.deidentify import DAY_ZERO, new_uid
from .dicom.encode import SeriesFacts, Study, write_series
from .dicom.objects import read_sources, write_dose, write_map, write_segmentation
from .mesh import write_surface, write_volume
from .read import read_mask
from .resample import resample
from .visit import read_map
from .write import write_image

Progress = Callable[[str, int, int], None]


def export_patient(folder: Path, out: Path, progress: Progress | None = None) -> list[Path]:
    """Write every visit's maps and masks in the forms that others read.

    Parameters
    ----------
    folder, out : Path
        ``out`` must be new or empty; it is written whole or not at all.
    progress : callable, optional

    Returns
    -------
    list of Path
        What was written. For each visit: ``nifti/`` (maps in the package's units, masks), ``dicom/`` (one segmentation
        object with all masks, a parametric map for each map, RT dose for a dose), ``vtk/`` (the tumour's surface, and its
        volume with the maps on it).

    Raises
    ------
    BadInput
        If the patient cannot be read or the folder cannot be written.

    Notes
    -----
    DICOM objects belong to the visit's de-identified images where the patient was imported from DICOM; otherwise a series
    is written for them, with the patient's pseudonym, dated from 1 January 2000.
    """
    out = Path(out)
    require_empty(out)
    patient = load_patient(Path(folder))
    with whole_folder(out) as part:
        for n, visit in enumerate(patient.visits):
            if progress is not None:
                progress("export", n, len(patient.visits))
            _visit(visit, Path(folder), part / visit.id, patient.id)
        if progress is not None:
            progress("export", len(patient.visits), len(patient.visits))
    return sorted(p for p in out.rglob("*") if p.is_file())


def _visit(visit: Visit, source: Path, out: Path, pseudonym: str) -> None:
    maps: dict[str, tuple[np.ndarray, Grid, str]] = {}
    masks: dict[str, tuple[np.ndarray, Grid]] = {}
    for name, ref in visit.images.items():
        if ref.role.kind in ("map", "signal") and ref.role.needs_unit:
            array, grid, unit = read_map(ref)
            write_image(out / "nifti" / f"{name}.nii.gz", array, grid, description=f"{name}, {unit}")
            if ref.role.kind == "map" and array.ndim == 3:
                maps[name] = array, grid, unit
        elif ref.role.kind == "mask":
            mask, grid = read_mask(ref.path, ref.field)
            write_image(out / "nifti" / f"{name}.nii.gz", mask, grid, description=f"{name} mask")
            masks[name] = mask, grid
    if not maps and not masks:
        return
    sources = _sources(visit, source, out, pseudonym)
    _objects(maps, masks, sources, out / "dicom")
    if "tumour" in masks and masks["tumour"][0].any():
        mask, grid = masks["tumour"]
        on = {
            f"{name}[{unit}]": array if own.same_as(grid) else resample(array, own, grid, "linear")
            for name, (array, own, unit) in maps.items()
        }
        write_surface(out / "vtk" / "tumour-surface.vtk", mask, grid)
        write_volume(out / "vtk" / "tumour-volume.vtk", mask, grid, on)


def _objects(
    maps: dict[str, tuple[np.ndarray, Grid, str]], masks: dict[str, tuple[np.ndarray, Grid]], sources: list[Any],
    out: Path,
) -> None:  # fmt: skip
    by_grid: list[tuple[Grid, dict[str, np.ndarray]]] = []
    for name, (mask, grid) in masks.items():
        if not mask.any():
            continue
        for own, group in by_grid:
            if own.same_as(grid):
                group[name] = mask
                break
        else:
            by_grid.append((grid, {name: mask}))
    for n, (grid, group) in enumerate(by_grid):
        write_segmentation(out / f"masks{f'-{n + 1}' if n else ''}.dcm", group, grid, sources, 100 + n)
    for n, (name, (array, grid, unit)) in enumerate(maps.items()):
        if name == "dose":
            write_dose(out / "dose.dcm", np.nan_to_num(array), grid, sources)
        else:
            write_map(out / f"{name}.dcm", array, grid, name, unit, sources, 200 + n)


def _sources(visit: Visit, folder: Path, out: Path, pseudonym: str) -> list[Any]:
    """The images that the objects belong to."""
    kept = sorted((folder / visit.id / "dicom").glob("*/*.dcm"))
    if kept:
        same = [p for p in kept if p.parent == kept[0].parent]
        return read_sources(same)
    first = next(r for r in visit.images.values() if r.role.needs_unit or r.role.kind == "mask")
    if first.role.needs_unit:
        array, grid, _ = read_map(first)
        array = array[0] if array.ndim == 4 else array
    else:
        mask, grid = read_mask(first.path, first.field)
        array = mask.astype(np.int32)
    uid = new_uid(f"{pseudonym} {visit.id}")
    when = dt.datetime.combine(DAY_ZERO, dt.time()) + dt.timedelta(days=visit.day)
    study = Study(
        uid, when, new_uid(f"{pseudonym} frame"), {"PatientName": pseudonym, "PatientID": pseudonym}
    )
    facts = SeriesFacts(1, "MR", first.role.name)
    return read_sources(write_series(out / "dicom" / "images", np.nan_to_num(array), grid, study, facts))
