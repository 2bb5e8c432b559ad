"""Distance tapers and tiles for local analyses; lengths in mm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..domain.errors import BadInput

# Half support over length scale: near its centre the taper has the curvature of exp(-d^2 / (2 r^2)).
HALF_SUPPORT = float(np.sqrt(10.0 / 3.0))


@dataclass(frozen=True)
class Taper:
    """A weight that falls from one with the distance and is zero from ``reach`` radii on.

    Parameters
    ----------
    name : str
    reach : float
        In units of the radius.
    shape : callable
        Of the distance over ``reach`` radii, in 0..1.

    Notes
    -----
    Called with distances and a radius, both in mm, it gives weights in 0..1. Each has the radius as its length
    scale, so that tapers may be exchanged: all but ``boxcar`` fall to about 0.6 at one radius.
    """

    name: str
    reach: float
    shape: Callable[[np.ndarray], np.ndarray]

    def __call__(self, distance: np.ndarray, radius: float) -> np.ndarray:
        if not (np.isfinite(radius) and radius > 0):
            raise BadInput(f"the localisation radius ({radius:g} mm) is not positive", "localisation")
        x = np.abs(np.asarray(distance, dtype=float)) / (self.reach * radius)
        return np.where(x < 1.0, self.shape(np.minimum(x, 1.0)), 0.0)


def _gaspari_cohn(x: np.ndarray) -> np.ndarray:
    z = 2.0 * x
    near, far = np.minimum(z, 1.0), np.clip(z, 1.0, 2.0)
    inner = 1.0 + near**2 * (-5.0 / 3.0 + near * (5.0 / 8.0 + near * (0.5 - 0.25 * near)))
    outer = (
        4.0
        - 2.0 / (3.0 * far)
        + far * (-5.0 + far * (5.0 / 3.0 + far * (5.0 / 8.0 + far * (far / 12.0 - 0.5))))
    )
    return np.where(z <= 1.0, inner, np.maximum(outer, 0.0))


#: Gaspari & Cohn (1999), Q. J. R. Meteorol. Soc. 125:723, eq. 4.10 with c = sqrt(10/3) r: it follows
#: ``exp(-d^2 / (2 r^2))`` near its centre. Positive definite in up to three dimensions.
gaspari_cohn = Taper("gaspari_cohn", 2.0 * HALF_SUPPORT, _gaspari_cohn)
#: Wendland (1995), Adv. Comput. Math. 4:389, psi_{3,1}: ``(1 - x)^4 (4 x + 1)``; positive definite in up to
#: three dimensions. Curvature at the centre that of ``exp(-d^2 / (2 r^2))``.
wendland = Taper("wendland", float(np.sqrt(20.0)), lambda x: (1.0 - x) ** 4 * (4.0 * x + 1.0))
#: The spherical model of geostatistics, ``1 - 1.5 x + 0.5 x^3``: a cusp at the centre; positive definite in up
#: to three dimensions. Falls to 0.6 at one radius.
spherical = Taper("spherical", 3.72, lambda x: 1.0 - 1.5 * x + 0.5 * x**3)
#: One inside the radius, zero outside; not positive definite, so for local analyses only.
boxcar = Taper("boxcar", 1.0, np.ones_like)


@dataclass(frozen=True)
class Tiles:
    """Groups of neighbouring voxels that share one local transform.

    Parameters
    ----------
    centres : ndarray, shape (T, 3)
        Mean position of each tile's voxels, in mm.
    tile_of : ndarray of int, shape (n,)
        Tile of each column of the state; -1 for a column that has no place.
    """

    centres: np.ndarray
    tile_of: np.ndarray

    @staticmethod
    def of(points: np.ndarray, edge: float, fields: int = 1, shared: int = 0) -> Tiles:
        """Cubes of side ``edge`` over the voxels of a state of ``fields`` fields and then shared values.

        Parameters
        ----------
        points : ndarray, shape (V, 3)
            Voxel positions in mm.
        edge : float
            Side in mm; 0 gives every voxel its own tile.
        fields : int
            Fields in the state, one after another, each of V voxels.
        shared : int
            Columns without a place at the end of the state.
        """
        points = np.asarray(points, dtype=float)
        if points.ndim != 2 or len(points) == 0 or not np.isfinite(points).all():
            raise BadInput("the voxels of a local analysis have no finite positions", "localisation")
        if not (np.isfinite(edge) and edge >= 0):
            raise BadInput(f"the side of the tiles ({edge:g} mm) is negative", "localisation")
        if edge == 0:
            tile, centres = np.arange(len(points)), points
        else:
            cells = np.floor((points - points.min(axis=0)) / edge + 1e-9).astype(int)
            _, tile = np.unique(cells, axis=0, return_inverse=True)
            tile = tile.reshape(-1)
            count = np.bincount(tile)
            centres = np.stack([np.bincount(tile, weights=x) / count for x in points.T], axis=1)
        return Tiles(centres, np.concatenate([np.tile(tile, fields), np.full(shared, -1)]))
