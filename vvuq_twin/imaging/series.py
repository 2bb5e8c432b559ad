"""A patient's scans on one grid, with the treatments: what a growth study works on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..domain.grid import Grid


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
