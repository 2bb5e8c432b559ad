"""DICOM in: an export of known values against what comes out, in both layouts and every vendor's places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_cases import DYNAMIC, GRID, NAMES, TIMES, facts, study, truth, write_visit

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.patient import load_patient
from vvuq_twin.imaging.check import check_patient
from vvuq_twin.imaging.dicom.encode import SeriesFacts, write_series
from vvuq_twin.imaging.dicom.facts import as_number, csa_value
from vvuq_twin.imaging.dicom.intake import import_dicom
from vvuq_twin.imaging.dicom.plan import plan_import
from vvuq_twin.imaging.read import read_image
from vvuq_twin.imaging.resample import voxel_to_world
from vvuq_twin.imaging.visit import read_map


@pytest.mark.parametrize("vendor", ["standard", "Siemens", "GE", "Philips"])
@pytest.mark.parametrize("layout", ["classic", "enhanced"])
def test_an_export_comes_out_equal_to_the_truth(tmp_path: Path, layout: str, vendor: str) -> None:
    values = write_visit(tmp_path / "export", layout=layout, vendor=vendor)
    plan = import_dicom(tmp_path / "export", tmp_path / "p-001")
    patient = load_patient(tmp_path / "p-001")
    (visit,) = patient.visits
    assert set(visit.images) == {"t1", "dce", "dwi", "adc"} and plan.notes == ()
    for name in ("t1", "dce", "dwi"):
        array, grid = read_image(visit.images[name].path)
        np.testing.assert_array_equal(array, values[name])
        assert grid.same_as(GRID, 1e-4)
    adc, _, unit = read_map(visit.image("adc"))
    assert unit == "mm2/s" and visit.image("adc").unit == "1e-6 mm2/s"
    np.testing.assert_allclose(adc, 1e-6 * values["adc"], atol=1e-6 * values["adc"].max() / 65535)
    assert visit.image("dce").acquisition["frame_times_s"] == pytest.approx(TIMES, abs=1e-3)
    for fact, value in DYNAMIC.items():
        assert visit.image("dce").acquisition[fact] == value
    assert visit.image("dwi").acquisition["b_values_s_per_mm2"] == [0.0, 400.0, 800.0]
    assert not [f for f in check_patient(tmp_path / "p-001") if f.level == "error"]


@pytest.mark.parametrize("layout", ["classic", "enhanced"])
def test_what_is_written_is_what_simpleitk_reads(tmp_path: Path, layout: str) -> None:
    """Values and places of a written series by ITK's own DICOM reader."""
    volume = truth()["t1"]
    files = write_series(tmp_path, volume, GRID, study(), facts("t1"), layout)
    image = sitk.ReadImage([str(f) for f in files] if len(files) > 1 else str(files[0]))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).transpose(2, 1, 0), volume)
    world = voxel_to_world(GRID)
    for index in [(0, 0, 0), (13, 11, 4), (3, 7, 1)]:
        expected = (world @ [*index, 1])[:3]
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index), expected, atol=1e-4)


def test_our_reading_of_a_series_is_simpleitks(tmp_path: Path) -> None:
    """Slices with scales of their own, as PET has them, files in an order that says nothing."""
    rng = np.random.Generator(np.random.Philox(5))
    for k in range(GRID.shape[2]):
        one = rng.uniform(0, 10.0 ** (k + 1), (*GRID.shape[:2], 1))
        direction = np.array(GRID.direction).reshape(3, 3)
        at = tuple(float(x) for x in np.array(GRID.origin) + 3.0 * k * direction[:, 2])
        slab = type(GRID)((*GRID.shape[:2], 1), GRID.spacing, at, GRID.direction)
        pet = SeriesFacts(7, "PT", "pet", unit="Bq/mL", attributes={"CorrectedImage": ["ATTN", "DECY"]})
        (file,) = write_series(tmp_path / f"{(3 * k) % 5}", one, slab, study(), pet)
        ds = pydicom.dcmread(file)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ds.SOPInstanceUID}.{k}"
        ds.save_as(file)
    array, grid = read_image(tmp_path)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(next((tmp_path / f"{(3 * k) % 5}").iterdir())) for k in range(GRID.shape[2])])
    reader.SetOutputPixelType(sitk.sitkFloat64)
    itk = reader.Execute()
    np.testing.assert_allclose(array, sitk.GetArrayFromImage(itk).transpose(2, 1, 0), rtol=1e-9)
    assert grid.same_as(GRID, 1e-4) and array.max() > 1e4


