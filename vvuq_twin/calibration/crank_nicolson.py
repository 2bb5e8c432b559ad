"""Many Markov chains at once, without gradients: Crank-Nicolson proposals about a Gaussian reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..domain.errors import BadInput
from ..domain.keys import Label, generator

#: How often the reference is taken anew from the chains during the burn-in.
RENEWALS = 4


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
        Per chain; during the burn-in the step is tuned to three acceptances in ten, and the reference is taken anew
        from the chains four times. Afterwards both stay as they are.
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

    def over_reference(x: np.ndarray) -> np.ndarray:
        return np.asarray(-0.5 * (x**2).sum(axis=1) + 0.5 * (((x - centre) @ back.T) ** 2).sum(axis=1))

    like = np.asarray(log_likelihood(z))
    if not np.isfinite(like).any():
        raise BadInput("no chain starts where the likelihood is finite", "calibration")
    step, kept, accepted = 0.3, np.empty((draws, *z.shape)), 0
    renewals = {burn_in * k // RENEWALS for k in range(1, RENEWALS + 1)}
    recent: list[np.ndarray] = []
    for i in range(burn_in + draws):
        noise = rng.standard_normal(z.shape) @ root.T
        tried = centre + np.sqrt(1.0 - step**2) * (z - centre) + step * noise
        there = np.asarray(log_likelihood(tried))
        with np.errstate(invalid="ignore"):  # minus infinity from minus infinity is not taken
            gain = there + over_reference(tried) - like - over_reference(z)
        yes = np.log(rng.uniform(size=len(z))) < np.where(np.isfinite(there), gain, -np.inf)
        # a chain that started where the model fails takes whatever does not
        yes |= ~np.isfinite(like) & np.isfinite(there)
        z, like = np.where(yes[:, None], tried, z), np.where(yes, there, like)
        if i >= burn_in:
            kept[i - burn_in] = z
            accepted += int(yes.sum())
            continue
        step = float(np.clip(step * np.exp((yes.mean() - 0.3) / np.sqrt(1.0 + i / 10.0)), 1e-3, 0.999))
        recent.append(z)
        if i + 1 in renewals:
            seen = np.concatenate(recent[len(recent) // 2 :])
            if len(seen) > 5 * z.shape[1]:
                cov = np.atleast_2d(np.cov(seen.T))
                centre, root = seen.mean(axis=0), np.linalg.cholesky(cov + 1e-8 * np.diag(np.diag(cov)))
                back = np.linalg.inv(root)
            recent = []
    return Walk(kept, accepted / (draws * len(z)), step)
