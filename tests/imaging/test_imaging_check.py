"""`check`: every fault of a patient folder is one sentence with the file, the field and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.imaging.check import check_patient, require_usable

if TYPE_CHECKING:
    from conftest import PatientFolder  # type: ignore[import-not-found]


def _levels(folder: Path, level: str) -> list[str]:
    return [f.sentence for f in check_patient(folder) if f.level == level]


def _one_sentence(text: str) -> None:
    assert "\n" not in text and text.count("; ") <= 2 and text[-1] in ".?"
    assert "patient.yaml, line " in text


def test_a_good_folder_has_no_fault_and_says_what_it_is_good_for(patient_folder: PatientFolder) -> None:
    assert _levels(patient_folder.folder, "error") == []
    assert _levels(patient_folder.folder, "warning") == []
    said = " ".join(_levels(patient_folder.folder, "note"))
    assert "growth can be forecast: 2 visits from day 0 to 21" in said
    patient = require_usable(patient_folder.folder)
    assert [v.id for v in patient.visits] == ["v1", "v2"]


def _nan_in_tumour(p: PatientFolder) -> None:
    p.adc[5, 5, 3] = np.nan
    p.image("v2-adc.nii.gz", p.adc)


def _infinite(p: PatientFolder) -> None:
    p.adc[0, 0, 0] = np.inf
    p.image("v2-adc.nii.gz", p.adc)


def _negative(p: PatientFolder) -> None:
    p.adc[5, 5, 3] = -1e-4
    p.image("v2-adc.nii.gz", p.adc)


def _empty(p: PatientFolder) -> None:
    p.image("v2-tumour.nii.gz", np.zeros(p.grid.shape, dtype=bool))


def _not_empty(p: PatientFolder) -> None:
    p.data["visits"][1]["images"]["tumour"]["empty"] = True


def _mask_size(p: PatientFolder) -> None:
    p.image("v2-tumour.nii.gz", p.tumour[1:], Grid((11, 11, 6), p.grid.spacing, p.grid.origin))


def _mask_shifted(p: PatientFolder) -> None:
    p.image("v2-tumour.nii.gz", p.tumour, Grid(p.grid.shape, p.grid.spacing, (0.0, 4.0, 20.0)))


def _labels_for_mask(p: PatientFolder) -> None:
    p.image("v2-tumour.nii.gz", p.tumour * 1 + (p.adc > 1.2e-3))


def _brain_off(p: PatientFolder) -> None:
    p.image("brain.nii.gz", p.brain, Grid(p.grid.shape, (1.0, 1.0, 1.0), p.grid.origin))


def _tumour_outside(p: PatientFolder) -> None:
    p.image("brain.nii.gz", ~p.tumour)


def _unnamed_label(p: PatientFolder) -> None:
    p.image("tissue.nii.gz", p.tissue + 1)


def _elsewhere(p: PatientFolder) -> None:
    far = Grid(p.grid.shape, p.grid.spacing, (500.0, 0.0, 0.0))
    p.image("v2-adc.nii.gz", p.adc, far)
    p.image("v2-tumour.nii.gz", p.tumour, far)


def _perfusion_elsewhere(p: PatientFolder) -> None:
    p.image(
        "ktrans.nii.gz", np.full(p.grid.shape, 0.2), Grid(p.grid.shape, p.grid.spacing, (500.0, 0.0, 0.0))
    )


def _wrong_unit(p: PatientFolder) -> None:
    p.image("v2-adc.nii.gz", p.adc * 1e6)  # the scanner's 1e-6 mm2/s, declared as mm2/s


def _series_for_map(p: PatientFolder) -> None:
    p.image("v2-adc.nii.gz", np.stack([p.adc, p.adc]))


def _truncated(p: PatientFolder) -> None:
    path = p.folder / "v2-adc.nii.gz"
    path.write_bytes(path.read_bytes()[:-200])


def _fraction_above_one(p: PatientFolder) -> None:
    p.image("ve.nii.gz", np.full(p.grid.shape, 40.0))  # per cent


def _frames_without_match(p: PatientFolder) -> None:
    p.image("dce.nii.gz", np.ones((4, *p.grid.shape)))
    p.data["visits"][0]["images"]["dce"] = {
        "file": "dce.nii.gz",
        "unit": "arbitrary",
        "acquisition": {"frame_times_s": [0, 5, 10]},
    }


ERRORS: list[tuple[Callable[[PatientFolder], None], str]] = [
    (
        _nan_in_tumour,
        r"visits\[1\].images.adc: 1 voxel of the adc image in the tumour hold NaN; .*missing: nan",
    ),
    (_infinite, r"visits\[1\].images.adc: 1 voxel .* infinite"),
    (_negative, r"visits\[1\].images.adc: 1 voxel .* below 0 mm2/s \(lowest -0.0001\)"),
    (_empty, r"visits\[1\].images.tumour: the tumour mask is empty; draw it"),
    (_not_empty, r"visits\[1\].images.tumour: .*declared empty but is not"),
    (
        _mask_size,
        r"visits\[1\].images.tumour: the tumour mask is not on .* \(11x11x6 voxels against 12x11x6\)",
    ),
    (_mask_shifted, r"visits\[1\].images.tumour: the tumour mask is not on .* origin is 9 mm away"),
    (_labels_for_mask, r"visits\[1\].images.tumour: the mask 'v2-tumour.nii.gz' holds values other than 0"),
    (_brain_off, r"brain: the brain mask is not on the image's grid \(spacing 1x1x1 mm against 1.5x1.5x3\)"),
    (_tumour_outside, r"brain: \d+ voxels \(100.0 %\) of the tumour lie outside the brain mask"),
    (_unnamed_label, r"tissue: the labels 3 of 'tissue.nii.gz' are not named"),
    (_elsewhere, r"visits\[1\]: the images of visit v2 overlap nothing"),
    (_perfusion_elsewhere, r"visits\[0\].images.ktrans: the ktrans image overlaps nothing of the adc image"),
    (_wrong_unit, r"visits\[1\].images.adc: the median in the tumour .* implausible .*1e-6 mm2/s"),
    (_series_for_map, r"visits\[1\].images.adc: the adc image is a series, not one volume"),
    (_truncated, r"visits\[1\].images.adc: the image 'v2-adc.nii.gz' cannot be read"),
    (_fraction_above_one, r"visits\[0\].images.ve: the median in the tumour of the ve image is 40 1"),
    (_frames_without_match, r"visits\[0\].images.dce: .*must hold 4 increasing times"),
]


@pytest.mark.parametrize(("fault", "said"), ERRORS, ids=[f.__name__.strip("_") for f, _ in ERRORS])
def test_each_fault_is_one_sentence(
    patient_folder: PatientFolder, fault: Callable[[PatientFolder], None], said: str
) -> None:
    fault(patient_folder)
    patient_folder.write()
    with pytest.raises(BadInput, match=said) as caught:
        require_usable(patient_folder.folder)
    _one_sentence(str(caught.value))
    errors = _levels(patient_folder.folder, "error")
    assert len(errors) == 1, errors  # one fault, one sentence


def test_what_is_declared_on_purpose_is_accepted(patient_folder: PatientFolder) -> None:
    patient_folder.adc[5, 5, 3] = np.nan
    patient_folder.image("v2-adc.nii.gz", patient_folder.adc)
    _empty(patient_folder)
    images = patient_folder.data["visits"][1]["images"]
    images["adc"]["missing"] = "nan"
    images["tumour"]["empty"] = True
    patient_folder.write()
    assert _levels(patient_folder.folder, "error") == []
    assert any(
        "1 voxel (0.1 %) of the adc image are missing" in s for s in _levels(patient_folder.folder, "warning")
    )


def test_a_tumour_that_is_mostly_missing_is_refused_even_so(patient_folder: PatientFolder) -> None:
    patient_folder.adc[patient_folder.tumour] = np.nan
    patient_folder.adc[5, 5, 3] = 1e-3
    patient_folder.image("v2-adc.nii.gz", patient_folder.adc)
    patient_folder.data["visits"][1]["images"]["adc"]["missing"] = "nan"
    patient_folder.write()
    with pytest.raises(BadInput, match="half of the values are needed"):
        require_usable(patient_folder.folder)


def test_nan_outside_the_tumour_is_only_noted(patient_folder: PatientFolder) -> None:
    patient_folder.adc[0] = np.nan
    patient_folder.image("v1-adc.nii.gz", patient_folder.adc)
    assert _levels(patient_folder.folder, "error") == []
    assert any("outside the tumour hold NaN" in s for s in _levels(patient_folder.folder, "note"))


def test_a_declared_scanner_unit_is_converted_before_it_is_judged(patient_folder: PatientFolder) -> None:
    _wrong_unit(patient_folder)
    patient_folder.data["visits"][1]["images"]["adc"]["unit"] = "1e-6 mm2/s"
    patient_folder.write()
    assert _levels(patient_folder.folder, "error") == [] == _levels(patient_folder.folder, "warning")


def test_scans_on_another_grid_and_tumours_that_jump_are_warned_of(patient_folder: PatientFolder) -> None:
    p = patient_folder
    shifted = Grid(p.grid.shape, p.grid.spacing, (-3.0, 4.0, 20.0))
    p.image("v2-adc.nii.gz", p.adc, shifted)
    p.image(
        "v2-tumour.nii.gz", np.arange(p.tumour.size).reshape(p.tumour.shape) > p.tumour.size - 20, shifted
    )
    said = _levels(p.folder, "warning")
    assert any("not on the first visit's grid (they cover 67 % of it)" in s for s in said)
    assert any("shares no voxel with the first visit's" in s for s in said)
    assert _levels(p.folder, "error") == []


def test_doubtful_doses_are_warned_of(patient_folder: PatientFolder) -> None:
    patient_folder.data["treatments"][0]["dose"] = 60
    patient_folder.data["treatments"][1]["amount"] = 0
    patient_folder.write()
    said = _levels(patient_folder.folder, "warning")
    assert any("above 30 Gy" in s for s in said) and any("temozolomide on day 3 is zero" in s for s in said)


def test_what_is_missing_for_use_is_noted(patient_folder: PatientFolder) -> None:
    del patient_folder.data["visits"][1]["images"]["tumour"]
    del patient_folder.data["visits"][0]["images"]["ktrans"]
    for key in ("tissue", "brain", "treatments"):
        del patient_folder.data[key]
    patient_folder.write()
    said = " ".join(_levels(patient_folder.folder, "note"))
    for part in (
        "growth cannot be forecast: 1 of 2 visits",
        "uniform over the tumour",
        "one diffusivity",
        "no brain or organ mask",
        "growth is untreated",
    ):
        assert part in said


def test_faults_of_the_file_come_first_and_alone(patient_folder: PatientFolder) -> None:
    _empty(patient_folder)
    patient_folder.data["visits"][1]["day"] = -3
    patient_folder.write()
    said = [f.sentence for f in check_patient(patient_folder.folder)]
    assert len(said) == 1 and "out of order" in said[0]


def test_the_real_scan_is_usable_as_a_patient(tmp_path: Path, shared_data: Path) -> None:
    source = shared_data / "brain_tumour_mri"
    if not source.is_dir():
        pytest.skip("brain_tumour_mri is not among the shared data")
    (tmp_path / "patient.yaml").write_text(
        f"id: brain1\nvisits:\n  - day: 0\n    images:\n"
        f"      t1_post: {{file: '{source / 'brain1_image.nrrd'}', unit: arbitrary}}\n"
        f"      tumour: {{file: '{source / 'brain1_label.nrrd'}'}}\n"
    )
    findings = check_patient(tmp_path)
    assert [f for f in findings if f.level != "note"] == []
    assert any("far from cubes (0.781 x 0.781 x 6.5 mm)" in f.sentence for f in findings)


def test_a_mask_of_another_visit_is_noticed(patient_folder: PatientFolder) -> None:
    """New images, and the outline of the visit before."""
    patient_folder.image("v2-adc.nii.gz", 1.01 * patient_folder.adc)
    said = [f.sentence for f in check_patient(patient_folder.folder) if f.level == "warning"]
    assert any("tumour mask of visit v2 is voxel for voxel that of visit v1" in s for s in said)
    patient_folder.image("v2-tumour.nii.gz", np.roll(patient_folder.tumour, 1, axis=0))
    said = [f.sentence for f in check_patient(patient_folder.folder) if f.level == "warning"]
    assert not any("voxel for voxel" in s for s in said)
