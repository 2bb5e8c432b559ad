"""Arrays and grids to SimpleITK images and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..domain.grid import Grid


def to_itk(array: np.ndarray, grid: Grid) -> Any:
    """A volume ``[i, j, k]`` as an ITK image: float32, or uint8 for masks."""
    import SimpleITK as sitk

    data = array.astype(np.uint8 if array.dtype.kind == "b" else np.float32)
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.transpose(2, 1, 0)))
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    return image


def from_itk(image: Any) -> np.ndarray:
    """An ITK volume as an array ``[i, j, k]``; values of a voxel, where there are several, come last."""
    import SimpleITK as sitk

    array = sitk.GetArrayFromImage(image)
    return np.ascontiguousarray(array.transpose(2, 1, 0, *range(3, array.ndim)))
