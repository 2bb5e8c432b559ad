"""The continuous ranked probability score in parts: reliability, resolution, uncertainty."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .probability import _pair


class CrpsParts(NamedTuple):
    """``crps = reliability + potential``, ``potential = uncertainty - resolution``."""

    crps: float
    reliability: float
    resolution: float
    uncertainty: float

    @property
    def potential(self) -> float:
        """The score if the probabilities were right."""
        return self.crps - self.reliability


def crps_parts(y: ArrayLike, sample: ArrayLike) -> CrpsParts:
    """Decompose the mean CRPS of many forecasts.

    Parameters
    ----------
    y : array_like, shape (M,)
        Outcomes.
    sample : array_like, shape (N, M)
        Members.

    Returns
    -------
    CrpsParts
        In the outcome's unit. Reliability is zero where the outcome lies below the i-th member with frequency
        i/N; resolution is what the forecast is better by than the outcomes' own distribution.

    Raises
    ------
    BadInput
        If the shapes do not fit.

    Notes
    -----
    Hersbach (2000), Weather and Forecasting 15:559, eq. 26-37.
    """
    obs, x = _pair(np.ravel(y), sample)
    n, m = x.shape
    x = np.sort(x, axis=0)
    above = np.clip(obs - x[:-1], 0.0, np.diff(x, axis=0)).mean(axis=1) if n > 1 else np.zeros(0)
    below = np.clip(x[1:] - obs, 0.0, np.diff(x, axis=0)).mean(axis=1) if n > 1 else np.zeros(0)
    # widths and frequencies of the bins between members, and of what lies outside all of them
    width = above + below
    frequency = np.divide(below, width, out=np.zeros_like(width), where=width > 0)
    p = np.arange(1, n) / n
    low, high = np.maximum(x[0] - obs, 0.0).mean(), np.maximum(obs - x[-1], 0.0).mean()
    first, last = float(np.mean(obs < x[0])), float(np.mean(obs < x[-1]))
    width = np.concatenate(
        [[low / first if first > 0 else 0.0], width, [high / (1 - last) if last < 1 else 0.0]]
    )
    frequency = np.concatenate([[first], frequency, [last]])
    p = np.concatenate([[0.0], p, [1.0]])
    reliability = float(np.sum(width * (frequency - p) ** 2))
    potential = float(np.sum(width * frequency * (1.0 - frequency)))
    ordered = np.sort(obs)
    share = np.arange(1, m) / m
    uncertainty = float(np.sum(share * (1.0 - share) * np.diff(ordered)))
    return CrpsParts(reliability + potential, reliability, uncertainty - potential, uncertainty)
