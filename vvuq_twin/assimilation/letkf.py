"""Local ensemble transform Kalman filter: a transform per tile, one for what is shared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..domain.errors import BadInput
from ..domain.observations import Observations
from .diagnostics import found
from .etkf import square_root
from .protocol import Carry, Key, Problem, finish, prepare, unchanged
from .roots import Spectrum, mean_preserving_rotation
from .tapers import HALF_SUPPORT, Tiles, gaspari_cohn
from .update import GlobalUpdate, Inflation, LocalUpdate
from .whitening import root_coefficient, whiten, whiten_parts

# Working memory of a batch of local analyses.
BATCH_BYTES = 1 << 26


@dataclass(frozen=True)
class LETKF:
    """Local analyses with tapered observation error (Hunt, Kostelich & Szunyogh 2007).

    Parameters
    ----------
    tiles : Tiles
        Which column of the state belongs where; columns with tile -1 are analysed globally.
    radius : float
        Length scale of the taper in mm, see :func:`~vvuq_twin.assimilation.tapers.gaspari_cohn`.
    inflation : Inflation
    rotate : bool
        One keyed mean-preserving rotation, the same for all tiles.
    period : tuple of float, optional
        Length of each axis where the domain closes on itself.

    Notes
    -----
    *R-localisation*: in a tile the independent part of the error grows as the taper falls,
    ``R_tile = diag(voxel^2 / taper) + F F^T``: an observation that fades drops out as if it were
    missing. The scan-level columns F are kept as they are among the observations in reach, so no local
    analysis averages a scan's offset away. What the tiles do not know is that their remaining errors
    share that offset: the variance of a *sum* over tiles is too small. Where the offset matters for
    totals, make it a shared parameter of the model, or use ``VoxelETKF``, which does so itself.

    Columns without a place get the global ETKF transform of all observations with the whole of R.

    Cost: for a tile with m observations in reach min(N, m)^2 max(N, m); memory 8 T N^2 bytes for T tiles.
    """

    tiles: Tiles
    radius: float
    inflation: Inflation = field(default_factory=Inflation)
    rotate: bool = False
    period: tuple[float, ...] | None = None

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
    ) -> tuple[LocalUpdate | GlobalUpdate, Carry]:
        """See :class:`~vvuq_twin.assimilation.protocol.Scheme`."""
        p = prepare(carry, HE, observations, status)
        size, k = len(carry.members), len(p.rows)
        if len(p.kept) == 0:
            return unchanged(p, size)
        if p.observations.coords.shape[1] != self.tiles.centres.shape[1]:
            raise BadInput(
                f"observations with {p.observations.coords.shape[1]} coordinates cannot be localised "
                f"among tiles with {self.tiles.centres.shape[1]}",
                "localisation",
                "give the observations their positions in mm",
            )
        error = p.observations.error
        spectrum, d = Spectrum(whiten(error, p.anomalies)), whiten(error, p.innovation)
        shared = square_root(spectrum, d, p.rows, size, self.inflation)
        transforms = self._local(p)
        if self.rotate:
            turn = mean_preserving_rotation(
                key.generator("rotation", carry.cycle).standard_normal((k - 1, k - 1))
            )
            x = shared.matrix()
            mean = x.mean(axis=0)
            shared = GlobalUpdate(p.rows, size, dense=mean + turn @ (x - mean), inflation=self.inflation)
            means = transforms.mean(axis=1, keepdims=True)
            transforms = means + turn @ (transforms - means)
        note = {**found(p, spectrum, d, key), "tiles": len(transforms)}
        return LocalUpdate(shared, self.tiles.tile_of, transforms), finish(p, note)

    def _local(self, p: Problem) -> np.ndarray:
        """The transforms of all tiles, shape (T, K, K)."""
        error, k = p.observations.error, len(p.rows)
        # the last row stands for "no observation" and fills the tiles up to equal length
        y = np.concatenate([(p.anomalies / error.voxel).T, np.zeros((1, k))])
        d = np.append(p.innovation / error.voxel, 0.0)
        g = error.factor / error.voxel[:, None]
        g = np.concatenate([g, np.zeros((1, g.shape[1]))])
        out = np.empty((len(self.tiles.centres), k, k))
        for chosen, index, taper in self._neighbours(p.observations.coords, k):
            root = np.sqrt(taper)[..., None]
            parts = np.concatenate([y[index], d[index][..., None]], axis=2) * root
            white = whiten_parts(np.swapaxes(parts, 1, 2), g[index] * root)
            out[chosen] = transforms(white[:, :-1], white[:, -1])
        return out

    def _neighbours(
        self, coords: np.ndarray, members: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Batches of tiles: their numbers (B,), observations in reach (B, m) and tapers (B, m)."""
        from scipy.spatial import cKDTree

        period = None if self.period is None else np.asarray(self.period, dtype=float)
        centres = self.tiles.centres
        if period is not None:
            coords, centres = np.mod(coords, period), np.mod(centres, period)
        near = cKDTree(coords, boxsize=period).query_ball_point(
            centres, 2 * HALF_SUPPORT * self.radius, return_sorted=True
        )
        count = np.array([len(x) for x in near])
        order = np.argsort(count, kind="stable")
        start = 0
        while start < len(order):
            stop = start + 1
            # tiles in order of their number of observations, as many as fit the working memory
            while (
                stop < len(order) and self._bytes(stop + 1 - start, count[order[stop]], members) < BATCH_BYTES
            ):
                stop += 1
            chosen, width = order[start:stop], max(int(count[order[stop - 1]]), 1)
            index = np.full((len(chosen), width), len(coords))
            for row, tile in enumerate(chosen):
                index[row, : count[tile]] = near[tile]
            step = (
                np.concatenate([coords, np.full((1, coords.shape[1]), np.inf)])[index] - centres[chosen, None]
            )
            if period is not None:
                step = np.abs(step)
                step = np.minimum(step, np.abs(period - step))
            taper = gaspari_cohn(np.sqrt((step**2).sum(axis=-1)), self.radius)
            yield chosen, index, taper
            start = stop

    @staticmethod
    def _bytes(tiles: int, observations: int, members: int) -> int:
        return 8 * tiles * members * (4 * int(observations) + 3 * members)


def transforms(S: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Square-root transforms ``1 w^T + (I + S S^T)^(-1/2)`` of many small problems at once.

    Parameters
    ----------
    S : ndarray, shape (B, K, m)
        Whitened anomalies over sqrt(K - 1).
    d : ndarray, shape (B, m)
        Whitened innovations.

    Returns
    -------
    ndarray, shape (B, K, K)
    """
    _, k, m = S.shape
    swap = np.swapaxes(S, 1, 2)
    eye = np.eye(k)
    if m < k:
        values, vectors = np.linalg.eigh(swap @ S)
        values = np.maximum(values, 0.0)[:, None, :]
        back = np.swapaxes(vectors, 1, 2) @ swap
        w = ((d[:, None, :] @ vectors) / (1.0 + values)) @ back
        root = S @ ((vectors * root_coefficient(values)) @ back)
    else:
        values, vectors = np.linalg.eigh(S @ swap)
        values = np.maximum(values, 0.0)[:, None, :]
        back = np.swapaxes(vectors, 1, 2)
        w = ((d[:, None, :] @ swap) @ vectors) / (1.0 + values) @ back
        root = (vectors * (values * root_coefficient(values))) @ back
    return np.asarray(eye + root + w / np.sqrt(k - 1))
