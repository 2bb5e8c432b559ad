"""Observations one after another: a square-root filter and the rank-histogram filter, both localisable.

An observation o moves its own prediction by increments ``delta`` (K,), by whichever rule, and everything else
by regression on it: ``e_j += rho_jo delta (h' . e_j)/(h' . h')``. The pairs (delta, slope) of all observations
are the update; it is applied to any block of columns wherever that lies, and rho tapers the gain itself
(covariance localisation: K = rho o (P H^T) over the innovation's variance), which no transform of one X can do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numba as nb
import numpy as np

from ..domain.errors import BadInput
from ..domain.observations import Observations
from .diagnostics import found
from .inflation import Inflation
from .protocol import Carry, Key, Problem, finish, prepare, unchanged
from .tapers import Taper, gaspari_cohn
from .update import GlobalUpdate, pieces, tiles_of

#: Cells into which each tail of the rank histogram's prior is cut, and how far it reaches, in deviations.
TAIL, FAR = 48, 8.0
_ROOT_2 = math.sqrt(2.0)


@nb.njit(cache=True)
def _square_root(h: np.ndarray, y: float, sd: float, out: np.ndarray) -> None:
    """Increments of the Gaussian square root: the mean by the gain, the anomalies shrunk."""
    k = len(h)
    mean = h.mean()
    variance = 0.0
    for i in range(k):
        variance += (h[i] - mean) ** 2
    variance /= k - 1
    gain = variance / (variance + sd * sd)
    shrink = sd / math.sqrt(variance + sd * sd) - 1.0
    for i in range(k):
        out[i] = gain * (y - mean) + shrink * (h[i] - mean)


@nb.njit(cache=True)
def _log_likelihood(x: float, y: float, sd: float, low: float, high: float) -> float:
    """Of a reading y, or of one that is only known to lie in low..high, given the prediction x."""
    if not math.isnan(y):
        return -0.5 * ((y - x) / sd) ** 2
    a, b = (low - x) / sd, (high - x) / sd
    if a > 0:  # the tail where differences keep their digits
        a, b = -b, -a
    p = 0.5 * (math.erfc(-b / _ROOT_2) - math.erfc(-a / _ROOT_2))
    if p > 1e-300:
        return math.log(p)
    near = b if b < 0 else a
    return -0.5 * near * near - 690.0


@nb.njit(cache=True)
def _rank_histogram(h: np.ndarray, y: float, sd: float, low: float, high: float, out: np.ndarray) -> None:
    """Increments of the rank-histogram filter: each member keeps its rank in the posterior.

    The prior has mass 1/(K + 1) between neighbouring members, uniform there, and beyond the outermost ones
    tails of a normal with the ensemble's deviation; cells of the tails and gaps are weighted by the
    likelihood, linear over each; members become the quantiles i/(K + 1).
    """
    k = len(h)
    order = np.argsort(h)
    deviation = h.std() * math.sqrt(k / (k - 1.0))
    cells = 2 * TAIL + k - 1
    edge = np.empty(cells + 1)
    prior = np.empty(cells)
    # a tail beyond its quantile q = 1/(K + 1), in deviations from there outwards
    q = 1.0 / (k + 1.0)
    z0 = _normal_quantile(q)
    reach = FAR + z0 if FAR + z0 > 1.0 else 1.0
    for i in range(TAIL):
        outer, inner = z0 - reach * (TAIL - i) / TAIL, z0 - reach * (TAIL - i - 1) / TAIL
        mass = 0.5 * (math.erfc(-inner / _ROOT_2) - math.erfc(-outer / _ROOT_2))
        edge[i] = h[order[0]] + (outer - z0) * deviation
        prior[i] = mass
        edge[cells - i] = h[order[k - 1]] - (outer - z0) * deviation
        prior[cells - 1 - i] = mass
    for i in range(k):
        edge[TAIL + i] = h[order[i]]
        if i < k - 1:
            prior[TAIL + i] = q
    log = np.empty(cells + 1)
    top = -np.inf
    for i in range(cells + 1):
        log[i] = _log_likelihood(edge[i], y, sd, low, high)
        top = max(top, log[i])
    total = 0.0
    for i in range(cells):
        prior[i] *= 0.5 * (math.exp(log[i] - top) + math.exp(log[i + 1] - top))
        total += prior[i]
    cell, below = 0, 0.0
    for i in range(k):
        wanted = total * (i + 1) * q
        while cell < cells - 1 and below + prior[cell] < wanted:
            below += prior[cell]
            cell += 1
        # the density is linear between the likelihoods at the cell's ends
        a, b = math.exp(log[cell] - top), math.exp(log[cell + 1] - top)
        part = (wanted - below) / prior[cell] if prior[cell] > 0 else 0.5
        part = min(max(part, 0.0), 1.0)
        if abs(b - a) > 1e-9 * (a + b):
            part = (math.sqrt(a * a + part * (b * b - a * a)) - a) / (b - a)
        out[order[i]] = edge[cell] + part * (edge[cell + 1] - edge[cell]) - h[order[i]]


@nb.njit(cache=True)
def _normal_quantile(p: float) -> float:
    """Quantile of the standard normal by bisection; p in (0, 1/2)."""
    a, b = -40.0, 0.0
    for _ in range(80):
        c = 0.5 * (a + b)
        if 0.5 * math.erfc(-c / _ROOT_2) < p:
            a = c
        else:
            b = c
    return 0.5 * (a + b)


@nb.njit(cache=True)
def _increments(
    h: np.ndarray,
    y: float,
    sd: float,
    low: float,
    high: float,
    ranks: bool,
    delta: np.ndarray,
    slope: np.ndarray,
) -> bool:
    """Increments of one observation and the slope that spreads them; False where the members agree."""
    mean = h.mean()
    square = 0.0
    for i in range(len(h)):
        slope[i] = h[i] - mean
        square += slope[i] ** 2
    if square <= 1e-28 * (mean * mean + 1e-270):
        delta[:] = 0.0
        slope[:] = 0.0
        return False
    for i in range(len(h)):
        slope[i] /= square
    if ranks:
        _rank_histogram(h, y, sd, low, high, delta)
    else:
        _square_root(h, y, sd, delta)
    return True


@nb.njit(cache=True)
def _everywhere(
    H: np.ndarray, y: np.ndarray, sd: np.ndarray, low: np.ndarray, high: np.ndarray, ranks: bool
) -> np.ndarray:
    """All observations into one transform (K, K): H (m, K) is read as it was, and moved as far as it has come."""
    m, k = H.shape
    X = np.eye(k)
    delta, slope, row = np.empty(k), np.empty(k), np.empty(k)
    for o in range(m):
        h = X @ H[o]
        if _increments(h, y[o], sd[o], low[o], high[o], ranks, delta, slope):
            row[:] = slope @ X
            for i in range(k):
                for j in range(k):
                    X[i, j] += delta[i] * row[j]
    return X


@nb.njit(cache=True)
def _nearby(
    H: np.ndarray, y: np.ndarray, sd: np.ndarray, low: np.ndarray, high: np.ndarray, ranks: bool,
    start: np.ndarray, index: np.ndarray, taper: np.ndarray, delta: np.ndarray, slope: np.ndarray,
) -> None:  # fmt: skip
    """Increments and slopes of all observations; predictions in reach are moved as the state will be."""
    for o in range(len(H)):
        if not _increments(H[o], y[o], sd[o], low[o], high[o], ranks, delta[o], slope[o]):
            continue
        for a in range(start[o], start[o + 1]):
            p = index[a]
            if p > o:
                by = taper[a] * (slope[o] @ H[p])
                for i in range(H.shape[1]):
                    H[p, i] += by * delta[o, i]


@nb.njit(cache=True)
def _spread(
    E: np.ndarray,
    start: np.ndarray,
    index: np.ndarray,
    taper: np.ndarray,
    delta: np.ndarray,
    slope: np.ndarray,
) -> None:
    """Columns e of E (n, K) moved by their observations in order."""
    for j in range(len(E)):
        for a in range(start[j], start[j + 1]):
            o = index[a]
            by = taper[a] * (slope[o] @ E[j])
            for i in range(E.shape[1]):
                E[j, i] += by * delta[o, i]


@dataclass(frozen=True)
class Around:
    """Where the columns of a state are, and how far an observation acts.

    Parameters
    ----------
    points : ndarray, shape (n, d)
        Position of each column in mm; NaN for one without a place, which every observation moves.
    radius : float
        Length scale in mm.
    taper : Taper
    period : tuple of float, optional
        Length of each axis where the domain closes on itself.
    """

    points: np.ndarray
    radius: float
    taper: Taper = gaspari_cohn
    period: tuple[float, ...] | None = None

    def neighbours(self, points: np.ndarray, coords: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each point the observations in reach, ascending: starts (P + 1,), indices and tapers."""
        from scipy.spatial import cKDTree

        period = None if self.period is None else np.asarray(self.period, dtype=float)
        if period is not None:
            points, coords = np.mod(points, period), np.mod(coords, period)
        placed = np.isfinite(points).all(axis=1)
        everything = list(range(len(coords)))
        near = [everything] * len(points)
        found = cKDTree(coords, boxsize=period).query_ball_point(
            points[placed], self.taper.reach * self.radius, return_sorted=True
        )
        for i, some in zip(np.flatnonzero(placed), found):
            near[int(i)] = some
        start = np.concatenate([[0], np.cumsum([len(x) for x in near])]).astype(np.int64)
        index = (
            np.concatenate([np.asarray(x, dtype=np.int64) for x in near]) if len(near) else np.zeros(0, int)
        )
        away = np.abs(coords[index] - np.repeat(points, np.diff(start), axis=0))
        if period is not None:
            away = np.minimum(away, np.abs(period - away))
        away = np.sqrt((away**2).sum(axis=1))
        weight = self.taper(np.where(np.isfinite(away), away, 0.0), self.radius)
        return start, index, weight


