"""The discretisation's line of the budget."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.grid import Grid
from vvuq_twin.domain.parameters import LogNormal, Parameter, ParameterSpace
from vvuq_twin.physics.faces import assemble
from vvuq_twin.physics.growth import GrowthParameters, advance
from vvuq_twin.physics.timeline import timeline
from vvuq_twin.reduction.case import GrowthCase
from vvuq_twin.study.growth_grid import cut, discretisation, discretisation_evidence


@pytest.fixture(scope="module")
def case():
    n, h = 28, 2.0
    grid = Grid((n, n, n), (h, h, h))
    faces = assemble(grid, np.ones(grid.shape, bool), np.ones(grid.shape, int), {"white": 1})
    r2 = ((faces.grid.points(faces.mask) - 27.3) ** 2).sum(axis=1)
    space = ParameterSpace((Parameter("k", "1/day", LogNormal(0.05, 0.1)),))
    line = timeline(0.0, [0.0, 20.0, 40.0], [(5.0, 1.0)], [(6.0, 2.0)], dt_max=2.0)
    fixed = {"D_white": 0.3, "alpha_rt": 0.05, "alpha_beta": 10.0, "alpha_drug": 0.2, "beta_drug": 2.0}
    return GrowthCase(faces, line, space, 0.6 * np.exp(-r2 / 150.0), np.zeros((0, faces.n)), 0.16, fixed)


def test_steps_cut_in_parts_keep_every_event(case):
    line = case.timeline
    fine = cut(line, 3)
    assert fine.drug_jump.sum() == line.drug_jump.sum() and fine.dose.sum() == line.dose.sum()
    assert fine.dt.sum() == pytest.approx(line.dt.sum())
    np.testing.assert_allclose(
        (fine.t + fine.dt)[fine.visit >= 0], (line.t + line.dt)[line.visit >= 0], rtol=0, atol=1e-12
    )
    still = GrowthParameters.of([0.0], 0.05, 0.2, 2.0, 0.0, 0.05)
    a, _ = advance(case.faces, case.mean, still, line)
    b, _ = advance(case.faces, case.mean, still, fine)
    np.testing.assert_allclose(b[0, :2], a[0, :2], rtol=2e-3)


def test_the_error_of_voxels_and_step_is_a_number(case):
    found = discretisation(case, np.array([[0.05]]), 2)
    assert found.spacing == pytest.approx((2.0, 1.0, 2.0 / 3.0))
    assert found.time[0].order == pytest.approx(2.0, abs=0.5)
    four = discretisation(case, np.array([[0.05]]), 2, ratios=(1, 2, 3, 4))
    for q in range(2):
        # a threshold on voxels makes the quantities jumpy: what is claimed is the bound, not the order
        apart = abs(four.by_grid[q, 0] - four.by_grid[q, -1])
        assert apart <= found.grid[q].uncertainty < 0.05 * found.by_grid[q, 0]
    assert 0 < found.standard(0, "time") < 0.01 * found.by_grid[0, 0]
    assert four.grid[0].how.startswith("Eca")
    evidence = discretisation_evidence(found, "v3", ("total", "volume"))
    assert evidence.status in ("passed", "failed")
    assert evidence.result["total, 95 % uncertainty by grid (%)"] == pytest.approx(
        100 * found.grid[0].uncertainty / found.by_grid[0, 0]
    )
