"""The offline part of the reduced growth model, in pieces that can run as batches anywhere.

``training_parameters`` -> ``run_full`` (per batch) -> ``build`` -> ``validate`` (per batch) -> ``judge``;
:func:`train` joins them and adds the worst validation members to the training until the error is small
enough. The last judgement is always on parameters that no basis has seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..domain.parameters import ParameterSpace
from ..physics.growth import advance
from ..physics.timeline import Timeline
from .case import GrowthCase, GrowthValues
from .estimate import Probe, conformal_factor, indicator, make_probe
from .growth import ReducedGrowth, Snapshots, build, fingerprint
from .pod import compress
from .propagate import propagate

#: Cellularity below which a voxel does not belong to the basis' support.
NEGLIGIBLE = 1e-5
#: A tumour of fewer voxels is judged where it was at the first visit.
FEW_VOXELS = 20
#: Members the reduced model is timed with (it is meant for ensembles).
CROWD = 64
Mapper = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


def training_parameters(
    space: ParameterSpace, n: int, seed: int, spread: float = 1.2, limit: float = 3.2
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


def least_norm(case: GrowthCase) -> float:
    """Norm of the first tumour at the detection limit: smaller snapshots do not count relative to themselves."""
    return case.n_detect * float(np.sqrt(max(int((case.mean >= case.n_detect).sum()), FEW_VOXELS)))


def _one(values: GrowthValues, i: int) -> GrowthValues:
    return GrowthValues(*(v[i : i + 1] for v in values))


def run_full(case: GrowthCase, theta: np.ndarray, snapshots: int = 14, tolerance: float = 1e-5) -> Snapshots:
    """Full-order runs of a batch, compressed. Memory: one run and the compressed result.

    Parameters
    ----------
    case : GrowthCase
    theta : ndarray, shape (N, p)
    snapshots : int
        Recorded per run besides the visits.
    tolerance : float
        Relative energy the compression may leave out.

    Notes
    -----
    Snapshots are scaled to norm one, so that small tumours count as much as large ones, unless they
    are smaller than :func:`least_norm`. Members that failed are left out.
    """
    line = snapshot_timeline(case.timeline, snapshots)
    values = case.values(theta)
    floor = least_norm(case)
    rows: list[np.ndarray] = []
    kept: list[np.ndarray] = []
    largest = 0.0
    for i in range(len(theta)):
        one = _one(values, i)
        start = case.initial(one.initial)
        states, status = advance(case.faces, start, case.parameters(one), line, case.exposure)
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
    return Snapshots(rows, fields[:, rows] * np.sqrt(2.0 * max(runs, 1)) / size, 0, size)


def _joined(
    rows: list[np.ndarray], values: list[np.ndarray], members: int, largest: float, tolerance: float
) -> Snapshots:
    if not rows:
        return Snapshots(np.zeros(0, dtype=np.int64), np.zeros((0, 0)), 0, 0.0)
    union = np.unique(np.concatenate(rows))
    out = np.zeros((sum(len(v) for v in values), len(union)))
    at = 0
    for mine, part in zip(rows, values):
        out[at : at + len(part), np.searchsorted(union, mine)] = part
        at += len(part)
    return Snapshots(union, compress(out, tolerance), members, largest)


@dataclass(frozen=True)
class Comparison:
    """Reduced against full order for a batch of unseen members.

    Parameters
    ----------
    error : ndarray, shape (N, V)
        See :func:`relative_error`.
    indicator : ndarray, shape (N,)
        Uncalibrated estimate of the worst visit's error.
    total, volume : ndarray, shape (2, N, V)
        Visible cellularity (voxels) and volume (voxels), full order first.
    status : ndarray of int, shape (N,)
        Of the reduced model.
    seconds : tuple of float
        Processor time of all members: full order, reduced order.
    """

    error: np.ndarray
    indicator: np.ndarray
    total: np.ndarray
    volume: np.ndarray
    status: np.ndarray
    seconds: tuple[float, float]


@dataclass(frozen=True)
class Validation:
    """What is known about the reduced model's error, from unseen draws of the prior.

    Parameters
    ----------
    members : int
    median, percentile_99, worst : float
        Of the worst visit's relative L2 error inside the tumour. With fewer than 100 members the
        percentile is the largest.
    factor, level : float
        Calibration of the error estimate and the probability it reaches (n / (n + 1) at most).
    tightness : float
        Median of estimate over truth.
    total_bias, total_sd, volume_bias, volume_sd : tuple of float
        Relative error of the visible cellularity and volume per visit: mean, root mean square.
    speed_up : float
        Processor time per member of the full over that of the reduced order (in a crowd of 64 members),
        equal steps, one thread each.
    full_seconds, reduced_seconds, offline_seconds : float
        Per member, per member, and all training together.
    break_even : float
        Members after which the training has paid.
    failed : int
        Members with a status other than good.
    """

    members: int
    median: float
    percentile_99: float
    worst: float
    factor: float
    level: float
    tightness: float
    total_bias: tuple[float, ...]
    total_sd: tuple[float, ...]
    volume_bias: tuple[float, ...]
    volume_sd: tuple[float, ...]
    speed_up: float
    full_seconds: float
    reduced_seconds: float
    offline_seconds: float
    break_even: float
    failed: int

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for a store or a report."""
        return asdict(self)


