"""Priors and their Gaussian maps against scipy's distributions; the posterior as the next prior."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.parameters import (
    LogitNormal,
    LogNormal,
    LogUniform,
    Normal,
    Parameter,
    ParameterSpace,
    Prior,
    Tabulated,
    Uniform,
    Warped,
    posterior_space,
    prior_from_spec,
)

KNOWN: list[tuple[Any, Any]] = [
    (Normal(2.0, 0.5), stats.norm(2.0, 0.5)),
    (LogNormal(0.3, 0.8), stats.lognorm(0.8, scale=0.3)),
    (Uniform(-1.0, 3.0), stats.uniform(-1.0, 4.0)),
    (LogUniform(1e-3, 10.0), stats.loguniform(1e-3, 10.0)),
]
EVERY: list[Any] = [
    *(p for p, _ in KNOWN),
    LogitNormal(1.0, 5.0, 0.3, 1.4),
    Tabulated((-2.0, -0.5, 0.0, 1.0, 2.5), (0.1, 0.4, 0.5, 2.0, 9.0)),
    Warped(LogUniform(0.01, 1.0), Tabulated((-3.0, 0.0, 3.0), (-0.4, 1.2, 1.9))),
]


@pytest.mark.parametrize(("prior", "reference"), KNOWN, ids=lambda x: type(x).__name__)
def test_the_map_of_a_standard_normal_has_the_distribution(prior: Prior, reference: Any) -> None:
    z = np.linspace(-3.5, 3.5, 41)
    np.testing.assert_allclose(reference.cdf(prior.from_gaussian(z)), special.ndtr(z), rtol=1e-9, atol=1e-12)


def test_the_logit_normal_is_one_by_its_definition() -> None:
    x = EVERY[4].from_gaussian(np.array([-1.0, 0.0, 2.0]))
    np.testing.assert_allclose(special.logit((x - 1) / 4), 0.3 + 1.4 * np.array([-1.0, 0.0, 2.0]), rtol=1e-12)


@pytest.mark.parametrize("prior", EVERY, ids=lambda p: type(p).__name__)
def test_the_two_maps_are_inverse_monotone_and_the_same_in_jax(prior: Prior) -> None:
    from vvuq_twin.reduction.backend import jax, jnp

    z = np.linspace(-4.0, 4.0, 61)
    x = prior.from_gaussian(z)
    np.testing.assert_allclose(prior.to_gaussian(x), z, rtol=1e-8, atol=1e-8)
    assert (np.diff(x) > 0).all()
    np.testing.assert_allclose(np.asarray(prior.from_gaussian(jnp.asarray(z), jnp)), x, rtol=1e-12)
    slope = jax.grad(lambda s: prior.from_gaussian(s, jnp))(0.37)
    h = 1e-6
    numeric = (prior.from_gaussian(np.float64(0.37 + h)) - prior.from_gaussian(np.float64(0.37 - h))) / (
        2 * h
    )
    assert float(slope) == pytest.approx(float(numeric), rel=1e-6)


def _space(correlation: np.ndarray | None = None) -> ParameterSpace:
    return ParameterSpace(
        (
            Parameter("k", "1/day", LogNormal(0.05, 0.5)),
            Parameter("D", "mm2/day", LogUniform(0.01, 1.0)),
            Parameter("s", "1", Uniform(0.0, 2.0)),
        ),
        correlation,
    )


CORRELATION = np.array([[1.0, 0.6, -0.3], [0.6, 1.0, 0.2], [-0.3, 0.2, 1.0]])


def test_a_copula_correlates_the_scores_and_keeps_the_marginals() -> None:
    space = _space(CORRELATION)
    theta = space.sample(40_000, 5, "draws")
    scores = np.stack([p.prior.to_gaussian(theta[:, i]) for i, p in enumerate(space.parameters)], axis=-1)
    np.testing.assert_allclose(np.corrcoef(scores.T), CORRELATION, atol=0.015)
    for i in range(3):
        assert stats.kstest(scores[:, i], "norm").pvalue > 1e-3
    z = space.gaussian_sample(50, 5, "z")
    np.testing.assert_allclose(space.to_gaussian(space.from_gaussian(z)), z, rtol=1e-9, atol=1e-9)


def test_more_members_keep_the_first_ones() -> None:
    space = _space()
    np.testing.assert_array_equal(space.sample(200, 1, "prior")[:100], space.sample(100, 1, "prior"))
    assert not np.array_equal(space.sample(10, 1, "prior"), space.sample(10, 1, "other"))


@pytest.mark.parametrize("method", ["sobol", "lhs"])
def test_stratified_samples_are_repeatable_and_more_even_than_random(method: Any) -> None:
    space = _space()
    z = space.gaussian_sample(256, 3, "design", method)
    np.testing.assert_array_equal(z, space.gaussian_sample(256, 3, "design", method))
    u = special.ndtr(z)
    # one point in each of 256 strata of every parameter
    assert all(len(np.unique(np.floor(u[:, i] * 256))) == 256 for i in range(3))
    assert np.isfinite(z).all()


def test_spaces_side_by_side_are_independent() -> None:
    other = ParameterSpace((Parameter("b", "1", Normal(0, 1)),))
    both = _space(CORRELATION) + other
    assert both.names == ("k", "D", "s", "b")
    assert both.correlation is not None
    np.testing.assert_array_equal(both.correlation[:3, :3], CORRELATION)
    np.testing.assert_array_equal(both.correlation[3], [0, 0, 0, 1])
    assert (_space() + other).correlation is None
    with pytest.raises(BadInput, match="'b' is defined twice"):
        _ = other + other


def test_vectors_and_names_agree() -> None:
    space = _space()
    values = {"s": 1.5, "k": 0.02, "D": 0.3}
    assert space.as_dict(space.vector(values)) == values
    assert space.index("D") == 1 and space.problem()["names"] == ["k", "D", "s"]


def test_a_correlation_that_is_none_is_refused() -> None:
    bad = np.array([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]])
    with pytest.raises(BadInput, match="not positive definite"):
        _space(bad)


def test_a_posterior_becomes_a_prior_with_the_same_moments_and_copula() -> None:
    """A sample of a known joint comes back: quantiles, correlation of the scores, weights included."""
    space = _space()
    rng = np.random.Generator(np.random.Philox(41))
    corr = np.array([[1.0, -0.7, 0.0], [-0.7, 1.0, 0.4], [0.0, 0.4, 1.0]])
    scores = np.array([0.8, -0.5, 0.2]) + 0.4 * rng.standard_normal((3000, 3)) @ np.linalg.cholesky(corr).T
    theta = space.from_gaussian(scores)
    again = posterior_space(space, theta)
    draws = again.sample(20_000, 9, "again")
    assert again.names == space.names and [p.unit for p in again.parameters] == ["1/day", "mm2/day", "1"]
    back = space.to_gaussian(draws)
    np.testing.assert_allclose(back.mean(axis=0), [0.8, -0.5, 0.2], atol=0.02)
    np.testing.assert_allclose(back.std(axis=0), 0.4, rtol=0.03)
    np.testing.assert_allclose(np.corrcoef(back.T), corr, atol=0.03)
    assert draws[:, 2].min() >= 0.0 and draws[:, 2].max() <= 2.0 and (draws > 0).all()
    # importance weights move it where the weights say: exp(s) shifts a normal by its variance
    weights = np.exp(scores[:, 1])
    moved = space.to_gaussian(posterior_space(space, theta, weights).sample(20_000, 9, "again"))
    assert moved[:, 1].mean() == pytest.approx(-0.5 + 0.16, abs=0.03)
    assert moved[:, 0].mean() == pytest.approx(0.8 - 0.7 * 0.16, abs=0.03)


def test_a_posterior_at_the_edge_of_the_support_stays_inside_it_through_updates() -> None:
    space = _space()
    for cycle in range(3):
        z = space.gaussian_sample(400, cycle, "cycle")
        space = posterior_space(space, space.from_gaussian(z + np.array([1.2, 1.2, -1.2])))
    draws = space.from_gaussian(np.linspace(-8, 8, 200)[:, None] * np.ones(3))
    assert (
        (draws[:, 0] > 0).all() and (draws[:, 1:] >= [0.01, 0.0]).all() and (draws[:, 1:] <= [1.0, 2.0]).all()
    )
    assert all(
        isinstance(p.prior, Warped) and not isinstance(p.prior.prior, Warped) for p in space.parameters
    )


def test_too_small_or_broken_posteriors_are_refused() -> None:
    space = _space()
    theta = space.sample(9, 1, "few")
    with pytest.raises(BadInput, match="fewer than ten"):
        posterior_space(space, theta)
    theta = space.sample(20, 1, "few")
    theta[3, 1] = np.nan
    with pytest.raises(BadInput, match="non-finite"):
        posterior_space(space, theta)
    theta[3, 1] = 1.5
    with pytest.raises(BadInput, match="a value of 'D' is not inside"), np.errstate(invalid="ignore"):
        posterior_space(space, theta)
    with pytest.raises(BadInput, match="'s' is the same in every draw"):
        posterior_space(space, np.column_stack([space.sample(20, 1, "few")[:, :2], np.ones(20)]))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"lognormal": {"median": 0.05, "sd_log": 0.5}}, None),
        ({"lognorml": {"median": 1}}, "did you mean 'lognormal'"),
        ({"normal": {"mean": 1}}, "takes mean, sd"),
        ({"normal": {"mean": 1, "sd": "x"}}, "takes mean, sd"),
        ({"normal": 3}, "takes mean, sd"),
        ({"normal": {"mean": 1, "sd": -1}}, r"sd \(-1\) must be positive"),
        ({"normal": {"mean": float("nan"), "sd": 1}}, "not finite"),
        ({"uniform": {"low": 2, "high": 1}}, "is not below high"),
        ({"loguniform": {"low": 0, "high": 1}}, "must be positive"),
        ({"lognormal": {"median": -1, "sd_log": 1}}, "median"),
        ({"normal": {"mean": 1, "sd": 1}, "uniform": {}}, "exactly one distribution"),
    ],
)
def test_priors_from_files(spec: dict[str, Any], said: str | None) -> None:
    if said is None:
        assert prior_from_spec(spec, "study.yaml: k") == LogNormal(0.05, 0.5)
        return
    with pytest.raises(BadInput, match=said) as caught:
        prior_from_spec(spec, "study.yaml: k")
    assert str(caught.value).startswith("study.yaml: k: ")
