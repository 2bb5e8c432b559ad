"""A given plasma curve as a course."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.kinetics.aif import plasma
from vvuq_twin.kinetics.measured import measured_course, population_course
from vvuq_twin.kinetics.plasma import concentration, simulate

T, C = np.array([0.0, 0.5, 1.0, 3.0, 8.0]), np.array([0.0, 4.0, 3.0, 1.5, 0.2])


def test_it_goes_through_the_samples_and_decays_after_them():
    plan = measured_course(T, C, unbound=0.4, tail=0.3)
    at = np.linspace(0.0, 8.0, 33)
    np.testing.assert_allclose(concentration(plan, at), np.interp(at, T, C), atol=1e-14)
    np.testing.assert_allclose(
        concentration(plan, np.array([8.0, 11.0])), [0.2, 0.2 * np.exp(-0.9)], rtol=1e-12
    )
    area = np.trapezoid(C, T) + 0.2 / 0.3
    assert plan.total_exposure() == pytest.approx(area, rel=1e-13)
    late = (simulate(plan, np.array([200.0]))[1] * plan.readout).sum()
    assert late == pytest.approx(area, rel=1e-12)


def test_the_tail_is_that_of_the_last_samples():
    t = np.linspace(0.0, 10.0, 21)
    plan = measured_course(t, 5.0 * np.exp(-0.4 * t))
    assert concentration(plan, np.array([15.0]))[0] == pytest.approx(5.0 * np.exp(-6.0), rel=1e-9)


def test_population_input():
    plan = population_course(scale=1.2, onset=0.25)
    at = np.sort(np.random.default_rng(2).uniform(0.0, 2.25, 1000))
    exact = plasma(60.0 * (at - 0.25), scale=1.2)
    np.testing.assert_allclose(concentration(plan, at), exact, atol=2e-4 * exact.max())


@pytest.mark.parametrize(
    ("t", "c", "message"),
    [
        ([0.0], [1.0], "two or more samples"),
        ([0.0, 1.0], [1.0, np.nan], "not finite"),
        ([0.0, 0.0], [1.0, 1.0], "do not increase"),
        ([0.0, 1.0], [1.0, -1.0], "the sample at 1 h is negative"),
        ([0.0, 1.0], [1.0, 2.0], "is not positive"),
    ],
)
def test_bad_samples_are_sentences(t, c, message):
    with pytest.raises(BadInput, match=message):
        measured_course(t, c)
