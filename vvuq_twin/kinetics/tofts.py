"""Tracer exchange between plasma and interstitium: Tofts, extended Tofts, Patlak, and their fit.

``C = vp Cp + Ktrans exp(-kep t) * Cp`` with ``kep = Ktrans / ve`` (Tofts et al. 1999, J Magn Reson Imaging 10:223).
The plasma curve is taken as piecewise linear between its samples and the convolution is then exact.
Times are in minutes, rates in 1/min, concentrations in mM.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import ArrayLike

from ..domain.errors import BadInput


@numba.njit(cache=True)
def _weights(k: float, dt: float) -> tuple[float, float, float]:
    """Decay over dt, and the weights of the input at the interval's two ends."""
    a = k * dt
    if a < 0.05:
        # series of (1 - exp(-a))/a and (a - 1 + exp(-a))/a^2: the differences above cancel
        late = 0.5 - a / 6 + a**2 / 24 - a**3 / 120 + a**4 / 720 - a**5 / 5040
        total = 1.0 - a / 2 + a**2 / 6 - a**3 / 24 + a**4 / 120 - a**5 / 720
        return np.exp(-a), dt * (total - late), dt * late
    gone = -np.expm1(-a)
    late = (a - gone) / (a * k)
    return 1.0 - gone, gone / k - late, late


@numba.njit(cache=True)
def exchange_step(tissue: np.ndarray, kep: np.ndarray, before: float, after: float, dt: float) -> None:
    """Advance ``d tissue/dt = Cp - kep tissue`` by dt in place, Cp linear from ``before`` to ``after``."""
    for x in range(tissue.shape[0]):
        keep, w0, w1 = _weights(kep[x], dt)
        tissue[x] = keep * tissue[x] + w0 * before + w1 * after


@numba.njit(cache=True)
def _convolve(cp: np.ndarray, times: np.ndarray, kep: np.ndarray) -> np.ndarray:
    out = np.zeros((kep.shape[0], times.shape[0]))
    state = np.zeros(kep.shape[0])
    for j in range(1, times.shape[0]):
        exchange_step(state, kep, cp[j - 1], cp[j], times[j] - times[j - 1])
        out[:, j] = state
    return out


def exponential_convolution(cp: ArrayLike, times: ArrayLike, kep: ArrayLike) -> np.ndarray:
    """``integral_0^t exp(-kep (t - s)) Cp(s) ds`` at the sample times, exact for piecewise linear Cp.

    Parameters
    ----------
    cp : array_like, shape (T,)
    times : array_like, shape (T,)
        Increasing, min. Nothing is assumed to have come before the first.
    kep : array_like, shape (n,)
        1/min; zero gives the running integral.

    Returns
    -------
    ndarray, shape (n, T)

    Raises
    ------
    BadInput
        If the times do not increase or the shapes differ.
    """
    c, t = np.ascontiguousarray(cp, dtype=float), np.ascontiguousarray(times, dtype=float)
    if c.shape != t.shape or c.ndim != 1:
        raise BadInput(f"{c.shape} plasma samples came with {t.shape} times", "arterial input")
    if len(t) < 2 or not (np.diff(t) > 0).all():
        raise BadInput("the sample times do not increase", "arterial input")
    return np.asarray(_convolve(c, t, np.atleast_1d(np.asarray(kep, dtype=float))))


def extended_tofts(
    cp: ArrayLike, times: ArrayLike, ktrans: ArrayLike, ve: ArrayLike, vp: ArrayLike = 0.0
) -> np.ndarray:
    """Tissue concentration, shape (n, T) for parameters of shape (n,); ``vp = 0`` is the Tofts model."""
    k, e, p = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, dtype=float)) for v in (ktrans, ve, vp)))
    if (e <= 0).any() or (k < 0).any() or (p < 0).any():
        raise BadInput("Ktrans and vp must not be negative and ve must be positive", "tofts")
    return np.asarray(
        p[:, None] * np.asarray(cp, dtype=float) + k[:, None] * exponential_convolution(cp, times, k / e)
    )


def patlak(cp: ArrayLike, times: ArrayLike, ktrans: ArrayLike, vp: ArrayLike) -> np.ndarray:
    """No return from the interstitium: ``C = vp Cp + Ktrans integral Cp`` (Patlak et al. 1983), shape (n, T)."""
    k, p = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, dtype=float)) for v in (ktrans, vp)))
    return np.asarray(
        p[:, None] * np.asarray(cp, dtype=float)
        + k[:, None] * exponential_convolution(cp, times, np.zeros(1))
    )


