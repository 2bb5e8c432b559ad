"""The size of the model's error, estimated with the state: a posterior of its variance on a grid."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..domain.errors import BadInput
from ..domain.observations import Observations
from .protocol import prepare, start
from .roots import Signal
from .whitening import whiten


@dataclass(frozen=True)
class ErrorVariance:
    """Factors on the model error's variance, with their probabilities.

    Parameters
    ----------
    factors : ndarray, shape (G,)
        Ascending, positive.
    log_weight : ndarray, shape (G,)

    Notes
    -----
    The correlation between a variance and a state is zero, so no Kalman gain can learn it. Its likelihood is not
    flat: given the factor q the innovation is normal with covariance ``HPH^T + q HQH^T + R``. Dee (1995), Mon. Wea.
    Rev. 123:1128; the recursion over cycles treats the filter's own state as known, as he does. With a memory
    below one older scans count less, for an error that changes.
    """

    factors: np.ndarray
    log_weight: np.ndarray

    @staticmethod
    def prior(median: float = 1.0, sd_log: float = 1.5, points: int = 61) -> ErrorVariance:
        """A log-normal prior of the factor, on a grid over three deviations.

        Raises
        ------
        BadInput
            If the median or the deviation is not positive.
        """
        if not (median > 0 and sd_log > 0):
            raise BadInput(
                "the prior of the model error's variance has no positive median and width", "assimilation"
            )
        z = np.linspace(-3.0, 3.0, points)
        return ErrorVariance(median * np.exp(sd_log * z), -0.5 * z**2)

    @property
    def weights(self) -> np.ndarray:
        w = np.exp(self.log_weight - self.log_weight.max())
        return np.asarray(w / w.sum())

    @property
    def mean(self) -> float:
        """Posterior mean of the factor."""
        return float(self.weights @ self.factors)

    def quantiles(self, levels: np.ndarray) -> np.ndarray:
        """Posterior quantiles of the factor, interpolated in its logarithm."""
        cdf = np.cumsum(self.weights) - 0.5 * self.weights
        return np.asarray(np.exp(np.interp(levels, cdf, np.log(self.factors))))

    def learn(
        self, clean: np.ndarray, noise: np.ndarray, observations: Observations, memory: float = 1.0
    ) -> ErrorVariance:
        """The posterior after one scan.

        Parameters
        ----------
        clean : ndarray, shape (N, m)
            Predictions of the members propagated without model error.
        noise : ndarray, shape (N, m)
            What model error of factor one adds to each.
        observations : Observations
        memory : float
            In 0..1: by which what was known before is tempered.
        """
        p = prepare(start(len(clean)), clean, observations, None)
        if not len(p.kept):
            return self
        error, k = p.observations.error, len(p.rows)
        extra = noise[np.ix_(p.rows, p.kept)]
        extra = (extra - extra.mean(axis=0)) / np.sqrt(k - 1.0)
        S, Q, d = whiten(error, p.anomalies), whiten(error, extra), whiten(error, p.innovation)
        log = np.empty(len(self.factors))
        for i, q in enumerate(self.factors):
            signal = Signal.of(np.concatenate([S, np.sqrt(q) * Q]), d)
            log[i] = -0.5 * (signal.chi_square() + np.sum(np.log1p(signal.values)))
        updated = memory * self.log_weight + log
        return replace(self, log_weight=updated - updated.max())
