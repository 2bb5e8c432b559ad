"""The voxel grid. Arrays are indexed ``[i, j, k]`` along the image's x, y and z axes; lengths are in mm."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Grid:
    """A regular grid of voxels in patient space (ITK convention: LPS, row-major direction cosines).

    Parameters
    ----------
    shape : tuple of int
        Voxels along x, y, z.
    spacing : tuple of float
        Distance of voxel centres in mm.
    origin : tuple of float
        Position of the first voxel's centre in mm.
    direction : tuple of float, length 9
        Direction cosines, row-major.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = field(default=_IDENTITY)

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape))

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel in mm3."""
        return float(np.prod(self.spacing))

    def same_as(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether both grids are the same to ``tolerance`` mm (and 1e-4 in the direction cosines)."""
        return (
            self.shape == other.shape
            and np.allclose(self.spacing, other.spacing, rtol=0, atol=tolerance)
            and np.allclose(self.origin, other.origin, rtol=0, atol=tolerance)
            and np.allclose(self.direction, other.direction, rtol=0, atol=1e-4)
        )

    def centres(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coordinates in mm of the voxel centres along each axis, from the first voxel, origin left out."""
        x, y, z = (np.arange(n) * h for n, h in zip(self.shape, self.spacing))
        return x, y, z

    def points(self, mask: np.ndarray) -> np.ndarray:
        """Coordinates in mm, shape (n, 3), of the voxels in ``mask`` in C order, origin left out."""
        return np.argwhere(mask) * np.asarray(self.spacing)
