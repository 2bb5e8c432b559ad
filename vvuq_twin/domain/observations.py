"""Observations with the three parts of their error: scan-level, voxel and representation.

The covariance ``R = diag(voxel^2) + S S^T + Q Q^T`` is never formed: the scan-level part ``S`` is a few
columns (one per fully correlated error of a scan), the representation part ``Q`` a few smooth modes
plus whatever is local, which belongs in ``voxel``. ``R^-1`` is applied by the Woodbury identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from .errors import BadInput


@dataclass(frozen=True)
class ObservationError:
    """Error covariance of m observations: independent plus low-rank parts.

    Parameters
    ----------
    voxel : ndarray, shape (m,)
        Standard deviation of the independent part (image noise and local representation error).
    scan : ndarray, shape (m, s)
        Columns whose outer products add the scan-level part: each is one standard deviation of a
        fully correlated error (a calibration offset, a gain).
    representation : ndarray, shape (m, q)
        The same for spatially correlated errors of the model (form, reduction, sub-voxel structure).

    Raises
    ------
    BadInput
        If a standard deviation is not positive and finite, or the shapes differ.
    """

    voxel: np.ndarray
    scan: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    representation: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def __post_init__(self) -> None:
        m = len(self.voxel)
        for name in ("scan", "representation"):
            part = np.asarray(getattr(self, name), dtype=float)
            object.__setattr__(self, name, part.reshape(m, -1) if part.size else np.zeros((m, 0)))
        if not (np.isfinite(self.voxel).all() and (np.asarray(self.voxel) > 0).all()):
            raise BadInput(
                "the standard deviation of an observation is not positive and finite", "observation error"
            )
        if not np.isfinite(self.factor).all():
            raise BadInput("a correlated part of the error is not finite", "observation error")

    @cached_property
    def factor(self) -> np.ndarray:
        """All low-rank columns side by side, shape (m, s + q)."""
        return np.concatenate([self.scan, self.representation], axis=1)

    @cached_property
    def _core(self) -> np.ndarray:
        """Cholesky factor of ``I + U^T D^-1 U``, shape (k, k)."""
        scaled = self.factor / self.voxel[:, None]
        return np.linalg.cholesky(np.eye(scaled.shape[1]) + scaled.T @ scaled)

    def solve(self, b: np.ndarray) -> np.ndarray:
        """``R^-1 b`` for b of shape (m,) or (m, k), by Woodbury: O(m k) work, nothing m x m."""
        d = self.voxel**2
        x = b / (d if b.ndim == 1 else d[:, None])
        if self.factor.shape[1] == 0:
            return x
        small = np.linalg.solve(self._core.T, np.linalg.solve(self._core, self.factor.T @ x))
        correction = self.factor @ small
        return x - correction / (d if b.ndim == 1 else d[:, None])

    def variance(self) -> np.ndarray:
        """Diagonal of R, shape (m,)."""
        own = self.voxel**2
        return own + (self.factor**2).sum(axis=1) if self.factor.shape[1] else own

    def perturbations(self, normals: np.ndarray) -> np.ndarray:
        """Draws of the error from standard normals.

        Parameters
        ----------
        normals : ndarray, shape (N, m + k)
            Independent standard normals, k the number of low-rank columns.

        Returns
        -------
        ndarray, shape (N, m)
        """
        m = len(self.voxel)
        own = normals[:, :m] * self.voxel
        return own + normals[:, m:] @ self.factor.T if self.factor.shape[1] else own

    def take(self, rows: np.ndarray) -> ObservationError:
        """The error of some of the observations."""
        return ObservationError(self.voxel[rows], self.scan[rows], self.representation[rows])


@dataclass(frozen=True)
class Observations:
    """What was measured at one time.

    Parameters
    ----------
    y : ndarray, shape (m,)
        Values; NaN marks a missing pixel, or one that is only known to lie in an interval.
    error : ObservationError
    coords : ndarray, shape (m, 3), or (m, 0) where the observation has no place
        Position in mm.
    ids : ndarray of str, shape (m,), or a single id for the whole scan
        A scan that arrives twice, by its id, counts once.
    time : float
        Days (images of tumours) or seconds (dynamic series); the study says which.
    interval : ndarray, shape (m, 2), optional
        Censored values: where ``y`` is NaN and a bound is finite, the value read would have lain between the
        two (below detection is ``(-inf, limit)``); ``(-inf, inf)`` or NaN elsewhere.
    """

    y: np.ndarray
    error: ObservationError
    coords: np.ndarray
    ids: Sequence[str]
    time: float
    interval: np.ndarray | None = None

    @property
    def censored(self) -> np.ndarray:
        """Which observations are known by an interval only, shape (m,)."""
        if self.interval is None:
            return np.zeros(len(self.y), dtype=bool)
        return np.isnan(self.y) & np.isfinite(self.interval).any(axis=1)

    def take(self, rows: np.ndarray) -> Observations:
        """Some of the observations."""
        ids = [self.ids[int(i)] for i in rows] if len(self.ids) == len(self.y) else self.ids
        interval = None if self.interval is None else self.interval[rows]
        return Observations(self.y[rows], self.error.take(rows), self.coords[rows], ids, self.time, interval)

    def present(self) -> Observations:
        """Without the missing pixels."""
        rows = np.flatnonzero(np.isfinite(self.y) | self.censored)
        return self if len(rows) == len(self.y) else self.take(rows)


def stack(scans: Sequence[Observations]) -> Observations:
    """Several scans as one, errors of different scans independent; a scan id seen before is left out.

    ``time`` is that of the last scan.
    """
    seen: set[str] = set()
    kept: list[Observations] = []
    for scan in scans:
        key = "\x1f".join(scan.ids)
        if key not in seen:
            seen.add(key)
            kept.append(scan)

    def blocks(parts: list[np.ndarray]) -> np.ndarray:
        out = np.zeros((sum(p.shape[0] for p in parts), sum(p.shape[1] for p in parts)))
        row = col = 0
        for p in parts:
            out[row : row + p.shape[0], col : col + p.shape[1]] = p
            row, col = row + p.shape[0], col + p.shape[1]
        return out

    error = ObservationError(
        np.concatenate([s.error.voxel for s in kept]),
        blocks([s.error.scan for s in kept]),
        blocks([s.error.representation for s in kept]),
    )
    ids = [i for s in kept for i in (s.ids if len(s.ids) == len(s.y) else list(s.ids) * len(s.y))]
    interval = None
    if any(s.interval is not None for s in kept):
        interval = np.concatenate(
            [np.full((len(s.y), 2), np.nan) if s.interval is None else s.interval for s in kept]
        )
    return Observations(
        np.concatenate([s.y for s in kept]),
        error,
        np.concatenate([s.coords for s in kept]),
        ids,
        kept[-1].time,
        interval,
    )
