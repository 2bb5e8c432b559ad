"""What the voxels and the time step cost a growth forecast: refined runs of its central member."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from ..domain.evidence import Evidence
from ..physics.growth import GrowthParameters, advance
from ..physics.refine import Refined, refine
from ..physics.timeline import Timeline
from ..reduction.case import GrowthCase
from ..verification.gci import SAFETY, grid_convergence
from ..verification.least_squares import CREDIBLE, least_squares_uncertainty
from .growth_model import load_model

#: Each voxel is cut into r^3 for these r; the step is that of the study.
RATIOS = (1, 2, 3)
#: The steps of the study are cut into these numbers of parts, on the study's voxels.
PARTS = (1, 2, 3, 4)
#: Cells further than this (mm) from where the member ever has cells do not matter.
REACH, SIGNIFICANT = 4.0, 0.02
#: Most cells of all refined grids together: the finest are left out where a tumour is larger.
MOST_CELLS = 4_000_000
#: Acceptance: 95 % uncertainty over the quantity; of the size of a reader's error of an outlined volume.
ACCEPTED = 0.05


@dataclass(frozen=True)
class Found:
    """Uncertainty (95 %, cm3) of the study's own value, the observed order, and which procedure it is from."""

    uncertainty: float
    order: float | None
    how: str


@dataclass(frozen=True)
class Discretisation:
    """Both quantities at one visit on several grids and with several steps.

    Parameters
    ----------
    spacing : tuple of float
        mm; the first is the study's.
    step : tuple of float
        Days; the first is the study's.
    by_grid, by_step : ndarray, shape (2, k)
        Visible total cellularity and volume, cm3; NaN where a run failed.
    grid, time : tuple of Found or None
        Of each quantity; None where there were fewer than three grids, or a run failed.
    """

    spacing: tuple[float, ...]
    step: tuple[float, ...]
    by_grid: np.ndarray
    by_step: np.ndarray
    grid: tuple[Found | None, Found | None]
    time: tuple[Found | None, Found | None]

    def standard(self, quantity: int, which: str) -> float | None:
        """Standard uncertainty of the study's own value: half of the 95 % one, cm3; None if not known."""
        fit = (self.grid if which == "grid" else self.time)[quantity]
        return None if fit is None else 0.5 * fit.uncertainty


def discretisation(
    case: GrowthCase, theta: np.ndarray, visit: int, ratios: tuple[int, ...] = RATIOS
) -> Discretisation:
    """Run one member on refined voxels and with shorter steps.

    The voxels' staircase, the tissues, the maps and the initial field stay as they are on the voxels, so that
    this is the error of the discretisation alone. The domain is cut to where the member has cells.

    Parameters
    ----------
    case : GrowthCase
    theta : ndarray, shape (1, p)
    visit : int
        Index of the visit that counts.
    ratios : tuple of int
        Refinements; the first is 1. Three are judged by Celik's procedure, more by least squares.
    """
    values = case.values(theta)
    parameters, start = case.parameters(values), case.initial(values.initial)[0]
    states, _ = case.solve(start, values)
    ever = np.maximum(states[0].max(axis=0), start) > SIGNIFICANT
    away = ndimage.distance_transform_edt(
        ~case.faces.scatter(ever).astype(bool), sampling=case.faces.grid.spacing
    )
    keep = case.faces.gather(away <= REACH)
    if not ever.any():
        keep = np.ones(case.faces.n, dtype=bool)

    def run(part: Refined, line: Timeline, p: GrowthParameters) -> tuple[float, float]:
        w = None if case.exposure is None else case.exposure[part.parent]
        states, status = advance(part.faces, start[part.parent], p, line, w, case.law)
        if status[0] != 0:
            return np.nan, np.nan
        out = states[0, visit]
        seen = out >= case.n_detect
        cm3 = part.faces.grid.voxel_volume / 1000.0
        return cm3 * float((out * seen).sum()), cm3 * float(seen.sum())

    spacing: list[float] = []
    by_grid: list[tuple[float, float]] = []
    cells = 0
    for ratio in ratios:
        cells += int(keep.sum()) * ratio**3
        if by_grid and cells > MOST_CELLS:
            break
        part = refine(case.faces, keep, ratio)
        spacing.append(float(np.prod(part.faces.grid.spacing)) ** (1.0 / 3.0))
        by_grid.append(run(part, case.timeline, parameters))
    whole = refine(case.faces, keep, 1)
    step, by_step = [], []
    for parts in PARTS:
        line = cut(case.timeline, parts)
        rate = np.repeat(np.broadcast_to(parameters.rate, (1, case.timeline.steps)), parts, axis=1)
        step.append(float(line.dt.max()))
        by_step.append(run(whole, line, replace(parameters, rate=rate)))
    grids, steps = np.array(by_grid).T, np.array(by_step).T
    return Discretisation(
        tuple(spacing), tuple(step), grids, steps,
        (_fit(spacing, grids[0]), _fit(spacing, grids[1])), (_fit(step, steps[0]), _fit(step, steps[1])),
    )  # fmt: skip


