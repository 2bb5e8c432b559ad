"""The error and the speed of the reduced growth model, measured on parameters that no basis has seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ..domain.errors import RunFailed
from .case import GrowthCase
from .estimate import Probe, Scale, calibrated, indicator
from .growth import ReducedGrowth, at_visits, stepped
from .propagate import NOT_FINITE, OK, propagate

#: A tumour of fewer voxels is judged where it was at the first visit.
FEW_VOXELS = 20
#: Times the tolerance: a larger error is not told from this one by the guard.
GRAVE = 2.0
#: Share of members whose error the guard's estimate is to be above: what two dozen validation members can promise without
#: leaning on the form of a distribution. Those it misses are near the tolerance, not far above it.
GUARD_LEVEL = 0.95
#: Members the reduced model is timed with (it is meant for ensembles).
CROWD = 32


def least_norm(case: GrowthCase) -> float:
    """Norm of the first tumour at the detection limit: smaller snapshots do not count relative to themselves."""
    return case.n_detect * float(np.sqrt(max(int((case.mean >= case.n_detect).sum()), FEW_VOXELS)))


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
    total, volume : ndarray, shape (3, N, V)
        Visible cellularity (voxels) and volume (voxels): full order, reduced order, full order as the longer basis
        holds it.
    status : ndarray of int, shape (N,)
        Of the reduced model, or that there is no full order to compare with.
    held : ndarray, shape (N, V)
        Error of the full order as the longer basis holds it (:func:`left_out`).
    """

    error: np.ndarray
    strict: np.ndarray
    indicator: np.ndarray
    days: np.ndarray
    total: np.ndarray
    volume: np.ndarray
    status: np.ndarray
    held: np.ndarray


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
    guard : Scale
        As ``scale``, for ``GUARD_LEVEL`` of the members, calibrated on errors cut off at ``GRAVE`` times the tolerance: whether a member is to be run
        at full order does not depend on how much worse than that it is, and one that went astray would have
        all others suspected.
    target : float
        The tolerance of the guard.
    lost : int
        Members that the full order could not run either; they are not judged.
    guarded_median, guarded_worst : float
        With members that the guard flags run at full order (:mod:`~vvuq_twin.reduction.guard`) and held by the longer basis;
        for each member the guard is calibrated on the others. The guard's own runs take longer steps, which is
        not counted here (3e-4 on steps of three days).
    guarded_share : float
        Of the members, run at full order.
    guarded_total_sd, guarded_volume_sd : tuple of float
        Relative error of cellularity and volume per visit, root mean square, guarded.
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
    guard: Scale
    target: float
    lost: int
    guarded_median: float
    guarded_worst: float
    guarded_share: float
    guarded_total_sd: tuple[float, ...]
    guarded_volume_sd: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for a store or a report."""
        return asdict(self)


@dataclass(frozen=True)
class Timings:
    """Processor time per member, one thread, in a crowd of ``CROWD`` members for the reduced order.

    Parameters
    ----------
    full, equal, own : float
        Full order; reduced order at the full order's steps; at its own, longer ones. Seconds.
    offline : float
        Training, seconds on the clock.
    guarded : float
        Reduced order with the error estimate, and the share of members that it sends to the full order, these at the price
        of all cells and the case's own steps (the guard's are cheaper).
    """

    full: float
    equal: float
    own: float
    offline: float
    guarded: float

    def as_dict(self) -> dict[str, float]:
        """Plain numbers; ``speed_up`` is at equal steps, ``break_even`` members after which training has paid."""
        return {
            "speed_up": self.full / self.equal, "speed_up_own_steps": self.full / self.own,
            "speed_up_guarded": self.full / self.guarded,
            "full_seconds": self.full, "reduced_seconds": self.own, "guarded_seconds": self.guarded,
            "offline_seconds": self.offline, "break_even": self.offline / max(self.full - self.own, 1e-300),
        }  # fmt: skip


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


def left_out(
    reduced: ReducedGrowth, case: GrowthCase, states: np.ndarray, first: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """What is lost of a full-order member (V, n) when it is held as coefficients of the longer basis.

    Parameters
    ----------
    states : ndarray, shape (V, n)
    first : ndarray, shape (n,)
        Its initial field.
    least : float
        See :func:`relative_error`.

    Returns
    -------
    error : ndarray, shape (V,)
    held : ndarray, shape (V, n)
    """
    held = reduced.reconstruct(reduced.represent(states))
    error = [relative_error(s, h, case.n_detect, first, least) for s, h in zip(states, held)]
    return np.array(error), held


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
    return run_indicated(reduced, probe, case, theta)[2]


def run_indicated(
    reduced: ReducedGrowth, probe: Probe, case: GrowthCase, theta: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What :meth:`~vvuq_twin.reduction.growth.ReducedGrowth.run` gives, coefficients (N, V, size) and status (N,), with
    the uncalibrated relative error of each member at each visit, (N, V)."""
    case = stepped(case, reduced.longest)
    a0, driven, _ = reduced.inputs(case, theta)
    states, _, status = propagate(
        reduced.operators, a0, driven, case.timeline.dt, reduced.limit, reduced.substeps, reduced.saturation
    )
    cells = reduced.rows[case.occupied[reduced.rows]]
    fields = case.initial(case.values(theta).initial, cells)
    missing = np.sqrt(np.maximum((fields**2).sum(axis=1) - (a0**2).sum(axis=1), 0.0))
    out = indicator(
        reduced.operators, probe, driven, case.timeline.dt, a0, missing, states, visit_steps(case),
        exponent=reduced.saturation,
    )  # fmt: skip
    visited = np.moveaxis(np.asarray(at_visits(case, states, a0)), 0, 1)
    return visited, np.array(status), np.asarray(out)


