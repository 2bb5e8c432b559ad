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
    if path.stat().st_size == 0:
        raise BadInput(f"the image file '{path.name}' is empty", where, "copy or export it again")
    if path.name.lower().endswith((".nii", ".nii.gz", ".img", ".hdr")):
        return _nifti(path, where)
    import SimpleITK as sitk

    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise _unreadable(path, where) from error
    return _from_sitk(image, path, where)


def _unreadable(path: Path, where: str) -> BadInput:
    return BadInput(
        f"the image '{path.name}' cannot be read",
        where,
        "the file is damaged or cut short: copy or export it again",
    )


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
            f"the image '{path.name}' has {axes} axes and {parts} values a voxel",
            where,
            "give one volume, or a series of volumes over time",
        )
    array = sitk.GetArrayFromImage(image)
    if array.dtype.kind not in "fiu":
        raise BadInput(f"the image '{path.name}' does not hold real numbers", where, "export magnitudes")
    # SimpleITK's arrays are [k, j, i], series [t, k, j, i], values of a voxel last
    array = array.transpose(3, 2, 1, 0) if parts > 1 else array.swapaxes(-1, -3)
    return _plain(array), _sitk_grid(image)


def _sitk_grid(image: Any) -> Grid:
    """The grid of an ITK image, or of a reader that has read only the header."""
    axes = image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(axes, axes)[:3, :3]
    return _grid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), direction)


def _grid(shape: Any, spacing: Any, origin: Any, direction: np.ndarray) -> Grid:
    i, j, k = (int(n) for n in shape[:3])
    x, y, z = (float(s) for s in spacing[:3])
    u, v, w = (float(s) for s in origin[:3])
    return Grid((i, j, k), (x, y, z), (u, v, w), tuple(float(c) for c in direction.ravel()))


def _nifti(path: Path, where: str) -> tuple[np.ndarray, Grid]:
    """NIfTI and Analyze: geometry as ITK has it, values from nibabel.

    ITK turns NaN and infinite voxels of these formats into zeros and fills a file that was cut short
    with zeros, both without a word.
    """
    import nibabel as nib

    try:
        image: Any = nib.load(path)
        _complete(image)
        slope, intercept = image.dataobj.slope, image.dataobj.inter
        plain = slope == 1.0 and intercept == 0.0
        array = image.dataobj.get_unscaled() if plain else image.get_fdata(dtype=np.float64)
    except Exception as error:  # nibabel, gzip and zlib raise many kinds for a damaged file
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
    return _plain(array), _itk_geometry(path) or _nearest_geometry(image, array.shape[-3:], path, where)


def _complete(image: Any) -> None:
    """Raise if the file holds fewer bytes than its header promises."""
    data = Path(image.file_map["image"].filename)
    needed = image.dataobj.offset + int(np.prod(image.shape)) * image.get_data_dtype().itemsize
    held = data.stat().st_size
    if data.name.lower().endswith(".gz"):
        held = 0
        with gzip.open(data) as source:
            while piece := source.read(1 << 22):
                held += len(piece)
    if held < needed:
        raise EOFError(f"{held} of {needed} bytes")


def _itk_geometry(path: Path) -> Grid | None:
    """The grid by ITK's reading of the header; None where ITK refuses it or drops a single slice."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    return _sitk_grid(reader) if reader.GetDimension() in (3, 4) else None


def _nearest_geometry(image: Any, shape: Any, path: Path, where: str) -> Grid:
    """The nearest grid with axes at right angles, for a NIfTI affine that ITK refuses."""
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
            where,
            path.name,
            shear,
        )
    return _grid(shape, spacing, affine[:3, 3], direction)


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
