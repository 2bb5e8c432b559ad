"""Fits of tracer models to many curves at once, with a standard error for every parameter."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import ArrayLike

from ..domain.errors import BadInput
from .convolution import checked_input, integrate, tables
from .manyrates import fit_many_rates
from .onerate import fit_one_rate
from .tracer import TracerModel, _edges, fixed_columns

_GRID = {1: 64, 2: 32}


@dataclass(frozen=True)
class TracerFit:
    """Least-squares fits of n curves.

    Parameters
    ----------
    model : TracerModel
    values, errors : dict of str to ndarray, shape (n,)
        Parameters (and derived ones; ``delay`` in min if it was fitted) and their standard errors by the
        linearised model with independent residuals of one size per curve. An error is NaN where the parameter
        stands at a bound or nothing in the curve depends on it; a value is NaN where it is not defined.
    residual_sd : ndarray, shape (n,)
        In the unit of the curves.
    used : ndarray of int, shape (n,)
        Samples that were there.
    """

    model: TracerModel
    values: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]
    residual_sd: np.ndarray
    used: np.ndarray


def fit_tracer(
    model: TracerModel,
    curves: np.ndarray,
    cp: ArrayLike,
    times: ArrayLike,
    *,
    at: ArrayLike | None = None,
    delay: tuple[float, float] | None = None,
    blood: ArrayLike | None = None,
    frames: ArrayLike | None = None,
    rates: tuple[float, float] = (1e-3, 60.0),
) -> TracerFit:
    """Fit a model to many curves.

    Amplitudes are kept from going negative. The exponentials' rates are sought on a logarithmic grid and refined
    until the sum of squares is stationary; samples count equally.

    Parameters
    ----------
    model : TracerModel
    curves : ndarray, shape (n, T)
        mM (or Bq/mL with the input in the same unit); NaN marks a missing sample.
    cp, times : array_like, shape (A,)
        Plasma concentration, piecewise linear between its times in min, which may be finer than the samples.
    at : array_like, shape (T,), optional
        Sample times; ``times`` by default.
    delay : tuple of float, optional
        Bounds of the bolus' delay, min; without them the tissue sees the input at once.
    blood : array_like, shape (A,), optional
        Whole blood where it differs from plasma.
    frames : array_like, shape (T, 2), optional
        In place of ``at``: the curves are averages over these frames.
    rates : tuple of float
        Bounds of the exponentials' rates, 1/min.

    Raises
    ------
    BadInput
        If shapes do not fit, the input does not cover the samples, or there are fewer samples than parameters.
    """
    c, ta = checked_input(cp, times)
    whole = c if blood is None else checked_input(blood, times)[0]
    edges = _edges(ta if at is None else at, frames)
    y = np.asarray(curves, dtype=float)
    if y.ndim != 2 or y.shape[1] != len(edges):
        raise BadInput(
            f"curves of shape {y.shape} do not fit {len(edges)} samples", "tracer fit", "give (n, T)"
        )
    least = model.rates * 2 + int(model.blood) + int(model.stays) + int(delay is not None)
    if len(edges) <= least:
        raise BadInput(f"{len(edges)} samples cannot determine {least} parameters", "tracer fit", "give more")
    early = 0.0 if delay is None else min(delay[0], 0.0)
    if edges.max() - early > ta[-1] + 1e-6 * (ta[-1] - ta[0]) + (-early):
        raise BadInput(
            f"the arterial input ends at {ta[-1]:.3g} min, before the last sample at {edges.max():.3g} min",
            "arterial input", "give an input that covers the samples",
        )  # fmt: skip
    if not 0 < rates[0] < rates[1]:
        raise BadInput(
            f"{rates[0]:g} to {rates[1]:g} is no range of rates", "tracer fit", "give 0 < low < high"
        )
    used = np.isfinite(y).sum(axis=1)
    if model.rates == 1 and delay is None and not (model.blood and model.stays):
        grid = np.linspace(np.log(rates[0]), np.log(rates[1]), _GRID[1])
        fixed = fixed_columns(model, ta, c, whole, edges, 0.0)
        amplitudes, log_rate, rss, info, edge = fit_one_rate(
            y, fixed[0] if len(fixed) else None, _rate_table(ta, c, np.exp(grid), edges), grid
        )
        log_rates, shift = log_rate[None], None
        at_bound = np.zeros((len(y), info.shape[-1]), dtype=bool)
        at_bound[:, :-1] = amplitudes.T <= 0
        at_bound[:, -1] = edge | (amplitudes[-1] <= 0)
    else:
        grid = np.linspace(np.log(rates[0]), np.log(rates[1]), _GRID[2])
        delays = None
        if delay is not None:
            step = np.median(np.diff(ta)) / 2.0
            count = int(np.clip(np.ceil((delay[1] - delay[0]) / step) + 1, 3, 41))
            delays = np.linspace(delay[0], delay[1], count)
        theta, rss, info, at_bound = fit_many_rates(
            y, ta, c, whole, edges, model.blood, model.stays, model.rates, grid, delays
        )
        m = int(model.blood) + int(model.stays) + model.rates
        amplitudes, log_rates = theta[:, :m].T, theta[:, m : m + model.rates].T
        shift = theta[:, -1] if delay is not None else None
        for i in range(model.rates):
            at_bound[:, m + i] |= theta[:, m - model.rates + i] <= 0
    return _report(model, amplitudes, log_rates, shift, rss, info, at_bound, used)


def _rate_table(ta: np.ndarray, c: np.ndarray, rates: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The exponential's column and two derivatives with respect to the log rate, shape (3, K, T)."""
    flat = np.ascontiguousarray(edges.ravel())
    e, d, q = tables(ta, c, rates, flat)
    k = rates[:, None]
    if edges.ndim == 2:
        parts = [np.zeros(len(flat)) for _ in range(4)]
        integrate(ta, c, flat, *parts)
        width = np.diff(edges)[:, 0]
        de, dd, dq = (np.diff(v.reshape(len(rates), *edges.shape))[..., 0] / width for v in (e, d, q))
        e = (np.diff(parts[2].reshape(edges.shape))[:, 0] / width - de) / k
        d = -(e + dd) / k
        q = -(2.0 * d + dq) / k
    return np.stack([e, k * d, k * d + k**2 * q])


