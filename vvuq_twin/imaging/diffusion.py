"""The apparent diffusion coefficient from diffusion-weighted images, with its standard error.

``S = S0 exp(-b ADC)`` (Stejskal & Tanner 1965). Signals of directions at one b-value are taken as samples of the same
curve: give their geometric mean, or all of them. b in s/mm2, ADC in mm2/s.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import ArrayLike

from ..domain.errors import BadInput


class AdcMap(NamedTuple):
    """ADC (mm2/s) and S0 with standard errors; NaN where a signal is not positive or the ADC would be negative."""

    adc: np.ndarray
    s0: np.ndarray
    adc_se: np.ndarray
    s0_se: np.ndarray
    #: Root mean square residual over the degrees of freedom left, in units of the signal; 0 for two b-values.
    residual: np.ndarray
    #: Voxels whose signal rises with b (noise, motion, misregistration): no diffusion, so no value.
    negative: np.ndarray


@numba.njit(cache=True)
def _fit(s: np.ndarray, b: np.ndarray, log_only: bool, out: np.ndarray) -> None:
    """ADC, S0, J^T J (S0 S0, S0 D, D D) and RSS into ``out`` (n, 6); weighted logarithms, then least squares."""
    B, n = s.shape
    for v in range(n):
        good = True
        w0 = wb = wbb = wy = wby = 0.0
        for i in range(B):
            if not s[i, v] > 0.0:
                good = False
                break
            w = s[i, v] ** 2
            y = np.log(s[i, v])
            w0 += w
            wb += w * b[i]
            wbb += w * b[i] * b[i]
            wy += w * y
            wby += w * b[i] * y
        if not good:
            out[v] = np.nan
            continue
        det = w0 * wbb - wb * wb
        d = -(w0 * wby - wb * wy) / det
        best, step = np.inf, 0.0
        for _ in range(100):
            tried = d + step
            ee = eg = gg = es = 0.0
            for i in range(B):
                e = np.exp(-b[i] * tried)
                ee += e * e
                eg -= b[i] * e * e
                gg += b[i] * b[i] * e * e
                es += e * s[i, v]
            s0 = es / ee
            if log_only:
                s0 = np.exp((wbb * wy - wb * wby) / det)
            rss = slope = 0.0
            for i in range(B):
                e = np.exp(-b[i] * tried)
                r = s[i, v] - s0 * e
                rss += r * r
                slope -= r * b[i] * e
            if rss > best:
                step *= 0.5
                if abs(step) < 1e-16:
                    break
                continue
            best, d = rss, tried
            out[v, 0], out[v, 1], out[v, 2] = d, s0, ee
            out[v, 3], out[v, 4], out[v, 5] = s0 * eg, s0 * s0 * gg, rss
            bend = s0 * s0 * (gg - eg * eg / ee)
            if log_only or not bend > 0.0:
                break
            step = s0 * slope / bend
            if abs(step) < 1e-15 + 1e-13 * abs(d):
                break


def fit_adc(
    signal: np.ndarray, b_values: ArrayLike, noise_sd: float | np.ndarray | None = None, linear: bool = False
) -> AdcMap:
    """ADC of every voxel.

    Least squares on the signals, from the weighted fit of their logarithms (weights S^2, which undo what the
    logarithm does to the noise); with ``linear`` that fit alone.

    Parameters
    ----------
    signal : ndarray, shape (B, ...)
    b_values : array_like, shape (B,)
        s/mm2.
    noise_sd : float or ndarray, shape (...), optional
        Noise of the signal; from the residuals if absent and there are more than two images.
    linear : bool

    Raises
    ------
    BadInput
        If b-values and images do not fit, or all b-values are the same, negative, or in another unit.

    Notes
    -----
    Magnitude noise is Rician: where the signal at the largest b is below three times the noise the ADC is too low.
    """
    b, s = np.ascontiguousarray(b_values, dtype=float), np.asarray(signal, dtype=float)
    if b.ndim != 1 or len(b) != len(s) or len(b) < 2:
        raise BadInput(
            f"{len(s)} images came with {b.size} b-values",
            "ADC map",
            "give one b-value an image, two at least",
        )
    if not np.isfinite(b).all() or (b < 0).any() or b.max() == b.min():
        raise BadInput("the b-values are negative, missing or all the same", "ADC map", "give them in s/mm2")
    if b.max() < 10.0:
        raise BadInput(
            f"the largest b-value is {b.max():g}, which is no weighting in s/mm2", "ADC map",
            "give b-values in s/mm2 (1 ms/um2 is 1000 s/mm2)",
        )  # fmt: skip
    shape = s.shape[1:]
    out = np.full((int(np.prod(shape)), 6), np.nan)
    _fit(np.ascontiguousarray(s.reshape(len(b), -1)), b, linear, out)
    negative = out[:, 0] < 0
    out[negative] = np.nan
    free = len(b) - 2
    with np.errstate(invalid="ignore", divide="ignore"):
        rms = np.sqrt(out[:, 5] / max(free, 1)) if free > 0 else np.where(np.isnan(out[:, 0]), np.nan, 0.0)
        if noise_sd is not None:
            sd = np.broadcast_to(np.asarray(noise_sd, dtype=float), shape).ravel()
        else:
            sd = rms if free > 0 else np.full(len(out), np.nan)
        det = out[:, 2] * out[:, 4] - out[:, 3] ** 2
        errors = sd * np.sqrt(out[:, 2] / det), sd * np.sqrt(out[:, 4] / det)
    parts = (out[:, 0], out[:, 1], *errors, rms, negative)
    return AdcMap(*(v.reshape(shape) for v in parts))
