"""The ensemble run on beyond the frames seen: what the scanner will show, with and without the breathing state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..twin.tracer import TracerModel
from .perfusion_breathing import seen_range
from .perfusion_filter import Analysed, FilterSettings, settled_frame


@dataclass(frozen=True)
class Forecast:
    """Means and standard deviations of what the scanner will show, frame by frame.

    Parameters
    ----------
    mean, sd : ndarray, shape (n, H)
        Of an observed value in mM: ensemble, discrepancy, response to breathing and frame error.
    region_mean, region_sd : ndarray, shape (H,)
        Of the mean over the voxels of a region, scan-level errors being shared by its voxels.
    parts : ndarray, shape (5, n)
        Variances that add up to ``sd**2`` in the last frame, mM2: the ensemble, what the discrepancy still takes on,
        the breathing ahead, the frame's scan-level error, the voxel's own.
    """

    mean: np.ndarray
    sd: np.ndarray
    region_mean: np.ndarray
    region_sd: np.ndarray
    parts: np.ndarray


def forecast(
    analysed: Analysed,
    breathing: np.ndarray,
    model: TracerModel,
    settings: FilterSettings,
    last: int,
    region: np.ndarray,
) -> tuple[Forecast, Forecast]:
    """Run the ensemble on to frame ``last`` (exclusive), reading no concentration.

    Parameters
    ----------
    analysed : Analysed
    breathing : ndarray, shape (F, b)
        Scores of all frames; those ahead enter the second forecast alone.
    model : TracerModel
    settings : FilterSettings
    last : int
    region : ndarray of bool, shape (n,)
        Voxels whose mean is forecast too.

    Returns
    -------
    blind : Forecast
        The breathing state ahead is unknown: it has the mean and the covariance of the settled frames seen.
    given : Forecast
        Given the breathing scores of each frame ahead, held within the range seen.
    """
    seen, times = analysed.seen, model.times
    frames = np.arange(seen, last)
    first = settled_frame(model, settings)
    known = breathing[first:seen]
    centre, cov = known.mean(axis=0), np.atleast_2d(np.cov(known.T)) if known.size else np.zeros((0, 0))
    states = seen_range(breathing, first, seen)[frames] if known.size else breathing[frames]
    beta = analysed.response
    whole_beta = beta[:, :, region].mean(axis=2)
    moved = np.einsum("kbx,bc,kcx->x", beta, cov, beta, optimize=True) / len(beta)
    whole_moved = float(np.einsum("kb,bc,kc->", whole_beta, cov, whole_beta)) / len(beta)

    stationary = settings.discrepancy * analysed.variance
    scan = float((analysed.modes[region].mean(axis=0) ** 2).sum())
    rest = np.maximum(analysed.variance - (analysed.modes**2).sum(axis=1), 0.0)
    shape = (analysed.voxel.shape[2], len(frames))
    along = len(frames)
    out = [
        Forecast(np.empty(shape), np.empty(shape), np.empty(along), np.empty(along), np.empty((5, shape[0])))
        for _ in range(2)
    ]
    state = model.initial(len(analysed.shared), shape[0])
    state, _ = model.propagate(state, analysed.shared, analysed.voxel, seen - 1)
    now = model.observe(state, analysed.shared, analysed.voxel)
    for i, f in enumerate(frames):
        state, _ = model.propagate(state, analysed.shared, analysed.voxel, int(f))
        keep = float(np.exp(-(times[f] - times[seen - 1]) / settings.memory_s))
        course = model.observe(state, analysed.shared, analysed.voxel)
        course = now + settings.trust * (course - now) + keep * analysed.discrepancy
        new = (1.0 - keep**2) * stationary
        alone = float((rest + new)[region].mean() / region.sum())
        for found, z, more, whole_more in (
            (out[0], centre, moved, whole_moved),
            (out[1], states[i], 0.0 * moved, 0.0),
        ):
            members = course.copy()
            for b, value in enumerate(z):
                members += value * beta[:, b]
            found.mean[:, i] = members.mean(axis=0)
            found.parts[:] = members.var(axis=0, ddof=1), new, more, analysed.variance - rest, rest
            found.sd[:, i] = np.sqrt(found.parts.sum(axis=0))
            average = members[:, region].mean(axis=1)
            found.region_mean[i] = average.mean()
            found.region_sd[i] = np.sqrt(average.var(ddof=1) + scan + alone + whole_more)
    return out[0], out[1]
