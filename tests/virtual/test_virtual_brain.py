"""The virtual brain and its random fields: the same anatomy at any spacing, fields of the stated variance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from vvuq_twin.domain.grid import Grid
from vvuq_twin.virtual.brain import GREY, WHITE, block_mean, make_brain
from vvuq_twin.virtual.fields import smooth_noise


def test_a_brain_has_two_tissues_in_one_piece_and_an_adults_size() -> None:
    for seed in (7, 1001):
        brain = make_brain(4.0, seed)
        assert set(np.unique(brain.tissue)) == {0, GREY, WHITE}
        litres = brain.mask.sum() * brain.grid.voxel_volume / 1e6
        assert 0.8 < litres < 1.9
        assert ndimage.label(brain.mask)[1] == 1
        share = (brain.tissue == WHITE).sum() / brain.mask.sum()
        assert 0.2 < share < 0.8


def test_the_demos_brain_has_at_least_a_hundred_thousand_voxels() -> None:
    assert make_brain(2.0, 7).mask.sum() >= 1e5


def test_the_anatomy_is_the_same_at_two_spacings() -> None:
    coarse, fine = make_brain(4.0, 7), make_brain(2.0, 7)
    extents = [np.multiply(b.grid.shape, b.grid.spacing) for b in (coarse, fine)]
    np.testing.assert_array_equal(*extents)
    inside = block_mean(fine.mask.astype(float), 2)
    # voxels that are wholly in or out at the fine spacing are so at the coarse one, but for thin sheets
    agree = (coarse.mask == (inside > 0.5)).mean()
    assert agree > 0.95
    overlap = 2 * (coarse.mask & (inside > 0.5)).sum() / (coarse.mask.sum() + (inside > 0.5).sum())
    assert overlap > 0.93
    for label in (GREY, WHITE):
        volumes = [(b.tissue == label).sum() * b.grid.voxel_volume for b in (coarse, fine)]
        assert volumes[0] == pytest.approx(volumes[1], rel=0.25)
    other = make_brain(4.0, 8)
    assert other.grid.shape != coarse.grid.shape or (other.tissue != coarse.tissue).mean() > 0.02


@pytest.mark.parametrize(("spacing", "multiple"), [(3.3, 2), (5.0, 3)])
def test_voxels_that_do_not_divide_the_box_make_it_larger(spacing: float, multiple: int) -> None:
    brain = make_brain(spacing, 7, multiple)
    assert all(n % multiple == 0 for n in brain.grid.shape)
    centre = np.array(brain.grid.origin) + (np.array(brain.grid.shape) - 1) / 2 * spacing
    assert np.allclose(centre, 0.0)
    whole = make_brain(2.0, 7).mask.sum() * 8.0
    assert abs(brain.mask.sum() * spacing**3 / whole - 1.0) < 0.03


def test_a_brain_is_keyed_by_its_seed() -> None:
    a, b = make_brain(8.0, 7), make_brain(8.0, 7)
    assert a.grid == b.grid
    np.testing.assert_array_equal(a.tissue, b.tissue)


def test_block_means_keep_the_sum() -> None:
    field = np.arange(4 * 6 * 2, dtype=float).reshape(4, 6, 2)
    means = block_mean(field, 2)
    assert means.shape == (2, 3, 1) and means.sum() * 8 == field.sum()
    assert means[0, 0, 0] == field[:2, :2, :2].mean()


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (1.0, 2.0, 4.0)])
def test_smooth_noise_has_unit_variance_and_the_stated_correlation(
    spacing: tuple[float, float, float],
) -> None:
    """``exp(-r^2 / (4 length^2))``, over many keyed fields."""
    grid, length = Grid((32, 24, 16), spacing), 4.0
    fields = np.array([smooth_noise(grid, length, seed, "test") for seed in range(40)])
    assert fields.mean() == pytest.approx(0.0, abs=0.1)
    assert (fields**2).mean() == pytest.approx(1.0, abs=0.1)
    for axis, h in enumerate(spacing):
        lag = round(length / h)
        found = (fields * np.roll(fields, lag, axis=axis + 1)).mean()
        assert found == pytest.approx(np.exp(-((lag * h) ** 2) / (4 * length**2)), abs=0.1)
    np.testing.assert_array_equal(fields[3], smooth_noise(grid, length, 3, "test"))
    assert not np.array_equal(fields[3], smooth_noise(grid, length, 3, "another"))
