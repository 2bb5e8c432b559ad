"""The offline part of the reduced growth model, in pieces that can run as batches anywhere.

``training_parameters`` -> ``run_full`` (per batch) -> ``assemble`` -> ``propose`` and again -> ``validate``
(per batch) -> ``judge``, the last two from :mod:`~vvuq_twin.reduction.validation`; :func:`train` joins them and
adds the worst validation members to the training until the guarded error is small enough. The last judgement is always
on parameters that no basis has seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.fingerprint import fingerprint
from ..domain.parameters import ParameterSpace
from ..physics.timeline import Timeline
from .case import GrowthCase
from .estimate import Probe, make_probe
from .growth import ReducedGrowth, Snapshots, build, stepped
from .pod import compress
from .validation import CROWD, Timings, Validation, indicators, judge, least_norm, measure, validate

#: Cellularity below which a voxel does not belong to the basis' support, and one that need not be computed for it.
NEGLIGIBLE, NOTHING = 1e-4, 1e-6
#: Standard normal scores up to which the training reaches: beyond the quantiles 1e-4 and 1 - 1e-4.
REACH = 3.8
#: Score of the quantile 1 - 1e-4, to which the training goes in every parameter.
END = 3.719
#: Draws of a greedy turn for each that it takes.
POOL = 8
Mapper = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


def training_parameters(
    space: ParameterSpace, n: int, seed: int, spread: float = 1.2, limit: float = REACH
) -> np.ndarray:
    """A designed training set that reaches beyond the central mass of the prior.

    Parameters
    ----------
    space : ParameterSpace
    n : int
    seed : int
    spread : float
        Factor on the standard-normal scores of a scrambled Sobol sequence.
    limit : float
        Scores are cut off here.

    Returns
    -------
    ndarray, shape (n, p)
    """
    power = 1 << max(0, n - 1).bit_length()
    z = space.gaussian_sample(power, seed, "reduction-training", "sobol")[:n]
    return np.asarray(space.from_gaussian(np.clip(spread * z, -limit, limit)))


def to_the_ends(space: ParameterSpace, theta: np.ndarray) -> np.ndarray:
    """The design (n, p) with the lowest and the highest value of every parameter moved to its quantiles 1e-4 and 1 - 1e-4.

    It costs no run: a Sobol sequence of 40 points, stretched, ends near 2.9 standard deviations otherwise. A design of fewer
    runs than parameters stays as it is: nothing would be left of it but ends.
    """
    if len(theta) < space.size:
        return theta
    z = space.to_gaussian(theta)
    columns = np.arange(space.size)
    lowest, highest = z.argmin(axis=0), z.argmax(axis=0)
    z[lowest, columns] = -END
    z[highest, columns] = END
    return np.asarray(space.from_gaussian(z))


def snapshot_timeline(timeline: Timeline, snapshots: int) -> Timeline:
    """The same steps, recorded at the visits and at about ``snapshots`` further times, and at the start."""
    used = timeline.used
    record = np.zeros(timeline.steps, dtype=bool)
    record[: timeline.used] = timeline.visit[:used] >= 0
    ends = timeline.t + timeline.dt
    wanted = np.linspace(timeline.t0, ends[used - 1], snapshots + 2)[1:]
    record[[int(np.abs(ends[:used] - t).argmin()) for t in wanted]] = True
    record[0] = False
    steps = np.flatnonzero(record)
    visit = np.full(timeline.steps, -1, dtype=np.int64)
    visit[steps] = np.arange(1, len(steps) + 1)
    times = np.concatenate([[timeline.t0], ends[steps]])
    return replace(timeline, visit=visit, initial_visit=0, visits=times)


def run_full(
    case: GrowthCase, theta: np.ndarray, snapshots: int = 12, tolerance: float = 1e-4, longest: float = 1.0
) -> Snapshots:
    """Full-order runs of a batch, compressed. Memory: one run and the compressed result.

    Parameters
    ----------
    case : GrowthCase
    theta : ndarray, shape (N, p)
    snapshots : int
        Recorded per run besides the visits.
    tolerance : float
        Relative energy the compression may leave out.
    longest : float
        Longest step, days: the basis need not know the last digits of the full order's time steps.

    Notes
    -----
    Snapshots are scaled to norm one, so that small tumours count as much as large ones, unless they
    are smaller than :func:`least_norm`. Members that failed are left out.
    """
    case = stepped(case, longest)
    line = snapshot_timeline(case.timeline, snapshots)
    values = case.values(theta)
    floor = least_norm(case)
    rows: list[np.ndarray] = []
    kept: list[np.ndarray] = []
    largest = 0.0
    for i in range(len(theta)):
        one = values.of(i)
        start = case.initial(one.initial)
        states, status = case.solve(start, one, line, NOTHING)
        if status[0] != 0:
            continue
        norm = np.linalg.norm(states[0], axis=1)
        largest = max(largest, float(norm.max()))
        mine = np.flatnonzero(states[0].max(axis=0) > NEGLIGIBLE)
        rows.append(mine)
        kept.append(states[0][:, mine] / np.maximum(norm, floor)[:, None])
    return _joined(rows, kept, len(kept), largest, tolerance)


def initial_span(case: GrowthCase, runs: int) -> Snapshots:
    """The mean initial field and its modes, so that the start of a rare member is well represented.

    They weigh twice what the initial snapshots of ``runs`` runs weigh together.
    """
    size = float(np.linalg.norm(case.mean))
    fields = np.concatenate([case.mean[None, :], case.modes])
    rows = np.flatnonzero(np.abs(fields).max(axis=0) > NEGLIGIBLE)
    values = fields[:, rows] * np.sqrt(2.0 * max(runs, 1)) / size
    return Snapshots(rows, values, np.zeros((0, len(values))), 0, size)


def _joined(
    rows: list[np.ndarray], values: list[np.ndarray], members: int, largest: float, tolerance: float
) -> Snapshots:
    if not rows:
        return Snapshots(np.zeros(0, dtype=np.int64), np.zeros((0, 0)), np.zeros((0, 0)), 0, 0.0)
    union = np.unique(np.concatenate(rows))
    out = np.zeros((sum(len(v) for v in values), len(union)))
    at = 0
    for mine, part in zip(rows, values):
        out[at : at + len(part), np.searchsorted(union, mine)] = part
        at += len(part)
    return Snapshots(union, *compress(out, tolerance), members, largest)


@dataclass(frozen=True)
class Trained:
    """A reduced growth model, its probe for the error estimate, its validation and what it cost."""

    reduced: ReducedGrowth
    probe: Probe
    validation: Validation
    timings: Timings


def _serial(task: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    return [task(x) for x in items]


def batches(theta: np.ndarray, size: int) -> list[np.ndarray]:
    """Rows in batches of fixed boundaries; the last may be shorter."""
    return [theta[i : i + size] for i in range(0, len(theta), size)]


def stiffest_conductance(case: GrowthCase, score: float = 4.0) -> float:
    """Largest diffusivity (mm2/day) at ``score`` standard deviations of the prior."""
    z = np.full((1, case.space.size), score)
    independent = ParameterSpace(case.space.parameters)
    return float(case.values(np.asarray(independent.from_gaussian(z))).diffusivity.max())


def assemble(
    case: GrowthCase, snapshots: list[Snapshots], how: Training, seed: int, samples: int = 256
) -> tuple[ReducedGrowth, Probe]:
    """Basis, operators and probe from snapshots, the span of the initial field included."""
    start = initial_span(case, sum(s.members for s in snapshots))
    reduced = build(
        case, [start, *snapshots], how.tolerance, how.max_rank, stiffest_conductance(case), how.longest,
        how.points, seed, how.further,
    )  # fmt: skip
    energy = (reduced.moving**2).sum(axis=1)
    return reduced, make_probe(case, reduced.moving, reduced.rows, energy, samples, seed)


def propose(
    reduced: ReducedGrowth,
    probe: Probe,
    case: GrowthCase,
    n: int,
    seed: int,
    wanted: np.ndarray | None = None,
    spread: float = 1.15,
) -> np.ndarray:
    """The greedy step: of ``POOL`` n draws from a prior widened by ``spread``, and of the members ``wanted``, the ``n``
    with the largest indicated error. No full-order run is needed."""
    z = spread * case.space.gaussian_sample(POOL * n, seed, "reduction-pool")
    pool_theta = np.asarray(case.space.from_gaussian(z))
    if wanted is not None:
        pool_theta = np.concatenate([pool_theta, wanted])
    parts = [indicators(reduced, probe, case, x).max(axis=1) for x in batches(pool_theta, CROWD)]
    worst = np.argsort(-np.concatenate(parts), kind="stable")[:n]
    return pool_theta[np.sort(worst)]


@dataclass(frozen=True)
class Training:
    """Settings of the training.

    Parameters
    ----------
    n_train : int
        Designed full-order runs.
    n_greedy, turns : int
        Further ones in each of so many turns, where the error indicator is largest over a pool of draws.
    n_valid : int
        Unseen prior draws that judge the result.
    tolerance : float
        Relative energy the basis may leave out of the normalised snapshots.
    max_rank : int
    further : int
        Most basis vectors kept beyond ``max_rank`` for the fields of members that are run at full order.
    points : int
        Voxels per mode for the projected square; 0 takes the exact tensor.
    longest : float
        Longest step of the reduced model and of the training's runs, days.
    target : float
        Wanted worst relative L2 error inside the tumour; members whose estimate is larger are for the full order.
    rounds : int
        How often the worst validation members may join the training, until the guarded error is within the target;
        each time fresh ones judge.
    batch : int
        Full-order runs per task.
    """

    n_train: int = 40
    n_greedy: int = 24
    turns: int = 2
    n_valid: int = 16
    tolerance: float = 1e-5
    max_rank: int = 128
    further: int = 256
    points: int = 4
    longest: float = 3.0
    target: float = 0.01
    rounds: int = 1
    batch: int = 8

    def fingerprint(self, case: GrowthCase, seed: int, wanted: np.ndarray | None = None) -> str:
        """What :func:`train` marks its result with, to ask a store for it."""
        return fingerprint(case, seed, self, wanted)


def train(
    case: GrowthCase,
    seed: int,
    how: Training | None = None,
    mapper: Mapper = _serial,
    wanted: np.ndarray | None = None,
) -> Trained:
    """Train, enrich greedily and validate a reduced model.

    Parameters
    ----------
    case : GrowthCase
    seed : int
    how : Training, optional
    mapper : callable
        ``mapper(function, items)`` gives the results in the order of the items; a Dask client's
        gather of its ``map`` will do.
    wanted : ndarray, shape (M, p), optional
        Members that will be run: the greedy turns choose among them too. They are no part of the validation.

    Returns
    -------
    Trained
        ``reduced.errors`` holds the validation as plain numbers and how many training runs diverged and
        were left out, ``reduced.timings`` what it cost.

    Raises
    ------
    BadInput
        If no full-order run of the training stayed finite.
    """
    how = how or Training()
    began = time.perf_counter()
    full = partial(run_full, case, longest=how.longest)
    design = to_the_ends(case.space, training_parameters(case.space, how.n_train, seed))
    snapshots = list(mapper(full, batches(design, how.batch)))
    if not any(s.members for s in snapshots):
        raise BadInput(
            "every full-order run of the training failed", "reduced model", "look at the priors and the initial field"
        )  # fmt: skip

    def model() -> tuple[ReducedGrowth, Probe]:
        return assemble(case, snapshots, how, seed)

    # half the modes tell where the error will be large
    scout = replace(how, max_rank=max(8, how.max_rank // 2), further=0)
    for turn in range(how.turns if how.n_greedy else 0):
        more = propose(*assemble(case, snapshots, scout, seed), case, how.n_greedy, seed + turn, wanted)
        snapshots += list(mapper(full, batches(more, how.batch)))
    reduced, probe = model()
    for turn in range(how.rounds + 1):
        offline = time.perf_counter() - began
        unseen = case.space.sample(how.n_valid, seed, f"reduction-validation-{turn}")
        compared = list(mapper(partial(validate, reduced, probe, case), batches(unseen, how.batch)))
        verdict = judge(compared, how.target)
        if verdict.guarded_worst <= how.target or turn == how.rounds:
            break
        error = np.concatenate([c.error for c in compared]).max(axis=1)
        worst = unseen[np.sort(np.argsort(-error, kind="stable")[: max(1, how.n_valid // 2)])]
        snapshots += list(mapper(full, batches(worst, how.batch)))
        reduced, probe = model()
    timings = measure(reduced, probe, case, unseen[:2], offline, verdict.guarded_share)
    ran = how.n_train + how.n_greedy * how.turns + turn * max(1, how.n_valid // 2)
    lost = ran - sum(s.members for s in snapshots)
    done = replace(
        reduced,
        errors=verdict.as_dict() | {"training_runs_lost": lost},
        timings=timings.as_dict(),
        fingerprint=how.fingerprint(case, seed, wanted),
    )
    return Trained(done, probe, verdict, timings)
