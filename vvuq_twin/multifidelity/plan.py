"""How many runs of which model: the allocation of least variance under a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize

from ..domain.errors import BadInput
from .moments import Moments
from .scheme import STATISTICS, Scheme, Statistic, candidates

#: Fewest runs of the truth: below, no interval can be given.
LEAST = 8
_MOST = 1e7


@dataclass(frozen=True)
class Plan:
    """Sizes of the sample sets, and what they promise.

    Parameters
    ----------
    scheme : Scheme
    sizes : ndarray of int, shape (K + 1,)
        Of the sets Z_0 .. Z_K.
    weights : dict of str to ndarray, shape (K, q)
        By statistic; fixed before the runs they are used on.
    variance : dict of str to ndarray, shape (q,)
        Predicted variance of the estimator.
    plain : dict of str to ndarray, shape (q,)
        That of plain Monte Carlo with the truth alone at the same cost.
    cost : float
    """

    scheme: Scheme
    sizes: np.ndarray
    weights: dict[Statistic, np.ndarray]
    variance: dict[Statistic, np.ndarray]
    plain: dict[Statistic, np.ndarray]
    cost: float

    def members(self, place: int) -> np.ndarray:
        """Numbers, in the stream of inputs, at which a model has to run, ascending."""
        return np.unique(np.concatenate([self.rows(s) for m, s in self.scheme.arguments if m == place]))

    def rows(self, which: int) -> np.ndarray:
        """Numbers of the inputs of one set."""
        start = 0 if self.scheme.nested else int(self.sizes[:which].sum())
        return np.arange(start, start + int(self.sizes[which]))

    @property
    def length(self) -> int:
        """Inputs in all."""
        return int(self.sizes.max() if self.scheme.nested else self.sizes.sum())

    @property
    def runs(self) -> dict[int, int]:
        """Runs by number of the model."""
        runs = self.scheme.evaluations(self.sizes)
        return {m: int(n) for m, n in zip(self.scheme.models, runs)}

    def gain(self, statistic: Statistic) -> np.ndarray:
        """Predicted variance of plain Monte Carlo over that of the estimator, (q,); 1 where nothing varies."""
        mine, plain = self.variance[statistic], self.plain[statistic]
        return np.where(plain > 0, plain / np.maximum(mine, np.finfo(float).tiny), 1.0)


def plain_variance(moments: Moments, n: float, statistic: Statistic) -> np.ndarray:
    """Variance of the sample mean or sample variance of n runs of the first model, shape (q,)."""
    return Scheme((0,), ()).covariance(np.array([n]), moments, statistic)[0, 0]


def allocate(
    moments: Moments,
    costs: Sequence[float],
    budget: float,
    statistics: Sequence[Statistic] = STATISTICS,
    schemes: Sequence[Scheme] | None = None,
) -> Plan:
    """Choose scheme and sizes for the least variance within a budget.

    Parameters
    ----------
    moments : Moments
        Of all models, the truth first.
    costs : sequence of float, length M
        Of one run of each model, in one unit.
    budget : float
        In the same unit.
    statistics : sequence of {"mean", "variance"}
    schemes : sequence of Scheme, optional
        To choose among; :func:`~vvuq_twin.multifidelity.scheme.candidates` if absent.

    Returns
    -------
    Plan

    Raises
    ------
    BadInput
        If a cost is not positive, or the budget does not pay for ``LEAST`` runs of the truth.

    Notes
    -----
    Minimised is the mean, over statistics and outputs that vary, of the logarithm of the estimator's variance over
    that of plain Monte Carlo at the same cost. The ratios of the sizes to their parents' are found by Nelder
    and Mead's method; the budget then gives the size of Z_0. Sizes are rounded down, within the budget.
    """
    price = np.asarray(costs, dtype=float)
    if price.shape != (moments.models,) or not (np.isfinite(price) & (price > 0)).all():
        raise BadInput(
            f"the costs ({', '.join(f'{c:g}' for c in price.ravel())}) are not one positive number for each of "
            f"{moments.models} models", "multi-fidelity costs", "give the seconds one run of each takes",
        )  # fmt: skip
    if not np.isfinite(budget) or budget < LEAST * price[0]:
        raise BadInput(
            f"the budget ({budget:g}) does not pay for {LEAST} runs of the first model ({price[0]:g} each)",
            "multi-fidelity budget", f"give at least {LEAST * price[0]:g}",
        )  # fmt: skip
    moving = moments.moving
    if not moving.any():
        raise BadInput(
            "no output of the first model varies over the pilot",
            "multi-fidelity pilot",
            "nothing to estimate",
        )
    seen = Moments(moments.covariance[:, :, moving], moments.squares[:, :, moving])
    plain = {s: plain_variance(seen, budget / price[0], s) for s in statistics}
    correlation = np.abs(moments.correlation[:, moving]).mean(axis=1)
    best: tuple[float, Scheme, np.ndarray] | None = None
    for scheme in schemes if schemes is not None else candidates(correlation):
        found = _sizes(scheme, seen, price, budget, plain)
        # an estimator of more models has to earn its keep
        if found is not None and (best is None or found[0] < best[0] - 1e-3):
            best = (found[0], scheme, found[1])
    if best is None:
        raise BadInput("no scheme fits into the budget", "multi-fidelity budget", "raise it")
    _, scheme, sizes = best
    solved = {s: scheme.weights(sizes, moments, s) for s in statistics}
    return Plan(
        scheme,
        sizes,
        {s: w for s, (w, _) in solved.items()},
        {s: v for s, (_, v) in solved.items()},
        {s: plain_variance(moments, budget / price[0], s) for s in statistics},
        float(scheme.evaluations(sizes) @ price[list(scheme.models)]),
    )


def _sizes(
    scheme: Scheme, moments: Moments, price: np.ndarray, budget: float, plain: dict[Statistic, np.ndarray]
) -> tuple[float, np.ndarray] | None:
    """Logarithm of the relative variance and the sizes (integers) of one scheme; None if it does not fit."""
    mine = price[list(scheme.models)]
    k = len(scheme.parents)

    def sizes_of(x: np.ndarray) -> np.ndarray:
        ratio = np.ones(k + 1)
        order, done = list(range(1, k + 1)), {0}
        while order:  # parents before children
            i = next(j for j in order if scheme.parents[j - 1] in done)
            ratio[i] = ratio[scheme.parents[i - 1]] * np.exp(x[i - 1])
            order.remove(i)
            done.add(i)
        return ratio * budget / float(scheme.evaluations(ratio) @ mine)

    def objective(sizes: np.ndarray) -> float:
        if sizes[0] < LEAST or sizes.min() < 3 or sizes.max() > _MOST:
            return 1e3 + float(max(LEAST - sizes[0], 0.0) + max(np.log(sizes.max() / _MOST), 0.0))
        logs = [
            np.log(np.maximum(scheme.weights(sizes, moments, s)[1], 1e-30 * plain[s]) / plain[s]).mean()
            for s in plain
        ]
        return float(np.mean(logs))

    if k == 0:
        sizes = np.floor(np.array([budget / mine[0]]) + 1e-9).astype(int)
        return objective(sizes.astype(float)), sizes
    low, high = (0.0, np.log(_MOST)) if scheme.nested else (-4.0, np.log(_MOST))
    minimize: Any = optimize.minimize
    best: tuple[float, np.ndarray] | None = None
    for first in (0.5, 2.0, 4.5):
        start = np.full(k, first / max(1, k - 1))
        found = minimize(
            lambda x: objective(sizes_of(x)), start, method="Nelder-Mead", bounds=[(low, high)] * k,
            options={"xatol": 1e-3, "fatol": 1e-5, "maxiter": 200 * k},
        )  # fmt: skip
        if best is None or found.fun < best[0]:
            best = (float(found.fun), found.x)
    assert best is not None
    # rounding down keeps within the budget; what rounding leaves is not spent
    sizes = np.floor(sizes_of(best[1]) + 1e-9).astype(int)
    if sizes[0] < LEAST or sizes.min() < 3:
        return None
    return objective(sizes.astype(float)), sizes
