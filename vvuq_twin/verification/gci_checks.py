"""The grid convergence index against its source, and on a tumour that grows."""

from __future__ import annotations

import numpy as np

from ..domain.grid import Grid
from ..physics.faces import assemble
from ..physics.growth import GrowthParameters, advance
from ..physics.timeline import timeline
from .gci import grid_convergence, least_squares_order
from .registry import Result, check


@check(
    "gci.celik2008",
    "The grid convergence index is the published procedure",
    "the published table to its last digit: p 1.534, 6.1685, 1.501 %, 1.710 %, 2.175 %",
    "Celik et al. 2008, 2-D grids of 18000/8000/4500 cells, reattachment length 6.063/5.972/5.863",
)
def celik(quick: bool) -> Result:
    """Celik's first example."""
    spacing = [float(np.sqrt(1.0 / cells)) for cells in (18000, 8000, 4500)]
    got = grid_convergence(spacing, (6.063, 5.972, 5.863))
    found = {
        "order": got.order,
        "extrapolated": got.extrapolated,
        "relative_error_percent": 100 * got.relative_error,
        "extrapolated_relative_error_percent": 100 * got.extrapolated_relative_error,
        "gci_percent": 100 * got.index,
    }
    published = {
        "order": (1.534, 6e-4),
        "extrapolated": (6.1685, 6e-5),
        "relative_error_percent": (1.501, 6e-4),
        "extrapolated_relative_error_percent": (1.710, 6e-4),
        "gci_percent": (2.175, 6e-4),
    }
    return all(abs(found[k] - value) <= digit for k, (value, digit) in published.items()), dict(found)


@check(
    "gci.least_squares",
    "The least-squares fit finds the limit and order of a known sequence",
    "limit and order to 1e-6",
    "a sequence made with limit 3, order 1.7",
)
def least_squares(quick: bool) -> Result:
    """An exact power law."""
    h = np.array([1.0, 0.8, 0.5, 0.4, 0.25])
    limit, order, residual = least_squares_order(h.tolist(), (3.0 + 0.4 * h**1.7).tolist())
    passed = abs(limit - 3.0) < 1e-6 and abs(order - 1.7) < 1e-6
    return passed, {"limit": limit, "order": order, "residual": residual}


def tumour_cellularity(spacing: float) -> float:
    """Total cellularity (cm3) after 60 days of a tumour that grows in a slab of two tissues of 48 mm."""
    n = round(48.0 / spacing)
    grid = Grid((n, n, n), (spacing,) * 3)
    x = (np.arange(n) + 0.5) * spacing
    labels = np.where(x > 24.0, 2, 1)[:, None, None] * np.ones(grid.shape, dtype=int)
    faces = assemble(grid, np.ones(grid.shape, dtype=bool), labels, {"white": 1, "grey": 2})
    r2 = sum(c**2 for c in np.meshgrid(x - 21.0, x - 24.0, x - 24.0, indexing="ij"))
    start = 0.5 * np.exp(-r2[faces.mask] / 72.0)
    states, _ = advance(
        faces, start, GrowthParameters.of([0.16, 0.05], 0.03), timeline(0.0, [60.0], dt_max=0.5)
    )
    return float(states[0, -1].sum() * grid.voxel_volume / 1000.0)


@check(
    "growth.gci",
    "Total cellularity of a growing tumour is converged on voxels of 2 mm",
    "grid convergence index below 2 % and monotone convergence",
    "grids of 3, 2 and 1.5 mm, Celik et al. 2008",
    factor="discretization_error",
)
def growth_gci(quick: bool) -> Result:
    """Three grids; the index is given for 2 mm as well, from the distance to the extrapolated value."""
    h = [3.0, 2.0, 1.5]
    values = [tumour_cellularity(x) for x in h]
    got = grid_convergence(h, values)
    at_two = 1.25 * abs(values[1] / got.extrapolated - 1.0)
    passed = at_two < 0.02 and not got.oscillating
    return passed, {
        "spacing_mm": h,
        "cellularity_cm3": values,
        "order": got.order,
        "gci_finest_percent": 100 * got.index,
        "gci_2mm_percent": 100 * at_two,
    }