def _report(
    model: TracerModel, amplitudes: np.ndarray, log_rates: np.ndarray, delay: np.ndarray | None, rss: np.ndarray,
    info: np.ndarray, at_bound: np.ndarray, used: np.ndarray,
) -> TracerFit:  # fmt: skip
    """Physical parameters and, by the delta method, their standard errors."""
    m, n = amplitudes.shape
    p = info.shape[-1]
    var = rss / np.maximum(used - p, 1)
    rates = np.exp(log_rates)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = model.physical(amplitudes, rates)
        gradient = np.zeros((len(values), p, n))
        for i in range(m + len(rates)):
            a, k = amplitudes.astype(complex), rates.astype(complex)
            if i < m:
                a[i] += 1e-30j
            else:
                k[i - m] += 1e-30j * rates[i - m]
            gradient[:, i] = model.physical(a, k).imag / 1e-30
    covariance, errors = np.zeros_like(info), np.zeros(values.shape)
    _propagate(info, at_bound, var, np.ascontiguousarray(np.moveaxis(gradient, 2, 0)), covariance, errors)
    # a parameter that rests on one at its bound, or on one that cannot be determined, has no error to report
    fixed = at_bound | ~(np.einsum("npp->np", covariance) > 0) & (var > 0)[:, None]
    blocked = ((gradient != 0) & fixed.T[None]).any(axis=1)
    errors[blocked | (used <= p) | ~np.isfinite(values)] = np.nan
    values = np.where(np.isfinite(values) & (used >= p), values, np.nan)
    names = model.parameters + model.derived
    found, spread = dict(zip(names, values)), dict(zip(names, errors))
    if delay is not None:
        found["delay"] = np.where(used >= p, delay, np.nan)
        own = np.sqrt(np.maximum(covariance[:, -1, -1], 0.0))
        spread["delay"] = np.where(fixed[:, -1] | (used <= p), np.nan, own)
    return TracerFit(model, found, spread, np.sqrt(var), used)


@numba.njit(cache=True)
def _propagate(
    info: np.ndarray, at_bound: np.ndarray, var: np.ndarray, gradient: np.ndarray, covariance: np.ndarray,
    errors: np.ndarray,
) -> None:  # fmt: skip
    """Covariance over the free parameters (zero for the rest) and standard errors of functions of them.

    The information matrix is scaled to a unit diagonal and inverted by Cholesky; where it is singular to round-off
    the covariance stays zero.
    """
    n, p = at_bound.shape
    rows, scale = np.zeros(p, np.int64), np.zeros(p)
    L, M = np.zeros((p, p)), np.zeros((p, p))
    for v in range(n):
        f = 0
        for i in range(p):
            if not at_bound[v, i] and info[v, i, i] > 0.0:
                rows[f] = i
                scale[f] = np.sqrt(info[v, i, i])
                f += 1
        good = True
        for i in range(f):
            for j in range(i + 1):
                s = info[v, rows[i], rows[j]] / (scale[i] * scale[j])
                for k in range(j):
                    s -= L[i, k] * L[j, k]
                if i > j:
                    L[i, j] = s / L[j, j]
                elif s > 1e-14:
                    L[i, i] = np.sqrt(s)
                else:
                    good = False
            if not good:
                break
        if good:
            # M = L^-1, covariance = M^T M
            for i in range(f):
                M[i, i] = 1.0 / L[i, i]
                for j in range(i):
                    s = 0.0
                    for k in range(j, i):
                        s += L[i, k] * M[k, j]
                    M[i, j] = -s / L[i, i]
            for i in range(f):
                for j in range(i + 1):
                    s = 0.0
                    for k in range(i, f):
                        s += M[k, i] * M[k, j]
                    s *= var[v] / (scale[i] * scale[j])
                    covariance[v, rows[i], rows[j]] = covariance[v, rows[j], rows[i]] = s
        for q in range(gradient.shape[1]):
            s = 0.0
            for i in range(p):
                for j in range(p):
                    s += gradient[v, q, i] * covariance[v, i, j] * gradient[v, q, j]
            errors[q, v] = np.sqrt(max(s, 0.0))
