"""The offline part of the reduced growth model, in pieces that can run as batches anywhere.

``training_parameters`` -> ``run_full`` (per batch) -> ``assemble`` -> ``propose`` and again -> ``validate``
(per batch) -> ``judge``; :func:`train` joins them and adds the worst validation members to the training until
the error is small enough. The last judgement is always on parameters that no basis has seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.parameters import ParameterSpace
from ..physics.timeline import Timeline
from .case import GrowthCase, GrowthValues
from .estimate import Probe, Scale, calibrated, indicator, make_probe
from .growth import ReducedGrowth, Snapshots, build, fingerprint, stepped
from .pod import compress
from .propagate import propagate

#: Cellularity below which a voxel does not belong to the basis' support.
NEGLIGIBLE = 1e-4
#: A tumour of fewer voxels is judged where it was at the first visit.
FEW_VOXELS = 20
#: Members the reduced model is timed with (it is meant for ensembles).
CROWD = 64
#: Standard normal scores up to which the training reaches: beyond the quantiles 1e-4 and 1 - 1e-4.
REACH = 3.8
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
        one = _one(values, i)
        start = case.initial(one.initial)
        states, status = case.solve(start, one, line)
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
class Comparison:
    """Reduced against full order for a batch of unseen members.

    Parameters
    ----------
    error : ndarray, shape (N, V)
        See :func:`relative_error`; a tumour that is smaller than its first extent at the detection limit is
        judged relative to that.
    strict : ndarray, shape (N, V)
        The same relative to the tumour itself however small, down to ``FEW_VOXELS`` voxels.
    indicator : ndarray, shape (N, V)
        Uncalibrated estimate of the error.
    days : ndarray, shape (V,)
        Since the start.
    total, volume : ndarray, shape (2, N, V)
        Visible cellularity (voxels) and volume (voxels), full order first.
    status : ndarray of int, shape (N,)
        Of the reduced model.
    """

    error: np.ndarray
    strict: np.ndarray
    indicator: np.ndarray
    days: np.ndarray
    total: np.ndarray
    volume: np.ndarray
    status: np.ndarray


@dataclass(frozen=True)
class Validation:
    """What is known about the reduced model's error, from unseen draws of the prior.

    Parameters
    ----------
    members : int
    median, percentile_99, worst : float
        Of the worst visit's relative L2 error inside the tumour. With fewer than 100 members the
        percentile is the largest.
    strict_worst : float
        The worst error relative to the tumour itself, however small it has become.
    scale : Scale
        From the indicator to the error estimate.
    tightness : float
        Median of estimate over truth.
    total_bias, total_sd, volume_bias, volume_sd : tuple of float
        Relative error of the visible cellularity and volume per visit: mean, root mean square.
    failed : int
        Members with a status other than good.
    """

    members: int
    median: float
    percentile_99: float
    worst: float
    strict_worst: float
    scale: Scale
    tightness: float
    total_bias: tuple[float, ...]
    total_sd: tuple[float, ...]
    volume_bias: tuple[float, ...]
    volume_sd: tuple[float, ...]
    failed: int

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for a store or a report."""
        return asdict(self)


def relative_error(
    truth: np.ndarray, twin: np.ndarray, n_detect: float, first: np.ndarray, least: float = 0.0
) -> float:
    """Relative L2 difference of two fields (n,) inside the tumour, ``truth >= n_detect``.

    Parameters
    ----------
    truth, twin, first : ndarray, shape (n,)
        Full order, reduced order, and the initial field.
    n_detect : float
    least : float
        A tumour of a smaller norm is judged relative to this one (:func:`least_norm`).

    Notes
    -----
    A tumour that has nearly vanished has no meaningful error relative to itself. Where fewer than
    ``FEW_VOXELS`` are detectable the difference is taken over the tumour's region at the start, relative to a
    field at the detection limit there.
    """
    region = truth >= n_detect
    if region.sum() < FEW_VOXELS:
        region = first >= n_detect
        least = max(least, n_detect * float(np.sqrt(region.sum())))
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


def days_since_start(case: GrowthCase) -> np.ndarray:
    """Time of each visit, days, shape (V,)."""
    return np.asarray(case.timeline.visits, dtype=float) - case.timeline.t0


