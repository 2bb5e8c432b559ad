"""Grid convergence."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.verification.gci import grid_convergence, least_squares_order, observed_orders


def test_exact_power_law_in_any_order_of_the_grids():
    h = np.array([1.0, 0.6, 0.4])
    values = 2.0 + 0.3 * h**2.2
    for order in ([0, 1, 2], [2, 0, 1]):
        got = grid_convergence(h[order].tolist(), values[order].tolist())
        assert got.order == pytest.approx(2.2, rel=1e-8)
        assert got.extrapolated == pytest.approx(2.0, rel=1e-8)
        assert not got.oscillating


def test_oscillation_is_said():
    assert grid_convergence([1.0, 0.5, 0.25], [1.0, 1.2, 1.1]).oscillating


def test_observed_orders():
    h = np.array([1.0, 0.5, 0.2])
    np.testing.assert_allclose(observed_orders(h.tolist(), (3 * h**2).tolist()), [2, 2])


@pytest.mark.parametrize(
    ("h", "v"),
    [
        ([1, 1, 0.5], [1, 2, 3]),
        ([1, 0.5], [1, 2]),
        ([1, 0.5, 0.25], [1, 1, 2]),
        ([1, 0.5, 0.25], [1, 2, np.nan]),
    ],
)
def test_bad_input(h, v):
    with pytest.raises(BadInput):
        grid_convergence(h, v)


def test_least_squares_needs_four():
    with pytest.raises(BadInput, match="at least four"):
        least_squares_order([1, 0.5, 0.25], [1, 2, 3])
