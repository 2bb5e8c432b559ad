"""A phantom: its truth, its scans, and the way out as DICOM and in again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.domain.patient import load_patient
from vvuq_twin.imaging.check import check_patient
from vvuq_twin.imaging.dicom.intake import import_dicom
from vvuq_twin.imaging.read import read_image, read_mask
from vvuq_twin.virtual.anatomy import make_head, phantom_library, tissue_labels
from vvuq_twin.virtual.phantom import Phantom, make_phantom
from vvuq_twin.virtual.phantom_files import PERSONA, masks_of, write_phantom, write_phantom_dicom
from vvuq_twin.virtual.scanner import ROLES, scan_phantom

_NAMES = list(tissue_labels())


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(3, (4.0, 4.0, 5.0), size=0.6, days=(0.0, 20.0))


def test_the_truth_is_finer_and_adds_up(phantom: Phantom) -> None:
    assert max(phantom.fine.spacing) <= min(phantom.grid.spacing) / 2
    cm3 = phantom.grid.voxel_volume / 1000.0
    for visit in phantom.visits:
        np.testing.assert_allclose(visit.fractions.sum(axis=0), 1.0, atol=1e-6)
        parts = visit.fractions[_NAMES.index("tumour")] + visit.fractions[_NAMES.index("necrosis")]
        # partial volumes on the scanner's grid hold the fine grid's volume, wherever the head lies
        assert float(parts.sum()) * cm3 == pytest.approx(visit.volume_cm3, rel=0.02)
        living = visit.labels == tissue_labels()["tumour"]
        assert (visit.cellularity[living] >= phantom_library()["growth"]["detection"]).all()
        assert 0 < visit.necrosis_cm3 < visit.volume_cm3
    first, second = phantom.visits
    assert second.volume_cm3 > 1.1 * first.volume_cm3
    np.testing.assert_array_equal(first.motion, np.eye(4))
    assert np.linalg.norm(second.motion[:3, 3]) > 0.5


def test_the_necrosis_lies_inside_the_tumour(phantom: Phantom) -> None:
    for visit in phantom.visits:
        dead = visit.labels == tissue_labels()["necrosis"]
        around = ndimage.binary_dilation(dead) & ~dead
        living = visit.labels == tissue_labels()["tumour"]
        assert (around & living).sum() > 0.9 * around.sum()


@pytest.mark.parametrize("size", [0.4, 0.7])
def test_a_head_of_any_size_has_all_tissues(size: float) -> None:
    head = make_head(4.0 * size, 5, size)
    found, counts = np.unique(head.labels, return_counts=True)
    assert set(found) == {0, 1, 2, 3, 4, 7, 8}
    brain = float((np.isin(head.labels, (1, 2))).sum()) * head.grid.voxel_volume / 1000.0 / size**3
    assert 700 < brain < 1800 and counts[list(found).index(4)] > 30
    assert (head.labels[[0, -1]] == 0).all() and (head.labels[:, :, [0, -1]] == 0).all()
    # of a smaller head everything is smaller by as much
    assert np.array(head.grid.spacing) == pytest.approx(4.0 * size)


def test_scans_say_what_tissue_is(phantom: Phantom) -> None:
    visit = phantom.visits[0]
    white = visit.fractions[_NAMES.index("white")] > 0.99
    tissue = phantom_library()["tissues"]["white"]
    dwi = scan_phantom(phantom, visit, "dwi", noise=False)
    b = np.array(dwi.acquisition["b_values_s_per_mm2"])
    decay = np.log(dwi.clean[0][white] / dwi.clean[2][white]) / (b[2] - b[0])
    np.testing.assert_allclose(decay, tissue["adc"], rtol=1e-3)
    adc = scan_phantom(phantom, visit, "adc", noise=False)
    np.testing.assert_allclose(1e-6 * adc.array[white], tissue["adc"], atol=1e-6)
    vfa = scan_phantom(phantom, visit, "vfa", noise=False)
    tr, angle = vfa.acquisition["repetition_time_ms"], np.deg2rad(vfa.acquisition["flip_angles_deg"])
    y, x = vfa.clean[:, white] / np.sin(angle)[:, None], vfa.clean[:, white] / np.tan(angle)[:, None]
    slope = (y[2] - y[0]) / (x[2] - x[0])
    np.testing.assert_allclose(-tr / np.log(slope), tissue["t1"], rtol=1e-3)
    dce = scan_phantom(phantom, visit, "dce", noise=False)
    tumour = visit.fractions[_NAMES.index("tumour")] > 0.9
    rise = dce.clean[-1] / dce.clean[0]
    assert np.median(rise[tumour]) > 1.3 > 1.15 > np.median(rise[white])
    noisy = scan_phantom(phantom, visit, "t1")
    air = visit.fractions[_NAMES.index("air")] > 0.999
    sd = phantom_library()["noise"]["signal"] * 2000.0
    assert noisy.array[air].mean() == pytest.approx(sd * np.sqrt(np.pi / 2), rel=0.05)  # Rayleigh
    again = scan_phantom(phantom, visit, "t1")
    np.testing.assert_array_equal(noisy.array, again.array)


@pytest.mark.parametrize(("layout", "vendor"), [("classic", "Siemens"), ("enhanced", "standard")])
def test_round_trip_through_dicom(tmp_path: Path, layout: str, vendor: str) -> None:
    phantom = make_phantom(3, (6.0, 6.0, 10.0), size=0.6, days=(0.0, 20.0))
    roles = [r for r in ROLES if r != "ct"]
    write_phantom_dicom(phantom, tmp_path / "export", roles, layout=layout, vendor=vendor)  # type: ignore[arg-type]
    plan = import_dicom(tmp_path / "export", tmp_path / "p-1")
    assert plan.notes == ()
    patient = load_patient(tmp_path / "p-1")
    assert [v.day for v in patient.visits] == [0, 20]
    for visit, true in zip(patient.visits, phantom.visits):
        for role in roles:
            scan = scan_phantom(phantom, true, role)
            array, grid = read_image(visit.image(role).path)
            assert grid.same_as(phantom.grid) and visit.image(role).unit == scan.unit
            if role == "pet":
                np.testing.assert_allclose(array, scan.array, atol=scan.array.max() / 65535)
            else:
                np.testing.assert_array_equal(array, scan.array)
            for fact, value in scan.acquisition.items():
                assert visit.image(role).acquisition[fact] == pytest.approx(value)
        for name, mask in masks_of(true).items():
            found, grid = read_mask(visit.image(name).path)
            np.testing.assert_array_equal(found, mask)
    words = [str(v).split("^")[0].encode() for v in PERSONA.values() if isinstance(v, str) and len(v) > 2]
    for path in (tmp_path / "p-1").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [w for w in words if w in data and w != b"Phantom"] and b"Phantom^Made" not in data
    assert not [f for f in check_patient(tmp_path / "p-1") if f.level == "error"]


def test_a_phantom_is_a_patient_folder_with_its_truth_beside_it(phantom: Phantom, tmp_path: Path) -> None:
    write_phantom(phantom, tmp_path, ("t1", "adc"))
    assert not [f for f in check_patient(tmp_path) if f.level == "error"]
    labels, fine = read_image(tmp_path / "truth" / "visit-2-labels.nii.gz")
    np.testing.assert_array_equal(labels, phantom.visits[1].labels)
    assert fine.same_as(phantom.fine)


def test_what_makes_no_phantom_is_refused(phantom: Phantom) -> None:
    with pytest.raises(BadInput, match="too coarse"):
        make_head(9.0, 1, 1.0)
    with pytest.raises(BadInput, match="increasing days"):
        make_phantom(1, days=(5.0, 5.0))
    with pytest.raises(BadInput, match="not scanned for 'fmri'"):
        scan_phantom(phantom, phantom.visits[0], "fmri")
    assert isinstance(phantom.grid, Grid)
