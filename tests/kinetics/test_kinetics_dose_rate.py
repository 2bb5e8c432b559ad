"""Lea-Catcheside against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.kinetics.dose_rate import dose_effect

MU = 0.3648


@pytest.mark.parametrize("hours", [0.001, 0.5, 5.0, 50.0])
def test_constant_rate(hours):
    """Dale 1985: G = 2 (mu T - 1 + exp(-mu T))/(mu T)^2."""
    z = MU * hours
    effect = dose_effect([0.0, hours], [2.0, 2.0], MU)
    exact = 2 / z**2 * (z - 1 + np.exp(-z)) if z > 1e-2 else 1 - z / 3 + z**2 / 12
    assert effect.factor == pytest.approx(exact, rel=1e-11)
    assert effect.dose[-1] == pytest.approx(2.0 * hours, rel=1e-14)


def test_exponential_rate_to_infinity():
    """G = lambda/(lambda + mu)."""
    lam, t = 0.02, np.linspace(0.0, 300.0, 6001)
    effect = dose_effect(t, 3.0 * np.exp(-lam * t), MU, tail=lam)
    assert effect.factor == pytest.approx(lam / (lam + MU), rel=1e-6)
    assert effect.dose[-1] == pytest.approx(150.0, rel=1e-6)
    assert effect.bed(10.0) == pytest.approx(150.0 + 150.0**2 * lam / (lam + MU) / 10.0, rel=1e-6)


def test_tail_alone_is_exact():
    effect = dose_effect([0.0, 1e-9], [3.0, 3.0], MU, tail=0.1)
    assert effect.factor == pytest.approx(0.1 / (0.1 + MU), rel=1e-7)


def test_fractions():
    """One short fraction has G = 1; two share their damage by exp(-mu dt)."""
    none = [0.0, 0.0]
    assert dose_effect([0.0, 9.0], none, MU, fractions=[(1.0, 2.0)]).factor == pytest.approx(1.0, rel=1e-14)
    two = dose_effect([0.0, 9.0], none, MU, fractions=[(1.0, 2.0), (7.0, 2.0)])
    assert two.factor == pytest.approx((1 + np.exp(-6 * MU)) / 2, rel=1e-13)
    assert dose_effect([0.0, 9.0], [0.5, 2.0], 0.0, fractions=[(1.0, 2.0)]).factor == pytest.approx(
        1.0, rel=1e-13
    )


def test_it_does_not_depend_on_the_knots():
    t = np.array([0.0, 2.0, 30.0, 40.0])
    r = np.array([[0.0, 3.0, 0.5, 0.2], [1.0, 0.0, 2.0, 0.0]])
    fine = np.union1d(t, np.linspace(0.0, 40.0, 173))
    a = dose_effect(t, r, MU)
    b = dose_effect(fine, [np.interp(fine, t, row) for row in r], MU)
    np.testing.assert_allclose(a.quadratic[:, -1], b.quadratic[:, -1], rtol=1e-11)
    np.testing.assert_allclose(a.dose[:, -1], b.dose[:, -1], rtol=1e-13)


def test_log_survival_is_the_linear_quadratic_law_with_g():
    effect = dose_effect([0.0, 10.0], [1.0, 1.0], MU)
    expected = -0.1 * 10 - 0.02 * float(effect.factor) * 100
    assert effect.log_survival(0.1, 0.02)[-1] == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.0], [1.0], MU), "two or more times"),
        (([0.0, 0.0], [1.0, 1.0], MU), "do not increase"),
        (([0.0, 1.0], [1.0, -1.0], MU), "is negative"),
        (([0.0, 1.0], [1.0, 1.0], -MU), "repair or of the tail"),
        (([0.0, 1.0], [1.0, 1.0], MU, None, [(3.0, 2.0)]), "outside the times"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(BadInput, match=message):
        dose_effect(*arguments)
