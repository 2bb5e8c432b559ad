"""Reduced interstitial pressure and flow: a basis of its own, coefficients by empirical interpolation.

The pressure's system is a sum over faces and cells, ``A = sum_f g_f B_f + sum_i d_i E_i`` (and its right-hand side over
faces), with conductances g and exchanges d that are known functions of the parameters in one or two cells. Without sub-grid
fluxes they are affine in few numbers (K per pair of tissues, Lp S/V per tissue); with them, or with maps that vary by voxel,
they are not. Either way they are interpolated from a few of their own entries
(:mod:`~vvuq_twin.reduction.interpolation`; for matrices: Negri, Manzoni & Amsallem 2015, J. Comput. Phys. 303:431), so that

    (V^T A Q V) a = V^T b,     V^T A Q V = sum_k alpha_k V^T A_k V,     V^T b = sum_k beta_k V^T b_k

costs nothing of the size n: exact to round-off where they are affine. The unknown is ``y = u / q`` with q = 1, and the projected
matrix symmetric, for plain fluxes. With sub-grid fluxes the exchange of a cell grows like ``exp(h/L)`` and its u vanishes
alike: there ``q = w/(exchange + d w)``, d the conductance of a cell's faces, so that y stays of order one. The flow through a face follows from its
conductance and the reduced pressure of its two cells. Upwind convection needs its positive and its negative part:
these are interpolated in turn, each part from the flow at its own chosen faces, so that the reduced
order follows the full order's upwind scheme, sign of the flow included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..physics.interstitium import far_pressure
from ..physics.pressure import (
    cell_weight,
    half_conductance,
    in_series,
)
from .delivery_numbers import SCORES
from .exchange import Vessels


class Walls(NamedTuple):
    """All open and outer faces in one list.

    Parameters
    ----------
    low, high : array of int, shape (F,)
        Cells below and above; the same cell twice at an outer face.
    spacing : array, shape (F,)
        mm across the face.
    orientation : array, shape (F,)
        What a face between two tissues sees of the rim.
    open : array of bool, shape (F,)
        False at outer faces of fixed pressure.
    """

    low: Any
    high: Any
    spacing: Any
    orientation: Any
    open: Any

    def at(self, chosen: np.ndarray) -> Walls:
        """Some of them."""
        return Walls(*(part[chosen] for part in self))


class Fluid(NamedTuple):
    """Values at k cells of N members, arrays (N, k): see :class:`~vvuq_twin.physics.interstitium.Interstitium`."""

    conductivity: Any
    filtration: Any
    effective: Any
    drainage: Any
    lymph: Any

    @property
    def exchange(self) -> Any:
        """Lp S/V + LpL (S/V)_L, 1/mmHg/h."""
        return self.filtration + self.drainage

    def scales(self, spacing: tuple[float, float, float], subgrid: bool, xp: Any) -> tuple[Any, Any, Any]:
        """What makes of the unknown y: u, the pressure's deviation, and the exchanged fluid."""
        one = xp.ones_like(self.conductivity)
        if not subgrid:
            return one, one, self.exchange
        weight = cell_weight(self.conductivity, self.exchange, spacing, subgrid, xp)
        size = self.exchange + 4.0 * sum(h**-2 for h in spacing) * self.conductivity * weight
        size = xp.where(size > 0, size, 1.0)
        return weight / size, 1.0 / size, self.exchange / size

    def far(self, xp: Any) -> Any:
        """Far-field pressure, mmHg."""
        return far_pressure(self.filtration, self.drainage, self.effective, self.lymph, xp)


def fluid_at(fluid: Mapping[str, Any], label: Any, vessels: Vessels, xp: Any = np) -> Fluid:
    """Values at cells of these tissues and vessels, from those per tissue (N, L)."""
    p_e = fluid["p_v"] - fluid["sigma"] * (fluid["pi_v"] - fluid["pi_i"])
    filtration = (fluid["Lp"] * fluid["S"])[:, label] * vessels.surface(fluid[SCORES], xp)
    return Fluid(
        fluid["K"][:, label], filtration, p_e[:, label], fluid["LpL"][:, label], fluid["p_L"][:, label]
    )


def conductance(walls: Walls, low: Fluid, high: Fluid, subgrid: bool, xp: Any = np) -> Any:
    """Conductances of faces, mm/mmHg/h, shape (N, F); of half a cell at an outer one."""
    a = half_conductance(low.conductivity, low.exchange, walls.spacing, subgrid, xp)
    b = half_conductance(high.conductivity, high.exchange, walls.spacing, subgrid, xp)
    return xp.where(walls.open, in_series(a, b, xp), a) * walls.orientation


