"""The sampler's coordinates: an exact change of variables that makes skewed draws normal."""

from __future__ import annotations

import numpy as np
import pytest
from calibration_cases import Conjugate, observations
from scipy import integrate, stats

from vvuq_twin.calibration.coordinates import Coordinates
from vvuq_twin.calibration.laplace import laplace
from vvuq_twin.calibration.likelihood import Likelihood
from vvuq_twin.calibration.sample import Sampling, nuts
from vvuq_twin.domain.keys import generator
from vvuq_twin.domain.observations import ObservationError
from vvuq_twin.domain.parameters import LogNormal, Parameter, ParameterSpace
from vvuq_twin.reduction.backend import jnp

#: A rate that the data bound from above only: skewed in its logarithm.
RATES = ParameterSpace((Parameter("a", "1", LogNormal(1.0, 0.8)), Parameter("b", "1", LogNormal(1.0, 0.8))))


@pytest.fixture(scope="module")
def skewed():
    seen = observations([1.0, 0.4], ObservationError(np.array([0.1, 0.5])))
    likelihood = Likelihood(RATES, lambda t: jnp.stack([t[0] + t[1], t[0] - 0.2 * t[1]]), seen)
    found = laplace(likelihood, 1)
    pilot = nuts(likelihood, Coordinates.of_laplace(found), 1, 2, Sampling(200, 60, 0.9))
    return likelihood, found, pilot


def skewed_coordinates():
    factor = np.array([[0.9, 0.0], [0.4, 0.7]])
    return Coordinates(
        np.array([0.2, -0.1]), np.array([0.6, 1.3]), np.array([1.5, 0.6]), np.array([0.1, -0.2]), factor
    )


def test_the_power_map_is_the_inverse_of_scipys():
    c = skewed_coordinates()
    x = generator(2, "x").standard_normal((500, 2))
    standard = (c.scores(x) - c.middle) / c.scale
    u = np.stack([stats.yeojohnson(standard[:, i], c.power[i]) for i in range(2)], axis=1)
    np.testing.assert_allclose(u, c.centre + x @ c.factor.T, atol=1e-12)


def test_the_density_keeps_its_mass_and_its_gradient_is_right(skewed):
    likelihood, found, _ = skewed
    c = skewed_coordinates()
    for x in generator(3, "x").standard_normal((8, 2)):
        step = 1e-5 * np.eye(2)
        wanted = [
            (c.posterior(likelihood, x + e)[0] - c.posterior(likelihood, x - e)[0]) / 2e-5 for e in step
        ]
        np.testing.assert_allclose(c.posterior(likelihood, x)[1], wanted, rtol=1e-6, atol=1e-6)

    def mass(density):
        return integrate.dblquad(
            lambda b, a: np.exp(density(np.array([a, b]))[0] - found.value), -7, 7, -7, 7, epsabs=1e-6
        )[0]

    with_map = mass(lambda x: c.posterior(likelihood, x)) * np.linalg.det(c.factor)
    assert with_map == pytest.approx(mass(likelihood.posterior), rel=1e-4)


def test_coordinates_of_draws_take_out_skewness_and_correlation(skewed):
    likelihood, found, pilot = skewed
    c = Coordinates.of_draws(pilot.z, found)
    z = nuts(likelihood, c, 2, 2, Sampling(600, 100, 0.9, stage=3)).z.reshape(-1, 2)
    standard = (z - c.middle) / c.scale
    u = np.stack([stats.yeojohnson(standard[:, i], c.power[i]) for i in range(2)], axis=1)
    x = np.linalg.solve(c.factor, (u - c.centre).T).T
    assert np.abs(stats.skew(z)).max() > 0.8 > 3 * np.abs(stats.skew(x)).max()
    np.testing.assert_allclose(np.cov(x.T), np.eye(2), atol=0.25)


def test_draws_that_stood_still_leave_the_coordinates_of_the_mode():
    space, predict, seen, *_ = Conjugate(p=2, m=8).build()
    found = laplace(Likelihood(space, predict, seen), 1)
    still = Coordinates.of_draws(np.zeros((2, 30, 2)), found)
    np.testing.assert_array_equal(still.factor, Coordinates.of_laplace(found).factor)
    np.testing.assert_array_equal(still.scores(np.zeros(2)), found.mode)
