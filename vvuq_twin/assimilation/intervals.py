"""Moments of a normal variable that is only known to lie in an interval."""

from __future__ import annotations

import numpy as np
from scipy import special

_HALF_LOG_2PI = 0.5 * np.log(2.0 * np.pi)


def interval_moments(
    low: np.ndarray, high: np.ndarray, mean: np.ndarray, sd: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log probability, mean and variance of a normal variable restricted to ``[low, high]``.

    Parameters
    ----------
    low, high, mean, sd : ndarray, broadcast
        ``low`` may be -inf and ``high`` +inf; ``low < high``.

    Returns
    -------
    log_probability, mean, variance : ndarray

    Notes
    -----
    The interval is mirrored into the lower tail, where ``log Phi`` loses no digits. For an interval that
    is narrow against ``sd``, or far in a tail, where the differences of the textbook moments cancel, the
    density is taken as exponential over the interval with the rate at its middle: the mean and variance of
    that truncated exponential.
    """
    low, high, mean, sd = np.broadcast_arrays(low, high, mean, sd)
    a, b = (low - mean) / sd, (high - mean) / sd
    flip = a + b > 0
    a, b = np.where(flip, -b, a), np.where(flip, -a, b)
    la, lb = special.log_ndtr(a), special.log_ndtr(b)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        wide_log = lb + np.log1p(-np.exp(la - lb))
        middle, width = 0.5 * (a + b), b - a
        narrow = width * np.maximum(np.abs(middle), 1.0) < 0.05
        narrow_log = (
            -0.5 * middle**2 - _HALF_LOG_2PI + np.log(width) + np.log1p((middle**2 - 1.0) * width**2 / 24.0)
        )
        log_probability = np.where(narrow, narrow_log, wide_log)
        pa, pb = (
            np.exp(-0.5 * a**2 - _HALF_LOG_2PI - wide_log),
            np.exp(-0.5 * b**2 - _HALF_LOG_2PI - wide_log),
        )
        first = pa - pb
        ends = np.where(np.isfinite(a), a, 0.0) * pa - np.where(np.isfinite(b), b, 0.0) * pb
        second = 1.0 + ends - first**2
        m = np.where(narrow, middle - middle * width**2 / 12.0, np.clip(first, a, b))
        v = np.where(narrow, width**2 / 12.0, np.clip(second, 0.0, 1.0))
    m = np.where(flip, -m, m)
    return log_probability, mean + sd * m, sd**2 * v
