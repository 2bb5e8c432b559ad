"""The parts of a map's error against what they stand for, by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.imaging.measurement import RegistrationError, gradient, observe_map
from vvuq_twin.imaging.noise import Representation, repeatability

GRID = Grid((24, 20, 12), (2.0, 2.0, 3.0))
X, Y, Z = (c * h for c, h in zip(np.indices(GRID.shape), GRID.spacing))
MAP = 1.0e-3 + 1.2e-5 * X - 0.8e-5 * Y + 1e-4 * np.sin(Z / 8.0)
MASK = (X - 24) ** 2 + (Y - 20) ** 2 + (Z - 18) ** 2 < 15**2
WCV = repeatability("adc", "brain").wcv


def test_the_variance_is_the_sum_of_its_parts() -> None:
    registration = RegistrationError(1.5, 12.0)
    seen = observe_map(
        MAP, GRID, MASK, scan="v2", time=21.0, noise_sd=4e-5, wcv=WCV, registration=registration,
        representation=Representation(5e-5, 8.0),
    )  # fmt: skip
    g = gradient(np.where(MASK, MAP, np.nan), GRID)[:, MASK]
    h = np.array(GRID.spacing)[:, None]
    expected = (
        4e-5**2 + ((g * h) ** 2).sum(0) / 12 + (g**2).sum(0) * 1.5**2 + (WCV * MAP[MASK]) ** 2 + 5e-5**2
    )
    assert np.allclose(seen.error.variance(), expected, rtol=1e-9)
    assert list(seen.ids) == ["v2"] and seen.time == 21.0 and len(seen.y) == MASK.sum()


def test_the_mean_of_a_region_keeps_the_scanners_error() -> None:
    seen = observe_map(MAP, GRID, MASK, scan="v1", time=0.0, noise_sd=4e-5, wcv=WCV)
    weights = np.full(len(seen.y), 1.0 / len(seen.y))
    variance = (weights**2 * seen.error.voxel**2).sum() + ((weights @ seen.error.factor) ** 2).sum()
    assert np.sqrt(variance) == pytest.approx(WCV * MAP[MASK].mean(), rel=0.01)


def test_registration_part_is_that_of_displaced_maps() -> None:
    """Displace the map by smooth random fields: the covariance of what is seen is that of the columns."""
    rng = np.random.default_rng(4)
    sd, length = 1.0, 10.0
    fine = 1.0e-3 + 1.2e-5 * X - 0.8e-5 * Y
    sigma = [length / np.sqrt(2) / h for h in GRID.spacing]
    draws = []
    for _ in range(400):
        u = []
        for _axis in range(3):
            f = ndimage.gaussian_filter(rng.standard_normal([n + 24 for n in GRID.shape]), sigma, mode="wrap")
            u.append(sd * f[12:-12, 12:-12, 12:-12] / f.std())
        at = [i + d / h for i, d, h in zip(np.indices(GRID.shape), u, GRID.spacing)]
        draws.append(ndimage.map_coordinates(fine, at, order=1, mode="nearest")[MASK])
    seen = observe_map(
        fine, GRID, MASK, scan="v", time=0.0, noise_sd=1e-9, wcv=0.0,
        registration=RegistrationError(sd, length, modes=40),
    )  # fmt: skip
    model = seen.error.factor @ seen.error.factor.T
    sampled = np.cov(np.array(draws).T)
    assert np.mean(np.diag(sampled)) == pytest.approx(np.mean(np.diag(model)), rel=0.12)
    # neighbours two voxels apart move together, voxels 28 mm apart do not
    points = GRID.points(MASK)
    centre = int(np.argmin(np.linalg.norm(points - [24, 20, 18], axis=1)))
    near = int(np.argmin(np.linalg.norm(points - [28, 20, 18], axis=1)))
    for other, expected in ((near, np.exp(-16 / 200)),):
        correlation = sampled[centre, other] / np.sqrt(sampled[centre, centre] * sampled[other, other])
        assert correlation == pytest.approx(expected, abs=0.12)
        own = model[centre, other] / np.sqrt(model[centre, centre] * model[other, other])
        assert own == pytest.approx(expected, abs=0.05)


def test_partial_volume_is_the_spread_within_a_voxel() -> None:
    rng = np.random.default_rng(1)
    # values at random places of a voxel in a linear field
    x = rng.uniform(-0.5, 0.5, (100_000, 3)) * GRID.spacing @ [1.2e-5, -0.8e-5, 0.0]
    seen = observe_map(1e-3 + 1.2e-5 * X - 0.8e-5 * Y, GRID, MASK, scan="v", time=0.0, noise_sd=0.0, wcv=0.0)
    assert np.median(seen.error.voxel) == pytest.approx(x.std(), rel=0.01)


def test_voxels_without_a_value_or_an_error_are_left_out() -> None:
    holed, noise = MAP.copy(), np.full(GRID.shape, 4e-5)
    holed[12, 10, 6] = np.nan
    noise[11, 10, 6] = np.nan
    seen = observe_map(holed, GRID, MASK, scan="v", time=0.0, noise_sd=noise, wcv=WCV)
    assert len(seen.y) == MASK.sum() - 2 and np.isfinite(seen.error.variance()).all()
    with pytest.raises(BadInput, match="no voxel of the region"):
        observe_map(np.full(GRID.shape, np.nan), GRID, MASK, scan="v", time=0.0, noise_sd=1.0, wcv=WCV)
    with pytest.raises(BadInput, match="not on the grid"):
        observe_map(MAP[1:], GRID, MASK, scan="v", time=0.0, noise_sd=1.0, wcv=WCV)
