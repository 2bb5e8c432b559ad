"""Imaging-derived phenotypes of a tumour per visit: shape, first-order and texture features as one flat table."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..domain.errors import BadInput
from ..domain.grid import Grid
from .shape import shape_features
from .texture import discretise, first_order, glcm_features, histogram_features


def phenotype(
    mask: np.ndarray, grid: Grid, images: Mapping[str, np.ndarray], bin_sizes: Mapping[str, float]
) -> dict[str, float]:
    """Features of one tumour at one visit.

    Parameters
    ----------
    mask : ndarray of bool, shape ``grid.shape``
    grid : Grid
        Texture compares neighbouring voxels: compare visits on one grid, as nearly isotropic as the scan allows.
    images : mapping of str to ndarray, shape ``grid.shape``
        By role; NaN where missing.
    bin_sizes : mapping of str to float
        Width of a grey level for each image, in its unit, levels from zero: the same for all visits and patients.

    Returns
    -------
    dict of str to float
        ``shape.<feature>``, ``<role>.<feature>`` and ``<role>.glcm.<feature>``.

    Raises
    ------
    BadInput
        If a bin size is missing, an image is off the grid, or the mask is empty.
    """
    found = {f"shape.{k}": v for k, v in shape_features(mask, grid).items()}
    for role, image in images.items():
        if image.shape != grid.shape:
            raise BadInput(
                f"the {role} image is not on the mask's grid", "phenotype", "resample it to the mask"
            )
        if role not in bin_sizes:
            raise BadInput(
                f"no bin size is given for {role}", "phenotype", "give the width of a grey level in its unit"
            )
        levels = discretise(
            image, mask, bin_size=bin_sizes[role], start=min(0.0, float(np.nanmin(image[mask])))
        )
        found |= {
            f"{role}.{k}": v for k, v in (first_order(image[mask]) | histogram_features(levels)).items()
        }
        found |= {f"{role}.glcm.{k}": v for k, v in glcm_features(levels).items()}
    return found
