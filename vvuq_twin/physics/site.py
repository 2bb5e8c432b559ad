"""Where a drug is delivered: a tumour, the tissue round it, and the maps that scans give of them.

The tumour and the tissue round it (to a reach) are two tissues with the fluid properties and the agent's
numbers of their names, "tumour" and "normal". Where the domain is cut inside the organ the pressure is the
far-field one; the organ's own edge (fluid spaces, bone, air) is closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from ..domain.errors import BadInput
from ..domain.grid import Grid
from .faces import Faces, assemble
from .interstitium import FluidTissue, Interstitium, load_fluid_tissues, surface_map
from .pressure import Boundary
from .tissue import Tissue

#: Names of the two tissues, in the library's files.
TUMOUR, NORMAL = "tumour", "normal"


@dataclass(frozen=True)
class Site:
    """Cells and maps of one patient's tumour and its surroundings.

    Parameters
    ----------
    faces : Faces
    table : mapping of str to FluidTissue
        Fluid properties per tissue name.
    relative : ndarray, shape (n,)
        Vessel surface over its table value: in the tumour the local over the mean perfusion, 1 elsewhere.
    phi : ndarray, shape (n,)
        Volume fraction of the interstitium.
    boundary : Boundary
        Of the pressure.
    """

    faces: Faces
    table: Mapping[str, FluidTissue]
    relative: np.ndarray
    phi: np.ndarray
    boundary: Boundary

    @property
    def tumour(self) -> np.ndarray:
        """Active cells in the tumour, bool (n,)."""
        return np.asarray(self.faces.label == self.faces.names.index(TUMOUR))

    def fluid(self) -> Interstitium:
        """Maps that set pressure and flow, at the table's values."""
        fluid = Interstitium.of(self.faces, self.table)
        return replace(fluid, filtration=fluid.filtration * self.relative)

    def tissue(self) -> Tissue:
        """The tissue without flow, at the table's values."""
        surface = surface_map(self.faces, self.table) * self.relative
        return Tissue(self.faces, np.zeros(self.faces.n), self.phi, surface=surface)


def delivery_site(
    grid: Grid,
    organ: np.ndarray,
    tumour: np.ndarray,
    reach: float = 20.0,
    perfusion: np.ndarray | None = None,
    interstitium: np.ndarray | None = None,
    tissues: Mapping[str, FluidTissue] | None = None,
) -> Site:
    """The site of a tumour in an organ.

    Parameters
    ----------
    grid : Grid
    organ, tumour : ndarray of bool, grid.shape
    reach : float
        mm of organ round the tumour that are solved.
    perfusion : ndarray, grid.shape, optional
        Ktrans or the like in any unit: in the tumour the vessels' surface is its table value times the local
        over the mean perfusion.
    interstitium : ndarray, grid.shape, optional
        ve: replaces the table's fraction where it is finite and positive.
    tissues : mapping of str to FluidTissue, optional
        The library's by default.

    Raises
    ------
    BadInput
        If the tumour is empty, off the grid or outside the organ, or a map has no usable voxel in it.
    """
    organ, tumour = np.asarray(organ, dtype=bool), np.asarray(tumour, dtype=bool)
    if organ.shape != tuple(grid.shape) or tumour.shape != tuple(grid.shape):
        raise BadInput("the organ or the tumour mask is not on the grid", "delivery", "resample them")
    if not (organ & tumour).any():
        raise BadInput("the tumour mask is empty or touches nothing of the organ", "delivery")
    inside = organ & tumour
    near = ndimage.distance_transform_edt(~inside, sampling=grid.spacing) <= reach
    table = load_fluid_tissues() if tissues is None else tissues
    faces = assemble(grid, organ & near, np.where(inside, 1, 2), {TUMOUR: 1, NORMAL: 2})
    phi = Tissue.of(faces, table).phi
    relative = np.ones(faces.n) if perfusion is None else _relative(faces, perfusion)
    if interstitium is not None:
        ve = faces.gather(interstitium)
        good = np.isfinite(ve) & (ve > 0) & (ve <= 1)
        phi = np.where(good, ve, phi)
    boundary = Boundary(array="far", labels={1: "far", 0: None}, outside=organ.astype(int))
    return Site(faces, table, relative, phi, boundary)


def _relative(faces: Faces, perfusion: np.ndarray) -> np.ndarray:
    """Local over mean perfusion in the tumour, 1 elsewhere and where it is unknown, shape (n,)."""
    local = faces.gather(perfusion)
    good = np.isfinite(local) & (local >= 0) & (faces.label == 0)
    if not good.any() or local[good].mean() <= 0:
        raise BadInput(
            "the perfusion map has no usable voxel in the tumour", "delivery", "leave it out or mend it"
        )
    return np.where(good, np.divide(local, local[good].mean(), where=good, out=np.ones_like(local)), 1.0)
