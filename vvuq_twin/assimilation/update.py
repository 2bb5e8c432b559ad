"""Updates: what an analysis does to the ensemble, as a transform of any block of its columns.

The ensemble E is members first, (N, n). An analysis never sees E: it makes an ``Update`` from the
predicted observations, and that is applied to whatever has members: parameters, reduced coefficients,
fields, past states, block by block, where they live. Nothing n x n, n x m or m x m is formed.

Order of what an update does: members that failed are left out; the anomalies are multiplied by the prior's
inflation, if the scheme estimates one; the transform X acts on them; then perturbations and spread are relaxed
to the prior's (RTPP, RTPS); then the anomalies are multiplied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..domain.errors import BadInput
from .inflation import Inflation

# Columns handled at once. Every block is cut into pieces of this width and the last one is padded to a multiple of
# ``SPAN``, which the kernels of matrix products divide, so that a column meets the same arithmetic wherever it
# lies: applied in blocks is bit-equal to applied whole.
WIDTH, SPAN = 2048, 128
# Columns that are copied at once where an ensemble is written over itself: they stay in the nearer cache.
IN_PLACE = 1024


class Update(Protocol):
    """A transform of the ensemble."""

    @property
    def members(self) -> np.ndarray:
        """Rows of E that are kept, shape (K,); the others failed."""

    def apply(
        self,
        block: np.ndarray,
        columns: np.ndarray | None = None,
        inflate: bool = True,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """The updated block.

        Parameters
        ----------
        block : ndarray, shape (N, b)
            Some columns of the ensemble, failed members included.
        columns : ndarray of int, shape (b,), optional
            Their numbers in the state, for updates that depend on place; all of the state if absent.
        inflate : bool
            Whether the inflation is applied; switch it off for what has no error growth of its own.
        out : ndarray, shape (K, b), optional
            Where the result is written, to the same bits as without it. It may be the block itself if no member
            failed: then the ensemble is updated where it lies, and no second one is held.

        Returns
        -------
        ndarray, shape (K, b)
            ``out``, or a new array.

        Raises
        ------
        BadInput
            If the block is of another ensemble, or ``out`` has another shape or kind than the result, cannot be
            written, or overlaps the block without being it.
        """


def in_place(
    update: Update, block: np.ndarray, columns: np.ndarray | None = None, inflate: bool = True
) -> np.ndarray:
    """The updated block, written over the block itself unless members failed: for a block nobody needs again."""
    return update.apply(block, columns, inflate, block if len(update.members) == len(block) else None)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are one memory, looked at alike."""
    return a is b or (
        a.shape == b.shape
        and a.strides == b.strides
        and a.__array_interface__["data"] == b.__array_interface__["data"]
    )


def target(block: np.ndarray, kept: int, out: np.ndarray | None) -> np.ndarray:
    """Where an update of a block (N, b) that keeps some members is written: ``out``, checked, or a new array.

    Raises
    ------
    BadInput
        See :class:`Update`.
    """
    kind = block.dtype if block.dtype.kind == "f" else np.dtype(float)
    shape = (kept, block.shape[1])
    if out is None:
        return np.empty(shape, dtype=kind)
    if same(block, out) and kept != len(block):
        raise BadInput(
            f"{len(block) - kept} of {len(block)} members failed, so that the update cannot be written over the "
            "ensemble",
            "assimilation",
            f"give an array of {kept} rows, or none",
        )
    if out.shape != shape or out.dtype != kind or not out.flags.writeable:
        raise BadInput(
            f"an update of shape {shape} and type {kind} cannot be written into an array of shape {out.shape} and "
            f"type {out.dtype}{'' if out.flags.writeable else ', read-only'}",
            "assimilation",
        )
    if not same(block, out) and np.shares_memory(block, out):
        raise BadInput(
            "the array for an update overlaps the block without being it",
            "assimilation",
            "give the block itself, or an array of its own",
        )
    return out


