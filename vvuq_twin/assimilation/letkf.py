"""Local ensemble transform Kalman filter: a transform per tile, one for what is shared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from ..domain.errors import BadInput
from .diagnostics import found
from .etkf import turn_of
from .inflation import Adaptive, Inflation
from .local_kernels import apply_transforms
from .protocol import Analysis, Carry, Key, Problem, finish
from .roots import rotated, with_mean
from .tapers import Taper, Tiles, gaspari_cohn
from .update import GlobalUpdate, Update, padded, same, target, tiles_of
from .whitening import root_coefficient, whiten_parts

# Working memory of a batch of local analyses.
BATCH_BYTES = 1 << 26
# The number of observations in reach is filled up to a multiple of this, so that tiles of about equal size
# are solved together and a tile meets the same arithmetic whichever others are beside it.
QUANTUM = 8


@dataclass(frozen=True)
class LETKF(Analysis):
    """Local analyses with tapered observation error (Hunt, Kostelich & Szunyogh 2007).

    Parameters
    ----------
    tiles : Tiles
        Which column of the state belongs where; columns with tile -1 are analysed globally.
    radius : float
        Length scale of the taper in mm, see :mod:`~vvuq_twin.assimilation.tapers`.
    inflation : Inflation
    rotate : bool
        One keyed mean-preserving rotation, the same for all tiles.
    period : tuple of float, optional
        Length of each axis where the domain closes on itself.
    taper : Taper
    adaptive : Adaptive, optional
        Inflation of the prior, one estimate for each tile from the observations in its reach; shared
        columns get the mean over tiles.

    Notes
    -----
    *R-localisation*: in a tile the independent part of the error grows as the taper falls,
    ``R_tile = diag(voxel^2 / taper) + F F^T``: an observation that fades drops out as if it were
    missing. The scan-level columns F are kept as they are among the observations in reach, so no local
    analysis averages a scan's offset away. What the tiles do not know is that their remaining errors
    share that offset: the variance of a *sum* over tiles is too small. Where the offset matters for
    totals, make it a shared parameter of the model, or use ``VoxelETKF``, which does so itself.

    Columns without a place get the global ETKF transform of all observations with the whole of R.

    Cost: for a tile with m observations in reach min(N, m)^2 max(N, m). The transforms of a block's tiles are
    made when the update is applied to it, in batches of fixed memory: no more than the predictions and the
    observations travels, and a tile that is applied in two pieces is solved twice. Where tiles have no more than N
    columns in the mean, the transforms act on these and are not formed (``local_kernels``).
    """

    tiles: Tiles
    radius: float
    inflation: Inflation = field(default_factory=Inflation)
    rotate: bool = False
    period: tuple[float, ...] | None = None
    taper: Taper = gaspari_cohn
    adaptive: Adaptive | None = None

    @property
    def joint(self) -> bool:
        return False

    def solve(self, p: Problem, key: Key) -> tuple[Update, Carry]:
        """See :class:`~vvuq_twin.assimilation.protocol.Analysis`."""
        if p.observations.coords.shape[1] != self.tiles.centres.shape[1]:
            raise BadInput(
                f"observations with {p.observations.coords.shape[1]} coordinates cannot be localised "
                f"among tiles with {self.tiles.centres.shape[1]}",
                "localisation",
                "give the observations their positions in mm",
            )
        signal, tiles = p.signal(), len(self.tiles.centres)
        note = {**found(p, signal, key), "tiles": tiles}
        local = _local(self, p)
        prior = 1.0
        if self.adaptive is not None:
            before = np.ones(tiles) if p.carry.inflation is None else p.carry.inflation
            after = self.adaptive.estimate(before, *local.sums(np.arange(tiles)))
            p = replace(p, carry=replace(p.carry, inflation=after))
            prior = float(np.sqrt(after.mean()))
            local = replace(local, prior=np.sqrt(after))
            note |= {"adaptive_inflation": float(after.mean()), "adaptive_inflation_sd": float(after.std())}
        part = signal.scaled(prior)
        change = with_mean(part.members, part.weights(), part.root())
        shared = GlobalUpdate(p.rows, p.size, inflation=self.inflation, prior=prior, **change)
        if self.rotate:
            turn = turn_of(key, p)
            dense = rotated(replace(shared, prior=1.0).matrix(), turn)
            shared = replace(shared, dense=dense, left=None, right=None)
            local = replace(local, turn=turn)
        return LocalUpdate(shared, self.tiles.tile_of, local), finish(p, note)


@dataclass(frozen=True)
class Local:
    """The local problems of all tiles, not yet solved.

    Parameters
    ----------
    y : ndarray, shape (m + 1, K)
        Predicted anomalies over sqrt(K - 1) and over the independent error's deviation; the last row is
        zero and stands for no observation.
    d : ndarray, shape (m + 1,)
        Innovation, likewise.
    g : ndarray, shape (m + 1, k)
        Low-rank columns of the error, likewise.
    coords : ndarray, shape (m, 3)
    centres : ndarray, shape (T, 3)
    radius : float
    taper : Taper
    period : ndarray, optional
    prior : ndarray, shape (T,), optional
        Factors on the prior's anomalies.
    turn : ndarray, shape (K, K), optional
        Rotation that follows each transform.
    """

    y: np.ndarray
    d: np.ndarray
    g: np.ndarray
    coords: np.ndarray
    centres: np.ndarray
    radius: float
    taper: Taper
    period: np.ndarray | None = None
    prior: np.ndarray | None = None
    turn: np.ndarray | None = None

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "tree"}

    @cached_property
    def tree(self) -> object:
        from scipy.spatial import cKDTree

        return cKDTree(self.coords, boxsize=self.period)

    def around(self, tiles: np.ndarray) -> Local:
        """The observations in reach of some tiles: their halo."""
        near = self.tree.query_ball_point(self.centres[tiles], self.taper.reach * self.radius)  # type: ignore[attr-defined]
        rows = (
            np.unique(np.concatenate([np.asarray(x, dtype=int) for x in near]))
            if len(tiles)
            else np.zeros(0, int)
        )
        ends = np.append(rows, len(self.d) - 1)
        return replace(self, y=self.y[ends], d=self.d[ends], g=self.g[ends], coords=self.coords[rows])

    def near(self, tiles: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Batches of tiles: their places in ``tiles`` (B,), observations in reach (B, m), tapers (B, m)."""
        m, k = self.d.shape[0] - 1, self.y.shape[1]
        reach = self.taper.reach * self.radius
        if m == 0:
            return
        near = self.tree.query_ball_point(self.centres[tiles], reach, return_sorted=True)  # type: ignore[attr-defined]
        count = np.array([len(x) for x in near], dtype=int)
        width = -(-count // QUANTUM) * QUANTUM
        padded = np.concatenate([self.coords, np.full((1, self.coords.shape[1]), np.inf)])
        for size in np.unique(width[count > 0]):
            same = np.flatnonzero((width == size) & (count > 0))
            step = max(1, BATCH_BYTES // (8 * k * (4 * int(size) + 3 * k)))
            for start in range(0, len(same), step):
                chosen = same[start : start + step]
                index = np.full((len(chosen), size), m)
                for row, i in enumerate(chosen):
                    index[row, : count[i]] = near[i]
                away = padded[index] - self.centres[tiles[chosen], None]
                if self.period is not None:
                    away = np.abs(away)
                    away = np.minimum(away, np.abs(self.period - away))
                yield chosen, index, self.taper(np.sqrt((away**2).sum(axis=-1)), self.radius)

    def sums(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tapered sums over the observations of each tile: squared innovation, variance, taper."""
        out = np.zeros((3, len(tiles)))
        terms = np.stack([self.d**2, (self.y**2).sum(axis=1), np.append(np.ones(len(self.d) - 1), 0.0)])
        for chosen, index, taper in self.near(tiles):
            out[:, chosen] = (terms[:, index] * taper).sum(axis=-1)
        return out[0], out[1], out[2]

    def white(self, index: np.ndarray, taper: np.ndarray) -> np.ndarray:
        """Tapered anomalies of the observations ``index`` (B, m) and below them innovations, (B, K + 1, m)."""
        root = np.sqrt(taper)[..., None]
        parts = np.concatenate([self.y[index], self.d[index][..., None]], axis=2) * root
        return whiten_parts(np.swapaxes(parts, 1, 2), self.g[index] * root)

    def analysed(
        self, block: np.ndarray, tiles: np.ndarray, order: np.ndarray, starts: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches of columns (C,) of a block (K, b) and their analyses (K, C), but for inflation.

        ``order[starts[i] : starts[i + 1]]`` are the columns of ``tiles[i]``; tiles out of reach are left out.
        """
        for chosen, index, taper in self.near(tiles):
            y, d = self.y, self.d
            if self.g.shape[1]:
                white = np.swapaxes(self.white(index, taper), 1, 2).reshape(index.size, -1)
                y, d = np.ascontiguousarray(white[:, :-1]), white[:, -1].copy()
                index, taper = np.arange(index.size).reshape(index.shape), np.ones(index.shape)
            count = starts[chosen + 1] - starts[chosen]
            ends = np.cumsum(count)
            columns = order[np.repeat(starts[chosen] - (ends - count), count) + np.arange(ends[-1])]
            members = np.ascontiguousarray(block[:, columns].T, dtype=float)
            prior = np.ones(len(chosen)) if self.prior is None else self.prior[tiles[chosen]]
            apply_transforms(y, d, index, taper, prior, np.append(0, ends), members)
            yield columns, members.T

    def transforms(self, tiles: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches of places in ``tiles`` (B,) with their transforms (B, K, K); tiles out of reach are left out."""
        for chosen, index, taper in self.near(tiles):
            white = self.white(index, taper)
            S, d = white[:, :-1], white[:, -1]
            if self.prior is None:
                out = transforms(S, d)
            else:
                by = self.prior[tiles[chosen], None, None]
                out = by * transforms(by * S, d)
            yield chosen, out if self.turn is None else rotated(out, self.turn)


def _local(scheme: LETKF, p: Problem) -> Local:
    error, period = p.observations.error, None
    coords, centres = p.observations.coords, scheme.tiles.centres
    if scheme.period is not None:
        period = np.asarray(scheme.period, dtype=float)
        coords, centres = np.mod(coords, period), np.mod(centres, period)
    g = error.factor / error.voxel[:, None]
    return Local(
        np.concatenate([p.scaled.T, np.zeros((1, len(p.rows)))]),
        np.append(p.innovation / error.voxel, 0.0), np.concatenate([g, np.zeros((1, g.shape[1]))]),
        coords, centres, scheme.radius, scheme.taper, period,
    )  # fmt: skip


@dataclass(frozen=True)
class LocalUpdate:
    """A transform per tile of the state, and one for what is shared.

    Parameters
    ----------
    shared : GlobalUpdate
        For columns whose tile is -1; its members, size and inflation hold for all.
    tile_of : ndarray of int, shape (n,)
        Tile of each column of the state, -1 for shared ones.
    local : Local
    """

    shared: GlobalUpdate
    tile_of: np.ndarray
    local: Local

    @property
    def members(self) -> np.ndarray:
        return self.shared.members

    def part(self, columns: np.ndarray) -> LocalUpdate:
        """The same for some columns only, with no more than the observations in their reach."""
        tiles = np.unique(self.tile_of[columns])
        return replace(self, local=self.local.around(tiles[tiles >= 0]))

    def apply(
        self,
        block: np.ndarray,
        columns: np.ndarray | None = None,
        inflate: bool = True,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """See :class:`~vvuq_twin.assimilation.update.Update`."""
        block = np.asarray(block)
        tiles = tiles_of(self.tile_of, block, columns)
        out = target(block, len(self.members), out)
        grows = self.local.prior is not None or (inflate and self.shared.inflation.active)
        if (grows or self.local.turn is not None) and same(block, out):
            block = block.copy()  # columns that are still to be analysed are changed below
        # what no observation reaches stays as it is, but for the inflation
        idle = replace(self.shared, left=None, right=None, dense=self.local.turn, prior=1.0)
        idle.apply(block, inflate=False, out=out)
        if grows:
            self._inflate_idle(out, tiles, inflate)
        shared = np.flatnonzero(tiles < 0)
        if len(shared):
            out[:, shared] = self.shared.apply(block[:, shared], inflate=inflate)
        unique, owner = np.unique(tiles, return_inverse=True)
        first = int(unique[0] < 0) if len(unique) else 0
        order = np.argsort(owner, kind="stable")
        starts = np.searchsorted(owner[order], np.arange(first, len(unique) + 1))
        if self.narrow:
            members = block if len(self.members) == len(block) else block[self.members]
            for some, new in self.local.analysed(members, unique[first:], order, starts):
                out[:, some] = self._finished(members, some, new, inflate)
            return out
        for chosen, x in self.local.transforms(unique[first:]):
            spans = [order[starts[i] : starts[i + 1]] for i in chosen]
            self._apply(block, out, spans, x, inflate)
        return out

    @property
    def narrow(self) -> bool:
        """Whether tiles have so few columns that to form their transforms costs more than to do without.

        Of the whole state: a column must meet the same arithmetic in whatever block it comes.
        """
        return len(self.tile_of) <= len(self.members) * len(self.local.centres)

    def _finished(
        self, members: np.ndarray, columns: np.ndarray, new: np.ndarray, inflate: bool
    ) -> np.ndarray:
        """Analyses (K, C) of columns of ``members`` (K, b), rotated and inflated."""
        inflation, turn = self.shared.inflation, self.local.turn
        if turn is None and not (inflate and inflation.active):
            return new
        new = padded(new)
        if turn is not None:
            new = rotated(new, turn)
        if inflate and inflation.active:
            before = padded(members[:, columns])
            before -= before.mean(axis=0)
            new = inflation.apply(before, new)
        return new[:, : len(columns)]

    def _inflate_idle(self, out: np.ndarray, tiles: np.ndarray, inflate: bool) -> None:
        """Inflation where nothing is observed: the anomalies are the prior's, so relaxation does nothing."""
        factor = self.shared.inflation.factor if inflate else 1.0
        by = np.full(len(tiles), factor)
        if self.local.prior is not None:
            by *= np.where(tiles >= 0, self.local.prior[tiles], 1.0)
        mean = padded(out).mean(axis=0)[: len(tiles)]  # a single column would be summed in another order
        out[:] = mean + by * (out - mean)

    def _apply(
        self, block: np.ndarray, out: np.ndarray, spans: list[np.ndarray], x: np.ndarray, inflate: bool
    ) -> None:
        """Tiles of a batch, ``QUANTUM`` columns of each at once: a column meets the same arithmetic anywhere."""
        inflation = self.shared.inflation
        for at in range(0, max(len(s) for s in spans), QUANTUM):
            some = [i for i, s in enumerate(spans) if len(s) > at]
            columns = np.full((len(some), QUANTUM), -1)
            for row, i in enumerate(some):
                part = spans[i][at : at + QUANTUM]
                columns[row, : len(part)] = part
            real = columns >= 0
            tile = np.moveaxis(block[self.members[:, None, None], columns], 0, 1) * real[:, None]
            mean = tile.mean(axis=1, keepdims=True)
            tile -= mean
            new = (x if len(some) == len(x) else x[some]) @ tile + mean
            if inflate and inflation.active:
                flat = (len(self.members), -1)
                both = (np.moveaxis(a, 1, 0).reshape(flat) for a in (tile, new))
                out[:, columns[real]] = inflation.apply(*both)[:, real.ravel()]
            else:
                out[:, columns[real]] = np.moveaxis(new, 1, 0)[:, real]


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
