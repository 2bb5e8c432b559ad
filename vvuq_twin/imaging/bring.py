"""A patient's later visits brought to the first: a new patient folder on one grid, each image with its registration's error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..domain.errors import BadInput, near
from ..domain.files import require_empty, whole_folder, write_text
from ..domain.grid import Grid
from ..domain.patient import ImageRef, Patient, Visit, load_patient
from .alignment import Alignment, Kind, align, foreground, lie_on
from .bias import without_shading
from .conserve import activity_on, mask_on
from .read import read_image, read_mask
from .resample import resample
from .write import write_image

Progress = Callable[[str, int, int], None]
#: Roles by which visits are registered, the best first; the sharper anatomy and less change by treatment.
_BY = ("t1_post", "t1", "t2", "flair", "ct", "adc", "dwi")
#: Activity is kept, signals and maps are interpolated.
_ACTIVITY = frozenset(("pet", "spect", "pet_dynamic", "spect_dynamic"))


@dataclass(frozen=True)
class Brought:
    """How one visit came to the first.

    Parameters
    ----------
    visit : str
    by : str
        Role whose images were compared; "" where nothing had to be done.
    kind : str
    error_mm : float
        Spread of the registration over its starts.
    moved_mm : float
        Mean displacement.
    before, after : float
        Correlation.
    agreed, tried : int
        Starts.
    organ_overlap, organ_distance_mm : float
        Dice coefficient and mean surface distance of the organ's masks afterwards; NaN without masks at both visits.
    activity_lost : float
        Largest part of an emission scan's activity that lies outside the first visit's grid.
    """

    visit: str
    by: str
    kind: str
    error_mm: float
    moved_mm: float
    before: float
    after: float
    agreed: int
    tried: int
    organ_overlap: float = float("nan")
    organ_distance_mm: float = float("nan")
    activity_lost: float = 0.0

    @property
    def sentence(self) -> str:
        """One line for the screen."""
        organ = (
            f", organ masks {self.organ_distance_mm:.2f} mm apart"
            if self.organ_overlap == self.organ_overlap
            else ""
        )
        lost = (
            f", {100 * self.activity_lost:.1f} % of the activity outside" if self.activity_lost > 1e-3 else ""
        )
        return (
            f"{self.visit}: {self.kind} by {self.by}, moved {self.moved_mm:.2f} mm +- {self.error_mm:.2f} mm "
            f"({self.agreed} of {self.tried} starts agree), correlation {self.before:.3f} to {self.after:.3f}{organ}{lost}"
        )


def bring_together(
    folder: Path, out: Path, kind: Kind = "rigid", *, shading: bool = False, starts: int = 6, seed: int = 0,
    progress: Progress | None = None,
) -> list[Brought]:  # fmt: skip
    """Register every later visit to the first and write a patient folder on the first visit's grid.

    Parameters
    ----------
    folder, out : Path
        ``out`` must be new or empty; it is written whole or not at all.
    kind : {"rigid", "affine", "deformable"}
        Deformable registration leaves the tumour out, so that its growth is not registered away.
    shading : bool
        Correct the signals that are compared by N4 first (not the images that are written).
    starts, seed
        See :func:`vvuq_twin.imaging.alignment.align`.
    progress : callable, optional

    Returns
    -------
    list of Brought
        One a later visit.

    Raises
    ------
    BadInput
        If a visit shares no image role with the first by which it could be registered, or the registration is not
        sure.

    Notes
    -----
    Maps and signals are interpolated linearly, masks keep their volume, emission scans their activity. Every image
    of a later visit gets, under ``acquisition``, the registration's kind and error, and maps a file with the standard
    deviation that the registration's error gives each voxel.
    """
    out = Path(out)
    require_empty(out)
    patient = load_patient(Path(folder))
    first = patient.visits[0]
    grid = _grid_of(first)
    done: list[Brought] = []
    with whole_folder(out) as part:
        written: dict[str, Any] = {}
        for n, visit in enumerate(patient.visits):
            if progress is not None:
                progress("register", n, len(patient.visits))
            alignment, by = None, ""
            if n:
                alignment, by = _align(first, visit, kind, shading, starts, seed)
            entries, lost = _write_visit(visit, alignment, grid, part)
            written[visit.id] = entries
            if alignment is not None:
                overlap, distance = _organ(first, visit, alignment)
                done.append(
                    Brought(
                        visit.id, by, kind, alignment.error_mm, alignment.moved_mm, alignment.before,
                        alignment.after, len(alignment.starts), alignment.tried, overlap, distance, lost,
                    )
                )  # fmt: skip
        if progress is not None:
            progress("register", len(patient.visits), len(patient.visits))
        _write_patient(patient, Path(folder), grid, written, part, done)
    return done


def kind_of(word: str) -> Kind:
    """A kind of registration by its name.

    Raises
    ------
    BadInput
        With the nearest known kind.
    """
    kinds: dict[str, Kind] = {"rigid": "rigid", "affine": "affine", "deformable": "deformable"}
    if word not in kinds:
        raise BadInput(f"the kind of registration '{word}' is not known", "--kind", near(word, kinds))
    return kinds[word]


def _grid_of(visit: Visit) -> Grid:
    """The visit's own grid: its ADC map's, or that of its first image that is no mask."""
    for name in ("adc", *visit.images):
        if name in visit.images and visit.images[name].role.needs_unit:
            return read_image(visit.images[name].path, visit.images[name].field)[1]
    raise BadInput("the first visit has no image to register to", visit.field, "add one")


def _volume(ref: ImageRef) -> tuple[np.ndarray, Grid]:
    array, grid = read_image(ref.path, ref.field)
    return (array[0] if array.ndim == 4 else array).astype(float), grid


def _align(
    first: Visit, visit: Visit, kind: Kind, shading: bool, starts: int, seed: int
) -> tuple[Alignment, str]:
    common = [r for r in _BY if r in first.images and r in visit.images]
    if not common:
        raise BadInput(
            f"visit {visit.id} shares no anatomical image with {first.id} by which to register it", visit.field,
            "add one of " + ", ".join(_BY) + " to both",
        )  # fmt: skip
    by = common[0]
    fixed, fixed_grid = _volume(first.images[by])
    moving, moving_grid = _volume(visit.images[by])
    if shading and first.images[by].unit == "arbitrary":
        fixed, moving = without_shading(fixed, fixed_grid)[0], without_shading(moving, moving_grid)[0]
    region = foreground(fixed)
    if kind == "deformable" and "tumour" in first.images:
        tumour, own = read_mask(first.images["tumour"].path, first.images["tumour"].field)
        region &= ~resample(tumour, own, fixed_grid, "nearest", 0)
    found = align(fixed, fixed_grid, moving, moving_grid, kind, region=region, starts=starts, seed=seed)
    return found, by


def _write_visit(
    visit: Visit, alignment: Alignment | None, grid: Grid, folder: Path
) -> tuple[dict[str, Any], float]:
    """The visit's images on the first visit's grid; their entries of the patient file, and activity lost."""
    import SimpleITK as sitk

    entries: dict[str, Any] = {}
    lost = 0.0
    transform = sitk.Transform(3, sitk.sitkIdentity) if alignment is None else alignment.transform
    for name, ref in visit.images.items():
        file = f"{visit.id}/{name}.nii.gz"
        entry: dict[str, Any] = {"file": file}
        entries[name] = entry
        acquisition = dict(ref.acquisition)
        if not ref.role.needs_unit:
            mask, own = read_mask(ref.path, ref.field)
            same = alignment is None and own.same_as(grid)
            placed = mask if same else mask_on(mask, own, grid, transform)
            write_image(folder / file, placed, grid, description=f"{name} mask")
            if not placed.any():
                entry["empty"] = True
        else:
            array, own = read_image(ref.path, ref.field)
            same = alignment is None and own.same_as(grid)
            if same:
                placed = array
            elif name in _ACTIVITY:
                placed, gone = _activity(array, own, grid, transform)
                lost = max(lost, gone)
            else:
                placed = lie_on(array.astype(float), own, grid, transform)
            write_image(folder / file, placed, grid, description=f"{name}, {ref.unit}")
            entry["unit"] = ref.unit
            if placed.dtype.kind == "f" and np.isnan(placed).any():
                entry["missing"] = "nan"
            if alignment is not None and ref.role.kind == "map" and placed.ndim == 3:
                spread = registration_sd(array.astype(float), own, grid, alignment)
                error = f"{visit.id}/{name}-registration-sd.nii.gz"
                write_image(folder / error, spread, grid, description=f"sd by registration, {ref.unit}")
                acquisition["registration_sd_file"] = error
        if alignment is not None:
            acquisition |= {
                "registration": alignment.kind,
                "registration_error_mm": round(alignment.error_mm, 4),
            }
        if acquisition and ref.role.needs_unit:
            entry["acquisition"] = acquisition
    return entries, lost


def _activity(array: np.ndarray, own: Grid, grid: Grid, transform: Any) -> tuple[np.ndarray, float]:
    if array.ndim == 3:
        return activity_on(array.astype(float), own, grid, transform)
    parts = [activity_on(v.astype(float), own, grid, transform) for v in array]
    return np.stack([p[0] for p in parts]), max(p[1] for p in parts)


def registration_columns(array: np.ndarray, own: Grid, target: Grid, alignment: Alignment) -> np.ndarray:
    """What the error of a registration does to an image, as columns of a correlated error.

    Parameters
    ----------
    array : ndarray, shape ``own.shape``
    own, target : Grid
    alignment : Alignment

    Returns
    -------
    ndarray, shape (starts, *target.shape)
        The image as each start lays it, less their mean, over the root of their number less one: the sum of squares
        is each voxel's variance, and voxels err together as the image moves. 0 where a start has no data.
    """
    laid = np.stack([lie_on(array, own, target, t) for t in alignment.starts])
    columns = (laid - laid.mean(axis=0)) / np.sqrt(len(laid) - 1)
    return np.nan_to_num(columns)


def registration_sd(array: np.ndarray, own: Grid, target: Grid, alignment: Alignment) -> np.ndarray:
    """Standard deviation of each voxel by the error of a registration, shape ``target.shape``."""
    return np.asarray(np.sqrt((registration_columns(array, own, target, alignment) ** 2).sum(axis=0)))


def _organ(first: Visit, visit: Visit, alignment: Alignment) -> tuple[float, float]:
    """Overlap and surface distance of the organ's masks after registration; NaN without them."""
    from scipy import ndimage

    name = next((n for n in ("brain", "organ") if n in first.images and n in visit.images), None)
    if name is None:
        return float("nan"), float("nan")
    a, grid = read_mask(first.images[name].path, first.images[name].field)
    b, own = read_mask(visit.images[name].path, visit.images[name].field)
    b = mask_on(b, own, grid, alignment.transform)
    both = int(a.sum()) + int(b.sum())
    if not a.any() or not b.any():
        return 0.0, float("inf")
    rims = [m & ~ndimage.binary_erosion(m) for m in (a, b)]
    to = [ndimage.distance_transform_edt(~rim, sampling=grid.spacing) for rim in rims]
    distance = (to[1][rims[0]].sum() + to[0][rims[1]].sum()) / (rims[0].sum() + rims[1].sum())
    return 2.0 * int((a & b).sum()) / both, float(distance)


