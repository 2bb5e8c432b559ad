"""Registration against displacements that are known, under changing contrast."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.imaging.registration import DisplacementSpace, bspline, register, warp

SHAPE, SPACING = (36, 30, 6), (2.0, 2.0, 4.0)


def _scene(shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two tissues with structure on a fine analytic field, as seen when everything moved by ``shift`` (3, ...) mm."""
    x, y, z = np.indices(SHAPE).astype(float) * np.array(SPACING)[:, None, None, None] - shift
    organ = 1 / (1 + np.exp((np.hypot(x - 34, y - 28) + 0.4 * (z - 10) - 15) / 3))
    vessel = np.exp(-((x - 40) ** 2 + (y - 34) ** 2 + (0.8 * (z - 8)) ** 2) / 90)
    return 100 + 150 * organ, vessel


def _space(cells: tuple[int, int, int] = (2, 2, 0)) -> DisplacementSpace:
    return DisplacementSpace.build(SHAPE, SPACING, cells, amplitude=6.0, roughness=3.0)


def test_splines_sum_to_one() -> None:
    space = _space((3, 2, 1))
    assert np.allclose(space.field(np.ones((3, space.size))), 1.0)
    assert np.allclose(bspline(np.array([0.0, 1.0, 2.0])), [2 / 3, 1 / 6, 0.0])


def test_contractions_equal_plain_sums() -> None:
    space = _space((3, 2, 1))
    rng = np.random.default_rng(1)
    image = rng.standard_normal(SHAPE)
    w = space.field(np.eye(space.size)[:3])
    for k in range(3):
        assert space.moments(image)[k] == pytest.approx((w[k] * image).sum(), abs=1e-10)
        for j in range(3):
            assert space.products(image)[k, j] == pytest.approx((w[k] * w[j] * image).sum(), abs=1e-10)


def test_known_shift_is_found_though_the_contrast_changes() -> None:
    true = np.array([1.5, -2.5, 3.0])
    base, vessel = _scene(np.zeros((3, *SHAPE)))
    moved_base, moved_vessel = _scene(np.broadcast_to(true[:, None, None, None], (3, *SHAPE)))
    frame = 0.9 * moved_base + 220.0 * moved_vessel
    found = register(
        frame, np.stack([base, 100 * vessel]), _space(), np.ones(SHAPE), noise=1.0, iterations=30
    )
    u = _space().field(found.coefficients)
    inner = (slice(None), slice(10, 26), slice(8, 22), slice(1, 5))
    assert np.allclose(u[inner].mean(axis=(1, 2, 3)), true, atol=0.3)
    assert found.after < 0.25 * found.before
    assert np.allclose(found.amplitudes, [0.9, 2.2], rtol=0.08)


def test_smooth_displacement_is_found() -> None:
    x, y, _ = np.indices(SHAPE) / np.array(SHAPE)[:, None, None, None]
    true = np.stack([np.zeros(SHAPE), 1.5 * np.sin(np.pi * x), 3.0 * np.sin(np.pi * y)])
    base, vessel = _scene(np.zeros((3, *SHAPE)))
    reference = base + 150 * vessel
    moved_base, moved_vessel = _scene(true)
    frame = moved_base + 150 * moved_vessel
    space = _space((3, 3, 0))
    found = register(frame, reference[None], space, np.ones(SHAPE), noise=1.0, iterations=30)
    back = warp(frame, space.field(found.coefficients), SPACING)
    seen = np.isfinite(back)
    assert np.std((back - reference)[seen]) < 0.3 * np.std((frame - reference)[seen])


def test_a_frame_in_place_stays() -> None:
    base, vessel = _scene(np.zeros((3, *SHAPE)))
    rng = np.random.default_rng(2)
    frame = base + 80 * vessel + 2.0 * rng.standard_normal(SHAPE)
    found = [
        register(frame, np.stack([base, vessel]), _space(), np.ones(SHAPE), noise=2.0, smoothing=s)
        for s in (0.0, 2.0)
    ]
    rough, smooth = (np.abs(_space().field(r.coefficients)).mean() for r in found)
    # half-voxel shifts average noise: smoothing takes that reward away
    assert smooth < 0.25  # an eighth of a voxel
    assert smooth < 0.75 * rough


def test_warp_marks_what_is_out_of_view() -> None:
    image = np.arange(np.prod(SHAPE), dtype=float).reshape(SHAPE)
    u = np.zeros((3, *SHAPE))
    u[2] = 4.0
    moved = warp(image, u, SPACING)
    assert np.array_equal(moved[..., :-1], image[..., 1:])
    assert np.isnan(moved[..., -1]).all()
    u[2] = 1.9
    assert np.isfinite(warp(image, u, SPACING)).all()
    half = warp(image, np.full((3, *SHAPE), 0.5), SPACING, order=3)
    inner = ndimage.shift(image, [-0.25, -0.25, -0.125], order=3, mode="nearest")
    assert np.allclose(half[3:-3, 3:-3, 2:-2], inner[3:-3, 3:-3, 2:-2], atol=1.0)


def test_bad_input_is_named() -> None:
    base, _ = _scene(np.zeros((3, *SHAPE)))
    with pytest.raises(BadInput, match="no voxel has weight"):
        register(base, base[None], _space(), np.zeros(SHAPE), 1.0)
    broken = base.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(BadInput, match="NaN"):
        register(broken, base[None], _space(), np.ones(SHAPE), 1.0)
    with pytest.raises(BadInput, match="positive"):
        DisplacementSpace.build(SHAPE, SPACING, (2, 2, 0), 0.0, 1.0)
