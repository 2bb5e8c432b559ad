"""Kernels against the sparse terms that are projected, conservation, and the maximum principle."""

from __future__ import annotations

import numpy as np

from ..domain.grid import Grid
from ..domain.keys import generator
from ..physics import convection, kernels
from ..physics.faces import Faces, assemble
from ..physics.growth import GrowthParameters, advance
from ..physics.timeline import timeline
from ..physics.tissue import Tissue, transport_terms
from .registry import Result, check, largest

DIFFUSIVITY = np.array([0.3, 0.07, 0.9])


def rough_domain(seed: int = 7, shape: tuple[int, int, int] = (17, 14, 11)) -> Faces:
    """A ragged mask with holes and three tissues, on voxels that are not cubes."""
    rng = generator(seed, "verification", "rough domain")
    mask = rng.random(shape) < 0.8
    labels = rng.integers(1, 4, shape)
    return assemble(Grid(shape, (1.0, 1.3, 2.1)), mask, labels, {"white": 1, "grey": 2, "tumour": 3})


@check(
    "operators.growth",
    "The compiled diffusion and the sparse terms are one operator",
    "largest difference relative to the largest value below 1e-14; the terms symmetric with zero row sums",
    "two independent assemblies from the same face groups",
)
def growth_operator(quick: bool) -> Result:
    """On a random field in a ragged mask."""
    faces = rough_domain()
    u = generator(7, "verification", "field").random(faces.n)
    g = [np.empty(faces.box) for _ in range(3)]
    c = faces.conductance(DIFFUSIVITY)
    for axis in range(3):
        kernels.face_values(faces.face_group[axis], c, 1.0 / faces.grid.spacing[axis] ** 2, g[axis])
    out = np.zeros(faces.box)
    kernels.divergence(faces.boxed(u), *g, faces.rows, out)
    terms = faces.sparse_terms()
    reference = sum(ci * (term @ u) for ci, term in zip(c, terms))
    difference = float(np.abs(out.ravel()[faces.place] - reference).max() / np.abs(reference).max())
    asymmetry = largest(float(abs(t - t.T).max()) for t in terms)
    row_sum = largest(float(np.abs(t.sum(axis=1)).max()) for t in terms)
    passed = difference < 1e-14 and asymmetry == 0.0 and row_sum < 1e-14
    return passed, {
        "difference": difference,
        "asymmetry": asymmetry,
        "row_sum": row_sum,
        "groups": len(terms),
    }


@check(
    "operators.transport",
    "The compiled transport and the sparse terms are one operator, convection by upwind included",
    "largest difference relative to the largest value below 1e-13; columns that sum to zero (conservative)",
    "two independent assemblies from the same faces",
)
def transport_operator(quick: bool) -> Result:
    """Random phi, Ktrans and velocity."""
    faces = rough_domain()
    rng = generator(7, "verification", "transport")
    phi = 0.05 + 0.6 * rng.random(faces.n)
    velocity = (rng.normal(size=faces.box), rng.normal(size=faces.box), rng.normal(size=faces.box))
    tissue = Tissue(faces, rng.random(faces.n), phi, velocity=velocity)
    terms = transport_terms(tissue)
    moving = terms.matrix(faces.conductance(DIFFUSIVITY)) - terms.exchange
    amount = rng.random(faces.n)
    out = np.zeros(faces.box)
    convection.transport_rate(
        faces.boxed(amount / phi), tissue.face_conductance(DIFFUSIVITY), tissue.face_speed(), tissue.pace, True,
        faces.face_group, faces.rows, convection.UPWIND, out,
    )  # fmt: skip
    reference = moving @ amount
    difference = float(np.abs(out.ravel()[faces.place] - reference).max() / np.abs(reference).max())
    column = float(np.abs(moving.sum(axis=0)).max() / np.abs(moving.data).max())
    return difference < 1e-13 and column < 1e-13, {"difference": difference, "column_sum": column}


@check(
    "growth.mass",
    "Diffusion alone neither makes nor loses cells, for short steps and for super-time-steps",
    "relative change of the total after 50 days below 1e-13",
    "no flux at the mask's edge",
)
def mass(quick: bool) -> Result:
    """Random field in a ragged mask."""
    faces = rough_domain()
    u = generator(7, "verification", "mass").random(faces.n)
    found = {}
    for dt in (0.1, 1.0, 10.0):
        states, _ = advance(faces, u, GrowthParameters.of(DIFFUSIVITY, 0.0), timeline(0.0, [50.0], dt_max=dt))
        found[f"change_dt_{dt:g}_d"] = float(abs(states[0, -1].sum() / u.sum() - 1.0))
    return largest(found.values()) < 1e-13, dict(found)


@check(
    "growth.bounds",
    "Cellularity stays between 0 and 1 from a rough start",
    "no value below 0 or above 1 by more than 1e-12 within the explicit limit, 1e-3 for super-time-steps",
    "maximum principle of the reaction-diffusion equation",
)
def bounds(quick: bool) -> Result:
    """A field of zeros and ones, growth and diffusion."""
    faces = rough_domain()
    u = (generator(7, "verification", "bounds").random(faces.n) > 0.5).astype(float)
    worst = {}
    for name, dt in (("explicit", 0.1), ("super", 5.0)):
        states, _ = advance(
            faces,
            u,
            GrowthParameters.of(DIFFUSIVITY, 0.2),
            timeline(0.0, np.arange(0.0, 41.0, 5.0).tolist(), dt_max=dt),
        )
        worst[name] = largest((-states.min(), states.max() - 1.0))
    return worst["explicit"] <= 1e-12 and worst["super"] <= 1e-3, {f"excess_{k}": v for k, v in worst.items()}