def relative_error(truth: np.ndarray, twin: np.ndarray, n_detect: float, first: np.ndarray) -> float:
    """Relative L2 difference of two fields (n,) inside the tumour, ``truth >= n_detect``.

    Where fewer than ``FEW_VOXELS`` are detectable, over the tumour's region at the start (``first``),
    relative to a field at the detection limit: a tumour that has vanished has no relative error.
    """
    region = truth >= n_detect
    least = 0.0
    if region.sum() < FEW_VOXELS:
        region = first >= n_detect
        least = n_detect * np.sqrt(region.sum())
    scale = max(float(np.linalg.norm(truth[region])), least, 1e-300)
    return float(np.linalg.norm((twin - truth)[region])) / scale


def _visible(fields: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    seen = fields >= limit
    return (fields * seen).sum(axis=-1), seen.sum(axis=-1).astype(float)


def visit_steps(case: GrowthCase) -> np.ndarray:
    """Step at whose end each visit lies, -1 for a visit at the start; shape (V,)."""
    steps = np.full(len(case.timeline.visits), -1, dtype=np.int64)
    for s, v in enumerate(case.timeline.visit):
        if v >= 0:
            steps[v] = s
    return steps


def indicators(reduced: ReducedGrowth, probe: Probe, case: GrowthCase, theta: np.ndarray) -> np.ndarray:
    """Uncalibrated relative error of each member at each visit, shape (N, V)."""
    a0, driven, _ = reduced.inputs(case, theta)
    states, _, _ = propagate(reduced.operators, a0, driven, case.timeline.dt, reduced.limit, reduced.substeps)
    cells = reduced.rows[case.occupied[reduced.rows]]
    fields = case.initial(case.values(theta).initial, cells)
    missing = np.sqrt(np.maximum((fields**2).sum(axis=1) - (a0**2).sum(axis=1), 0.0))
    out = indicator(
        reduced.operators, probe, driven, case.timeline.dt, a0, missing, states, visit_steps(case)
    )
    return np.asarray(out)


def validate(reduced: ReducedGrowth, probe: Probe, case: GrowthCase, theta: np.ndarray) -> Comparison:
    """Run both orders for a batch and compare them. Memory: one full-order run at a time."""
    crowd = np.resize(theta, (max(CROWD, len(theta)), theta.shape[1]))
    reduced.run(case, crowd)  # compile first, so that the time below is that of running
    # processor time: what other programs do on the machine does not count
    start = time.process_time()
    coefficients, status = (x[: len(theta)] for x in reduced.run(case, crowd))
    reduced_time = (time.process_time() - start) * len(theta) / len(crowd)
    visits = len(case.timeline.visits)
    error = np.zeros((len(theta), visits))
    total, volume = np.zeros((2, len(theta), visits)), np.zeros((2, len(theta), visits))
    values = case.values(theta)
    full_time = 0.0
    for i in range(len(theta)):
        one = _one(values, i)
        first = case.initial(one.initial)
        start = time.process_time()
        states, _ = advance(case.faces, first, case.parameters(one), case.timeline, case.exposure)
        full_time += time.process_time() - start
        truth, twin = states[0], reduced.reconstruct(coefficients[i])
        for v in range(visits):
            error[i, v] = relative_error(truth[v], twin[v], case.n_detect, first[0])
        total[0, i], volume[0, i] = _visible(truth, case.n_detect)
        total[1, i], volume[1, i] = _visible(twin, case.n_detect)
    raw = indicators(reduced, probe, case, theta).max(axis=1)
    return Comparison(error, raw, total, volume, status, (full_time, reduced_time))


def judge(comparisons: list[Comparison], offline_seconds: float = 0.0) -> Validation:
    """Statistics of the error over all validation members, and the calibration of the estimate."""
    good = np.concatenate([c.status for c in comparisons]) == 0
    error = np.concatenate([c.error for c in comparisons])[good]
    raw = np.concatenate([c.indicator for c in comparisons])[good]
    total = np.concatenate([c.total for c in comparisons], axis=1)[:, good]
    volume = np.concatenate([c.volume for c in comparisons], axis=1)[:, good]
    members = len(good)
    full = sum(c.seconds[0] for c in comparisons) / members
    quick = sum(c.seconds[1] for c in comparisons) / members
    worst = error.max(axis=1)
    factor, level = conformal_factor(worst / np.maximum(raw, 1e-300))

    def relative(pair: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
        # a tumour below a few voxels has no meaningful relative error
        gap = (pair[1] - pair[0]) / np.maximum(pair[0], FEW_VOXELS)
        return tuple(gap.mean(axis=0).tolist()), tuple(np.sqrt((gap**2).mean(axis=0)).tolist())

    total_bias, total_sd = relative(total)
    volume_bias, volume_sd = relative(volume)
    return Validation(
        members=members,
        median=float(np.median(worst)),
        percentile_99=float(np.quantile(worst, 0.99, method="higher")),
        worst=float(worst.max()),
        factor=factor,
        level=level,
        tightness=float(np.median(factor * raw / np.maximum(worst, 1e-300))),
        total_bias=total_bias,
        total_sd=total_sd,
        volume_bias=volume_bias,
        volume_sd=volume_sd,
        speed_up=full / quick,
        full_seconds=full,
        reduced_seconds=quick,
        offline_seconds=offline_seconds,
        break_even=offline_seconds / max(full - quick, 1e-300),
        failed=int((~good).sum()),
    )


@dataclass(frozen=True)
class Trained:
    """A reduced growth model, its probe for the error estimate, and its validation."""

    reduced: ReducedGrowth
    probe: Probe
    validation: Validation


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
    case: GrowthCase,
    snapshots: list[Snapshots],
    tolerance: float,
    max_rank: int,
    seed: int,
    samples: int = 256,
) -> tuple[ReducedGrowth, Probe]:
    """Basis, operators and probe from snapshots, the span of the initial field included."""
    start = initial_span(case, sum(s.members for s in snapshots))
    reduced = build(case, [start, *snapshots], tolerance, max_rank, stiffest_conductance(case))
    energy = (reduced.vectors**2).sum(axis=1)
    return reduced, make_probe(case, reduced.vectors, reduced.rows, energy, samples, seed)


def propose(
    reduced: ReducedGrowth,
    probe: Probe,
    case: GrowthCase,
    n: int,
    seed: int,
    pool: int = 192,
    spread: float = 1.3,
) -> np.ndarray:
    """The greedy step: of ``pool`` draws from a prior widened by ``spread`` the ``n`` with the largest
    indicated error. No full-order run is needed."""
    z = spread * case.space.gaussian_sample(pool, seed, "reduction-pool")
    pool_theta = np.asarray(case.space.from_gaussian(z))
    a = indicators(reduced, probe, case, pool_theta).max(axis=1)
    return pool_theta[np.sort(np.argsort(-a, kind="stable")[:n])]


def train(
    case: GrowthCase,
    seed: int,
    n_train: int = 48,
    n_greedy: int = 16,
    n_valid: int = 16,
    tolerance: float = 1e-3,
    max_rank: int = 96,
    target: float = 0.01,
    rounds: int = 1,
    batch: int = 8,
    mapper: Mapper = _serial,
) -> Trained:
    """Train, enrich greedily and validate a reduced model.

    Parameters
    ----------
    case : GrowthCase
    seed : int
    n_train : int
        Designed full-order runs.
    n_greedy : int
        Further ones where the error indicator is largest over a pool of prior draws.
    n_valid : int
        Unseen prior draws that judge the result.
    tolerance : float
        Relative energy the basis may leave out of the normalised snapshots.
    max_rank : int
    target : float
        Wanted worst relative L2 error inside the tumour.
    rounds : int
        How often the worst validation members may join the training; each time fresh ones judge.
    batch : int
        Full-order runs per task.
    mapper : callable
        ``mapper(function, items)`` gives the results in the order of the items; a Dask client's
        gather of its ``map`` will do.

    Returns
    -------
    Trained
        ``reduced.errors`` holds the validation as plain numbers.
    """
    began = time.perf_counter()
    full = partial(run_full, case)
    designed = training_parameters(case.space, n_train, seed)
    snapshots = list(mapper(full, batches(designed, batch)))
    rank = max(8, 2 * max_rank // 3) if n_greedy else max_rank
    reduced, probe = assemble(case, snapshots, tolerance, rank, seed)
    if n_greedy:
        more = propose(reduced, probe, case, n_greedy, seed)
        snapshots += list(mapper(full, batches(more, batch)))
        reduced, probe = assemble(case, snapshots, tolerance, max_rank, seed)
    for turn in range(rounds + 1):
        offline = time.perf_counter() - began
        unseen = case.space.sample(n_valid, seed, f"reduction-validation-{turn}")
        compared = list(mapper(partial(validate, reduced, probe, case), batches(unseen, batch)))
        verdict = judge(compared, offline)
        if verdict.worst <= target or turn == rounds:
            break
        error = np.concatenate([c.error for c in compared]).max(axis=1)
        worst = unseen[np.sort(np.argsort(-error, kind="stable")[: max(1, n_valid // 2)])]
        snapshots += list(mapper(full, batches(worst, batch)))
        reduced, probe = assemble(case, snapshots, tolerance, max_rank, seed)
    mark = fingerprint_of(case, seed, n_train, n_greedy, n_valid, tolerance, max_rank, target, rounds, batch)
    return Trained(replace(reduced, errors=verdict.as_dict(), fingerprint=mark), probe, verdict)


def fingerprint_of(
    case: GrowthCase,
    seed: int,
    n_train: int = 48,
    n_greedy: int = 16,
    n_valid: int = 16,
    tolerance: float = 1e-3,
    max_rank: int = 96,
    target: float = 0.01,
    rounds: int = 1,
    batch: int = 8,
) -> str:
    """The fingerprint :func:`train` gives its result for the same arguments, to ask a store for it."""
    return fingerprint(case, seed, n_train, n_greedy, n_valid, tolerance, max_rank, target, rounds, batch)
