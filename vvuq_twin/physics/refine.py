"""A part of a domain on finer voxels: each voxel is cut into r^3, its tissue and values kept.

The voxels' staircase stays as it is, so that runs on the refined grids converge to the solution of the very
problem that is posed on the voxels: what differs is the discretisation alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..domain.errors import BadInput
from ..domain.grid import Grid
from .faces import Faces, assemble


@dataclass(frozen=True)
class Refined:
    """A refined part of a domain.

    Parameters
    ----------
    faces : Faces
    parent : ndarray of int, shape (m,)
        Active cell of the original domain in which each of its cells lies.
    """

    faces: Faces
    parent: np.ndarray


def refine(faces: Faces, keep: np.ndarray, ratio: int) -> Refined:
    """Cut the cells ``keep`` of a domain into ``ratio`` parts along each axis; the part's edge is closed.

    An axis along which the grid has one voxel only is left as it is: there is nothing to resolve.

    Parameters
    ----------
    faces : Faces
    keep : ndarray of bool, shape (n,)
    ratio : int

    Raises
    ------
    BadInput
        If nothing is kept, or the ratio is not a positive whole number.
    """
    if ratio < 1 or int(ratio) != ratio:
        raise BadInput(f"the ratio of refinement ({ratio}) is not a positive whole number", "refinement")
    if np.shape(keep) != (faces.n,) or not np.any(keep):
        raise BadInput("no cell is kept, or there is not one value per cell", "refinement")
    number = np.full(faces.grid.shape, -1, dtype=np.int64)
    number[faces.mask] = np.where(keep, np.arange(faces.n), -1)
    where = np.argwhere(number >= 0)
    low, high = where.min(axis=0), where.max(axis=0) + 1
    cut = number[tuple(slice(int(a), int(b)) for a, b in zip(low, high))]
    spacing = list(faces.grid.spacing)
    for axis in range(3):
        if faces.grid.shape[axis] > 1:
            cut = np.repeat(cut, int(ratio), axis=axis)
            spacing[axis] /= int(ratio)
    mask = cut >= 0
    labels = np.zeros(cut.shape, dtype=np.int64)
    labels[mask] = faces.label[cut[mask]] + 1
    shape = (int(cut.shape[0]), int(cut.shape[1]), int(cut.shape[2]))
    grid = Grid(shape, (spacing[0], spacing[1], spacing[2]))
    names = {name: i + 1 for i, name in enumerate(faces.names)}
    return Refined(assemble(grid, mask, labels, names), cut[mask])
