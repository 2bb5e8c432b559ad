"""Registration: known displacements recovered, the error they are given with, and what resampling must keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from scipy import ndimage

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.domain.patient import load_patient
from vvuq_twin.imaging.alignment import align, foreground, lie_on, moved
from vvuq_twin.imaging.bias import without_shading
from vvuq_twin.imaging.bring import bring_together, registration_columns
from vvuq_twin.imaging.check import check_patient
from vvuq_twin.imaging.conserve import activity_on, mask_on
from vvuq_twin.imaging.itk import from_itk, to_itk
from vvuq_twin.imaging.read import read_image
from vvuq_twin.imaging.resample import voxel_to_world
from vvuq_twin.imaging.write import write_image

SMALL = Grid((44, 40, 30), (2.0, 2.0, 2.5), (-40.0, -35.0, 10.0))


def _rigid(
    grid: Grid, turn: tuple[float, ...] = (2.0, -1.5, 4.0), shift: tuple[float, ...] = (5.3, -3.7, 2.9)
) -> Any:
    transform = sitk.Euler3DTransform()
    transform.SetCenter(_centre(grid))
    transform.SetRotation(*(float(np.deg2rad(a)) for a in turn))
    transform.SetTranslation(shift)
    return transform


def _centre(grid: Grid) -> list[float]:
    return [float(v) for v in (voxel_to_world(grid) @ [*(np.array(grid.shape) - 1) / 2, 1])[:3]]


def _displaced(image: np.ndarray, grid: Grid, inverse: Any, noise: float, seed: int = 1) -> np.ndarray:
    """A copy that lies elsewhere, by fifth-order splines, with noise; NaN where nothing was scanned."""
    out = from_itk(
        sitk.Resample(to_itk(image, grid), to_itk(image, grid), inverse, sitk.sitkBSpline5, np.nan)
    )
    return out + noise * np.random.Generator(np.random.Philox(seed)).standard_normal(out.shape)


def _error(found: Any, true: Any, grid: Grid, region: np.ndarray) -> tuple[float, float]:
    """Mean error over a region, in voxels (each axis by its own size) and in mm."""
    index = np.argwhere(region)[::37]
    matrix = voxel_to_world(grid)
    points = index @ matrix[:3, :3].T + matrix[:3, 3]
    off = moved(found, points) - moved(true, points)
    voxels = off @ np.array(grid.direction).reshape(3, 3) / np.array(grid.spacing)
    return float(np.linalg.norm(voxels, axis=1).mean()), float(np.linalg.norm(off, axis=1).mean())


def _head() -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(7))
    i, j, k = (np.indices(SMALL.shape) * np.array(SMALL.spacing).reshape(3, 1, 1, 1)) - 40.0
    inside = (i / 34) ** 2 + (j / 30) ** 2 + ((k + 2) / 30) ** 2 < 1
    texture = sum(ndimage.gaussian_filter(rng.standard_normal(SMALL.shape), s) * s**1.5 for s in (1.5, 3.0))
    return ndimage.gaussian_filter(np.where(inside, 300.0 + 500.0 * texture, 5.0), 0.8)  # as a scanner blurs


@pytest.mark.slow
@pytest.mark.parametrize("same", [True, False])
def test_a_displaced_copy_of_a_real_scan_is_found_to_a_tenth_of_a_voxel(
    shared_data: Path, same: bool
) -> None:
    folder = shared_data / "brain_tumour_mri"
    if not folder.is_dir():
        pytest.skip("brain_tumour_mri is not among the shared data")
    image, grid = read_image(folder / "brain1_image.nrrd")
    true = _rigid(grid)
    found = align(
        image.astype(float), grid, _displaced(image, grid, true.GetInverse(), 20.0), grid, same_contrast=same
    )
    voxels, mm = _error(found.transform, true, grid, foreground(image))
    assert voxels < 0.1 and found.before < 0.4 < 0.95 < found.after
    assert 0.3 * mm < found.error_mm < 10 * mm  # the error it is given with is not an understatement
    assert len(found.starts) == found.tried


def test_a_rigid_displacement_is_found_with_an_error_that_covers_it() -> None:
    image = _head()
    true = _rigid(SMALL)
    copy = _displaced(image, SMALL, true.GetInverse(), 5.0)
    found = align(image, SMALL, copy, SMALL)
    voxels, mm = _error(found.transform, true, SMALL, image > 100)
    assert voxels < 0.1 and mm < 3 * found.error_mm
    again = align(image, SMALL, copy, SMALL)
    assert again.transform.GetParameters() == found.transform.GetParameters()
    points = np.array([[0.0, 0.0, 40.0], [20.0, 5.0, 50.0]])
    np.testing.assert_allclose(found.displacement(points), moved(true, points) - points, atol=0.4)
    assert (found.spread(points) > 0).all()
    assert found.residual(points, moved(true, points)).max() < 0.7
    assert found.residual(points, points).min() > 2.0
    # carried on: what the registration's error does to each voxel, together and alone
    columns = registration_columns(copy, SMALL, SMALL, found)
    sd = np.sqrt((columns**2).sum(axis=0))
    gradient = np.linalg.norm(np.gradient(image, *SMALL.spacing), axis=0)
    inside = ndimage.binary_erosion(image > 100, iterations=3)
    assert np.corrcoef(sd[inside], gradient[inside])[0, 1] > 0.5
    assert sd[inside].mean() < found.error_mm * gradient[inside].mean() * 2


@pytest.mark.slow
def test_a_smooth_deformation_is_found() -> None:
    image = _head()
    rng = np.random.Generator(np.random.Philox(4))
    true = sitk.BSplineTransformInitializer(to_itk(image, SMALL), [2, 2, 1], 3)
    true.SetParameters([float(v) for v in 2.5 * rng.standard_normal(len(true.GetParameters()))])
    field = sitk.TransformToDisplacementField(
        true, sitk.sitkVectorFloat64, SMALL.shape, SMALL.origin, SMALL.spacing, SMALL.direction
    )
    inverse = sitk.DisplacementFieldTransform(sitk.IterativeInverseDisplacementField(field, 30))
    copy = _displaced(image, SMALL, inverse, 5.0)
    inside = ndimage.binary_erosion(image > 100, iterations=3)
    rigid = align(image, SMALL, copy, SMALL, starts=2)
    bent = align(image, SMALL, copy, SMALL, "deformable", starts=2)
    before, after = (_error(a.transform, true, SMALL, inside)[0] for a in (rigid, bent))
    assert after < 0.35 * before and after < 0.25 and bent.after > rigid.after


def test_images_that_share_nothing_are_refused() -> None:
    rng = np.random.Generator(np.random.Philox(1))
    a, b = rng.standard_normal((2, *SMALL.shape))
    with pytest.raises(BadInput, match=r"not sure|do not overlap"):
        align(a, SMALL, b, SMALL, region=np.ones(SMALL.shape, bool), starts=4)
    with pytest.raises(BadInput, match="constant"):
        align(np.ones(SMALL.shape), SMALL, a, SMALL)


def test_masks_keep_their_volume_and_activity_its_sum() -> None:
    i, j, k = np.indices(SMALL.shape)
    true = _rigid(SMALL, (8.0, -6.0, 15.0), (3.3, -2.1, 4.7))
    for radius in (1.3, 2.2, 6.0):
        mask = (i - 22) ** 2 + (j - 20) ** 2 + (k - 15) ** 2 <= radius**2
        placed = mask_on(mask, SMALL, SMALL, true)
        assert abs(int(placed.sum()) - int(mask.sum())) <= max(2, 0.1 * mask.sum())
        centre = (voxel_to_world(SMALL) @ [*np.argwhere(placed).mean(axis=0), 1])[:3]
        there = (voxel_to_world(SMALL) @ [22, 20, 15, 1])[:3]
        np.testing.assert_allclose(moved(true, centre[None])[0], there, atol=0.8)
    hot = 1e4 * np.exp(-((i - 22) ** 2 + (j - 20) ** 2 + (k - 15) ** 2) / 18.0)
    coarse = Grid((20, 18, 16), (4.5, 4.6, 5.1), (-42.0, -37.0, 8.0))
    bent = sitk.BSplineTransformInitializer(to_itk(hot, SMALL), [2, 2, 1], 3)
    bent.SetParameters(
        [
            float(v)
            for v in np.random.Generator(np.random.Philox(2)).standard_normal(len(bent.GetParameters()))
        ]
    )
    for transform in (sitk.Transform(3, sitk.sitkIdentity), true, bent):
        for target in (SMALL, coarse):
            field, lost = activity_on(hot, SMALL, target, transform)
            kept = field.sum() * target.voxel_volume / (hot.sum() * SMALL.voxel_volume)
            assert kept == pytest.approx(1.0 - lost, abs=1e-12) and lost < 1e-3
            middle = np.tensordot(field / field.sum(), np.moveaxis(np.indices(target.shape), 0, -1), axes=3)
            there = (voxel_to_world(target) @ [*middle, 1])[:3]
            own = (voxel_to_world(SMALL) @ [22, 20, 15, 1])[:3]
            np.testing.assert_allclose(moved(transform, there[None])[0], own, atol=0.15)
    # interpolation at voxel centres does not: this is what the function is for
    thin = lie_on(hot, SMALL, Grid((10, 9, 8), (9.0, 9.0, 10.0), (-42.0, -37.0, 8.0)), true)
    assert abs(np.nansum(thin) * 810.0 / (hot.sum() * SMALL.voxel_volume) - 1) > 1e-3


def test_shading_is_taken_out() -> None:
    image = 300.0 + 0.2 * (_head() - 300.0)
    x, y, _ = np.indices(SMALL.shape) / np.array(SMALL.shape).reshape(3, 1, 1, 1)
    shade = np.exp(1.2 * (x - 0.5) + 0.6 * (y - 0.5) ** 2)
    inside = _head() > 100
    corrected, found = without_shading(image * shade, SMALL, inside)
    np.testing.assert_allclose(corrected * found, image * shade, rtol=1e-9)
    left = np.log(corrected[inside] / image[inside])
    assert left.std() < 0.35 * np.log(shade[inside]).std()


@pytest.fixture
def two_visits(tmp_path: Path) -> tuple[Path, Any, np.ndarray]:
    """A patient whose second visit lies elsewhere, on a grid of its own."""
    image = _head()
    true = _rigid(SMALL, (1.0, 2.0, -3.0), (2.5, -3.0, 1.5))
    i, j, k = np.indices(SMALL.shape)
    tumour = (i - 26) ** 2 + (j - 18) ** 2 + (k - 14) ** 2 <= 16
    other = Grid((46, 42, 32), (2.0, 2.0, 2.4), (-43.0, -37.0, 8.0))
    like = to_itk(np.zeros(other.shape), other)

    def later(array: np.ndarray, kind: int, fill: float) -> np.ndarray:
        return from_itk(
            sitk.Resample(to_itk(array.astype(float), SMALL), like, true.GetInverse(), kind, fill)
        )

    folder = tmp_path / "patient"
    adc = np.where(tumour, 1.1e-3, 0.8e-3) + 1e-6 * (image - 300)
    hot = np.where(tumour, 2e4, 1e3)
    first = {"t1": image, "adc": adc, "tumour": tumour, "brain": image > 100, "pet": hot}
    second = {
        "t1": later(image, sitk.sitkBSpline5, 5.0), "adc": later(adc, sitk.sitkLinear, 8e-4),
        "tumour": later(tumour, sitk.sitkLinear, 0.0) > 0.5, "brain": later(image > 100, sitk.sitkLinear, 0) > 0.5,
        "pet": later(hot, sitk.sitkLinear, 1e3),
    }  # fmt: skip
    units = {"t1": "arbitrary", "adc": "mm2/s", "pet": "Bq/mL"}
    visits = []
    for n, (images, grid) in enumerate([(first, SMALL), (second, other)]):
        entry: dict[str, Any] = {}
        for name, array in images.items():
            write_image(folder / f"v{n}-{name}.nii.gz", array, grid)
            entry[name] = {"file": f"v{n}-{name}.nii.gz"} | ({"unit": units[name]} if name in units else {})
        visits.append({"id": f"v{n}", "day": 20 * n, "images": entry})
    treat = {
        "kind": "drug",
        "agent": "temozolomide",
        "amount": 75,
        "unit": "mg/m2",
        "route": "oral",
        "day": 3,
        "time": "10:30",
    }
    (folder / "patient.yaml").write_text(
        yaml.safe_dump({"id": "p-1", "visits": visits, "treatments": [treat]})
    )
    return folder, true, tumour


def test_a_patient_is_brought_to_one_grid(two_visits: tuple[Path, Any, np.ndarray], tmp_path: Path) -> None:
    folder, _, tumour = two_visits
    (brought,) = bring_together(folder, tmp_path / "out", starts=4)
    patient = load_patient(tmp_path / "out")
    assert (
        patient.doses == load_patient(folder).doses
        or patient.doses[0].day == load_patient(folder).doses[0].day
    )
    for visit in patient.visits:
        for ref in visit.images.values():
            assert read_image(ref.path)[1].same_as(SMALL)
    assert brought.by == "t1" and brought.organ_overlap > 0.97 and brought.organ_distance_mm < 1.0
    assert brought.moved_mm > 3 and brought.after > 0.95 and "starts agree" in brought.sentence
    later = patient.visits[1]
    mask = read_image(later.image("tumour").path)[0] > 0
    assert 2 * (mask & tumour).sum() / (mask.sum() + tumour.sum()) > 0.9
    known = later.image("adc").acquisition
    assert known["registration"] == "rigid" and known["registration_error_mm"] > 0
    sd, _ = read_image(tmp_path / "out" / known["registration_sd_file"])
    assert sd.shape == SMALL.shape and sd.max() > 0
    adc = read_image(later.image("adc").path)[0]
    assert np.nanmedian(adc[tumour]) == pytest.approx(
        np.median(read_image(patient.visits[0].image("adc").path)[0][tumour]), rel=0.05
    )
    assert not [f for f in check_patient(tmp_path / "out") if f.level == "error"]


def test_a_visit_without_common_images_leaves_nothing(
    two_visits: tuple[Path, Any, np.ndarray], tmp_path: Path
) -> None:
    folder, _, _ = two_visits
    data = yaml.safe_load((folder / "patient.yaml").read_text())
    data["visits"][1]["images"] = {
        k: v for k, v in data["visits"][1]["images"].items() if k in ("tumour", "pet")
    }
    (folder / "patient.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(BadInput, match="v1 shares no anatomical image"):
        bring_together(folder, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["patient"]
