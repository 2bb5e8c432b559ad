"""Fields to NIfTI on the patient's grid, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..domain.files import write_with
from ..domain.grid import Grid


def affine_ras(grid: Grid) -> np.ndarray:
    """The grid's voxel-to-world matrix in NIfTI's convention (RAS), shape (4, 4)."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(grid.direction).reshape(3, 3) * np.array(grid.spacing)
    affine[:3, 3] = grid.origin
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def write_image(
    path: Path, array: np.ndarray, grid: Grid, *, step: float = 1.0, description: str = ""
) -> Path:
    """Write a volume or a series as NIfTI.

    Parameters
    ----------
    path : Path
        Ending in ``.nii`` or ``.nii.gz``.
    array : ndarray, shape (i, j, k) or (t, i, j, k)
        Floats are written as float32, booleans as uint8, whole numbers as int16 or int32.
    grid : Grid
    step : float
        Time between volumes of a series, seconds.
    description : str
        At most 79 characters, for example the quantity and its unit.

    Raises
    ------
    BadInput
        If the folder cannot be written or the disk is full; nothing half-written is left.
    ValueError
        If the array's shape is not the grid's.
    """
    import nibabel as nib

    path = Path(path)
    if (
        array.ndim not in (3, 4)
        or array.shape[-3:] != grid.shape
        or not path.name.endswith((".nii", ".nii.gz"))
    ):
        raise ValueError(
            f"cannot write an array of shape {array.shape} on a grid {grid.shape} to {path.name}"
        )
    data = np.moveaxis(array, 0, 3) if array.ndim == 4 else array
    if data.dtype.kind == "b":
        data = data.astype(np.uint8)
    elif data.dtype.kind in "iu":
        small = data.size == 0 or (data.min() >= -32768 and data.max() <= 32767)
        data = data.astype(np.int16 if small else np.int32)
    else:
        data = data.astype(np.float32)
    affine = affine_ras(grid)
    image: Any = nib.Nifti1Image(data, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    if data.ndim == 4:
        image.header["pixdim"][4] = step
    image.header["descrip"] = description.encode("ascii", "replace")[:79]
    return write_with(path, lambda p: nib.save(image, p))
