"""Fisher information, fewer parameters and active subspaces against linear models and ridge functions."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput, RunFailed
from vvuq_twin.domain.keys import generator
from vvuq_twin.domain.observations import ObservationError
from vvuq_twin.domain.parameters import LogNormal, Normal, Parameter, ParameterSpace
from vvuq_twin.reduction.backend import jnp
from vvuq_twin.sensitivity.information import Information, Merged, gradients, information
from vvuq_twin.sensitivity.subspace import active_subspace

P = 5
SPACE = ParameterSpace(tuple(Parameter(f"x{i}", "1", Normal(0.0, 1.0)) for i in range(P)))


def linear(seed: int = 1) -> tuple[np.ndarray, ObservationError, np.ndarray]:
    """Observation matrix (7, 5), correlated error, forecast matrix (2, 5)."""
    rng = generator(seed, "linear information")
    error = ObservationError(rng.uniform(0.5, 1.5, 7), 0.4 * rng.standard_normal((7, 1)))
    return rng.standard_normal((7, P)), error, rng.standard_normal((2, P))


def of(j: np.ndarray, error: ObservationError, g: np.ndarray) -> Information:
    return information(SPACE, j[None], error, g[None], tuple(f"q{i}" for i in range(len(g))))


def covariance(error: ObservationError) -> np.ndarray:
    return np.diag(error.voxel**2) + error.factor @ error.factor.T


def test_gradients_of_both_modes_are_exact() -> None:
    j = linear()[0]

    def many(z):
        return jnp.asarray(j) @ jnp.sin(z)

    def few(z):
        return jnp.stack([jnp.exp(z[0] * z[1])])

    z = SPACE.gaussian_sample(4, 1, "points")
    values, slopes = gradients(many, z)
    np.testing.assert_allclose(values, np.sin(z) @ j.T, rtol=1e-12)
    np.testing.assert_allclose(slopes, j[None] * np.cos(z)[:, None, :], rtol=1e-12)
    _, slopes = gradients(few, z)
    np.testing.assert_allclose(slopes[:, 0, 0], z[:, 1] * np.exp(z[:, 0] * z[:, 1]), rtol=1e-12)


def test_points_without_a_gradient_are_left_out_or_said() -> None:
    def root(z):
        return jnp.sqrt(z[:1])

    z = np.array([[1.0], [4.0], [-1.0]])
    assert len(gradients(root, z)[0]) == 2
    with pytest.raises(RunFailed, match="not finite at 2 of 3 points"):
        gradients(root, -z)
    with pytest.raises(BadInput, match="shape"):
        gradients(lambda x: x.sum(), z)


def test_fisher_information_of_a_linear_model_is_the_closed_form() -> None:
    j, error, g = linear()
    found = of(j, error, g)
    fisher = j.T @ np.linalg.inv(covariance(error)) @ j
    np.testing.assert_allclose(found.fisher[0], fisher, rtol=1e-10)
    posterior = np.linalg.inv(np.eye(P) + fisher)
    np.testing.assert_allclose(found.variance, np.diag(g @ posterior @ g.T), rtol=1e-10)
    np.testing.assert_allclose(found.prior_variance, (g**2).sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.learned, 1 - np.diag(posterior), rtol=1e-10)
    values, vectors = found.spectrum
    np.testing.assert_allclose(vectors @ np.diag(values) @ vectors.T, fisher, atol=1e-10)
    # what knowing one score as well takes away, by conditioning
    for i in range(P):
        known = posterior - np.outer(posterior[i], posterior[i]) / posterior[i, i]
        np.testing.assert_allclose(
            found.share[i], 1 - np.diag(g @ known @ g.T) / found.variance, rtol=1e-8, atol=1e-10
        )


def test_effect_of_fixing_is_that_of_many_experiments() -> None:
    """Data from the whole model, analysed by exact linear-Gaussian updates with all and with fewer parameters."""
    j, error, g = linear()
    r = covariance(error)
    keep = [0, 2, 3]
    rng = generator(2, "experiments")
    z = rng.standard_normal((40_000, P))
    data = z @ j.T + rng.standard_normal((40_000, 7)) @ np.linalg.cholesky(r).T

    def analysed(columns: list[int]) -> tuple[np.ndarray, np.ndarray]:
        jj, gg = j[:, columns], g[:, columns]
        cov = np.linalg.inv(np.eye(len(columns)) + jj.T @ np.linalg.solve(r, jj))
        return data @ np.linalg.solve(r, jj) @ cov @ gg.T, np.diag(gg @ cov @ gg.T)

    (mean, variance), (mean_fixed, variance_fixed) = analysed(list(range(P))), analysed(keep)
    effect = of(j, error, g).fix(["x1", "x4"])
    np.testing.assert_allclose(effect.spread, np.sqrt(variance_fixed / variance), rtol=1e-8)
    shift = np.sqrt(((mean_fixed - mean) ** 2).mean(axis=0) / variance)
    np.testing.assert_allclose(effect.shift, shift, rtol=0.02)


def test_what_matters_to_nothing_is_fixed_first_and_for_free() -> None:
    j, error, g = linear()
    j[:, 3], g[:, 3] = 0.0, 0.0
    found = of(j, error, g)
    names, effect = found.fixable(1e-8)
    assert names == ("x3",) and effect.worst < 1e-8
    everything, _ = found.fixable(np.inf)
    assert everything[0] == "x3" and len(everything) == P
    some, effect = found.fixable(0.3)
    assert effect.worst <= 0.3 < found.fix([*some, everything[len(some)]]).worst
    with pytest.raises(BadInput, match="no parameter 'x9'"):
        found.fix(["x9"])


def test_merging_is_exact_for_a_linear_model_with_as_many_directions_as_quantities() -> None:
    j, error, g = linear()
    found = of(j, error, g)
    w, effect = found.merged(1e-8)
    assert w.shape == (P, 2) and effect.worst < 1e-8
    np.testing.assert_allclose(w.T @ w, np.eye(2), atol=1e-12)
    assert found.merged(0.9)[0].shape[1] <= 2
    # while of the parameters themselves none can go
    assert found.fixable(1e-8)[0] == ()


def test_a_sum_seen_only_as_a_sum_becomes_one_parameter() -> None:
    """y = x0 + x1 is all that is seen and asked for."""
    row = np.zeros((1, P))
    row[0, :2] = 1.0
    found = of(row, ObservationError(np.array([0.1])), 2.0 * row)
    w, effect = found.merged(1e-8)
    assert w.shape[1] == 1 and effect.worst < 1e-8
    np.testing.assert_allclose(w[:2, 0], np.sqrt(0.5), rtol=1e-10)
    values, _ = found.spectrum
    assert values[0] == pytest.approx(200.0) and (values[1:] < 1e-10).all()


def test_a_merged_space_has_the_prior_of_what_it_merges() -> None:
    whole = ParameterSpace(
        (Parameter("k", "1/day", LogNormal(0.02, 0.3)), Parameter("a", "1", Normal(0.0, 1.0)))
    )
    w = np.sqrt(0.5) * np.ones((2, 1))
    merged = Merged(whole, w)
    assert merged.space.names == ("direction_1",) and "k" in merged.space.parameters[0].description
    theta = merged.theta(np.array([[0.0], [np.sqrt(2.0)]]))
    np.testing.assert_allclose(theta, [[0.02, 0.0], [0.02 * np.exp(0.3), 1.0]])
    np.testing.assert_allclose(
        np.asarray(merged.theta(jnp.array([[np.sqrt(2.0)]]), jnp)), theta[1:], rtol=1e-12
    )
    moved = Merged(whole, w, np.array([1.0, 0.0])).theta(np.zeros((1, 1)))
    np.testing.assert_allclose(moved, [[0.02 * np.exp(0.3), 0.0]])


def test_the_active_subspace_of_a_ridge_function_is_its_direction() -> None:
    """f = exp(a'z): grad f = a f, so C = a a' E[f^2] and E[f^2] = exp(2 |a|^2)."""
    a = np.array([0.3, -0.2, 0.0, 0.1, 0.05])
    z = SPACE.gaussian_sample(4096, 3, "ridge", "sobol")
    slopes = np.exp(z @ a)[:, None] * a
    found = active_subspace(slopes, 1, resamples=50)
    assert found.dimension() == 1 and (found.values[1:] < 1e-12).all()
    np.testing.assert_allclose(found.directions[:, 0], a / np.linalg.norm(a), atol=1e-10)
    assert found.values[0] == pytest.approx((a @ a) * np.exp(2 * a @ a), rel=0.03)
    assert found.low[0] < found.values[0] < found.high[0] and found.distance[0] < 1e-7
    np.testing.assert_allclose(found.activity(1), found.values[0] * a**2 / (a @ a), atol=1e-10)


def test_the_active_subspace_of_a_quadratic_is_that_of_its_matrix() -> None:
    """f = z'Az/2: C = A^2, with a gap behind the second direction."""
    q = np.linalg.qr(generator(4, "matrix").standard_normal((P, P)))[0]
    a = q @ np.diag([3.0, 2.0, 0.1, 0.05, 0.0]) @ q.T
    z = SPACE.gaussian_sample(8192, 3, "quadratic", "sobol")
    found = active_subspace(z @ a, 1, resamples=50)
    np.testing.assert_allclose(found.values, [9.0, 4.0, 0.01, 0.0025, 0.0], rtol=0.05, atol=1e-10)
    assert found.dimension(0.99) == 2 and found.distance[1] < 0.01
    inside = q[:, :2].T @ found.directions[:, :2]
    np.testing.assert_allclose(np.linalg.svd(inside, compute_uv=False), 1.0, atol=1e-3)
    with pytest.raises(BadInput, match="finite gradients"):
        active_subspace(np.full((3, 2), np.nan), 1)


def test_shapes_that_do_not_fit_are_refused() -> None:
    j, error, g = linear()
    with pytest.raises(BadInput, match="do not fit"):
        information(SPACE, j[None, :5], error, g[None], ("a", "b"))
