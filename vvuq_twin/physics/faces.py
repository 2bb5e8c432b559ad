"""The one assembler: active cells, face groups, their conductances and their sparse affine terms.

Finite volumes on voxels (Eymard, Gallouet & Herbin 2000): the flux through the face of two active cells
is the harmonic mean of their diffusivities times the difference of their values over the distance;
a face to an inactive cell is closed. Faces are grouped by the pair of tissues they join, so that

    div(D grad N) = sum_g c_g(D) A_g N,      c_g = 2 D_a D_b / (D_a + D_b)

is affine in the conductances ``c_g``: the numba kernels look ``c_g`` up per face, the reduced model
projects the sparse ``A_g``. Both come from the group arrays of this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from ..domain.errors import BadInput
from ..domain.grid import Grid

#: Cells a compiled vector loop takes at once.
LANES = 16


@dataclass(frozen=True)
class Faces:
    """Active cells of a masked grid and the faces between them.

    Parameters
    ----------
    grid : Grid
    mask : ndarray of bool, shape grid.shape
        Active cells; numbered in C order, so ``field[mask]`` is the flat vector of ``n`` values.
    names : tuple of str
        Tissues, in the order of the last axis of ``diffusivity`` arrays.
    label : ndarray of int, shape (n,)
        Tissue of each active cell, an index into ``names``.
    groups : tuple of (int, int)
        Pairs of tissues (a <= b) that share a face; group ``g`` is ``groups[g]``.
    face_group : tuple of three ndarray of uint8, shape ``box``
        For each axis the group of the face *below* each cell (towards index - 1) plus one; 0 is closed.
    corner : tuple of int
        Grid index of the box's cell (1, 1, 1).
    box : tuple of int
        Bounding box of the mask with at least one empty cell on every side: the kernels' arrays.
    place : ndarray of int64, shape (n,)
        Flat index in the box of each active cell.
    rows : ndarray of int64, shape (r, 4)
        The box's rows with active cells: i, j, first k, last k + 1, stretched over inactive cells to a
        multiple of ``LANES`` so that the kernels' vector loops leave no remainder.
    """

    grid: Grid
    mask: np.ndarray
    names: tuple[str, ...]
    label: np.ndarray
    groups: tuple[tuple[int, int], ...]
    face_group: tuple[np.ndarray, np.ndarray, np.ndarray]
    corner: tuple[int, int, int]
    box: tuple[int, int, int]
    place: np.ndarray
    rows: np.ndarray

    @property
    def n(self) -> int:
        """Number of active cells."""
        return len(self.place)

    def conductance(self, diffusivity: np.ndarray) -> np.ndarray:
        """Harmonic means per face group.

        Parameters
        ----------
        diffusivity : ndarray, shape (..., L)
            Per tissue in the order of ``names``, mm2 per time, not negative.

        Returns
        -------
        ndarray, shape (..., G)
        """
        return harmonic(diffusivity, self.groups)

    @cached_property
    def neighbours(self) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]:
        """For each axis (low cell, high cell, group) of every open face, active-cell numbers."""
        number = np.full(int(np.prod(self.box)), -1, dtype=np.int64)
        number[self.place] = np.arange(self.n)
        strides = (self.box[1] * self.box[2], self.box[2], 1)
        found = []
        for axis in range(3):
            group = self.face_group[axis].ravel()[self.place].astype(np.int64)
            high = np.flatnonzero(group)
            low = number[self.place[high] - strides[axis]]
            found.append((low, high, group[high] - 1))
        return tuple(found)

    def sparse_terms(self, weight: tuple[np.ndarray, ...] | None = None) -> list[sparse.csr_array]:
        """The affine terms ``A_g``, shape (n, n) each, in 1/mm2.

        Each is symmetric with zero row sums: conservative, and negative semi-definite.

        Parameters
        ----------
        weight : tuple of three ndarray of shape box, optional
            A further factor on every face, as from :meth:`face_mean`.
        """
        factor = [
            np.ones(len(high)) if weight is None else weight[axis].ravel()[self.place[high]]
            for axis, (_, high, _) in enumerate(self.neighbours)
        ]
        return [self._term(g, factor) for g in range(len(self.groups))]

    def boxed(self, values: np.ndarray) -> np.ndarray:
        """Active values (n,) on the bounding box, zero elsewhere."""
        out = np.zeros(self.box)
        out.ravel()[self.place] = values
        return out

    def face_mean(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Harmonic mean of a positive map (n,) on the face below each cell of the box; 0 where closed."""
        x, y, z = (self.face_mean_along(values, axis) for axis in range(3))
        return x, y, z

    def face_mean_along(self, values: np.ndarray, axis: int) -> np.ndarray:
        """The same for the faces along one axis."""
        here = self.boxed(values)
        below = np.roll(here, 1, axis=axis)
        closed = self.face_group[axis] == 0
        both = here + below
        both[closed] = 1.0
        below *= here
        below *= 2.0
        below /= both
        below[closed] = 0.0
        return below

    def _term(self, g: int, weight: list[np.ndarray]) -> sparse.csr_array:
        rows, cols, values = [], [], []
        for axis, (low, high, group) in enumerate(self.neighbours):
            mine = group == g
            a, b = low[mine], high[mine]
            w = weight[axis][mine] / self.grid.spacing[axis] ** 2
            rows += [a, b, a, b]
            cols += [b, a, a, b]
            values += [w, w, -w, -w]
        shape = (self.n, self.n)
        index = (np.concatenate(rows), np.concatenate(cols))
        return sparse.coo_array((np.concatenate(values), index), shape=shape).tocsr()

    def operator(self, diffusivity: np.ndarray) -> sparse.csr_array:
        """``sum_g c_g A_g`` for one set of diffusivities, shape (n, n), 1/time."""
        c = self.conductance(np.asarray(diffusivity, dtype=float))
        total = sparse.csr_array((self.n, self.n))
        for value, term in zip(c, self.sparse_terms()):
            total = total + value * term
        return total

    def scatter(self, values: np.ndarray) -> np.ndarray:
        """Active values (..., n) on the whole grid (..., *shape), zero outside the mask."""
        values = np.asarray(values)
        out = np.zeros((*values.shape[:-1], *self.grid.shape), dtype=values.dtype)
        out[..., self.mask] = values
        return out

    def gather(self, field: np.ndarray) -> np.ndarray:
        """A field on the whole grid (..., *shape) as active values (..., n)."""
        return np.ascontiguousarray(np.asarray(field)[..., self.mask])


