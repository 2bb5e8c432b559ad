"""Discretisation uncertainty by least squares over several grids.

Eca & Hoekstra 2014, J. Comput. Phys. 262:104. To values on at least four grids are fitted, each with and
without weights 1/h,

    phi = phi0 + a h^p,    phi0 + a h,    phi0 + a h^2,    phi0 + a h + b h^2.

The first is used where its order is credible (0.5 to 2.1 for a scheme of second order); where p is larger,
the better of the next two, and where it is smaller or there is none, the best of the last three. The
uncertainty of the value on a grid, at 95 %, is

    F e + sigma + |phi - fit|                  if sigma < the data range parameter
    3 sigma/range (e + sigma + |phi - fit|)    otherwise

with e the estimated error on that grid, sigma the standard deviation of the fit, range the spread of the
values over the number of grids less one, and F = 1.25 for a credible order, else 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..domain.errors import BadInput

#: Orders that are believed of a scheme of second order.
CREDIBLE = (0.5, 2.1)


@dataclass(frozen=True)
class LeastSquares:
    """What several grids say.

    Parameters
    ----------
    limit : float
        Extrapolated value.
    order : float or None
        Of the power law; None where it could not be fitted.
    model : str
        "power", "first", "second" or "mixed".
    sigma : float
        Standard deviation of the fit.
    spread : float
        The data range parameter.
    error, uncertainty : tuple of float
        Estimated error (not negative) and 95 % uncertainty of the value on each grid, in the order given.
    """

    limit: float
    order: float | None
    model: str
    sigma: float
    spread: float
    error: tuple[float, ...]
    uncertainty: tuple[float, ...]


def least_squares_uncertainty(spacing: Sequence[float], values: Sequence[float]) -> LeastSquares:
    """Eca & Hoekstra's procedure.

    Parameters
    ----------
    spacing : at least four floats
        Cell sizes, in any order.
    values : floats
        The quantity on each grid.

    Raises
    ------
    BadInput
        If there are fewer than four different spacings, or a value is not finite.
    """
    h, phi = np.asarray(spacing, dtype=float), np.asarray(values, dtype=float)
    if h.ndim != 1 or h.shape != phi.shape or not np.isfinite([h, phi]).all() or (h <= 0).any():
        raise BadInput("spacings are not positive or a value is not finite", "grid convergence")
    if len(np.unique(h)) < 4:
        raise BadInput("at least four different spacings are needed", "grid convergence", "add a grid")
    spread = float((phi.max() - phi.min()) / (len(h) - 1))
    if spread == 0.0:
        zero = tuple(0.0 for _ in h)
        return LeastSquares(float(phi[0]), None, "power", 0.0, 0.0, zero, zero)
    power = _power(h, phi)
    order = power[0]
    if CREDIBLE[0] <= order < CREDIBLE[1]:
        model, fit, credible = "power", power[1:], True
    else:
        several = {"first": [h], "second": [h**2]}
        if order < CREDIBLE[0]:
            several["mixed"] = [h, h**2]
        found = {name: _linear(h, phi, columns) for name, columns in several.items()}
        model = min(found, key=lambda name: found[name][2])
        fit, credible = found[model], False
    limit, predicted, sigma = fit
    error = np.abs(predicted - limit)
    apart = np.abs(phi - predicted)
    if sigma < spread:
        wide = (1.25 if credible else 3.0) * error + sigma + apart
    else:
        wide = 3.0 * sigma / spread * (error + sigma + apart)
    return LeastSquares(
        float(limit), float(order), model, float(sigma), spread, tuple(error.tolist()), tuple(wide.tolist())
    )


Fit = tuple[float, np.ndarray, float]


def _linear(h: np.ndarray, phi: np.ndarray, columns: list[np.ndarray]) -> Fit:
    """The better of the fit with weights 1/h and the one without: limit, predictions, deviation."""
    a = np.column_stack([np.ones_like(h), *columns])
    free = max(len(h) - a.shape[1], 1)
    fits = []
    for weight in (1.0 / h / np.sum(1.0 / h), np.full(len(h), 1.0 / len(h))):
        w = np.sqrt(weight)
        solution, *_ = np.linalg.lstsq(a * w[:, None], phi * w, rcond=None)
        predicted = a @ solution
        sigma = float(np.sqrt(np.sum(weight * len(h) * (phi - predicted) ** 2) / free))
        fits.append((float(solution[0]), predicted, sigma))
    return min(fits, key=lambda f: f[2])


def _power(h: np.ndarray, phi: np.ndarray) -> tuple[float, float, np.ndarray, float]:
    """Order, limit, predictions and deviation of the best power law; the order counts as a fourth constant."""
    from scipy.optimize import minimize_scalar

    scale = h.max()
    free = max(len(h) - 3, 1)

    def misfit(p: float) -> float:
        return _linear(h, phi, [(h / scale) ** p])[2]

    scan = np.linspace(0.05, 8.0, 160)
    best = float(scan[int(np.argmin([misfit(p) for p in scan]))])
    found = minimize_scalar(misfit, bounds=(max(best - 0.06, 0.02), best + 0.06), method="bounded",
                            options={"xatol": 1e-10})  # fmt: skip
    order = float(found.x)
    limit, predicted, sigma = _linear(h, phi, [(h / scale) ** order])
    # the exponent was fitted as well
    return order, limit, predicted, sigma * float(np.sqrt(max(len(h) - 2, 1) / free))