def validate(reduced: ReducedGrowth, probe: Probe, case: GrowthCase, theta: np.ndarray) -> Comparison:
    """Run both orders for a batch and compare them. Memory: one full-order run at a time."""
    coefficients, status, raw = run_indicated(reduced, probe, case, theta)
    visits = len(case.timeline.visits)
    error, strict, lost = (np.zeros((len(theta), visits)) for _ in range(3))
    total, volume = (np.zeros((3, len(theta), visits)) for _ in range(2))
    values = case.values(theta)
    least = least_norm(case)
    for i in range(len(theta)):
        one = values.of(i)
        first = case.initial(one.initial)
        states, code = case.solve(first, one)
        if code[0] != 0:
            # nothing to compare with
            status[i] = NOT_FINITE
        truth, twin = states[0], reduced.reconstruct(coefficients[i])
        for v in range(visits):
            error[i, v] = relative_error(truth[v], twin[v], case.n_detect, first[0], least)
            strict[i, v] = relative_error(truth[v], twin[v], case.n_detect, first[0])
        lost[i], held = left_out(reduced, case, truth, first[0], least)
        for which, fields in enumerate((truth, twin, held)):
            total[which, i], volume[which, i] = _visible(fields, case.n_detect)
    return Comparison(error, strict, raw, days_since_start(case), total, volume, status, lost)


