"""Out again: what others read is what was written."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import meshio
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_cases import GRID, facts, study, truth

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.imaging.dicom.encode import write_series
from vvuq_twin.imaging.dicom.intake import import_dicom
from vvuq_twin.imaging.dicom.objects import read_sources, write_dose, write_map, write_segmentation
from vvuq_twin.imaging.dicom.outlines import fill, read_outlines
from vvuq_twin.imaging.export import export_patient
from vvuq_twin.imaging.mesh import enclosed, surface, volume, write_surface, write_volume
from vvuq_twin.imaging.read import read_image, read_mask
from vvuq_twin.imaging.resample import voxel_to_world


def _masks(grid: Grid = GRID) -> dict[str, np.ndarray]:
    i, j, k = np.indices(grid.shape)
    tumour = (i - 6) ** 2 + (j - 5) ** 2 + 6 * (k - 2) ** 2 <= 14
    return {"tumour": tumour, "necrosis": tumour & (i == 6) & (j == 5), "brain": np.ones(grid.shape, bool)}


@pytest.fixture
def sources(tmp_path: Path) -> list[pydicom.Dataset]:
    return read_sources(write_series(tmp_path / "in", truth()["t1"], GRID, study(), facts("t1")))


def test_a_segmentation_object_holds_the_masks(tmp_path: Path, sources: list[pydicom.Dataset]) -> None:
    path = write_segmentation(tmp_path / "seg.dcm", _masks(), GRID, sources)
    seg = hd.seg.segread(path)
    assert [
        d.segment_label for d in seg.SegmentSequence and [seg.get_segment_description(n) for n in (1, 2, 3)]
    ] == list(_masks())
    assert seg.StudyInstanceUID == sources[0].StudyInstanceUID
    assert seg.FrameOfReferenceUID == sources[0].FrameOfReferenceUID
    for outline in read_outlines(path):
        np.testing.assert_array_equal(outline.draw(GRID), _masks()[outline.role])
    with pytest.raises(BadInput, match="every mask is empty"):
        write_segmentation(tmp_path / "no.dcm", {"tumour": np.zeros(GRID.shape, bool)}, GRID, sources)


def test_a_parametric_map_keeps_values_unit_and_places(
    tmp_path: Path, sources: list[pydicom.Dataset]
) -> None:
    values = 1e-6 * truth()["adc"]
    values[3, 2, 1] = np.nan
    path = write_map(tmp_path / "map.dcm", values, GRID, "adc", "mm2/s", sources)
    made = hd.pm.ParametricMap.from_dataset(pydicom.dcmread(path))
    own = made.get_volume(apply_real_world_transform=True)
    world = voxel_to_world(GRID)
    if own.affine[:3, 0] @ world[:3, 2] < 0:  # highdicom may count the slices from the other end
        own = own.flip_spatial(0)
    np.testing.assert_array_equal(own.array.transpose(2, 1, 0), values)
    np.testing.assert_allclose(own.affine[:3, [2, 1, 0, 3]], world[:3], atol=1e-6)
    array, grid = read_image(path)  # by our own reader as well
    np.testing.assert_array_equal(array, values)
    assert grid.same_as(GRID, 1e-4)
    code = (
        made.SharedFunctionalGroupsSequence[0]
        .RealWorldValueMappingSequence[0]
        .MeasurementUnitsCodeSequence[0]
    )
    assert code.CodeValue == "mm2/s"
    with pytest.raises(BadInput, match="has no code"):
        write_map(tmp_path / "no.dcm", values, GRID, "x", "furlong", sources)


def test_a_dose_keeps_its_values_and_places(tmp_path: Path, sources: list[pydicom.Dataset]) -> None:
    dose = truth()["adc"] / 100.0
    path = write_dose(tmp_path / "dose.dcm", dose, GRID, sources)
    array, grid = read_image(path)
    np.testing.assert_allclose(array, dose, rtol=0, atol=1e-8 * dose.max())
    assert grid.same_as(GRID, 1e-4)
    ds = pydicom.dcmread(path)
    assert ds.DoseUnits == "GY" and ds.NumberOfFrames == GRID.shape[2]
    itk = sitk.ReadImage(str(path))
    stored = sitk.GetArrayFromImage(itk).transpose(2, 1, 0)
    np.testing.assert_allclose(float(ds.DoseGridScaling) * stored, dose, rtol=1e-6)
    assert itk.GetOrigin() == pytest.approx(GRID.origin, abs=1e-4)
    with pytest.raises(BadInput, match="negative"):
        write_dose(tmp_path / "no.dcm", -dose, GRID, sources)


def test_outlines_of_an_export_become_masks_of_their_visit(
    tmp_path: Path, sources: list[pydicom.Dataset]
) -> None:
    write_segmentation(tmp_path / "in" / "seg.dcm", _masks(), GRID, sources)
    import_dicom(tmp_path / "in", tmp_path / "p-1")
    for name, mask in _masks().items():
        found, grid = read_mask(tmp_path / "p-1" / "visit-1" / f"{name}.nii.gz")
        np.testing.assert_array_equal(found, mask)
        assert grid.same_as(GRID, 1e-4)


def test_an_outline_of_another_visit_is_refused(tmp_path: Path) -> None:
    """Drawn far away on images that are not in the export, under this visit's study."""
    far = Grid(GRID.shape, GRID.spacing, (900.0, 0.0, 0.0), GRID.direction)
    other = read_sources(write_series(tmp_path / "other", truth()["t1"], far, study(), facts("t1")))
    write_series(tmp_path / "in", truth()["t1"], GRID, study(), facts("t1"))
    write_segmentation(tmp_path / "in" / "seg.dcm", {"tumour": _masks()["tumour"]}, far, other)
    with pytest.raises(BadInput, match="outline lies outside the images of its visit"):
        import_dicom(tmp_path / "in", tmp_path / "p-1")
    stranger = read_sources(write_series(tmp_path / "third", truth()["t1"], GRID, study(5), facts("t1")))
    write_segmentation(tmp_path / "in" / "seg.dcm", {"tumour": _masks()["tumour"]}, GRID, stranger)
    with pytest.raises(BadInput, match="belong to no image in the folder"):
        import_dicom(tmp_path / "in", tmp_path / "p-1")
    assert not (tmp_path / "p-1").exists()


