"""The algebra of an analysis in member space.

With S the (N, m) predicted anomalies over sqrt(N - 1) in units of their error (whitened), and d the
whitened innovation, every deterministic transform is a function of ``S S^T`` and ``S d`` alone, or of
``S^T S`` where there are few observations: the cost is min(N, m)^2 max(N, m), nothing m x m is formed where
m > N, and observations that do not fit in memory may be summed block by block.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .whitening import root_coefficient


@dataclass(frozen=True)
class Signal:
    """What observations say to an ensemble: the spectrum of the smaller Gram matrix, and the innovation in it.

    Parameters
    ----------
    members : int
        K.
    count : int
        Observations, m.
    values, vectors : ndarray
        Of ``S^T S`` (m, m) if thin, else of ``S S^T`` (K, K), with ``scale`` in neither.
    along : ndarray
        ``vectors^T d`` if thin, else ``vectors^T S d``.
    square : float
        ``d^T d``.
    S, d : ndarray, shape (K, m) and (m,), optional
        Absent where the observations were streamed.
    scale : float
        By which S is multiplied in whatever is asked of the signal.

    Notes
    -----
    Thin means that the observations are fewer than the members, and their Gram matrix the smaller one.
    """

    members: int
    count: int
    values: np.ndarray
    vectors: np.ndarray
    along: np.ndarray
    square: float
    S: np.ndarray | None = None
    d: np.ndarray | None = None
    scale: float = 1.0

    @staticmethod
    def of(S: np.ndarray, d: np.ndarray) -> Signal:
        """From whitened anomalies (K, m) and innovation (m,)."""
        k, m = S.shape
        if m < k:
            values, vectors = np.linalg.eigh(S.T @ S)
            return Signal(k, m, np.maximum(values, 0.0), vectors, vectors.T @ d, float(d @ d), S, d)
        return replace(Signal.summed(S @ S.T, S @ d, float(d @ d), m), S=S, d=d)

    @staticmethod
    def summed(gram: np.ndarray, along: np.ndarray, square: float, count: int) -> Signal:
        """From ``S S^T`` (K, K), ``S d`` (K,) and ``d^T d``, each a sum over blocks of observations."""
        values, vectors = np.linalg.eigh(gram)
        return Signal(len(gram), count, np.maximum(values, 0.0), vectors, vectors.T @ along, square)

    def scaled(self, spread: float, error: float = 1.0) -> Signal:
        """The signal if the anomalies were ``spread`` times as large and the error's deviation ``error``."""
        by = spread / error
        along = self.along / error if self.thin else self.along * by / error
        return replace(
            self, values=self.values * by**2, along=along, square=self.square / error**2,
            d=None if self.d is None else self.d / error, scale=self.scale * by,
        )  # fmt: skip

    @property
    def thin(self) -> bool:
        return len(self.values) < self.members

    @property
    def anomalies(self) -> np.ndarray:
        """S, where it is known."""
        if self.S is None:
            raise ValueError("the observations of this signal were streamed")
        return self.S if self.scale == 1.0 else self.scale * self.S

    @property
    def factored(self) -> bool:
        """Whether two factors of m columns are cheaper to apply than a full K x K transform."""
        return 2 * len(self.values) < self.members

    def misfits(self) -> np.ndarray:
        """``|y - HE_j|^2`` of each member in units of the error, shape (K,)."""
        k = self.members
        if self.thin:
            S = self.anomalies
            own, toward = (S**2).sum(axis=1), S @ (self.vectors @ self.along)
        else:
            own, toward = (self.vectors**2) @ self.values, self.vectors @ self.along
        return np.asarray(self.square - 2.0 * np.sqrt(k - 1.0) * toward + (k - 1.0) * own)

    def weights(self) -> np.ndarray:
        """``(I + S S^T)^-1 S d``, shape (K,): the mean moves by ``weights / sqrt(K - 1)`` times the anomalies."""
        if self.thin:  # S (I + S^T S)^-1 = (I + S S^T)^-1 S
            return np.asarray(self.anomalies @ (self.vectors @ (self.along / (1.0 + self.values))))
        return np.asarray(self.vectors @ (self.along / (1.0 + self.values)))

    def function(self, f: np.ndarray) -> dict[str, Any]:
        """``I + V diag(f) V^T``, f one value per eigenvalue and ``f = 0`` where that is zero.

        Returns
        -------
        dict
            ``dense`` (K, K), or ``left`` (K, m) and ``right`` (m, K) if factored: with ``S = U sqrt(v) V^T`` it
            is ``I + S V diag(f / v) V^T S^T``.
        """
        if self.thin:
            quotient = np.divide(f, self.values, out=np.zeros_like(f), where=self.values > 0)
            S = self.anomalies
            return self.plus(S, (self.vectors * quotient) @ self.vectors.T @ S.T)
        return {"dense": np.eye(self.members) + (self.vectors * f) @ self.vectors.T}

    def plus(self, left: np.ndarray, right: np.ndarray) -> dict[str, Any]:
        """``I + left right`` of factors (K, m) and (m, K), as it is cheaper to apply."""
        if self.factored:
            return {"left": left, "right": right}
        return {"dense": np.eye(self.members) + left @ right}

    def root(self) -> dict[str, Any]:
        """``(I + S S^T)^(-1/2)``, symmetric; exactly nothing happens where there is no signal."""
        return self.function(self.values * root_coefficient(self.values))

    def met(self, noise: np.ndarray) -> dict[str, Any]:
        """``I + B S^T (I + S S^T)^-1 / sqrt(K - 1)``: each member meets its own draw of the observations.

        Parameters
        ----------
        noise : ndarray, shape (K, m)
            The draws in units of the error; ``B = noise + 1 d^T - sqrt(K - 1) S`` with what :func:`departures` makes
            of them, so that the mean is updated without sampling error in the linear case.

        Returns
        -------
        dict
            As of :meth:`function`. Where the observations are many, B is not formed: only its product with S^T
            counts, and of two of its three terms the spectrum knows that; the draws' mean is taken out of their product.
        """
        if self.S is None or self.d is None:
            raise ValueError("the observations of this signal were streamed")
        root = np.sqrt(self.members - 1.0)
        if self.thin:
            S = self.anomalies
            right = (self.vectors / ((1.0 + self.values) * root)) @ self.vectors.T @ S.T
            return self.plus(departures(noise) + (self.d - root * S), right)
        met = departures(noise @ self.S.T)
        along = self.scale * met @ self.vectors + self.along - root * self.vectors * self.values
        return {"dense": np.eye(self.members) + along / ((1.0 + self.values) * root) @ self.vectors.T}

    def chi_square(self) -> float:
        """``d^T (I + S^T S)^-1 d``: the innovation against spread and error together (Woodbury)."""
        squares = float(np.sum(self.along**2 / (1.0 + self.values)))
        return squares if self.thin else self.square - squares


