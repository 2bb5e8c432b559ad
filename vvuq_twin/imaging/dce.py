"""A dynamic contrast-enhanced series as a folder of images with ``acquisition.json``.

Angles in radians inside, degrees at the border; times in s. T1 is :mod:`t1`, concentration :mod:`contrast`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..domain.errors import BadInput
from ..domain.grid import Grid
from ..domain.yamlfile import validate
from .read import read_image, read_mask

Positive = Annotated[float, Field(gt=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Dynamic(_Part):
    file: str
    repetition_time_s: Positive
    flip_angle_deg: Annotated[float, Field(gt=0, lt=180)]
    frame_times_s: tuple[float, ...]
    baseline_frames: Annotated[int, Field(ge=1)]


class _Angle(_Part):
    file: str
    flip_angle_deg: Annotated[float, Field(gt=0, lt=180)]


class _Contrast(_Part):
    relaxivity_r1_per_mM_per_s: Positive


class Acquisition(_Part):
    """``acquisition.json``: which files, and how they were acquired."""

    dce: _Dynamic
    vfa: Annotated[tuple[_Angle, ...], Field(min_length=2)]
    vfa_repetition_time_s: Positive
    contrast: _Contrast
    mask: str


@dataclass(frozen=True)
class DceSeries:
    """A dynamic series with its T1 images and a tumour outline.

    Parameters
    ----------
    signal : ndarray, shape (T, ni, nj, nk)
    times : ndarray, shape (T,)
        s.
    grid : Grid
    repetition_time, relaxivity : float
        s, 1/(mM s).
    flip : float
        Radians.
    baseline : int
        Frames before the contrast agent.
    vfa : ndarray, shape (A, ni, nj, nk)
    vfa_flips : ndarray, shape (A,)
        Radians.
    vfa_repetition_time : float
        s.
    tumour : ndarray of bool, shape (ni, nj, nk)
    """

    signal: np.ndarray
    times: np.ndarray
    grid: Grid
    repetition_time: float
    flip: float
    relaxivity: float
    baseline: int
    vfa: np.ndarray
    vfa_flips: np.ndarray
    vfa_repetition_time: float
    tumour: np.ndarray

    @property
    def frames(self) -> int:
        return len(self.times)


def read_dce(folder: Path) -> DceSeries:
    """Read a folder with ``acquisition.json`` and the images it names.

    Raises
    ------
    BadInput
        If a file is missing or damaged, grids differ, times do not increase or do not fit the frames, the mask
        is empty, or a voxel is NaN, infinite or negative.
    """
    folder = Path(folder)
    path = folder / "acquisition.json"
    if not folder.is_dir():
        raise BadInput("this is not a folder", str(folder), "name the folder that holds acquisition.json")
    if not path.exists():
        raise BadInput("the file does not exist", str(path), "describe the acquisition there")
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise BadInput("the file is not valid JSON", str(path), "mend it") from error
    if not isinstance(data, dict):
        raise BadInput("the file does not hold a mapping of keys", str(path))
    acq = validate(Acquisition, data, path.name)
    times = np.array(acq.dce.frame_times_s, dtype=float)
    here = f"{path.name}: dce"
    if not np.isfinite(times).all() or not (np.diff(times) > 0).all():
        raise BadInput("the frame times do not increase", f"{here}.frame_times_s", "give seconds, in order")
    if acq.dce.baseline_frames >= len(times):
        raise BadInput("no frame is left after the baseline", f"{here}.baseline_frames", "give fewer")
    signal, grid = _voxels(folder / acq.dce.file, f"{here}.file")
    if signal.ndim != 4:
        raise BadInput("the image holds one volume, not a series", f"{here}.file", "name the dynamic series")
    if len(signal) != len(times):
        raise BadInput(
            f"{len(times)} times came for {len(signal)} frames", f"{here}.frame_times_s", "give one per frame"
        )
    flips, images = [], []
    for i, item in enumerate(acq.vfa):
        where = f"{path.name}: vfa[{i}].file"
        image, own = _voxels(folder / item.file, where)
        _same(own, grid, item.file, where)
        images.append(image)
        flips.append(np.deg2rad(item.flip_angle_deg))
    if len(set(flips)) < 2:
        raise BadInput("all flip angles are the same", f"{path.name}: vfa", "T1 needs at least two")
    tumour, own = read_mask(folder / acq.mask, f"{path.name}: mask")
    _same(own, grid, acq.mask, f"{path.name}: mask")
    if not tumour.any():
        raise BadInput("the tumour mask is empty", f"{path.name}: mask", "outline the tumour")
    return DceSeries(
        signal, times, grid, acq.dce.repetition_time_s, float(np.deg2rad(acq.dce.flip_angle_deg)),
        acq.contrast.relaxivity_r1_per_mM_per_s, acq.dce.baseline_frames, np.stack(images), np.array(flips),
        acq.vfa_repetition_time_s, tumour,
    )  # fmt: skip


def _voxels(path: Path, where: str) -> tuple[np.ndarray, Grid]:
    array, grid = read_image(path, where)
    array = array.astype(float)
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise BadInput(f"'{path.name}' has {bad} NaN or infinite voxels", where, "mend or mask the image")
    if array.min() < 0:
        raise BadInput(f"'{path.name}' has negative signal", where, "give magnitude images")
    return array, grid


def _same(own: Grid, grid: Grid, name: str, where: str) -> None:
    if not own.same_as(grid):
        raise BadInput(
            f"'{name}' is not on the grid of the dynamic series", where, "resample it to that grid"
        )
