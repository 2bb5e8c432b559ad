"""Reduced pressure and flow against full solves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from delivery_small import small_case

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.physics.pressure import Boundary, pressure_system
from vvuq_twin.reduction.delivery_validation import flow_errors
from vvuq_twin.reduction.flow import fluid_at
from vvuq_twin.reduction.flow_build import FlowBasis, build_flow
from vvuq_twin.reduction.interpolation import interpolated
from vvuq_twin.reduction.training import training_parameters


def built(subgrid: bool, tolerance: float) -> FlowBasis:
    case = small_case(subgrid)
    fluid = case.inputs(training_parameters(case.space, 48, 3)).fluid
    return build_flow(case.site, case.vessels, fluid, subgrid, tolerance)


def operator_gap(subgrid: bool, tolerance: float) -> float:
    """Largest relative difference of the interpolated projected matrix from the full one, projected."""
    case, flow = small_case(subgrid), built(subgrid, tolerance).flow
    x = case.inputs(case.space.sample(3, 7, "flow"))
    left, right = flow.system(x.fluid)
    here = fluid_at(x.fluid, case.site.faces.label, case.vessels)
    to_u = here.scales(flow.spacing, subgrid, np)[0]
    worst = 0.0
    for i in range(3):
        full = pressure_system(case.fluid(x, i), case.site.boundary, np.zeros(case.site.faces.n), subgrid)
        exact = flow.vectors.T @ (full.matrix @ (to_u[i][:, None] * flow.vectors))
        worst = max(worst, float(np.abs(left[i] - exact).max() / np.abs(exact).max()))
        source = flow.vectors.T @ full.right
        worst = max(worst, float(np.abs(right[i] - source).max() / np.abs(source).max()))
    return worst


def test_plain_fluxes_are_affine_and_projected_to_round_off() -> None:
    assert operator_gap(False, 1e-4) < 1e-12


def test_sub_grid_fluxes_are_interpolated() -> None:
    assert operator_gap(True, 1e-5) < 1e-6


@pytest.mark.parametrize("subgrid", [False, True])
def test_pressure_and_flow_converge_with_the_modes(subgrid: bool) -> None:
    case = small_case(subgrid)
    theta = case.space.sample(4, 8, "flow")
    coarse, fine = (flow_errors(built(subgrid, tolerance), case, theta) for tolerance in (1e-3, 1e-5))
    for name in ("pressure", "flow", "filtered"):
        assert fine[name].max() < 1e-3
        assert fine[name].max() < 0.3 * coarse[name].max()


def test_a_fixed_number_at_an_edge_is_refused() -> None:
    case = small_case()
    site = replace(case.site, boundary=Boundary(array=3.0))
    fluid = case.inputs(case.space.sample(2, 1, "edge")).fluid
    with pytest.raises(BadInput, match="fixed to a number"):
        build_flow(site, case.vessels, fluid, True)


def test_interpolation_is_exact_in_its_span() -> None:
    rng = np.random.default_rng(1)
    modes = rng.standard_normal((3, 50))
    found = interpolated(rng.standard_normal((9, 3)) @ modes, 1e-12)
    assert len(found.points) == 3
    wanted = rng.standard_normal(3) @ modes
    np.testing.assert_allclose(found.modes @ wanted[found.points], wanted, rtol=1e-10, atol=1e-12)
