"""filterpy's filters as schemes: exact or independent references for small problems.

Each runs filterpy's own code, in the coordinates of the members wherever the update is linear in the ensemble:
the state handed to it is the identity, so that what comes back is the transform X itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.observations import ObservationError
from .diagnostics import found
from .onestep import OneStep
from .protocol import Analysis, Carry, Key, Problem, finish
from .roots import Signal
from .update import Update, target

#: Above this many observations or members the dense matrices of filterpy are refused.
MOST = 2000


def covariance(error: ObservationError) -> np.ndarray:
    """R itself, (m, m): for small problems only."""
    return np.asarray(np.diag(error.voxel**2) + error.factor @ error.factor.T)


def _small(*sizes: int) -> None:
    if max(sizes) > MOST:
        raise BadInput(
            f"filterpy's filters form dense matrices, and {max(sizes)} is too many for them",
            "assimilation",
            "use the ETKF, which is the same filter in member space",
        )


@dataclass(frozen=True)
class FilterpyKalman(OneStep):
    """filterpy's ``KalmanFilter`` on the members' weights: prior I, operator the anomalies, dense R."""

    def transform(self, signal: Signal, problem: Problem, key: Key) -> tuple[dict[str, Any], dict[str, Any]]:
        """See :class:`~vvuq_twin.assimilation.onestep.OneStep`."""
        from filterpy.kalman import KalmanFilter

        k, m = len(problem.rows), len(problem.kept)
        _small(k, m)
        kf = KalmanFilter(dim_x=k, dim_z=m)
        kf.x, kf.P = np.zeros((k, 1)), np.eye(k)
        kf.H, kf.R = signal.scale * problem.anomalies.T, covariance(problem.observations.error)
        kf.update(problem.innovation[:, None])
        values, vectors = np.linalg.eigh(kf.P)
        root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
        return {"dense": kf.x[:, 0] / np.sqrt(k - 1.0) + root}, {}


@dataclass(frozen=True)
class FilterpyEnKF(OneStep):
    """filterpy's ``EnsembleKalmanFilter``: perturbed observations.

    Notes
    -----
    filterpy draws by a function its module took from NumPy's global generator; a keyed one stands in for it
    while the update is made, and the global generator is left alone.
    """

    def transform(self, signal: Signal, problem: Problem, key: Key) -> tuple[dict[str, Any], dict[str, Any]]:
        """See :class:`~vvuq_twin.assimilation.onestep.OneStep`."""
        from filterpy.kalman import ensemble_kalman_filter as module

        k, m = len(problem.rows), len(problem.kept)
        _small(k, m)
        predictions = iter(signal.scale * problem.predictions)
        theirs = module.multivariate_normal
        module.multivariate_normal = key.generator("filterpy", problem.carry.cycle).multivariate_normal
        try:
            enkf = module.EnsembleKalmanFilter(
                np.zeros(k), np.eye(k), m, 1.0, k, lambda x: next(predictions), lambda x, dt: x
            )
            enkf.sigmas, enkf.x = np.eye(k), np.full(k, 1.0 / k)
            enkf.update(problem.innovation, covariance(problem.observations.error))
        finally:
            module.multivariate_normal = theirs
        return {"dense": enkf.sigmas}, {}


@dataclass(frozen=True)
class SigmaUpdate:
    """An unscented update: the whole (small) state at once, and sigma points drawn anew.

    Parameters
    ----------
    members : ndarray of int, shape (2 n + 1,)
    size : int
    points : object
        filterpy's sigma points.
    predicted : ndarray, shape (2 n + 1, m)
    y : ndarray, shape (m,)
    R : ndarray, shape (m, m)
    noise : ndarray, shape (n, n)
    """

    members: np.ndarray
    size: int
    points: Any
    predicted: np.ndarray
    y: np.ndarray
    R: np.ndarray
    noise: np.ndarray

    def apply(
        self,
        block: np.ndarray,
        columns: np.ndarray | None = None,
        inflate: bool = True,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """See :class:`~vvuq_twin.assimilation.update.Update`; the block is the whole state."""
        from filterpy.kalman import UnscentedKalmanFilter, unscented_transform

        block = np.asarray(block)
        n = block.shape[1]
        if block.shape[0] != 2 * n + 1:
            raise BadInput(
                f"{block.shape[0]} sigma points do not fit a state of {n}", "assimilation",
                "apply an unscented update to the whole state, 2 n + 1 members of it",
            )  # fmt: skip
        out = target(block, len(block), out)
        known = iter(self.predicted)
        ukf = UnscentedKalmanFilter(n, len(self.y), 1.0, lambda x: next(known), lambda x, dt: x, self.points)
        ukf.sigmas_f = np.array(block, dtype=float)
        ukf.x, ukf.P = unscented_transform(ukf.sigmas_f, ukf.Wm, ukf.Wc, self.noise)
        ukf.update(self.y, self.R)
        out[:] = self.points.sigma_points(ukf.x, ukf.P)
        return out


@dataclass(frozen=True)
class FilterpyUnscented(Analysis):
    """filterpy's ``UnscentedKalmanFilter``: the members are its 2 n + 1 sigma points.

    Parameters
    ----------
    n : int
        Size of the state.
    noise : ndarray, shape (n, n), optional
        Covariance of the model's error, added to that of the propagated points.
    alpha, beta, kappa : float
        Merwe's scaling. The default has no negative weight.

    Notes
    -----
    Start from :meth:`points`. What was propagated is observed: no points are drawn anew between forecast and
    observation, as filterpy's own ``predict`` does. A sigma point that fails cannot be dropped, so that is an error. Mean and
    covariance of the state are those of the weighted points (:meth:`moments`).
    """

    n: int
    noise: np.ndarray | None = None
    alpha: float = 1.0
    beta: float = 0.0
    kappa: float = 1.0

    def _rule(self) -> Any:
        from filterpy.kalman import MerweScaledSigmaPoints

        return MerweScaledSigmaPoints(self.n, self.alpha, self.beta, self.kappa)

    def points(self, mean: np.ndarray, cov: np.ndarray) -> np.ndarray:
        """Sigma points of a normal state, shape (2 n + 1, n): the ensemble to begin with."""
        return np.asarray(self._rule().sigma_points(mean, cov))

    def moments(self, E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weighted mean (n,) and covariance (n, n) of sigma points."""
        rule = self._rule()
        mean = rule.Wm @ E
        return mean, np.asarray((rule.Wc * (E - mean).T) @ (E - mean))

    def solve(self, p: Problem, key: Key) -> tuple[Update, Carry]:
        """See :class:`~vvuq_twin.assimilation.protocol.Analysis`."""
        size = p.size
        _small(size, len(p.kept))
        if size != 2 * self.n + 1 or len(p.rows) != size:
            raise BadInput(
                f"{len(p.rows)} good sigma points came for a state of {self.n}",
                "assimilation",
                f"give all {2 * self.n + 1}, and a model that does not fail on them",
            )
        noise = np.zeros((self.n, self.n)) if self.noise is None else self.noise
        predicted = p.predictions + (p.observations.y - p.innovation)
        update = SigmaUpdate(
            p.rows, size, self._rule(), predicted, p.observations.y, covariance(p.observations.error), noise
        )
        return update, finish(p, found(p, p.signal(), key))
