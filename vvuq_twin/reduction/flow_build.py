"""Training the reduced pressure and flow: bases from full solves, entries to interpolate from, projected systems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ..domain.errors import BadInput
from ..physics.interstitium import Interstitium
from ..physics.pressure import PressureSystem, interstitial_flow, pressure_system, rim_orientation
from ..physics.site import Site
from .exchange import Vessels
from .flow import Entries, ReducedFlow, Walls, fluid_at, matrix_entries
from .interpolation import Interpolated, interpolated
from .pod import pod


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
    vessels: Vessels,
    fluid: Mapping[str, np.ndarray],
    subgrid: bool,
    tolerance: float = 1e-5,
    max_rank: int = 40,
) -> FlowBasis:
    """Train on full pressure solves.

    Parameters
    ----------
    site : Site
    vessels : Vessels
        Of all cells.
    fluid : mapping of str to ndarray, shape (N, L)
        The training's values per tissue, by the keys of the tissue table, and its scores (N, q).
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
    values = fluid_at(fluid, faces.label, vessels)
    maps = [Interstitium(faces, *(np.asarray(part)[i] for part in values)) for i in every]
    walls = site_walls(site, pressure_system(maps[0], site.boundary, np.zeros(n), subgrid), subgrid)
    at, count, spacing = np.arange(n), len(walls.low), faces.grid.spacing
    every_face = Entries.of(faces.label, vessels, walls)
    every_cell = Entries.of(
        faces.label, vessels, Walls(at, at, np.ones(n), np.ones(n), np.zeros(n, dtype=bool))
    )
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
        subgrid, spacing, v, np.array(left), Entries.of(faces.label, vessels, walls.at(at_face)),
        Entries.of(faces.label, vessels, every_cell.walls.at(at_cell)), kind, right, Entries.of(faces.label, vessels, walls.at(sources.points)),
        Entries.of(faces.label, vessels, walls.at(place)), v[walls.low[place]], above, parts.points < count,
    )  # fmt: skip
    growth = {"matrix": matrix.growth, "source": sources.growth, "parts": parts.growth}
    return FlowBasis(flow, parts, walls, growth)


def _basis(snapshots: np.ndarray, tolerance: float, max_rank: int) -> np.ndarray:
    """POD vectors of snapshot rows scaled to norm one."""
    size = np.linalg.norm(snapshots, axis=1)
    rows = snapshots[size > 0] / size[size > 0, None]
    return pod(rows, tolerance, max_rank, voxels=snapshots.shape[1]).vectors