def test_contours_are_filled_with_their_holes() -> None:
    world = voxel_to_world(GRID)

    def ring(radius: float, k: float) -> np.ndarray:
        angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        index = np.stack([6 + radius * np.cos(angle), 5.5 + radius * np.sin(angle), np.full(60, k)], axis=1)
        return index @ world[:3, :3].T + world[:3, 3]

    mask = fill([ring(4.3, 2), ring(1.6, 2), ring(3.0, 3)], GRID, Path("rt.dcm"))
    i, j = np.indices(GRID.shape[:2])
    distance = np.hypot(i - 6, j - 5.5)
    np.testing.assert_array_equal(mask[:, :, 2], (distance < 4.3) & (distance > 1.6))
    np.testing.assert_array_equal(mask[:, :, 3], distance < 3.0)
    assert not mask[:, :, [0, 1, 4]].any()
    with pytest.raises(BadInput, match="does not lie in a slice"):
        fill([ring(3.0, 2.5)], GRID, Path("rt.dcm"))


def test_a_surface_holds_the_masks_volume() -> None:
    grid = Grid((30, 30, 30), (1.0, 1.0, 1.0), (3.0, -4.0, 5.0), GRID.direction)
    i, j, k = np.indices(grid.shape) - 15.0
    ball = i**2 + j**2 + k**2 <= 100.0
    points, triangles = surface(ball, grid)
    assert enclosed(points, triangles) == pytest.approx(ball.sum(), rel=1e-3)
    centre = (voxel_to_world(grid) @ [15, 15, 15, 1])[:3]
    radii = np.linalg.norm(points - centre, axis=1)
    assert radii.mean() == pytest.approx(10.0, abs=0.2) and radii.std() < 0.35
    edges = np.sort(
        np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1
    )
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()  # closed


@pytest.mark.parametrize("flip", [1.0, -1.0])
def test_tetrahedra_fill_the_voxels(tmp_path: Path, flip: float) -> None:
    turn = np.array(GRID.direction).reshape(3, 3) @ np.diag([1.0, 1.0, flip])
    grid = Grid(GRID.shape, GRID.spacing, GRID.origin, tuple(float(v) for v in turn.ravel()))
    mask = _masks()["tumour"]
    points, cells = volume(mask, grid)
    a, b, c, d = (points[cells[:, n]] for n in range(4))
    volumes = np.einsum("ij,ij->i", np.cross(b - a, c - a), d - a) / 6.0
    np.testing.assert_allclose(volumes, grid.voxel_volume / 6.0, rtol=1e-9)
    faces = np.sort(
        np.concatenate([cells[:, f] for f in ([0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3])]), axis=1
    )
    assert np.unique(faces, axis=0, return_counts=True)[1].max() == 2  # neighbours share whole faces
    adc = truth()["adc"]
    mesh = meshio.read(write_volume(tmp_path / "v.vtk", mask, grid, {"adc": adc}))
    values = mesh.cell_data["adc"][0].reshape(-1, 6)
    np.testing.assert_allclose(values, adc[mask][:, None].repeat(6, axis=1))
    middle = mesh.points[mesh.cells[0].data].reshape(-1, 24, 3).mean(axis=1)
    expected = np.argwhere(mask) @ voxel_to_world(grid)[:3, :3].T + grid.origin
    assert np.abs(middle - expected).max() < max(grid.spacing)
    assert len(meshio.read(write_surface(tmp_path / "s.stl", mask, grid)).cells[0].data) > 20
    with pytest.raises(BadInput, match="empty"):
        volume(np.zeros(grid.shape, bool), grid)


@pytest.mark.parametrize("kind", ["dicom", "nifti"])
def test_a_patient_is_exported_whole(tmp_path: Path, sources: list[pydicom.Dataset], kind: str) -> None:
    write_series(tmp_path / "in", truth()["adc"], GRID, study(), facts("adc"))
    write_segmentation(tmp_path / "in" / "seg.dcm", _masks(), GRID, sources)
    import_dicom(tmp_path / "in", tmp_path / "p-1")
    if kind == "nifti":
        import shutil

        shutil.rmtree(tmp_path / "p-1" / "visit-1" / "dicom")
    files = export_patient(tmp_path / "p-1", tmp_path / "out")
    names = {str(f.relative_to(tmp_path / "out" / "visit-1")) for f in files if "images" not in str(f)}
    assert names == {
        "nifti/t1.nii.gz", "nifti/adc.nii.gz", "nifti/tumour.nii.gz", "nifti/necrosis.nii.gz", "nifti/brain.nii.gz",
        "dicom/masks.dcm", "dicom/adc.dcm", "vtk/tumour-surface.vtk", "vtk/tumour-volume.vtk",
    }  # fmt: skip
    adc, _ = read_image(tmp_path / "out" / "visit-1" / "dicom" / "adc.dcm")
    np.testing.assert_allclose(adc, 1e-6 * truth()["adc"], atol=3e-8)
    seg = pydicom.dcmread(tmp_path / "out" / "visit-1" / "dicom" / "masks.dcm")
    assert str(seg.PatientID) == "p-1"
    with pytest.raises(BadInput, match="not empty"):
        export_patient(tmp_path / "p-1", tmp_path / "out")
