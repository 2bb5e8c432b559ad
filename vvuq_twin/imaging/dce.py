"""Dynamic contrast-enhanced MRI: a folder of images, T1 by variable flip angle, signal to concentration.

The spoiled gradient echo (Ernst & Anderson 1966): ``S = M0 sin a (1 - E1)/(1 - E1 cos a)``, ``E1 = exp(-TR R1)``;
fast exchange: ``R1 = R10 + r1 C``. Angles in radians inside, degrees at the border; times in s, R1 in 1/s, C in mM.
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


def spoiled_gradient_echo(m0: Any, r1: Any, flip: float, repetition_time: float) -> np.ndarray:
    """Steady-state signal for magnetisation ``m0`` and relaxation rate ``r1`` (1/s); arrays broadcast."""
    e1 = np.exp(-repetition_time * np.asarray(r1, dtype=float))
    return np.asarray(m0 * np.sin(flip) * (1.0 - e1) / (1.0 - e1 * np.cos(flip)))


def t1_linear(signal: np.ndarray, flips: np.ndarray, repetition_time: float) -> tuple[np.ndarray, np.ndarray]:
    """T1 (s) and M0 by the linear form ``S/sin a = E1 S/tan a + M0 (1 - E1)`` (Gupta 1977, Deoni 2003).

    Parameters
    ----------
    signal : ndarray, shape (A, ...)
    flips : ndarray, shape (A,)
        Radians.
    repetition_time : float
        s.

    Returns
    -------
    t1, m0 : ndarray, shape (...)
        NaN where the slope is no relaxation (not between 0 and 1).
    """
    shape = (len(flips),) + (1,) * (signal.ndim - 1)
    y, x = signal / np.sin(flips).reshape(shape), signal / np.tan(flips).reshape(shape)
    dx = x - x.mean(axis=0)
    below = (dx**2).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        e1 = (dx * y).sum(axis=0) / np.where(below > 0, below, np.nan)
        e1 = np.where((e1 > 0) & (e1 < 1), e1, np.nan)
        m0 = (y.mean(axis=0) - e1 * x.mean(axis=0)) / (1.0 - e1)
        return -repetition_time / np.log(e1), m0


def t1_nonlinear(
    signal: np.ndarray, flips: np.ndarray, repetition_time: float, iterations: int = 30
) -> tuple[np.ndarray, np.ndarray]:
    """T1 (s) and M0 by least squares on the signal itself, all voxels at once.

    The linear form weights noise by 1/sin a and is biased where noise is large; this starts from it and
    takes Gauss-Newton steps in log R1 with M0 projected out. NaN where the linear start has none.
    """
    t1, _ = t1_linear(signal, flips, repetition_time)
    y = signal.reshape(len(flips), -1)
    log_r1 = -np.log(t1.ravel())
    known = np.isfinite(log_r1)
    x, data = log_r1[known], y[:, known]

    def project(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        shape = np.stack([spoiled_gradient_echo(1.0, np.exp(z), float(a), repetition_time) for a in flips])
        m0 = (shape * data).sum(axis=0) / (shape**2).sum(axis=0)
        return shape, m0, ((data - m0 * shape) ** 2).sum(axis=0)

    shape, m0, rss = project(x)
    for _ in range(iterations):
        h = 1e-5
        slope = (project(x + h)[0] - project(x - h)[0]) / (2 * h)
        unit = shape / np.sqrt((shape**2).sum(axis=0))
        J = m0 * (slope - unit * (unit * slope).sum(axis=0))
        step = (J * (data - m0 * shape)).sum(axis=0) / np.maximum((J**2).sum(axis=0), 1e-300)
        tried = x + np.clip(step, -0.5, 0.5)
        new = project(tried)
        better = new[2] < rss
        x = np.where(better, tried, x)
        shape, m0, rss = project(x)
        if not better.any():
            break
    out_t1, out_m0 = np.full(log_r1.shape, np.nan), np.full(log_r1.shape, np.nan)
    out_t1[known], out_m0[known] = np.exp(-x), m0
    return out_t1.reshape(signal.shape[1:]), out_m0.reshape(signal.shape[1:])


def concentration(
    signal: np.ndarray,
    baseline: np.ndarray,
    t1: np.ndarray | float,
    flip: float,
    repetition_time: float,
    relaxivity: float,
) -> np.ndarray:
    """Concentration in mM from signal; the inverse of :func:`signal_of`.

    Parameters
    ----------
    signal : ndarray, shape (T, ...)
    baseline : ndarray, shape (...)
        Signal before the agent, in the same units.
    t1 : ndarray, shape (...) or float
        Before the agent, s.
    flip : float
        Radians.
    repetition_time, relaxivity : float
        s, 1/(mM s).

    Returns
    -------
    ndarray, shape (T, ...)
        NaN where the signal is more than any relaxation rate can give, or the baseline is not positive.
    """
    r10 = 1.0 / np.asarray(t1, dtype=float)
    one = spoiled_gradient_echo(1.0, r10, flip, repetition_time) / np.sin(flip)
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(np.asarray(baseline) > 0, signal / np.asarray(baseline), np.nan) * one
        e1 = (1.0 - part) / (1.0 - np.cos(flip) * part)
        e1 = np.where(part < 1.0, e1, np.nan)
        return np.asarray((-np.log(e1) / repetition_time - r10) / relaxivity)


def signal_of(
    c: np.ndarray,
    baseline: np.ndarray | float,
    t1: np.ndarray | float,
    flip: float,
    repetition_time: float,
    relaxivity: float,
) -> np.ndarray:
    """Signal of a concentration in mM, given the signal and T1 (s) without the agent."""
    r10 = 1.0 / np.asarray(t1, dtype=float)
    before = spoiled_gradient_echo(1.0, r10, flip, repetition_time)
    return np.asarray(
        baseline
        * spoiled_gradient_echo(1.0, r10 + relaxivity * np.asarray(c), flip, repetition_time)
        / before
    )
