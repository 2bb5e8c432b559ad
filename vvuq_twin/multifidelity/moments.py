"""What decides how well models of different cost work together: their covariances, from paired runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..domain.errors import BadInput

#: A standard deviation below this fraction of the value is round-off: the output does not vary.
_STILL = 1e-13


@dataclass(frozen=True)
class Moments:
    """Second and fourth moments of M models with q outputs each.

    Parameters
    ----------
    covariance : ndarray, shape (M, M, q)
        Of the models' values, output by output.
    squares : ndarray, shape (M, M, q)
        Covariance of the squared deviations ``(f_a - E f_a)^2`` and ``(f_b - E f_b)^2``.
    """

    covariance: np.ndarray
    squares: np.ndarray

    @property
    def models(self) -> int:
        return len(self.covariance)

    @property
    def correlation(self) -> np.ndarray:
        """Of each model with the first, shape (M, q); 0 where an output does not vary."""
        sd = np.sqrt(np.einsum("mmq->mq", self.covariance))
        scale = sd[0] * sd
        return np.where(scale > 0, self.covariance[0] / np.where(scale > 0, scale, 1.0), 0.0)

    @property
    def moving(self) -> np.ndarray:
        """Outputs that vary in the first model, bool of shape (q,)."""
        return np.asarray(self.covariance[0, 0] > 0)


def moments(y: np.ndarray) -> Moments:
    """Sample moments of paired runs.

    Parameters
    ----------
    y : ndarray, shape (n, M, q)
        Every model at the same n inputs.

    Raises
    ------
    BadInput
        If there are fewer than four inputs, or a value is not finite.
    """
    y = np.asarray(y, dtype=float)
    if y.ndim != 3 or len(y) < 4:
        raise BadInput(
            f"paired runs have shape {y.shape}, not (inputs, models, outputs) with four inputs or more",
            "multi-fidelity pilot",
            "run more pilot members",
        )
    if not np.isfinite(y).all():
        raise BadInput("a pilot run has a value that is not finite", "multi-fidelity pilot", "leave it out")
    centre, spread = y.mean(axis=0), y.std(axis=0)
    d = np.where(spread <= _STILL * np.abs(centre), 0.0, y - centre)
    n = len(y)
    s = d**2 - (d**2).mean(axis=0)
    return Moments(
        np.einsum("naq,nbq->abq", d, d) / (n - 1), np.einsum("naq,nbq->abq", s, s) / (n - 1)
    )  # fmt: skip