@dataclass(frozen=True)
class Fit:
    """Least-squares fits of n voxels.

    Parameters
    ----------
    ktrans, ve, vp : ndarray, shape (n,)
        1/min and fractions; ve is NaN where no tracer returns within the data (Patlak).
    ktrans_se, ve_se, vp_se : ndarray, shape (n,)
        Standard errors by the linearised model with independent residuals; NaN where a parameter stands at
        its bound or cannot be identified.
    residual_sd : ndarray, shape (n,)
        mM.
    used : ndarray of int, shape (n,)
        Samples that were finite.
    """

    ktrans: np.ndarray
    ve: np.ndarray
    vp: np.ndarray
    ktrans_se: np.ndarray
    ve_se: np.ndarray
    vp_se: np.ndarray
    residual_sd: np.ndarray
    used: np.ndarray


def fit_patlak(curves: np.ndarray, cp: ArrayLike, times: ArrayLike) -> Fit:
    """Linear least squares for (Ktrans, vp), voxels at once; NaN marks a missing sample.

    Raises
    ------
    BadInput
        If the shapes do not fit.
    """
    y, seen = _clean(curves, np.asarray(times))
    columns = np.stack([np.asarray(cp, dtype=float), exponential_convolution(cp, times, np.zeros(1))[0]])
    vp, ktrans, rss = _two_columns(y, seen, columns[0], columns[1], positive=False)
    used = seen.sum(axis=1).astype(int)
    var = rss / np.maximum(used - 2, 1)
    gram = np.einsum("nt,at,bt->nab", seen, columns, columns)
    cov = np.linalg.pinv(gram) * var[:, None, None]
    missing = np.full(len(y), np.nan)
    se = np.sqrt(np.maximum(np.einsum("naa->na", cov), 0.0))
    return Fit(ktrans, missing, vp, se[:, 1], missing, se[:, 0], np.sqrt(var), used)


def fit_extended_tofts(
    curves: np.ndarray,
    cp: ArrayLike,
    times: ArrayLike,
    rates: tuple[float, float] = (0.01, 20.0),
    points: int = 96,
    refinements: int = 4,
) -> Fit:
    """Extended Tofts fit of many voxels at once, by variable projection.

    For a given kep the model is linear in (vp, Ktrans): their non-negative least squares are in closed form.
    kep is searched on a logarithmic grid and refined by Gauss-Newton on all three parameters.

    Parameters
    ----------
    curves : ndarray, shape (n, T)
        mM; NaN marks a missing sample.
    cp : array_like, shape (T,)
        Plasma concentration at the sample times, mM. Where the samples are too coarse for the first pass,
        give a ``cp`` on finer times and NaN in the curves between.
    times : array_like, shape (T,)
        min.
    rates : tuple of float
        Range of kep, 1/min.
    points : int
        Of the grid.
    refinements : int
        Gauss-Newton steps; a step that does not lower the residual is not taken.

    Returns
    -------
    Fit

    Raises
    ------
    BadInput
        If the shapes do not fit.
    """
    t = np.asarray(times, dtype=float)
    y, seen = _clean(curves, t)
    c = np.asarray(cp, dtype=float)
    grid = np.geomspace(*rates, points)
    kernels = exponential_convolution(c, t, grid)
    best = np.full(len(y), np.inf)
    vp, ktrans, kep = np.zeros(len(y)), np.zeros(len(y)), np.full(len(y), grid[0])
    for k, kernel in zip(grid, kernels):
        a, b, rss = _two_columns(y, seen, c, kernel, positive=True)
        better = rss < best
        best = np.where(better, rss, best)
        vp, ktrans, kep = np.where(better, a, vp), np.where(better, b, ktrans), np.where(better, k, kep)
    for _ in range(refinements):
        E, dE = _kernel_and_slope(kernels, grid, kep)
        J = np.stack([np.broadcast_to(c, E.shape), E, ktrans[:, None] * dE], axis=1) * seen[:, None, :]
        r = (y - vp[:, None] * c - ktrans[:, None] * E) * seen
        H = J @ J.transpose(0, 2, 1)
        scale = np.einsum("nii->ni", H)
        H = H + (1e-8 * scale[:, :, None] + 1e-12) * np.eye(3)
        step = np.linalg.solve(H, (J @ r[..., None]))[..., 0]
        tried = np.clip(kep * np.exp(np.clip(step[:, 2] / kep, -0.3, 0.3)), *rates)
        E, _ = _kernel_and_slope(kernels, grid, tried)
        a, b, rss = _two_columns(y, seen, c, E, positive=True)
        better = rss < best
        best = np.where(better, rss, best)
        vp, ktrans, kep = np.where(better, a, vp), np.where(better, b, ktrans), np.where(better, tried, kep)
    used = seen.sum(axis=1).astype(int)
    var = best / np.maximum(used - 3, 1)
    se = _standard_errors(c, kernels, grid, seen, vp, ktrans, kep, var, rates)
    with np.errstate(invalid="ignore", divide="ignore"):
        ve = np.where(ktrans > 0, ktrans / kep, np.nan)
    return Fit(ktrans, ve, vp, se[:, 0], se[:, 1], se[:, 2], np.sqrt(var), used)


