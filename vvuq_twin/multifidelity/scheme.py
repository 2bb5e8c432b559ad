"""Which model is run on which inputs, and what that makes of the estimator's variance.

With models ``f_0`` (the truth) and ``f_1 .. f_K``, sets of inputs ``Z_0 .. Z_K`` and a parent p(i) for each i,

    Q = S_0(Z_0) + sum_i a_i [S_i(Z_p(i)) - S_i(Z_i)],

S a sample mean or an unbiased sample variance: each bracket has mean zero, so Q is unbiased for any fixed weights a.
Sets that are *nested* (prefixes of one stream) give multi-fidelity Monte Carlo (a chain of parents: Peherstorfer,
Willcox & Gunzburger 2016, doi:10.1137/15M1046472), approximate control variates (all with parent 0: Gorodetsky, Geraci,
Eldred & Jakeman 2020, doi:10.1016/j.jcp.2020.109257) and the trees between (Bomarito et al. 2022,
doi:10.1016/j.jcp.2021.110882); *apart* sets along a chain give multilevel Monte Carlo with optimal weights
(Giles 2008; the recursive differences of Gorodetsky et al.).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product
from typing import Literal

import numpy as np

from .moments import Moments

Statistic = Literal["mean", "variance"]
STATISTICS: tuple[Statistic, ...] = ("mean", "variance")


@dataclass(frozen=True)
class Scheme:
    """A tree of sample sets.

    Parameters
    ----------
    models : tuple of int
        Numbers of the models used, the truth (0) first.
    parents : tuple of int
        For each further model the place in ``models`` of the one whose inputs it shares.
    nested : bool
        Sets are prefixes of one stream of inputs; otherwise they have no input in common.
    """

    models: tuple[int, ...]
    parents: tuple[int, ...]
    nested: bool = True

    @property
    def name(self) -> str:
        """What the literature calls it."""
        k = len(self.parents)
        if k == 0:
            return "Monte Carlo"
        if not self.nested:
            return "weighted multilevel" if self.parents == tuple(range(k)) else "recursive differences"
        if self.parents == tuple(range(k)):
            return "multi-fidelity Monte Carlo"
        return "approximate control variates"

    @property
    def arguments(self) -> tuple[tuple[int, int], ...]:
        """Pairs (place of the model, set): the truth on its set, then each model on its parent's and its own."""
        pairs = [(0, 0)]
        for i, parent in enumerate(self.parents, start=1):
            pairs += [(i, parent), (i, i)]
        return tuple(pairs)

    def overlap(self, a: int, b: int, sizes: np.ndarray) -> float:
        """Inputs that two sets have in common."""
        if self.nested:
            return float(min(sizes[a], sizes[b]))
        return float(sizes[a]) if a == b else 0.0

    def evaluations(self, sizes: np.ndarray) -> np.ndarray:
        """Runs of each model, shape (K + 1,), in the order of ``models``."""
        runs = [float(sizes[0])]
        for i, parent in enumerate(self.parents, start=1):
            both = max(sizes[i], sizes[parent]) if self.nested else sizes[i] + sizes[parent]
            runs.append(float(both))
        return np.array(runs)

    def covariance(self, sizes: np.ndarray, moments: Moments, statistic: Statistic) -> np.ndarray:
        """Covariance of the 2K + 1 sample statistics, shape (2K + 1, 2K + 1, q).

        Notes
        -----
        Sets S and T with k common inputs: of means ``k / (|S| |T|) C``; of unbiased variances
        ``k / (|S| |T|) W + 2 k (k - 1) C^2 / (|S| (|S| - 1) |T| (|T| - 1))``, W the covariance of
        the squared deviations (Hoeffding's decomposition of the two U-statistics).
        """
        pairs = self.arguments
        out = np.empty((len(pairs), len(pairs), moments.covariance.shape[2]))
        for i, (a, s) in enumerate(pairs):
            for j, (b, t) in enumerate(pairs[: i + 1]):
                k, m, n = self.overlap(s, t, sizes), float(sizes[s]), float(sizes[t])
                c = moments.covariance[self.models[a], self.models[b]]
                if statistic == "mean":
                    value = k / (m * n) * c
                else:
                    w = moments.squares[self.models[a], self.models[b]]
                    value = k / (m * n) * w + 2 * k * (k - 1) / (m * (m - 1) * n * (n - 1)) * c**2
                out[i, j] = out[j, i] = value
        return out

    def weights(
        self, sizes: np.ndarray, moments: Moments, statistic: Statistic
    ) -> tuple[np.ndarray, np.ndarray]:
        """The weights of least variance, (K, q), and the estimator's variance with them, (q,)."""
        r = self.covariance(sizes, moments, statistic)
        k = len(self.parents)
        if k == 0:
            return np.zeros((0, r.shape[2])), r[0, 0]
        take = np.zeros((k, len(r)))
        for i in range(k):
            take[i, 1 + 2 * i], take[i, 2 + 2 * i] = 1.0, -1.0
        between = np.einsum("ia,abq,jb->qij", take, r, take)
        with_truth = np.einsum("ia,aq->qi", take, r[:, 0])
        # scaled to a unit diagonal, so that one cut-off serves all outputs
        d = np.sqrt(np.maximum(np.einsum("qii->qi", between), 0.0))
        d = np.where(d > 0, d, 1.0)
        inverse = np.linalg.pinv(between / (d[:, :, None] * d[:, None, :]), rcond=1e-10, hermitian=True)
        a = -np.einsum("qij,qj->qi", inverse, with_truth / d) / d
        # of any weights, so that a truncated inverse cannot claim too much
        variance = r[0, 0] + 2 * (a * with_truth).sum(axis=1) + np.einsum("qi,qij,qj->q", a, between, a)
        return a.T, np.maximum(variance, 0.0)


def _trees(k: int) -> Iterator[tuple[int, ...]]:
    """All parents of 1..k that lead to 0."""
    for parents in product(range(k + 1), repeat=k):
        for start in range(1, k + 1):
            at, steps = start, 0
            while at and steps <= k:
                at, steps = parents[at - 1], steps + 1
            if at:
                break
        else:
            yield parents


def candidates(correlation: np.ndarray) -> list[Scheme]:
    """Schemes worth comparing: any subset of the cheaper models, nested and apart.

    Parameters
    ----------
    correlation : ndarray, shape (M,)
        Of each model with the first; along a chain the best correlated comes first.

    Notes
    -----
    All trees for two cheaper models; for three or more the chain and the star alone.
    """
    others = sorted(range(1, len(correlation)), key=lambda m: (-abs(correlation[m]), m))
    found = [Scheme((0,), ())]
    for k in range(1, len(others) + 1):
        trees = list(_trees(k)) if k <= 2 else [tuple(range(k)), (0,) * k]
        for chosen in combinations(others, k):
            for parents in trees:
                found += [Scheme((0, *chosen), parents, nested) for nested in (True, False)]
    return found
