"""Perfusion of a virtual tumour and the drug exposure that follows from it."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import cg

from ..domain.errors import RunFailed
from ..domain.grid import Grid
from .fields import smooth_noise
from .population import settings


def true_ktrans(grid: Grid, cellularity: np.ndarray, seed: int) -> np.ndarray:
    """Transfer constant in 1/min: high at the rim, low in the crowded core, patchy.

    Parameters
    ----------
    grid : Grid
    cellularity : ndarray, grid.shape
        Fraction of the carrying capacity at diagnosis.
    seed : int

    Returns
    -------
    ndarray, grid.shape
    """
    numbers = settings()["perfusion"]
    patch = smooth_noise(grid, numbers["length_mm"], seed, "perfusion")
    rim = 4.0 * cellularity * (1.0 - cellularity)
    tumour = numbers["ktrans_per_min"] * np.exp(numbers["ktrans_sd_log"] * patch) * (0.35 + 0.65 * rim)
    share = np.clip(cellularity / settings()["at_diagnosis"]["detection"], 0.0, 1.0)
    return share * tumour + (1.0 - share) * numbers["normal_ktrans_per_min"]


def true_exposure(grid: Grid, mask: np.ndarray, ktrans: np.ndarray) -> np.ndarray:
    """Steady ratio of tissue to plasma exposure of a drug that leaks in, diffuses and is lost.

    Integrating linear kinetics over all time leaves
    ``div(D phi grad a) + Ktrans (1 - a) - k_loss phi a = 0`` for the ratio ``a`` of the areas under the
    interstitial and the plasma curve (no flux at the mask's edge): one elliptic solve, apart from the
    twin's own time-stepping.

    Returns
    -------
    ndarray, grid.shape
        ``a``, 0 outside the mask.
    """
    numbers = settings()["perfusion"]
    phi, d, loss = numbers["ve"], numbers["drug_diffusion_mm2_per_min"], numbers["drug_loss_per_min"]
    index = np.full(mask.shape, -1)
    index[mask] = np.arange(mask.sum())
    n = int(mask.sum())
    rows, cols, values = [np.arange(n)], [np.arange(n)], [ktrans[mask] + loss * phi]
    for axis, h in enumerate(grid.spacing):
        low = [slice(None)] * 3
        high = [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        open_face = mask[tuple(low)] & mask[tuple(high)]
        i, j = index[tuple(low)][open_face], index[tuple(high)][open_face]
        weight = np.full(len(i), d * phi / h**2)
        rows += [i, j, i, j]
        cols += [j, i, i, j]
        values += [-weight, -weight, weight, weight]
    system = sparse.csr_array(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(cols))), shape=(n, n)
    )
    inverse = 1.0 / system.diagonal()
    preconditioner = sparse.linalg.LinearOperator((n, n), matvec=lambda x: inverse * x)
    solution, status = cg(system, ktrans[mask], rtol=1e-8, maxiter=5000, M=preconditioner)
    if status != 0:
        raise RunFailed("the exposure of the virtual patient did not converge")
    out = np.zeros(mask.shape)
    out[mask] = solution
    return out