def harmonic(diffusivity: Any, groups: tuple[tuple[int, int], ...], xp: Any = np) -> Any:
    """Harmonic mean of the two tissues of each group, shape (..., L) to (..., G); 0 where both are 0.

    ``xp`` is numpy or jax.numpy: both orders of the model use this one formula.
    """
    d = xp.asarray(diffusivity)
    pairs = np.asarray(groups, dtype=np.int64).reshape(-1, 2)
    a, b = d[..., pairs[:, 0]], d[..., pairs[:, 1]]
    both = a + b
    return 2.0 * a * b / xp.where(both > 0, both, 1.0)


def assemble(grid: Grid, mask: np.ndarray, labels: np.ndarray, names: Mapping[str, int]) -> Faces:
    """Number the active cells and group their faces.

    Parameters
    ----------
    grid : Grid
    mask : ndarray of bool, shape grid.shape
        Active cells; the boundary of the mask is closed to diffusion.
    labels : ndarray of int, shape grid.shape
        Tissue label of each cell.
    names : mapping of str to int
        Name of every tissue and its label, for example ``{"white": 1, "grey": 2}``.

    Raises
    ------
    BadInput
        If shapes differ, the mask is empty, or an active cell has a label that is not named.
    """
    mask = np.asarray(mask, dtype=bool)
    labels = np.asarray(labels)
    if mask.shape != tuple(grid.shape) or labels.shape != tuple(grid.shape):
        raise BadInput(
            f"the mask {mask.shape} or the labels {labels.shape} are not on the grid {tuple(grid.shape)}",
            "tissue map",
            "resample them to the grid",
        )
    if not mask.any():
        raise BadInput("the mask of the organ is empty", "tissue map")
    if any(h <= 0 or not np.isfinite(h) for h in grid.spacing):
        raise BadInput("the grid's spacing is not positive", "grid")
    code = list(names.values())
    unknown = np.setdiff1d(np.unique(labels[mask]), code)
    if unknown.size:
        raise BadInput(f"the label {unknown[0]} in the mask has no tissue name", "tissue map", "name it")

    filled = [
        np.flatnonzero(mask.any(axis=(1, 2))),
        np.flatnonzero(mask.any(axis=(0, 2))),
        np.flatnonzero(mask.any(axis=(0, 1))),
    ]
    low, high = [int(f[0]) for f in filled], [int(f[-1]) + 1 for f in filled]
    cut = tuple(slice(int(a), int(b)) for a, b in zip(low, high))
    depth = int(high[2] - low[2])
    lanes = LANES if depth >= LANES else 1
    box = (int(high[0] - low[0]) + 2, int(high[1] - low[1]) + 2, -(-depth // lanes) * lanes + 2)
    inner = (slice(1, -1), slice(1, -1), slice(1, depth + 1))
    # small integers: these arrays are the peak of a large grid's memory
    tissue = np.full(box, -1, dtype=np.int16)
    lookup = {value: i for i, value in enumerate(code)}
    local = np.full(mask[cut].shape, -1, dtype=np.int16)
    for value, i in lookup.items():
        local[mask[cut] & (labels[cut] == value)] = i
    tissue[inner] = local

    size = len(code)
    pair_of = []
    for axis in range(3):
        below = np.roll(tissue, 1, axis=axis)
        open_face = (tissue >= 0) & (below >= 0)
        a, b = np.minimum(tissue, below).astype(np.int32), np.maximum(tissue, below)
        pair_of.append(np.where(open_face, a * size + b + 1, 0))
    present = np.unique(np.concatenate([np.unique(p) for p in pair_of]))
    present = present[present > 0]
    groups = tuple((int(p - 1) // size, int(p - 1) % size) for p in present)
    table = np.zeros(size * size + 1, dtype=np.uint8)
    table[present] = np.arange(1, len(present) + 1)

    active = tissue >= 0
    any_row = active.any(axis=2)
    ij = np.argwhere(any_row)
    first = active.argmax(axis=2)[any_row]
    last = box[2] - active[:, :, ::-1].argmax(axis=2)[any_row]
    length = -(-(last - first) // lanes) * lanes
    first = np.minimum(first, box[2] - 1 - length)
    return Faces(
        grid=grid,
        mask=mask,
        names=tuple(names),
        label=tissue[active].astype(np.int64),
        groups=groups,
        face_group=(table[pair_of[0]], table[pair_of[1]], table[pair_of[2]]),
        corner=(int(low[0]), int(low[1]), int(low[2])),
        box=box,
        place=np.flatnonzero(active.ravel()).astype(np.int64),
        rows=np.column_stack([ij, first, first + length]).astype(np.int64),
    )
