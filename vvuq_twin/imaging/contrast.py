"""Concentration of a contrast agent from the signal of a spoiled gradient echo, its inverse, and its error.

Fast exchange: ``R1 = R10 + r1 C``. Angles in radians, times in s, R1 in 1/s, C in mM. T2* is neglected.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..domain.errors import BadInput
from .t1 import spoiled_gradient_echo


def concentration(
    signal: np.ndarray,
    baseline: np.ndarray,
    t1: np.ndarray | float,
    flip: Any,
    repetition_time: float,
    relaxivity: float,
) -> np.ndarray:
    """Concentration in mM from signal; the inverse of :func:`signal_of`.

    Parameters
    ----------
    signal : ndarray, shape (T, ...)
    baseline : ndarray, shape (...)
        Signal before the agent, in the same units.
    t1 : ndarray, shape (...) or float
        Before the agent, s.
    flip : float or ndarray, shape (...)
        Radians; with a B1 map, the actual angle of each voxel.
    repetition_time, relaxivity : float
        s, 1/(mM s).

    Returns
    -------
    ndarray, shape (T, ...)
        NaN where the signal is more than any relaxation rate can give, or the baseline is not positive.
    """
    r10 = 1.0 / np.asarray(t1, dtype=float)
    one = spoiled_gradient_echo(1.0, r10, flip, repetition_time) / np.sin(flip)
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(np.asarray(baseline) > 0, signal / np.asarray(baseline), np.nan) * one
        e1 = (1.0 - part) / (1.0 - np.cos(flip) * part)
        e1 = np.where(part < 1.0, e1, np.nan)
        return np.asarray((-np.log(e1) / repetition_time - r10) / relaxivity)


def signal_of(
    c: np.ndarray,
    baseline: np.ndarray | float,
    t1: np.ndarray | float,
    flip: Any,
    repetition_time: float,
    relaxivity: float,
) -> np.ndarray:
    """Signal of a concentration in mM, given the signal and T1 (s) without the agent."""
    r10 = 1.0 / np.asarray(t1, dtype=float)
    before = spoiled_gradient_echo(1.0, r10, flip, repetition_time)
    return np.asarray(
        baseline
        * spoiled_gradient_echo(1.0, r10 + relaxivity * np.asarray(c), flip, repetition_time)
        / before
    )


class ConcentrationError(NamedTuple):
    """Standard deviations of a concentration, mM, shape (T, ...), by where they come from.

    ``noise`` is independent from frame to frame; ``baseline`` and ``t1`` are one error each for all frames of a
    voxel, with the sign kept (a derivative times a standard deviation): a column of a covariance.
    """

    noise: np.ndarray
    baseline: np.ndarray
    t1: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """All three together, as if they were of one frame alone."""
        return np.asarray(np.sqrt(self.noise**2 + self.baseline**2 + self.t1**2))


def concentration_error(
    signal: np.ndarray,
    baseline: np.ndarray,
    t1: np.ndarray | float,
    flip: Any,
    repetition_time: float,
    relaxivity: float,
    *,
    signal_sd: np.ndarray | float,
    baseline_sd: np.ndarray | float = 0.0,
    t1_sd: np.ndarray | float = 0.0,
) -> ConcentrationError:
    """First-order error of :func:`concentration`.

    Parameters
    ----------
    signal, baseline, t1, flip, repetition_time, relaxivity
        As there.
    signal_sd : ndarray, shape (...) or float
        Noise of one frame, in units of the signal.
    baseline_sd, t1_sd : ndarray, shape (...) or float
        Standard deviations of the baseline (noise over the root of its frames) and of T1, s.
    """
    r10 = 1.0 / np.asarray(t1, dtype=float)
    cos, sin, tr = np.cos(flip), np.sin(flip), repetition_time
    e = np.exp(-tr * r10)
    one = spoiled_gradient_echo(1.0, r10, flip, tr) / sin
    slope = tr * e * (1.0 - cos) / (1.0 - e * cos) ** 2  # d one / d R10
    with np.errstate(divide="ignore", invalid="ignore"):
        base = np.where(np.asarray(baseline) > 0, baseline, np.nan)
        ratio = signal / base
        part = np.where(ratio * one < 1.0, ratio * one, np.nan)
        # d C / d part
        gain = (1.0 - cos) / ((1.0 - part) * (1.0 - part * cos)) / (tr * relaxivity)
        noise = np.abs(gain * one / base) * signal_sd
        from_base = -gain * part / base * baseline_sd
        from_t1 = (gain * ratio * slope - 1.0 / relaxivity) * (-(r10**2)) * t1_sd
    return ConcentrationError(np.asarray(noise), np.asarray(from_base), np.asarray(from_t1))


def refuse_saturation(c: np.ndarray, where: str, most: float = 0.5) -> np.ndarray:
    """Voxels with a saturated frame, shape (...), or a refusal where most of a region is.

    Parameters
    ----------
    c : ndarray, shape (T, n)
        Concentrations of a region, NaN where the signal is beyond what any concentration gives.
    where : str
        Which region, for the message.
    most : float
        Share of the region's voxels above which nothing can be made of it.

    Raises
    ------
    BadInput
        If more than ``most`` of the voxels have a saturated frame.
    """
    bad = np.asarray(np.isnan(c).any(axis=0))
    if bad.size and bad.mean() > most:
        raise BadInput(
            f"the signal of {100 * bad.mean():.0f} % of the voxels is beyond what any concentration can give", where,
            "check the T1 map, the flip angle, the repetition time and the baseline frames",
        )  # fmt: skip
    return bad
