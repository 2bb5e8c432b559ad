"""What the twin can and cannot do with a patient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from ..domain.errors import BadInput
from ..domain.grid import Grid
from ..domain.patient import Patient

Found = tuple[Literal["error", "warning", "note"], BadInput]


def notes(patient: Patient, grid: Grid | None) -> Iterator[Found]:
    """Notes on use, and a warning where a dose is out of the ordinary.

    Parameters
    ----------
    patient : Patient
    grid : Grid, optional
        Of the first visit's images.

    Yields
    ------
    (level, BadInput)
    """
    for fault in _use(patient):
        yield "note", fault
    for fault in _doses(patient):
        yield "warning", fault
    if grid is not None:
        for fault in _voxels(patient, grid):
            yield "note", fault


def _use(patient: Patient) -> Iterator[BadInput]:
    file = patient.field
    seen = [v for v in patient.visits if {"adc", "tumour"} <= v.images.keys()]
    if len(seen) < 2:
        yield BadInput(
            f"growth cannot be forecast: {len(seen)} of {len(patient.visits)} visits have an ADC map "
            "and a tumour mask",
            file, "two are needed, and more to score a forecast",
        )  # fmt: skip
    else:
        yield BadInput(
            f"growth can be forecast: {len(seen)} visits from day {seen[0].day:g} to {seen[-1].day:g} "
            "have an ADC map and a tumour mask",
            file,
        )
    if not any({"ktrans", "ve"} <= v.images.keys() for v in patient.visits):
        how = "there is no visit with ktrans and ve maps"
        yield BadInput(f"drug exposure is taken as uniform over the tumour: {how}", file)
    if patient.tissue is None:
        yield BadInput("one diffusivity is used everywhere: there is no tissue image", file)
    if (
        patient.brain is None
        and patient.organ is None
        and not any({"brain", "organ"} & v.images.keys() for v in patient.visits)
    ):
        yield BadInput("there is no brain or organ mask: the tumour's domain is not bounded", file, "add one")
    if not patient.treatments:
        yield BadInput("no treatment is given: growth is untreated", file)
    for visit in patient.visits:
        if "dce" in visit.images and not {"t1_map", "vfa"} & visit.images.keys():
            yield BadInput(
                "a dynamic series without a T1 map or flip-angle set gives relative concentrations only",
                visit.images["dce"].field,
            )


def _doses(patient: Patient) -> Iterator[BadInput]:
    for dose in patient.doses:
        if dose.amount == 0:
            yield BadInput(
                f"the dose of {dose.agent} on day {dose.day:g} is zero", dose.field, "remove or correct it"
            )
    for fraction in patient.fractions:
        if fraction.dose == 0:
            yield BadInput(
                f"the fraction on day {fraction.day:g} is zero", fraction.field, "remove or correct it"
            )
    total = sum(f.dose for f in patient.fractions)
    last = patient.fractions[-1] if patient.fractions else None
    if last is not None and max(f.dose for f in patient.fractions) > 30:
        yield BadInput(
            "a fraction is above 30 Gy", last.field, "check that the dose is of one fraction, in Gy"
        )
    elif last is not None and total > 200:
        yield BadInput(f"the fractions add up to {total:g} Gy", last.field, "check the repeats")


def _voxels(patient: Patient, grid: Grid) -> Iterator[BadInput]:
    h = max(grid.spacing)
    if h > 3.0 * min(grid.spacing):
        size = " x ".join(f"{s:.3g}" for s in grid.spacing)
        yield BadInput(
            f"the voxels are far from cubes ({size} mm): the forecast is coarse along one axis", patient.field
        )
