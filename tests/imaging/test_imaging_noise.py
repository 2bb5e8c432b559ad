"""A scan's error: voxel noise from the image, smooth modes against the dense covariance, and the sum."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.imaging.modes import smooth_modes, squared_exponential
from vvuq_twin.imaging.noise import Representation, repeatability, scan_error, voxel_noise


def _scene(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    i, j, k = np.indices(shape, dtype=float)
    smooth = (
        1e-3
        + 2e-4 * np.sin(i / 9) * np.cos(j / 7)
        + 1e-4 * np.exp(-((i - 15) ** 2 + (j - 14) ** 2) / 60)
        + 1e-5 * k
    )
    mask = (i - shape[0] / 2) ** 2 + (j - shape[1] / 2) ** 2 < (shape[0] / 2.2) ** 2
    return smooth, mask


def test_noise_over_a_smooth_signal_is_found_without_bias() -> None:
    smooth, mask = _scene((30, 30, 10))
    rng = np.random.Generator(np.random.Philox(21))
    sd = 4e-5
    found = [voxel_noise(smooth + sd * rng.standard_normal(smooth.shape), mask, (1, 1, 3)) for _ in range(40)]
    values = np.array([f.sd for f in found])
    assert values.mean() == pytest.approx(sd, rel=0.01)
    assert found[0].axes == (0, 1)
    # the stated standard error is about the scatter of the estimates
    assert 0.7 < values.std() / (sd * found[0].relative_error) < 1.4
    # without noise almost nothing is left of the signal
    assert voxel_noise(smooth, mask, (1, 1, 3)).sd < 0.02 * sd


def test_edges_and_missing_voxels_hardly_matter() -> None:
    smooth, mask = _scene((30, 30, 10))
    rng = np.random.Generator(np.random.Philox(22))
    i, j, _ = np.indices(smooth.shape)
    image = smooth + 6e-4 * ((i - 12) ** 2 + (j - 17) ** 2 < 30) + 4e-5 * rng.standard_normal(smooth.shape)
    image[::7, ::5, ::3] = np.nan
    assert voxel_noise(image, mask, (1, 1, 3)).sd == pytest.approx(4e-5, rel=0.15)


def test_a_thin_mask_uses_one_axis_and_a_speck_is_refused() -> None:
    rng = np.random.Generator(np.random.Philox(23))
    image = rng.standard_normal((400, 2, 2))
    found = voxel_noise(image, np.ones(image.shape, bool))
    assert found.axes == (0,) and found.sd == pytest.approx(1.0, rel=0.15)
    with pytest.raises(BadInput, match="too small or thin"):
        voxel_noise(image[:8], np.ones((8, 2, 2), bool))


def test_repeatability_is_the_profiles_and_is_not_guessed() -> None:
    # a change of 8, 27, 27, 15 % is real with 95 % confidence: 2.77 times the coefficient of variation
    for organ, percent in {"brain": 8, "liver": 27, "prostate": 27, "breast": 15}.items():
        entry = repeatability("adc", organ)
        assert 2.77 * 100 * entry.wcv == pytest.approx(percent, rel=0.01) and "QIBA" in entry.source
    assert repeatability("fdg_suvmax", "lung").wcv == pytest.approx(0.11)
    with pytest.raises(BadInput, match="no repeatability of adc is known for 'kidney'"):
        repeatability("adc", "kidney")
    with pytest.raises(BadInput, match="did you mean 'adc'"):
        repeatability("acd", "brain")


def test_modes_approach_the_dense_covariance_from_below() -> None:
    rng = np.random.Generator(np.random.Philox(24))
    coords = rng.uniform(0, 30, (400, 3))
    dense = 0.3**2 * squared_exponential(coords, coords, 9.0)
    values = np.linalg.eigvalsh(dense)[::-1]
    for q in (5, 20, 60):
        modes, left = smooth_modes(coords, 0.3, 9.0, q)
        assert modes.shape == (400, q)
        np.testing.assert_allclose((modes**2).sum(1) + left, 0.09, rtol=1e-10)
        gap = dense - modes @ modes.T
        assert np.linalg.eigvalsh(gap).min() > -1e-9  # never more than the covariance
        # as good as the best modes there are, to a few per cent of the field's variance
        assert np.trace(gap) <= values[q:].sum() + 0.03 * values.sum()
        assert np.linalg.norm(gap, 2) < 1.6 * values[q] + 1e-9
    modes, left = smooth_modes(coords, 0.3, 9.0, 400)
    np.testing.assert_allclose(modes @ modes.T, dense, atol=2e-4 * 0.09 * 10)
    assert left.max() < 0.09 * 1e-3


def test_modes_of_nothing_and_of_a_field_without_spread() -> None:
    coords = np.zeros((5, 3))
    modes, left = smooth_modes(coords, 0.2, 4.0, 8)  # five times the same point: one mode
    assert modes.shape == (5, 1) and left == pytest.approx(0.0, abs=1e-12)
    assert smooth_modes(coords, 0.0, 4.0, 8)[0].shape == (5, 0)
    with pytest.raises(BadInput, match="no smooth field"):
        smooth_modes(coords, 0.2, 0.0, 8)


def test_the_three_parts_add_up_to_the_stated_covariance() -> None:
    rng = np.random.Generator(np.random.Philox(25))
    coords = rng.uniform(0, 40, (300, 3))
    adc = rng.uniform(0.8e-3, 1.6e-3, 300)
    part = Representation(sd=6e-5, length=8.0, local_sd=2e-5, modes=24)
    error = scan_error(adc, coords, 4e-5, 0.029, part)
    expected = 4e-5**2 + (0.029 * adc) ** 2 + 6e-5**2 + 2e-5**2
    np.testing.assert_allclose(error.variance(), expected, rtol=1e-10)
    # the region's mean keeps the scan-level error however many voxels there are
    mean = np.full(300, 1 / 300)
    low_rank = error.factor.T @ mean
    of_mean = np.sqrt(low_rank @ low_rank + (mean**2 * error.voxel**2).sum())
    assert of_mean > 0.029 * adc.mean()
    # and the draws have that covariance
    draws = error.perturbations(rng.standard_normal((40_000, 300 + error.factor.shape[1])))
    assert draws.mean(axis=1).std() == pytest.approx(of_mean, rel=0.02)


def test_an_error_of_the_size_of_a_tumour_stays_low_rank() -> None:
    rng = np.random.Generator(np.random.Philox(26))
    coords = np.argwhere(np.ones((27, 27, 27), bool)) * 1.5
    error = scan_error(np.full(len(coords), 1e-3), coords, 4e-5, 0.029, Representation(5e-5, 15.0, modes=32))
    assert error.factor.shape == (27**3, 33)
    b = rng.standard_normal(27**3)
    product = error.voxel**2 * b + error.factor @ (error.factor.T @ b)
    np.testing.assert_allclose(error.solve(product), b, rtol=1e-7, atol=1e-7)


def test_a_missing_value_is_refused() -> None:
    with pytest.raises(BadInput, match="a value is missing"):
        scan_error(np.array([1e-3, np.nan]), np.zeros((2, 3)), 1e-5, 0.03, Representation(1e-5, 5.0))