@pytest.mark.parametrize("codec", ["JPEG2000", "JPEG"])
def test_compressed_pixels_are_unpacked(tmp_path: Path, codec: str) -> None:
    volume = truth()["t1"]
    files = write_series(tmp_path / "plain", volume, GRID, study(), facts("t1"))
    for file in files:
        writer = sitk.ImageFileWriter()
        writer.UseCompressionOn()
        writer.SetCompressor(codec)
        writer.SetFileName(str(tmp_path / "one.dcm"))
        writer.Execute(sitk.Cast(sitk.ReadImage(str(file)), sitk.sitkUInt16))
        packed, ds = pydicom.dcmread(tmp_path / "one.dcm"), pydicom.dcmread(file)
        ds["PixelData"] = packed["PixelData"]
        ds.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID
        assert packed.file_meta.TransferSyntaxUID.is_compressed
        (tmp_path / "packed").mkdir(exist_ok=True)
        ds.save_as(tmp_path / "packed" / file.name)
    array, grid = read_image(tmp_path / "packed")
    np.testing.assert_array_equal(array, volume)
    assert grid.same_as(GRID, 1e-3)


def test_frames_of_an_enhanced_file_keep_their_own_scale(tmp_path: Path) -> None:
    """ITK applies the first frame's scale to all."""
    frames = np.stack([truth()["adc"] * s for s in (1.0, 7.0, 0.01)])
    dynamic = SeriesFacts(
        2, "MR", "dynamic", common=DYNAMIC, volumes=[{"time_s": t} for t in (0.0, 1.0, 2.0)]
    )
    (file,) = write_series(tmp_path, frames, GRID, study(), dynamic, "enhanced")
    array, _ = read_image(file)
    for mine, true in zip(array, frames):
        np.testing.assert_allclose(mine, true, atol=true.max() / 65535)


def test_philips_signals_are_freed_from_the_scale_to_the_screen(tmp_path: Path) -> None:
    files = write_series(tmp_path, truth()["t1"], GRID, study(), facts("t1"), vendor="Philips")
    for file in files:
        ds = pydicom.dcmread(file)
        ds.RescaleSlope, ds.RescaleIntercept = 2.5, 0.0
        ds.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", 0.5)
        ds.save_as(file)
    import_dicom(tmp_path, tmp_path.parent / "p-1")
    array, _ = read_image(tmp_path.parent / "p-1" / "visit-1" / "t1.nii.gz")
    np.testing.assert_allclose(array, truth()["t1"] / 0.5)


def test_a_dynamic_series_spread_over_series_and_a_flip_angle_set_are_joined(tmp_path: Path) -> None:
    dce = truth()["dce"]
    for n, (volume, time) in enumerate(zip(dce, TIMES)):
        one = SeriesFacts(20 + n, "MR", f"dyn {n}", common=DYNAMIC, start_s=600.0 + time)
        write_series(tmp_path / "in", volume, GRID, study(), one)
    flips = [2.0, 10.0, 20.0]
    for n in (2, 0, 1):
        common = {**DYNAMIC, "repetition_time_ms": 5.0, "flip_angle_deg": flips[n]}
        one = SeriesFacts(40 - n, "MR", f"vfa {flips[n]:g} deg", common=common)
        write_series(tmp_path / "in", (n + 1) * dce[0], GRID, study(), one)
    import_dicom(tmp_path / "in", tmp_path / "p-1")
    (visit,) = load_patient(tmp_path / "p-1").visits
    array, _ = read_image(visit.image("dce").path)
    np.testing.assert_array_equal(array, dce)
    assert visit.image("dce").acquisition["frame_times_s"] == pytest.approx(TIMES, abs=1e-3)
    array, _ = read_image(visit.image("vfa").path)
    np.testing.assert_array_equal(array, np.stack([dce[0], 2 * dce[0], 3 * dce[0]]))
    assert visit.image("vfa").acquisition["flip_angles_deg"] == flips