def departures(draws: np.ndarray) -> np.ndarray:
    """Draws (K, c) of zero mean and variance one without their sampled mean, and of variance one again."""
    k = len(draws)
    return np.asarray((draws - draws.mean(axis=0)) * np.sqrt(k / (k - 1.0)))


def with_mean(k: int, weights: np.ndarray, transform: dict[str, Any]) -> dict[str, Any]:
    """The transform of the anomalies with the shift of the mean, ``1 weights^T / sqrt(K - 1)``, added."""
    row = weights / np.sqrt(k - 1.0)
    if "dense" in transform:
        return {"dense": row + transform["dense"]}
    return {
        "left": np.concatenate([np.ones((k, 1)), transform["left"]], axis=1),
        "right": np.concatenate([row[None, :], transform["right"]], axis=0),
    }


def mean_preserving_rotation(normals: np.ndarray) -> np.ndarray:
    """A random orthogonal matrix that leaves the vector of ones in place.

    Parameters
    ----------
    normals : ndarray, shape (N - 1, N - 1)
        Independent standard normals.

    Returns
    -------
    ndarray, shape (N, N)
        ``B diag(1, Q) B^T`` with B an orthonormal basis whose first column is constant and Q uniform on
        the orthogonal group (Sakov & Oke 2008, Mon. Wea. Rev. 136:1042; Mezzadri 2007 for the signs).
    """
    n = len(normals) + 1
    q, r = np.linalg.qr(normals)
    q = q * np.sign(np.diag(r))
    basis = error_subspace(n)
    return np.full((n, n), 1.0 / n) + basis @ q @ basis.T


def rotated(dense: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """The transform ``dense`` (..., K, K), its anomalies rotated by ``turn``."""
    mean = dense.mean(axis=-2, keepdims=True)
    return np.asarray(mean + turn @ (dense - mean))


def error_subspace(n: int) -> np.ndarray:
    """An orthonormal basis of what is orthogonal to the ones, shape (n, n - 1): a Householder reflection.

    Notes
    -----
    The projection of the error-subspace filters (Nerger et al. 2012, Mon. Wea. Rev. 140:2335, eq. 14).
    """
    c = 1.0 / (n * (1.0 / np.sqrt(n) + 1.0))
    basis = np.eye(n, n - 1) - c
    basis[-1] = -1.0 / np.sqrt(n)
    return basis