@dataclass(frozen=True)
class SerialUpdate:
    """Increments and slopes of observations one after another, tapered by distance.

    Parameters
    ----------
    members : ndarray of int, shape (K,)
    size : int
        Rows of E before.
    delta, slope : ndarray, shape (m, K)
    coords : ndarray, shape (m, d)
    around : Around
    inflation : Inflation
    """

    members: np.ndarray
    size: int
    delta: np.ndarray
    slope: np.ndarray
    coords: np.ndarray
    around: Around
    inflation: Inflation = field(default_factory=Inflation)

    def apply(self, block: np.ndarray, columns: np.ndarray | None = None, inflate: bool = True) -> np.ndarray:
        """See :class:`~vvuq_twin.assimilation.update.Update`."""
        numbers = np.arange(len(self.around.points)) if columns is None else np.asarray(columns)
        numbers = tiles_of(numbers, block, None)

        def work(tile: np.ndarray, where: slice) -> np.ndarray:
            width = where.stop - where.start
            near = self.around.neighbours(self.around.points[numbers[where]], self.coords)
            moved = np.ascontiguousarray(tile[:, :width].T)
            _spread(moved, *near, self.delta, self.slope)
            out = tile.copy()
            out[:, :width] = moved.T
            if inflate and self.inflation.active:
                return self.inflation.apply(tile - tile.mean(axis=0), out)
            return out

        return pieces(block, self.members, self.size, len(self.members), work)


