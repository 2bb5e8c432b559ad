"""What is wrong with a patient folder, in plain words: the file first, then what its images hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..domain.errors import BadInput
from ..domain.grid import Grid
from ..domain.patient import ImageRef, Patient, Visit, load_patient, problems
from .read import read_mask
from .resample import overlap_fraction, resample
from .suitability import notes
from .visit import read_labels, read_map, require_grid
from .voxels import voxel_findings

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing found: an error stops a run, a warning should be looked at, a note informs."""

    level: Level
    fault: BadInput

    @property
    def sentence(self) -> str:
        """File, field, what is wrong, what to do: one sentence."""
        return str(self.fault)


def check_patient(folder: Path) -> list[Finding]:
    """Everything that is wrong with, or worth knowing about, a patient folder.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    list of Finding
        Faults of ``patient.yaml`` first; only if there are none are the images opened.
    """
    faults = problems(Path(folder))
    if faults:
        return [Finding("error", fault) for fault in faults]
    patient = load_patient(Path(folder))
    found: list[Finding] = []
    reference: Grid | None = None
    first_tumour: tuple[np.ndarray, Grid] | None = None
    before: _Visit | None = None
    for visit in patient.visits:
        seen = _Visit(visit)
        found += seen.findings()
        if seen.grid is None:
            continue
        if reference is None:
            reference = seen.grid
            found += _whole_patient(patient, seen)
        else:
            found += _against_first(reference, seen)
        if seen.tumour is not None and seen.tumour.any():
            if before is not None:
                found += _copied(before, seen)
            before = seen
            if first_tumour is not None:
                found += _moved(first_tumour, seen)
            else:
                first_tumour = (seen.tumour, seen.grid)
    found += [Finding(level, fault) for level, fault in notes(patient, reference)]
    return found


def require_usable(folder: Path) -> Patient:
    """The patient, if nothing stands in the way of a run.

    Raises
    ------
    BadInput
        The first error that :func:`check_patient` finds.
    """
    for finding in check_patient(folder):
        if finding.level == "error":
            raise finding.fault
    return load_patient(folder)


class _Visit:
    """One visit's images, read once; faults are collected on the way."""

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.grid: Grid | None = None
        self.tumour: np.ndarray | None = None
        self.main = ""
        self.mark = (0.0, 0.0)

    def findings(self) -> Iterator[Finding]:
        images = self.visit.images
        shown = [r for r in images.values() if r.role.needs_unit]
        # the ADC map's grid is the visit's; without one, that of the first image
        shown.sort(key=lambda r: r.role.name != "adc")
        masks: dict[str, np.ndarray] = {}
        for ref in shown:
            try:
                self._reference(ref)
                break
            except BadInput:
                continue  # it is reported below
        for ref in images.values():
            if ref.role.needs_unit:
                continue
            try:
                mask = self._mask(ref)
            except BadInput as error:
                yield Finding("error", error)
                continue
            masks[ref.role.name] = mask
        self.tumour = masks.get("tumour")
        for name, outer in masks.items():
            if name in ("brain", "organ") and self.tumour is not None and self.tumour.any():
                yield from _outside(self.tumour, outer, name, images["tumour"].field)
        for ref in shown:
            try:
                array, grid, unit = read_map(ref)
                yield from self._place(ref, grid)
                same = self.grid is not None and grid.same_as(self.grid)
                tumour = self.tumour if same and self.tumour is not None and self.tumour.any() else None
                yield from (
                    Finding(level, fault) for level, fault in voxel_findings(ref, array, unit, tumour)
                )
            except BadInput as error:
                yield Finding("error", error)

    def _reference(self, ref: ImageRef) -> None:
        array, self.grid, _ = read_map(ref)
        self.main, held = ref.role.name, array[np.isfinite(array)]
        self.mark = (float(held.mean()), float(held.std())) if held.size else (0.0, 0.0)

    def _mask(self, ref: ImageRef) -> np.ndarray:
        mask, own = read_mask(ref.path, ref.field)
        if self.grid is None:
            self.grid, self.main = own, ref.role.name
        require_grid(own, self.grid, f"the {ref.role.name} mask", ref.field)
        if not mask.any() and not ref.empty:
            raise BadInput(
                f"the {ref.role.name} mask is empty",
                ref.field,
                "draw it, or add empty: true if nothing is visible",
            )
        if mask.any() and ref.empty:
            raise BadInput(
                f"the {ref.role.name} mask is declared empty but is not", ref.field, "remove empty: true"
            )
        return mask

    def _place(self, ref: ImageRef, grid: Grid) -> Iterator[Finding]:
        if self.grid is None or grid.same_as(self.grid):
            return
        share = overlap_fraction(grid, self.grid)
        if share == 0.0:
            yield Finding(
                "error",
                BadInput(
                    f"the {ref.role.name} image overlaps nothing of the {self.main} image", ref.field,
                    "check that both are of this patient, with their positions",
                ),
            )  # fmt: skip
            return
        yield Finding(
            "warning",
            BadInput(
                f"the {ref.role.name} image has another grid than the {self.main} image and covers "
                f"{100 * share:.0f} % of it", ref.field, "it will be resampled: check that they are aligned",
            ),
        )  # fmt: skip


