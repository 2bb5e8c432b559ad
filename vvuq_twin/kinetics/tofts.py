"""Tofts, extended Tofts and Patlak: concentration in tissue, and the extended Tofts fit of many voxels.

``C = vp Cp + Ktrans exp(-kep t) * Cp`` with ``kep = Ktrans / ve`` (Tofts et al. 1999, J Magn Reson Imaging 10:223).
Times are in minutes, rates in 1/min, concentrations in mM. All tracer models are in :mod:`tracer`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..domain.errors import BadInput
from .convolution import exponential_convolution
from .fit import fit_tracer
from .tracer import EXTENDED_TOFTS


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
        1/min and fractions.
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


def fit_extended_tofts(
    curves: np.ndarray, cp: ArrayLike, times: ArrayLike, rates: tuple[float, float] = (0.01, 20.0)
) -> Fit:
    """Extended Tofts fit of many voxels at once, by variable projection (see :mod:`onerate`).

    Parameters
    ----------
    curves : ndarray, shape (n, T)
        mM; NaN marks a missing sample.
    cp : array_like, shape (T,)
        Plasma concentration at the sample times, mM. Where the samples are too coarse for the first pass,
        use :func:`fit.fit_tracer` with a finer input.
    times : array_like, shape (T,)
        min.
    rates : tuple of float
        Range of kep, 1/min.

    Returns
    -------
    Fit

    Raises
    ------
    BadInput
        If the shapes do not fit.
    """
    found = fit_tracer(EXTENDED_TOFTS, curves, cp, times, rates=rates)
    v, e = found.values, found.errors
    return Fit(
        v["ktrans"], v["ve"], v["vp"], e["ktrans"], e["ve"], e["vp"], found.residual_sd, found.used
    )  # fmt: skip
