"""Images from files as arrays ``[i, j, k]`` (series ``[t, i, j, k]``) with their grid."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.grid import Grid
from .nifti import read_nifti

ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".img", ".hdr")


def read_image(path: Path, where: str = "") -> tuple[np.ndarray, Grid]:
    """Read an image: NIfTI, NRRD, MetaImage, Analyze, one DICOM series (a folder or a .dcm file), or a
    folder with a volume of a series in each file.

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
        volumes = [p for p in path.iterdir() if p.is_file() and p.name.lower().endswith(ENDINGS)]
        return _many(volumes, where) if volumes else _dicom(path, where)
    if path.name.lower().endswith(".dcm"):
        return _dicom(path, where)
    if not path.name.lower().endswith(ENDINGS):
        raise BadInput(
            f"'{path.name}' is in no format this package reads", where,
            "convert it to NIfTI, NRRD, MetaImage or Analyze",
        )  # fmt: skip
    if path.stat().st_size == 0:
        raise BadInput(f"the image file '{path.name}' is empty", where, "copy or export it again")
    if path.name.lower().endswith((".nii", ".nii.gz", ".img", ".hdr")):
        array, grid = read_nifti(path, where, _unreadable(path, where))
        return _plain(array), grid
    import SimpleITK as sitk

    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise _unreadable(path, where) from error
    return _from_sitk(image, path, where)


def _many(paths: list[Path], where: str) -> tuple[np.ndarray, Grid]:
    """A series of which each volume is a file, in order of the numbers in their names (2 before 10)."""

    def order(path: Path) -> list[Any]:
        return [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", path.name.lower())]

    # a header beside its data is one volume
    heads = [p for p in paths if p.suffix.lower() != ".img" or p.with_suffix(".hdr") not in paths]
    volumes: list[np.ndarray] = []
    grid: Grid | None = None
    for path in sorted(heads, key=order):
        array, own = read_image(path, where)
        grid = grid or own
        if array.ndim != 3 or not own.same_as(grid):
            what = "is a series itself" if array.ndim != 3 else "lies on another grid than the first"
            raise BadInput(
                f"'{path.name}' {what}, but the folder is to be one series of volumes", where,
                "put it elsewhere, or resample it",
            )  # fmt: skip
        volumes.append(array)
    assert grid is not None
    return np.stack(volumes), grid


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


def _dicom(path: Path, where: str) -> tuple[np.ndarray, Grid]:
    """One DICOM series, classic or enhanced, in a folder or a file; values as the files show them."""
    from .dicom.folder import read_files
    from .dicom.pixels import values
    from .dicom.volumes import stacks

    found = read_files([path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()))
    if found.damaged:
        raise found.damaged[0]
    if len(found.series) != 1:
        raise BadInput(
            f"the folder '{path.name}' holds {len(found.series)} DICOM series", where,
            "give a folder with exactly one",
        )  # fmt: skip
    one = stacks(found.series[0])
    if len(one) != 1:
        raise BadInput(
            f"the series in '{path.name}' mixes {len(one)} kinds of images",
            where,
            "import it with vvuq-twin import",
        )
    return values(one[0]), one[0].grid


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
