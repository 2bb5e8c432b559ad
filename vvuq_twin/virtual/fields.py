"""Smooth random fields on a grid, keyed."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..domain.grid import Grid
from ..domain.keys import Label, generator


def smooth_noise(grid: Grid, length: float, seed: int, *labels: Label) -> np.ndarray:
    """White noise under a Gaussian filter, scaled to unit variance.

    Parameters
    ----------
    grid : Grid
    length : float
        Standard deviation of the filter in mm; the field's correlation is
        ``exp(-r^2 / (4 length^2))``.
    seed, *labels
        Key of the draw.

    Returns
    -------
    ndarray, grid.shape
    """
    noise = generator(seed, "smooth noise", *labels).standard_normal(grid.shape)
    sigma = [length / h for h in grid.spacing]
    field = ndimage.gaussian_filter(noise, sigma, mode="wrap")
    # the sum of squared weights of the separable filter, from its own impulse response
    weight = 1.0
    for s, n in zip(sigma, grid.shape):
        impulse = np.zeros(n)
        impulse[0] = 1.0
        weight *= float((ndimage.gaussian_filter1d(impulse, s, mode="wrap") ** 2).sum())
    return field / np.sqrt(weight)
