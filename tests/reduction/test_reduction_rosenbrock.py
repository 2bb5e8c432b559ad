"""The time step: its order with the wrong Jacobian, stiff limits, steps that hit what they must."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from vvuq_twin.reduction.rosenbrock import STAGES, factored, solved, step
from vvuq_twin.reduction.timegrid import time_grid


def march(h: float, end: float, matrix: np.ndarray) -> np.ndarray:
    """A nonlinear, time-dependent system with ``matrix`` in the place of its Jacobian."""
    y, t = np.array([1.0, 0.5]), 0.0

    def slope(t: float, y: np.ndarray) -> np.ndarray:
        return np.array([-(y[0] ** 2) + np.sin(3.0 * t) * y[1], y[0] * y[1] - 2.0 * y[1] + np.cos(t)])

    for _ in range(round(end / h)):
        drift = np.array([3.0 * np.cos(3.0 * t) * y[1], -np.sin(t)])
        y = step(y, h, lambda at, i, t=t: slope(t + STAGES[i] * h, at), matrix, drift)
        t += h
    exact = solve_ivp(slope, (0.0, end), [1.0, 0.5], "DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
    return np.abs(y - exact).max()


@pytest.mark.parametrize("matrix", [np.zeros((2, 2)), np.array([[-2.0, 0.3], [1.0, -4.0]])])
def test_third_order_with_any_matrix(matrix: np.ndarray) -> None:
    errors = [march(h, 1.0, matrix) for h in (0.05, 0.025, 0.0125)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert orders.min() > 2.7


def test_a_stiff_relaxation_is_damped_at_once() -> None:
    stiff = np.array([[-1e8]])
    y = step(np.array([1.0]), 1.0, lambda at, i: stiff @ at, stiff, np.zeros(1))
    assert abs(y[0]) < 1e-6


def test_elimination_against_numpy() -> None:
    rng = np.random.default_rng(2)
    a = rng.random((4, 4, 6)) + 8.0 * np.eye(4)[:, :, None]
    b = rng.random((4, 6))
    got = np.array(solved(factored(a), b))
    wanted = np.linalg.solve(a.transpose(2, 0, 1), b.T[:, :, None])[:, :, 0].T
    np.testing.assert_allclose(got, wanted, rtol=1e-12)


def test_steps_end_at_doses_and_outputs() -> None:
    jumps = np.array([[2.0, 0.0], [-2.0, 0.0], [1.0, 1.0], [5.0, 0.0]])
    grid = time_grid(np.array([0.25, 3.0, 10.0]), np.array([0.0, 0.25, 7.3, 10.0]), jumps)
    ends = np.cumsum(grid.dt)
    np.testing.assert_allclose(ends[grid.output], [0.25, 3.0, 10.0], atol=1e-9)
    given = np.flatnonzero(np.abs(grid.jump).sum(axis=1))
    np.testing.assert_allclose(ends[given] - grid.dt[given], [0.0, 0.25, 7.3], atol=1e-9)
    np.testing.assert_array_equal(grid.last, [5.0, 0.0])
    assert len(grid.interval) < 25 and grid.dt.max() <= 2.5
