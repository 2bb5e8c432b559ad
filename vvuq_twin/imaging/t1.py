"""T1 by variable flip angle with its standard error, by the linear form and by least squares on the signal.

The spoiled gradient echo (Ernst & Anderson 1966): ``S = M0 sin a (1 - E1)/(1 - E1 cos a)``, ``E1 = exp(-TR R1)``.
A map of the transmit field (B1) multiplies the nominal angles. Angles in radians, times in s.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import ArrayLike

from ..domain.errors import BadInput


class T1Map(NamedTuple):
    """T1 (s) and M0 with standard errors; NaN where the signals follow no relaxation.

    The standard errors are NaN as well where nothing says how large the noise is (two angles, none given).
    """

    t1: np.ndarray
    m0: np.ndarray
    t1_se: np.ndarray
    m0_se: np.ndarray
    #: Root mean square residual over the degrees of freedom left, in units of the signal; 0 for two angles.
    residual: np.ndarray


def spoiled_gradient_echo(m0: Any, r1: Any, flip: Any, repetition_time: float) -> np.ndarray:
    """Steady-state signal for magnetisation ``m0`` and relaxation rate ``r1`` (1/s); arrays broadcast."""
    e1 = np.exp(-repetition_time * np.asarray(r1, dtype=float))
    return np.asarray(m0 * np.sin(flip) * (1.0 - e1) / (1.0 - e1 * np.cos(flip)))


def _angles(
    signal: np.ndarray, flips: ArrayLike, repetition_time: float, b1: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Signals (A, n) and actual angles (A, n)."""
    a = np.asarray(flips, dtype=float)
    s = np.asarray(signal, dtype=float)
    if a.ndim != 1 or len(a) != len(s) or len(a) < 2:
        raise BadInput(
            f"{len(s)} images came with {a.size} flip angles",
            "T1 map",
            "give one angle an image, two at least",
        )
    if len(np.unique(a)) < 2 or not ((a > 0) & (a < np.pi)).all():
        raise BadInput(
            "the flip angles are all the same or not between 0 and 180 degrees", "T1 map", "give radians"
        )
    if not repetition_time > 0:
        raise BadInput(
            f"the repetition time is {repetition_time:g} s", "T1 map", "give a positive time in seconds"
        )
    flat = s.reshape(len(a), -1)
    if b1 is None:
        return flat, np.broadcast_to(a[:, None], flat.shape)
    field = np.asarray(b1, dtype=float)
    if field.shape != s.shape[1:]:
        raise BadInput(
            f"the B1 map of shape {field.shape} is not on the images' grid {s.shape[1:]}",
            "B1 map",
            "resample it",
        )
    middle = float(np.nanmedian(field)) if np.isfinite(field).any() else np.nan
    if not 0.2 < middle < 5.0:
        raise BadInput(
            f"the median of the B1 map is {middle:.3g}, but it must hold actual over nominal angle", "B1 map",
            "divide a map in per cent by 100",
        )  # fmt: skip
    return flat, a[:, None] * field.ravel()[None]


def t1_linear(
    signal: np.ndarray,
    flips: ArrayLike,
    repetition_time: float,
    b1: np.ndarray | None = None,
    noise_sd: float | np.ndarray | None = None,
) -> T1Map:
    """T1 and M0 by the linear form ``S/sin a = E1 S/tan a + M0 (1 - E1)`` (Gupta 1977, Deoni 2003).

    Parameters
    ----------
    signal : ndarray, shape (A, ...)
    flips : array_like, shape (A,)
        Nominal, radians.
    repetition_time : float
        s.
    b1 : ndarray, shape (...), optional
        Actual over nominal angle.
    noise_sd : float or ndarray, shape (...), optional
        Standard deviation of the signal's noise; from the residuals if absent and there are more than two angles.

    Raises
    ------
    BadInput
        If angles, images and the B1 map do not fit each other.
    """
    s, a = _angles(signal, flips, repetition_time, b1)
    with np.errstate(divide="ignore", invalid="ignore"):
        sin, tan = np.sin(a), np.tan(a)
        y, x = s / sin, s / tan
        dx, dy = x - x.mean(axis=0), y - y.mean(axis=0)
        below = (dx**2).sum(axis=0)
        e1 = (dx * dy).sum(axis=0) / np.where(below > 0, below, np.nan)
        e1 = np.where((e1 > 0) & (e1 < 1), e1, np.nan)
        m0 = (y.mean(axis=0) - e1 * x.mean(axis=0)) / (1.0 - e1)
        t1 = -repetition_time / np.log(e1)
        # both sides of the regression carry the same noise: its derivative with respect to each signal
        de1 = (dx / sin + dy / tan - 2.0 * e1 * dx / tan) / below
        count = len(s)
        dm0 = ((1.0 / sin - e1 / tan) / count - de1 * x.mean(axis=0)) / (1.0 - e1) + m0 * de1 / (1.0 - e1)
        residual = s - spoiled_gradient_echo(m0, 1.0 / t1, a, repetition_time)
        sd, rms = _noise(residual, noise_sd, signal.shape[1:])
        t1_se = sd * np.sqrt((de1**2).sum(axis=0)) * repetition_time / (e1 * np.log(e1) ** 2)
        m0_se = sd * np.sqrt((dm0**2).sum(axis=0))
    shape = signal.shape[1:]
    return T1Map(*(v.reshape(shape) for v in (t1, m0, t1_se, m0_se, rms)))


