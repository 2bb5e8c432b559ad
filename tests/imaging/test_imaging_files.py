"""Reading and writing: geometry against both libraries, and files that are damaged."""

from __future__ import annotations

import gzip
import logging
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.imaging.read import read_image, read_mask
from vvuq_twin.imaging.resample import voxel_to_world
from vvuq_twin.imaging.write import write_image


def _turned() -> Grid:
    """A grid with its axes turned about two axes and one of them flipped."""
    a, b = 0.4, -0.7
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    turn = about_z @ about_x @ np.diag([1.0, -1.0, 1.0])
    return Grid((7, 6, 5), (0.9, 1.3, 4.0), (12.5, -30.0, 7.25), tuple(turn.ravel()))


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.Generator(np.random.Philox(1)).random((7, 6, 5))


def test_a_written_image_has_the_same_geometry_in_both_libraries(tmp_path: Path, volume: np.ndarray) -> None:
    grid = _turned()
    path = write_image(tmp_path / "field.mean.nii.gz", volume, grid, description="x" * 200)
    array, own = read_image(path)
    assert own.same_as(grid, 1e-4)
    np.testing.assert_allclose(array, volume, atol=1e-7)
    itk = sitk.ReadImage(str(path))
    world = voxel_to_world(grid)
    image = nib.load(path)
    for index in [(0, 0, 0), (6, 5, 4), (3, 0, 2)]:
        expected = (world @ [*index, 1])[:3]
        np.testing.assert_allclose(itk.TransformIndexToPhysicalPoint(index), expected, atol=1e-4)
        for form in (image.get_sform(), image.get_qform()):
            np.testing.assert_allclose((form @ [*index, 1])[:3] * [-1, -1, 1], expected, atol=1e-4)
        assert itk[index] == pytest.approx(volume[index], abs=1e-7)


@pytest.mark.parametrize("ending", ["nii", "nii.gz", "nrrd", "nhdr", "mha", "mhd"])
def test_every_format_gives_the_same_array_and_grid(tmp_path: Path, volume: np.ndarray, ending: str) -> None:
    grid = _turned()
    image = sitk.GetImageFromArray(volume.transpose(2, 1, 0))
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    sitk.WriteImage(image, str(tmp_path / f"a.{ending}"))
    array, own = read_image(tmp_path / f"a.{ending}")
    assert array.dtype == np.float64 and array.flags.c_contiguous
    np.testing.assert_array_equal(array, volume)
    assert own.same_as(grid, 1e-4)


def test_analyze_keeps_values_and_spacing(tmp_path: Path) -> None:
    data = np.arange(60, dtype=np.int16).reshape(5, 4, 3)
    image = sitk.GetImageFromArray(data.transpose(2, 1, 0))
    image.SetSpacing((1.0, 2.0, 3.0))
    sitk.WriteImage(image, str(tmp_path / "a.img"))
    array, grid = read_image(tmp_path / "a.hdr")
    np.testing.assert_array_equal(array, data)
    assert array.dtype == np.int32 and grid.spacing == (1.0, 2.0, 3.0)


def test_a_series_has_time_first(tmp_path: Path, volume: np.ndarray) -> None:
    frames = np.stack([volume, 2 * volume, 3 * volume])
    path = write_image(tmp_path / "s.nii.gz", frames, _turned(), step=4.5)
    array, grid = read_image(path)
    np.testing.assert_allclose(array, frames, atol=1e-6)
    assert grid.same_as(_turned(), 1e-4)
    assert nib.load(path).header.get_zooms()[3] == pytest.approx(4.5)


@pytest.mark.parametrize("ending", ["nii.gz", "nrrd", "img"])
def test_a_series_in_many_files_is_read_in_order_of_their_numbers(
    tmp_path: Path, volume: np.ndarray, ending: str
) -> None:
    for n in (10, 2, 1):
        image = sitk.GetImageFromArray((n * volume).transpose(2, 1, 0))
        sitk.WriteImage(image, str(tmp_path / f"frame{n}.{ending}"))
    array, _ = read_image(tmp_path)
    np.testing.assert_allclose(array, np.stack([volume, 2 * volume, 10 * volume]))
    sitk.WriteImage(sitk.GetImageFromArray(volume), str(tmp_path / f"frame11.{ending}"))
    with pytest.raises(BadInput, match=r"'frame11.* lies on another grid"):
        read_image(tmp_path)


def test_values_per_voxel_in_nrrd_are_a_series(tmp_path: Path, volume: np.ndarray) -> None:
    frames = np.stack([volume, 2 * volume])
    sitk.WriteImage(
        sitk.GetImageFromArray(frames.transpose(3, 2, 1, 0), isVector=True), str(tmp_path / "v.nrrd")
    )
    np.testing.assert_array_equal(read_image(tmp_path / "v.nrrd")[0], frames)


