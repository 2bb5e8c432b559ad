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
from scipy import sparse

from ..domain.errors import BadInput
from ..physics.interstitium import Interstitium, far_pressure
from ..physics.pressure import (
    PressureSystem,
    cell_weight,
    half_conductance,
    in_series,
    interstitial_flow,
    pressure_system,
    rim_orientation,
)
from ..physics.site import Site
from .interpolation import Interpolated, interpolated
from .pod import pod


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


def fluid_at(fluid: Mapping[str, Any], label: Any, relative: Any) -> Fluid:
    """Values at cells of these tissues and relative vessel surfaces, from those per tissue (N, L)."""
    p_e = fluid["p_v"] - fluid["sigma"] * (fluid["pi_v"] - fluid["pi_i"])
    filtration = (fluid["Lp"] * fluid["S"])[:, label] * relative
    return Fluid(
        fluid["K"][:, label], filtration, p_e[:, label], fluid["LpL"][:, label], fluid["p_L"][:, label]
    )


def site_walls(site: Site, system: PressureSystem, subgrid: bool) -> Walls:
    """The open faces along each axis, then the outer faces of fixed pressure.

    Raises
    ------
    BadInput
        If an outer face has a pressure other than the far-field one.
    """
    faces = site.faces
    low = [a for a, _, _ in faces.neighbours]
    high = [b for _, b, _ in faces.neighbours]
    orientation = rim_orientation(faces) if subgrid else [np.ones(len(a)) for a in low]
    spacing = [np.full(len(a), h) for a, h in zip(low, faces.grid.spacing)]
    inner = sum(len(a) for a in low)
    given = (*site.boundary.labels.values(), site.boundary.array, site.boundary.mask)
    if any(isinstance(value, (int, float)) for value in given):
        raise BadInput("the pressure is fixed to a number at an edge", "reduced flow", "use 'far' or None")
    for axis, cells, _ in system.outer:
        low.append(cells)
        high.append(cells)
        orientation.append(np.ones(len(cells)))
        spacing.append(np.full(len(cells), faces.grid.spacing[axis]))
    every = [np.concatenate(part) for part in (low, high, spacing, orientation)]
    return Walls(*every, np.arange(len(every[0])) < inner)  # type: ignore[call-arg]


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
    label, relative : tuple of two arrays, shape (k,)
        Of the cells below and above.
    """

    walls: Walls
    label: tuple[np.ndarray, np.ndarray]
    relative: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, site: Site, walls: Walls) -> Entries:
        label, relative = site.faces.label, site.relative
        both = (walls.low, walls.high)
        return cls(walls, tuple(label[c] for c in both), tuple(relative[c] for c in both))  # type: ignore[arg-type]

    def fluid(self, fluid: Mapping[str, Any]) -> tuple[Fluid, Fluid]:
        """Values below and above of N members."""
        low, high = (fluid_at(fluid, a, b) for a, b in zip(self.label, self.relative))
        return low, high

    def conductance(self, fluid: Mapping[str, Any], subgrid: bool, xp: Any) -> Any:
        """(N, k), mm/mmHg/h."""
        return conductance(self.walls, *self.fluid(fluid), subgrid, xp)

    def drop(self, fluid: Mapping[str, Any], xp: Any) -> Any:
        """Difference of the far-field pressures below and above, (N, k), mmHg."""
        low, high = self.fluid(fluid)
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
        low, high = (f.scales(self.spacing, self.subgrid, xp)[0] for f in self.through.fluid(fluid))
        speed = g * (low * (a @ self.below.T) - high * (a @ self.above.T) + self.through.drop(fluid, xp))
        return xp.where(self.upward, xp.maximum(speed, 0.0), xp.minimum(speed, 0.0))

    def exchange(self, fluid: Mapping[str, Any], a: Any, rows: Any, label: Any, relative: Any, xp: Any = np) -> tuple[Any, Any]:  # fmt: skip
        """Fluid filtered and drained, 1/h, (N, k), at cells with these rows of V."""
        here = fluid_at(fluid, label, relative)
        pressure = here.far(xp) + (a @ rows.T) * here.scales(self.spacing, self.subgrid, xp)[1]
        return here.filtration * (here.effective - pressure), here.drainage * (pressure - here.lymph)


def matrix_entries(
    faces: Entries, cells: Entries, fluid: Mapping[str, Any], spacing: tuple[float, float, float], subgrid: bool, xp: Any
) -> tuple[Any, Any, Any]:  # fmt: skip
    """Coefficients (N, k) of the matrix at faces, on the unknown below and above, and at cells."""
    g = faces.conductance(fluid, subgrid, xp) / faces.walls.spacing
    low, high = (f.scales(spacing, subgrid, xp)[0] for f in faces.fluid(fluid))
    return g * low, xp.where(faces.walls.open, g * high, 0.0), cells.fluid(fluid)[0].scales(spacing, subgrid, xp)[2]  # fmt: skip


def face_matrix(walls: Walls, below: np.ndarray, above: np.ndarray, n: int) -> sparse.csr_array:
    """``sum_f B_f`` of the pressure with these coefficients of the unknown below and above, shape (n, n)."""
    low, high, inner = walls.low, walls.high, walls.open
    rows = np.concatenate([low, high[inner], low[inner], high[inner]])
    cols = np.concatenate([low, low[inner], high[inner], high[inner]])
    entries = np.concatenate([below, -below[inner], -above[inner], above[inner]])
    return sparse.coo_array((entries, (rows, cols)), shape=(n, n)).tocsr()


def face_source(walls: Walls, values: np.ndarray, n: int) -> np.ndarray:
    """``b`` of flows ``g drop`` through the open faces divided by the spacing, shape (n,)."""
    w = np.where(walls.open, values / walls.spacing, 0.0)
    return np.bincount(walls.high, w, n) - np.bincount(walls.low, w, n)


def convection_matrix(walls: Walls, up: np.ndarray, down: np.ndarray, n: int) -> sparse.csr_array:
    """Upwind convection on concentrations by the flow's parts over the spacing; outer faces carry out, never in."""
    low, high, inner = walls.low, walls.high, walls.open
    rows = np.concatenate([low, high[inner], high[inner], low[inner]])
    cols = np.concatenate([low, low[inner], high[inner], high[inner]])
    entries = np.concatenate([-up, up[inner], down[inner], -down[inner]])
    return sparse.coo_array((entries, (rows, cols)), shape=(n, n)).tocsr()


