"""The reduced growth model against the full order: decay of its error, projected operators, long horizons."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np

from ..domain.grid import Grid
from ..domain.keys import generator
from ..domain.parameters import LogNormal, Normal, Parameter, ParameterSpace
from ..physics.faces import assemble
from ..physics.growth import advance
from ..physics.timeline import Timeline, timeline
from ..reduction.case import GrowthCase
from ..reduction.growth import Snapshots
from ..reduction.training import Training, run_full, training_parameters
from ..reduction.training import assemble as reduced_model
from ..reduction.validation import relative_error
from .registry import Result, check, largest

SEED = 4


def _line(days: float) -> Timeline:
    fractions = [(10.3 + i, 2.0) for i in range(5)]
    return timeline(0.0, [0.0, days / 2, days], [(20.3, 1.0)], fractions if days > 20.0 else [], 1.0)


@cache
def _case() -> GrowthCase:
    """A tumour in a ball of two tissues, with fractions and a drug."""
    grid = Grid((18, 16, 14), (3.0, 3.0, 3.0))
    x, y, z = np.meshgrid(*grid.centres(), indexing="ij")
    radius = np.sqrt((x - 27.0) ** 2 + (y - 24.0) ** 2 + (z - 21.0) ** 2)
    faces = assemble(grid, radius < 23.0, np.where(radius > 16.0, 2, 1), {"white": 1, "grey": 2})
    mean = faces.gather(0.7 / (1.0 + np.exp((radius - 8.0) / 2.0)))
    modes = np.array([0.1 * mean, 0.1 * mean * faces.gather((x - 27.0) / 12.0)])

    def log(name: str, unit: str, median: float, sd: float) -> Parameter:
        return Parameter(name, unit, LogNormal(median, sd))

    space = ParameterSpace((
        log("D_white", "mm2/day", 0.25, 0.3), log("D_grey", "mm2/day", 0.08, 0.3), log("k", "1/day", 0.03, 0.25),
        log("alpha_rt", "1/Gy", 0.02, 0.3), log("alpha_drug", "1/day", 0.15, 0.3), log("beta_drug", "1/day", 0.7, 0.3),
        Parameter("exposure_weight", "1", Normal(0.5, 0.1)),
        Parameter("initial_1", "1", Normal(0.0, 1.0)), Parameter("initial_2", "1", Normal(0.0, 1.0)),
    ))  # fmt: skip
    exposure = faces.gather(1.0 + 0.4 * np.cos(x / 7.0) * np.sin(z / 6.0))
    return GrowthCase(faces, _line(60.0), space, mean, modes, 0.16, {"alpha_beta": 10.0}, exposure)


@cache
def _snapshots() -> tuple[Snapshots, ...]:
    return (run_full(_case(), training_parameters(_case().space, 20, SEED), tolerance=1e-6),)


def _truth(case: GrowthCase, theta: np.ndarray) -> np.ndarray:
    values = case.values(theta)
    start = case.initial(values.initial)
    return advance(case.faces, start, case.parameters(values), case.timeline, case.exposure)[0]


def _how(rank: int) -> Training:
    return Training(max_rank=rank, points=0, longest=1.0, tolerance=1e-9)


@check(
    "reduction.modes",
    "The reduced growth model's error falls with the number of modes",
    "median over unseen members falls by more than half from each of 6, 12, 24, 48 modes to the next, and ends below 1e-3",
    "the full order at the same steps, on parameters not trained on",
)
def decay(quick: bool) -> Result:
    """Relative L2 error inside the tumour, worst visit."""
    case = _case()
    theta = case.space.sample(4 if quick else 8, SEED, "check-reduction")
    truth = _truth(case, theta)
    medians = []
    for rank in (6, 12, 24, 48):
        reduced, _ = reduced_model(case, list(_snapshots()), _how(rank), SEED)
        fields = [reduced.reconstruct(a) for a in reduced.run(case, theta)[0]]
        worst = [
            largest(relative_error(t[v], f[v], case.n_detect, t[0]) for v in range(len(t)))
            for t, f in zip(truth, fields)
        ]
        medians.append(float(np.median(worst)))
    falls = [a / b for a, b in pairwise(medians)]
    return min(falls) > 2.0 and medians[-1] < 1e-3, {"modes": [6, 12, 24, 48], "median_error": medians}


@check(
    "reduction.projection",
    "Projected operators are the full order's, projected: one assembler",
    "relative difference of the right-hand side below 1e-12 for random coefficients",
    "the sparse operator, the square and the kill of the full order, projected voxel by voxel",
)
def projection(quick: bool) -> Result:
    """Diffusion in three conductances, the exact square, the drug's map."""
    case = _case()
    reduced, _ = reduced_model(case, list(_snapshots()), _how(24), SEED)
    a = np.zeros((3, reduced.size))
    a[:, : reduced.rank] = generator(SEED, "check-reduction", "projection").standard_normal((3, reduced.rank))
    fields = reduced.reconstruct(a)
    op = reduced.operators
    d = np.array([0.3, 0.05])
    assert case.exposure is not None
    pairs = {
        "diffusion": (
            np.einsum("g,gij,nj->ni", case.faces.conductance(d), op.diffusion, a),
            reduced.project((case.faces.operator(d) @ fields.T).T),
        ),
        "square": ((a @ op.points.T) ** 2 @ op.lift, reduced.project(fields**2)),
        "kill": (op.omega * a, reduced.project(case.exposure * fields)),
    }
    result = {
        name: float(np.abs(mine - theirs).max() / np.abs(theirs).max())
        for name, (mine, theirs) in pairs.items()
    }
    return largest(result.values()) < 1e-12, result


@check(
    "reduction.horizon",
    "The reduced growth model stays stable far beyond the times it was trained on",
    "over 600 days without treatment (ten times the training's horizon) no member fails, no value leaves [-0.05, 1.05], "
    "and the total is within 1 % of the full order's",
    "the full order over the same time: growth to capacity",
)
def horizon(quick: bool) -> Result:
    """Growth from the trained tumour until the organ is full."""
    case = _case()
    trained = case.on(timeline(0.0, [0.0, 150.0, 300.0], [], [], 1.0))
    snapshots = [run_full(trained, training_parameters(case.space, 8, SEED), tolerance=1e-6), *_snapshots()]
    reduced, _ = reduced_model(case, snapshots, _how(48), SEED)
    free = case.on(timeline(0.0, [0.0, 300.0, 600.0], [], [], 1.0))
    theta = case.space.sample(4, SEED, "check-horizon")
    coefficients, status = replace(reduced, limit=np.inf).run(free, theta)
    fields = np.array([reduced.reconstruct(a) for a in coefficients])
    truth = _truth(free, theta)
    gap = np.abs(fields.sum(axis=2) - truth.sum(axis=2)) / truth.sum(axis=2)
    low, high = float(fields.min()), float(fields.max())
    passed = bool((status == 0).all()) and low > -0.05 and high < 1.05 and float(gap.max()) < 0.01
    return passed, {
        "smallest": low,
        "largest": high,
        "total_error": float(gap.max()),
        "failed": int((status != 0).sum()),
    }