def _write_patient(
    patient: Patient, source: Path, grid: Grid, written: dict[str, Any], folder: Path, done: list[Brought]
) -> None:
    """The patient file with the new images; everything else is as it was."""
    import json

    import yaml

    from ..domain.yamllines import read_lined

    data: Any = read_lined(source / "patient.yaml").data
    for visit, entry in zip(patient.visits, data["visits"]):
        entry["images"] = written[visit.id]
    for name, ref in (("brain", patient.brain), ("organ", patient.organ)):
        if ref is not None:
            mask, own = read_mask(ref.path, ref.field)
            placed = mask if own.same_as(grid) else resample(mask, own, grid, "nearest", 0)
            write_image(folder / f"{name}.nii.gz", placed, grid, description=f"{name} mask")
            data[name] = {"file": f"{name}.nii.gz"}
    if patient.tissue is not None:
        labels, own = read_image(patient.tissue.image.path, patient.tissue.image.field)
        placed = labels if own.same_as(grid) else resample(labels, own, grid, "nearest", 0)
        write_image(folder / "tissue.nii.gz", placed, grid, description="tissue labels")
        data["tissue"]["file"] = "tissue.nii.gz"
    rows = [{k: v for k, v in asdict(b).items() if v == v} for b in done]
    write_text(folder / "registration.json", json.dumps(rows, indent=1) + "\n")
    write_text(
        folder / "patient.yaml", yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=100)
    )
