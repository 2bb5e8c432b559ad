"""Correction of the slow shading that a coil leaves in a magnitude image: N4."""

from __future__ import annotations

import numpy as np

from ..domain.errors import BadInput
from ..domain.grid import Grid
from .alignment import foreground
from .itk import from_itk, to_itk


def without_shading(
    image: np.ndarray, grid: Grid, mask: np.ndarray | None = None, size: float = 4.0
) -> tuple[np.ndarray, np.ndarray]:
    """N4 bias field correction (Tustison et al. 2010, IEEE Transactions on Medical Imaging 29:1310).

    For signals only: a map in physical units has no such shading, and correcting it would change its values.

    Parameters
    ----------
    image : ndarray, shape (i, j, k)
        Positive where it counts.
    grid : Grid
    mask : ndarray of bool, optional
        Where the shading is estimated; by default the foreground.
    size : float
        The shading is estimated on voxels of about this many mm.

    Returns
    -------
    corrected, shading : ndarray, shape (i, j, k)
        ``image = corrected x shading``; the mean of the shading's logarithm over the mask is 0.

    Raises
    ------
    BadInput
        If nothing in the mask is positive.
    """
    import SimpleITK as sitk

    where = (foreground(image) if mask is None else mask) & np.isfinite(image) & (image > 0)
    if where.sum() < 100:
        raise BadInput(
            "too few voxels are positive for a correction of shading", "N4", "check the image or the mask"
        )
    full, inside = to_itk(np.where(where, image, 0.0), grid), to_itk(where, grid)
    factors = [max(1, min(round(size / s), n // 4 or 1)) for s, n in zip(grid.spacing, grid.shape)]
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfThreads(1)
    n4.SetMaximumNumberOfIterations([50, 50, 30])
    n4.Execute(sitk.Shrink(full, factors), sitk.Shrink(inside, factors))
    log = from_itk(n4.GetLogBiasFieldAsImage(full)).astype(np.float64)
    shading = np.exp(log - log[where].mean())
    return image / shading, shading
