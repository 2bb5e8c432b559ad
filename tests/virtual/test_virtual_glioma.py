"""A virtual patient: no inverse crime, quantities from the fine grid, and a folder that reads back the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from vvuq_twin.imaging.check import check_patient
from vvuq_twin.imaging.series import read_series
from vvuq_twin.virtual.folder import write_patient
from vvuq_twin.virtual.glioma import VirtualPatient, make_patient, schedule
from vvuq_twin.virtual.population import settings


@pytest.fixture(scope="module")
def patient() -> VirtualPatient:
    return make_patient(7, 8.0, 2)


def test_the_schedule_is_chemoradiation() -> None:
    days, given = schedule()
    assert len(days) == 7 and (np.diff(days) > 0).all()
    assert len(given.fractions) == 30 and sum(g for _, g in given.fractions) == pytest.approx(60.0)
    weekdays = {int(t - settings()["treatment"]["start_day"]) % 7 for t, _ in given.fractions}
    assert weekdays == {0, 1, 2, 3, 4}
    assert len({t for t, _ in given.fractions}) == 30 and len({t for t, _ in given.drug_doses}) == 42 + 15
    assert {a for _, a in given.drug_doses} == {75.0, 150.0} and given.agent == "temozolomide"


def test_the_truth_is_on_the_scanners_grid_and_its_quantities_are_of_it(patient: VirtualPatient) -> None:
    scans = patient.scans
    assert len(scans.visits) == 7 and patient.cellularity.shape == (7, *scans.grid.shape)
    assert (patient.cellularity >= 0).all() and (patient.cellularity <= 1).all()
    assert (patient.total < patient.volume).all() and (
        patient.total >= settings()["at_diagnosis"]["detection"] * patient.volume
    ).all()
    # the volume at diagnosis is the one drawn, reached within a step of the untreated growth
    assert 1.0 <= patient.volume[0] / patient.truth["volume_cm3"] < 1.5
    # mass on the coarse grid is the mass on the fine one, the invisible part included
    whole = patient.cellularity.sum(axis=(1, 2, 3)) * scans.grid.voxel_volume / 1000.0
    assert (whole >= patient.total - 1e-9).all()
    # an outline's volume is the truth's up to the coarse voxels and the reader
    shown = np.array([v.tumour.sum() for v in scans.visits]) * scans.grid.voxel_volume / 1000.0
    assert np.abs(np.log(shown[0] / patient.volume[0])) < 0.25


def test_the_patient_depends_on_the_seed_and_the_finer_grid_only_a_little(patient: VirtualPatient) -> None:
    again = make_patient(7, 8.0, 2)
    np.testing.assert_array_equal(again.cellularity, patient.cellularity)
    np.testing.assert_array_equal(again.scans.visits[6].adc, patient.scans.visits[6].adc)
    assert make_patient(8, 8.0, 2).truth.values != patient.truth.values
    assert patient.scans.perfusion is not None and np.isfinite(patient.scans.perfusion.ktrans).all()


def test_a_patient_folder_reads_back_as_it_was_written(patient: VirtualPatient, tmp_path: Path) -> None:
    folder = write_patient(patient, tmp_path / "patient")
    assert [f.sentence for f in check_patient(folder) if f.level == "error"] == []
    series, notes = read_series(folder)
    scans = patient.scans
    assert series.id == "virtual-7" and series.grid.same_as(scans.grid) and series.labels == scans.labels
    np.testing.assert_array_equal(series.brain, scans.brain)
    np.testing.assert_array_equal(series.tissue[series.brain], scans.tissue[scans.brain])
    assert [(v.id, v.day) for v in series.visits] == [(v.id, v.day) for v in scans.visits]
    for read, written in zip(series.visits, scans.visits):
        np.testing.assert_array_equal(read.tumour, written.tumour)
        # float32 on the disk; a voxel that is not positive is missing
        good = written.adc.astype(np.float32) > 0
        np.testing.assert_allclose(read.adc[good], written.adc[good], rtol=1e-6)
        assert np.isnan(read.adc[~good]).all()
    np.testing.assert_allclose(series.treatments.fractions, scans.treatments.fractions, atol=1e-6)
    np.testing.assert_allclose(series.treatments.drug_doses, scans.treatments.drug_doses, atol=1e-6)
    assert series.perfusion is not None and scans.perfusion is not None
    np.testing.assert_allclose(series.perfusion.ktrans, scans.perfusion.ktrans, rtol=1e-6)
    assert all("resampled" not in n and "left out" not in n for n in notes)


def test_a_visit_without_visible_tumour_is_declared_empty(patient: VirtualPatient, tmp_path: Path) -> None:
    gone = replace(patient.scans.visits[4], tumour=np.zeros(patient.scans.grid.shape, dtype=bool))
    visits = (*patient.scans.visits[:4], gone, *patient.scans.visits[5:])
    folder = write_patient(
        replace(patient, scans=replace(patient.scans, visits=visits)), tmp_path / "patient"
    )
    written = yaml.safe_load((folder / "patient.yaml").read_text())["visits"]
    assert [v["images"]["tumour"].get("empty", False) for v in written] == [False] * 4 + [True] + [False] * 2
    assert [f.sentence for f in check_patient(folder) if f.level == "error"] == []
    series, _ = read_series(folder)
    assert not series.visits[4].tumour.any() and series.visits[5].tumour.any()
