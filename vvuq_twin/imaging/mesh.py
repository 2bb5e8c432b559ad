"""A mask as a surface and as a volume for finite-element programs, in mm (LPS)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy import ndimage, optimize

from ..domain.errors import BadInput
from ..domain.files import write_with
from ..domain.grid import Grid
from .resample import voxel_to_world

#: The six tetrahedra of a cube that share its diagonal 0-6 (Kuhn); corners in VTK's order of a hexahedron.
_TETRAHEDRA = ((0, 1, 2, 6), (0, 2, 3, 6), (0, 3, 7, 6), (0, 7, 4, 6), (0, 4, 5, 6), (0, 5, 1, 6))
_CORNERS = ((0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1))


def surface(mask: np.ndarray, grid: Grid, smooth: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """A closed surface that holds the mask's volume.

    Marching cubes (Lorensen & Cline 1987) of the mask under a Gaussian filter, at the level whose surface encloses as
    much as the mask's voxels.

    Parameters
    ----------
    mask : ndarray of bool, shape grid.shape
    grid : Grid
    smooth : float
        Standard deviation of the filter, voxels.

    Returns
    -------
    points : ndarray, shape (n, 3)
        mm.
    triangles : ndarray of int, shape (m, 3)
        Outward.

    Raises
    ------
    BadInput
        If the mask is empty.
    """
    from skimage.measure import marching_cubes

    if not mask.any():
        raise BadInput("the mask is empty: it has no surface", "mesh")
    soft = ndimage.gaussian_filter(np.pad(mask.astype(float), 4), smooth)
    wanted = float(mask.sum()) * grid.voxel_volume
    sizes = np.array(grid.spacing)

    def made(level: float) -> tuple[np.ndarray, np.ndarray]:
        points, triangles = marching_cubes(soft, level)[:2]
        return points - 4.0, triangles

    def excess(level: float) -> float:
        points, triangles = made(level)
        return abs(enclosed(points * sizes, triangles)) - wanted

    top = 0.98 * float(soft.max())
    level = optimize.brentq(excess, 0.02, top, xtol=1e-4) if excess(0.02) > 0 > excess(top) else 0.5 * top
    points, triangles = made(float(level))
    if enclosed(points * sizes, triangles) < 0:
        triangles = triangles[:, ::-1]
    matrix = voxel_to_world(grid)
    world = points @ matrix[:3, :3].T + matrix[:3, 3]
    if np.linalg.det(matrix[:3, :3]) < 0:
        triangles = triangles[:, ::-1]
    return world, np.ascontiguousarray(triangles)


def enclosed(points: np.ndarray, triangles: np.ndarray) -> float:
    """Signed volume within a closed surface, positive where it faces outward."""
    a, b, c = (points[triangles[:, n]] for n in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6.0)


def volume(mask: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The voxels of a mask as tetrahedra that fit together, six a voxel.

    Returns
    -------
    points : ndarray, shape (n, 3)
        mm.
    cells : ndarray of int, shape (6 voxels, 4)
        Positively oriented, in C order of the voxels.

    Raises
    ------
    BadInput
        If the mask is empty.
    """
    if not mask.any():
        raise BadInput("the mask is empty: it has no volume", "mesh")
    index = np.argwhere(mask)
    shape = tuple(n + 1 for n in grid.shape)
    corners = np.stack([np.ravel_multi_index(tuple((index + c).T), shape) for c in _CORNERS], axis=1)
    used, cells = np.unique(corners, return_inverse=True)
    cells = cells.reshape(corners.shape)
    matrix = voxel_to_world(grid)
    points = (np.stack(np.unravel_index(used, shape), axis=1) - 0.5) @ matrix[:3, :3].T + matrix[:3, 3]
    tetrahedra = np.stack([cells[:, t] for t in _TETRAHEDRA], axis=1).reshape(-1, 4)
    if np.linalg.det(matrix[:3, :3]) < 0:
        tetrahedra = tetrahedra[:, [0, 2, 1, 3]]
    return points, tetrahedra


def write_surface(path: Path, mask: np.ndarray, grid: Grid) -> Path:
    """The mask's surface as VTK (or STL, PLY: by the file's ending)."""
    import meshio

    points, triangles = surface(mask, grid)
    return write_with(path, lambda p: meshio.Mesh(points, [("triangle", triangles)]).write(p))


def write_volume(path: Path, mask: np.ndarray, grid: Grid, maps: Mapping[str, np.ndarray]) -> Path:
    """The mask's voxels as tetrahedra with the maps' values on them, as VTK (or what meshio writes by the ending).

    Parameters
    ----------
    path : Path
    mask : ndarray of bool, shape grid.shape
    grid : Grid
    maps : mapping of name to ndarray, shape grid.shape
    """
    import meshio

    points, cells = volume(mask, grid)
    data = {name: [np.repeat(array[mask].astype(float), 6)] for name, array in maps.items()}
    return write_with(path, lambda p: meshio.Mesh(points, [("tetra", cells)], cell_data=data).write(p))
