"""Scans of a virtual patient: errors of the stated sizes, outlines near the threshold, keyed draws."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.grid import Grid
from vvuq_twin.virtual.perfusion import true_exposure, true_ktrans
from vvuq_twin.virtual.population import Truth, draw_truth, settings
from vvuq_twin.virtual.scans import perfusion_scan, scan

GRID = Grid((24, 24, 24), (2.0, 2.0, 2.0))
LABELS = {1: "grey", 2: "white"}
TISSUE = np.where(np.arange(24)[:, None, None] < 12, 1, 2) * np.ones(GRID.shape, dtype=int)


def _blob() -> np.ndarray:
    i, j, k = np.indices(GRID.shape)
    return 0.9 * np.exp(-((i - 12.0) ** 2 + (j - 12.0) ** 2 + (k - 12.0) ** 2) / (2 * 4.0**2))


def test_the_population_is_keyed_by_patient_and_name() -> None:
    a, b = draw_truth(5), draw_truth(5)
    assert a.values == b.values and a.values != draw_truth(6).values
    drawn = np.log([draw_truth(seed)["k"] for seed in range(400)])
    spec = settings()["growth"]["k"]["prior"]["lognormal"]
    # a mean of 400 draws is known to sd / 20
    assert drawn.mean() == pytest.approx(np.log(spec["median"]), abs=4 * spec["sd_log"] / 20)
    assert drawn.std() == pytest.approx(spec["sd_log"], rel=0.15)
    assert {"saturation_exponent", "regrowth_factor", "hypoxic_protection", "volume_cm3"} < set(a.values)


def _scans(cellularity: np.ndarray, count: int) -> tuple[np.ndarray, Truth]:
    truth = draw_truth(11)
    scans = [scan(GRID, TISSUE, LABELS, cellularity, truth, v, float(v)).adc for v in range(count)]
    return np.array(scans), truth


def test_the_scans_error_has_a_gain_a_texture_and_voxel_noise_of_the_stated_sizes() -> None:
    """A uniform field, so that whatever is left is error: gain^2 + texture^2 + noise^2 in total."""
    numbers = settings()["scan"]
    adc, truth = _scans(np.full(GRID.shape, 0.5), 60)
    expected = numbers["adc_water_mm2_per_s"] - 0.5 * (numbers["adc_water_mm2_per_s"] - truth["adc_min"])
    relative = adc / expected - 1.0
    parts = [numbers[k] for k in ("scan_cv", "texture_cv", "voxel_cv")]
    assert relative.std() == pytest.approx(np.sqrt(np.square(parts).sum()), rel=0.05)
    # the mean of a scan is its gain: QIBA's within-subject variation
    assert relative.mean(axis=(1, 2, 3)).std(ddof=1) == pytest.approx(parts[0], rel=0.3)
    # neighbours differ by the voxel noise alone, up to what the texture changes over one voxel
    smooth = np.exp(-(2.0**2) / (4 * numbers["texture_length_mm"] ** 2))
    expected_step = np.sqrt(2 * parts[2] ** 2 + 2 * parts[1] ** 2 * (1 - smooth))
    assert np.diff(relative, axis=1).std() == pytest.approx(expected_step, rel=0.05)


def test_without_tumour_a_scan_shows_normal_tissue_and_no_outline() -> None:
    shown = scan(GRID, TISSUE, LABELS, np.zeros(GRID.shape), draw_truth(11), 0, 0.0)
    assert not shown.tumour.any() and shown.id == "visit-1" and shown.day == 0.0
    for label, name in LABELS.items():
        normal = settings()["scan"]["adc_normal_mm2_per_s"][name]
        assert np.median(shown.adc[label == TISSUE]) == pytest.approx(normal, rel=0.1)


def test_the_outline_follows_the_detection_threshold() -> None:
    cellularity, numbers = _blob(), settings()
    detection, wobble = numbers["at_diagnosis"]["detection"], numbers["scan"]["mask_noise"]
    for visit in range(5):
        shown = scan(GRID, TISSUE, LABELS, cellularity, draw_truth(11), visit, 0.0)
        assert shown.tumour[cellularity > detection + 5 * wobble].all()
        assert not shown.tumour[cellularity < detection - 5 * wobble].any()
    outside = np.where(np.arange(24)[:, None, None] < 12, 0, 2) * np.ones(GRID.shape, dtype=int)
    assert not scan(GRID, outside, LABELS, cellularity, draw_truth(11), 0, 0.0).tumour[outside == 0].any()


def test_a_scan_is_keyed_by_patient_and_visit() -> None:
    first, again = (scan(GRID, TISSUE, LABELS, _blob(), draw_truth(11), 2, 60.0) for _ in range(2))
    np.testing.assert_array_equal(first.adc, again.adc)
    np.testing.assert_array_equal(first.tumour, again.tumour)
    assert not np.array_equal(first.adc, scan(GRID, TISSUE, LABELS, _blob(), draw_truth(11), 3, 60.0).adc)
    assert not np.array_equal(first.adc, scan(GRID, TISSUE, LABELS, _blob(), draw_truth(12), 2, 60.0).adc)


def test_the_perfusion_scan_has_a_gain_and_voxel_noise_of_the_stated_sizes() -> None:
    numbers = settings()["perfusion"]
    ktrans = np.full(GRID.shape, 0.05)
    logs = np.log([perfusion_scan(GRID, ktrans, draw_truth(s)).ktrans / 0.05 for s in range(60)])
    assert logs.mean(axis=(1, 2, 3)).std(ddof=1) == pytest.approx(numbers["scan_cv"], rel=0.3)
    assert logs.std(axis=(1, 2, 3)).mean() == pytest.approx(numbers["voxel_cv"], rel=0.05)
    assert (perfusion_scan(GRID, ktrans, draw_truth(1)).ve == numbers["ve"]).all()


def test_exposure_without_diffusion_of_concentrations_is_the_local_balance() -> None:
    """A uniform Ktrans has no gradient: ``a = K / (K + loss phi)`` exactly, whatever the diffusion."""
    numbers = settings()["perfusion"]
    mask = TISSUE > 0
    mask[:3] = False
    found = true_exposure(GRID, mask, np.full(GRID.shape, 0.03))
    limit = 0.03 / (0.03 + numbers["drug_loss_per_min"] * numbers["ve"])
    np.testing.assert_allclose(found[mask], limit, rtol=1e-6)
    assert (found[~mask] == 0).all()


def test_exposure_conserves_what_enters_and_keeps_its_bounds() -> None:
    """Summed over a closed domain the diffusion cancels: entry balances return and loss."""
    numbers = settings()["perfusion"]
    mask = np.ones(GRID.shape, dtype=bool)
    ktrans = true_ktrans(GRID, _blob(), 3)
    a = true_exposure(GRID, mask, ktrans)
    assert (ktrans * (1 - a)).sum() == pytest.approx(
        numbers["drug_loss_per_min"] * numbers["ve"] * a.sum(), rel=1e-6
    )
    local = ktrans / (ktrans + numbers["drug_loss_per_min"] * numbers["ve"])
    assert a.min() >= local.min() - 1e-9 and a.max() <= local.max() + 1e-9  # a maximum principle
    assert a.std() < local.std()  # and diffusion evens it out


def test_ktrans_is_high_at_the_rim_and_normal_outside() -> None:
    numbers = settings()["perfusion"]
    ktrans = true_ktrans(GRID, _blob(), 3)
    assert (ktrans > 0).all()
    np.testing.assert_allclose(ktrans[_blob() < 1e-6], numbers["normal_ktrans_per_min"], rtol=1e-3)
    rims = [true_ktrans(GRID, np.where(_blob() > 0, level, 0.0), 3).mean() for level in (0.5, 0.98)]
    assert rims[0] > 1.5 * rims[1]
