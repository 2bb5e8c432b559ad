"""A brain-like domain: two hemispheres, folded cortex, deep nuclei, ventricles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..domain.grid import Grid
from ..domain.keys import generator
from .fields import smooth_noise

CSF, GREY, WHITE = 0, 1, 2
LABELS = {GREY: "grey", WHITE: "white"}
#: Semi-axes in mm (left-right, front-back, up-down) of an adult cerebrum of about 1.4 litres.
SEMI_AXES = (71.0, 88.0, 66.0)


@dataclass(frozen=True)
class Brain:
    """Tissue labels on a grid: 0 outside and cerebrospinal fluid, 1 grey, 2 white."""

    grid: Grid
    tissue: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """Where a glioma can grow: grey or white matter."""
        return self.tissue > CSF


def make_brain(spacing: float, seed: int, multiple: int = 1) -> Brain:
    """A virtual patient's brain.

    Parameters
    ----------
    spacing : float
        Voxel size in mm, the same along each axis.
    seed : int
        Key of the patient: size, folding and asymmetry vary.
    multiple : int
        The voxels along each axis are a multiple of this, so that they can be averaged in blocks.

    Returns
    -------
    Brain

    Notes
    -----
    Not an atlas: an ellipsoid with a folded cortical ribbon 3 to 4 mm thick, an interhemispheric
    fissure, two lateral ventricles and deep grey nuclei. What matters to growth is there: two tissues
    with different diffusivity, and barriers. The box is a multiple of 8 mm, so that grids of 1, 2 and
    4 mm hold one another; where the voxels do not divide it, it is made larger by what they lack.
    """
    scale = 1.0 + 0.03 * generator(seed, "brain", "size").standard_normal()
    semi = np.array(SEMI_AXES) * np.clip(scale, 0.92, 1.08)
    extent = 8.0 * np.ceil(2 * (semi + 4.0) / 8.0)
    shape = tuple(multiple * int(n) for n in np.ceil(np.round(extent / spacing) / multiple))
    extent = np.array(shape) * spacing
    grid = Grid(shape, (spacing,) * 3, tuple(float(v) for v in (spacing - extent) / 2))  # type: ignore[arg-type]
    x, y, z = np.meshgrid(*(c + o for c, o in zip(grid.centres(), grid.origin)), indexing="ij", sparse=True)

    # The anatomy is drawn on a fixed lattice of 4 mm and interpolated, so that it is the same at any spacing.
    folds = _on_lattice(grid, 6.0, seed, "folds")
    wobble = _on_lattice(grid, 14.0, seed, "wobble")
    radius = np.sqrt((x / semi[0]) ** 2 + (y / semi[1]) ** 2 + (z / semi[2]) ** 2)
    depth = (1.0 - radius) * semi.min() + 1.5 * wobble
    brain = depth > 0
    fissure = (np.abs(x + 0.8 * wobble) < 2.0) & (depth < 26.0)
    sulcus = (np.abs(folds) < 0.16) & (depth < 11.0)
    horn = ((np.abs(x) - 11.0) / 6.5) ** 2 + ((y + 4.0) / 30.0) ** 2 + (
        (z - 6.0) / 11.0
    ) ** 2 < 1.0 + 0.15 * wobble
    tissue = np.where(brain & ~fissure & ~sulcus & ~horn, WHITE, CSF)

    depth_in = ndimage.distance_transform_edt(brain & ~fissure & ~sulcus, sampling=grid.spacing)
    ribbon = depth_in - 0.5 * spacing < 3.0
    nuclei = ((np.abs(x) - 20.0) / 9.0) ** 2 + ((y + 2.0) / 20.0) ** 2 + (
        (z + 6.0) / 12.0
    ) ** 2 < 1.0 + 0.2 * wobble
    tissue[(ribbon | nuclei) & (tissue == WHITE)] = GREY
    return Brain(grid, _largest_piece(tissue))


def _on_lattice(grid: Grid, length: float, seed: int, name: str) -> np.ndarray:
    """A smooth random field drawn at 4 mm and interpolated to ``grid``."""
    step = 4.0
    extent = [n * h for n, h in zip(grid.shape, grid.spacing)]
    coarse = Grid(tuple(round(e / step) for e in extent), (step,) * 3)  # type: ignore[arg-type]
    field = smooth_noise(coarse, length, seed, "brain", name)
    at = [(np.arange(n) + 0.5) * h / step - 0.5 for n, h in zip(grid.shape, grid.spacing)]
    return ndimage.map_coordinates(field, np.meshgrid(*at, indexing="ij"), order=1, mode="nearest")


def _largest_piece(tissue: np.ndarray) -> np.ndarray:
    """Tissue without pieces that are cut off from the rest."""
    pieces, count = ndimage.label(tissue > CSF)
    if count <= 1:
        return tissue
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.where(pieces == sizes.argmax(), tissue, CSF)


def block_mean(field: np.ndarray, factor: int) -> np.ndarray:
    """Mean over blocks of ``factor``^3 voxels; the shape must be divisible."""
    a, b, c = (n // factor for n in field.shape)
    return field.reshape(a, factor, b, factor, c, factor).mean(axis=(1, 3, 5))
