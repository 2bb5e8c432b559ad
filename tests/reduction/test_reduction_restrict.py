"""A smaller reduced model for a narrower range."""

from __future__ import annotations

import numpy as np

from vvuq_twin.reduction.case import GrowthCase
from vvuq_twin.reduction.restrict import distance, restrict
from vvuq_twin.reduction.training import Trained


def test_full_rank_changes_nothing_and_fewer_cost_little_near_the_range(
    trained: Trained, case: GrowthCase
) -> None:
    z = case.space.gaussian_sample(16, 1, "narrow")
    range_, unseen = (np.asarray(case.space.from_gaussian(0.3 * part)) for part in (z[:8], z[8:]))
    same = restrict(trained.reduced, case, range_, trained.reduced.rank)
    assert distance(same, trained.reduced, case, unseen).max() < 1e-5  # the fitted square became exact
    gaps = [
        distance(restrict(trained.reduced, case, range_, r), trained.reduced, case, unseen).max()
        for r in (8, 16)
    ]
    assert gaps[1] < 0.02
    assert gaps[0] > 2 * gaps[1]
