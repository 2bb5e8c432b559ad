"""What workers run of a growth study's model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vvuq_twin.domain.grid import Grid
from vvuq_twin.domain.parameters import LogNormal, Parameter, ParameterSpace
from vvuq_twin.physics.faces import assemble
from vvuq_twin.physics.timeline import timeline
from vvuq_twin.reduction.case import GrowthCase
from vvuq_twin.reduction.propagate import DIVERGED, OK
from vvuq_twin.reduction.training import Training, train
from vvuq_twin.study.growth_model import StudyModel, quantities_task


def test_a_member_with_more_cells_than_room_counts_as_diverged():
    grid = Grid((12, 12, 12), (3.0, 3.0, 3.0))
    faces = assemble(grid, np.ones(grid.shape, bool), np.ones(grid.shape, int), {"white": 1})
    r2 = ((grid.points(faces.mask) - 16.5) ** 2).sum(axis=1)
    space = ParameterSpace((Parameter("k", "1/day", LogNormal(0.08, 0.2)),))
    case = GrowthCase(
        faces, timeline(0.0, [0.0, 40.0, 80.0]), space, 0.8 * np.exp(-r2 / 60.0), np.zeros((0, faces.n)), 0.16,
        {"D_white": 0.1},
    )  # fmt: skip
    how = Training(n_train=6, n_greedy=0, n_valid=2, max_rank=8, points=0)
    trained = train(case, 1, how)
    z = np.array([[-1.0], [0.0], [1.0]])
    found = quantities_task(z, np.arange(3), StudyModel(case, trained.reduced, trained.probe, 0.01))
    assert (found["status"] == OK).all()
    assert (found["quantities"][:, 0] <= found["quantities"][:, 1]).all()
    # half the loss: the tumour saturates at twice its capacity, which nothing else minds
    operators = trained.reduced.operators
    wrong = replace(trained.reduced, operators=operators._replace(lift=0.5 * operators.lift))
    found = quantities_task(z, np.arange(3), StudyModel(case, wrong, trained.probe, 0.01))
    assert (found["quantities"][2, 0] > found["quantities"][2, 1]).any()
    assert found["status"][2] == DIVERGED
