"""The CRPS in parts."""

import numpy as np
import pytest

from vvuq_twin.domain.keys import generator
from vvuq_twin.scores import crps_ensemble
from vvuq_twin.scores.decomposition import crps_parts


@pytest.mark.parametrize("spread, bias", [(1.0, 0.0), (0.3, 0.0), (1.0, 0.8), (0.0, 0.5)])
def test_parts_sum_to_the_score(spread, bias):
    rng = generator(1, "parts")
    centre = rng.standard_normal(3000)
    y = centre + 0.5 * rng.standard_normal(3000)
    x = centre + bias + 0.5 * spread * rng.standard_normal((20, 3000))
    parts = crps_parts(y, x)
    assert parts.crps == pytest.approx(crps_ensemble(y, x).mean(), rel=1e-10)
    assert parts.crps == pytest.approx(parts.reliability + parts.uncertainty - parts.resolution)
    # the outcomes' own distribution has no resolution, and its score is the uncertainty
    assert parts.uncertainty == pytest.approx(
        crps_ensemble(y, np.repeat(y[:, None], 3000, axis=1)).mean(), rel=1e-3
    )
    if spread == 1.0 and bias == 0.0:
        assert parts.reliability < 0.01 * parts.crps and parts.resolution > 0.3 * parts.uncertainty
    else:
        assert parts.reliability > 0.1 * parts.crps


def test_a_forecast_of_the_outcomes_own_distribution_has_no_resolution():
    rng = generator(2, "parts")
    parts = crps_parts(rng.standard_normal(20_000), rng.standard_normal((50, 20_000)))
    assert abs(parts.resolution) < 0.03 * parts.uncertainty and parts.reliability < 0.01 * parts.uncertainty
