"""From a dynamic series to concentration curves: registration, T1, conversion, and which voxels enhance.

Reference components are learned from the first frames only; every frame, seen or forecast, is then registered to
them alone, so that registering a held-out frame uses nothing of the forecast and nothing of other held-out frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ..domain.errors import BadInput
from ..imaging.contrast import concentration
from ..imaging.dce import DceSeries
from ..imaging.registration import DisplacementSpace, Registered, register, warp
from ..imaging.t1 import t1_linear, t1_nonlinear
from .schema import Strict

Positive = Annotated[float, Field(gt=0)]


class RegistrationSpec(Strict):
    """How frames are registered.

    Parameters
    ----------
    reference_frames : int
        First frames, from which the reference components are learned.
    components : int
    rounds : int
        Times the components are learned anew from the frames registered so far.
    cells : tuple of int
        Spline intervals along x, y, z; 0 is constant.
    amplitude_mm, roughness_mm : float
        Prior standard deviations of a spline coefficient, and of neighbours' difference.
    residual : float
        Standard deviation of what registration leaves, in units of the signal: the weight of the prior.
    smoothing_mm : float
        Frames and components are smoothed for the comparison, not for what comes out.
    """

    reference_frames: Annotated[int, Field(ge=10)]
    components: Annotated[int, Field(ge=1)]
    rounds: Annotated[int, Field(ge=1)]
    cells: tuple[int, int, int]
    amplitude_mm: Positive
    roughness_mm: Positive
    residual: Positive
    smoothing_mm: Annotated[float, Field(ge=0)]


class VoxelsSpec(Strict):
    """Which voxels are forecast, judged by the frames seen alone.

    Parameters
    ----------
    body_signal : float
        Least baseline signal.
    t1_s : tuple of float
        Range of credible T1.
    t1_method : {"linear", "nonlinear"}
    enhancement_mM : float
        Least median concentration after the first pass.
    enhancement_noise : float
        The same, in standard deviations of the voxel's baseline.
    largest_mM : float
        A voxel that shows more in a frame seen is left out (vessels that flow in, signal near saturation).
    missing_mM : float
        A single value above this is missing: the signal is too near saturation to be read.
    seen_fraction : float
        Fraction of the frames seen, and of the baseline, in which the voxel is in view.
    """

    body_signal: Positive
    t1_s: tuple[Positive, Positive]
    t1_method: Literal["linear", "nonlinear"]
    enhancement_mM: Positive
    enhancement_noise: Positive
    largest_mM: Positive
    missing_mM: Positive
    seen_fraction: Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class Motion:
    """What registration found.

    Parameters
    ----------
    displacement : ndarray, shape (F, 3, ni, nj, nk)
        mm.
    before, after : ndarray, shape (F,)
        Residual of each frame against the components, without and with displacement, in units of the signal.
    components : ndarray, shape (q, ni, nj, nk)
        Reference components.
    """

    displacement: np.ndarray
    before: np.ndarray
    after: np.ndarray
    components: np.ndarray


@dataclass(frozen=True)
class Curves:
    """Concentrations of the voxels that are forecast.

    Parameters
    ----------
    registered, raw : ndarray, shape (n, F)
        mM, NaN where missing.
    where : ndarray of bool, shape (ni, nj, nk)
        The voxels, in C order.
    tumour, enhancing : ndarray of bool, shape (n,)
        Voxels of the outline; voxels that enhance. Every voxel is one or both.
    t1 : ndarray, shape (n,)
        s.
    """

    registered: np.ndarray
    raw: np.ndarray
    where: np.ndarray
    tumour: np.ndarray
    enhancing: np.ndarray
    t1: np.ndarray


def register_series(
    series: DceSeries, spec: RegistrationSpec, body: np.ndarray, tick: Callable[[int, int], None]
) -> tuple[np.ndarray, Motion]:
    """Register all frames.

    Returns
    -------
    frames : ndarray, shape (F, ni, nj, nk)
        NaN where a frame does not show what the reference shows.
    motion : Motion
    """
    grid, k = series.grid, spec.reference_frames
    space = DisplacementSpace.build(
        grid.shape, grid.spacing, spec.cells, spec.amplitude_mm, spec.roughness_mm
    )
    weight = body.astype(float)
    first = series.baseline
    components = np.stack(
        [
            series.signal[:first].mean(axis=0),
            series.signal[first : first + 4].max(axis=0),
            series.signal[first + 4 : k].mean(axis=0),
        ]
    )
    total, done = spec.rounds * k + series.frames, 0

    def run(frame: np.ndarray) -> Registered:
        nonlocal done
        found = register(frame, components, space, weight, spec.residual, smoothing=spec.smoothing_mm)
        done += 1
        tick(done, total)
        return found

    for _ in range(spec.rounds):
        found = [run(frame) for frame in series.signal[:k]]
        moved = np.stack(
            [warp(s, space.field(r.coefficients), grid.spacing) for s, r in zip(series.signal, found)]
        )
        components = _principal(moved, weight, spec.components, first)
    everything = [run(frame) for frame in series.signal]
    displacement = np.stack([space.field(r.coefficients) for r in everything])
    frames = np.stack([warp(s, u, grid.spacing) for s, u in zip(series.signal, displacement)])
    return frames, Motion(
        displacement,
        np.array([r.before for r in everything]),
        np.array([r.after for r in everything]),
        components,
    )


def _principal(moved: np.ndarray, weight: np.ndarray, count: int, first: int) -> np.ndarray:
    """The leading components of registered frames, (count, ni, nj, nk); missing voxels as the voxel's own mean."""
    flat = moved.reshape(len(moved), -1)
    for part in (slice(0, first), slice(first, None)):
        block = flat[part]
        seen = np.isfinite(block)
        mean = np.where(seen, block, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
        flat[part] = np.where(seen, block, mean)
    inside = flat * np.sqrt(weight.ravel())
    _, vectors = np.linalg.eigh(inside @ inside.T)
    leading = vectors[:, ::-1][:, :count] * np.sign(vectors[:, ::-1][:, :count].sum(axis=0))
    return np.asarray((leading.T @ flat).reshape(count, *moved.shape[1:]))


def body_mask(series: DceSeries, spec: VoxelsSpec) -> np.ndarray:
    """Voxels with signal before the contrast agent.

    Raises
    ------
    BadInput
        If there are none.
    """
    body = series.signal[: series.baseline].mean(axis=0) > spec.body_signal
    if not body.any():
        raise BadInput("no voxel has signal before the contrast agent", "voxels.body_signal", "lower it")
    return np.asarray(body)


def to_curves(series: DceSeries, frames: np.ndarray, spec: VoxelsSpec, seen: int, body: np.ndarray) -> Curves:
    """Concentrations, and the voxels that enhance, chosen by the frames seen alone.

    Raises
    ------
    BadInput
        If no voxel enhances, or none of the tumour can be measured.
    """
    method = t1_linear if spec.t1_method == "linear" else t1_nonlinear
    t1 = method(series.vfa, series.vfa_flips, series.vfa_repetition_time).t1
    first = series.baseline

    def convert(signal: np.ndarray) -> np.ndarray:
        before = signal[:first]
        present = np.isfinite(before)
        s0 = np.where(present, before, 0.0).sum(axis=0) / np.maximum(present.sum(axis=0), 1)
        c = concentration(signal, s0, t1, series.flip, series.repetition_time, series.relaxivity)
        return np.where(np.abs(c) > spec.missing_mM, np.nan, c)

    registered, raw = convert(frames), convert(series.signal)
    early, late = registered[:seen], registered[first + 4 : seen]
    present = np.isfinite(early)
    usable = (
        body
        & (t1 > spec.t1_s[0])
        & (t1 < spec.t1_s[1])
        & (present.mean(axis=0) >= spec.seen_fraction)
        & (present[:first].mean(axis=0) >= min(spec.seen_fraction, 1 - 1 / first))
        & np.isfinite(raw[:seen]).all(axis=0)
    )
    with np.errstate(invalid="ignore"):
        usable &= np.where(present, early, 0.0).max(axis=0) < spec.largest_mM
    plateau = np.full(t1.shape, np.nan)
    plateau[usable] = np.nanmedian(late[:, usable], axis=0)
    noise = np.full(t1.shape, np.nan)
    noise[usable] = np.nanstd(early[:first][:, usable], axis=0)
    with np.errstate(invalid="ignore"):
        enhancing = usable & (plateau > spec.enhancement_mM) & (plateau > spec.enhancement_noise * noise)
    tumour = usable & series.tumour
    if not enhancing.any():
        raise BadInput("no voxel enhances in the frames seen", "voxels", "check units and acquisition.json")
    if not tumour.any():
        raise BadInput("no voxel of the tumour can be measured", "voxels", "check the mask and the T1 images")
    where = enhancing | tumour
    return Curves(
        registered[:, where].T.copy(),
        raw[:, where].T.copy(),
        where,
        tumour[where],
        enhancing[where],
        t1[where],
    )