def _outside(tumour: np.ndarray, outer: np.ndarray, name: str, where: str) -> Iterator[Finding]:
    """A tumour that leaves the domain in which it may grow."""
    lost = int((tumour & ~outer).sum())
    if lost == 0:
        return
    share = lost / int(tumour.sum())
    yield Finding(
        "error" if share > 0.5 else "warning",
        BadInput(
            f"{lost} voxels ({100 * share:.1f} %) of the tumour lie outside the {name} mask", where,
            "extend the mask or correct the outline",
        ),
    )  # fmt: skip


def _whole_patient(patient: Patient, seen: _Visit) -> Iterator[Finding]:
    """Masks and labels that hold for all visits, on the first visit's grid."""
    assert seen.grid is not None
    for ref in (patient.brain, patient.organ):
        if ref is None:
            continue
        try:
            mask, own = read_mask(ref.path, ref.field)
            require_grid(own, seen.grid, f"the {ref.role.name} mask", ref.field)
            if not mask.any():
                raise BadInput(f"the {ref.role.name} mask is empty", ref.field, "draw it, or leave it out")
            if seen.tumour is not None and seen.tumour.any():
                yield from _outside(seen.tumour, mask, ref.role.name, ref.field)
        except BadInput as error:
            yield Finding("error", error)
    if patient.tissue is not None:
        ref = patient.tissue.image
        try:
            labels, own = read_labels(ref, dict(patient.tissue.labels))
            require_grid(own, seen.grid, "the tissue image", ref.field)
            for label, name in patient.tissue.labels.items():
                if not (labels == label).any():
                    yield Finding(
                        "warning",
                        BadInput(f"no voxel has the label {label} ({name})", ref.field, "check the labels"),
                    )
        except BadInput as error:
            yield Finding("error", error)


def _against_first(reference: Grid, seen: _Visit) -> Iterator[Finding]:
    assert seen.grid is not None
    if seen.grid.same_as(reference):
        return
    share = overlap_fraction(seen.grid, reference)
    if share == 0.0:
        yield Finding(
            "error",
            BadInput(
                f"the images of visit {seen.visit.id} overlap nothing of the first visit's", seen.visit.field,
                "register them to the first visit, and check that they are of this patient",
            ),
        )  # fmt: skip
    else:
        yield Finding(
            "warning",
            BadInput(
                f"the images of visit {seen.visit.id} are not on the first visit's grid (they cover "
                f"{100 * share:.0f} % of it)", seen.visit.field,
                "register and resample them to the first visit",
            ),
        )  # fmt: skip


def _copied(before: _Visit, seen: _Visit) -> Iterator[Finding]:
    """An outline that was taken over from the visit before, though the images are new."""
    assert before.tumour is not None and seen.tumour is not None
    if np.allclose(before.mark, seen.mark, rtol=1e-5) or before.tumour.shape != seen.tumour.shape:
        return
    if (before.tumour == seen.tumour).all():
        yield Finding(
            "warning",
            BadInput(
                f"the tumour mask of visit {seen.visit.id} is voxel for voxel that of visit {before.visit.id}",
                seen.visit.images["tumour"].field, "check that it was drawn on this visit's images",
            ),
        )  # fmt: skip


def _moved(first: tuple[np.ndarray, Grid], seen: _Visit) -> Iterator[Finding]:
    """Tumours of two visits without a common voxel: scans that were not registered, or two lesions."""
    assert seen.grid is not None and seen.tumour is not None
    mask, grid = first
    here = mask if grid.same_as(seen.grid) else resample(mask, grid, seen.grid, "nearest", 0)
    if not (here & seen.tumour).any():
        yield Finding(
            "warning",
            BadInput(
                f"the tumour of visit {seen.visit.id} shares no voxel with the first visit's",
                seen.visit.images["tumour"].field, "check that the scans are registered",
            ),
        )  # fmt: skip
