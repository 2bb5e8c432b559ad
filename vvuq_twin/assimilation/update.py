"""Updates: what an analysis does to the ensemble, as a transform of any block of its columns.

The ensemble E is members first, (N, n). An analysis never sees E: it makes an ``Update`` from the
predicted observations, and that is applied to whatever has members: parameters, reduced coefficients,
fields, past states, block by block, where they live. Nothing n x n, n x m or m x m is formed.

Order of what an update does: members that failed are left out; the transform X acts on the anomalies;
then the spread is relaxed to the prior's (RTPS); then it is multiplied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from ..domain.errors import BadInput

# Columns handled at once. Every block is cut into pieces of this width and the last one is padded, so that
# a column meets the same arithmetic wherever it lies: applied in blocks is bit-equal to applied whole.
WIDTH = 512
LOCAL_WIDTH = 32  # tiles of a local analysis hold few columns


@dataclass(frozen=True)
class Inflation:
    """What keeps the spread from collapsing, applied after the analysis in this order.

    Parameters
    ----------
    rtps : float
        Relaxation to prior spread (Whitaker & Hamill 2012): each column's posterior standard deviation
        s_a becomes ``(1 - rtps) s_a + rtps s_b`` with s_b the one before the analysis. 0 is off.
    factor : float
        The anomalies are then multiplied by this. 1 is off.

    Raises
    ------
    BadInput
        If rtps is outside 0..1 or the factor is not positive.
    """

    rtps: float = 0.0
    factor: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.rtps <= 1.0:
            raise BadInput(
                f"the relaxation to prior spread ({self.rtps:g}) is not between 0 and 1", "inflation"
            )
        if not (np.isfinite(self.factor) and self.factor > 0):
            raise BadInput(f"the inflation factor ({self.factor:g}) is not positive", "inflation")

    @property
    def active(self) -> bool:
        return self.rtps > 0 or self.factor != 1

    def apply(self, prior_anomalies: np.ndarray, posterior: np.ndarray) -> np.ndarray:
        """The posterior (N, b), inflated, given the prior's anomalies (N, b)."""
        mean = posterior.mean(axis=0)
        anomalies = posterior - mean
        if self.rtps > 0:
            before = np.sqrt((prior_anomalies**2).sum(axis=0) / max(len(prior_anomalies) - 1, 1))
            after = np.sqrt((anomalies**2).sum(axis=0) / max(len(anomalies) - 1, 1))
            ratio = np.divide(before, after, out=np.ones_like(after), where=after > 0)
            anomalies *= 1.0 + self.rtps * (ratio - 1.0)
        if self.factor != 1:
            anomalies *= self.factor
        return mean + anomalies


class Update(Protocol):
    """A transform of the ensemble."""

    @property
    def members(self) -> np.ndarray:
        """Rows of E that are kept, shape (K,); the others failed."""

    def apply(self, block: np.ndarray, columns: np.ndarray | None = None, inflate: bool = True) -> np.ndarray:
        """The updated block.

        Parameters
        ----------
        block : ndarray, shape (N, b)
            Some columns of the ensemble, failed members included.
        columns : ndarray of int, shape (b,), optional
            Their numbers in the state, for updates that depend on place; all of the state if absent.
        inflate : bool
            Whether the inflation is applied; switch it off for what has no error growth of its own.

        Returns
        -------
        ndarray, shape (K, b)
        """


def pieces(
    block: np.ndarray,
    source: np.ndarray,
    size: int,
    kept: int,
    work: Callable[[np.ndarray, slice], np.ndarray],
    width: int = WIDTH,
) -> np.ndarray:
    """Cut a block into padded pieces of ``width`` columns, let ``work`` update each, and join them.

    Parameters
    ----------
    block : ndarray, shape (N, b)
    source : ndarray of int, shape (S,)
        Rows that are read.
    size : int
        The N there must be.
    kept : int
        Rows that come out.
    work : callable
        ``work(tile, where)`` gets a contiguous (S, width) copy and the slice of the block it came from,
        and returns (kept, width); what lies beyond the slice is thrown away.
    """
    block = np.asarray(block)
    if block.ndim != 2 or block.shape[0] != size:
        raise BadInput(
            f"an update of {size} members cannot be applied to an array of shape {block.shape}",
            "assimilation",
            "give the ensemble with members first",
        )
    kind = block.dtype if block.dtype.kind == "f" else np.dtype(float)
    out = np.empty((kept, block.shape[1]), dtype=kind)
    whole = len(source) == size
    for start in range(0, block.shape[1], width):
        where = slice(start, min(start + width, block.shape[1]))
        tile = np.zeros((len(source), width))
        tile[:, : where.stop - start] = block[:, where] if whole else block[source, where]
        out[:, where] = work(tile, where)[:, : where.stop - start]
    return out