def central_discretisation(model: str, z: np.ndarray, visit: int) -> Discretisation:
    """:func:`discretisation` of the mean of scores (N, p), by any process that sees the run folder."""
    case = load_model(model).case
    return discretisation(case, np.asarray(case.space.from_gaussian(z.mean(axis=0)[None, :])), visit)


def _fit(sizes: list[float], values: np.ndarray) -> Found | None:
    """Uncertainty of the first value: least squares where there are four sizes, Celik's procedure for three."""
    if len(sizes) < 3 or not np.isfinite(values).all():
        return None
    if len(sizes) > 3:
        fit = least_squares_uncertainty(sizes, values.tolist())
        return Found(fit.uncertainty[0], fit.order, f"Eca & Hoekstra 2014, {fit.model}")
    widest = float(values.max() - values.min())
    if len(np.unique(values)) < 3:
        # nothing to extrapolate from: three times what is seen
        return Found(3.0 * widest, None, "range of three grids")
    got = grid_convergence(sizes, values.tolist())
    if got.oscillating or not CREDIBLE[0] <= got.order < CREDIBLE[1]:
        return Found(3.0 * widest, got.order, "range of three grids")
    return Found(SAFETY * abs(float(values[0]) - got.extrapolated), got.order, "Celik 2008")


def cut(line: Timeline, parts: int) -> Timeline:
    """The same timeline with every step cut into equal parts; events stay at the ends of the whole steps."""
    ends = np.zeros(parts, dtype=bool)
    ends[-1] = True
    last = np.tile(ends, line.steps)
    dt = np.repeat(line.dt / parts, parts)
    offset = np.tile(np.arange(parts), line.steps) * dt

    def at_end(values: np.ndarray, none: float) -> np.ndarray:
        return np.where(last, np.repeat(values, parts), none).astype(values.dtype)

    return Timeline(
        np.repeat(line.t, parts) + offset, dt, at_end(line.drug_jump, 0.0), at_end(line.dose, 0.0),
        at_end(line.dose_sq, 0.0), at_end(line.visit, -1), line.initial_visit, line.visits,
    )  # fmt: skip


def discretisation_evidence(found: Discretisation, visit: str, names: tuple[str, ...]) -> Evidence:
    """Evidence: do the forecast's quantities hang on the voxels or the step?"""
    result: dict[str, object] = {
        "voxel edges (mm)": list(found.spacing),
        "longest steps (days)": list(found.step),
    }
    worst, known = 0.0, True
    for q, name in enumerate(names):
        value = max(float(found.by_grid[q, 0]), 1e-12)
        result[f"{name} by voxel (cm3)"] = found.by_grid[q].tolist()
        result[f"{name} by step (cm3)"] = found.by_step[q].tolist()
        for which, fit in (("grid", found.grid[q]), ("time", found.time[q])):
            if fit is None:
                known = False
                continue
            share = fit.uncertainty / value
            worst = float(np.maximum(worst, share))  # keeps a NaN, so that the check fails
            result[f"{name}, 95 % uncertainty by {which} (%)"] = 100.0 * share
            order = "none seen" if fit.order is None else f"{fit.order:.2f}"
            result[f"{name}, procedure by {which}"] = f"{fit.how}, order {order}"
    return Evidence(
        "discretization.forecast", "discretization_error",
        f"The forecast's quantities at {visit} do not hang on the voxels or the time step (posterior mean, full order).",
        f"95 % uncertainty over three grids (Celik) and four steps (least squares) below {100 * ACCEPTED:g} % of each quantity",
        result, "not assessed" if not known else ("passed" if worst < ACCEPTED else "failed"),
        provenance={"oracle": "Celik et al. 2008, J. Fluids Eng. 130:078001; Eca & Hoekstra 2014, J. Comput. Phys. 262:104"},
    )  # fmt: skip
