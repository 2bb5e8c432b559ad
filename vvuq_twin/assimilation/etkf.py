"""Deterministic filters: the transforms of the symmetric root, of the error subspace, and of half the gain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .onestep import OneStep
from .protocol import Key, Problem
from .roots import Signal, error_subspace, mean_preserving_rotation, rotated, with_mean


def turn_of(key: Key, problem: Problem) -> np.ndarray:
    """The keyed mean-preserving rotation of a cycle, shape (K, K)."""
    k = len(problem.rows)
    return mean_preserving_rotation(
        key.generator("rotation", problem.carry.cycle).standard_normal((k - 1, k - 1))
    )


def whole(change: dict[str, np.ndarray]) -> np.ndarray:
    """X from its fields."""
    if "dense" in change:
        return change["dense"]
    return np.asarray(np.eye(len(change["left"])) + change["left"] @ change["right"])


@dataclass(frozen=True)
class ETKF(OneStep):
    """Ensemble transform Kalman filter (Bishop 2001; symmetric root, Hunt et al. 2007; Sakov & Oke 2008).

    Parameters
    ----------
    inflation, adaptive
        See :class:`~vvuq_twin.assimilation.onestep.OneStep`.
    rotate : bool
        Follow the transform by a keyed random rotation of the anomalies that keeps mean and covariance.

    Notes
    -----
    ``X = 1 w^T + (I + S S^T)^(-1/2)``, ``w = (I + S S^T)^-1 S d / sqrt(K - 1)``. Cost: N^2 m for the Gram
    matrix, N^3 for its spectrum, 2 N^2 n to apply; with few observations (2 m < N) all of it is linear in
    N: N m^2, m^3 and 4 N m n. Exact in the linear-Gaussian case.
    """

    rotate: bool = False

    def transform(self, signal: Signal, problem: Problem, key: Key) -> tuple[dict[str, Any], dict[str, Any]]:
        """See :class:`~vvuq_twin.assimilation.onestep.OneStep`."""
        change = with_mean(signal.members, signal.weights(), signal.root())
        if self.rotate:
            change = {"dense": rotated(whole(change), turn_of(key, problem))}
        return change, {}


@dataclass(frozen=True)
class ESTKF(OneStep):
    """Error-subspace transform Kalman filter (Nerger, Janjic, Schroeter & Hiller 2012).

    Parameters
    ----------
    inflation, adaptive
        See :class:`~vvuq_twin.assimilation.onestep.OneStep`.
    rotate : bool
        A keyed random rotation inside the error subspace.

    Notes
    -----
    The ETKF written in the K - 1 directions that anomalies can have: with T (K, K - 1) the projection onto
    them and ``Q = T^T S``, ``X = 1 w^T + T (I + Q Q^T)^(-1/2) T^T``. With the symmetric root and no rotation
    it is the ETKF's transform to round-off; it solves a problem one smaller, and is the natural place of the
    rotation.
    """

    rotate: bool = False

    def transform(self, signal: Signal, problem: Problem, key: Key) -> tuple[dict[str, Any], dict[str, Any]]:
        """See :class:`~vvuq_twin.assimilation.onestep.OneStep`."""
        basis = error_subspace(signal.members)
        if signal.thin:
            gram, along = (
                signal.anomalies @ signal.anomalies.T,
                signal.anomalies @ signal.vectors @ signal.along,
            )
        else:
            gram = (signal.vectors * signal.values) @ signal.vectors.T
            along = signal.vectors @ signal.along
        inner = Signal.summed(basis.T @ gram @ basis, basis.T @ along, signal.square, signal.count)
        right = inner.root()["dense"] @ basis.T
        if self.rotate:
            k = signal.members - 1
            q, r = np.linalg.qr(key.generator("rotation", problem.carry.cycle).standard_normal((k, k)))
            right = (q * np.sign(np.diag(r))) @ right
        row = (basis @ inner.weights()) / np.sqrt(signal.members - 1.0)
        return {"dense": row + basis @ right}, {}


@dataclass(frozen=True)
class DEnKF(OneStep):
    """Deterministic ensemble Kalman filter: the mean by the gain, the anomalies by half of it.

    Parameters
    ----------
    inflation, adaptive
        See :class:`~vvuq_twin.assimilation.onestep.OneStep`.

    Notes
    -----
    Sakov & Oke (2008), Tellus A 60:361: ``X = 1 w^T + I - 1/2 S S^T (I + S S^T)^-1``. The covariance is
    ``P - K H P + 1/4 K H P H^T K^T``: never too small, exact to first order in the signal.
    """

    def transform(self, signal: Signal, problem: Problem, key: Key) -> tuple[dict[str, Any], dict[str, Any]]:
        """See :class:`~vvuq_twin.assimilation.onestep.OneStep`."""
        half = signal.function(-0.5 * signal.values / (1.0 + signal.values))
        return with_mean(signal.members, signal.weights(), half), {}


@dataclass(frozen=True)
class EnKFN(OneStep):
    """Finite-size ensemble Kalman filter: the sampling error of the ensemble is part of the prior.

    Parameters
    ----------
    inflation, adaptive
        Not needed where the model has no error of its own.
    rotate : bool
        See :class:`ETKF`.
    certainty : float
        By which the hyperprior counts more than the ensemble itself; 1 is the uninformative one.

    Notes
    -----
    Bocquet, Raanes & Hannart (2015), Nonlin. Processes Geophys. 22:645, dual form: the prior precision in
    member space, zeta, minimises ``d^T (I + (N - 1)/zeta S^T S)^-1 d + x (eps zeta - N ln zeta)`` with
    ``eps = 1 + 1/N`` and x the ``certainty``, for which the inflation of an ensemble that meets its
    observations is close to one; the analysis is the ETKF of the ensemble inflated by
    ``sqrt((N - 1)/zeta)``. The correction of the Hessian that couples to the weights' direction is left out.
    """

    rotate: bool = False
    certainty: float = 1.0

    def transform(self, signal: Signal, problem: Problem, key: Key) -> tuple[dict[str, Any], dict[str, Any]]:
        """See :class:`~vvuq_twin.assimilation.onestep.OneStep`."""
        inflation = self.size_inflation(signal)
        change, _ = ETKF(rotate=self.rotate).transform(signal.scaled(inflation), problem, key)
        return {**change, "prior": inflation}, {"finite_size_inflation": inflation}

    def size_inflation(self, signal: Signal) -> float:
        """``sqrt((N - 1)/zeta)`` at the minimum of the dual cost function."""
        from scipy.optimize import minimize_scalar

        n = signal.members
        weight, slope = n * self.certainty, (1.0 + 1.0 / n) * self.certainty

        def cost(log_zeta: float) -> float:
            zeta = float(np.exp(log_zeta))
            chi = signal.scaled(np.sqrt((n - 1.0) / zeta)).chi_square()
            return chi + slope * zeta - weight * log_zeta

        # the innovation can only lower the precision; without it the minimum is at weight / slope
        top = float(np.log(weight / slope))
        best = minimize_scalar(cost, bounds=(top - 12.0, top), method="bounded", options={"xatol": 1e-6})
        return float(np.sqrt((n - 1.0) / np.exp(best.x)))
