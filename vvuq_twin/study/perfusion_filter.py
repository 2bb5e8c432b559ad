"""Frames assimilated one after another into the tracer model: what is shared globally, a voxel's own locally.

Each frame the model is run again from the first frame with the parameters as they are (strong constraint: an
analysis moves parameters, never the tracer itself, so no mass is made). To it are added each voxel's linear response
to the frame's breathing scores and a slowly varying discrepancy; ``VoxelETKF`` analyses all of them. The error of a
frame has a scan-level part (spatial modes learned from the innovations of the frames before), and a voxel part (image
noise and motion inside the voxel, estimated from the same innovations); while the bolus passes, representation error
is added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..assimilation import Inflation, Key, VoxelETKF, in_place, start
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
    response : float
        Prior standard deviation of a voxel's response to a breathing score of one, over that of its error.
    trust : float
        Share of the exchange model's change after the last frame seen that is forecast; the discrepancy is
        expected to undo the rest (0: the level stays, 1: the model's own course).
    modes : int
        Spatial modes of the scan-level error.
    scan_relative : float
        Scan-level error, common to all voxels, as a fraction of the predicted concentration until modes are learned.
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
    response: float
    trust: float
    modes: int
    scan_relative: float
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
    response : ndarray, shape (N, b, n)
        Of each voxel to each breathing score, mM.
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
    response: np.ndarray
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
            return self.settings.scan_relative * level[:, None]
        # what persists is the model's fault, not a frame's: only departures from each voxel's mean count
        r = np.array(self.residuals)
        r = (r - r.mean(axis=0)) / np.sqrt(total)
        values, vectors = np.linalg.eigh(r @ r.T)
        # few frames show leading modes in pure noise as well: what the other frames' directions hold is taken off
        common = np.sqrt(np.maximum(0.0, 1.0 - values[1:-q].mean() / np.maximum(values[-q:], 1e-300)))
        found = common * (r.T @ vectors[:, -q:]) / np.sqrt(k - 1.0) * np.sqrt(total)[:, None]
        # a voxel's modes never hold more than most of its variance
        held = (found**2).sum(axis=1)
        return np.asarray(found * np.sqrt(np.minimum(1.0, 0.8 * total / np.maximum(held, 1e-12)))[:, None])


def assimilate(
    curves: np.ndarray,
    coords: np.ndarray,
    breathing: np.ndarray,
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
    breathing : ndarray, shape (F, b)
        Scores of each frame; read as the curves are.
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
    curves, breathing = curves[:, : max(stops)], breathing[: max(stops)]
    key = Key(seed, ("perfusion", name))
    members = np.arange(N)
    at = _Columns(n, breathing.shape[1])
    E = _start(key, members, at)
    relaxed = Inflation(rtps=s.relax_shared)
    carry = start(N)
    base = np.nanvar(curves[:, : s.first], axis=1)
    base = np.where(np.isfinite(base), base, np.nanmedian(base))
    errors = _ErrorModel(0.5 * (base + np.median(base)), s)
    settled = settled_frame(model, s)
    out = []
    for f in range(s.first, max(stops)):
        level = np.abs(_curve(E[::8], model, f, at).mean(axis=0))
        variance = errors.variance(level)
        if f >= settled:
            modes = errors.modes(level, variance)
            if f == settled:
                _respond(E, at, s.response * np.sqrt(variance), key, members)
            _evolve(E, at, variance, model.times, f, settled, s, key, members)
            alone = np.maximum(variance - (modes**2).sum(axis=1), 0.2 * variance)
        else:
            modes = s.scan_relative * level[:, None]
            alone = s.passing**2 * variance + (s.relative * level) ** 2
        drawn = key.generator("shared voxels", f).permutation(n)
        few, rest = np.sort(drawn[: s.shared_voxels]), np.sort(drawn[s.shared_voxels :])
        # A few voxels, drawn anew, speak for the shared parameters, knowing that the frame's error is partly common.
        # All the others speak for themselves: each by its whole error, since a level that all voxels miss in
        # every frame would otherwise pass for the frames' common error and never be mended.
        for part, rows, error in (
            ("shared", few, ObservationError(np.sqrt(alone), scan=modes)),
            ("local", rest, ObservationError(np.sqrt(alone + (modes**2).sum(axis=1)))),
        ):
            if not len(rows):
                continue
            curve, status = model.at(E[:, : at.q], at.voxel(E)[:, :, rows], f)
            HE = curve + at.discrepancy(E)[:, rows]
            for b, z in enumerate(breathing[f]):
                HE += z * at.response(E)[:, b, rows]
            observed = Observations(
                curves[rows, f],
                error.take(rows),
                coords[rows],
                (f"{name} frame {f + 1} {part}",),
                float(model.times[f]),
            )
            known = E[:, : at.q]
            update, carry = VoxelETKF(rows, at.owner).analyse(
                carry, HE, observed, key, status, shared=known if part == "shared" else None
            )
            if part == "local" and f >= settled:
                innovation = np.full(n, np.nan)
                innovation[rows] = curves[rows, f] - HE.mean(axis=0)
                spread = np.zeros(n)
                spread[rows] = HE.var(axis=0, ddof=1)
                errors.add(innovation, spread, variance)
            kept = known[update.members]
            E = in_place(update, E)
            members = carry.members
            if part == "shared":
                E[:, : at.q] = relaxed.apply(kept - kept.mean(axis=0), E[:, : at.q])
        tick(f + 1)
        if f + 1 in stops:
            out.append(
                Analysed(
                    f + 1, E[:, : at.q].copy(), at.voxel(E).copy(), at.response(E).copy(),
                    at.discrepancy(E).copy(), variance, modes, carry.history,
                )
            )  # fmt: skip
    return out


def settled_frame(model: TracerModel, settings: FilterSettings) -> int:
    """First frame after the first pass, counted from 0."""
    return int(np.searchsorted(model.times, model.times[settings.first] + settings.settled_s))


@dataclass(frozen=True)
class _Columns:
    """Columns of the ensemble: shared scores, voxel scores, responses to breathing, discrepancy."""

    n: int
    breathing: int

    q = len(SHARED)
    v = len(VOXEL)

    @property
    def owner(self) -> np.ndarray:
        """Voxel of each column, -1 for a shared one."""
        return np.concatenate([np.full(self.q, -1), np.tile(np.arange(self.n), self.v + self.breathing + 1)])

    def voxel(self, E: np.ndarray) -> np.ndarray:
        """(N, 3, n), a view."""
        return E[:, self.q : self.q + self.v * self.n].reshape(len(E), self.v, self.n)

    def response(self, E: np.ndarray) -> np.ndarray:
        """(N, b, n), a view."""
        return E[:, self.q + self.v * self.n : -self.n].reshape(len(E), self.breathing, self.n)

    def discrepancy(self, E: np.ndarray) -> np.ndarray:
        """(N, n), a view."""
        return E[:, -self.n :]

    def others(self, E: np.ndarray) -> list[np.ndarray]:
        """What a new draw of each voxel is to be uncorrelated with."""
        return [*E[:, : self.q].T, *np.moveaxis(self.voxel(E), 1, 0)]


def _start(key: Key, members: np.ndarray, at: _Columns) -> np.ndarray:
    """The prior ensemble: shared scores, voxel scores; no response and no discrepancy yet."""
    shared: list[np.ndarray] = []
    for x in key.normals("shared", members, at.q).T:
        shared.append(exact(x[:, None], shared)[:, 0])
    normals = key.normals("voxel", members, at.v * at.n)
    voxel: list[np.ndarray] = []
    for i in range(at.v):
        voxel.append(exact(normals[:, i * at.n : (i + 1) * at.n], [*shared, *voxel]))
    nothing = np.zeros((len(members), (at.breathing + 1) * at.n))
    return np.concatenate([np.stack(shared, axis=1), *voxel, nothing], axis=1)


def _curve(E: np.ndarray, model: TracerModel, f: int, at: _Columns) -> np.ndarray:
    """The exchange model at frame f (N, n), run from the start."""
    return model.at(E[:, : at.q], at.voxel(E), f)[0]


def exact(normals: np.ndarray, against: list[np.ndarray]) -> np.ndarray:
    """Draws made exactly centred, of unit sample variance, and uncorrelated in each voxel with what is given.

    Parameters
    ----------
    normals : ndarray, shape (N, n)
    against : list of ndarray, shape (N, n) or (N,)
        N well above their number.

    Returns
    -------
    ndarray, shape (N, n)

    Notes
    -----
    With N members, draws correlate by chance at 1/sqrt(N) with everything else, and a filter takes that for
    information. A voxel has few unknowns, so its draws can simply be made orthogonal to them (second-order exact
    sampling, Pham 2001).
    """
    N, n = normals.shape
    x = normals - normals.mean(axis=0)
    if against:
        basis = np.stack([np.broadcast_to(a.reshape(N, -1), (N, n)) for a in against])
        basis = basis - basis.mean(axis=1, keepdims=True)
        sd = basis.std(axis=1, keepdims=True)
        basis = np.moveaxis(basis / np.where(sd > 0, sd, 1.0), 2, 0)
        gram = basis @ np.swapaxes(basis, 1, 2) + 1e-9 * N * np.eye(len(against))
        part = np.linalg.solve(gram, basis @ x.T[:, :, None])
        x = x - (np.swapaxes(basis, 1, 2) @ part)[:, :, 0].T
    return np.asarray(x * np.sqrt((N - 1.0) / (x**2).sum(axis=0)))


def _respond(E: np.ndarray, at: _Columns, sd: np.ndarray, key: Key, members: np.ndarray) -> None:
    """The prior of the responses to breathing, in place."""
    normals = key.normals("response", members, at.breathing * at.n).reshape(len(E), at.breathing, at.n)
    known = at.others(E)
    for b in range(at.breathing):
        known.append(exact(normals[:, b], known))
        at.response(E)[:, b] = sd * known[-1]


def _evolve(
    E: np.ndarray,
    at: _Columns,
    variance: np.ndarray,
    times: np.ndarray,
    f: int,
    settled: int,
    s: FilterSettings,
    key: Key,
    members: np.ndarray,
) -> None:
    """Discrepancy at frame f, in place: stationary when it begins, then first-order autoregressive."""
    delta = at.discrepancy(E)
    keep = 0.0 if f == settled else float(np.exp(-(times[f] - times[f - 1]) / s.memory_s))
    known = [*at.others(E), *np.moveaxis(at.response(E), 1, 0)]
    if f > settled:
        known.append(delta)
    noise = exact(key.normals("discrepancy", members, at.n, f), known)
    delta[:] = keep * delta + np.sqrt((1.0 - keep**2) * s.discrepancy * variance) * noise
