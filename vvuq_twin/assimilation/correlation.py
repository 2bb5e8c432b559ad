"""Localisation where there is no place: correlations corrected for the sampling error of a finite ensemble."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .update import pieces

# Observations handled at once, so that no block of the gain is wider.
CHUNK = 4096


@dataclass(frozen=True)
class SamplingError:
    """The factor on a sample correlation that makes its expected squared error least.

    Parameters
    ----------
    strength : float
        Factor on the sampling variance; 1 is what theory says.

    Notes
    -----
    ``rho = r^2 / (r^2 + (1 + r^2)/N)`` (Furrer & Bengtsson 2007, J. Multivar. Anal. 98:227, eq. 9, for
    correlations) with r^2 the sample's, freed of its own bias: ``((N - 1) r^2 - 1)/(N - 2)``, nothing below
    zero. A correlation no larger than chance gives is cut to zero.
    """

    strength: float = 1.0

    def __call__(self, correlation: np.ndarray, members: int) -> np.ndarray:
        """Factors in 0..1 for sample correlations of any shape."""
        noise = self.strength / (members - 1.0)
        square = np.maximum(np.square(correlation) - noise, 0.0) / (1.0 - noise)
        return np.asarray(square / (square + self.strength * (1.0 + square) / members))


@dataclass(frozen=True)
class GainUpdate:
    """A gain formed block by block, each of its covariances tapered: ``e_j += sum_o rho_jo c_jo g_o``.

    Parameters
    ----------
    members : ndarray of int, shape (K,)
    size : int
        Rows of E before.
    predicted : ndarray, shape (K, m)
        Anomalies of the predicted observations, over sqrt(K - 1).
    solved : ndarray, shape (K, m)
        ``(HPH^T + R)^-1`` times each member's perturbed innovation.
    taper : SamplingError
    """

    members: np.ndarray
    size: int
    predicted: np.ndarray
    solved: np.ndarray
    taper: SamplingError

    def apply(self, block: np.ndarray, columns: np.ndarray | None = None, inflate: bool = True) -> np.ndarray:
        """See :class:`~vvuq_twin.assimilation.update.Update`; neither ``columns`` nor inflation is needed."""
        k = len(self.members)
        sd = np.sqrt((self.predicted**2).sum(axis=0))

        def work(tile: np.ndarray, _: slice) -> np.ndarray:
            anomalies = (tile - tile.mean(axis=0)) / np.sqrt(k - 1.0)
            own = np.sqrt((anomalies**2).sum(axis=0))
            out = tile.copy()
            for at in range(0, len(sd), CHUNK):
                part = slice(at, at + CHUNK)
                cov = anomalies.T @ self.predicted[:, part]
                scale = own[:, None] * sd[part]
                corr = np.divide(cov, scale, out=np.zeros_like(cov), where=scale > 0)
                out += self.solved[:, part] @ (cov * self.taper(np.clip(corr, -1.0, 1.0), k)).T
            return out

        return pieces(block, self.members, self.size, k, work)
