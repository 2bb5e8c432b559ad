"""Resampling through a transform that keeps what it must: the volume of a mask, the activity of a scan."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from ..domain.grid import Grid
from .itk import from_itk, to_itk
from .resample import voxel_to_world


def mask_on(mask: np.ndarray, own: Grid, target: Grid, transform: Any, fine: int = 3) -> np.ndarray:
    """A moving mask on the fixed grid, with as many voxels as its volume there asks for.

    The part of each target voxel that the mask fills is the mean, over ``fine``^3 points in it, of the mask
    interpolated linearly, whose integral is the mask's volume; the fullest voxels become the mask, as many as the
    parts add up to. A threshold at one half at voxel centres would shave the edges of small masks.

    Parameters
    ----------
    mask : ndarray of bool, shape ``own.shape``
    own, target : Grid
    transform : SimpleITK.Transform
        From points of the target to points of the mask's own image.
    fine : int

    Returns
    -------
    ndarray of bool, shape ``target.shape``
    """
    part = _part(mask, own, target, transform, fine)
    count = round(float(part.sum()))
    out = np.zeros(target.shape, dtype=bool)
    if count:
        fullest = np.argsort(-part, axis=None, kind="stable")[:count]
        out.ravel()[fullest] = True
    return out


def _part(mask: np.ndarray, own: Grid, target: Grid, transform: Any, fine: int) -> np.ndarray:
    """How much of each target voxel the mask fills."""
    import SimpleITK as sitk

    i, j, k = (n * fine for n in target.shape)
    x, y, z = (h / fine for h in target.spacing)
    found = sitk.Resample(
        to_itk(mask.astype(float), own), (i, j, k), transform, sitk.sitkLinear, _first(target, fine),
        (x, y, z), target.direction, 0.0, sitk.sitkFloat32,
    )  # fmt: skip
    a, b, c = target.shape
    return np.asarray(
        from_itk(found).astype(np.float64).reshape(a, fine, b, fine, c, fine).mean(axis=(1, 3, 5))
    )


def _first(grid: Grid, fine: int) -> tuple[float, float, float]:
    """Centre of the first of the ``fine``^3 parts of the first voxel."""
    back = (1.0 / fine - 1.0) / 2.0
    x, y, z = (voxel_to_world(grid) @ [back, back, back, 1.0])[:3]
    return float(x), float(y), float(z)


def activity_on(
    concentration: np.ndarray, own: Grid, target: Grid, transform: Any, fine: int = 2
) -> tuple[np.ndarray, float]:
    """An activity concentration on the fixed grid, its activity kept.

    Each voxel's activity is carried, in ``fine``^3 parts, to where the transform's inverse takes it, and shared
    among the eight target voxels around that place. What lands in the target adds up to round-off to what left,
    whatever the transform does to volumes.

    Parameters
    ----------
    concentration : ndarray, shape ``own.shape``
        Activity per volume; NaN counts as nothing.
    own, target : Grid
    transform : SimpleITK.Transform
        From points of the target to points of the image; without folds.
    fine : int

    Returns
    -------
    concentration : ndarray, shape ``target.shape``
        In the same unit.
    lost : float
        The part of the activity that lies outside the target.
    """
    share = np.nan_to_num(concentration) * own.voxel_volume / fine**3
    total = float(np.nan_to_num(concentration).sum()) * own.voxel_volume
    out = np.zeros(target.size)
    used = np.argwhere(share != 0)
    amounts = share[tuple(used.T)]
    at, slope = _back(own, used, target, transform)
    steps = (np.arange(fine) + 0.5) / fine - 0.5
    for offset in np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3):
        _share(out, at + slope @ offset, amounts, target)
    field = out.reshape(target.shape) / target.voxel_volume
    lost = 1.0 - float(out.sum()) / total if total else 0.0
    return field, lost


def _share(out: np.ndarray, at: np.ndarray, amounts: np.ndarray, grid: Grid) -> None:
    """Add amounts to the eight voxels around each place (voxel indices), in place."""
    low = np.floor(at).astype(np.intp)
    part = at - low
    # a place in the outer half of an edge voxel is that voxel's
    shape = np.array(grid.shape)
    inside = ((at >= -0.5) & (at <= shape - 0.5)).all(axis=1)
    for corner in np.ndindex(2, 2, 2):
        index = np.clip(low + corner, 0, shape - 1)
        weight = np.where(np.array(corner), part, 1.0 - part).prod(axis=1) * amounts * inside
        out += np.bincount(np.ravel_multi_index(tuple(index.T), grid.shape), weight, minlength=grid.size)


def _back(own: Grid, used: np.ndarray, target: Grid, transform: Any) -> tuple[np.ndarray, np.ndarray]:
    """Where the voxels of an image lie in the target, as voxel indices there, and how that changes within a voxel.

    Returns
    -------
    at : ndarray, shape (n, 3)
    slope : ndarray, shape (3, 3) or (n, 3, 3)
        Of the place with the image's own voxel index.
    """
    world, inverse = voxel_to_world(own), np.linalg.inv(voxel_to_world(target))
    if transform.IsLinear():
        back = transform.GetInverse()
        corner = np.array(back.TransformPoint((0.0, 0.0, 0.0)))
        turn = np.stack([np.array(back.TransformPoint(tuple(e))) - corner for e in np.eye(3)], axis=1)
        linear = inverse[:3, :3] @ turn @ world[:3, :3]
        shift = inverse[:3, :3] @ (turn @ world[:3, 3] + corner) + inverse[:3, 3]
        return used @ linear.T + shift, linear
    field = _displacement(target, transform)
    points = used @ world[:3, :3].T + world[:3, 3]
    at = _fixed_point(points, field, inverse)
    # the displacement's gradient, from voxel to voxel of the target: x = y - u(x), so dx = (1 + du/dx)^-1 dy
    bend = np.stack([np.stack(np.gradient(f), axis=0) for f in field])
    shape = np.array(target.shape)
    near = tuple(np.clip(np.rint(at).astype(np.intp), 0, shape - 1).T)
    change = np.moveaxis(bend[(slice(None), slice(None), *near)], -1, 0)
    whole = voxel_to_world(target)[:3, :3] + change
    return at, np.linalg.solve(whole, np.broadcast_to(world[:3, :3], whole.shape))


def _fixed_point(points: np.ndarray, field: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Voxel indices of the target that the displacement takes to these points (x = y - u(x), iterated)."""
    where = points.copy()
    for _ in range(30):
        index = where @ inverse[:3, :3].T + inverse[:3, 3]
        u = np.stack([ndimage.map_coordinates(f, index.T, order=1, mode="nearest") for f in field], axis=1)
        step = points - u - where
        where += step
        if np.abs(step).max() < 1e-3:
            break
    return np.asarray(where @ inverse[:3, :3].T + inverse[:3, 3])


def _displacement(grid: Grid, transform: Any) -> np.ndarray:
    """The transform's displacement at the voxels of a grid, shape (3, *grid.shape), mm."""
    import SimpleITK as sitk

    field = sitk.TransformToDisplacementField(
        transform, sitk.sitkVectorFloat64, grid.shape, grid.origin, grid.spacing, grid.direction
    )
    return np.moveaxis(from_itk(field), 3, 0)
