"""The full order converged in time: the semi-discrete system that is projected, in all cells.

The package's own transport run splits local kinetics and transport and halves its local steps to a tolerance; both
leave errors of 1e-3 at usual steps. Here the same cells, faces, upwind fluxes and local kinetics are
integrated together by ROS34PW2 (:mod:`~vvuq_twin.reduction.rosenbrock`) on the reduced order's own steps or shorter
ones: training and judging then see no other time error than the one that is stated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.linalg import expm

from ..domain.errors import BadInput, RunFailed
from ..kinetics.plasma import Course
from ..physics.drug import Drug
from ..physics.tissue import Rates, Tissue
from . import local as cells
from .delivery_case import DeliveryCase, DeliveryInputs, cell_links
from .rosenbrock import STAGES, step
from .timegrid import TimeGrid, time_grid

#: Status of a member, as of the package's transport: fine, not finite, unusable parameters.
OK, NOT_FINITE, BAD_PARAMETER = 0, 1, 2


@dataclass(frozen=True)
class Reference:
    """Runs of N members.

    Parameters
    ----------
    amount : ndarray, shape (N, T, s, k)
        Per volume of tissue, in the kept cells; zero for a member that failed.
    states : list of ndarray, shape (., s, n)
        Of each member, at the recorded steps, in all cells.
    status : ndarray of int, shape (N,)
    """

    amount: np.ndarray
    states: list[np.ndarray]
    status: np.ndarray


def case_grid(case: DeliveryCase, first: float, rate: float, longest: float) -> TimeGrid:
    """The steps of a case, see :func:`~vvuq_twin.reduction.timegrid.time_grid`."""
    return time_grid(case.times, case.plan.times, case.plan.jumps, first, rate, longest)


def movement(tissue: Tissue, drug: Drug, species: int, rates: Rates) -> sparse.csr_array:
    """Diffusion, upwind convection and what the mask's edge takes, on the amounts (n,) of a species, 1/h."""
    faces, n = tissue.faces, tissue.faces.n
    rows, cols, values = [], [], []
    conductance, speeds = tissue.face_conductance(drug.diffusivity_of(species)), tissue.face_speed()
    for axis, (low, high, _) in enumerate(faces.neighbours):
        g = conductance[axis].ravel()[faces.place[high]]
        v = np.zeros(len(high))
        if tissue.velocity is not None:
            v = speeds[axis].ravel()[faces.place[high]] * tissue.pace[axis]
        up, down = np.maximum(v, 0.0), np.minimum(v, 0.0)
        rows += [low, high, high, low]
        cols += [low, low, high, high]
        values += [-g - up, g + up, down - g, g - down]
    index = (np.concatenate(rows), np.concatenate(cols))
    matrix = sparse.coo_array((np.concatenate(values), index), shape=(n, n)).tocsr()
    return sparse.csr_array((matrix - sparse.diags_array(rates.edge)) @ sparse.diags_array(1.0 / tissue.phi))


def plasma_courses(plan: Course, rows: np.ndarray, grid: TimeGrid) -> tuple[np.ndarray, np.ndarray]:
    """Plasma concentrations at every stage (S, 4, m) and their slopes at every step's start (S, m)."""
    flows = [[expm(plan.matrix * h * c) for c in (*STAGES, 1.0)] for h in grid.interval]
    seen, slope, x = [], [], np.zeros(plan.size)
    for jump, which in zip(grid.jump, grid.which):
        x = x + jump
        seen.append([rows @ (flow @ x) for flow in flows[which][:4]])
        slope.append(rows @ (plan.matrix @ x))
        x = flows[which][4] @ x
    return np.array(seen), np.array(slope)


def _solve(
    case: DeliveryCase, x: DeliveryInputs, i: int, grid: TimeGrid, record: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Amounts (T, s, n) of one member, and at the recorded steps."""
    tissue, drug, plan = case.member(x, i)
    rates, n, m = tissue.exchange(drug), tissue.faces.n, drug.moving
    moves = [movement(tissue, drug, s, rates) for s in range(m)]
    one = DeliveryInputs({}, *(_row(v, i) for v in x[1:]))
    local = cells.Local(
        tuple((rates.back[s] + rates.lymph)[None] / tissue.phi for s in range(m)),
        tuple(rates.gain[s][None] for s in range(m)),
        one.reactions, tissue.faces.label, cell_links(one, case.pairs, tissue.faces.label, tissue.phi),
    )  # fmt: skip
    seen, slope = plasma_courses(plan, drug.inputs(plan), grid)
    c = np.zeros((drug.size, 1, n))
    amount, kept = np.zeros((len(grid.output), drug.size, n)), []
    for k, h in enumerate(grid.dt):

        def rate(at: np.ndarray, stage: int, k: int = k) -> np.ndarray:
            found = np.stack(cells.rates(local, case.pairs, at, seen[k, stage][None]))
            for s in range(m):
                found[s, 0] += moves[s] @ at[s, 0]
            return found

        drift = np.stack(cells.drift(local, slope[k][None], c))
        c = step(c, h, rate, cells.jacobian(local, case.pairs, c), drift)
        for t in np.flatnonzero(grid.output == k):
            amount[t] = c[:, 0]
        if record[k]:
            kept.append(c[:, 0].copy())
    if not np.isfinite(c).all():
        raise RunFailed("The delivery became non-finite; shorten the steps.")
    return amount, np.array(kept).reshape(-1, drug.size, n)


def _row(value: Any, i: int) -> Any:
    """A member of what all members have."""
    if isinstance(value, tuple):
        return tuple(v[i : i + 1] for v in value)
    return value[i : i + 1]


def reference(
    case: DeliveryCase, theta: np.ndarray, grid: TimeGrid, region: np.ndarray | None = None, records: int = 0
) -> Reference:
    """Full-order runs on the steps of ``grid``; a member that fails has a code and zeros.

    Parameters
    ----------
    case : DeliveryCase
    theta : ndarray, shape (N, p)
    grid : TimeGrid
    region : ndarray of bool, shape (n,), optional
        Cells whose amounts are kept; all if absent.
    records : int
        States that are kept of each run besides, at about equal numbers of steps.
    """
    theta = np.asarray(theta, dtype=float)
    x = case.inputs(theta)
    keep = slice(None) if region is None else region
    record = np.zeros(len(grid.which), dtype=bool)
    if records:
        record[np.unique(np.linspace(0, len(record) - 1, records).astype(int))] = True
    width = case.site.faces.n if region is None else int(np.sum(region))
    amount = np.zeros((len(theta), len(grid.output), case.drug.size, width))
    states: list[np.ndarray] = []
    status = np.full(len(theta), OK)
    for i in range(len(theta)):
        try:
            with np.errstate(all="ignore"):  # the code says so
                one, kept = _solve(case, x, i, grid, record)
        except BadInput:
            status[i] = BAD_PARAMETER
        except RunFailed:
            status[i] = NOT_FINITE
        else:
            amount[i] = one[:, :, keep]
            states.append(kept)
    return Reference(amount, states, status)
