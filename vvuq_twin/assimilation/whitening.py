"""Observations in units of their error: ``R^(-1/2) b`` without forming R.

With ``R = D + F F^T`` (D diagonal, F of k columns) and ``G = D^(-1/2) F`` the factor used is
``W = (I + G G^T)^(-1/2) D^(-1/2)``, for which ``W^T W = R^-1`` (Woodbury's identity in square-root form).
"""

from __future__ import annotations

import numpy as np

from ..domain.observations import ObservationError


def root_coefficient(spectrum: np.ndarray) -> np.ndarray:
    """``((1 + s)^(-1/2) - 1) / s`` for s >= 0, without cancellation; -1/2 at zero."""
    root = np.sqrt(1.0 + np.maximum(spectrum, 0.0))
    return -1.0 / (root * (1.0 + root))


def thin_root(g: np.ndarray) -> np.ndarray:
    """The small matrix C with ``(I + G G^T)^(-1/2) = I + G C G^T``.

    Parameters
    ----------
    g : ndarray, shape (..., m, k)

    Returns
    -------
    ndarray, shape (..., k, k)
        From ``G^T G = V S V^T``: ``C = V root_coefficient(S) V^T``. Work m k^2.
    """
    spectrum, vectors = np.linalg.eigh(np.swapaxes(g, -1, -2) @ g)
    scaled = vectors * root_coefficient(spectrum)[..., None, :]
    return scaled @ np.swapaxes(vectors, -1, -2)


def whiten_parts(x: np.ndarray, g: np.ndarray) -> np.ndarray:
    """``x (I + G G^T)^(-1/2)`` for rows x already divided by the independent part's deviation.

    Parameters
    ----------
    x : ndarray, shape (..., N, m)
    g : ndarray, shape (..., m, k)

    Returns
    -------
    ndarray, shape (..., N, m)
    """
    if g.shape[-1] == 0:
        return x
    return x + ((x @ g) @ thin_root(g)) @ np.swapaxes(g, -1, -2)


def whiten(error: ObservationError, b: np.ndarray) -> np.ndarray:
    """``b W^T`` with ``W^T W = R^-1``: rows of departures in units of their joint error.

    Parameters
    ----------
    error : ObservationError
    b : ndarray, shape (N, m) or (m,)

    Returns
    -------
    ndarray, the shape of b
        Its inner products are those of R^-1: ``whiten(b) @ whiten(b).T = b R^-1 b^T``. Work N m k.
    """
    x = b / error.voxel
    if error.factor.shape[1] == 0:
        return np.asarray(x)
    g = error.factor / error.voxel[:, None]
    return whiten_parts(np.atleast_2d(x), g).reshape(x.shape)
