"""NIfTI and Analyze: values by nibabel, geometry from the header with a rule for headers that are broken.

ITK turns NaN and infinite voxels of these formats into zeros and fills a file that was cut short with zeros, both
without a word; and it reports odd headers on the terminal each time it sees them.
"""

from __future__ import annotations

import gzip
import logging
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.grid import Grid

_log = logging.getLogger(__name__)
#: How far the voxel sizes of sform and pixdim may differ before one of them is called wrong.
_SCALE = 0.01
_LPS = np.diag([-1.0, -1.0, 1.0])


@cache
def report(where: str, text: str) -> None:
    """Warn of a header, once for each file however often it is read."""
    _log.warning("%s: %s", where, text)


def read_nifti(path: Path, where: str, unreadable: BadInput) -> tuple[np.ndarray, Grid]:
    """Values ``[i, j, k]`` or ``[t, i, j, k]`` as the file's type or float64, and the grid.

    Raises
    ------
    BadInput
        ``unreadable`` if the file is damaged; if it holds no volume or has no usable geometry.
    """
    import nibabel as nib

    try:
        image: Any = nib.load(path)
        _complete(image)
        slope, intercept = image.dataobj.slope, image.dataobj.inter
        plain = slope == 1.0 and intercept == 0.0
        array = image.dataobj.get_unscaled() if plain else image.get_fdata(dtype=np.float64)
    except Exception as error:  # nibabel, gzip and zlib raise many kinds for a damaged file
        raise unreadable from error
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
    i, j, k = array.shape[-3:]
    return array, geometry(image, (i, j, k), path, where)


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


def geometry(image: Any, shape: tuple[int, int, int], path: Path, where: str) -> Grid:
    """The grid of a NIfTI or Analyze header.

    The sform counts before the qform. Where the sform's voxel sizes contradict pixdim, directions and origin are
    the sform's and sizes pixdim's, as ITK has it (unless pixdim was never filled); without either form the axes are taken as they are stored. Axes
    that are not at right angles become the nearest that are. Each of these is reported once.

    Raises
    ------
    BadInput
        If there are neither forms nor voxel sizes that can be used.
    """
    header = image.header
    sizes = np.abs(np.array(header["pixdim"][1:4], dtype=float))
    good = np.isfinite(sizes).all() and (sizes > 1e-6).all()
    if len(shape) and image.ndim == 2:
        sizes[2] = sizes[2] if sizes[2] > 1e-6 else 1.0
    forms = []
    if hasattr(header, "get_sform"):
        forms = [("sform", *header.get_sform(coded=True)), ("qform", *_qform(header))]
    for name, affine, code in forms:
        if not code or affine is None:
            continue
        affine = np.asarray(affine, dtype=float)
        scale = np.linalg.norm(affine[:3, :3], axis=0)
        if not np.isfinite(affine).all() or (scale < 1e-6).any():
            report(
                where,
                f"the {name} of '{path.name}' cannot be used; its next source of geometry serves instead",
            )
            continue
        turn = affine[:3, :3] / scale
        if abs(np.linalg.det(turn)) < 1e-3:
            report(
                where, f"the {name} of '{path.name}' is singular; its next source of geometry serves instead"
            )
            continue
        if good and np.abs(scale / sizes - 1).max() > _SCALE:
            # sizes of exactly one are what a header has that nobody filled
            unfilled = bool((sizes == 1.0).all())
            report(
                where,
                f"the voxel sizes of the {name} of '{path.name}' ({_shown(scale)} mm) contradict those of its pixdim "
                f"({_shown(sizes)} mm); {f'the {name}' if unfilled else 'pixdim'} serves",
            )
            scale = scale if unfilled else sizes
        return _grid(shape, scale, _LPS @ affine[:3, 3], _LPS @ _upright(turn, path, where))
    if not good:
        raise BadInput(
            f"the geometry of '{path.name}' is missing", where, "set its voxel sizes, sform or qform"
        )
    report(
        where, f"'{path.name}' does not say how it lies in the patient; its axes are taken as they are stored"
    )
    return _grid(shape, sizes, np.zeros(3), np.eye(3))


def _qform(header: Any) -> tuple[np.ndarray | None, int]:
    try:
        affine, code = header.get_qform(coded=True)
    except ValueError:  # a quaternion longer than one
        return None, 0
    return affine, int(code)


def _upright(turn: np.ndarray, path: Path, where: str) -> np.ndarray:
    """The nearest axes at right angles."""
    u, _, vt = np.linalg.svd(turn)
    nearest = np.asarray(u @ vt)
    shear = float(np.abs(nearest - turn).max())
    if shear > 1e-4:
        report(
            where,
            f"the axes of '{path.name}' are not at right angles (off by {shear:.1e}); the nearest that are serve instead",
        )
    return nearest


def _grid(
    shape: tuple[int, int, int], spacing: np.ndarray, origin: np.ndarray, direction: np.ndarray
) -> Grid:
    x, y, z = (float(s) for s in spacing)
    u, v, w = (float(s) for s in origin)
    return Grid(shape, (x, y, z), (u, v, w), tuple(float(c) for c in direction.ravel()))


def _shown(sizes: np.ndarray) -> str:
    return " x ".join(f"{s:.4g}" for s in sizes)
