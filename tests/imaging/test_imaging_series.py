"""Reading a patient folder for a growth study: what is kept, what is left out and said, what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.imaging.series import read_series

if TYPE_CHECKING:
    from conftest import PatientFolder  # type: ignore[import-not-found]


def test_a_folder_is_read_as_it_stands(patient_folder: PatientFolder) -> None:
    p = patient_folder
    series, notes = read_series(p.folder)
    assert notes == () and series.id == "p-001" and series.grid.same_as(p.grid)
    assert series.labels == {1: "grey", 2: "white"}
    np.testing.assert_array_equal(series.brain, p.brain)
    np.testing.assert_array_equal(series.tissue, p.tissue)
    assert [(v.id, v.day) for v in series.visits] == [("v1", 0.0), ("v2", 21.0)]
    for visit in series.visits:
        np.testing.assert_array_equal(visit.tumour, p.tumour)
        np.testing.assert_allclose(visit.adc, p.adc, rtol=1e-6)
    assert series.treatments.fractions == tuple((3.0 + i, 2.0) for i in range(5))
    assert series.treatments.drug_doses == ((3.0, 75.0),) and series.treatments.agent == "temozolomide"
    assert series.perfusion is not None
    np.testing.assert_allclose(series.perfusion.ktrans, 0.2, rtol=1e-6)
    np.testing.assert_allclose(series.perfusion.ve, 0.3, rtol=1e-6)


def test_adc_is_converted_and_what_cannot_be_is_missing(patient_folder: PatientFolder) -> None:
    p = patient_folder
    values = p.adc * 1e6
    values[0, 0, 0], values[1, 0, 0], values[2, 0, 0] = 0.0, -5.0, np.nan
    p.image("v2-adc.nii.gz", values)
    p.data["visits"][1]["images"]["adc"]["unit"] = "1e-6 mm2/s"
    p.write()
    adc = read_series(p.folder)[0].visits[1].adc
    assert np.isnan(adc[:3, 0, 0]).all() and np.isnan(adc).sum() == 3
    np.testing.assert_allclose(adc[3:], p.adc[3:], rtol=1e-6)


def test_a_visit_without_adc_or_outline_is_left_out_and_said(patient_folder: PatientFolder) -> None:
    p = patient_folder
    p.data["visits"].append(
        {"id": "v3", "day": 42, "images": {"adc": {"file": "v2-adc.nii.gz", "unit": "mm2/s"}}}
    )
    p.write()
    series, notes = read_series(p.folder)
    assert [v.id for v in series.visits] == ["v1", "v2"]
    assert notes == ("Visit v3 is left out: it has no ADC map or no tumour outline.",)


def test_without_tissue_labels_the_organ_is_one_tissue_and_it_is_said(patient_folder: PatientFolder) -> None:
    p = patient_folder
    del p.data["tissue"]
    p.write()
    series, notes = read_series(p.folder, "white")
    assert series.labels == {1: "white"} and (series.tissue[series.brain] == 1).all()
    assert notes == ("There is no tissue map: the whole organ is taken as white.",)


def test_without_a_brain_mask_the_tissue_map_is_the_organ(patient_folder: PatientFolder) -> None:
    p = patient_folder
    tissue = p.tissue.copy()
    tissue[:, :, 0] = 0
    p.image("tissue.nii.gz", tissue)
    del p.data["brain"]
    p.write()
    np.testing.assert_array_equal(read_series(p.folder)[0].brain, tissue > 0)
    del p.data["tissue"]
    p.write()
    with pytest.raises(BadInput, match="neither a brain or organ mask nor a tissue map"):
        read_series(p.folder)


def test_a_tissue_that_is_nowhere_needs_no_parameter(patient_folder: PatientFolder) -> None:
    p = patient_folder
    p.data["tissue"]["labels"][3] = "thalamus"
    p.write()
    assert read_series(p.folder)[0].labels == {1: "grey", 2: "white"}


def test_tumour_outside_the_organ_is_said(patient_folder: PatientFolder) -> None:
    p = patient_folder
    brain = p.brain.copy()
    brain[:5] = False
    p.image("brain.nii.gz", brain)
    _, notes = read_series(p.folder)
    share = 100 * (p.tumour & ~brain).sum() / p.tumour.sum()
    assert notes == tuple(
        f"{share:.1f} % of the tumour of {v} lies outside the organ and is not used." for v in ("v1", "v2")
    )
    p.image("brain.nii.gz", ~p.tumour)
    with pytest.raises(BadInput, match="the tumour mask lies outside the organ"):
        read_series(p.folder)


def test_a_later_visit_on_another_grid_is_resampled_and_said(patient_folder: PatientFolder) -> None:
    """A linear field is resampled exactly by linear interpolation."""
    p = patient_folder
    fine = Grid(
        (24, 22, 12), (0.75, 0.75, 1.5), tuple(o - h / 4 for o, h in zip(p.grid.origin, p.grid.spacing))
    )  # type: ignore[arg-type]
    x = [c + o for c, o in zip(fine.centres(), fine.origin)]
    p.image(
        "v2-adc.nii.gz", 1e-3 + 1e-5 * (x[0][:, None, None] + x[1][None, :, None]) * np.ones(fine.shape), fine
    )
    p.image("v2-tumour.nii.gz", np.repeat(np.repeat(np.repeat(p.tumour, 2, 0), 2, 1), 2, 2), fine)
    series, notes = read_series(p.folder)
    assert notes == ("Visit v2 was resampled to the first visit's grid (no registration).",)
    c = [c + o for c, o in zip(p.grid.centres(), p.grid.origin)]
    expected = 1e-3 + 1e-5 * (c[0][:, None, None] + c[1][None, :, None]) * np.ones(p.grid.shape)
    np.testing.assert_allclose(series.visits[1].adc, expected, rtol=1e-5)
    assert (series.visits[1].tumour == p.tumour).mean() > 0.97


def test_an_empty_outline_is_a_finding_later_and_a_fault_at_first(patient_folder: PatientFolder) -> None:
    p = patient_folder
    p.image("v2-tumour.nii.gz", np.zeros(p.grid.shape, dtype=bool))
    p.data["visits"][1]["images"]["tumour"]["empty"] = True
    p.write()
    assert not read_series(p.folder)[0].visits[1].tumour.any()
    p.image("v1-tumour.nii.gz", np.zeros(p.grid.shape, dtype=bool))
    with pytest.raises(BadInput, match="the tumour mask is empty"):
        read_series(p.folder)


def test_one_drug_is_modelled_and_others_are_said(patient_folder: PatientFolder) -> None:
    p = patient_folder
    other = {**p.data["treatments"][1], "agent": "zzz", "day": 4}
    p.data["treatments"].append(other)
    p.write()
    series, notes = read_series(p.folder)
    assert series.treatments.agent == "temozolomide" and len(series.treatments.drug_doses) == 1
    assert notes == ("The doses of zzz are left out: this study models one drug, temozolomide.",)


def test_treatment_before_the_first_scan_is_said_and_left_out(patient_folder: PatientFolder) -> None:
    p = patient_folder
    p.data["treatments"].append({**p.data["treatments"][1], "day": -9})
    p.write()
    series, notes = read_series(p.folder)
    assert len(series.treatments.drug_doses) == 1
    assert notes == (
        "1 doses and fractions before the first scan are left out: what they did is in that scan.",
    )


def test_a_series_where_a_map_is_needed_is_refused(patient_folder: PatientFolder) -> None:
    p = patient_folder
    p.image("v2-adc.nii.gz", np.stack([p.adc, p.adc]))
    with pytest.raises(BadInput, match=r"visits\[1\]\.images\.adc.*a series, not one volume"):
        read_series(p.folder)


def test_a_folder_without_a_usable_visit_is_refused(patient_folder: PatientFolder) -> None:
    for visit in patient_folder.data["visits"]:
        del visit["images"]["tumour"]
    patient_folder.write()
    with pytest.raises(BadInput, match="no visit has both an ADC map and a tumour outline"):
        read_series(patient_folder.folder)
