"""Grid convergence: observed order, extrapolation and the grid convergence index.

Sources: Celik et al. 2008, J. Fluids Eng. 130:078001 (three grids of unequal ratios, the order by fixed-point
iteration, safety factor 1.25); Eca & Hoekstra 2014, J. Comput. Phys. 262:104 (least squares for more grids).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..domain.errors import BadInput

#: Celik et al. 2008.
SAFETY = 1.25


@dataclass(frozen=True)
class GridConvergence:
    """What three grids say of the finest.

    Parameters
    ----------
    order : float
        Observed order of accuracy.
    extrapolated : float
        The value at zero spacing.
    relative_error : float
        Of the finest grid to the next.
    extrapolated_relative_error : float
        Of the finest grid to the extrapolated value.
    index : float
        The grid convergence index of the finest grid, relative.
    oscillating : bool
        Whether the values do not approach from one side; then the order is not to be trusted.
    """

    order: float
    extrapolated: float
    relative_error: float
    extrapolated_relative_error: float
    index: float
    oscillating: bool


def grid_convergence(spacing: Sequence[float], values: Sequence[float]) -> GridConvergence:
    """Celik's procedure for three grids.

    Parameters
    ----------
    spacing : three floats
        Representative cell sizes, any order; (volume / cells)^(1/d).
    values : three floats
        The quantity on each grid.

    Raises
    ------
    BadInput
        If there are not three different spacings, values are not finite, or two values are equal
        (nothing to extrapolate).
    """
    h, phi = np.asarray(spacing, dtype=float), np.asarray(values, dtype=float)
    if h.shape != (3,) or phi.shape != (3,) or not np.isfinite([h, phi]).all() or (h <= 0).any():
        raise BadInput("three positive spacings and three finite values are needed", "grid convergence")
    order = np.argsort(h)
    h, phi = h[order], phi[order]
    r21, r32 = h[1] / h[0], h[2] / h[1]
    e21, e32 = phi[1] - phi[0], phi[2] - phi[1]
    if min(r21, r32) <= 1.0 or e21 == 0 or e32 == 0:
        raise BadInput("the grids or their values do not differ", "grid convergence", "use coarser grids")
    sign = np.sign(e32 / e21)
    p = abs(np.log(abs(e32 / e21))) / np.log(r21)
    for _ in range(200):
        q = np.log((r21**p - sign) / (r32**p - sign)) if r21 != r32 else 0.0
        new = abs(np.log(abs(e32 / e21)) + q) / np.log(r21)
        if abs(new - p) < 1e-13 * max(1.0, p):
            break
        p = new
    extrapolated = (r21**p * phi[0] - phi[1]) / (r21**p - 1.0)
    relative = abs(e21 / phi[0])
    return GridConvergence(
        order=float(p),
        extrapolated=float(extrapolated),
        relative_error=float(relative),
        extrapolated_relative_error=float(abs((extrapolated - phi[0]) / extrapolated)),
        index=float(SAFETY * relative / (r21**p - 1.0)),
        oscillating=bool(sign < 0),
    )


def least_squares_order(spacing: Sequence[float], values: Sequence[float]) -> tuple[float, float, float]:
    """Fit ``value = limit + a h^p`` to more than three grids by weighted least squares (weights 1/h).

    Returns
    -------
    limit, order, residual : float
        The residual is the standard deviation of the fit.

    Raises
    ------
    BadInput
        If there are fewer than four grids.
    """
    from scipy.optimize import minimize_scalar

    h, phi = np.asarray(spacing, dtype=float), np.asarray(values, dtype=float)
    if len(h) < 4 or len(h) != len(phi) or not np.isfinite([h, phi]).all():
        raise BadInput("at least four spacings with finite values are needed", "grid convergence")
    w = np.sqrt((1.0 / h) / np.sum(1.0 / h))

    def fit(p: float) -> tuple[np.ndarray, float]:
        a = np.column_stack([np.ones_like(h), (h / h.max()) ** p])
        solution, *_ = np.linalg.lstsq(a * w[:, None], phi * w, rcond=None)
        return solution, float(np.sum((w * (a @ solution - phi)) ** 2))

    scan = np.linspace(0.25, 8.0, 63)
    best = scan[int(np.argmin([fit(p)[1] for p in scan]))]
    found = minimize_scalar(
        lambda p: fit(p)[1], bounds=(best - 0.2, best + 0.2), method="bounded", options={"xatol": 1e-10}
    )
    solution, rss = fit(float(found.x))
    return float(solution[0]), float(found.x), float(np.sqrt(rss * len(h) / (len(h) - 3)))


def observed_orders(spacing: Sequence[float], errors: Sequence[float]) -> list[float]:
    """Order between successive grids from known errors, ``log(e_i/e_j)/log(h_i/h_j)``."""
    h, e = np.asarray(spacing, dtype=float), np.asarray(errors, dtype=float)
    return [float(x) for x in np.diff(np.log(e)) / np.diff(np.log(h))]
