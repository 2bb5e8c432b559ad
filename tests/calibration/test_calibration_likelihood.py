"""The likelihood in JAX, its gradient, its failures, and the PyTensor operation."""

from __future__ import annotations

import numpy as np
import pytest
from calibration_cases import Conjugate, observations
from scipy.stats import multivariate_normal

from vvuq_twin.calibration.coordinates import Coordinates
from vvuq_twin.calibration.laplace import laplace
from vvuq_twin.calibration.likelihood import BAD, Likelihood
from vvuq_twin.calibration.sample import log_likelihood_op, pymc_model
from vvuq_twin.domain.errors import BadInput, RunFailed
from vvuq_twin.domain.observations import ObservationError
from vvuq_twin.domain.parameters import LogNormal, Normal, Parameter, ParameterSpace, Uniform
from vvuq_twin.reduction.backend import jnp

SPACE = ParameterSpace(
    (
        Parameter("rate", "1", LogNormal(1, 0.5)),
        Parameter("base", "1", Uniform(-1, 3)),
        Parameter("s", "1", LogNormal(1, 0.3)),
    ),
    np.array([[1, 0.4, 0], [0.4, 1, 0], [0, 0, 1]]),
)
T = np.linspace(0, 2, 9)


def curve(theta):
    return theta[1] + jnp.exp(-theta[0] * T)


def cased(scale=None):
    error = ObservationError(np.linspace(0.2, 0.4, 9), 0.3 * np.ones((9, 1)), np.sin(T)[:, None])
    y = np.cos(T)
    return Likelihood(SPACE, curve, observations(y, error), scale), y, error


@pytest.mark.parametrize("scale", [None, "s"])
def test_value_is_the_multivariate_normal_density(scale):
    likelihood, y, error = cased(scale)
    z = np.array([0.3, -0.5, 0.8])
    theta = SPACE.from_gaussian(z)
    covariance = np.diag(error.voxel**2) + error.factor @ error.factor.T
    covariance = covariance * (theta[2] ** 2 if scale else 1.0)
    wanted = multivariate_normal(np.asarray(curve(theta)), covariance).logpdf(y)
    assert likelihood(z)[0] == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("scale", [None, "s"])
def test_gradient_is_that_of_finite_differences(scale):
    likelihood, *_ = cased(scale)
    z, h = np.array([0.3, -0.5, 0.8]), 1e-5
    numeric = [(likelihood(z + h * e)[0] - likelihood(z - h * e)[0]) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(likelihood(z)[1], numeric, rtol=1e-6, atol=1e-6)


def test_missing_observations_do_not_count():
    error = ObservationError(np.full(9, 0.3), 0.3 * np.ones((9, 1)))
    y = np.cos(T)
    kept = np.array([0, 2, 3, 7])
    holes = np.where(np.isin(np.arange(9), kept), y, np.nan)
    some = Likelihood(SPACE, curve, observations(holes, error))
    z = np.array([0.3, -0.5, 0.8])
    covariance = 0.09 * np.eye(4) + 0.09
    wanted = multivariate_normal(np.asarray(curve(SPACE.from_gaussian(z)))[kept], covariance).logpdf(y[kept])
    assert some(z)[0] == pytest.approx(wanted, rel=1e-12)
    assert some.predictions(z[None]).shape == (1, 4)


def test_a_model_that_is_not_finite_gives_a_finite_bad_value():
    def fails(theta):
        return jnp.where(theta[1] > 1.0, jnp.nan, 1.0) * curve(theta)

    likelihood = Likelihood(SPACE, fails, observations(np.cos(T), ObservationError(np.full(9, 0.3))))
    value, gradient = likelihood(np.array([0.0, 1.0, 0.0]))
    assert value == BAD and (gradient == 0).all() and likelihood.bad == 1
    value, gradient = likelihood(np.array([0.0, -1.0, 0.0]))
    assert value > BAD and np.isfinite(gradient).all()


def test_other_data_do_not_compile_again():
    likelihood, y, error = cased()
    z = np.zeros(3)
    likelihood(z)
    other = likelihood.with_observations(observations(y + 1, error))
    fresh = Likelihood(SPACE, curve, observations(y + 1, error))
    assert other(z)[0] == fresh(z)[0] != likelihood(z)[0]
    assert other._value_and_grad._cache_size() == 1


def test_the_operation_gives_pymc_value_and_gradient():
    import pytensor
    import pytensor.tensor as pt

    likelihood, *_ = cased()
    z = pt.dvector("z")
    value = log_likelihood_op(likelihood)(z)[0]
    function = pytensor.function(
        [z], [value, pytensor.grad(3.0 * value, z)], mode=pytensor.compile.mode.Mode(linker="py")
    )
    at = np.array([0.3, -0.5, 0.8])
    before = likelihood.evaluations
    got = function(at)
    assert likelihood.evaluations == before + 1
    assert got[0] == likelihood(at)[0]
    np.testing.assert_allclose(got[1], 3 * likelihood(at)[1], rtol=1e-14)
    scores = Coordinates(np.zeros(3), np.ones(3), np.ones(3), np.zeros(3), np.eye(3))
    with pymc_model(likelihood, scores) as model:
        logp = model.compile_logp(mode=pytensor.compile.mode.Mode(linker="py"))({"x": at})
    assert logp == pytest.approx(likelihood(at)[0] - 0.5 * at @ at, rel=1e-12)


def test_laplace_is_exact_for_a_normal_posterior():
    space, predict, seen, mean, covariance, evidence = Conjugate().build()
    found = laplace(Likelihood(space, predict, seen), seed=1)
    sd = np.array([p.prior.sd for p in space.parameters])
    np.testing.assert_allclose(space.from_gaussian(found.mode), mean, atol=1e-5)
    np.testing.assert_allclose(found.covariance * np.outer(sd, sd), covariance, rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(found.factor @ found.factor.T, found.covariance, atol=1e-12)
    assert found.log_evidence == pytest.approx(evidence, abs=1e-6)


def test_laplace_finds_the_higher_of_two_modes_and_says_when_there_is_none():
    space = ParameterSpace((Parameter("x", "1", Normal(0, 1)),))
    seen = observations([0.35, 0.8], ObservationError(np.array([0.05, 0.3])))
    found = laplace(Likelihood(space, lambda t: jnp.stack([t[0] ** 2, t[0]]), seen), seed=1, starts=6)
    assert found.mode[0] == pytest.approx(0.6, abs=0.03)
    nowhere = Likelihood(space, lambda t: jnp.stack([t[0], t[0]]) * jnp.nan, seen)
    with pytest.raises(RunFailed, match="no finite prediction"):
        laplace(nowhere, seed=1)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        ({"scale": "sigma"}, "scale"),
        ({"predict": lambda theta: theta}, "predicts"),
        ({"observations": observations(np.full(9, np.nan), ObservationError(np.ones(9)))}, "nothing"),
    ],
)
def test_what_does_not_fit_is_refused(call, word):
    arguments = {
        "space": SPACE,
        "predict": curve,
        "observations": observations(T, ObservationError(np.ones(9))),
    }
    with pytest.raises(BadInput, match=word):
        Likelihood(**arguments | call)
