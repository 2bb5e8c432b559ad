"""Simulation-based calibration: passes for a right posterior, and notices a wrong one."""

from __future__ import annotations

import numpy as np
import pytest
from calibration_cases import Conjugate, observations

from vvuq_twin.calibration import simulation_based_calibration
from vvuq_twin.calibration.sbc import SbcResult, uniformity
from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.keys import generator
from vvuq_twin.domain.observations import ObservationError
from vvuq_twin.domain.parameters import LogNormal, Normal, Parameter, ParameterSpace
from vvuq_twin.reduction.backend import jnp


def test_uniform_ranks_pass_and_others_do_not():
    rng = generator(1, "ranks")
    flat = rng.integers(0, 51, size=(400, 3))
    assert (uniformity(flat, 50) > 0.001).all()
    hump = np.clip(np.round(rng.normal(25, 9, size=(400, 1))), 0, 50).astype(int)
    shifted = np.clip(rng.integers(0, 51, size=(400, 1)) - 8, 0, 50)
    assert uniformity(hump, 50)[0] < 1e-4 and uniformity(shifted, 50)[0] < 1e-4
    assert SbcResult(("a",), hump, 50, uniformity(hump, 50)).evidence().status == "failed"


def test_the_p_values_are_uniform_under_the_null():
    rng = generator(2, "ranks")
    p = uniformity(rng.integers(0, 31, size=(200, 2000)), 30)
    np.testing.assert_allclose(np.quantile(p, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.04)


def test_too_few_repeats_are_refused():
    space, predict, seen, *_ = Conjugate(p=2, m=4).build()
    with pytest.raises(BadInput, match="20 repeats"):
        simulation_based_calibration(space, predict, seen, seed=1, repeats=5)


@pytest.mark.slow
def test_a_small_nonlinear_model_is_calibrated():
    space = ParameterSpace(
        (Parameter("rate", "1/h", LogNormal(1.0, 0.5)), Parameter("level", "1", Normal(2.0, 1.0)))
    )
    times = np.linspace(0.2, 3, 6)
    template = observations(np.zeros(6), ObservationError(np.full(6, 0.3), 0.2 * np.ones((6, 1))))
    seen = []
    result = simulation_based_calibration(
        space, lambda t: t[1] * jnp.exp(-t[0] * times), template, seed=4, repeats=160, draws=39,
        progress=lambda d, n: seen.append(d),
    )  # fmt: skip
    assert result.ranks.shape == (160, 2) and seen[-1] == 160
    assert result.evidence().status == "passed"
    assert result.ranks.min() >= 0 and result.ranks.max() <= 39
