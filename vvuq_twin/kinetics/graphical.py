"""The Patlak plot: net uptake of a tracer that is trapped, from the straight part of a graph.

After a time t* in which everything reversible has come to follow the plasma,
``C(t)/Cp(t) = Ki integral Cp / Cp(t) + V0`` (Patlak et al. 1983, J Cereb Blood Flow Metab 3:1).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..domain.errors import BadInput
from .convolution import checked_input
from .tracer import PATLAK, _edges, fixed_columns


class PatlakPlot(NamedTuple):
    """Slope (1/min) and intercept of the plot of n curves, standard errors, and how straight it is."""

    ki: np.ndarray
    v0: np.ndarray
    ki_se: np.ndarray
    v0_se: np.ndarray
    #: Coefficient of determination.
    r2: np.ndarray


def patlak_plot(
    curves: np.ndarray,
    cp: ArrayLike,
    times: ArrayLike,
    start: float,
    *,
    at: ArrayLike | None = None,
    frames: ArrayLike | None = None,
) -> PatlakPlot:
    """Straight line through the plot from ``start`` on, by least squares.

    Parameters
    ----------
    curves : ndarray, shape (n, T)
        In the unit of the input; NaN marks a missing sample.
    cp, times : array_like, shape (A,)
        Plasma, piecewise linear between its times in min.
    start : float
        t*, min: samples (or the middle of frames) before it are not used.
    at : array_like, shape (T,), optional
        Sample times; ``times`` by default.
    frames : array_like, shape (T, 2), optional
        In place of ``at``: the curves are averages over these frames; so are then the plasma and its integral.

    Raises
    ------
    BadInput
        If shapes do not fit, or fewer than three samples with plasma above zero come after ``start``.
    """
    c, ta = checked_input(cp, times)
    edges = _edges(ta if at is None else at, frames)
    y = np.asarray(curves, dtype=float)
    if y.ndim != 2 or y.shape[1] != len(edges):
        raise BadInput(
            f"curves of shape {y.shape} do not fit {len(edges)} samples", "Patlak plot", "give (n, T)"
        )
    plasma, integral = fixed_columns(PATLAK, ta, c, c, edges, 0.0)
    middle = edges if edges.ndim == 1 else edges.mean(axis=1)
    late = (middle >= start) & (plasma > 0)
    if late.sum() < 3:
        raise BadInput(
            f"{int(late.sum())} samples come after {start:g} min, too few for a line",
            "Patlak plot",
            "start earlier",
        )
    x, y = (integral / np.where(late, plasma, 1.0))[late], y[:, late] / plasma[late]
    there = np.isfinite(y)
    y = np.where(there, y, 0.0)
    n = there.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mx, my = (there @ x) / n, y.sum(axis=1) / n
        dx, dy = (x - mx[:, None]) * there, (y - my[:, None]) * there
        sxx, sxy, syy = (dx**2).sum(axis=1), (dx * dy).sum(axis=1), (dy**2).sum(axis=1)
        ki = sxy / sxx
        rss = np.maximum(syy - ki * sxy, 0.0)
        var = rss / (n - 2)
        ki_se = np.sqrt(var / sxx)
        v0_se = np.sqrt(var * (1.0 / n + mx**2 / sxx))
        r2 = 1.0 - rss / syy
    few = n < 3
    parts = [np.where(few, np.nan, v) for v in (ki, my - ki * mx, ki_se, v0_se, r2)]
    return PatlakPlot(*parts)