@dataclass(frozen=True)
class GlobalUpdate:
    """One transform for every column: ``E_a = mean + X A``, with A the anomalies of the members read.

    Parameters
    ----------
    members : ndarray of int, shape (K,)
        Rows of E that are kept.
    size : int
        Rows of E before, N >= K.
    dense : ndarray, shape (K, S), optional
        X itself.
    left, right : ndarray, shape (K, r) and (r, K), optional
        X = I + left @ right, cheaper where r < K/2. Neither given: X = I.
    inflation : Inflation
    source : ndarray of int, shape (S,), optional
        Rows that are read; the kept ones if absent. They differ in a joined update where members failed
        half-way: those had shaped the survivors before.
    """

    members: np.ndarray
    size: int
    dense: np.ndarray | None = None
    left: np.ndarray | None = None
    right: np.ndarray | None = None
    inflation: Inflation = field(default_factory=Inflation)
    source: np.ndarray | None = None

    def apply(
        self, block: np.ndarray, columns: np.ndarray | None = None, inflate: bool = True, width: int = WIDTH
    ) -> np.ndarray:
        """See :class:`Update`; ``columns`` is not needed."""

        def work(tile: np.ndarray, _: slice) -> np.ndarray:
            if self.dense is None and self.left is None:
                return tile  # nothing was observed: exactly what it was, and no inflation
            mean = tile.mean(axis=0)
            tile -= mean
            if self.left is not None and self.right is not None:
                out = tile + self.left @ (self.right @ tile)
            else:
                out = self.matrix() @ tile
            out += mean
            return self.inflation.apply(tile, out) if inflate and self.inflation.active else out

        source = self.members if self.source is None else self.source
        return pieces(block, source, self.size, len(self.members), work, width)

    def matrix(self) -> np.ndarray:
        """X, shape (K, S)."""
        if self.dense is not None:
            return self.dense
        eye = np.eye(len(self.members))
        return eye if self.left is None or self.right is None else eye + self.left @ self.right

    def then(self, later: GlobalUpdate) -> GlobalUpdate:
        """Both in one, this first: ``later`` is an update of what this one left.

        Raises
        ------
        BadInput
            If the later update is of another ensemble, or one of them inflates.
        """
        if later.size != len(self.members):
            raise BadInput(
                f"an update of {later.size} members cannot follow one that left {len(self.members)}",
                "assimilation",
            )
        if self.inflation.active or later.inflation.active:
            raise BadInput("updates with inflation cannot be joined into one", "assimilation")
        survivors = self.matrix()[later.members if later.source is None else later.source]
        mean = survivors.mean(axis=0)
        source = self.members if self.source is None else self.source
        return GlobalUpdate(
            self.members[later.members],
            self.size,
            dense=mean + later.matrix() @ (survivors - mean),
            source=source,
        )


@dataclass(frozen=True)
class LocalUpdate:
    """A transform per tile of the state, and one for what is shared.

    Parameters
    ----------
    shared : GlobalUpdate
        For columns whose tile is -1; its members, size and inflation hold for all.
    tile_of : ndarray of int, shape (n,)
        Tile of each column of the state, -1 for shared ones.
    transforms : ndarray, shape (T, K, K)
    """

    shared: GlobalUpdate
    tile_of: np.ndarray
    transforms: np.ndarray

    @property
    def members(self) -> np.ndarray:
        return self.shared.members

    def apply(self, block: np.ndarray, columns: np.ndarray | None = None, inflate: bool = True) -> np.ndarray:
        """See :class:`Update`."""
        block = np.asarray(block)
        tiles = tiles_of(self.tile_of, block, columns)
        out = np.empty(
            (len(self.members), block.shape[1]), dtype=block.dtype if block.dtype.kind == "f" else float
        )
        for tile, where in groups(tiles):
            if tile < 0:
                out[:, where] = self.shared.apply(block[:, where], inflate=inflate)
            else:
                own = replace(self.shared, left=None, right=None, dense=self.transforms[tile])
                out[:, where] = own.apply(block[:, where], inflate=inflate, width=LOCAL_WIDTH)
        return out


def tiles_of(tile_of: np.ndarray, block: np.ndarray, columns: np.ndarray | None) -> np.ndarray:
    """Tile of each column of a block."""
    tiles = tile_of if columns is None else tile_of[columns]
    if len(tiles) != np.shape(block)[1]:
        raise BadInput(
            f"a block of {np.shape(block)[1]} columns came with {len(tiles)} column numbers",
            "assimilation",
            "say which columns of the state the block holds",
        )
    return tiles


def groups(tiles: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each tile with the positions of its columns."""
    order = np.argsort(tiles, kind="stable")
    cuts = np.flatnonzero(np.diff(tiles[order])) + 1
    for where in np.split(order, cuts):
        if len(where):
            yield int(tiles[where[0]]), where
