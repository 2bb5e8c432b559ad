"""From the runs to the estimate: a weighted sum of sample statistics, and its jackknife interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ..domain.errors import BadInput, RunFailed
from .plan import LEAST, Plan
from .scheme import Statistic


@dataclass(frozen=True)
class Combined:
    """An estimate of q numbers and what leaving out each input would change.

    Parameters
    ----------
    value : ndarray, shape (q,)
    change : ndarray, shape (n, q)
        Estimate without input i less the estimate.
    strata : tuple of ndarray of int
        Inputs that were treated alike (run by the same models, in the same sets).
    """

    value: np.ndarray
    change: np.ndarray
    strata: tuple[np.ndarray, ...]

    def spread(self, change: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Standard error and its degrees of freedom, each of shape (q,).

        Parameters
        ----------
        change : ndarray, shape (n, q), optional
            Of a function of the estimates, linearised; the estimates' own if absent.

        Notes
        -----
        Jackknife within strata (Efron & Stein 1981); degrees of freedom after Welch and Satterthwaite.
        """
        d = self.change if change is None else change
        parts, dof = [], []
        for rows in self.strata:
            n = len(rows)
            parts.append((n - 1) / n * ((d[rows] - d[rows].mean(axis=0)) ** 2).sum(axis=0))
            dof.append(n - 1)
        v = np.array(parts)
        total = v.sum(axis=0)
        below = (v**2 / np.array(dof)[:, None]).sum(axis=0)
        freedom = np.where(below > 0, total**2 / np.where(below > 0, below, 1.0), np.inf)
        return np.sqrt(total), freedom

    def interval(
        self, confidence: float, positive: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Standard error and the ends of the interval (Student's t), each of shape (q,).

        ``positive`` takes it on the logarithm, where the estimate is positive (for variances).
        """
        se, dof = self.spread()
        half = stats.t.ppf(0.5 + confidence / 2, np.maximum(dof, 1.0)) * se
        low, high = self.value - half, self.value + half
        if positive:
            good = self.value > 0
            factor = np.exp(np.minimum(half / np.where(good, self.value, 1.0), 50.0))
            low = np.where(good, self.value / factor, low)
            high = np.where(good, self.value * factor, high)
        return se, low, high


def combine(
    plan: Plan, y: Sequence[np.ndarray], statistic: Statistic, good: np.ndarray | None = None
) -> Combined:
    """The estimate of one statistic.

    Parameters
    ----------
    plan : Plan
    y : sequence of ndarray, each of shape (plan.length, q)
        Values of each of the scheme's models along the stream; anything where a model did not run.
    statistic : {"mean", "variance"}
    good : ndarray of bool, shape (plan.length,), optional
        Inputs that may be used; a failed one is left out of every set.

    Raises
    ------
    BadInput
        If a used value is not finite.
    RunFailed
        If failures leave too few runs of the truth.
    """
    n = plan.length
    keep = np.ones(n, dtype=bool) if good is None else np.asarray(good, dtype=bool)
    weights = plan.weights[statistic]
    coefficient = [np.ones(weights.shape[1] if len(weights) else y[0].shape[1])]
    for w in weights:
        coefficient += [w, -w]
    change = np.zeros((n, y[0].shape[1]))
    value = np.zeros(y[0].shape[1])
    inside = []
    for beta, (model, which) in zip(coefficient, plan.scheme.arguments):
        rows = plan.rows(which)
        rows = rows[keep[rows]]
        if len(rows) < max(3, LEAST // 2):
            raise RunFailed(f"the multi-fidelity estimate has only {len(rows)} good runs in one of its sets")
        part = np.asarray(y[model], dtype=float)[rows]
        if not np.isfinite(part).all():
            raise BadInput("a run counted as good has a value that is not finite", "multi-fidelity runs")
        whole, without = _leave_one_out(part, statistic)
        value = value + beta * whole
        change[rows] += beta * (without - whole)
        member = np.zeros(n, dtype=bool)
        member[rows] = True
        inside.append(member)
    return Combined(value, change, _strata(np.array(inside)))


def _leave_one_out(y: np.ndarray, statistic: Statistic) -> tuple[np.ndarray, np.ndarray]:
    """A statistic (q,) of values (n, q), and without each of them, (n, q)."""
    n = len(y)
    d = y - y.mean(axis=0)
    if statistic == "mean":
        mean = y.mean(axis=0)
        return mean, mean - d / (n - 1)
    square = d**2
    sum_ = square.sum(axis=0)
    return sum_ / (n - 1), (sum_ - n / (n - 1) * square) / (n - 2)


def _strata(inside: np.ndarray) -> tuple[np.ndarray, ...]:
    """Inputs grouped by the sets (rows of ``inside``) they are in; a lone one joins the group before it, a lone first one the next."""
    used = np.flatnonzero(inside.any(axis=0))
    # the sets an input is in, as the bits of one number
    code = (1 << np.arange(len(inside))) @ inside[:, used]
    order = list(dict.fromkeys(code.tolist()))
    groups: list[np.ndarray] = []
    for one in order:
        rows = used[code == one]
        if len(rows) < 2 and groups:
            groups[-1] = np.concatenate([groups[-1], rows])
        else:
            groups.append(rows)
    if len(groups) > 1 and len(groups[0]) < 2:
        groups[:2] = [np.concatenate(groups[:2])]
    return tuple(groups)
