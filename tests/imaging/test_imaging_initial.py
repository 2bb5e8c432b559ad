"""The first scan as an uncertain field: the measurement inside, a falling tail outside, modes that are derivatives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.imaging.initial import InitialSettings, adc_floor, initial_field

GRID = Grid((20, 18, 14), (2.0, 2.0, 3.0))
SETTINGS = InitialSettings(
    adc_water=3.0e-3, detection=0.16, modes=9, sd=0.05, length=8.0, tail=2.0, tail_sd_log=0.4, wcv=0.029,
    adc_min_sd_log=0.1,
)  # fmt: skip
FLOOR = 6.0e-4
POINTS = np.stack(np.meshgrid(*GRID.centres(), indexing="ij"), axis=-1)
RADIUS = np.linalg.norm(POINTS - np.array([19.0, 17.0, 20.0]), axis=-1)
ORGAN = RADIUS < 18.5
TUMOUR = RADIUS < 9.0


def _adc(cellularity: np.ndarray | float, floor: float = FLOOR) -> np.ndarray:
    return np.broadcast_to(SETTINGS.adc_water - (SETTINGS.adc_water - floor) * cellularity, GRID.shape).copy()


def _field(
    adc: np.ndarray, floor: float = FLOOR, s: InitialSettings = SETTINGS
) -> tuple[np.ndarray, np.ndarray]:
    mean, modes = initial_field(GRID, ORGAN, adc, TUMOUR, floor, s)
    whole = np.full((1 + len(modes), *GRID.shape), np.nan)
    whole[0][ORGAN], whole[1:, ORGAN] = mean, modes
    return whole[0], whole[1:]


def test_a_uniform_tumour_is_measured_exactly_inside_the_outline() -> None:
    mean, modes = _field(_adc(0.6))
    np.testing.assert_allclose(mean[TUMOUR], 0.6, rtol=1e-12)
    assert modes.shape == (9, *GRID.shape) and np.isfinite(modes[:, ORGAN]).all()


def test_inside_the_mean_follows_a_smooth_measurement() -> None:
    truth = 0.3 + 0.02 * (POINTS[..., 0] - 19.0) + 0.2
    mean, _ = _field(_adc(truth))
    inner = RADIUS < 6.0
    np.testing.assert_allclose(
        mean[inner], truth[inner], atol=0.01
    )  # a linear field passes a symmetric filter


def test_outside_the_cellularity_falls_by_e_over_each_tail_length() -> None:
    mean, _ = _field(_adc(0.6))
    outside = ORGAN & ~TUMOUR
    assert (mean[outside] <= SETTINGS.detection).all() and (mean[outside] >= 0).all()
    line = mean[:, 8, 7]
    beyond = np.flatnonzero((TUMOUR[:, 8, 7] == 0) & ORGAN[:, 8, 7] & (np.arange(20) > 9))
    np.testing.assert_allclose(line[beyond[1:4]] / line[beyond[:3]], np.exp(-2.0 / SETTINGS.tail), rtol=1e-6)
    # the first voxel's centre lies half a voxel outside the edge
    assert line[beyond[0]] == pytest.approx(SETTINGS.detection * np.exp(-1.0 / SETTINGS.tail))
    far = replace(SETTINGS, tail=0.5)
    assert (_field(_adc(0.6), s=far)[0][RADIUS > 14.0][ORGAN[RADIUS > 14.0]] == 0).all()


def test_the_first_mode_is_the_derivative_by_the_logarithm_of_adc_min() -> None:
    adc = _adc(0.3 + 0.3 * np.exp(-((RADIUS / 6.0) ** 2)))
    _, modes = _field(adc)
    step = 1e-4
    up, down = (_field(adc, FLOOR * np.exp(s))[0] for s in (step, -step))
    slope = (up - down) / (2 * step)
    np.testing.assert_allclose(modes[0][TUMOUR], SETTINGS.adc_min_sd_log * slope[TUMOUR], rtol=1e-6)


def test_the_second_mode_is_the_derivative_by_the_scans_gain() -> None:
    adc = _adc(0.3 + 0.3 * np.exp(-((RADIUS / 6.0) ** 2)))
    _, modes = _field(adc)
    step = 1e-4
    slope = (_field(adc * (1 + step))[0] - _field(adc * (1 - step))[0]) / (2 * step)
    np.testing.assert_allclose(modes[1][TUMOUR], SETTINGS.wcv * slope[TUMOUR], rtol=1e-6)
    assert (modes[1][ORGAN & ~TUMOUR] == 0).all()


def test_the_third_mode_is_the_derivative_by_the_logarithm_of_the_tail() -> None:
    _, modes = _field(_adc(0.6))
    step = 1e-4
    up, down = (_field(_adc(0.6), s=replace(SETTINGS, tail=2.0 * np.exp(s)))[0] for s in (step, -step))
    slope = (up - down) / (2 * step)
    near = ORGAN & ~TUMOUR & (RADIUS < 15.0)
    np.testing.assert_allclose(modes[2][near], SETTINGS.tail_sd_log * slope[near], rtol=1e-5, atol=1e-12)
    assert (modes[2][TUMOUR] == 0).all() and modes[2][near].max() > 0


def test_the_smooth_modes_have_the_stated_size_and_vanish_where_there_is_nothing() -> None:
    many = replace(SETTINGS, modes=120)
    mean, modes = _field(_adc(0.5), s=many)
    variance = (modes[3:] ** 2).sum(axis=0)
    inner = RADIUS < 6.0
    np.testing.assert_allclose(np.sqrt(variance[inner]), SETTINGS.sd, rtol=0.02)
    assert (variance[ORGAN & (mean < 0.02)] == 0).all()


def test_missing_voxels_are_filled_from_inside() -> None:
    adc = _adc(0.6)
    adc[9, 8, 6] = np.nan
    mean, modes = _field(adc)
    np.testing.assert_allclose(mean[TUMOUR], 0.6, rtol=1e-12)
    assert np.isfinite(modes[:, ORGAN]).all()


def test_the_floor_is_a_low_quantile_that_single_voxels_do_not_move() -> None:
    adc = _adc(0.9)
    expected = float(adc[TUMOUR][0])
    assert adc_floor(adc, TUMOUR) == pytest.approx(expected)
    adc[9, 8, 6] = 1e-5
    assert adc_floor(adc, TUMOUR) > 0.8 * expected
    adc[0, 0, 0] = np.nan
    assert np.isfinite(adc_floor(adc, TUMOUR))
    with pytest.raises(BadInput, match="no voxel of the tumour has a finite ADC"):
        adc_floor(np.full(GRID.shape, np.nan), TUMOUR)


def test_an_empty_outline_is_refused() -> None:
    for tumour in (np.zeros_like(TUMOUR), ~ORGAN):
        with pytest.raises(BadInput, match="the tumour mask is empty or outside the organ"):
            initial_field(GRID, ORGAN, _adc(0.6), tumour, FLOOR, SETTINGS)
