"""ADC against its own forward model, repeated noise, and what is no diffusion."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.imaging.diffusion import fit_adc

B = np.array([0.0, 50.0, 400.0, 800.0, 1000.0])
ADC = np.array([0.2e-3, 0.8e-3, 1.5e-3, 3.0e-3])


@pytest.mark.parametrize("linear", [False, True])
def test_adc_is_recovered_without_noise(linear: bool) -> None:
    found = fit_adc(500.0 * np.exp(-np.multiply.outer(B, ADC)).reshape(5, 2, 2), B, linear=linear)
    assert np.allclose(found.adc.ravel(), ADC, rtol=1e-9)
    assert np.allclose(found.s0, 500.0, rtol=1e-9)
    assert not found.negative.any()


@pytest.mark.parametrize("linear", [False, True])
def test_standard_errors_are_the_scatter_of_repeated_noise(linear: bool) -> None:
    rng = np.random.default_rng(0)
    clean = 500.0 * np.exp(-B * 0.9e-3)
    s = clean[:, None] + 5.0 * rng.standard_normal((5, 4000))
    given, own = fit_adc(s, B, noise_sd=5.0, linear=linear), fit_adc(s, B, linear=linear)
    rel = 0.1 if linear else 0.05
    assert np.std(given.adc) == pytest.approx(np.median(given.adc_se), rel=rel)
    assert np.std(given.s0) == pytest.approx(np.median(given.s0_se), rel=rel)
    assert np.sqrt(np.mean(own.residual**2)) == pytest.approx(5.0, rel=0.05)
    assert np.mean(given.adc) == pytest.approx(0.9e-3, rel=0.003)
    two = s[[0, 4]]
    assert np.isnan(fit_adc(two, B[[0, 4]]).adc_se).all()
    exact = np.log(two[0] / two[1]) / 1000.0
    assert np.allclose(fit_adc(two, B[[0, 4]], noise_sd=5.0).adc, exact, rtol=1e-9)


def test_a_negative_adc_and_a_dark_voxel_are_marked() -> None:
    s = np.array([[100.0, 100.0, 100.0], [130.0, 60.0, 0.0]])
    found = fit_adc(s, [0.0, 800.0], noise_sd=1.0)
    assert found.negative.tolist() == [True, False, False]
    assert np.isnan(found.adc[[0, 2]]).all() and np.isfinite(found.adc[1]) and np.isfinite(found.adc_se[1])


@pytest.mark.parametrize(
    ("b", "sentence"),
    [
        ([0.0, 800.0, 900.0], "2 images came with 3 b-values"),
        ([500.0, 500.0], "all the same"),
        ([0.0, -800.0], "negative"),
        ([0.0, 0.8], r"no weighting in s/mm2"),
    ],
)
def test_bad_b_values_are_one_sentence(b: list[float], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        fit_adc(np.ones((2, 4)), b)
