"""How sure an outline is: its boundary moved by smooth random displacements, and what that does to the volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..domain.errors import BadInput
from ..domain.grid import Grid
from ..domain.keys import generator


@dataclass(frozen=True)
class BoundaryDraws:
    """Perturbed outlines of a mask.

    Parameters
    ----------
    volumes : ndarray, shape (N,)
        mL.
    probability : ndarray, shape ``grid.shape``
        Share of the draws in which a voxel is inside.
    volume : float
        Of the mask itself, mL, by the same (sub-voxel) measure.
    """

    volumes: np.ndarray
    probability: np.ndarray
    volume: float

    @property
    def sd(self) -> float:
        """Standard deviation of the volume, mL."""
        return float(self.volumes.std(ddof=1))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Central interval of the volume, mL."""
        low, high = np.quantile(self.volumes, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


def signed_distance(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """Distance in mm to the boundary half-way between voxels, negative inside."""
    outside = ndimage.distance_transform_edt(~mask, sampling=grid.spacing)
    inside = ndimage.distance_transform_edt(mask, sampling=grid.spacing)
    half = min(grid.spacing) / 2.0
    return np.asarray(np.where(mask, half - inside, outside - half))


def perturb_boundary(
    mask: np.ndarray,
    grid: Grid,
    sd: float | np.ndarray,
    length: float,
    *,
    draws: int = 200,
    seed: int = 0,
) -> BoundaryDraws:
    """Move the outline by a random field and measure the volume of every draw.

    The signed distance to the outline gets a Gaussian random field of standard deviation ``sd`` with correlation
    ``exp(-r^2/(2 length^2))`` added: where it is negative is inside. Partly filled voxels count in part, so that
    displacements below a voxel are seen.

    Parameters
    ----------
    mask : ndarray of bool, shape ``grid.shape``
    grid : Grid
    sd : float or ndarray, shape ``grid.shape``
        mm. What observers differ by, or :func:`edge_sd` of the image.
    length : float
        mm over which displacements are alike. The volume's error grows with it: errors that change sign from
        voxel to voxel average out, a habit of drawing wide does not.
    draws : int
    seed : int

    Raises
    ------
    BadInput
        If the mask is empty or off the grid, or ``sd`` or ``length`` is not positive.
    """
    if mask.shape != grid.shape or not mask.any():
        raise BadInput("the mask is empty or off its grid", "boundary", "give a mask with at least one voxel")
    if not (np.asarray(sd) > 0).all() or not length > 0 or draws < 2:
        raise BadInput("the displacement, its length or the number of draws is not positive", "boundary")
    spread = np.broadcast_to(np.asarray(sd, dtype=float), grid.shape)
    most = float(spread.max())
    corner = np.argwhere(mask)
    room = [int(np.ceil(4.0 * most / h)) + 2 for h in grid.spacing]
    box = tuple(
        slice(max(a - r, 0), min(b + r + 1, n))
        for a, b, r, n in zip(corner.min(axis=0), corner.max(axis=0), room, grid.shape)
    )
    inside = mask[box]
    away, spread = signed_distance(inside, grid), spread[box]
    # a voxel is full or empty over its own thickness
    ramp = np.mean(grid.spacing)

    def filled(distance: np.ndarray) -> np.ndarray:
        return np.clip(0.5 - distance / ramp, 0.0, 1.0)

    unit = grid.voxel_volume * 1e-3
    probability = np.zeros(inside.shape)
    volumes = np.zeros(draws)
    for n in range(draws):
        field = _smooth_field(inside.shape, grid, length, generator(seed, "boundary", n))
        moved = away + spread * field
        volumes[n] = filled(moved).sum() * unit
        probability += moved < 0
    whole = np.zeros(grid.shape)
    whole[box] = probability / draws
    return BoundaryDraws(volumes, whole, float(filled(away).sum() * unit))


def _smooth_field(shape: tuple[int, ...], grid: Grid, length: float, draw: np.random.Generator) -> np.ndarray:
    """Gaussian field of unit variance and squared-exponential correlation (white noise under a Gaussian).

    Made on nodes a quarter of the length apart where that is more than a voxel, and interpolated by cubic splines.
    """
    step = [max(h, length / 4.0) for h in grid.spacing]
    sigma = [length / (np.sqrt(2.0) * s) for s in step]
    reach = [int(np.ceil(4.0 * s)) for s in sigma]
    extent = [(n - 1) * h / s for n, h, s in zip(shape, grid.spacing, step)]
    field = draw.standard_normal([int(np.ceil(e)) + 1 + 2 * (r + 2) for e, r in zip(extent, reach)])
    for axis, (s, r) in enumerate(zip(sigma, reach)):
        x = np.arange(-r, r + 1)
        kernel = np.exp(-(x**2) / (2.0 * s**2))
        field = ndimage.convolve1d(field, kernel / np.linalg.norm(kernel), axis=axis, mode="wrap")
    at = np.meshgrid(
        *(r + 2 + np.linspace(0.0, e, n) for r, e, n in zip(reach, extent, shape)), indexing="ij"
    )
    return np.asarray(ndimage.map_coordinates(field, at, order=3, mode="nearest"))


def edge_sd(image: np.ndarray, mask: np.ndarray, grid: Grid, noise_sd: float) -> float:
    """How far noise alone moves an edge, mm: noise over the gradient at the outline, with a voxel's own rounding.

    The median over the outline's voxels of ``noise / |grad|``, and ``h / sqrt(12)`` of rounding to whole voxels.

    Raises
    ------
    BadInput
        If the mask has no outline in the image.
    """
    gradient = np.gradient(np.where(np.isfinite(image), image, np.nan), *grid.spacing)
    steep = np.sqrt(np.sum(np.square(gradient), axis=0))
    rim = (mask ^ ndimage.binary_erosion(mask)) | (ndimage.binary_dilation(mask) ^ mask)
    values = steep[rim & np.isfinite(steep)]
    if not values.size or not (values > 0).any():
        raise BadInput(
            "the mask has no outline in the image", "boundary", "check that both are of the same scan"
        )
    h = float(np.mean(grid.spacing))
    return float(np.hypot(np.median(noise_sd / np.maximum(values, 1e-300)), h / np.sqrt(12.0)))
