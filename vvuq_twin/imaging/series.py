"""A patient's scans on one grid, with the treatments: what a growth study works on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..domain.errors import BadInput
from ..domain.grid import Grid
from ..domain.patient import Patient, load_patient
from .resample import resample
from .visit import read_labels, read_map, read_mask_on, require_grid


@dataclass(frozen=True)
class ScanVisit:
    """One visit.

    Parameters
    ----------
    id : str
    day : float
    adc : ndarray, grid.shape
        Apparent diffusion coefficient in mm2/s; NaN where it is missing.
    tumour : ndarray of bool, grid.shape
        Outline of the visible tumour.
    """

    id: str
    day: float
    adc: np.ndarray
    tumour: np.ndarray


@dataclass(frozen=True)
class Perfusion:
    """Tofts maps of one visit: ``ktrans`` in 1/min and ``ve`` (fraction), grid.shape each."""

    ktrans: np.ndarray
    ve: np.ndarray


@dataclass(frozen=True)
class Treatments:
    """What was given: (day, amount in mg/m2) of each drug dose and (day, Gy) of each fraction."""

    drug_doses: tuple[tuple[float, float], ...] = ()
    fractions: tuple[tuple[float, float], ...] = ()
    agent: str = ""


@dataclass(frozen=True)
class ScanSeries:
    """Scans over time on one grid.

    Parameters
    ----------
    id : str
    grid : Grid
    brain : ndarray of bool
        Where tumour can grow (the organ).
    tissue : ndarray of int
        Labels inside the organ.
    labels : dict of int to str
        Names of the tissue labels.
    visits : tuple of ScanVisit, by day
    treatments : Treatments
    perfusion : Perfusion, optional
        From the first visit that has it.
    """

    id: str
    grid: Grid
    brain: np.ndarray
    tissue: np.ndarray
    labels: dict[int, str]
    visits: tuple[ScanVisit, ...]
    treatments: Treatments = field(default_factory=Treatments)
    perfusion: Perfusion | None = None


def read_series(folder: Path, default_label: str = "tissue") -> tuple[ScanSeries, tuple[str, ...]]:
    """Read a patient folder for a growth study.

    Parameters
    ----------
    folder : Path
    default_label : str
        Name of the one tissue where the patient has no tissue labels.

    Returns
    -------
    series : ScanSeries
        On the grid of the first visit's ADC map.
    notes : tuple of str
        What was left out or had to be assumed, one sentence each.

    Raises
    ------
    BadInput
        If the folder cannot be used: one sentence with file, field and what to do.
    """
    patient = load_patient(Path(folder))
    notes: list[str] = []
    usable = [v for v in patient.visits if "adc" in v.images and "tumour" in v.images]
    for visit in patient.visits:
        if visit not in usable:
            notes.append(f"Visit {visit.id} is left out: it has no ADC map or no tumour outline.")
    if not usable:
        raise BadInput(
            "no visit has both an ADC map and a tumour outline",
            patient.field,
            "add images.adc and images.tumour",
        )
    grid = read_map(usable[0].image("adc"))[1]
    visits: list[ScanVisit] = []
    for visit in usable:
        adc, own, _ = read_map(visit.image("adc"))
        if adc.ndim != 3:
            raise BadInput(
                "the ADC map is a series, not one volume", visit.image("adc").field, "give one map per visit"
            )
        tumour = read_mask_on(visit.image("tumour"), own)
        if not tumour.any() and visit is usable[0]:
            raise BadInput(
                "the tumour mask is empty",
                visit.image("tumour").field,
                "draw the outline or leave the visit out",
            )
        if not own.same_as(grid):
            adc = resample(adc, own, grid, "linear")
            tumour = resample(tumour.astype(float), own, grid, "nearest", 0.0) > 0.5
            notes.append(f"Visit {visit.id} was resampled to the first visit's grid (no registration).")
        adc = np.where(np.isfinite(adc) & (adc > 0), adc, np.nan)
        visits.append(ScanVisit(visit.id, visit.day, adc, tumour.astype(bool)))
    brain, tissue, labels = _organ(patient, grid, default_label, notes)
    for scan in visits:
        outside = scan.tumour & ~brain
        if outside.any():
            share = outside.sum() / scan.tumour.sum()
            notes.append(
                f"{100 * share:.1f} % of the tumour of {scan.id} lies outside the organ and is not used."
            )
    if not (visits[0].tumour & brain).any():
        raise BadInput(
            "the tumour mask lies outside the organ",
            usable[0].field,
            "check that both are of the same patient",
        )
    treatments = _treatments(patient, visits[0].day, notes)
    perfusion = None
    for visit in patient.visits:
        if "ktrans" in visit.images:
            ktrans, own, _ = read_map(visit.image("ktrans"))
            require_grid(own, grid, "the ktrans map", visit.image("ktrans").field)
            ve = np.full(grid.shape, np.nan)
            if "ve" in visit.images:
                ve, own, _ = read_map(visit.image("ve"))
                require_grid(own, grid, "the ve map", visit.image("ve").field)
            perfusion = Perfusion(ktrans, ve)
            break
    return ScanSeries(patient.id, grid, brain, tissue, labels, tuple(visits), treatments, perfusion), tuple(
        notes
    )


def _organ(
    patient: Patient, grid: Grid, default_label: str, notes: list[str]
) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """The organ's mask, its tissue labels and their names."""
    tissue = None
    if patient.tissue is not None:
        tissue, own = read_labels(patient.tissue.image, dict(patient.tissue.labels))
        require_grid(own, grid, "the tissue map", patient.tissue.image.field)
    ref = patient.brain or patient.organ
    if ref is not None:
        organ = read_mask_on(ref, grid)
    elif tissue is not None:
        organ = tissue > 0
    else:
        raise BadInput(
            "there is neither a brain or organ mask nor a tissue map", patient.field, "add brain: {file: ...}"
        )
    if tissue is None:
        notes.append(f"There is no tissue map: the whole organ is taken as {default_label}.")
        return organ, organ.astype(np.int32), {1: default_label}
    assert patient.tissue is not None
    organ = organ & (tissue > 0)
    if not organ.any():
        raise BadInput("the organ mask and the tissue map do not overlap", patient.field)
    present = np.unique(tissue[organ])
    return organ, tissue, {k: v for k, v in patient.tissue.labels.items() if k in present}


def _treatments(patient: Patient, start: float, notes: list[str]) -> Treatments:
    """What was given from the first visit on: what earlier treatment did is in the first scan."""
    agents = sorted({dose.agent for dose in patient.doses})
    agent = agents[0] if agents else ""
    for other in agents[1:]:
        notes.append(f"The doses of {other} are left out: this study models one drug, {agent}.")
    doses = tuple((d.day, patient.amount(d, "mg/m2")) for d in patient.doses if d.agent == agent)
    fractions = tuple((f.day, f.dose) for f in patient.fractions)
    early = sum(t < start for t, _ in (*doses, *fractions))
    if early:
        notes.append(
            f"{early} doses and fractions before the first scan are left out: what they did is in that scan."
        )
    return Treatments(
        tuple(d for d in doses if d[0] >= start), tuple(f for f in fractions if f[0] >= start), agent
    )
