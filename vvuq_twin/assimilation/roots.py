"""The algebra of an analysis in member space.

With S the (N, m) predicted anomalies over sqrt(N - 1) in units of their error (whitened), and d the
whitened innovation, every transform is a function of ``S S^T`` or of ``S^T S``, whichever is smaller:
the cost is min(N, m)^2 max(N, m) and nothing m x m is formed where m > N.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .whitening import root_coefficient


@dataclass(frozen=True)
class Spectrum:
    """Whitened anomalies S with the spectrum of their smaller Gram matrix.

    Parameters
    ----------
    S : ndarray, shape (N, m)
    """

    S: np.ndarray

    @property
    def thin(self) -> bool:
        """Whether a factor of m columns is cheaper to apply than a full N x N transform."""
        return 2 * self.S.shape[1] < self.S.shape[0]

    @cached_property
    def eigen(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues and vectors of ``S^T S`` if thin, else of ``S S^T``."""
        gram = self.S.T @ self.S if self.thin else self.S @ self.S.T
        values, vectors = np.linalg.eigh(gram)
        return np.maximum(values, 0.0), vectors

    @property
    def values(self) -> np.ndarray:
        """Eigenvalues of S S^T that can differ from zero: signal over noise per direction."""
        return self.eigen[0]

    def gain_rows(self, b: np.ndarray) -> np.ndarray:
        """``b S^T (I + S S^T)^-1`` for rows b in observation space, (k, m) to (k, N)."""
        values, vectors = self.eigen
        if self.thin:
            # (I + S^T S)^-1 S^T = S^T (I + S S^T)^-1
            return ((b @ vectors) / (1.0 + values) @ vectors.T) @ self.S.T
        return ((b @ self.S.T) @ vectors) / (1.0 + values) @ vectors.T

    def thin_gain(self) -> np.ndarray:
        """``(I + S^T S)^-1 S^T``, shape (m, N); for the thin case."""
        values, vectors = self.eigen
        return (vectors / (1.0 + values)) @ vectors.T @ self.S.T

    def thin_root(self) -> np.ndarray:
        """R of ``(I + S S^T)^(-1/2) = I + S R``, shape (m, N); for the thin case."""
        values, vectors = self.eigen
        return (vectors * root_coefficient(values)) @ vectors.T @ self.S.T

    def root(self) -> np.ndarray:
        """``(I + S S^T)^(-1/2)``, shape (N, N), the symmetric one."""
        if self.thin:
            return np.eye(len(self.S)) + self.S @ self.thin_root()
        values, vectors = self.eigen
        # 1/sqrt(1+v) - 1 = v * root_coefficient(v): exactly nothing happens where there is no signal
        return np.eye(len(self.S)) + (vectors * (values * root_coefficient(values))) @ vectors.T


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
    basis = helmert(n)
    return np.full((n, n), 1.0 / n) + basis @ q @ basis.T


def helmert(n: int) -> np.ndarray:
    """An orthonormal basis of what is orthogonal to the ones, shape (n, n - 1)."""
    basis = np.zeros((n, n - 1))
    for j in range(1, n):
        basis[:j, j - 1] = 1.0
        basis[j, j - 1] = -j
        basis[:, j - 1] /= np.sqrt(j * (j + 1.0))
    return basis