def test_scaled_whole_numbers_are_read_as_their_values(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.diag([1, 1, 1, 1.0]))
    image.header.set_slope_inter(0.5, 2.0)
    nib.save(image, tmp_path / "s.nii")
    expected = np.asarray(nib.load(tmp_path / "s.nii").get_fdata())
    np.testing.assert_allclose(read_image(tmp_path / "s.nii")[0], expected)


@pytest.mark.parametrize("ending", ["nii", "nii.gz", "nrrd", "mha", "img"])
def test_nan_and_infinite_voxels_survive_reading(tmp_path: Path, volume: np.ndarray, ending: str) -> None:
    """ITK's NIfTI reader turns them into zeros."""
    volume[1, 2, 3], volume[4, 0, 1] = np.nan, -np.inf
    sitk.WriteImage(sitk.GetImageFromArray(volume.transpose(2, 1, 0)), str(tmp_path / f"a.{ending}"))
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{ending}")[0], volume)


def test_axes_not_at_right_angles_are_read_and_reported(
    tmp_path: Path, volume: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    affine[0, 1] = 0.02
    image = nib.Nifti1Image(volume, affine)
    image.set_sform(affine, code=1)
    image.set_qform(None, code=0)
    nib.save(image, tmp_path / "sheared.nii")
    with caplog.at_level(logging.WARNING):
        array, grid = read_image(tmp_path / "sheared.nii")
    np.testing.assert_array_equal(array, volume)
    turn = np.array(grid.direction).reshape(3, 3)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert grid.spacing == pytest.approx((1.0, np.hypot(1, 0.02), 2.0))
    assert "right angles" in caplog.text


@pytest.mark.parametrize("ending", ["nii", "nii.gz", "nrrd", "mha", "mhd", "img"])
def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, volume: np.ndarray, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(volume), str(path))
    data = path.with_suffix(".raw") if ending == "mhd" else path
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(BadInput, match=r"patient.yaml: .*cannot be read.*cut short"):
        read_image(path, "patient.yaml")


def test_a_compressed_file_whose_content_was_cut_short_is_refused(tmp_path: Path, volume: np.ndarray) -> None:
    write_image(tmp_path / "a.nii", volume, _turned())
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()[:-40]))
    with pytest.raises(BadInput, match="cannot be read"):
        read_image(tmp_path / "b.nii.gz")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gone.nii", None, "does not exist"),
        ("empty.nii", b"", "is empty"),
        ("text.nii", b"hello" * 200, "cannot be read"),
        ("text.nrrd", b"hello" * 200, "cannot be read"),
        ("photo.jpg", b"x", "no format"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=said):
        read_image(tmp_path / name)


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="0 DICOM series"):
        read_image(tmp_path)


def test_masks_are_booleans_and_labels_are_refused(tmp_path: Path) -> None:
    grid = Grid((3, 3, 3), (1.0, 1.0, 1.0))
    labels = np.zeros((3, 3, 3), dtype=np.int32)
    labels[1] = 5
    write_image(tmp_path / "m.nii.gz", labels, grid)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.nii.gz")[0], labels == 5)
    labels[2] = 6
    write_image(tmp_path / "m.nii.gz", labels, grid)
    with pytest.raises(BadInput, match="other than 0 and one more"):
        read_mask(tmp_path / "m.nii.gz")


def test_a_folder_that_cannot_be_written_leaves_nothing(tmp_path: Path, volume: np.ndarray) -> None:
    if os.geteuid() == 0:
        (tmp_path / "out").write_text("a file where the folder should be")
    else:
        (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(BadInput, match=r"out"):
        write_image(tmp_path / "out" / "a.nii.gz", volume, _turned())
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_shape_that_is_not_the_grids_is_a_programming_error(tmp_path: Path, volume: np.ndarray) -> None:
    with pytest.raises(ValueError, match="cannot write"):
        write_image(tmp_path / "a.nii.gz", volume[1:], _turned())


def test_the_real_brain_scan_and_its_outline_share_a_grid(shared_data: Path) -> None:
    folder = shared_data / "brain_tumour_mri"
    if not folder.is_dir():
        pytest.skip("brain_tumour_mri is not among the shared data")
    image, grid = read_image(folder / "brain1_image.nrrd")
    mask, own = read_mask(folder / "brain1_label.nrrd")
    assert image.shape == grid.shape == (256, 256, 25) and own.same_as(grid)
    labelled = sitk.LabelShapeStatisticsImageFilter()
    labelled.Execute(sitk.ReadImage(str(folder / "brain1_label.nrrd")))
    assert int(mask.sum()) == labelled.GetNumberOfPixels(1)
    # the outline's centre, in mm, by SimpleITK and by our indices
    centre = (voxel_to_world(grid) @ [*np.argwhere(mask).mean(axis=0), 1])[:3]
    np.testing.assert_allclose(centre, labelled.GetCentroid(1), atol=1e-6)