def _noise(
    residual: np.ndarray, given: float | np.ndarray | None, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Noise to be propagated and root mean square residual, shape (n,)."""
    free = len(residual) - 2
    rms = np.sqrt((residual**2).sum(axis=0) / max(free, 1)) if free > 0 else np.zeros(residual.shape[1])
    if given is not None:
        return np.broadcast_to(np.asarray(given, dtype=float), shape).ravel(), rms
    return (rms if free > 0 else np.full(residual.shape[1], np.nan)), rms


@numba.njit(cache=True)
def _refine(s: np.ndarray, a: np.ndarray, tr: float, log_r1: np.ndarray, out: np.ndarray) -> None:
    """Least squares in log R1 with M0 projected out, from ``log_r1``; log R1, M0, J^T J and RSS into ``out`` (n, 6)."""
    A, n = s.shape
    f, g = np.zeros(A), np.zeros(A)
    for v in range(n):
        x = log_r1[v]
        if not np.isfinite(x):
            out[v] = np.nan
            continue
        best, step, first = np.inf, 0.0, x
        for _ in range(100):
            tried = first + step
            e = np.exp(-tr * np.exp(tried))
            de = -tr * np.exp(tried) * e
            ff = fg = gg = fs = 0.0
            for i in range(A):
                c, q = np.cos(a[i, v]), np.sin(a[i, v])
                below = 1.0 - e * c
                f[i] = q * (1.0 - e) / below
                g[i] = q * (c - 1.0) / (below * below) * de
                ff += f[i] * f[i]
                fg += f[i] * g[i]
                gg += g[i] * g[i]
                fs += f[i] * s[i, v]
            m0 = fs / ff
            rss = slope = 0.0
            for i in range(A):
                r = s[i, v] - m0 * f[i]
                rss += r * r
                slope += r * g[i]
            if rss > best:
                step *= 0.5
                if abs(step) < 1e-14:
                    break
                continue
            best, first = rss, tried
            out[v, 0], out[v, 1], out[v, 2] = tried, m0, ff
            out[v, 3], out[v, 4], out[v, 5] = m0 * fg, m0 * m0 * gg, rss
            bend = m0 * m0 * (gg - fg * fg / ff)
            step = m0 * slope / bend if bend > 0.0 else 0.0
            step = min(max(step, -0.7), 0.7)
            if abs(step) < 1e-13:
                break


def t1_nonlinear(
    signal: np.ndarray,
    flips: ArrayLike,
    repetition_time: float,
    b1: np.ndarray | None = None,
    noise_sd: float | np.ndarray | None = None,
) -> T1Map:
    """T1 and M0 by least squares on the signal itself; parameters as :func:`t1_linear`.

    The linear form weights noise by 1/sin a and is biased where noise is large; this starts from it and takes
    Gauss-Newton steps in log R1 with M0 projected out. NaN where the linear start has none.
    """
    start = t1_linear(signal, flips, repetition_time, b1)
    s, a = _angles(signal, flips, repetition_time, b1)
    out = np.full((s.shape[1], 6), np.nan)
    with np.errstate(invalid="ignore"):
        _refine(
            np.ascontiguousarray(s), np.ascontiguousarray(a), repetition_time, -np.log(start.t1.ravel()), out
        )
        t1, m0 = np.exp(-out[:, 0]), out[:, 1]
        residual = s - spoiled_gradient_echo(m0, 1.0 / t1, a, repetition_time)
        sd, rms = _noise(residual, noise_sd, signal.shape[1:])
        det = out[:, 2] * out[:, 4] - out[:, 3] ** 2
        det = np.where(det > 0, det, np.nan)
        t1_se, m0_se = sd * t1 * np.sqrt(out[:, 2] / det), sd * np.sqrt(out[:, 4] / det)
    return T1Map(*(v.reshape(signal.shape[1:]) for v in (t1, m0, t1_se, m0_se, rms)))
