"""The breathing state of every frame, measured away from the voxels that are forecast.

The body a voxel's width or more away from the voxels forecast is registered by itself (a *navigator*: tissue that is
scored does not enter), and the leading components of its displacement over the reference frames give each frame a few numbers, its breathing
scores. What a voxel shows depends on them beyond what registration mends: tissue that moves through slices meets other
pulses, is averaged over other voxels, or leaves the view. The filter learns this response voxel by voxel.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from ..domain.errors import BadInput
from ..imaging.dce import DceSeries
from ..imaging.registration import DisplacementSpace, register
from .perfusion_series import Motion, RegistrationSpec


def breathing_scores(
    series: DceSeries,
    motion: Motion,
    spec: RegistrationSpec,
    body: np.ndarray,
    forecast: np.ndarray,
    count: int,
    tick: Callable[[int, int], None],
) -> np.ndarray:
    """Scores of each frame on the leading displacement components of the reference frames.

    Parameters
    ----------
    series : DceSeries
    motion : Motion
        For its reference components, which come from the reference frames alone.
    spec : RegistrationSpec
    body, forecast : ndarray of bool, shape (ni, nj, nk)
        Voxels with signal, and voxels that are forecast; those and their neighbours in the slice are left out.
    count : int
    tick : callable
        ``tick(done, total)``.

    Returns
    -------
    ndarray, shape (F, count)
        Zero mean and unit variance over the reference frames. A frame's scores are its own: no other frame
        that is forecast enters.

    Raises
    ------
    BadInput
        If no voxel of the body lies outside those forecast.
    """
    if count == 0:
        return np.zeros((series.frames, 0))
    elsewhere = body & ~ndimage.binary_dilation(forecast, np.ones((3, 3, 1), dtype=bool))
    if not elsewhere.any():
        raise BadInput(
            "no voxel of the body lies outside those forecast to measure breathing by",
            "breathing",
            "set it to 0",
        )
    grid, k = series.grid, spec.reference_frames
    space = DisplacementSpace.build(
        grid.shape, grid.spacing, spec.cells, spec.amplitude_mm, spec.roughness_mm
    )
    found = []
    for i, frame in enumerate(series.signal):
        moved = register(
            frame,
            motion.components,
            space,
            elsewhere.astype(float),
            spec.residual,
            smoothing=spec.smoothing_mm,
        )
        found.append(space.field(moved.coefficients)[:, elsewhere].ravel())
        tick(i + 1, series.frames)
    return principal_scores(np.array(found), k, count)


def principal_scores(displacement: np.ndarray, reference: int, count: int) -> np.ndarray:
    """Scores (F, count) of rows on the principal components of the first ``reference`` rows, in their units."""
    centred = displacement - displacement[:reference].mean(axis=0)
    values, vectors = np.linalg.eigh(centred[:reference] @ centred[:reference].T)
    size = np.sqrt(np.maximum(values[::-1][:count], 1e-12 * max(values[-1], 1e-300)))
    modes = centred[:reference].T @ vectors[:, ::-1][:, :count] / size
    modes *= np.where(modes.sum(axis=0) < 0, -1.0, 1.0)
    return np.asarray(centred @ modes / size * np.sqrt(reference))


def seen_range(scores: np.ndarray, first: int, seen: int) -> np.ndarray:
    """Scores held within what the frames from ``first`` to ``seen`` showed: no response is extrapolated."""
    known = scores[first:seen]
    return np.asarray(np.clip(scores, known.min(axis=0), known.max(axis=0)))
