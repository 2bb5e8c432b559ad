"""Segmentation of a phantom whose outline is known, and the volume's uncertainty against exact limits."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.imaging.boundary import edge_sd, perturb_boundary, signed_distance
from vvuq_twin.imaging.segment import (
    clean,
    confidence_connected,
    level_set,
    otsu,
    region_growing,
    segment,
    threshold,
)
from vvuq_twin.scores.agreement import dice

GRID = Grid((48, 44, 20), (1.0, 1.0, 2.0))
X = np.stack([c * h for c, h in zip(np.indices(GRID.shape), GRID.spacing)])
R = np.sqrt(((X - np.array([24.0, 22.0, 20.0])[:, None, None, None]) ** 2).sum(axis=0))
TRUTH = R <= 12.0
FAR = np.sqrt(((X - np.array([40.0, 38.0, 8.0])[:, None, None, None]) ** 2).sum(axis=0)) <= 4.0
IMAGE = 100.0 + 60.0 / (1 + np.exp((R - 12.0) / 0.7)) + 60.0 * FAR
NOISY = IMAGE + 5.0 * np.random.default_rng(0).standard_normal(GRID.shape)
SEED = [(24, 22, 10)]


def test_thresholds_and_growing() -> None:
    both = threshold(NOISY, GRID, 130.0)
    assert both[FAR].mean() > 0.95
    assert dice(clean(both, GRID), TRUTH) > 0.97
    assert dice(clean(otsu(NOISY, GRID), GRID), TRUTH) > 0.95
    assert dice(clean(otsu(NOISY, GRID, R < 18), GRID), TRUTH) > 0.97
    grown = region_growing(NOISY, GRID, SEED, 130.0)
    assert dice(clean(grown, GRID), TRUTH) > 0.97 and not grown[FAR].any()
    missing = NOISY.copy()
    missing[0, 0, 0] = np.nan
    assert not threshold(missing, GRID, -1e9)[0, 0, 0]


def test_confidence_connected_and_level_set() -> None:
    found = confidence_connected(NOISY, GRID, SEED, multiplier=3.0)
    assert dice(clean(found, GRID, closing=2.0), TRUTH) > 0.93
    moved = level_set(NOISY, GRID, R <= 6.0)
    assert dice(moved, TRUTH) > 0.93
    assert not moved[FAR].any()


def test_clean_keeps_the_largest_and_fills_it() -> None:
    holed = TRUTH & ~(R < 3.0)
    out = clean(holed | FAR, GRID)
    assert (out == TRUTH).all()
    assert not clean(FAR, GRID, least=1.0).any()
    slit = TRUTH & (np.abs(X[0] - 24.0) > 0.4)
    closed = clean(slit, GRID, closing=1.5)
    # a voxel wide slit is closed but for its corners at the surface, and nothing is added outside
    assert (TRUTH & ~closed).sum() < 10 and not (closed & ~TRUTH).any()


def test_the_users_mask_comes_first() -> None:
    def bright(images, grid):
        return images["t1_post"] > 130.0

    given = segment({"t1_post": NOISY}, GRID, bright, TRUTH)
    assert given.origin == "given" and (given.mask == TRUTH).all()
    found = segment({"t1_post": NOISY}, GRID, bright)
    assert found.origin == "bright" and (found.mask == (NOISY > 130)).all()
    chance = segment({"t1_post": NOISY}, GRID, lambda images, grid: np.where(TRUTH, 0.5, 0.49))
    assert (chance.mask == TRUTH).all()
    with pytest.raises(BadInput, match=r"returned \(3,\) values"):
        segment({}, GRID, lambda images, grid: np.ones(3))


def test_volume_error_of_a_common_shift_is_area_times_shift() -> None:
    # displacements alike everywhere: dV = 4 pi R^2 d to first order
    found = perturb_boundary(TRUTH, GRID, 0.5, 500.0, draws=120, seed=1)
    assert found.volume == pytest.approx(4 / 3 * np.pi * 12**3 * 1e-3, rel=0.03)
    assert found.sd == pytest.approx(4 * np.pi * 144 * 0.5 * 1e-3, rel=0.2)
    low, high = found.interval()
    assert low < found.volume < high
    assert found.probability[24, 22, 10] == 1.0 and found.probability[0, 0, 0] == 0.0
    # short lengths average out; the share inside is half at the outline
    short = perturb_boundary(TRUTH, GRID, 0.5, 2.0, draws=60, seed=1)
    assert short.sd < 0.4 * found.sd
    rim = np.abs(signed_distance(TRUTH, GRID)) < 0.51
    assert 0.3 < found.probability[rim].mean() < 0.7
    assert perturb_boundary(TRUTH, GRID, 0.5, 2.0, draws=5, seed=1).volumes[3] == short.volumes[3]


def test_edge_sd_is_noise_over_gradient() -> None:
    ramp = 10.0 * X[0]
    half = X[0] <= 20.0
    assert edge_sd(ramp, half, GRID, 5.0) == pytest.approx(np.hypot(0.5, np.mean(GRID.spacing) / np.sqrt(12)))
    with pytest.raises(BadInput, match="no outline"):
        edge_sd(np.ones(GRID.shape), half, GRID, 1.0)


def test_bad_input_is_one_sentence() -> None:
    with pytest.raises(BadInput, match="not in the image"):
        region_growing(IMAGE, GRID, [(99, 0, 0)], 130.0)
    with pytest.raises(BadInput, match="no seed lies between"):
        region_growing(IMAGE, GRID, [(0, 0, 0)], 130.0)
    with pytest.raises(BadInput, match="there is no seed"):
        confidence_connected(IMAGE, GRID, [])
    with pytest.raises(BadInput, match="start is empty"):
        level_set(IMAGE, GRID, np.zeros(GRID.shape, bool))
    with pytest.raises(BadInput, match="mask is empty"):
        perturb_boundary(np.zeros(GRID.shape, bool), GRID, 1.0, 5.0)
