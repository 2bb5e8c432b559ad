"""How sure an outline is: its boundary moved by smooth random displacements, and what that does to the volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, spatial

from ..domain.errors import BadInput
from ..domain.grid import Grid
from ..domain.keys import generator
from .shape import mesh


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
    """Distance in mm of voxel centres to the mesh half-way between voxels inside and outside, negative inside."""
    vertices, faces = mesh(mask, grid)
    corners = vertices[faces]
    # corners, middles of edges and of triangles: no place of the mesh is far from one of them
    points = np.concatenate(
        [vertices, corners.mean(axis=1), (corners + np.roll(corners, 1, axis=1)).reshape(-1, 3) / 2.0]
    )
    centres = np.stack(np.meshgrid(*grid.centres(), indexing="ij"), axis=-1)
    away = spatial.cKDTree(points).query(centres.reshape(-1, 3))[0].reshape(mask.shape)
    return np.asarray(np.where(mask, -away, away))


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
    local = Grid(inside.shape, grid.spacing)
    away, spread = signed_distance(inside, local), spread[box]
    # a voxel fills over its own thickness along the outline's normal
    normal = np.stack(np.gradient(away, *grid.spacing))
    normal /= np.maximum(np.linalg.norm(normal, axis=0), 1e-12)
    thickness = np.tensordot(np.asarray(grid.spacing), np.abs(normal), axes=1)
    thickness = np.maximum(thickness, min(grid.spacing))

    def filled(distance: np.ndarray) -> np.ndarray:
        return np.clip(0.5 - distance / thickness, 0.0, 1.0)

    weights = [_axis_weights(n, h, length) for n, h in zip(inside.shape, grid.spacing)]
    unit = grid.voxel_volume * 1e-3
    probability = np.zeros(inside.shape)
    volumes = np.zeros(draws)
    for n in range(draws):
        field = _smooth_field(weights, generator(seed, "boundary", n))
        moved = away + spread * field
        volumes[n] = filled(moved).sum() * unit
        probability += moved < 0
    whole = np.zeros(grid.shape)
    whole[box] = probability / draws
    return BoundaryDraws(volumes, whole, float(filled(away).sum() * unit))


def _axis_weights(n: int, h: float, length: float) -> np.ndarray:
    """Gaussian weights of white noise on nodes a quarter of the length apart, rows of unit norm, shape (n, nodes)."""
    step = length / 4.0
    x = np.arange(n) * h
    nodes = np.arange(-12, int(np.ceil(x[-1] / step)) + 13) * step
    # smoothing white noise by exp(-r^2/length^2) gives the correlation exp(-r^2/(2 length^2))
    weights = np.exp(-(((x[:, None] - nodes) / length) ** 2))
    return np.asarray(weights / np.linalg.norm(weights, axis=1, keepdims=True))


def _smooth_field(weights: list[np.ndarray], draw: np.random.Generator) -> np.ndarray:
    """Gaussian field of unit variance and squared-exponential correlation: weighted white noise, axis by axis."""
    field = draw.standard_normal([w.shape[1] for w in weights])
    for w in weights:
        # the axis done goes to the end: after three the order is back
        field = np.tensordot(field, w, axes=(0, 1))
    return field


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
