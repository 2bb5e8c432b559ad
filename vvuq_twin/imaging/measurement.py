"""A map with its standard errors as observations whose error has all its parts, correlated where it is.

| part | size | correlation |
|---|---|---|
| scan | repeatability of the modality in the organ (QIBA) times the value | full: one column |
| registration | gradient of the map times the displacement left | smooth: modes of a displacement field |
| noise | the map's own standard error, or the image's noise | none |
| partial volume | what the map changes within a voxel: ``sum_d (h_d g_d)^2 / 12`` | none |
| representation | model form, structure below the voxel: given by the study | smooth modes and a local rest |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..domain.errors import BadInput
from ..domain.grid import Grid
from ..domain.observations import ObservationError, Observations
from .modes import smooth_modes
from .noise import Representation, scan_error


@dataclass(frozen=True)
class RegistrationError:
    """What registration leaves.

    Parameters
    ----------
    sd : float
        Standard deviation of the displacement along each axis, mm.
    length : float
        Over which it is alike, mm.
    modes : int
        Smooth modes kept a component; what they leave out goes to the independent part.
    """

    sd: float
    length: float = 20.0
    modes: int = 12


def gradient(values: np.ndarray, grid: Grid) -> np.ndarray:
    """Slope of a map along each axis per mm, shape (3, *grid.shape); one-sided beside missing voxels, zero alone."""
    out = np.zeros((3, *values.shape))
    for axis, h in enumerate(grid.spacing):
        if values.shape[axis] < 2:
            continue
        step = np.diff(values, axis=axis) / h
        edge = np.full_like(np.take(values, [0], axis=axis), np.nan)
        both = np.stack([np.concatenate([step, edge], axis=axis), np.concatenate([edge, step], axis=axis)])
        there = np.isfinite(both)
        out[axis] = np.where(there, both, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    return out


def observe_map(
    values: np.ndarray,
    grid: Grid,
    mask: np.ndarray,
    *,
    scan: str,
    time: float,
    noise_sd: float | np.ndarray,
    wcv: float,
    registration: RegistrationError | None = None,
    representation: Representation | None = None,
) -> Observations:
    """Observations of a map in a region, with their error.

    Parameters
    ----------
    values : ndarray, shape ``grid.shape``
        NaN where there is none.
    grid : Grid
    mask : ndarray of bool, same shape
        The region.
    scan : str
        Id of the scan: one that arrives twice counts once.
    time : float
        Days.
    noise_sd : float or ndarray, same shape
        The map's standard error, or the noise of the image (:func:`noise.voxel_noise`). Voxels where it is NaN (a
        fit at its bound) are left out, as are those without a value.
    wcv : float
        Repeatability (:func:`noise.repeatability`).
    registration : RegistrationError, optional
        For a visit that was registered to another.
    representation : Representation, optional

    Raises
    ------
    BadInput
        If the mask is off the grid or no voxel of it has a value with an error.

    Notes
    -----
    The gradient is that of the map itself, noise included, so that the registration part is rather too large where
    the map is noisy: smooth the map first where that matters.
    """
    if values.shape != grid.shape or mask.shape != grid.shape:
        raise BadInput("the map or the mask is not on the grid", scan, "resample both to one grid")
    spread = np.broadcast_to(np.asarray(noise_sd, dtype=float), grid.shape)
    use = mask & np.isfinite(values) & np.isfinite(spread) & (spread >= 0)
    if not use.any():
        raise BadInput("no voxel of the region has a value with an error", scan, "check the mask and the map")
    level, coords = values[use], grid.points(use)
    slopes = gradient(np.where(use, values, np.nan), grid)[:, use]
    h = np.asarray(grid.spacing)[:, None]
    independent = np.square(spread[use]) + ((slopes * h) ** 2).sum(axis=0) / 12.0
    columns = []
    if registration is not None and registration.sd > 0:
        modes, left = smooth_modes(coords, registration.sd, registration.length, registration.modes)
        columns = [modes * g[:, None] for g in slopes]
        independent = independent + (slopes**2).sum(axis=0) * left
    floor = 1e-12 * max(float(np.abs(level).max()), 1e-300)
    base = scan_error(
        level,
        coords,
        np.sqrt(np.maximum(independent, floor**2)),
        wcv,
        representation or Representation(0.0, 1.0),
    )
    error = ObservationError(base.voxel, np.concatenate([base.scan, *columns], axis=1), base.representation)
    return Observations(level, error, coords, (scan,), time)