def judge(comparisons: list[Comparison], tolerance: float) -> Validation:
    """Statistics of the error over all validation members, and the calibration of the estimate.

    Parameters
    ----------
    comparisons : list of Comparison
    tolerance : float
        Estimated error above which a member would be run at full order.

    Raises
    ------
    RunFailed
        If the reduced order could run none of the members.
    """
    status = np.concatenate([c.status for c in comparisons])
    good, there = status == OK, status != NOT_FINITE
    error = np.concatenate([c.error for c in comparisons])
    held = np.concatenate([c.held for c in comparisons])
    raw = np.concatenate([c.indicator for c in comparisons])
    total = np.concatenate([c.total for c in comparisons], axis=1)
    volume = np.concatenate([c.volume for c in comparisons], axis=1)
    if not good.any():
        raise RunFailed("the reduced model could run none of the members that judge it")
    days, worst = comparisons[0].days, error[good].max(axis=1)
    scale = calibrated(error[good], raw[good], days)
    estimate = scale(raw[good], days).max(axis=1)
    capped = np.minimum(error[good], GRAVE * tolerance)
    full = ~good
    full[good] = _distrusted(capped, raw[good], days, tolerance)
    guarded = np.where(full, held.max(axis=1), error.max(axis=1))[there]

    def relative(pair: np.ndarray, by: np.ndarray, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # a tumour below a few voxels has no meaningful relative error
        gap = (np.where(by[:, None], pair[2], pair[1]) - pair[0]) / np.maximum(pair[0], FEW_VOXELS)
        return gap[of].mean(axis=0), np.sqrt((gap[of] ** 2).mean(axis=0))

    total_bias, total_sd = relative(total, ~good, good)
    volume_bias, volume_sd = relative(volume, ~good, good)
    return Validation(
        members=len(good),
        median=float(np.median(worst)),
        percentile_99=float(np.quantile(worst, 0.99, method="higher")),
        worst=float(worst.max()),
        strict_worst=float(np.concatenate([c.strict for c in comparisons])[good].max()),
        scale=scale,
        tightness=float(np.median(estimate / np.maximum(worst, 1e-300))),
        total_bias=tuple(total_bias.tolist()),
        total_sd=tuple(total_sd.tolist()),
        volume_bias=tuple(volume_bias.tolist()),
        volume_sd=tuple(volume_sd.tolist()),
        failed=int((~good).sum()),
        guard=calibrated(capped, raw[good], days, GUARD_LEVEL),
        target=tolerance,
        lost=int((~there).sum()),
        guarded_median=float(np.median(guarded)),
        guarded_worst=float(guarded.max()),
        guarded_share=float(full[there].mean()),
        guarded_total_sd=tuple(relative(total, full, there)[1].tolist()),
        guarded_volume_sd=tuple(relative(volume, full, there)[1].tolist()),
    )


def _distrusted(error: np.ndarray, raw: np.ndarray, days: np.ndarray, tolerance: float) -> np.ndarray:
    """Members (N,) whose estimate, calibrated on the others, is above the tolerance."""
    found = np.ones(len(error), dtype=bool)
    for i in range(len(error)) if len(error) > 1 else ():
        others = np.delete(np.arange(len(error)), i)
        scale = calibrated(error[others], raw[others], days, GUARD_LEVEL)
        found[i] = not scale(raw[i : i + 1], days).max() <= tolerance
    return found


def measure(
    reduced: ReducedGrowth,
    probe: Probe,
    case: GrowthCase,
    theta: np.ndarray,
    offline: float = 0.0,
    share: float = 0.0,
) -> Timings:
    """Time both orders on members (N, p), of which the ``share`` would be run at full order. Processor time: what
    other programs do does not count."""
    crowd = np.resize(theta, (max(CROWD, len(theta)), theta.shape[1]))

    def quick(task: Callable[[], Any]) -> float:
        task()  # compile first
        start = time.process_time()
        task()
        return (time.process_time() - start) / len(crowd)

    values = case.values(theta)
    start = time.process_time()
    for i in range(len(theta)):
        one = values.of(i)
        first = case.initial(one.initial)
        case.solve(first, one)
    full = (time.process_time() - start) / len(theta)
    equal = replace(reduced, longest=float(case.timeline.dt[case.timeline.dt > 0].min()))
    own, same = quick(lambda: reduced.run(case, crowd)), quick(lambda: equal.run(case, crowd))
    estimated = quick(lambda: run_indicated(reduced, probe, case, crowd))
    return Timings(full, same, own, offline, estimated + share * full)
