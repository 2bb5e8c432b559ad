"""Interstitial pressure and flow: Darcy's law with Starling's exchange (Baxter & Jain 1989, 1990).

    v = -K grad p,    div v = Lp S/V (p_e - p) - LpL (S/V)_L (p - p_L) + q

in finite volumes on the active cells, harmonic means of K on faces, q an infusion. Every outer face of the
mask is closed or has a fixed pressure. The unknown is the deviation from the far-field pressure ``p_n`` at
which filtration and drainage balance; the matrix is symmetric and positive, solved by conjugate gradients
with smoothed-aggregation multigrid. The face velocities come from the same coefficients, so that their
discrete divergence is the source to the solver's tolerance: transport by them is conservative.

Where the pressure layer ``L = sqrt(K/(Lp S/V))`` is thinner than a few voxels the plain difference misses the
flow across a tissue's rim. With ``subgrid`` each face takes the flux of the exact one-dimensional solution
through two cell means: with ``t = h/2L`` the half-cell's conductance ``2K/h`` becomes ``K/L coth t`` and a cell's
deviation counts ``2t/sinh 2t``-fold. A face between two tissues also carries only the part of the rim's flow
that its orientation sees: it is multiplied by the component of the rim's normal, since the faces of a voxel
staircase add up to more area than the rim has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import cg

from ..domain.errors import BadInput, RunFailed
from .faces import Faces
from .interstitium import Interstitium

#: A fixed pressure in mmHg, the far-field pressure of the cell inside, or None for no flux.
Condition = float | Literal["far"] | None


@dataclass(frozen=True)
class Boundary:
    """What holds on the outer faces of the mask.

    Parameters
    ----------
    array : float, "far" or None
        Where the mask meets the end of the array (the tissue goes on beyond the image).
    mask : float, "far" or None
        Where it meets an inactive voxel of no label named here.
    labels : mapping of int to float, "far" or None
        Where it meets an inactive voxel of this label, for example bone and air: None.
    outside : ndarray of int, grid.shape, optional
        Labels of the inactive voxels; needed with ``labels``.
    """

    array: Condition = None
    mask: Condition = None
    labels: Mapping[int, Condition] = field(default_factory=dict)
    outside: np.ndarray | None = None


@dataclass(frozen=True)
class Flow:
    """Pressure and flow of the active cells.

    Parameters
    ----------
    pressure : ndarray, shape (n,)
        Mean of each cell, mmHg.
    velocity : tuple of three ndarray, faces.box
        Darcy flux through the face below each cell along each axis, mm/h; zero at closed and outer faces.
    filtered : ndarray, shape (n,)
        phi_v: fluid that leaves the vessels per volume of tissue, 1/h (negative: taken back).
    drained : ndarray, shape (n,)
        phi_L: fluid that lymphatics take (negative: give), 1/h.
    infused : ndarray, shape (n,)
        q, 1/h.
    outflow, inflow : ndarray, shape (n,)
        Through outer faces of fixed pressure, per volume of tissue, 1/h, not negative.
    residual : float
        Largest error of the fluid balance of a cell over the largest of its terms anywhere.
    iterations : int
        Of the conjugate gradients.
    """

    pressure: np.ndarray
    velocity: tuple[np.ndarray, np.ndarray, np.ndarray]
    filtered: np.ndarray
    drained: np.ndarray
    infused: np.ndarray
    outflow: np.ndarray
    inflow: np.ndarray
    residual: float
    iterations: int


def interstitial_flow(
    tissue: Interstitium,
    boundary: Boundary,
    infusion: np.ndarray | None = None,
    subgrid: bool = False,
    tolerance: float = 1e-12,
) -> Flow:
    """Steady pressure and flow.

    Parameters
    ----------
    tissue : Interstitium
    boundary : Boundary
    infusion : ndarray, shape (n,), optional
        Fluid source per volume of tissue, 1/h: :func:`point_infusion`, :func:`region_infusion`.
    subgrid : bool
        Fluxes that are right for pressure layers thinner than a voxel (see the module's text).
    tolerance : float
        Relative, of the residual.

    Raises
    ------
    BadInput
        If the infusion is off the cells or not finite, or nothing fixes the pressure of a part of the mask.
    RunFailed
        If the solver does not converge.
    """
    faces, n = tissue.faces, tissue.faces.n
    q = np.zeros(n) if infusion is None else np.asarray(infusion, dtype=float)
    if q.shape != (n,) or not np.isfinite(q).all():
        raise BadInput("the infusion is off the active cells or not finite", "infusion")
    system = pressure_system(tissue, boundary, q, subgrid)
    half, mean, weight, outer, far = (
        system.half,
        system.mean,
        system.weight,
        system.outer,
        tissue.far_pressure,
    )
    u, iterations = _solve(system.matrix, system.right, tolerance)

    pressure = far + u / weight
    net = np.zeros(n)
    velocity = []
    for axis, (low, high, _) in enumerate(faces.neighbours):
        speed = mean[axis] * (u[low] + far[low] - u[high] - far[high])
        box = np.zeros(faces.box)
        box.ravel()[faces.place[high]] = speed
        velocity.append(box)
        h = faces.grid.spacing[axis]
        net += np.bincount(low, speed / h, n) - np.bincount(high, speed / h, n)
    outflow, inflow = np.zeros(n), np.zeros(n)
    for axis, cell, fixed in outer:
        speed = half[axis][cell] * (u[cell] + far[cell] - fixed) / faces.grid.spacing[axis]
        outflow += np.bincount(cell, np.maximum(speed, 0.0), n)
        inflow += np.bincount(cell, np.maximum(-speed, 0.0), n)
    filtered = tissue.filtration * (tissue.effective_pressure - pressure)
    drained = tissue.drainage * (pressure - tissue.lymph_pressure)
    error = net + outflow - inflow - filtered + drained - q
    parts = [np.abs(x).max() for x in (net, filtered, drained, q, outflow, inflow)]
    residual = float(np.abs(error).max() / max(*parts, np.finfo(float).tiny))
    x, y, z = velocity
    return Flow(pressure, (x, y, z), filtered, drained, q, outflow, inflow, residual, iterations)


@dataclass(frozen=True)
class PressureSystem:
    """The linear system of the deviation u from the far-field pressure, and what it was made of.

    Parameters
    ----------
    matrix : csr_array, shape (n, n)
        1/mmHg/h.
    right : ndarray, shape (n,)
        1/h.
    weight : ndarray, shape (n,)
        u over the deviation of the cell's mean pressure.
    half : list of three ndarray, shape (n,)
        Conductance of half a cell, mm/mmHg/h.
    mean : list of three ndarray
        Of the open faces along each axis.
    outer : list of (axis, cells, pressures)
        Outer faces of fixed pressure.
    """

    matrix: sparse.csr_array
    right: np.ndarray
    weight: np.ndarray
    half: list[np.ndarray]
    mean: list[np.ndarray]
    outer: list[tuple[int, np.ndarray, np.ndarray]]


def pressure_system(tissue: Interstitium, boundary: Boundary, q: np.ndarray, subgrid: bool) -> PressureSystem:
    """Assemble the system; parameters as of :func:`interstitial_flow`."""
    half, weight = _half_conductance(tissue, subgrid)
    faces, n = tissue.faces, tissue.faces.n
    far, exchange = tissue.far_pressure, tissue.exchange
    mean = _face_conductance(faces, half)
    if subgrid:
        mean = [m * w for m, w in zip(mean, rim_orientation(faces))]
    outer = outer_faces(faces, boundary, far)

    diagonal, right = exchange / weight, q.copy()
    rows, cols, values = [], [], []
    for axis, (low, high, _) in enumerate(faces.neighbours):
        g = mean[axis] / faces.grid.spacing[axis]
        rows += [low, high]
        cols += [high, low]
        values += [-g, -g]
        drop = g * (far[low] - far[high])
        for cell, sign in ((low, -1.0), (high, 1.0)):
            diagonal = diagonal + np.bincount(cell, g, n)
            right = right + np.bincount(cell, sign * drop, n)
    for axis, cell, fixed in outer:
        g = half[axis][cell] / faces.grid.spacing[axis]
        diagonal = diagonal + np.bincount(cell, g, n)
        right = right + np.bincount(cell, g * (fixed - far[cell]), n)
    index = (np.concatenate([*rows, np.arange(n)]), np.concatenate([*cols, np.arange(n)]))
    matrix = sparse.csr_array((np.concatenate([*values, diagonal]), index), shape=(n, n))
    _require_fixed(matrix, exchange, outer, n)
    return PressureSystem(matrix, right, weight, half, mean, outer)


def half_conductance(conductivity: Any, exchange: Any, spacing: float, subgrid: bool, xp: Any = np) -> Any:
    """Conductance of half a cell along one axis, mm/mmHg/h.

    Parameters
    ----------
    conductivity : array
        K, mm2/mmHg/h.
    exchange : array
        Lp S/V + LpL (S/V)_L, 1/mmHg/h.
    spacing : float
        mm.
    subgrid : bool
        ``K/L coth(h/2L)`` in place of ``2K/h``, see the module's text.
    xp : module
        numpy or jax.numpy: both orders of the model use this one formula.
    """
    plain = 2.0 * conductivity / spacing
    if not subgrid:
        return plain
    t = _thickness(conductivity, exchange, 0.5 * spacing, xp)
    safe = xp.maximum(t, 1e-4)
    return plain * xp.where(t > 1e-4, safe / xp.tanh(safe), 1.0 + t * t / 3.0)


def cell_weight(
    conductivity: Any, exchange: Any, spacing: tuple[float, float, float], subgrid: bool, xp: Any = np
) -> Any:
    """The factor ``u / (p - p_n)`` of a cell: ``2t/sinh 2t``, 1 without ``subgrid``.

    One factor for all axes keeps the system symmetric; it is exact for cubes.
    """
    if not subgrid:
        return xp.ones_like(conductivity)
    t = _thickness(conductivity, exchange, float(np.prod(spacing) ** (1.0 / 3.0)), xp)
    safe = xp.maximum(t, 1e-4)
    return xp.where(t > 1e-4, safe / xp.sinh(safe), 1.0 - t * t / 6.0)


def _thickness(conductivity: Any, exchange: Any, depth: float, xp: Any) -> Any:
    """A depth (mm) in layers ``sqrt(K/exchange)``, at most 300."""
    held = exchange > 0
    ratio = xp.where(held, conductivity, 1.0) / xp.where(held, exchange, 1.0)
    layer = xp.sqrt(xp.where(ratio > 0, ratio, 1.0))
    t = xp.where(ratio > 0, depth / layer, 300.0)
    return xp.where(held, xp.minimum(t, 300.0), 0.0)


def _half_conductance(tissue: Interstitium, subgrid: bool) -> tuple[list[np.ndarray], np.ndarray]:
    """Per axis the conductance of half a cell (n,), mm/mmHg/h, and the factor u / (p - p_n) of each cell."""
    k, exchange, spacing = tissue.conductivity, tissue.exchange, tissue.faces.grid.spacing
    half = [half_conductance(k, exchange, h, subgrid) for h in spacing]
    return half, cell_weight(k, exchange, spacing, subgrid)


def in_series(a: Any, b: Any, xp: Any = np) -> Any:
    """Conductance of two half cells in series; 0 where both are."""
    both = a + b
    return xp.where(both > 0, a * b / xp.where(both > 0, both, 1.0), 0.0)


def _face_conductance(faces: Faces, half: list[np.ndarray]) -> list[np.ndarray]:
    """Two half cells in series, per axis over the open faces."""
    return [
        np.asarray(in_series(half[axis][low], half[axis][high]))
        for axis, (low, high, _) in enumerate(faces.neighbours)
    ]


def rim_orientation(faces: Faces) -> list[np.ndarray]:
    """Component of the rim's normal along the axis for faces between two tissues, 1 for all others."""
    weight = [np.ones(len(low)) for low, _, _ in faces.neighbours]
    for tissue in range(len(faces.names)):
        inside = faces.boxed((faces.label == tissue).astype(float))
        smooth = ndimage.gaussian_filter(inside, 1.0, mode="nearest")
        slope = [ndimage.sobel(smooth, axis) / faces.grid.spacing[axis] for axis in range(3)]
        size = np.sqrt(sum(s * s for s in slope))
        for axis, (low, high, _) in enumerate(faces.neighbours):
            rim = (faces.label[low] == tissue) & (faces.label[high] > tissue)
            rim |= (faces.label[high] == tissue) & (faces.label[low] > tissue)
            a, b = faces.place[low[rim]], faces.place[high[rim]]
            along = slope[axis].ravel()[a] + slope[axis].ravel()[b]
            whole = size.ravel()[a] + size.ravel()[b]
            weight[axis][rim] = np.where(whole > 0, np.abs(along) / np.where(whole > 0, whole, 1.0), 1.0)
    return weight


def outer_faces(
    faces: Faces, boundary: Boundary, far: np.ndarray
) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """(axis, cells, pressures) of the outer faces with a fixed pressure."""
    if boundary.labels and boundary.outside is None:
        raise BadInput("conditions by label need the labels of the inactive voxels", "boundary")
    if boundary.outside is not None and np.shape(boundary.outside) != faces.mask.shape:
        raise BadInput("the labels of the inactive voxels are not on the grid", "boundary", "resample them")
    for value in (boundary.array, boundary.mask, *boundary.labels.values()):
        if isinstance(value, str) and value != "far":
            raise BadInput(
                f"the boundary condition '{value}' is not known", "boundary", "give a number, 'far' or None"
            )
        if isinstance(value, (int, float)) and not np.isfinite(value):
            raise BadInput("a fixed pressure is not finite", "boundary")
    at = np.argwhere(faces.mask)
    found = []
    for axis in range(3):
        for step in (-1, 1):
            beside = at.copy()
            beside[:, axis] += step
            beyond = (beside[:, axis] < 0) | (beside[:, axis] >= faces.mask.shape[axis])
            inside = np.where(beyond[:, None], at, beside)
            hole = ~beyond & ~faces.mask[tuple(inside.T)]
            fixed = np.full(faces.n, np.nan)
            _fix(fixed, beyond, boundary.array, far)
            _fix(fixed, hole, boundary.mask, far)
            if boundary.outside is not None:
                label = np.asarray(boundary.outside)[tuple(inside.T)]
                for code, value in boundary.labels.items():
                    here = hole & (label == code)
                    fixed[here] = np.nan
                    _fix(fixed, here, value, far)
            cells = np.flatnonzero(np.isfinite(fixed))
            if cells.size:
                found.append((axis, cells, fixed[cells]))
    return found


def _fix(fixed: np.ndarray, where: np.ndarray, value: Condition, far: np.ndarray) -> None:
    if value is not None:
        fixed[where] = far[where] if isinstance(value, str) else float(value)


def _require_fixed(
    matrix: sparse.csr_array, exchange: np.ndarray, outer: list[tuple[int, np.ndarray, np.ndarray]], n: int
) -> None:
    """Every connected part of the mask exchanges fluid or has a fixed pressure somewhere."""
    held = exchange > 0
    for _, cells, _ in outer:
        held[cells] = True
    if held.all():
        return
    count, part = connected_components(matrix, directed=False)
    free = np.bincount(part[held], minlength=count) == 0
    if free.any():
        raise BadInput(
            f"nothing fixes the pressure in a part of {int((part == np.argmax(free)).sum())} voxels",
            "pressure",
            "fix the pressure at an edge, or give the vessels a conductivity",
        )


def _solve(matrix: sparse.csr_array, right: np.ndarray, tolerance: float) -> tuple[np.ndarray, int]:
    if not right.any():
        return np.zeros_like(right), 0
    import pyamg

    # unit diagonal: the multigrid sees couplings, not the scale of K
    scale = 1.0 / np.sqrt(matrix.diagonal())
    scaled = sparse.csr_matrix(sparse.diags_array(scale) @ matrix @ sparse.diags_array(scale))
    scaled.indices, scaled.indptr = scaled.indices.astype(np.int32), scaled.indptr.astype(np.int32)
    multigrid = pyamg.smoothed_aggregation_solver(scaled, B=(1.0 / scale)[:, None], max_coarse=200)
    steps = 0

    def count(_: np.ndarray) -> None:
        nonlocal steps
        steps += 1

    y, info = cg(
        scaled,
        scale * right,
        rtol=tolerance,
        atol=0.0,
        maxiter=500,
        M=multigrid.aspreconditioner(),
        callback=count,
    )
    if info != 0 or not np.isfinite(y).all():
        raise RunFailed("The pressure did not converge; check that K and Lp S/V are of one order per tissue.")
    return scale * y, steps


def point_infusion(faces: Faces, position: tuple[float, float, float], rate: float) -> np.ndarray:
    """A catheter's tip: all of ``rate`` (mm3/h) into the voxel at ``position`` (mm from the first voxel).

    Returns
    -------
    ndarray, shape (n,)
        Per volume of tissue, 1/h.

    Raises
    ------
    BadInput
        If the rate is negative or not finite, or the point is not in an active voxel.
    """
    if not (np.isfinite(rate) and rate >= 0):
        raise BadInput(f"the infusion rate ({rate:g} mm3/h) is negative or not finite", "infusion")
    index = np.round(np.asarray(position, dtype=float) / np.asarray(faces.grid.spacing))
    cell = np.zeros(faces.mask.shape, dtype=bool)
    if np.isfinite(index).all() and (index >= 0).all() and (index < faces.mask.shape).all():
        cell[tuple(index.astype(int))] = True
    return region_infusion(faces, cell, rate)


def region_infusion(faces: Faces, region: np.ndarray, rate: float) -> np.ndarray:
    """``rate`` (mm3/h) spread evenly over the active voxels of a region (bool, grid.shape); shape (n,), 1/h.

    Raises
    ------
    BadInput
        If the rate is negative or not finite, or the region touches no active voxel.
    """
    if not (np.isfinite(rate) and rate >= 0):
        raise BadInput(f"the infusion rate ({rate:g} mm3/h) is negative or not finite", "infusion")
    inside = faces.gather(np.asarray(region, dtype=bool)) if np.shape(region) == faces.mask.shape else None
    if inside is None or not inside.any():
        raise BadInput("the infused region touches no active voxel", "infusion", "move it into the tissue")
    return np.where(inside, rate / (inside.sum() * faces.grid.voxel_volume), 0.0)