def _clean(curves: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Curves with zeros for missing samples, and which are there as floats."""
    y = np.asarray(curves, dtype=float)
    if y.ndim != 2 or y.shape[1:] != times.shape:
        raise BadInput(f"curves of shape {y.shape} do not fit {times.shape} times", "tofts", "give (n, T)")
    seen = np.isfinite(y)
    return np.where(seen, y, 0.0), seen.astype(float)


def _two_columns(
    y: np.ndarray, seen: np.ndarray, a: np.ndarray, b: np.ndarray, positive: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least squares of y on the columns a (T,) and b (T,) or (n, T), non-negative if asked; coefficients, RSS."""
    if b.ndim == 1:
        aa, ab, bb = seen @ a**2, seen @ (a * b), seen @ b**2
        ya, yb = y @ a, y @ b
    else:
        aa, ab, bb = seen @ a**2, ((seen * b) @ a), (seen * b**2).sum(axis=1)
        ya, yb = y @ a, (y * b).sum(axis=1)
    yy = (y**2).sum(axis=1)
    det = aa * bb - ab**2
    good = det > 1e-12 * aa * bb
    safe = np.where(good, det, 1.0)
    p, q = np.where(good, (ya * bb - yb * ab) / safe, 0.0), np.where(good, (yb * aa - ya * ab) / safe, 0.0)
    rss = yy - p * ya - q * yb
    if positive:
        one = np.maximum(ya, 0.0) / np.where(aa > 0, aa, 1.0)
        two = np.maximum(yb, 0.0) / np.where(bb > 0, bb, 1.0)
        rss_one, rss_two = yy - one**2 * aa, yy - two**2 * bb
        inside = good & (p >= 0) & (q >= 0)
        first = rss_one < rss_two
        p = np.where(inside, p, np.where(first, one, 0.0))
        q = np.where(inside, q, np.where(first, 0.0, two))
        rss = np.where(inside, rss, np.minimum(rss_one, rss_two))
    return p, q, np.maximum(rss, 0.0)


def _kernel_and_slope(
    kernels: np.ndarray, grid: np.ndarray, kep: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel rows at any kep and their derivative with respect to kep, by cubic Hermite in log kep."""
    x, knots = np.log(kep), np.log(grid)
    h = knots[1] - knots[0]
    i = np.clip(((x - knots[0]) / h).astype(int), 0, len(grid) - 2)
    slopes = np.gradient(kernels, h, axis=0, edge_order=2)
    u = ((x - knots[i]) / h)[:, None]
    f0, f1, m0, m1 = kernels[i], kernels[i + 1], slopes[i] * h, slopes[i + 1] * h
    value = (
        (1 + 2 * u) * (1 - u) ** 2 * f0
        + u * (1 - u) ** 2 * m0
        + u**2 * (3 - 2 * u) * f1
        + u**2 * (u - 1) * m1
    )
    slope = 6 * u * (u - 1) * (f0 - f1) + (1 - u) * (1 - 3 * u) * m0 + u * (3 * u - 2) * m1
    return value, slope / (h * kep[:, None])


def _standard_errors(
    c: np.ndarray,
    kernels: np.ndarray,
    grid: np.ndarray,
    seen: np.ndarray,
    vp: np.ndarray,
    ktrans: np.ndarray,
    kep: np.ndarray,
    var: np.ndarray,
    rates: tuple[float, float],
) -> np.ndarray:
    """Of Ktrans, ve and vp, shape (n, 3)."""
    E, dE = _kernel_and_slope(kernels, grid, kep)
    # in (vp, Ktrans, kep), then ve = Ktrans/kep by its gradient
    J = np.stack([np.broadcast_to(c, E.shape), E, ktrans[:, None] * dE], axis=1) * seen[:, None, :]
    cov = np.linalg.pinv(J @ J.transpose(0, 2, 1), hermitian=True) * var[:, None, None]
    gradient = np.stack([np.zeros_like(kep), 1.0 / kep, -ktrans / kep**2], axis=1)
    ve_var = np.einsum("na,nab,nb->n", gradient, cov, gradient)
    se = np.sqrt(np.maximum(np.stack([cov[:, 1, 1], ve_var, cov[:, 0, 0]], axis=1), 0.0))
    free = (ktrans > 0) & (kep > rates[0] * 1.001) & (kep < rates[1] * 0.999)
    se[~free] = np.nan
    se[vp <= 0, 2] = np.nan
    return se
