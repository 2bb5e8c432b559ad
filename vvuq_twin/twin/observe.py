"""Observation operators: cellularity and ADC at voxels, visible tumour, all reading fields in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numba
import numpy as np

from .model import Fields

_BLOCK = 4096


@dataclass(frozen=True)
class FullFields:
    """Fields held in full, (N, n)."""

    values: np.ndarray

    @property
    def members(self) -> int:
        return len(self.values)

    def at(self, cells: np.ndarray) -> np.ndarray:
        """Values (N, c) at active voxels."""
        return self.values[:, cells]

    def blocks(self, least: float = 0.0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Blocks of voxels in order, all of them."""
        n = self.values.shape[1]
        for start in range(0, n, _BLOCK):
            cells = np.arange(start, min(start + _BLOCK, n))
            yield cells, self.values[:, cells]


class OnBasis(Protocol):
    """A model whose fields are coefficients times the columns of a basis on some of the voxels."""

    @property
    def rows(self) -> np.ndarray: ...

    @property
    def vectors(self) -> np.ndarray: ...


@dataclass(frozen=True)
class ReducedFields:
    """Fields given by coefficients (N, r), reconstructed where they are read.

    Parameters
    ----------
    model : OnBasis
        With at least r columns.
    coefficients : ndarray, shape (N, r)
    common : int, optional
        Columns that every member uses; those after them are looked at for the few members that do.
    """

    model: OnBasis
    coefficients: np.ndarray
    common: int | None = None

    @property
    def members(self) -> int:
        return len(self.coefficients)

    def at(self, cells: np.ndarray) -> np.ndarray:
        """Values (N, c) at active voxels; zero outside the basis' support."""
        cells = np.asarray(cells)
        out = np.zeros((self.members, len(cells)))
        place = np.minimum(np.searchsorted(self.model.rows, cells), len(self.model.rows) - 1)
        there = np.flatnonzero(self.model.rows[place] == cells)
        out[:, there] = self._values(self.model.vectors[place[there]])
        return out

    def _values(self, vectors: np.ndarray) -> np.ndarray:
        """Values (N, b) on rows (b, r or more) of the basis."""
        a, r = self.coefficients, self.coefficients.shape[1]
        c = r if self.common is None else min(self.common, r)
        out = np.asarray(a[:, :c] @ vectors[:, :c].T)
        few = self._few
        if len(few):
            out[few] += a[few, c:] @ vectors[:, c:r].T
        return out

    @cached_property
    def _few(self) -> np.ndarray:
        """Members that use columns beyond the common ones."""
        common = self.coefficients.shape[1] if self.common is None else self.common
        return np.flatnonzero((self.coefficients[:, common:] != 0.0).any(axis=1))

    def blocks(self, least: float = 0.0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Blocks of the basis' support; no value is larger than the norms of its row and coefficients allow."""
        rows, vectors = self.model.rows, self.model.vectors[:, : self.coefficients.shape[1]]
        chosen = np.arange(len(rows))
        if least > 0.0 and self.members:
            largest = np.linalg.norm(self.coefficients, axis=1).max()
            size = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))  # a third of the time of linalg.norm
            chosen = np.flatnonzero(size * largest >= least)
        for start in range(0, len(chosen), _BLOCK):
            part = chosen[start : start + _BLOCK]
            yield rows[part], self._values(vectors[part])


@dataclass(frozen=True)
class Cellularity:
    """Cellularity at voxels.

    Parameters
    ----------
    cells : ndarray of int, shape (c,)
        Active voxels.
    """

    cells: np.ndarray

    def __call__(self, fields: Fields, theta: np.ndarray) -> np.ndarray:
        """Values (N, c)."""
        return fields.at(self.cells)


@dataclass(frozen=True)
class Adc:
    """Apparent diffusion coefficient at voxels, with voxels where nothing is visible.

    Inside the visible tumour ``ADC_w - (ADC_w - ADC_min) N`` (physics.md, section 5); at the voxels
    outside it the observation is "below detection": the visible excess ``max(N - n_detect, 0)`` times
    ``ADC_w - ADC_min``, observed as zero.

    Parameters
    ----------
    cells : ndarray of int, shape (c,)
    inside : ndarray of bool, shape (c,)
        In the visit's tumour mask.
    water : float
        ADC of free water, mm2/s.
    detection : float
    column : int
        Column of ``adc_min`` (mm2/s) in theta.
    """

    cells: np.ndarray
    inside: np.ndarray
    water: float
    detection: float
    column: int

    def __call__(self, fields: Fields, theta: np.ndarray) -> np.ndarray:
        """Values (N, c), mm2/s."""
        cellularity = fields.at(self.cells)
        span = self.water - np.asarray(theta)[:, self.column, None]
        excess = np.maximum(cellularity - self.detection, 0.0)
        return np.where(self.inside, self.water - span * cellularity, span * excess)


@numba.njit(cache=True)
def _add_visible(values: np.ndarray, limit: float, out: np.ndarray) -> None:
    for i in range(values.shape[0]):
        total, count = 0.0, 0
        for j in range(values.shape[1]):
            seen = values[i, j] >= limit
            total += values[i, j] if seen else 0.0
            count += seen
        out[i, 0] += total
        out[i, 1] += count


@dataclass(frozen=True)
class Burden:
    """Visible tumour: total cellularity (cm3 of full capacity) and volume (cm3).

    Parameters
    ----------
    detection : float
        Cellularity from which a voxel is visible.
    voxel_volume : float
        mm3.
    """

    detection: float
    voxel_volume: float

    def __call__(self, fields: Fields, theta: np.ndarray | None = None) -> np.ndarray:
        """Values (N, 2): total cellularity, volume."""
        out = np.zeros((fields.members, 2))
        for _, values in fields.blocks(self.detection):
            _add_visible(np.ascontiguousarray(values), self.detection, out)
        return out * self.voxel_volume / 1000.0


def statistics(
    fields: Fields,
    n: int,
    quantiles: tuple[float, ...] = (0.05, 0.5, 0.95),
    weights: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Mean, standard deviation and quantiles over the members at every active voxel, in blocks.

    Parameters
    ----------
    fields : Fields
        Values below 0 or above 1 (a reduced model's ripples) are cut off.
    n : int
        Active voxels.
    quantiles : tuple of float
    weights : ndarray, shape (N,), optional
        Weights of the members for mean and standard deviation.

    Returns
    -------
    dict
        ``mean``, ``sd``, and ``q05``, ``q50``, ... each of shape (n,).
    """
    w = np.full(fields.members, 1.0 / fields.members) if weights is None else weights / np.sum(weights)
    names = [f"q{round(100 * q):02d}" for q in quantiles]
    out = {name: np.zeros(n) for name in ["mean", "sd", *names]}
    for cells, raw in fields.blocks():
        values = np.clip(raw, 0.0, 1.0)
        mean = w @ values
        out["mean"][cells] = mean
        out["sd"][cells] = np.sqrt(w @ (values - mean) ** 2)
        for name, row in zip(names, np.quantile(values, quantiles, axis=0)):
            out[name][cells] = row
    return out