def test_activity_is_read_with_its_delay(tmp_path: Path) -> None:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.RadionuclideTotalDose, item.RadionuclideHalfLife = 3.7e8, 6586.2
    item.RadiopharmaceuticalStartTime = "083000"
    pet = SeriesFacts(
        5, "PT", "pet", unit="Bq/mL", start_s=60.0,
        attributes={"RadiopharmaceuticalInformationSequence": [item], "DecayCorrection": "START",
                    "CorrectedImage": ["ATTN", "DECY"]},
    )  # fmt: skip
    write_series(tmp_path / "in", truth()["adc"], GRID, study(), pet)
    import_dicom(tmp_path / "in", tmp_path / "p-1")
    patient = load_patient(tmp_path / "p-1")
    known = patient.visits[0].image("pet").acquisition
    assert known["injected_activity_Bq"] == 3.7e8 and known["half_life_s"] == 6586.2
    # injected at 8:30, the series began at 9:31
    assert (
        known["injection_to_reference_s"] == pytest.approx(61 * 60) and known["decay_correction"] == "START"
    )
    assert patient.body_mass == 70.0 and patient.visits[0].image("pet").unit == "Bq/mL"


def test_visits_are_days_from_the_first(tmp_path: Path) -> None:
    write_visit(tmp_path / "in", 0)
    write_visit(tmp_path / "in", 1, days=35)
    import_dicom(tmp_path / "in", tmp_path / "p-1")
    assert [v.day for v in load_patient(tmp_path / "p-1").visits] == [0, 35]


@pytest.mark.parametrize(
    ("value", "number"),
    [(b"800\\8\\0\\0 ", 800.0), (b"800 ", 800.0), (np.float32(1.5).tobytes(), 1.5), (np.float64(50.0).tobytes(), 50.0),
     ("7", 7.0), ([3, 4], 3.0), ("", None), (None, None), ("nan", None), (b"", None)],
)  # fmt: skip
def test_numbers_in_every_spelling(value: object, number: float | None) -> None:
    assert as_number(value) == number