def indicators(reduced: ReducedGrowth, probe: Probe, case: GrowthCase, theta: np.ndarray) -> np.ndarray:
    """Uncalibrated relative error of each member at each visit, shape (N, V)."""
    case = stepped(case, reduced.longest)
    a0, driven, _ = reduced.inputs(case, theta)
    states, _, _ = propagate(
        reduced.operators, a0, driven, case.timeline.dt, reduced.limit, reduced.substeps, reduced.saturation
    )
    cells = reduced.rows[case.occupied[reduced.rows]]
    fields = case.initial(case.values(theta).initial, cells)
    missing = np.sqrt(np.maximum((fields**2).sum(axis=1) - (a0**2).sum(axis=1), 0.0))
    out = indicator(
        reduced.operators,
        probe,
        driven,
        case.timeline.dt,
        a0,
        missing,
        states,
        visit_steps(case),
        exponent=reduced.saturation,
    )
    return np.asarray(out)


def validate(reduced: ReducedGrowth, probe: Probe, case: GrowthCase, theta: np.ndarray) -> Comparison:
    """Run both orders for a batch and compare them. Memory: one full-order run at a time."""
    coefficients, status = reduced.run(case, theta)
    visits = len(case.timeline.visits)
    error, strict = np.zeros((len(theta), visits)), np.zeros((len(theta), visits))
    total, volume = np.zeros((2, len(theta), visits)), np.zeros((2, len(theta), visits))
    values = case.values(theta)
    least = least_norm(case)
    for i in range(len(theta)):
        one = _one(values, i)
        first = case.initial(one.initial)
        states, _ = case.solve(first, one)
        truth, twin = states[0], reduced.reconstruct(coefficients[i])
        for v in range(visits):
            error[i, v] = relative_error(truth[v], twin[v], case.n_detect, first[0], least)
            strict[i, v] = relative_error(truth[v], twin[v], case.n_detect, first[0])
        total[0, i], volume[0, i] = _visible(truth, case.n_detect)
        total[1, i], volume[1, i] = _visible(twin, case.n_detect)
    raw = indicators(reduced, probe, case, theta)
    return Comparison(error, strict, raw, days_since_start(case), total, volume, status)


@dataclass(frozen=True)
class Timings:
    """Processor time per member, one thread, in a crowd of ``CROWD`` members for the reduced order.

    Parameters
    ----------
    full, equal, own : float
        Full order; reduced order at the full order's steps; at its own, longer ones. Seconds.
    offline : float
        Training, seconds on the clock.
    """

    full: float
    equal: float
    own: float
    offline: float

    def as_dict(self) -> dict[str, float]:
        """Plain numbers; ``speed_up`` is at equal steps, ``break_even`` members after which training has paid."""
        return {
            "speed_up": self.full / self.equal, "speed_up_own_steps": self.full / self.own,
            "full_seconds": self.full, "reduced_seconds": self.own, "offline_seconds": self.offline,
            "break_even": self.offline / max(self.full - self.own, 1e-300),
        }  # fmt: skip


def measure(reduced: ReducedGrowth, case: GrowthCase, theta: np.ndarray, offline: float = 0.0) -> Timings:
    """Time both orders on members (N, p). Processor time: what other programs do does not count."""
    crowd = np.resize(theta, (max(CROWD, len(theta)), theta.shape[1]))

    def quick(model: ReducedGrowth) -> float:
        model.run(case, crowd)  # compile first
        start = time.process_time()
        model.run(case, crowd)
        return (time.process_time() - start) / len(crowd)

    values = case.values(theta)
    start = time.process_time()
    for i in range(len(theta)):
        one = _one(values, i)
        first = case.initial(one.initial)
        case.solve(first, one)
    full = (time.process_time() - start) / len(theta)
    equal = replace(reduced, longest=float(case.timeline.dt[case.timeline.dt > 0].min()))
    return Timings(full, quick(equal), quick(reduced), offline)


