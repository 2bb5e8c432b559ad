"""What keeps the spread from collapsing: relaxation and factors after the analysis, adaptive ones before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..domain.errors import BadInput


@dataclass(frozen=True)
class Inflation:
    """Inflation after the analysis, applied in this order.

    Parameters
    ----------
    rtpp : float
        Relaxation to prior perturbations (Zhang, Snyder & Sun 2004): the anomalies become
        ``(1 - rtpp) A_a + rtpp A_b``. 0 is off.
    rtps : float
        Relaxation to prior spread (Whitaker & Hamill 2012): each column's posterior standard deviation
        s_a becomes ``(1 - rtps) s_a + rtps s_b`` with s_b the one before the analysis. 0 is off.
    factor : float
        The anomalies are then multiplied by this. 1 is off.

    Raises
    ------
    BadInput
        If a relaxation is outside 0..1 or the factor is not positive.
    """

    rtps: float = 0.0
    factor: float = 1.0
    rtpp: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("spread", self.rtps), ("perturbations", self.rtpp)):
            if not 0.0 <= value <= 1.0:
                raise BadInput(
                    f"the relaxation to prior {name} ({value:g}) is not between 0 and 1", "inflation"
                )
        if not (np.isfinite(self.factor) and self.factor > 0):
            raise BadInput(f"the inflation factor ({self.factor:g}) is not positive", "inflation")

    @property
    def active(self) -> bool:
        return self.rtps > 0 or self.rtpp > 0 or self.factor != 1

    def apply(self, prior_anomalies: np.ndarray, posterior: np.ndarray) -> np.ndarray:
        """The posterior (N, b), inflated, given the prior's anomalies (N, b)."""
        mean = posterior.mean(axis=0)
        anomalies = posterior - mean
        if self.rtpp > 0:
            anomalies += self.rtpp * (prior_anomalies - anomalies)
        if self.rtps > 0:
            before = np.sqrt((prior_anomalies**2).sum(axis=0) / max(len(prior_anomalies) - 1, 1))
            after = np.sqrt((anomalies**2).sum(axis=0) / max(len(anomalies) - 1, 1))
            ratio = np.divide(before, after, out=np.ones_like(after), where=after > 0)
            anomalies *= 1.0 + self.rtps * (ratio - 1.0)
        if self.factor != 1:
            anomalies *= self.factor
        return np.asarray(mean + anomalies)


@dataclass(frozen=True)
class Adaptive:
    """Covariance inflation of the prior, estimated from the innovations as time goes on.

    Parameters
    ----------
    sd : float
        Standard deviation of what is thought of the inflation before each scan. The smaller, the steadier and
        the slower: an observation with signal over noise t moves the estimate by about ``sd^2 t^2 / 2``.
    low, high : float
        Bounds of the estimate.

    Raises
    ------
    BadInput
        If the deviation or the lower bound is not positive, or the bounds are in the wrong order.

    Notes
    -----
    Miyoshi (2011), Mon. Wea. Rev. 139:1519, eq. 9-13. In a tile with taper rho, innovation d and predicted
    variance HPH^T, one scan says ``(d^T rho R^-1 d - tr rho) / tr(HPH^T rho R^-1)`` with variance
    ``2/tr(rho) ((lambda t + tr rho)/t)^2``, and a scalar Kalman filter follows it. Global schemes have one
    lambda, adaptive in time; ``LETKF`` one for each tile, adaptive in time and space.
    """

    sd: float = 0.1
    low: float = 1.0
    high: float = 10.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.sd) and self.sd > 0 and 0 < self.low <= self.high):
            raise BadInput(
                f"adaptive inflation cannot have deviation {self.sd:g} and bounds {self.low:g} to {self.high:g}",
                "inflation",
            )

    def estimate(
        self, before: np.ndarray, square: np.ndarray, trace: np.ndarray, weight: np.ndarray
    ) -> np.ndarray:
        """The next inflation of the covariance, one for each tile.

        Parameters
        ----------
        before : ndarray, shape (T,)
        square : ndarray, shape (T,)
            ``d^T rho R^-1 d``.
        trace : ndarray, shape (T,)
            ``tr(HPH^T rho R^-1)`` of the ensemble as it came, not inflated.
        weight : ndarray, shape (T,)
            ``tr rho``; without observations the inflation stays.
        """
        t = np.where(trace > 0, trace, 1.0)
        w = np.where(weight > 0, weight, 1.0)
        seen = (square - weight) / t
        variance = 2.0 / w * ((before * t + w) / t) ** 2
        after = (before * variance + seen * self.sd**2) / (variance + self.sd**2)
        after = np.where((trace > 0) & (weight > 0), after, before)
        return np.asarray(np.clip(after, self.low, self.high))


def sampling_inflation(before: np.ndarray, after: np.ndarray, fitted: Sequence[float]) -> np.ndarray:
    """An analysis of few members, its anomalies inflated for what they could not know of the gain.

    Parameters
    ----------
    before, after : ndarray, shape (K, b)
        Members before and after the whole analysis (all steps of an iterative one).
    fitted : sequence of float
        Degrees of freedom for signal that the gain of each step was fitted with (``fitted`` of its line in the history).

    Returns
    -------
    ndarray, shape (K, b)
        Each column's anomalies times ``sqrt(1 + r 2 f / (1 - f))``, with ``1 - f`` the product of ``1 - fitted / (K - 1)``
        over the steps and r the share of the column's variance that the analysis left, one at most.

    Raises
    ------
    BadInput
        If a step's signal has as many degrees of freedom as the ensemble: then its spread says nothing.

    Notes
    -----
    A gain from K members is a regression fitted to them. Where the observations say nothing of a column, the fit
    still takes the share f of its variance (in the sample) and adds as much error (out of it), as in any
    least-squares fit, so that the error's variance is (1 + f)/(1 - f) of the sample's. Of several steps with perturbed
    observations each fits an ensemble of its own: each takes its share of the variance that is left and adds as much
    error, so that the sum of the two stays and the same formula holds. Where the observations fix a column, the known
    error of the observations rules and little is lost. Between the two r interpolates: measured, not derived
    (docs/assimilation.md). It is for ensembles that are analysed a few times: cycled filters are tuned.
    """
    shares = np.asarray(fitted, dtype=float) / (len(after) - 1)
    if not ((shares >= 0.0) & (shares < 1.0)).all():
        raise BadInput(
            f"{len(after)} members cannot carry {max(fitted):.3g} degrees of freedom for signal",
            "inflation",
            "use more members, or localise",
        )
    share = 1.0 - np.prod(1.0 - shares)
    variance = after.var(axis=0, ddof=1)
    earlier = before.var(axis=0, ddof=1)
    left = np.divide(variance, earlier, out=np.ones_like(variance), where=earlier > 0)
    factor = np.sqrt(1.0 + np.minimum(left, 1.0) * 2.0 * share / (1.0 - share))
    mean = after.mean(axis=0)
    return np.asarray(mean + factor * (after - mean))
