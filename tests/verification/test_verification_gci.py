"""Grid convergence."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.verification.gci import grid_convergence, least_squares_order, observed_orders
from vvuq_twin.verification.least_squares import least_squares_uncertainty


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


H = np.array([1.0, 0.8, 0.5, 0.4, 0.25])


@pytest.mark.parametrize(
    ("values", "model"),
    [(3 + 0.4 * H**1.7, "power"), (3 + 0.4 * H**3, "second"), (3 + 0.4 * H**0.2, "mixed")],
)
def test_least_squares_chooses_its_model_by_the_order(values, model):
    got = least_squares_uncertainty(H.tolist(), values.tolist())
    assert got.model == model
    if model != "mixed":  # an order of 0.2 is beyond what the procedure was made for
        assert (np.array(got.uncertainty) >= np.abs(values - 3.0)).all()
    turned = least_squares_uncertainty(H[::-1].tolist(), values[::-1].tolist())
    np.testing.assert_allclose(turned.uncertainty[::-1], got.uncertainty, rtol=1e-6)


def test_an_exact_power_law_has_the_grid_convergence_index():
    """With no noise the uncertainty is 1.25 times the error, as Celik's index is."""
    values = 3 + 0.4 * H**1.7
    got = least_squares_uncertainty(H.tolist(), values.tolist())
    np.testing.assert_allclose(got.uncertainty, 1.25 * 0.4 * H**1.7, rtol=1e-6)


def test_noise_widens_it():
    noise = 0.1 * np.array([1, -1, 1, -1, 1])
    calm = least_squares_uncertainty(H.tolist(), (3 + 0.4 * H**1.5).tolist())
    loud = least_squares_uncertainty(H.tolist(), (3 + 0.4 * H**1.5 + noise).tolist())
    assert loud.uncertainty[-1] > 3 * calm.uncertainty[-1]


def test_equal_values_have_no_uncertainty_and_too_few_grids_are_bad_input():
    assert least_squares_uncertainty(H.tolist(), [2.0] * 5).uncertainty == (0.0,) * 5
    with pytest.raises(BadInput, match="at least four different"):
        least_squares_uncertainty([1.0, 1.0, 0.5, 0.25], [1.0, 2.0, 3.0, 4.0])
    with pytest.raises(BadInput, match="not finite"):
        least_squares_uncertainty(H.tolist(), [1.0, 2.0, 3.0, 4.0, np.nan])
