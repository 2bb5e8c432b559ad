"""Observations one after another: a square-root filter and the rank-histogram filter, both localisable.

An observation o moves its own prediction by increments ``delta`` (K,), by whichever rule, and everything else
by regression on it: ``e_j += rho_jo delta (h' . e_j)/(h' . h')``. The pairs (delta, slope) of all observations
are the update; it is applied to any block of columns wherever that lies, and rho tapers the gain itself
(covariance localisation: K = rho o (P H^T) over the innovation's variance), which no transform of one X can do.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..domain.errors import BadInput
from .diagnostics import found
from .inflation import Inflation
from .protocol import Analysis, Carry, Key, Problem, finish
from .tapers import Taper, gaspari_cohn
from .update import GlobalUpdate, Update, pieces, tiles_of


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

    def apply(
        self,
        block: np.ndarray,
        columns: np.ndarray | None = None,
        inflate: bool = True,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """See :class:`~vvuq_twin.assimilation.update.Update`."""
        numbers = np.arange(len(self.around.points)) if columns is None else np.asarray(columns)
        numbers = tiles_of(numbers, block, None)

        from .serial_kernels import spread

        def work(tile: np.ndarray, where: slice) -> np.ndarray:
            width = where.stop - where.start
            near = self.around.neighbours(self.around.points[numbers[where]], self.coords)
            moved = np.ascontiguousarray(tile[:, :width].T)
            spread(moved, *near, self.delta, self.slope)
            new = tile.copy()
            new[:, :width] = moved.T
            if inflate and self.inflation.active:
                return self.inflation.apply(tile - tile.mean(axis=0), new)
            return new

        return pieces(block, self.members, self.size, len(self.members), work, out=out)


@dataclass(frozen=True)
class SerialRoot(Analysis):
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
    def joint(self) -> bool:
        return self.around is None

    def solve(self, p: Problem, key: Key) -> tuple[Update, Carry]:
        """See :class:`~vvuq_twin.assimilation.protocol.Analysis`."""
        return self._update(p, key), finish(p, found(p, p.signal(), key))

    def _update(self, p: Problem, key: Key) -> SerialUpdate | GlobalUpdate:
        from .serial_kernels import everywhere, nearby

        error, m, observations = p.observations.error, len(p.kept), p.given
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
            X = everywhere(H, y, sd, low, high, self.ranks)
            return GlobalUpdate(p.rows, p.size, dense=X, inflation=self.inflation)
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
        nearby(H, y, sd, low, high, self.ranks, *near, delta, slope)
        return SerialUpdate(p.rows, p.size, delta, slope, coords, self.around, self.inflation)


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
