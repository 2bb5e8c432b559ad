"""The three-part observation error against the dense covariance it stands for."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.observations import ObservationError, Observations, stack

RNG = np.random.Generator(np.random.Philox(31))


def _error(m: int = 40) -> ObservationError:
    return ObservationError(
        RNG.uniform(0.3, 1.2, m), RNG.standard_normal((m, 1)), 0.7 * RNG.standard_normal((m, 4))
    )


def _dense(error: ObservationError) -> np.ndarray:
    s, q = error.scan, error.representation
    return np.diag(error.voxel**2) + s @ s.T + q @ q.T


def test_solve_and_variance_are_those_of_the_dense_covariance() -> None:
    error = _error()
    dense = _dense(error)
    one, many = RNG.standard_normal(40), RNG.standard_normal((40, 3))
    np.testing.assert_allclose(error.solve(one), np.linalg.solve(dense, one), rtol=1e-9)
    np.testing.assert_allclose(error.solve(many), np.linalg.solve(dense, many), rtol=1e-9)
    np.testing.assert_allclose(error.variance(), np.diag(dense), rtol=1e-13)


def test_without_correlated_parts_the_error_is_diagonal() -> None:
    error = ObservationError(np.array([0.5, 2.0]))
    np.testing.assert_allclose(error.solve(np.array([1.0, 1.0])), [4.0, 0.25])
    assert error.factor.shape == (2, 0)


def test_perturbations_have_the_covariance() -> None:
    error = _error(6)
    normals = RNG.standard_normal((200_000, 6 + error.factor.shape[1]))
    found = np.cov(error.perturbations(normals).T)
    dense = _dense(error)
    scale = np.sqrt(np.outer(np.diag(dense), np.diag(dense)))
    assert (np.abs(found - dense) / scale).max() < 0.015


def test_taking_rows_is_the_dense_submatrix() -> None:
    error = _error()
    rows = np.array([3, 30, 7])
    np.testing.assert_allclose(_dense(error.take(rows)), _dense(error)[np.ix_(rows, rows)], rtol=1e-12)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_a_standard_deviation_that_is_not_positive_is_refused(bad: float) -> None:
    with pytest.raises(BadInput, match="not positive and finite"):
        ObservationError(np.array([1.0, bad]))
    with pytest.raises(BadInput, match="correlated part"):
        ObservationError(np.ones(2), np.array([[np.nan], [1.0]]))


def _scan(name: str, m: int, time: float) -> Observations:
    return Observations(
        RNG.standard_normal(m), _error(m), RNG.random((m, 3)), [f"{name}:{i}" for i in range(m)], time
    )


def test_missing_pixels_are_left_out_with_their_error() -> None:
    scan = _scan("a", 5, 1.0)
    scan.y[[1, 3]] = np.nan
    kept = scan.present()
    assert list(kept.ids) == ["a:0", "a:2", "a:4"] and kept.time == 1.0
    np.testing.assert_array_equal(kept.coords, scan.coords[[0, 2, 4]])
    rows = [0, 2, 4]
    np.testing.assert_allclose(_dense(kept.error), _dense(scan.error)[np.ix_(rows, rows)])
    assert kept.present() is kept
    whole = Observations(scan.y, scan.error, scan.coords, ["a"], 1.0)
    assert list(whole.present().ids) == ["a"]


def test_stacked_scans_are_independent_of_each_other_and_count_once() -> None:
    a, b = _scan("a", 5, 1.0), _scan("b", 3, 4.0)
    both = stack([a, b, a])
    assert len(both.y) == 8 and both.time == 4.0
    dense = _dense(both.error)
    np.testing.assert_allclose(dense[:5, :5], _dense(a.error))
    np.testing.assert_allclose(dense[5:, 5:], _dense(b.error))
    np.testing.assert_array_equal(dense[:5, 5:], 0.0)
    named = stack([Observations(s.y, s.error, s.coords, [n], s.time) for s, n in ((a, "a"), (b, "b"))])
    assert list(named.ids) == ["a"] * 5 + ["b"] * 3
