"""Population constants against conjugate closed forms; calibrated persistence against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.calibration.population import PersistenceErrors, fit_population, folds
from vvuq_twin.domain.errors import BadInput, RunFailed
from vvuq_twin.domain.parameters import LogNormal, Normal, Parameter, ParameterSpace

SPACE = ParameterSpace(
    (Parameter("mean", "1", Normal(1.0, 2.0)), Parameter("scale", "1", LogNormal(0.5, 0.3)))
)


def test_the_mode_of_a_conjugate_problem() -> None:
    y, sd = np.array([2.0, 3.5, 2.2, 4.1]), 0.8

    def log_likelihood(theta: np.ndarray) -> float:
        return float(-0.5 * np.sum((y - theta[0]) ** 2) / sd**2)

    found = fit_population(log_likelihood, SPACE, free=["mean"], tolerance=1e-13)
    precision = len(y) / sd**2 + 1 / 2.0**2
    exact = (y.sum() / sd**2 + 1.0 / 2.0**2) / precision
    assert found.theta[0] == pytest.approx(exact, abs=1e-6)
    assert found.theta[1] == 0.5
    assert found.converged
    assert found.log_likelihood == pytest.approx(log_likelihood(found.theta), abs=1e-9)


def test_a_start_holds_what_is_not_free() -> None:
    found = fit_population(lambda theta: -float((theta[0] - 3.0) ** 2), SPACE, ["mean"], np.array([0.0, 1.0]))
    assert found.theta[1] == pytest.approx(0.5 * np.exp(0.3))


def test_a_corner_that_is_not_finite_does_not_stop_the_search() -> None:
    found = fit_population(
        lambda theta: np.nan if theta[0] > 4.0 else -50.0 * float((theta[0] - 3.0) ** 2), SPACE, ["mean"]
    )
    assert found.theta[0] == pytest.approx((100 * 3.0 + 0.25 * 1.0) / 100.25, abs=1e-3)


def test_a_start_that_is_not_finite_is_said() -> None:
    with pytest.raises(RunFailed):
        fit_population(lambda theta: float("nan"), SPACE)


def test_folds_are_balanced_and_keyed() -> None:
    a = folds(101, 5, 7, "x")
    assert sorted(np.bincount(a)) == [20, 20, 20, 20, 21]
    assert (a == folds(101, 5, 7, "x")).all()
    assert (a != folds(101, 5, 8, "x")).any()
    with pytest.raises(BadInput):
        folds(3, 4, 7, "x")


def test_persistence_is_the_last_value_plus_the_errors_of_its_stratum() -> None:
    last = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    later = last + np.array([-1.0, 0.0, 1.0, 7.0, 7.0, 7.0])
    found = PersistenceErrors.learn(last, later, np.array([0, 0, 0, 1, 1, 1]), least=3)
    members = found.members(np.array([10.0, 10.0]), np.array([0, 1]), np.array([1 / 6, 0.5, 5 / 6]))
    np.testing.assert_allclose(members[:, 0], [9.0, 10.0, 11.0])
    np.testing.assert_allclose(members[:, 1], 17.0)


def test_a_small_stratum_borrows_the_errors_of_all() -> None:
    found = PersistenceErrors.learn(
        np.zeros(6), np.array([0.0, 0, 0, 0, 0, 6]), np.array([0, 0, 0, 0, 0, 1]), 2
    )
    assert found.members(np.zeros(1), np.array([1]), np.array([0.5]))[0, 0] == 0.0
    with pytest.raises(BadInput):
        PersistenceErrors.learn(np.empty(0), np.empty(0), np.empty(0, dtype=int))
