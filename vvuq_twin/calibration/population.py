"""What a population teaches: constants common to all patients, and calibrated persistence.

The constants of a population model are fitted by maximum a posteriori in the Gaussian space of their
priors (empirical Bayes: the patients' own constants are integrated out by whoever supplies the likelihood).
Calibrated persistence is the forecast to beat: the last value plus the errors that this very forecast made
on the training patients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize

from ..domain.errors import BadInput, RunFailed
from ..domain.keys import generator
from ..domain.parameters import ParameterSpace


@dataclass(frozen=True)
class PopulationFit:
    """The population's constants at the mode of their posterior.

    Parameters
    ----------
    theta : ndarray, shape (p,)
        Values, in the order of the space.
    z : ndarray, shape (p,)
        The same in the Gaussian space: how many prior standard deviations the data moved each.
    log_likelihood : float
    iterations, evaluations : int
    converged : bool
        False where the iterations ran out; the last iterate is kept.
    """

    theta: np.ndarray
    z: np.ndarray
    log_likelihood: float
    iterations: int
    evaluations: int
    converged: bool


def fit_population(
    log_likelihood: Callable[[np.ndarray], float],
    space: ParameterSpace,
    free: Sequence[str] | None = None,
    start: np.ndarray | None = None,
    iterations: int = 30,
    tolerance: float = 1e-6,
    on_iteration: Callable[[int], None] | None = None,
) -> PopulationFit:
    """Maximise ``log_likelihood(theta) - |z|^2 / 2`` by L-BFGS with forward differences.

    Parameters
    ----------
    log_likelihood : callable
        Of the values, shape (p,), to the joint log likelihood of the training patients.
    space : ParameterSpace
        The constants and their priors.
    free : sequence of str, optional
        The constants to fit, all by default; the others stay at ``start``.
    start : ndarray, shape (p,), optional
        Gaussian scores to start from; the prior's centre by default.
    iterations : int
    tolerance : float
        Relative decrease of the objective at which the search ends.
    on_iteration : callable, optional
        Called with the number of iterations done.

    Raises
    ------
    RunFailed
        If the likelihood is not finite at the start.
    """
    z = np.zeros(space.size) if start is None else np.array(start, dtype=float)
    columns = np.array([space.index(n) for n in (space.names if free is None else free)])
    count = 0

    def place(x: np.ndarray) -> np.ndarray:
        full = z.copy()
        full[columns] = x
        return full

    def objective(x: np.ndarray) -> float:
        nonlocal count
        count += 1
        value = float(log_likelihood(np.asarray(space.from_gaussian(place(x)))))
        # a bad corner of the space is far from the mode: finite, so that the search backs off
        return (-value if np.isfinite(value) else 1e10) + 0.5 * float(x @ x)

    if not objective(z[columns]) < 1e10:
        raise RunFailed("calibration: the likelihood of the population is not finite at the priors' centre.")
    done = 0

    def step(_: np.ndarray) -> None:
        nonlocal done
        done += 1
        if on_iteration is not None:
            on_iteration(done)

    minimize: Any = optimize.minimize
    options = {"maxiter": iterations, "ftol": tolerance, "maxfun": 10**6}
    found = minimize(
        objective, z[columns], method="L-BFGS-B", callback=step, bounds=[(-6.0, 6.0)] * len(columns),
        options=options,
    )  # fmt: skip
    best = place(np.asarray(found.x))
    return PopulationFit(
        np.asarray(space.from_gaussian(best)), best, -(float(found.fun) - 0.5 * float(found.x @ found.x)),
        int(found.nit), count, bool(found.success),
    )  # fmt: skip


def folds(n: int, k: int, seed: int, purpose: str) -> np.ndarray:
    """Balanced folds of n patients in a fixed order, keyed by seed and purpose; shape (n,), values 0..k-1.

    Raises
    ------
    BadInput
        If there are fewer patients than folds, or fewer than two folds.
    """
    if not 2 <= k <= n:
        raise BadInput(
            f"{n} patients cannot be split into {k} folds", "folds", "take 2 or more, at most one a patient"
        )
    out = np.empty(n, dtype=int)
    out[generator(seed, purpose).permutation(n)] = np.arange(n) % k
    return out


@dataclass(frozen=True)
class PersistenceErrors:
    """Calibrated persistence: errors of the last value, by stratum, sorted.

    Parameters
    ----------
    errors : dict of int to ndarray
    """

    errors: dict[int, np.ndarray]

    @classmethod
    def learn(
        cls, last: np.ndarray, later: np.ndarray, stratum: np.ndarray, least: int = 5
    ) -> PersistenceErrors:
        """From training pairs of last value and what came.

        Parameters
        ----------
        last, later : ndarray, shape (n,)
        stratum : ndarray of int, shape (n,)
            Classes with errors of their own (for example: detected at the last scan or not).
        least : int
            A class with fewer pairs borrows the errors of all.

        Raises
        ------
        BadInput
            If there is no pair at all.
        """
        error = np.asarray(later, dtype=float) - np.asarray(last, dtype=float)
        if not len(error):
            raise BadInput(
                "no training patient has the scans this forecast needs", "lesion table", "use more patients"
            )
        pooled = np.sort(error)
        own = {int(s): np.sort(error[stratum == s]) for s in np.unique(stratum)}
        return cls({-1: pooled} | {s: e for s, e in own.items() if len(e) >= least})

    def members(self, last: np.ndarray, stratum: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Quantiles of the forecast at levels, shape (N, n): last value plus quantiles of the errors."""
        out = np.empty((len(levels), len(last)))
        for s in np.unique(stratum):
            quantile = np.quantile(self.errors.get(int(s), self.errors[-1]), levels, method="hazen")
            here = stratum == s
            out[:, here] = np.asarray(last)[None, here] + quantile[:, None]
        return out
