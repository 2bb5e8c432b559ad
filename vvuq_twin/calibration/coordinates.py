"""Coordinates in which a posterior is nearly a standard normal: there NUTS takes long steps and short trees.

A power map of each whitened score straightens skewness (Yeo and Johnson 2000, doi:10.1093/biomet/87.4.954), and
an affine map takes out location, scale and correlation. Any such map leaves the posterior what it is, since its
Jacobian is in the density; a bad one only costs time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from .laplace import Laplace
from .likelihood import Likelihood

#: Powers outside 0..2 do not map onto the whole line; near the ends the tails are too stretched to follow.
_POWERS = (0.4, 1.6)


@dataclass(frozen=True)
class Coordinates:
    """The map ``x -> z``: ``u = centre + factor x``, ``z = middle + scale * inverse power map of u``.

    Parameters
    ----------
    middle, scale : ndarray, shape (p,)
        Of the scores z.
    power : ndarray, shape (p,)
        Of Yeo and Johnson's map of the standardised scores; 1 is none.
    centre : ndarray, shape (p,)
    factor : ndarray, shape (p, p)
        Invertible.
    """

    middle: np.ndarray
    scale: np.ndarray
    power: np.ndarray
    centre: np.ndarray
    factor: np.ndarray

    @classmethod
    def of_laplace(cls, found: Laplace) -> Coordinates:
        """An affine map that whitens the Gaussian approximation at the mode."""
        one = np.ones(len(found.mode))
        return cls(found.mode, one, one, 0.0 * one, found.factor)

    @classmethod
    def of_draws(cls, z: np.ndarray, found: Laplace) -> Coordinates:
        """A map that makes draws, shape (..., p), as normal as it can; their covariance is shrunk a little to
        the curvature at the mode, since the draws are few and correlated. Draws that stood still say nothing:
        then the map is that of the mode."""
        flat = np.asarray(z, dtype=float).reshape(-1, len(found.mode))
        middle, scale = flat.mean(axis=0), flat.std(axis=0, ddof=1)
        if not (scale > 1e-3 * np.sqrt(np.diag(found.covariance))).all():
            return cls.of_laplace(found)
        standard = (flat - middle) / scale
        power = np.clip([stats.yeojohnson_normmax(column) for column in standard.T], *_POWERS)
        u = np.stack([stats.yeojohnson(column, p) for column, p in zip(standard.T, power)], axis=1)
        keep = len(flat) / (len(flat) + 5.0 * len(middle))
        covariance = keep * np.atleast_2d(np.cov(u.T))
        covariance += (1.0 - keep) * found.covariance / np.outer(scale, scale)
        return cls(middle, scale, power, u.mean(axis=0), np.linalg.cholesky(covariance))

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Scores z, shape (..., p), of coordinates x of the same shape."""
        return np.asarray(self._inverse(x)[0])

    def _inverse(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores, the slope dz/du, and the derivative of its logarithm in u."""
        u = self.centre + np.asarray(x, dtype=float) @ self.factor.T
        upper = u >= 0.0
        power = np.where(upper, self.power, 2.0 - self.power)
        # the two branches are mirror images with powers p and 2 - p
        base = np.log1p(power * np.abs(u)) / power
        standard = np.copysign(np.expm1(base), u)
        slope = np.exp((1.0 - power) * base)
        bend = np.where(upper, 1.0, -1.0) * (1.0 - power) / (1.0 + power * np.abs(u))
        return self.middle + self.scale * standard, self.scale * slope, bend

    def posterior(self, likelihood: Likelihood, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Log posterior density in x, up to a constant, with its gradient, shape (p,)."""
        z, slope, bend = self._inverse(x)
        value, gradient = likelihood.posterior(z)
        return value + float(np.log(slope).sum()), (gradient * slope + bend) @ self.factor