@dataclass(frozen=True)
class FlowBasis:
    """What :func:`build_flow` also finds out.

    Parameters
    ----------
    flow : ReducedFlow
    parts : Interpolated
        Of the flow's positive and negative parts: modes (2 F, c).
    walls : Walls
        All faces.
    growth : dict of str to float
        Of the interpolations.
    """

    flow: ReducedFlow
    parts: Interpolated
    walls: Walls
    growth: dict[str, float]


def build_flow(
    site: Site,
    fluid: Mapping[str, np.ndarray],
    subgrid: bool,
    tolerance: float = 1e-5,
    max_rank: int = 40,
) -> FlowBasis:
    """Train on full pressure solves.

    Parameters
    ----------
    site : Site
    fluid : mapping of str to ndarray, shape (N, L)
        The training's values per tissue, by the keys of the tissue table.
    subgrid : bool
    tolerance : float
        Relative energy of the normalised snapshots that each basis may leave out.
    max_rank : int

    Raises
    ------
    BadInput
        If a member's values make no tissue, or an edge has a fixed pressure.
    """
    faces, n = site.faces, site.faces.n
    every = np.arange(len(next(iter(fluid.values()))))
    values = fluid_at(fluid, faces.label, site.relative)
    maps = [Interstitium(faces, *(np.asarray(part)[i] for part in values)) for i in every]
    walls = site_walls(site, pressure_system(maps[0], site.boundary, np.zeros(n), subgrid), subgrid)
    at, count, spacing = np.arange(n), len(walls.low), faces.grid.spacing
    every_face = Entries.of(site, walls)
    every_cell = Entries.of(site, Walls(at, at, np.ones(n), np.ones(n), np.zeros(n, dtype=bool)))
    to_u, to_pressure, _ = values.scales(spacing, subgrid, np)
    p = np.array([interstitial_flow(m, site.boundary, subgrid=subgrid).pressure for m in maps])
    y = (p - values.far(np)) / to_pressure
    v = _basis(y, tolerance, max_rank)

    fine = 1e-3 * tolerance
    entries = matrix_entries(every_face, every_cell, fluid, spacing, subgrid, np)
    matrix = interpolated(np.concatenate(entries, axis=1), fine, max_rank)
    left = []
    for mode in matrix.modes.T:
        faces_part = face_matrix(walls, mode[:count], mode[count : 2 * count], n) @ v
        left.append(v.T @ (faces_part + mode[2 * count :, None] * v))
    kind = np.minimum(matrix.points // count, 2)
    at_face, at_cell = (
        np.where(kind < 2, matrix.points % count, 0),
        np.where(kind == 2, matrix.points - 2 * count, 0),
    )
    g, drop = every_face.conductance(fluid, subgrid, np), every_face.drop(fluid, np)
    sources = interpolated(g * drop, fine, max_rank)
    right = np.array([v.T @ face_source(walls, mode, n) for mode in sources.modes.T]).reshape(-1, v.shape[1])

    u, inner = y * to_u, walls.open
    speed = g / walls.spacing * (u[:, walls.low] - np.where(inner, u[:, walls.high], 0.0) + drop)
    down = np.where(inner, np.minimum(speed, 0.0), 0.0)
    parts = interpolated(np.concatenate([np.maximum(speed, 0.0), down], axis=1), tolerance, max_rank)
    place = parts.points % count
    above = np.where(inner[place, None], v[walls.high[place]], 0.0)
    flow = ReducedFlow(
        subgrid, spacing, v, np.array(left), Entries.of(site, walls.at(at_face)),
        Entries.of(site, every_cell.walls.at(at_cell)), kind, right, Entries.of(site, walls.at(sources.points)),
        Entries.of(site, walls.at(place)), v[walls.low[place]], above, parts.points < count,
    )  # fmt: skip
    growth = {"matrix": matrix.growth, "source": sources.growth, "parts": parts.growth}
    return FlowBasis(flow, parts, walls, growth)


def _basis(snapshots: np.ndarray, tolerance: float, max_rank: int) -> np.ndarray:
    """POD vectors of snapshot rows scaled to norm one."""
    size = np.linalg.norm(snapshots, axis=1)
    rows = snapshots[size > 0] / size[size > 0, None]
    return pod(rows, tolerance, max_rank, voxels=snapshots.shape[1]).vectors
