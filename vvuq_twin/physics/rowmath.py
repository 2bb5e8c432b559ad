"""Exponential and logarithm of a row of numbers, written so that the compiler vectorises them.

numba calls the C library's exp and log once per number unless Intel's vector library is installed; in the
treatment and heterogeneity kernels that is most of the time. These use the usual reductions: the argument's
exponent bits are split off and the rest is a polynomial on a short interval (Taylor for exp, the series of
2 atanh s for log), truncated below round-off. Accurate to a few units in the last place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numba import njit

Array = np.ndarray

#: No NaN assumptions and no reassociation: the kernels must see non-finite values.
compiled = cast(
    Callable[[Callable[..., Any]], Callable[..., Any]],
    njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"}),
)

_LOG2_E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10
_LN2 = 0.6931471805599453
_SQRT2 = 1.4142135623730951
#: Adding and subtracting this rounds to a whole number (1.5 * 2^52).
_ROUND = 6755399441055744.0


@compiled
def exp_row(x: Array, size: int, scale: Array) -> None:
    """``x[:size] <- exp(x[:size])``; arguments are clipped to [-690, 690]; ``scale`` is a work row."""
    bits = scale.view(np.int64)
    for k in range(size):
        t = x[k]
        t = 690.0 if t > 690.0 else t
        t = -690.0 if t < -690.0 else t
        rounded = t * _LOG2_E + _ROUND
        scale[k] = rounded
        n = rounded - _ROUND
        r = (t - n * _LN2_HIGH) - n * _LN2_LOW
        p = 1.0 / 6227020800.0
        p = p * r + 1.0 / 479001600.0
        p = p * r + 1.0 / 39916800.0
        p = p * r + 1.0 / 3628800.0
        p = p * r + 1.0 / 362880.0
        p = p * r + 1.0 / 40320.0
        p = p * r + 1.0 / 5040.0
        p = p * r + 1.0 / 720.0
        p = p * r + 1.0 / 120.0
        p = p * r + 1.0 / 24.0
        p = p * r + 1.0 / 6.0
        p = p * r + 0.5
        p = p * r + 1.0
        x[k] = p * r + 1.0
    for k in range(size):
        bits[k] = (bits[k] + 1023) << 52  # the whole number sits in the low bits of the rounded sum
    for k in range(size):
        x[k] *= scale[k]


@compiled
def log_row(x: Array, size: int, mantissa: Array) -> None:
    """``x[:size] <- log(abs(x[:size]))``, zero taken as the smallest normal number; ``mantissa`` is a work row."""
    bits, out = x.view(np.int64), mantissa.view(np.int64)
    for k in range(size):
        out[k] = (bits[k] & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000
    for k in range(size):  # the biased exponent as the low bits of 2^52
        bits[k] = ((bits[k] >> 52) & 0x7FF) | 0x4330000000000000
    for k in range(size):
        e = x[k] - (4503599627370496.0 + 1023.0)
        m = mantissa[k]
        above = m > _SQRT2
        m = 0.5 * m if above else m
        e = e + 1.0 if above else e
        s = (m - 1.0) / (m + 1.0)
        q = s * s
        p = 1.0 / 21.0
        p = p * q + 1.0 / 19.0
        p = p * q + 1.0 / 17.0
        p = p * q + 1.0 / 15.0
        p = p * q + 1.0 / 13.0
        p = p * q + 1.0 / 11.0
        p = p * q + 1.0 / 9.0
        p = p * q + 1.0 / 7.0
        p = p * q + 1.0 / 5.0
        p = p * q + 1.0 / 3.0
        p = p * q + 1.0
        x[k] = e * _LN2 + 2.0 * s * p
