"""Localisation where there is no place: each column listens to the observations it is correlated with."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .inflation import Inflation
from .letkf import transforms
from .protocol import Problem
from .update import pieces
from .whitening import whiten_parts


def sampling_error_taper(correlation: np.ndarray, members: int) -> np.ndarray:
    """Weights in 0..1 for the sample correlations of something with m observations.

    Parameters
    ----------
    correlation : ndarray, shape (..., m)
    members : int
        N, of whose sample they are.

    Notes
    -----
    The largest of m correlations with nothing has a square of about ``2 ln(m)/(N - 1)`` (the universal threshold
    of Donoho & Johnstone, for correlations Luo & Bhakta 2020, J. Pet. Sci. Eng. 184:106559): what is no larger is
    cut. What is left, ``s``, is shrunk for its own sampling error by ``s / (s + (1 + s)/N)``, the factor of least
    expected squared error (Furrer & Bengtsson 2007, J. Multivar. Anal. 98:227).

    Examples
    --------
    >>> sampling_error_taper(np.array([0.1, 0.4, 0.9]), 100).round(2).tolist()
    [0.0, 0.93, 0.99]
    """
    count = correlation.shape[-1]
    chance = min((2.0 * np.log(count) if count > 3 else 1.0) / (members - 1.0), 0.99)
    s = np.maximum(np.square(correlation) - chance, 0.0) / (1.0 - chance)
    return np.asarray(s / (s + (1.0 + s) / members))


@dataclass(frozen=True)
class ColumnUpdate:
    """An analysis for each column of the state, from the observations it is correlated with.

    Parameters
    ----------
    members : ndarray of int, shape (K,)
    size : int
        Rows of E before.
    y : ndarray, shape (m, K)
        Predicted anomalies over sqrt(K - 1) and over the independent error's deviation.
    d : ndarray, shape (m,)
        Innovation, likewise.
    g : ndarray, shape (m, k)
        Low-rank columns of the error, likewise.
    inflation : Inflation

    Notes
    -----
    As in the LETKF it is the independent part of the error that grows as the weight falls, so the
    observations' own covariance is cut down to those that count. Cost per column: min(K, m)^2 max(K, m) with m
    those that are left.
    """

    members: np.ndarray
    size: int
    y: np.ndarray
    d: np.ndarray
    g: np.ndarray
    inflation: Inflation = field(default_factory=Inflation)

    @staticmethod
    def of(p: Problem, size: int, alpha: float = 1.0) -> ColumnUpdate:
        """From a checked problem, the error covariance multiplied by ``alpha``."""
        error = p.observations.error
        by = np.sqrt(alpha)
        # the low-rank part over the independent one's deviation is the same for any alpha
        g = error.factor / error.voxel[:, None]
        return ColumnUpdate(p.rows, size, (p.scaled / by).T.copy(), p.innovation / (by * error.voxel), g)

    def apply(
        self,
        block: np.ndarray,
        columns: np.ndarray | None = None,
        inflate: bool = True,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """See :class:`~vvuq_twin.assimilation.update.Update`; ``columns`` is not needed."""
        k = len(self.members)
        norm = np.sqrt((self.y**2).sum(axis=1))

        def work(tile: np.ndarray, where: slice) -> np.ndarray:
            anomalies = tile - tile.mean(axis=0)
            new = tile.copy()
            for j in range(where.stop - where.start):
                scale = norm * np.linalg.norm(anomalies[:, j])
                r = np.divide(self.y @ anomalies[:, j], scale, out=np.zeros_like(norm), where=scale > 0)
                weight = sampling_error_taper(np.clip(r, -1.0, 1.0), k)
                some = np.flatnonzero(weight)
                if len(some):
                    root = np.sqrt(weight[some])[:, None]
                    parts = np.concatenate([self.y[some], self.d[some, None]], axis=1) * root
                    white = whiten_parts(parts.T, self.g[some] * root)
                    x = transforms(white[None, :-1], white[None, -1])[0]
                    new[:, j] = tile[:, j].mean() + x @ anomalies[:, j]
            return self.inflation.apply(anomalies, new) if inflate and self.inflation.active else new

        return pieces(block, self.members, self.size, k, work, out=out)