@dataclass(frozen=True)
class Entries:
    """Chosen faces and cells and what they need of the site.

    Parameters
    ----------
    walls : Walls
        Of the chosen faces, k of them.
    label : tuple of two arrays, shape (k,)
        Of the cells below and above.
    vessels : tuple of two Vessels
        The same.
    """

    walls: Walls
    label: tuple[np.ndarray, np.ndarray]
    vessels: tuple[Vessels, Vessels]

    @classmethod
    def of(cls, label: np.ndarray, vessels: Vessels, walls: Walls) -> Entries:
        """From the tissues and vessels of all cells."""
        low, high = walls.low, walls.high
        return cls(walls, (label[low], label[high]), (vessels.at(low), vessels.at(high)))

    def fluid(self, fluid: Mapping[str, Any], xp: Any) -> tuple[Fluid, Fluid]:
        """Values below and above of N members."""
        low, high = (fluid_at(fluid, a, b, xp) for a, b in zip(self.label, self.vessels))
        return low, high

    def conductance(self, fluid: Mapping[str, Any], subgrid: bool, xp: Any) -> Any:
        """(N, k), mm/mmHg/h."""
        return conductance(self.walls, *self.fluid(fluid, xp), subgrid, xp)

    def drop(self, fluid: Mapping[str, Any], xp: Any) -> Any:
        """Difference of the far-field pressures below and above, (N, k), mmHg."""
        low, high = self.fluid(fluid, xp)
        return xp.where(self.walls.open, low.far(xp) - high.far(xp), 0.0)


@dataclass(frozen=True)
class ReducedFlow:
    """Pressure and flow of one site.

    Parameters
    ----------
    subgrid : bool
    spacing : tuple of float
        Of the grid, mm.
    vectors : ndarray, shape (n, r)
        Basis V of y.
    left : ndarray, shape (k, r, r)
        ``V^T A_k V`` of the interpolated coefficients.
    faces, cells : Entries
        Faces and cells the coefficients of the matrix come from, k of each.
    kind : ndarray of int, shape (k,)
        0: a face's column below, 1: above, 2: a cell's exchange.
    right : ndarray, shape (b, r)
        ``V^T b_k``.
    drops : Entries
        Faces the right-hand side comes from.
    through : Entries
        Faces the flow comes from.
    below, above : ndarray, shape (c, r)
        Rows of V of their cells; zero above an outer face.
    upward : ndarray of bool, shape (c,)
        Whether the flow's positive part is taken there, or the negative.
    """

    subgrid: bool
    spacing: tuple[float, float, float]
    vectors: np.ndarray
    left: np.ndarray
    faces: Entries
    cells: Entries
    kind: np.ndarray
    right: np.ndarray
    drops: Entries
    through: Entries
    below: np.ndarray
    above: np.ndarray
    upward: np.ndarray

    def system(self, fluid: Mapping[str, Any], xp: Any = np) -> tuple[Any, Any]:
        """Matrix (N, r, r) and right-hand side (N, r) for members' values (N, L)."""
        alpha = matrix_entries(self.faces, self.cells, fluid, self.spacing, self.subgrid, xp)
        alpha = xp.where(self.kind == 0, alpha[0], xp.where(self.kind == 1, alpha[1], alpha[2]))
        beta = self.drops.conductance(fluid, self.subgrid, xp) * self.drops.drop(fluid, xp)
        left = xp.einsum("nk,kij->nij", alpha, xp.asarray(self.left))
        return left, beta @ xp.asarray(self.right)

    def solve(self, fluid: Mapping[str, Any], xp: Any = np) -> Any:
        """Coefficients (N, r) of the pressure's deviation."""
        left, right = self.system(fluid, xp)
        return xp.linalg.solve(left, right[:, :, None])[:, :, 0]

    def parts(self, fluid: Mapping[str, Any], a: Any, xp: Any = np) -> Any:
        """Flow parts at the chosen faces over the spacing, (N, c), 1/h: the coefficients of convection."""
        g = self.through.conductance(fluid, self.subgrid, xp) / self.through.walls.spacing
        low, high = (f.scales(self.spacing, self.subgrid, xp)[0] for f in self.through.fluid(fluid, xp))
        speed = g * (low * (a @ self.below.T) - high * (a @ self.above.T) + self.through.drop(fluid, xp))
        return xp.where(self.upward, xp.maximum(speed, 0.0), xp.minimum(speed, 0.0))

    def exchange(self, fluid: Mapping[str, Any], a: Any, rows: Any, label: Any, vessels: Vessels, xp: Any = np) -> tuple[Any, Any]:  # fmt: skip
        """Fluid filtered and drained, 1/h, (N, k), at cells with these rows of V."""
        here = fluid_at(fluid, label, vessels, xp)
        pressure = here.far(xp) + (a @ rows.T) * here.scales(self.spacing, self.subgrid, xp)[1]
        return here.filtration * (here.effective - pressure), here.drainage * (pressure - here.lymph)


def matrix_entries(
    faces: Entries, cells: Entries, fluid: Mapping[str, Any], spacing: tuple[float, float, float], subgrid: bool, xp: Any
) -> tuple[Any, Any, Any]:  # fmt: skip
    """Coefficients (N, k) of the matrix at faces, on the unknown below and above, and at cells."""
    g = faces.conductance(fluid, subgrid, xp) / faces.walls.spacing
    low, high = (f.scales(spacing, subgrid, xp)[0] for f in faces.fluid(fluid, xp))
    return g * low, xp.where(faces.walls.open, g * high, 0.0), cells.fluid(fluid, xp)[0].scales(spacing, subgrid, xp)[2]  # fmt: skip
