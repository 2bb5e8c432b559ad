"""The small growth problem, trained once."""

from __future__ import annotations

import pytest
from growth_small import SETTINGS, small_case

from vvuq_twin.reduction.case import GrowthCase
from vvuq_twin.reduction.training import Trained, train


@pytest.fixture(scope="session")
def case() -> GrowthCase:
    return small_case()


@pytest.fixture(scope="session")
def trained(case: GrowthCase) -> Trained:
    return train(case, 11, SETTINGS)