@dataclass(frozen=True)
class SerialRoot:
    """Serial ensemble square-root filter (Whitaker & Hamill 2002; Anderson 2003).

    Parameters
    ----------
    around : Around, optional
        Covariance localisation; without it one transform for all columns.
    inflation : Inflation

    Notes
    -----
    Without localisation and with independent errors the mean and covariance are those of the Kalman filter.
    Low-rank columns of the error are sampled: each member's predictions get a draw of them, so that the
    correlation acts as it should with the sampling error of N members.
    """

    around: Around | None = None
    inflation: Inflation = field(default_factory=Inflation)

    @property
    def ranks(self) -> bool:
        return False

    @property
    def steps(self) -> int:
        return 1

    def analyse(
        self,
        carry: Carry,
        HE: np.ndarray,
        observations: Observations,
        key: Key,
        status: np.ndarray | None = None,
    ) -> tuple[SerialUpdate | GlobalUpdate, Carry]:
        """See :class:`~vvuq_twin.assimilation.protocol.Scheme`."""
        p = prepare(carry, HE, observations, status, joint=self.around is None)
        size = len(carry.members)
        if len(p.kept) == 0:
            return unchanged(p, size)
        signal = p.signal()
        update = self._update(p, observations, size, key)
        return update, finish(p, found(p, signal, key))

    def _update(
        self, p: Problem, observations: Observations, size: int, key: Key
    ) -> SerialUpdate | GlobalUpdate:
        error, m = p.observations.error, len(p.kept)
        H = np.ascontiguousarray((p.predictions + (p.observations.y - p.innovation)).T)
        if error.factor.shape[1]:
            b = key.normals("scan level", p.numbers, error.factor.shape[1], p.carry.cycle)
            b = (b - b.mean(axis=0)) / b.std(axis=0, ddof=1)
            H += error.factor @ b.T
        y, sd = p.observations.y, np.array(error.voxel, dtype=float)
        low, high = np.full(m, -np.inf), np.full(m, np.inf)
        if self.ranks:  # the likelihood of a censored value itself, not its Gaussian stand-in
            hidden = observations.censored[p.kept]
            y = np.where(hidden, np.nan, y)
            sd = np.where(hidden, observations.error.voxel[p.kept], sd)
            if observations.interval is not None:
                bounds = observations.interval[p.kept][hidden]
                low[hidden] = np.where(np.isnan(bounds[:, 0]), -np.inf, bounds[:, 0])
                high[hidden] = np.where(np.isnan(bounds[:, 1]), np.inf, bounds[:, 1])
        if self.around is None:
            X = _everywhere(H, y, sd, low, high, self.ranks)
            return GlobalUpdate(p.rows, size, dense=X, inflation=self.inflation)
        coords = p.observations.coords
        if coords.shape[1] != self.around.points.shape[1]:
            raise BadInput(
                f"observations with {coords.shape[1]} coordinates cannot be localised among columns with "
                f"{self.around.points.shape[1]}",
                "localisation",
                "give the observations their positions in mm",
            )
        delta, slope = np.zeros_like(H), np.zeros_like(H)
        near = self.around.neighbours(coords, coords)
        _nearby(H, y, sd, low, high, self.ranks, *near, delta, slope)
        return SerialUpdate(p.rows, size, delta, slope, coords, self.around, self.inflation)


@dataclass(frozen=True)
class RankHistogram(SerialRoot):
    """Rank-histogram filter (Anderson 2010, Mon. Wea. Rev. 138:4186): no Gaussian in the observed variable.

    Parameters
    ----------
    around, inflation
        See :class:`SerialRoot`.

    Notes
    -----
    The observed variable has any prior (its members' own histogram with normal tails) and any likelihood,
    censored values included; its increments reach everything else by linear regression. For strongly
    nonlinear cases and large ensembles; with few members its histogram is noise.
    """

    @property
    def ranks(self) -> bool:
        return True