def pieces(
    block: np.ndarray,
    source: np.ndarray,
    size: int,
    kept: int,
    work: Callable[[np.ndarray, slice], np.ndarray],
    width: int = WIDTH,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Cut a block into pieces of ``width`` columns, the last padded, let ``work`` update each, and join them.

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
        ``work(tile, where)`` gets a contiguous (S, w) copy, w at most ``width``, and the slice of the block it
        came from, and returns (kept, w); what lies beyond the slice is thrown away.
    out : ndarray, shape (kept, b), optional
        See :class:`Update`.
    """
    block = np.asarray(block)
    if block.ndim != 2 or block.shape[0] != size:
        raise BadInput(
            f"an update of {size} members cannot be applied to an array of shape {block.shape}",
            "assimilation",
            "give the ensemble with members first",
        )
    out = target(block, kept, out)
    whole = len(source) == size
    for start in range(0, block.shape[1], width):
        where = slice(start, min(start + width, block.shape[1]))
        tile = padded(block[:, where] if whole else block[source, where])
        out[:, where] = work(tile, where)[:, : where.stop - start]
    return out


def linear(
    block: np.ndarray,
    source: np.ndarray,
    size: int,
    factors: tuple[np.ndarray, ...],
    width: int = WIDTH,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Members (N, b) times one matrix, or moved by two thin ones, piece by piece as in :func:`pieces`."""
    kept = len(factors[0])

    def product(tile: np.ndarray, into: np.ndarray | None = None) -> np.ndarray:
        if len(factors) == 1:
            return np.asarray(np.matmul(factors[0], tile, out=into))
        moved = np.matmul(factors[0], factors[1] @ tile, out=into)
        moved += tile
        return np.asarray(moved)

    def direct(array: np.ndarray) -> bool:
        return array.dtype == float and array.strides[1] == array.itemsize

    if len(source) != size or block.ndim != 2 or block.shape[0] != size or not direct(block):
        return pieces(block, source, size, kept, lambda tile, _: product(tile), width, out)
    out = target(block, kept, out)
    if not direct(out):
        return pieces(block, source, size, kept, lambda tile, _: product(tile), width, out)
    # the pieces are read and written where they lie; only what is no multiple of the span, and what is written over
    # itself, is copied first
    full = block.shape[1] // SPAN * SPAN
    spare = np.empty((size, min(IN_PLACE, full))) if same(block, out) else None
    if spare is not None:
        width = IN_PLACE
    elif len(factors) == 1:
        width = max(full, 1)  # one product walks through the columns in pieces of its own
    for start in range(0, full, width):
        piece = slice(start, min(start + width, full))
        tile = block[:, piece]
        if spare is not None:
            tile = spare[:, : tile.shape[1]]
            tile[:] = block[:, piece]
        product(tile, out[:, piece])
    if full < block.shape[1]:
        out[:, full:] = product(padded(block[:, full:]))[:, : block.shape[1] - full]
    return out


def padded(columns: np.ndarray) -> np.ndarray:
    """A contiguous copy in double precision, filled up with zeros to a multiple of ``SPAN`` columns."""
    rows, n = columns.shape
    out = np.empty((rows, -(-n // SPAN) * SPAN))
    out[:, :n], out[:, n:] = columns, 0.0
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
    prior : float
        Factor on the anomalies before X acts on them.
    """

    members: np.ndarray
    size: int
    dense: np.ndarray | None = None
    left: np.ndarray | None = None
    right: np.ndarray | None = None
    inflation: Inflation = field(default_factory=Inflation)
    source: np.ndarray | None = None
    prior: float = 1.0

    def apply(
        self,
        block: np.ndarray,
        columns: np.ndarray | None = None,
        inflate: bool = True,
        out: np.ndarray | None = None,
        width: int = WIDTH,
    ) -> np.ndarray:
        """See :class:`Update`; ``columns`` is not needed."""

        source = self.members if self.source is None else self.source
        kept = len(self.members)
        idle = self.dense is None and self.left is None
        if not idle and not (inflate and self.inflation.active):
            return linear(np.asarray(block), source, self.size, self._raw(), width, out)

        def work(tile: np.ndarray, _: slice) -> np.ndarray:
            if idle:
                return tile  # nothing was observed: exactly what it was, and no inflation
            mean = tile.mean(axis=0)
            tile -= mean
            if self.left is not None and self.right is not None:
                new = tile + self.left @ (self.right @ tile)
            else:
                new = self.dense @ tile
            if self.prior != 1:
                new *= self.prior
            new += mean
            return self.inflation.apply(tile, new)

        return pieces(block, source, self.size, kept, work, width, out)

    def _raw(self) -> tuple[np.ndarray, ...]:
        """What acts on the members themselves: Z with ``E_a = Z E``, or (left, right) with ``E + left right E``.

        Notes
        -----
        ``mean + X (E - mean) = (X (I - 11^T/S) + 11^T/S) E``: no pass over the state to centre it.
        """
        if self.left is not None and self.right is not None and self.prior == 1:
            return self.left, self.right - self.right.mean(axis=1, keepdims=True)
        x = self.matrix()
        return (x - x.mean(axis=1, keepdims=True) + 1.0 / x.shape[1],)

    def matrix(self) -> np.ndarray:
        """X with the prior's factor in it, shape (K, S)."""
        if self.dense is not None:
            return self.prior * self.dense
        eye = np.eye(len(self.members))
        return eye if self.left is None or self.right is None else self.prior * (eye + self.left @ self.right)

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
