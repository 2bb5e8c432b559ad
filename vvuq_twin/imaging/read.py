"""Images from files as arrays ``[i, j, k]`` (series ``[t, i, j, k]``) with their grid."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.grid import Grid

_log = logging.getLogger(__name__)

ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".img", ".hdr")


def read_image(path: Path, where: str = "") -> tuple[np.ndarray, Grid]:
    """Read an image: NIfTI, NRRD, MetaImage, Analyze, or a folder with one DICOM series.

    Parameters
    ----------
    path : Path
    where : str
        Who names the file (file and field), for messages.

    Returns
    -------
    array : ndarray, shape (i, j, k) or (t, i, j, k)
        float64, or int32/int64 where the file holds whole numbers without a scale.
    grid : Grid
        Of one volume, in mm (ITK convention).

    Raises
    ------
    BadInput
        If the file is missing, cut short, in no known format, or not a scalar image of 3 or 4 axes.
    """
    path = Path(path)
    where = where or str(path)
    if not path.exists():
        raise BadInput(f"the image file '{path}' does not exist", where, "check the name and the folder")
    if path.is_dir():
        return _dicom(path, where)
    if not path.name.lower().endswith(ENDINGS):
        raise BadInput(
            f"'{path.name}' is in no format this package reads", where,
            "convert it to NIfTI, NRRD, MetaImage or Analyze",
        )  # fmt: skip
    _whole(path, where)
    import SimpleITK as sitk

    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        if ".nii" in path.name.lower() and "orthonormal" in str(error):
            return _nibabel(path, where)
        raise _unreadable(path, where) from error
    if image.GetDimension() == 2 and ".nii" in path.name.lower():
        return _nibabel(path, where)  # ITK drops a single slice's thickness
    return _from_sitk(image, path, where)


def _unreadable(path: Path, where: str) -> BadInput:
    return BadInput(
        f"the image '{path.name}' cannot be read",
        where,
        "the file is damaged or cut short: copy or export it again",
    )


def _whole(path: Path, where: str) -> None:
    """Refuse a NIfTI or Analyze file that ends too early: ITK fills what is missing without a word."""
    if path.stat().st_size == 0:
        raise BadInput(f"the image file '{path.name}' is empty", where, "copy or export it again")
    if not path.name.lower().endswith((".nii", ".nii.gz", ".img", ".hdr")):
        return  # ITK itself refuses these
    import nibabel as nib

    try:
        image: Any = nib.load(path)
        data = Path(image.file_map["image"].filename)
        needed = int(image.header["vox_offset"]) + int(np.prod(image.shape)) * image.get_data_dtype().itemsize
        held = data.stat().st_size
        if data.name.lower().endswith(".gz"):
            held = 0
            with gzip.open(data) as source:
                while piece := source.read(1 << 22):
                    held += len(piece)
    except Exception as error:  # nibabel, gzip and zlib raise many kinds for a damaged file
        raise _unreadable(path, where) from error
    if held < needed:
        raise _unreadable(path, where)


def _plain(array: np.ndarray) -> np.ndarray:
    """float64, int32 or int64, contiguous."""
    if array.dtype.kind == "f":
        return np.ascontiguousarray(array, dtype=np.float64)
    wide = array.dtype.itemsize > 4 or array.dtype == np.uint32
    return np.ascontiguousarray(array, dtype=np.int64 if wide else np.int32)


def _from_sitk(image: Any, path: Path, where: str) -> tuple[np.ndarray, Grid]:
    import SimpleITK as sitk

    axes, parts = image.GetDimension(), image.GetNumberOfComponentsPerPixel()
    if axes not in (3, 4) or (axes == 4 and parts > 1):
        raise BadInput(
            f"the image '{path.name}' has {axes} axes and {parts} values a voxel", where,
            "give one volume, or a series of volumes over time",
        )  # fmt: skip
    array = sitk.GetArrayFromImage(image)
    if array.dtype.kind not in "fiu":
        raise BadInput(f"the image '{path.name}' does not hold real numbers", where, "export magnitudes")
    # SimpleITK's arrays are [k, j, i], series [t, k, j, i], values of a voxel last
    array = array.transpose(3, 2, 1, 0) if parts > 1 else array.swapaxes(-1, -3)
    size = image.GetSize()[:3]
    direction = np.array(image.GetDirection()).reshape(axes, axes)[:3, :3]
    grid = Grid(
        (int(size[0]), int(size[1]), int(size[2])),
        tuple(float(x) for x in image.GetSpacing()[:3]),  # type: ignore[arg-type]
        tuple(float(x) for x in image.GetOrigin()[:3]),  # type: ignore[arg-type]
        tuple(float(x) for x in direction.ravel()),
    )
    return _plain(array), grid


def _nibabel(path: Path, where: str) -> tuple[np.ndarray, Grid]:
    """NIfTI through nibabel, for geometry that ITK refuses: the nearest orthonormal directions are taken."""
    import nibabel as nib

    try:
        image: Any = nib.load(path)
        scaled = image.header.get_slope_inter() not in ((None, None), (1.0, 0.0))
        array = np.asanyarray(image.dataobj) if not scaled else image.get_fdata(dtype=np.float64)
    except Exception as error:  # nibabel raises many kinds for a damaged file
        raise _unreadable(path, where) from error
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim not in (3, 4) or array.dtype.kind not in "fiu":
        raise BadInput(
            f"the image '{path.name}' is no volume of real numbers", where, "give one volume or a series"
        )
    if array.ndim == 4:
        array = np.moveaxis(array, 3, 0)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(image.affine, dtype=float)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise BadInput(
            f"the geometry of '{path.name}' is missing or singular", where, "set its sform or qform"
        )
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    u, _, vt = np.linalg.svd(affine[:3, :3] / spacing)
    direction = u @ vt
    shear = float(np.abs(direction - affine[:3, :3] / spacing).max())
    if shear > 1e-6:
        _log.warning(
            "%s: the axes of '%s' are not at right angles (off by %.1e); the nearest that are serve instead",
            where, path.name, shear,
        )  # fmt: skip
    grid = Grid(
        tuple(int(n) for n in array.shape[-3:]),  # type: ignore[arg-type]
        tuple(float(x) for x in spacing),  # type: ignore[arg-type]
        tuple(float(x) for x in affine[:3, 3]),  # type: ignore[arg-type]
        tuple(float(x) for x in direction.ravel()),
    )
    return _plain(array), grid


def _dicom(folder: Path, where: str) -> tuple[np.ndarray, Grid]:
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    series = reader.GetGDCMSeriesIDs(str(folder))
    if len(series) != 1:
        raise BadInput(
            f"the folder '{folder.name}' holds {len(series)} DICOM series",
            where,
            "give a folder with exactly one",
        )
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), series[0]))
    try:
        return _from_sitk(reader.Execute(), folder, where)
    except RuntimeError as error:
        raise _unreadable(folder, where) from error


def read_mask(path: Path, where: str = "") -> tuple[np.ndarray, Grid]:
    """A mask as booleans, shape (i, j, k).

    Raises
    ------
    BadInput
        If it cannot be read, holds values other than 0 and one further value, or is a series.
    """
    array, grid = read_image(path, where)
    if array.ndim != 3:
        raise BadInput(f"the mask '{Path(path).name}' is a series, not one volume", where, "give one volume")
    finite = np.isfinite(array)
    values = np.unique(array[finite])
    if not finite.all() or len(values[values != 0]) > 1 or (values < 0).any():
        raise BadInput(
            f"the mask '{Path(path).name}' holds values other than 0 and one more", where,
            "give 1 inside and 0 outside",
        )  # fmt: skip
    return array > 0, grid
