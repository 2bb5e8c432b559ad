"""Cellularity from ADC: the inverse, its uncertainty by simulation, and the scale from a tumour."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.imaging.adc import (
    AdcScale,
    adc_of,
    adc_scale,
    cellularity,
    cellularity_sd,
    clipped_mass,
    constants,
    low_quantile_bias,
    minimum_prior,
)

SCALE = AdcScale(3.0e-3, 0.7e-3, 4e-5)


def test_free_water_has_no_cells_and_the_minimum_is_full() -> None:
    np.testing.assert_allclose(
        cellularity(np.array([3.0e-3, 0.7e-3, 1.85e-3]), SCALE), [0.0, 1.0, 0.5], atol=1e-12
    )
    n = np.linspace(-0.2, 1.3, 9)
    np.testing.assert_allclose(
        cellularity(adc_of(n, SCALE.water, SCALE.minimum), SCALE), n, rtol=1e-12, atol=1e-12
    )
    assert constants()["free_water"] == pytest.approx(3.0e-3)


def test_the_uncertainty_agrees_with_simulation() -> None:
    rng = np.random.Generator(np.random.Philox(11))
    adc, sd, draws = np.array([0.9e-3, 1.4e-3, 2.2e-3]), 3e-5, 200_000
    own, shared = cellularity_sd(adc, sd, SCALE)
    noisy = adc + sd * rng.standard_normal((draws, 1)) * np.ones(3)
    lowest = SCALE.minimum + SCALE.minimum_sd * rng.standard_normal((draws, 1))
    np.testing.assert_allclose(cellularity(noisy, SCALE).std(axis=0), own, rtol=0.01)
    moved = (SCALE.water - adc) / (SCALE.water - lowest)
    np.testing.assert_allclose(moved.std(axis=0), shared, rtol=0.01)
    both = (SCALE.water - noisy) / (SCALE.water - lowest)
    np.testing.assert_allclose(both.std(axis=0), np.hypot(own, shared), rtol=0.01)


def test_the_scale_covers_the_true_minimum_and_noise_does_not_move_it() -> None:
    """Over many scans the recovered quantile is unbiased, and its error has the stated size."""
    rng = np.random.Generator(np.random.Philox(12))
    centre, tissue, noise, wcv, q = 1.1e-3, 1.0e-4, 8e-5, 0.029, 0.05
    truth = centre + tissue * -1.6448536269514722
    found = []
    for _ in range(400):
        gain = 1.0 + wcv * rng.standard_normal()
        adc = gain * (centre + tissue * rng.standard_normal((20, 20, 5))) + noise * rng.standard_normal(
            (20, 20, 5)
        )
        found.append(adc_scale(adc, np.ones(adc.shape, bool), wcv, noise_sd=noise, quantile=q))
    minima = np.array([s.minimum for s in found])
    assert minima.mean() == pytest.approx(truth, rel=0.005)
    stated = np.sqrt(np.mean([s.minimum_sd**2 for s in found]))
    assert 1.0 <= stated / minima.std() < 1.5  # the part for the noise correction makes it a little wide
    inside = np.abs(minima - truth) < 1.645 * np.array([s.minimum_sd for s in found])
    assert inside.mean() >= 0.88


def test_the_bias_of_a_low_quantile_is_that_of_a_normal() -> None:
    rng = np.random.Generator(np.random.Philox(13))
    values = 2.0 * rng.standard_normal(2_000_000)
    noisy = values + 1.5 * rng.standard_normal(values.size)
    moved = np.quantile(noisy, 0.03) - np.quantile(values, 0.03)
    assert low_quantile_bias(1.5, 2.0, 0.03) == pytest.approx(moved, rel=0.02)


def test_the_prior_of_the_minimum_has_the_stated_spread() -> None:
    median, sd_log = minimum_prior(SCALE)
    draws = median * np.exp(sd_log * np.random.Generator(np.random.Philox(14)).standard_normal(200_000))
    assert draws.std() == pytest.approx(SCALE.minimum_sd, rel=0.02)
    assert np.median(draws) == pytest.approx(SCALE.minimum, rel=0.002)


def test_clipped_mass_is_what_clipping_changes() -> None:
    n = np.array([-0.3, 0.2, 1.4, 0.9])
    low, high = clipped_mass(n)
    assert low == pytest.approx(0.3) and high == pytest.approx(0.4)
    assert np.clip(n, 0, 1).sum() == pytest.approx(n.sum() + low - high)


def test_too_few_voxels_and_impossible_values_are_refused() -> None:
    adc = np.full((4, 4, 4), 1e-3)
    few = np.zeros(adc.shape, bool)
    few[0, 0] = True
    with pytest.raises(BadInput, match="only 4 voxels"):
        adc_scale(adc, few, 0.03)
    with pytest.raises(BadInput, match="check the unit"):
        adc_scale(adc * 1e6, np.ones(adc.shape, bool), 0.03)