def test_siemens_csa_header() -> None:
    def entry(name: str, values: list[str]) -> bytes:
        head = (
            name.encode().ljust(64, b"\0")
            + b"\1\0\0\0"
            + b"IS\0\0"
            + b"\0\0\0\0"
            + len(values).to_bytes(4, "little")
            + b"\xcd\0\0\0"
        )
        for v in values:
            text = v.encode() + b"\0"
            head += len(text).to_bytes(4, "little") * 4 + text.ljust((len(text) + 3) // 4 * 4, b"\0")
        return head

    data = (
        b"SV10\4\3\2\1"
        + (2).to_bytes(4, "little")
        + b"M\0\0\0"
        + entry("EchoLinePosition", ["64", ""])
        + entry("B_value", ["1000"])
    )
    assert csa_value(data, "B_value") == "1000" and csa_value(data, "absent") is None
    assert csa_value(data[:100], "B_value") is None and csa_value(b"none", "B_value") is None


def _doubt(folder: Path, said: str) -> None:
    """Refused with the sentence; the dry run names it too; nothing is written."""
    with pytest.raises(BadInput, match=said) as caught:
        import_dicom(folder, folder.parent / "p-1")
    assert str(caught.value).count("\n") == 0
    assert [p for p in folder.parent.iterdir() if p != folder] == []
    assert any(said in str(f) for f in plan_import(folder).faults)


def test_a_missing_slice_is_named(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", truth()["t1"], GRID, study(), facts("t1"))
    files[2].unlink()
    _doubt(tmp_path / "in", "1 slice is missing after slice 2 of 5")


def test_a_missing_frame_of_a_dynamic_series_is_named(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", truth()["dce"], GRID, study(), facts("dce"))
    files[11].unlink()
    _doubt(tmp_path / "in", "slice 2 has 5 images where others have 6")


def test_uneven_slices_are_named(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", truth()["t1"], GRID, study(), facts("t1"))
    ds = pydicom.dcmread(files[2])
    direction = np.array(GRID.direction).reshape(3, 3)
    ds.ImagePositionPatient = [float(v) for v in np.array(ds.ImagePositionPatient) + 0.9 * direction[:, 2]]
    ds.save_as(files[2])
    _doubt(tmp_path / "in", "not evenly spaced")


def test_mixed_sizes_under_one_number_are_named(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", truth()["t1"], GRID, study(), facts("t1"))
    small = type(GRID)((6, 6, 1), GRID.spacing, (0.0, 0.0, 90.0), GRID.direction)
    (extra,) = write_series(tmp_path / "in" / "b", np.ones((6, 6, 1), int), small, study(), facts("t1"))
    assert pydicom.dcmread(extra).SeriesInstanceUID == pydicom.dcmread(files[0]).SeriesInstanceUID
    _doubt(tmp_path / "in", "mixes images of different sizes")


def test_doubled_images_that_nothing_tells_apart_are_named(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", truth()["t1"], GRID, study(), facts("t1"))
    for file in files:
        (file.parent / f"copy-{file.name}").write_bytes(file.read_bytes())
    _doubt(tmp_path / "in", "nothing in their headers tells them apart")


@pytest.mark.parametrize("where", ["header", "pixels"])
def test_an_unreadable_file_in_the_middle_of_a_series_is_named(tmp_path: Path, where: str) -> None:
    files = write_series(tmp_path / "in", truth()["t1"], GRID, study(), facts("t1"))
    whole = files[2].read_bytes()
    files[2].write_bytes(whole[:300] + b"\xff" * 90 if where == "header" else whole[:-100])
    with pytest.raises(BadInput, match=f"{files[2].name}.*cannot be read.*export it again"):
        import_dicom(tmp_path / "in", tmp_path / "p-1")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_two_patients_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "in" / "a", truth()["t1"], GRID, study(), facts("t1"))
    write_series(tmp_path / "in" / "b", truth()["t1"], GRID, study(1, 3, PatientID="other"), facts("t1"))
    _doubt(tmp_path / "in", "images of 2 patients")


def test_a_map_without_a_unit_is_told_and_not_used(tmp_path: Path) -> None:
    for file in write_series(tmp_path / "in", truth()["adc"], GRID, study(), facts("adc")):
        ds = pydicom.dcmread(file)
        del ds.RealWorldValueMappingSequence
        ds.save_as(file)
    write_series(tmp_path / "in", truth()["t1"], GRID, study(), facts("t1"))
    plan = import_dicom(tmp_path / "in", tmp_path / "p-1")
    assert set(load_patient(tmp_path / "p-1").visits[0].images) == {"t1"}
    assert any("series 4 looks like adc, but its files do not declare the unit" in n for n in plan.notes)
    # what was kept can be named in patient.yaml as it is
    array, grid = read_image(tmp_path / "p-1" / "visit-1" / "dicom" / "series-4-adc")
    np.testing.assert_allclose(array, truth()["adc"], atol=0.03)
    assert grid.same_as(GRID, 1e-4)


@pytest.mark.parametrize(
    ("name", "said"), [("doe-1", "name or number"), ("a b", "pseudonym"), ("mrn-4711", "name or number")]
)
def test_a_folder_that_would_name_the_patient_is_refused(tmp_path: Path, name: str, said: str) -> None:
    write_series(tmp_path / "in", truth()["t1"], GRID, study(), facts("t1"))
    with pytest.raises(BadInput, match=said):
        import_dicom(tmp_path / "in", tmp_path / name)
    assert NAMES["PatientID"] == "MRN-4711" and [p.name for p in tmp_path.iterdir()] == ["in"]


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    write_series(tmp_path / "in", truth()["t1"], GRID, study(), facts("t1"))
    with pytest.raises(BadInput, match="not empty"):
        import_dicom(tmp_path / "in", tmp_path / "in")


def test_ten_thousand_files_of_other_kinds_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for n in range(10_000):
        (tmp_path / "in" / f"{n}.txt").write_bytes(b"no image")
    with pytest.raises(BadInput, match="holds 10000 files, none of them a DICOM image"):
        import_dicom(tmp_path / "in", tmp_path / "p-1")
    write_series(tmp_path / "in" / "deep" / "er", truth()["t1"], GRID, study(), facts("t1"))
    plan = import_dicom(tmp_path / "in", tmp_path / "p-1")
    assert plan.notes == ("10000 files are of other kinds left out.",)
    np.testing.assert_array_equal(read_image(tmp_path / "p-1" / "visit-1" / "t1.nii.gz")[0], truth()["t1"])
