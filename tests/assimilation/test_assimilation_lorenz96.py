"""Lorenz experiments of `studies/lorenz`: analysis errors against the published ones."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "studies" / "lorenz"))
import lorenz

from vvuq_twin.assimilation import ETKF, Inflation

CASES = {(c.model.name, c.name): c for c in lorenz.CASES}


def test_the_models_are_the_published_ones():
    """Fixed points, and the known mean of the Lorenz-96 climate."""
    x = np.full((1, 40), 8.0)
    np.testing.assert_allclose(lorenz.LORENZ96.run(x), x, atol=1e-12)
    c = np.sqrt(8.0 / 3.0 * 27.0)
    np.testing.assert_allclose(lorenz.LORENZ63.run(np.array([[c, c, 27.0]])), [[c, c, 27.0]], atol=1e-10)
    E = lorenz.LORENZ96.first + 0.1 * np.random.default_rng(1).standard_normal((20, 40))
    mean = []
    for cycle in range(1500):
        E = lorenz.LORENZ96.run(E)
        if cycle > 500:
            mean.append(E.mean())
    assert np.mean(mean) == pytest.approx(2.35, abs=0.05)


def test_etkf_holds_the_published_error():
    # 1000 cycles of the published experiment; 0.18 within the noise of one short run
    error, spread = lorenz.experiment(CASES["lorenz96", "ETKF, 1.013, rotated"], 1000, 1)
    assert error == pytest.approx(0.18, abs=0.025)
    assert 0.8 < spread / error < 1.25


def test_letkf_holds_with_seven_members_where_the_global_one_diverges():
    error, spread = lorenz.experiment(CASES["lorenz96", "LETKF, 1.04, radius 4, rotated"], 700, 1)
    assert error == pytest.approx(0.22, abs=0.03)
    assert 0.8 < spread / error < 1.3
    alone = lorenz.Case("global", lorenz.LORENZ96, ETKF(Inflation(factor=1.04), rotate=True), 7, None)
    assert lorenz.experiment(alone, 500, 1)[0] > 1.0
    assert np.isnan(lorenz.realisations(alone, 2, 500).error)  # both are counted as lost


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [c for c in lorenz.CASES if c.published is not None and c.model.name == "lorenz96"],
    ids=lambda c: c.name,
)
def test_published_errors_over_sixteen_realisations(case):
    """Within the rounding of the published value and three standard errors of the mean."""
    found = lorenz.realisations(case, 16, 700)
    assert found.lost == 0
    assert found.error == pytest.approx(case.published, abs=0.012 + 3 * found.standard_error)
