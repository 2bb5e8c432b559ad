"""T1 and concentration against their own forward model and OSIPI's signal curves; faults in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.imaging.contrast import (
    concentration,
    concentration_error,
    refuse_saturation,
    signal_of,
)
from vvuq_twin.imaging.dce import read_dce
from vvuq_twin.imaging.t1 import spoiled_gradient_echo, t1_linear, t1_nonlinear
from vvuq_twin.imaging.write import write_image

FLIPS = np.deg2rad([2.0, 10.0, 20.0])


def test_t1_is_recovered_without_noise() -> None:
    t1 = np.array([0.15, 0.5, 1.1, 3.0])
    s = np.stack([spoiled_gradient_echo(900.0, 1 / t1, a, 0.004) for a in FLIPS])
    for fit in (t1_linear, t1_nonlinear):
        found, m0, *_ = fit(s, FLIPS, 0.004)
        assert np.allclose(found, t1, rtol=1e-8)
        assert np.allclose(m0, 900.0, rtol=1e-8)


def test_nonlinear_t1_is_more_precise_than_linear() -> None:
    rng = np.random.default_rng(3)
    clean = np.array([spoiled_gradient_echo(1000.0, 1 / 1.2, a, 0.004) for a in FLIPS])
    s = clean[:, None] + 3.0 * rng.standard_normal((3, 4000))
    linear, nonlinear = (np.nanstd(1 / fit(s, FLIPS, 0.004)[0]) for fit in (t1_linear, t1_nonlinear))
    assert nonlinear < linear


def test_signal_and_concentration_are_inverse() -> None:
    c = np.array([-0.05, 0.0, 0.3, 2.0, 8.0])[:, None]
    t1 = np.array([0.3, 1.0, 1.6])
    s = signal_of(c, 150.0, t1, np.deg2rad(20), 0.004, 3.4)
    back = concentration(s, np.full(3, 150.0), t1, np.deg2rad(20), 0.004, 3.4)
    assert np.allclose(back, np.broadcast_to(c, back.shape), atol=1e-10)


def test_signal_above_saturation_is_missing_not_wrong() -> None:
    huge = concentration(np.array([1e6]), np.array([100.0]), 1.0, np.deg2rad(20), 0.004, 3.4)
    dark = concentration(np.array([50.0]), np.array([0.0]), 1.0, np.deg2rad(20), 0.004, 3.4)
    assert np.isnan(huge).all()
    assert np.isnan(dark).all()


@pytest.mark.parametrize("fit", [t1_linear, t1_nonlinear])
def test_standard_errors_of_t1_are_the_scatter_of_repeated_noise(fit) -> None:
    rng = np.random.default_rng(5)
    flips = np.deg2rad([2.0, 5.0, 10.0, 15.0, 20.0, 25.0])
    clean = np.array([spoiled_gradient_echo(1000.0, 1 / 0.9, a, 0.005) for a in flips])
    s = clean[:, None] + 1.0 * rng.standard_normal((6, 3000))
    given, own = fit(s, flips, 0.005, noise_sd=1.0), fit(s, flips, 0.005)
    for value, error in ((given.t1, given.t1_se), (given.m0, given.m0_se)):
        assert np.std(value) == pytest.approx(np.median(error), rel=0.06)
    assert np.sqrt(np.mean(own.t1_se**2)) == pytest.approx(np.std(given.t1), rel=0.1)
    assert np.sqrt(np.mean(own.residual**2)) == pytest.approx(1.0, rel=0.1)
    # two angles leave nothing to estimate the noise from
    two = fit(s[::3], flips[::3], 0.005)
    assert np.isnan(two.t1_se).all() and np.isfinite(two.t1).all()
    assert np.isfinite(fit(s[::3], flips[::3], 0.005, noise_sd=1.0).t1_se).all()


def test_a_field_map_corrects_the_angles() -> None:
    b1 = np.array([0.8, 1.0, 1.15])
    s = np.stack([spoiled_gradient_echo(700.0, 1 / 1.3, a * b1, 0.005) for a in FLIPS])
    for fit in (t1_linear, t1_nonlinear):
        assert np.allclose(fit(s, FLIPS, 0.005, b1).t1, 1.3, rtol=1e-8)
        assert abs(fit(s, FLIPS, 0.005).t1[0] / 1.3 - 1) > 0.2
    with pytest.raises(BadInput, match="B1 map is 80"):
        t1_linear(s, FLIPS, 0.005, 100 * b1 * 0.8)
    with pytest.raises(BadInput, match="not on the images' grid"):
        t1_linear(s, FLIPS, 0.005, b1[:2])
    with pytest.raises(BadInput, match="3 images came with 2 flip angles"):
        t1_nonlinear(s, FLIPS[:2], 0.005)


def test_error_of_a_concentration_against_repeated_noise_and_derivatives() -> None:
    rng = np.random.default_rng(6)
    args = (np.deg2rad(20), 0.004, 3.4)
    c = np.array([0.0, 0.5, 2.0, 4.0])[:, None]
    clean = signal_of(c, 150.0, 1.2, *args)
    error = concentration_error(
        clean, np.array([150.0]), 1.2, *args, signal_sd=1.0, baseline_sd=0.5, t1_sd=0.05
    )
    noisy = concentration(clean + rng.standard_normal((4, 20000)), np.array([150.0]), 1.2, *args)
    assert np.allclose(np.std(noisy, axis=1), error.noise[:, 0], rtol=0.05)
    h = 1e-5
    up, down = (concentration(clean, np.array([150.0 * (1 + x)]), 1.2, *args) for x in (h, -h))
    assert np.allclose((up - down) / (300.0 * h) * 0.5, error.baseline, rtol=1e-5, atol=1e-9)
    up, down = (concentration(clean, np.array([150.0]), 1.2 * (1 + x), *args) for x in (h, -h))
    assert np.allclose((up - down) / (2.4 * h) * 0.05, error.t1, rtol=1e-5, atol=1e-9)
    assert np.allclose(error.total**2, error.noise**2 + error.baseline**2 + error.t1**2)


def test_a_region_that_is_mostly_saturated_is_refused() -> None:
    c = np.ones((5, 10))
    c[2, :3] = np.nan
    assert refuse_saturation(c, "tumour").sum() == 3
    c[3, :6] = np.nan
    with pytest.raises(BadInput, match="tumour: the signal of 60 % of the voxels is beyond"):
        refuse_saturation(c, "tumour")


def _folder(path: Path, **changes: object) -> Path:
    grid = Grid((6, 5, 3), (2.0, 2.0, 4.0))
    rng = np.random.default_rng(0)
    write_image(path / "dce.nii.gz", rng.uniform(50, 100, (4, *grid.shape)), grid)
    for i in range(2):
        write_image(path / f"v{i}.nii.gz", rng.uniform(50, 100, grid.shape), grid)
    mask = np.zeros(grid.shape, bool)
    mask[2:4, 2:4, 1] = True
    write_image(path / "mask.nii.gz", mask, grid)
    dce = {
        "file": "dce.nii.gz", "repetition_time_s": 0.004, "flip_angle_deg": 20, "frame_times_s": [0, 5, 10, 15],
        "baseline_frames": 2,
    }  # fmt: skip
    data = {
        "dce": dce, "vfa": [{"file": f"v{i}.nii.gz", "flip_angle_deg": 2 + 10 * i} for i in range(2)],
        "vfa_repetition_time_s": 0.004, "contrast": {"relaxivity_r1_per_mM_per_s": 3.4}, "mask": "mask.nii.gz",
    }  # fmt: skip
    for key, value in changes.items():
        if key in dce:
            dce[key] = value  # type: ignore[assignment]
        else:
            data[key] = value
    (path / "acquisition.json").write_text(json.dumps(data))
    return path


def test_folder_is_read(tmp_path: Path) -> None:
    series = read_dce(_folder(tmp_path))
    assert series.signal.shape == (4, 6, 5, 3)
    assert series.tumour.sum() == 4
    assert series.flip == pytest.approx(np.deg2rad(20))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"frame_times_s": [0, 5, 5, 15]}, "do not increase"),
        ({"frame_times_s": [0, 5, 10]}, "3 times came for 4 frames"),
        ({"baseline_frames": 4}, "no frame is left"),
        ({"mask": "nothing.nii.gz"}, "does not exist"),
        ({"repetition_time_s": -1}, "repetition_time_s"),
        ({"vfa": [{"file": "v0.nii.gz", "flip_angle_deg": 5}] * 2}, "flip angles are the same"),
        ({"file": "v0.nii.gz"}, "one volume"),
    ],
)
def test_faults_are_one_sentence(tmp_path: Path, changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        read_dce(_folder(tmp_path, **changes))


def test_bad_voxels_and_masks(tmp_path: Path) -> None:
    _folder(tmp_path)
    grid = Grid((6, 5, 3), (2.0, 2.0, 4.0))
    write_image(tmp_path / "mask.nii.gz", np.zeros(grid.shape, bool), grid)
    with pytest.raises(BadInput, match="empty"):
        read_dce(tmp_path)
    write_image(tmp_path / "mask.nii.gz", np.ones(grid.shape, bool), Grid((6, 5, 3), (3.0, 2.0, 4.0)))
    with pytest.raises(BadInput, match="not on the grid"):
        read_dce(tmp_path)
    bad = np.full((4, *grid.shape), 80.0)
    bad[1, 2, 3, 1] = np.nan
    write_image(tmp_path / "dce.nii.gz", bad, grid)
    with pytest.raises(BadInput, match="1 NaN or infinite"):
        read_dce(tmp_path)
    (tmp_path / "acquisition.json").write_text("{")
    with pytest.raises(BadInput, match="not valid JSON"):
        read_dce(tmp_path)
    with pytest.raises(BadInput, match="not a folder"):
        read_dce(tmp_path / "nowhere")
