"""Images from one grid onto another. The registration of scans, and its error, is another matter."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import ndimage

from ..domain.errors import BadInput
from ..domain.grid import Grid


def voxel_to_world(grid: Grid) -> np.ndarray:
    """Matrix from voxel indices to mm in patient space (LPS), shape (4, 4)."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(grid.direction).reshape(3, 3) * np.array(grid.spacing)
    matrix[:3, 3] = grid.origin
    return matrix


def index_map(source: Grid, target: Grid) -> np.ndarray:
    """Matrix from the target's voxel indices to the source's, shape (4, 4)."""
    return np.linalg.solve(voxel_to_world(source), voxel_to_world(target))


def resample(
    array: np.ndarray,
    source: Grid,
    target: Grid,
    method: Literal["linear", "nearest"],
    outside: float = np.nan,
) -> np.ndarray:
    """Sample an image at the voxel centres of another grid.

    Parameters
    ----------
    array : ndarray, shape ``source.shape`` or (t, *source.shape)
    source, target : Grid
    method : {"linear", "nearest"}
        Trilinear for maps, nearest for labels and masks.
    outside : float
        Value at centres that lie in no voxel of the source (NaN becomes 0 in whole numbers and masks).

    Returns
    -------
    ndarray, shape ``target.shape`` or (t, *target.shape)
        float64 for linear, the array's own type for nearest.
    """
    if array.ndim == 4:
        return np.stack([resample(volume, source, target, method, outside) for volume in array])
    matrix = index_map(source, target)
    inside = np.ones(target.shape, dtype=bool)
    axes = [np.arange(n).reshape([-1 if a == d else 1 for a in range(3)]) for d, n in enumerate(target.shape)]
    nearest = []
    for d in range(3):
        at = sum(matrix[d, a] * axes[a] for a in range(3)) + matrix[d, 3]
        inside &= (at >= -0.5 - 1e-6) & (at <= source.shape[d] - 0.5 + 1e-6)
        if method == "nearest":
            nearest.append(np.clip(np.floor(at + 0.5).astype(np.intp), 0, source.shape[d] - 1))
    if method == "nearest":
        found = array[tuple(np.broadcast_arrays(*nearest))]
        whole = array.dtype.kind in "iub"  # these have no NaN
        found[~inside] = 0 if whole and not np.isfinite(outside) else outside
        return found
    result = ndimage.affine_transform(
        array.astype(np.float64, copy=False),
        matrix[:3, :3],
        matrix[:3, 3],
        target.shape,
        order=1,
        mode="nearest",
    )
    result[~inside] = outside
    return result


def block_average(
    array: np.ndarray, source: Grid, target: Grid, outside: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Average a finer image over the voxels of a coarser one, by exact overlap of volumes.

    Parameters
    ----------
    array : ndarray, shape ``source.shape``
    source, target : Grid
        Their axes must be parallel (flips and exchanges of axes are allowed).
    outside : float, optional
        What the source is taken to be beyond its edge. With 0 the integral (sum times voxel volume) of a
        source inside the target is kept to round-off. Absent: the mean over the covered part.

    Returns
    -------
    average : ndarray, shape ``target.shape``
        NaN where nothing is covered and ``outside`` is absent.
    covered : ndarray, shape ``target.shape``
        Fraction of each target voxel that the source covers.

    Raises
    ------
    BadInput
        If the grids are rotated against each other.
    """
    matrix = index_map(source, target)
    turn = np.array(source.direction).reshape(3, 3).T @ np.array(target.direction).reshape(3, 3)
    order = np.abs(turn).argmax(axis=0)  # source axis along each target axis
    if not np.allclose(np.abs(turn), np.eye(3)[:, order], atol=1e-4):
        raise BadInput(
            "the two grids are rotated against each other", "resampling", "use linear interpolation"
        )
    result = np.transpose(array, order).astype(np.float64)
    covered = np.ones(result.shape)
    for axis in range(3):
        d = order[axis]
        weights = _overlap(source.shape[d], target.shape[axis], matrix[d, axis], matrix[d, 3])
        result = np.moveaxis(np.tensordot(weights, result, axes=(1, axis)), 0, axis)
        covered = np.moveaxis(np.tensordot(weights, covered, axes=(1, axis)), 0, axis)
    if outside is not None:
        return result + (1.0 - covered) * outside, covered
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(covered > 1e-9, result / covered, np.nan), covered


def _overlap(n_source: int, n_target: int, step: float, start: float) -> np.ndarray:
    """Fraction of each target cell that each source cell fills, shape (n_target, n_source).

    In units of source cells: source cell s is [s - 1/2, s + 1/2], target cell t is centred at
    ``start + step t`` and is ``abs(step)`` wide.
    """
    width = abs(step)
    centre = start + step * np.arange(n_target)[:, None]
    cell = np.arange(n_source)[None, :]
    low = np.maximum(centre - width / 2, cell - 0.5)
    high = np.minimum(centre + width / 2, cell + 0.5)
    return np.clip(high - low, 0.0, None) / width


def overlap_fraction(source: Grid, target: Grid, samples: int = 24) -> float:
    """How much of the target's box lies in the source's box, from at most ``samples`` points an axis."""
    axes = [(np.arange(samples) + 0.5) / samples * n - 0.5 for n in target.shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    matrix = index_map(source, target)
    at = points @ matrix[:3, :3].T + matrix[:3, 3]
    inside = ((at >= -0.5) & (at <= np.array(source.shape) - 0.5)).all(axis=1)
    return float(inside.mean())
