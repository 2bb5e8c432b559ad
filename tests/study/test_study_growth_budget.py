"""Shares of a forecast's variance between groups that depend on each other."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.keys import generator
from vvuq_twin.study.growth_budget import _shares


def test_shares_of_a_linear_forecast_are_those_of_its_covariance() -> None:
    factor = np.array([[1.0, 0.0, 0.0], [-0.9, 0.4, 0.0], [0.0, 0.0, 1.0]])
    slope = np.array([2.0, 2.0, 1.0])
    z = generator(5, "shares").standard_normal((20_000, 3)) @ factor.T
    covariance = factor @ factor.T
    expected = slope * (covariance @ slope) / (slope @ covariance @ slope)
    found = _shares(z, z @ slope + 3.0, [[0], [1], [2]])
    assert found == pytest.approx(expected, abs=0.02)
    assert sum(found) == pytest.approx(1.0)