def judge(comparisons: list[Comparison]) -> Validation:
    """Statistics of the error over all validation members, and the calibration of the estimate."""
    good = np.concatenate([c.status for c in comparisons]) == 0
    error = np.concatenate([c.error for c in comparisons])[good]
    raw = np.concatenate([c.indicator for c in comparisons])[good]
    total = np.concatenate([c.total for c in comparisons], axis=1)[:, good]
    volume = np.concatenate([c.volume for c in comparisons], axis=1)[:, good]
    worst = error.max(axis=1)
    scale = calibrated(error, raw, comparisons[0].days)
    estimate = scale(raw, comparisons[0].days).max(axis=1)

    def relative(pair: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
        # a tumour below a few voxels has no meaningful relative error
        gap = (pair[1] - pair[0]) / np.maximum(pair[0], FEW_VOXELS)
        return tuple(gap.mean(axis=0).tolist()), tuple(np.sqrt((gap**2).mean(axis=0)).tolist())

    total_bias, total_sd = relative(total)
    volume_bias, volume_sd = relative(volume)
    return Validation(
        members=len(good),
        median=float(np.median(worst)),
        percentile_99=float(np.quantile(worst, 0.99, method="higher")),
        worst=float(worst.max()),
        strict_worst=float(np.concatenate([c.strict for c in comparisons])[good].max()),
        scale=scale,
        tightness=float(np.median(estimate / np.maximum(worst, 1e-300))),
        total_bias=total_bias,
        total_sd=total_sd,
        volume_bias=volume_bias,
        volume_sd=volume_sd,
        failed=int((~good).sum()),
    )


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
        how.points, seed,
    )  # fmt: skip
    energy = (reduced.vectors**2).sum(axis=1)
    return reduced, make_probe(case, reduced.vectors, reduced.rows, energy, samples, seed)


def propose(
    reduced: ReducedGrowth,
    probe: Probe,
    case: GrowthCase,
    n: int,
    seed: int,
    pool: int = 192,
    spread: float = 1.15,
) -> np.ndarray:
    """The greedy step: of ``pool`` draws from a prior widened by ``spread`` the ``n`` with the largest
    indicated error. No full-order run is needed."""
    z = spread * case.space.gaussian_sample(pool, seed, "reduction-pool")
    pool_theta = np.asarray(case.space.from_gaussian(z))
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
    points : int
        Voxels per mode for the projected square; 0 takes the exact tensor.
    longest : float
        Longest step of the reduced model and of the training's runs, days.
    target : float
        Wanted worst relative L2 error inside the tumour.
    rounds : int
        How often the worst validation members may join the training; each time fresh ones judge.
    batch : int
        Full-order runs per task.
    """

    n_train: int = 40
    n_greedy: int = 24
    turns: int = 2
    n_valid: int = 16
    tolerance: float = 1e-5
    max_rank: int = 128
    points: int = 4
    longest: float = 3.0
    target: float = 0.01
    rounds: int = 1
    batch: int = 8

    def fingerprint(self, case: GrowthCase, seed: int) -> str:
        """What :func:`train` marks its result with, to ask a store for it."""
        return fingerprint(case, seed, self)


def train(case: GrowthCase, seed: int, how: Training | None = None, mapper: Mapper = _serial) -> Trained:
    """Train, enrich greedily and validate a reduced model.

    Parameters
    ----------
    case : GrowthCase
    seed : int
    how : Training, optional
    mapper : callable
        ``mapper(function, items)`` gives the results in the order of the items; a Dask client's
        gather of its ``map`` will do.

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
    snapshots = list(mapper(full, batches(training_parameters(case.space, how.n_train, seed), how.batch)))
    if not any(s.members for s in snapshots):
        raise BadInput(
            "every full-order run of the training failed", "reduced model", "look at the priors and the initial field"
        )  # fmt: skip

    def model() -> tuple[ReducedGrowth, Probe]:
        return assemble(case, snapshots, how, seed)

    # half the modes tell where the error will be large
    scout = replace(how, max_rank=max(8, how.max_rank // 2))
    for turn in range(how.turns if how.n_greedy else 0):
        more = propose(*assemble(case, snapshots, scout, seed), case, how.n_greedy, seed + turn)
        snapshots += list(mapper(full, batches(more, how.batch)))
    reduced, probe = model()
    for turn in range(how.rounds + 1):
        offline = time.perf_counter() - began
        unseen = case.space.sample(how.n_valid, seed, f"reduction-validation-{turn}")
        compared = list(mapper(partial(validate, reduced, probe, case), batches(unseen, how.batch)))
        verdict = judge(compared)
        if verdict.worst <= how.target or turn == how.rounds:
            break
        error = np.concatenate([c.error for c in compared]).max(axis=1)
        worst = unseen[np.sort(np.argsort(-error, kind="stable")[: max(1, how.n_valid // 2)])]
        snapshots += list(mapper(full, batches(worst, how.batch)))
        reduced, probe = model()
    timings = measure(reduced, case, unseen[:2], offline)
    ran = how.n_train + how.n_greedy * how.turns + turn * max(1, how.n_valid // 2)
    lost = ran - sum(s.members for s in snapshots)
    done = replace(
        reduced,
        errors=verdict.as_dict() | {"training_runs_lost": lost},
        timings=timings.as_dict(),
        fingerprint=how.fingerprint(case, seed),
    )
    return Trained(done, probe, verdict, timings)
