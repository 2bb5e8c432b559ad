"""Many Markov chains at once, without gradients: Crank-Nicolson proposals about a Gaussian reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..domain.errors import BadInput
from ..domain.keys import Label, generator


@dataclass(frozen=True)
class Walk:
    """Draws of several chains.

    Parameters
    ----------
    z : ndarray, shape (D, C, p)
    acceptance : float
    step : float
        The proposals' ``beta``, in 0..1.
    """

    z: np.ndarray
    acceptance: float
    step: float

    def r_hat(self) -> np.ndarray:
        """Split R-hat of each coordinate, shape (p,) (Gelman et al. 2013, section 11.4)."""
        half = len(self.z) // 2
        parts = np.concatenate([self.z[:half], self.z[half : 2 * half]], axis=1)
        within = parts.var(axis=0, ddof=1).mean(axis=0)
        between = half * parts.mean(axis=0).var(axis=0, ddof=1)
        return np.asarray(np.sqrt((half - 1) / half + between / np.maximum(within, 1e-300) / half))

    def pooled(self) -> np.ndarray:
        """All draws, shape (D C, p)."""
        return self.z.reshape(-1, self.z.shape[2])


def crank_nicolson(
    log_likelihood: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    centre: np.ndarray,
    root: np.ndarray,
    draws: int,
    burn_in: int,
    seed: int,
    *labels: Label,
) -> Walk:
    """Sample ``N(0, I) x likelihood`` by chains side by side.

    Parameters
    ----------
    log_likelihood : callable
        Of scores (C, p), shape (C,); -inf where the model failed.
    start : ndarray, shape (C, p)
    centre : ndarray, shape (p,)
    root : ndarray, shape (p, p)
        The reference is ``N(centre, root root^T)``, a rough posterior: the better it is, the larger the steps. It
        does not change what is sampled.
    draws, burn_in : int
        Per chain; during the burn-in the step is tuned to three acceptances in ten.
    seed : int
    *labels : str or int

    Raises
    ------
    BadInput
        If there is no chain or no draw, or no chain starts where the likelihood is finite.

    Notes
    -----
    ``z' = c + sqrt(1 - b^2) (z - c) + b root xi`` leaves the reference as it is, so what is accepted by is the
    target over the reference (Pinski, Simpson, Stuart & Weber 2015, SIAM J. Sci. Comput. 37:A2733; Cotter et al. 2013).
    """
    z = np.array(start, dtype=float)
    if z.ndim != 2 or len(z) < 1 or draws < 4:
        raise BadInput(f"chains of shape {z.shape} with {draws} draws are not enough", "calibration")
    rng = generator(seed, "crank-nicolson", *labels)
    back = np.linalg.inv(root)

    def level(x: np.ndarray) -> np.ndarray:
        return np.asarray(
            log_likelihood(x) - 0.5 * (x**2).sum(axis=1) + 0.5 * (((x - centre) @ back.T) ** 2).sum(axis=1)
        )

    here = level(z)
    if not np.isfinite(here).any():
        raise BadInput("no chain starts where the likelihood is finite", "calibration")
    step, kept, accepted = 0.3, np.empty((draws, *z.shape)), 0
    for i in range(burn_in + draws):
        noise = rng.standard_normal(z.shape) @ root.T
        tried = centre + np.sqrt(1.0 - step**2) * (z - centre) + step * noise
        there = level(tried)
        yes = np.log(rng.uniform(size=len(z))) < np.where(np.isfinite(there), there - here, -np.inf)
        z, here = np.where(yes[:, None], tried, z), np.where(yes, there, here)
        if i < burn_in:
            step = float(np.clip(step * np.exp((yes.mean() - 0.3) / np.sqrt(1.0 + i / 10.0)), 1e-3, 0.999))
        else:
            kept[i - burn_in] = z
            accepted += int(yes.sum())
    return Walk(kept, accepted / (draws * len(z)), step)
