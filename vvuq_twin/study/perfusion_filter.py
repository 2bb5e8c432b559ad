"""Frames assimilated one after another into the tracer model: what is shared globally, a voxel's own locally.

Each frame the model is run again from the first frame with the parameters as they are (strong constraint: an
analysis moves parameters, never the tracer itself, so no mass is made), a slowly varying discrepancy of each
voxel is added, and ``VoxelETKF`` analyses both. The error of a frame has a scan-level part (spatial modes of
breathing, learned from the innovations of the frames before), and a voxel part (image noise and motion inside the
voxel, estimated from the same innovations); while the bolus passes, representation error is added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..assimilation import Inflation, Key, VoxelETKF, start
from ..domain.observations import ObservationError, Observations
from ..twin.tracer import SHARED, VOXEL, TracerModel


@dataclass(frozen=True)
class FilterSettings:
    """What decides an assimilation beside the priors.

    Parameters
    ----------
    members : int
    first : int
        First frame assimilated, counted from 0.
    settled_s : float
        When the first pass is over, s after the first frame assimilated.
    passing : float
        Factor on the voxel error's standard deviation until then.
    relative : float
        Representation error until then, as a fraction of the predicted concentration.
    discrepancy : float
        Variance of the discrepancy over the voxel's error variance.
    memory_s : float
        Correlation time of the discrepancy.
    modes : int
        Spatial modes of the scan-level error.
    noise_relative : float
        Prior voxel error as a fraction of the predicted concentration, beside the baseline's noise.
    noise_weight : float
        Frames that this prior counts for.
    relax_shared : float
        Relaxation of the shared parameters' spread to the prior spread of each analysis.
    shared_voxels : int
        Voxels, drawn anew for each frame, that speak for the shared parameters. Motion correlates neighbours:
        all voxels taken as independent would claim to know the arterial input far too well.
    """

    members: int
    first: int
    settled_s: float
    passing: float
    relative: float
    discrepancy: float
    memory_s: float
    modes: int
    noise_relative: float
    noise_weight: float
    relax_shared: float
    shared_voxels: int


@dataclass(frozen=True)
class Analysed:
    """The ensemble after some frames, and the errors as estimated from them.

    Parameters
    ----------
    seen : int
        Frames assimilated or passed.
    shared : ndarray, shape (N, 4)
        Scores of the arterial input.
    voxel : ndarray, shape (N, 3, n)
        Scores of the voxels' parameters.
    discrepancy : ndarray, shape (N, n)
        mM.
    variance : ndarray, shape (n,)
        Of the error of a voxel's value in one frame, scan-level part included, mM2.
    modes : ndarray, shape (n, q)
        Scan-level part: one standard deviation of each mode, mM.
    history : tuple of dict
        Diagnostics of each cycle.
    """

    seen: int
    shared: np.ndarray
    voxel: np.ndarray
    discrepancy: np.ndarray
    variance: np.ndarray
    modes: np.ndarray
    history: tuple[dict[str, Any], ...]


@dataclass
class _ErrorModel:
    """Voxel variance and scan-level modes from the innovations so far."""

    base: np.ndarray
    settings: FilterSettings
    squares: np.ndarray = field(init=False)
    count: np.ndarray = field(init=False)
    residuals: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.squares, self.count = np.zeros_like(self.base), np.zeros_like(self.base)

    def add(self, innovation: np.ndarray, spread: np.ndarray, variance: np.ndarray) -> None:
        """A frame's innovation with the ensemble's own variance in it."""
        seen = np.isfinite(innovation)
        # what is left for the error if spread and error share the innovation by their sizes; outliers bounded
        share = np.where(seen, innovation, 0.0) ** 2 * variance / (variance + spread)
        self.squares += np.where(seen, np.minimum(share, 25.0 * variance), 0.0)
        self.count += seen
        self.residuals.append(np.where(seen, innovation, 0.0))

    def variance(self, level: np.ndarray) -> np.ndarray:
        prior = self.base + (self.settings.noise_relative * level) ** 2
        w = self.settings.noise_weight
        # the prior's size is drawn to what all voxels show, its pattern stays
        shown, expected = self.squares.sum(), (self.count * prior).sum()
        factor = (w * 1e2 + shown) / (w * 1e2 + expected) if expected > 0 else 1.0
        return np.asarray((w * factor * prior + self.squares) / (w + self.count))

    def modes(self, level: np.ndarray, total: np.ndarray) -> np.ndarray:
        q, k = self.settings.modes, len(self.residuals)
        if q == 0:
            return np.zeros((len(level), 0))
        if k < 3 * q + 2:
            return 0.5 * self.settings.noise_relative * level[:, None]
        r = np.array(self.residuals) / np.sqrt(total)
        _, vectors = np.linalg.eigh(r @ r.T)
        found = (r.T @ vectors[:, -q:]) / np.sqrt(k) * np.sqrt(total)[:, None]
        # a voxel's modes never hold more than most of its variance
        held = (found**2).sum(axis=1)
        return np.asarray(found * np.sqrt(np.minimum(1.0, 0.8 * total / np.maximum(held, 1e-12)))[:, None])


def assimilate(
    curves: np.ndarray,
    coords: np.ndarray,
    model: TracerModel,
    settings: FilterSettings,
    stops: Sequence[int],
    seed: int,
    name: str,
    tick: Callable[[int], None] = lambda frame: None,
) -> list[Analysed]:
    """Assimilate frames up to the last of ``stops``.

    Parameters
    ----------
    curves : ndarray, shape (n, F)
        Concentrations in mM, NaN where missing; no frame at or after the last stop is read.
    coords : ndarray, shape (n, 3)
        mm.
    model : TracerModel
    settings : FilterSettings
    stops : sequence of int
        Numbers of frames seen at which the ensemble is returned.
    seed : int
    name : str
        Which series, a label of the random draws and of the scans' ids.
    tick : callable
        Told the number of frames done.

    Returns
    -------
    list of Analysed
    """
    n, N, s = len(curves), settings.members, settings
    curves = curves[:, : max(stops)]
    key = Key(seed, ("perfusion", name))
    members = np.arange(N)
    q, v = len(SHARED), len(VOXEL)
    E = np.concatenate(
        [key.normals("shared", members, q), key.normals("voxel", members, v * n), np.zeros((N, n))], axis=1
    )
    owner = np.concatenate([np.full(q, -1), np.tile(np.arange(n), v + 1)])
    relaxed = Inflation(rtps=s.relax_shared)
    carry = start(N)
    before = curves[:, : s.first]
    base = np.nanvar(before, axis=1)
    base = np.where(np.isfinite(base), base, np.nanmedian(base))
    errors = _ErrorModel(0.5 * (base + np.median(base)), s)
    settled = int(np.searchsorted(model.times, model.times[s.first] + s.settled_s))
    out = []
    for f in range(s.first, max(stops)):
        level = np.abs(_curve(E[::8], model, f, np.arange(n), n)[0].mean(axis=0))
        variance = errors.variance(level)
        if f >= settled:
            modes = errors.modes(level, variance)
            E[:, q + v * n :] = _evolve(E[:, q + v * n :], variance, model.times, f, settled, s, key, members)
            voxel_variance = np.maximum(variance - (modes**2).sum(axis=1), 0.2 * variance)
        else:
            modes = 0.5 * s.noise_relative * level[:, None]
            voxel_variance = s.passing**2 * variance + (s.relative * level) ** 2
        error = ObservationError(np.sqrt(voxel_variance), scan=modes)
        drawn = key.generator("shared voxels", f).permutation(n)
        few, rest = np.sort(drawn[: s.shared_voxels]), np.sort(drawn[s.shared_voxels :])
        # a few voxels, drawn anew, speak for the shared parameters; all the others for themselves
        for part, rows in (("shared", few), ("local", rest)):
            if not len(rows):
                continue
            curve, status = _curve(E, model, f, rows, n)
            HE = curve + E[:, q + v * n + rows]
            observed = Observations(
                curves[rows, f],
                error.take(rows),
                coords[rows],
                (f"{name} frame {f + 1} {part}",),
                float(model.times[f]),
            )
            known = E[:, :q]
            update, carry = VoxelETKF(rows, owner).analyse(
                carry, HE, observed, key, status, shared=known if part == "shared" else None
            )
            if part == "local" and f >= settled:
                innovation = np.full(n, np.nan)
                innovation[rows] = curves[rows, f] - HE.mean(axis=0)
                spread = np.zeros(n)
                spread[rows] = HE.var(axis=0, ddof=1)
                errors.add(innovation, spread, variance)
            kept = known[update.members]
            E = update.apply(E)
            members = carry.members
            if part == "shared":
                E[:, :q] = relaxed.apply(kept - kept.mean(axis=0), E[:, :q])
        tick(f + 1)
        if f + 1 in stops:
            out.append(
                Analysed(
                    f + 1, E[:, :q].copy(), E[:, q : q + v * n].reshape(len(E), v, n).copy(),
                    E[:, q + v * n :].copy(), variance, modes, carry.history,
                )
            )  # fmt: skip
    return out


def _curve(
    E: np.ndarray, model: TracerModel, f: int, rows: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """The exchange model at frame f in some voxels (N, len(rows)), run from the start, and the status (N,)."""
    q, v = len(SHARED), len(VOXEL)
    voxel = E[:, q : q + v * n].reshape(len(E), v, n)
    return model.at(E[:, :q], voxel if len(rows) == n else voxel[:, :, rows], f)


def _evolve(
    delta: np.ndarray,
    variance: np.ndarray,
    times: np.ndarray,
    f: int,
    settled: int,
    s: FilterSettings,
    key: Key,
    members: np.ndarray,
) -> np.ndarray:
    """Discrepancy at frame f: stationary when it begins, then first-order autoregressive."""
    keep = 0.0 if f == settled else float(np.exp(-(times[f] - times[f - 1]) / s.memory_s))
    noise = key.normals("discrepancy", members, delta.shape[1], f)
    return np.asarray(keep * delta + np.sqrt((1.0 - keep**2) * s.discrepancy * variance) * noise)


@dataclass(frozen=True)
class Forecast:
    """Means and standard deviations of what the scanner will show, frame by frame.

    Parameters
    ----------
    frames : ndarray of int, shape (H,)
    mean : ndarray, shape (n, H)
        mM.
    sd : ndarray, shape (n, H)
        Of an observed value: ensemble, discrepancy and frame error.
    model_sd : ndarray, shape (n, H)
        Of the ensemble and the discrepancy alone.
    region_mean, region_sd : ndarray, shape (H,)
        Of the mean over the voxels of a region, scan-level errors being shared by its voxels.
    """

    frames: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    model_sd: np.ndarray
    region_mean: np.ndarray
    region_sd: np.ndarray


def forecast(
    analysed: Analysed, model: TracerModel, settings: FilterSettings, last: int, region: np.ndarray
) -> Forecast:
    """Run the ensemble on to frame ``last`` (exclusive), reading no observation.

    ``region`` (n,) is a mask of the voxels whose mean is forecast too.
    """
    frames = np.arange(analysed.seen, last)
    n = analysed.voxel.shape[2]
    mean, spread = np.empty((n, len(frames))), np.empty((n, len(frames)))
    whole, whole_sd = np.empty(len(frames)), np.empty(len(frames))
    state = model.initial(len(analysed.shared), n)
    times = model.times
    stationary = settings.discrepancy * analysed.variance
    shared_error = (analysed.modes[region].mean(axis=0) ** 2).sum()
    rest = np.maximum(analysed.variance - (analysed.modes**2).sum(axis=1), 0.0)[region]
    for i, f in enumerate(frames):
        state, _ = model.propagate(state, analysed.shared, analysed.voxel, int(f))
        keep = float(np.exp(-(times[f] - times[analysed.seen - 1]) / settings.memory_s))
        members = model.observe(state, analysed.shared, analysed.voxel) + keep * analysed.discrepancy
        new = (1.0 - keep**2) * stationary
        mean[:, i] = members.mean(axis=0)
        spread[:, i] = members.var(axis=0, ddof=1) + new
        average = members[:, region].mean(axis=1)
        whole[i] = average.mean()
        alone = (rest + new[region]).mean() / region.sum()
        whole_sd[i] = np.sqrt(average.var(ddof=1) + shared_error + alone)
    sd = np.sqrt(spread + analysed.variance[:, None])
    return Forecast(frames, mean, sd, np.sqrt(spread), whole, whole_sd)


def fitted(analysed: Analysed, model: TracerModel) -> np.ndarray:
    """Ensemble mean of the exchange model at all frames seen, without discrepancy, shape (n, seen)."""
    state = model.initial(len(analysed.shared), analysed.voxel.shape[2])
    out = np.empty((analysed.voxel.shape[2], analysed.seen))
    for f in range(analysed.seen):
        state, _ = model.propagate(state, analysed.shared, analysed.voxel, f)
        out[:, f] = model.observe(state, analysed.shared, analysed.voxel).mean(axis=0)
    return out
