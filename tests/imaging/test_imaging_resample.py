"""Resampling: exact for linear fields, conservative for averages, and the same as ITK."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.imaging.resample import block_average, overlap_fraction, resample, voxel_to_world

RNG = np.random.Generator(np.random.Philox(5))
FINE = Grid((20, 18, 12), (1.0, 1.2, 2.0), (3.0, -4.0, 5.0))


def _turned(angle: float) -> tuple[float, ...]:
    c, s = np.cos(angle), np.sin(angle)
    return (c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0)


def _position(grid: Grid) -> np.ndarray:
    index = np.stack([*np.indices(grid.shape), np.ones(grid.shape)], axis=-1)
    return index @ voxel_to_world(grid)[:3].T


def _linear(grid: Grid) -> np.ndarray:
    return _position(grid) @ [0.3, -0.2, 0.7] + 1.0


TURNED = Grid((9, 8, 6), (1.1, 1.3, 1.7), (8.0, 0.0, 9.0), _turned(0.3))


def test_linear_interpolation_is_exact_for_a_linear_field() -> None:
    found = resample(_linear(FINE), FINE, TURNED, "linear")
    # within half a voxel of the edge the field is continued by its edge value
    index = (np.stack([*np.indices(TURNED.shape), np.ones(TURNED.shape)], -1)) @ np.linalg.solve(
        voxel_to_world(FINE), voxel_to_world(TURNED)
    )[:3].T
    centre = ((index >= 0) & (index <= np.array(FINE.shape) - 1)).all(-1)
    outside = ((index < -0.5) | (index > np.array(FINE.shape) - 0.5)).any(-1)
    assert centre.sum() > 200
    np.testing.assert_allclose(found[centre], _linear(TURNED)[centre], rtol=1e-12)
    np.testing.assert_array_equal(np.isnan(found), outside)


@pytest.mark.parametrize(
    ("method", "itk"), [("linear", sitk.sitkLinear), ("nearest", sitk.sitkNearestNeighbor)]
)
def test_the_same_as_itk(method: str, itk: int) -> None:
    array = RNG.random(FINE.shape)
    image = sitk.GetImageFromArray(array.transpose(2, 1, 0))
    image.SetSpacing(FINE.spacing)
    image.SetOrigin(FINE.origin)
    expected = sitk.GetArrayFromImage(
        sitk.Resample(
            image, TURNED.shape, sitk.Transform(), itk, TURNED.origin, TURNED.spacing, TURNED.direction, -1.0
        )
    ).transpose(2, 1, 0)
    found = resample(array, FINE, TURNED, method, -1.0)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_nearest_keeps_labels_masks_and_series() -> None:
    labels = RNG.integers(0, 4, FINE.shape).astype(np.int32)
    far = Grid((4, 4, 4), (1.0, 1.0, 1.0), (20.0, 0.0, 6.0))
    found = resample(labels, FINE, far, "nearest")
    assert found.dtype == np.int32 and set(np.unique(found)) <= {0, 1, 2, 3}
    assert (found[-1] == 0).all()  # beyond the source
    assert resample(labels > 1, FINE, far, "nearest").dtype == bool
    series = np.stack([labels, labels + 1])
    np.testing.assert_array_equal(resample(series, FINE, FINE, "nearest"), series)


def test_block_average_of_whole_blocks_is_their_mean() -> None:
    array = RNG.random((8, 6, 4))
    fine = Grid((8, 6, 4), (1.0, 1.0, 1.0))
    coarse = Grid((4, 2, 2), (2.0, 3.0, 2.0), (0.5, 1.0, 0.5))
    average, covered = block_average(array, fine, coarse)
    np.testing.assert_allclose(average, array.reshape(4, 2, 2, 3, 2, 2).mean(axis=(1, 3, 5)), rtol=1e-13)
    np.testing.assert_allclose(covered, 1.0, rtol=1e-13)


def test_block_average_keeps_the_integral_with_axes_flipped_and_exchanged() -> None:
    array = RNG.random(FINE.shape)
    # target axes: -y, x, z of the source, off by a fraction of a voxel, and larger than the source
    turn = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    coarse = Grid((12, 13, 9), (2.3, 1.9, 3.1), (1.7, 19.0, 3.2), tuple(turn.ravel()))
    average, covered = block_average(array, FINE, coarse, outside=0.0)
    assert covered.min() == 0.0
    assert average.sum() * coarse.voxel_volume == pytest.approx(array.sum() * FINE.voxel_volume, rel=1e-12)
    # the centre of mass is kept to the size of a voxel's fraction as well
    mass = (average[..., None] * _position(coarse)).sum((0, 1, 2)) / average.sum()
    fine = (array[..., None] * _position(FINE)).sum((0, 1, 2)) / array.sum()
    np.testing.assert_allclose(mass, fine, atol=0.2)


def test_block_average_without_an_outside_is_the_mean_of_what_is_covered() -> None:
    coarse = Grid((12, 9, 8), (2.5, 2.5, 3.0), (0.0, -6.0, 4.0))
    average, covered = block_average(np.full(FINE.shape, 7.0), FINE, coarse)
    np.testing.assert_allclose(average[covered > 0], 7.0, rtol=1e-12)
    assert np.isnan(average[covered == 0]).all() and (covered == 0).any()


def test_block_average_refuses_rotated_grids() -> None:
    with pytest.raises(BadInput, match="rotated"):
        block_average(np.zeros(FINE.shape), FINE, TURNED)


def test_overlap_is_the_shared_volume() -> None:
    box = Grid((10, 10, 10), (1.0, 1.0, 1.0))
    half = Grid((10, 10, 10), (1.0, 1.0, 1.0), (5.0, 0.0, 0.0))
    away = Grid((10, 10, 10), (1.0, 1.0, 1.0), (50.0, 0.0, 0.0))
    assert overlap_fraction(box, box) == 1.0
    assert overlap_fraction(half, box) == pytest.approx(0.5, abs=0.03)
    assert overlap_fraction(away, box) == 0.0
