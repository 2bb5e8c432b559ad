"""A visit's images in the package's units, and masks on the grid where they are needed."""

from __future__ import annotations

import numpy as np

from ..domain.errors import BadInput
from ..domain.grid import Grid
from ..domain.patient import ImageRef
from ..domain.units import convert
from .read import read_image, read_mask


def read_map(ref: ImageRef) -> tuple[np.ndarray, Grid, str]:
    """A map in its role's unit (mm2/s for ADC), never guessed from its values.

    Returns
    -------
    array : ndarray, shape (i, j, k) or (t, i, j, k), float64
    grid : Grid
    unit : str
        The role's unit, or the declared word where nothing converts ("SUV", "arbitrary").

    Raises
    ------
    BadInput
        If the image cannot be read or its unit cannot be converted.
    """
    array, grid = read_image(ref.path, ref.field)
    array = array.astype(np.float64, copy=False)
    if ref.role.unit is None or ref.unit in ref.role.other:
        return array, grid, ref.unit
    return convert(array, ref.unit, ref.role.unit, ref.field), grid, ref.role.unit


def read_mask_on(ref: ImageRef, grid: Grid) -> np.ndarray:
    """A mask that must lie on ``grid``, shape (i, j, k), bool.

    Raises
    ------
    BadInput
        If it cannot be read or lies on another grid.
    """
    mask, own = read_mask(ref.path, ref.field)
    require_grid(own, grid, f"the {ref.role.name} mask", ref.field)
    return mask


def read_labels(ref: ImageRef, labels: dict[int, str]) -> tuple[np.ndarray, Grid]:
    """A label image, shape (i, j, k), int.

    Raises
    ------
    BadInput
        If it holds fractions, or a label that is not named.
    """
    array, grid = read_image(ref.path, ref.field)
    if array.ndim != 3 or not np.isfinite(array).all() or (array != np.round(array)).any():
        raise BadInput(
            f"'{ref.path.name}' does not hold one volume of whole-number labels", ref.field, "export labels"
        )
    found = np.unique(array)
    unnamed = [int(x) for x in found if x != 0 and int(x) not in labels]
    if unnamed:
        shown = ", ".join(map(str, unnamed[:5])) + (", ..." if len(unnamed) > 5 else "")
        raise BadInput(
            f"the labels {shown} of '{ref.path.name}' are not named", ref.field, "name them under labels"
        )
    return array.astype(np.int32), grid


def require_grid(own: Grid, wanted: Grid, what: str, where: str) -> None:
    """Refuse an image on another grid, and say how they differ."""
    if own.same_as(wanted):
        return
    if own.shape != wanted.shape:
        how = "{} voxels against {}".format(*("x".join(map(str, g.shape)) for g in (own, wanted)))
    elif not np.allclose(own.spacing, wanted.spacing, rtol=0, atol=1e-3):
        how = "spacing {} mm against {}".format(
            *("x".join(f"{s:g}" for s in g.spacing) for g in (own, wanted))
        )
    elif not np.allclose(own.origin, wanted.origin, rtol=0, atol=1e-3):
        shift = np.linalg.norm(np.subtract(own.origin, wanted.origin))
        how = f"its origin is {shift:.3g} mm away"
    else:
        how = "its axes point elsewhere"
    raise BadInput(f"{what} is not on the image's grid ({how})", where, "resample it to the image")
