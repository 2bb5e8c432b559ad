"""Training runs of a surrogate of fields: designed scores, and fields compressed as they come.

A batch of runs is kept as the singular vectors of its own snapshots and the coefficients in them, so that memory
does not grow with voxels times runs; the batches are joined in :mod:`~vvuq_twin.reduction.surrogate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..domain.errors import BadInput, RunFailed
from ..domain.parameters import ParameterSpace
from .pod import Basis, compress, pod

#: Values smaller than this fraction of the largest are left out of a batch's support.
_NEGLIGIBLE = 1e-7


def training_scores(
    space: ParameterSpace, n: int, seed: int, spread: float = 1.4, limit: float = 3.72
) -> np.ndarray:
    """Whitened scores (n, p) of a designed training set that reaches beyond the central mass of the prior.

    Parameters
    ----------
    spread : float
        Factor on the scores of a scrambled Sobol sequence.
    limit : float
        Scores are cut off here; 3.72 are the quantiles 1e-4 and 1 - 1e-4.
    """
    power = 1 << max(0, n - 1).bit_length()
    z = space.gaussian_sample(power, seed, "surrogate-training", "sobol")[:n]
    return np.clip(spread * z, -limit, limit)


@dataclass(frozen=True)
class RunBatch:
    """A batch of runs, compressed.

    Parameters
    ----------
    z : ndarray, shape (b, p)
        Whitened scores of the runs that were good.
    rows : ndarray of int, shape (n_rows,)
        Voxels where any field is not negligible.
    local : ndarray, shape (k, n_rows)
        Scaled singular vectors of the batch.
    coefficients : ndarray, shape (b, V, k)
        Fields are ``coefficients @ local`` on the rows.
    failed : int
        Runs left out.
    """

    z: np.ndarray
    rows: np.ndarray
    local: np.ndarray
    coefficients: np.ndarray
    failed: int


def compress_runs(z: np.ndarray, values: np.ndarray, status: np.ndarray, tolerance: float = 1e-5) -> RunBatch:
    """Compress a batch; a run that failed or diverged (a status, a value that is not finite) is left out.

    Parameters
    ----------
    z : ndarray, shape (b, p)
    values : ndarray, shape (b, V, n)
    status : ndarray of int, shape (b,)
    tolerance : float
        Relative energy the compression may leave out.
    """
    good = (np.asarray(status) == 0) & np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    kept = np.asarray(values, dtype=float)[good]
    flat = kept.reshape(-1, values.shape[2])
    peak = np.abs(flat).max(axis=0) if len(flat) else np.zeros(values.shape[2])
    rows = np.flatnonzero(peak > _NEGLIGIBLE * max(float(peak.max(initial=0.0)), 1e-300))
    if not len(flat) or not len(rows):
        empty = np.zeros((len(kept), values.shape[1], 0))
        return RunBatch(np.asarray(z)[good], rows, np.zeros((0, len(rows))), empty, int((~good).sum()))
    flat = flat[:, rows]
    local, coefficients = compress(flat, tolerance)
    return RunBatch(
        np.asarray(z, dtype=float)[good],
        rows,
        local,
        coefficients.reshape(*kept.shape[:2], -1),
        int((~good).sum()),
    )


@dataclass(frozen=True)
class TrainingRuns:
    """All good runs on one basis.

    Parameters
    ----------
    z : ndarray, shape (N, p)
    rows : ndarray of int, shape (n_rows,)
    basis : Basis
        POD of all snapshots, on the rows.
    coefficients : ndarray, shape (N, V, r)
    missing : ndarray, shape (N, V)
        Norm of what the basis leaves out of each field.
    norm : ndarray, shape (N, V)
        Norm of each field.
    failed : int
    """

    z: np.ndarray
    rows: np.ndarray
    basis: Basis
    coefficients: np.ndarray
    missing: np.ndarray
    norm: np.ndarray
    failed: int


def join_runs(batches: Sequence[RunBatch], tolerance: float, max_rank: int) -> TrainingRuns:
    """One basis for the runs of all batches.

    Parameters
    ----------
    batches : sequence of RunBatch
        In a fixed order.
    tolerance : float
        Relative energy of the snapshots that the basis may leave out.
    max_rank : int

    Raises
    ------
    RunFailed
        If more than half of the runs failed.
    BadInput
        If every field is zero.
    """
    failed, runs = sum(b.failed for b in batches), sum(len(b.z) for b in batches)
    if failed > runs:
        raise RunFailed(f"{failed} of {failed + runs} training runs of the surrogate failed")
    rows = np.unique(np.concatenate([b.rows for b in batches]))
    if not len(rows):
        raise BadInput("every field of the training runs is zero", "surrogate")
    stacked = np.zeros((sum(len(b.local) for b in batches), len(rows)))
    at = 0
    for b in batches:
        stacked[at : at + len(b.local), np.searchsorted(rows, b.rows)] = b.local
        at += len(b.local)
    basis = pod(stacked, tolerance, max_rank)
    coefficients, norm, at = [], [], 0
    for b in batches:
        part = stacked[at : at + len(b.local)]
        at += len(b.local)
        coefficients.append(b.coefficients @ (part @ basis.vectors))
        # local rows are orthogonal
        norm.append(np.sqrt(b.coefficients**2 @ (b.local**2).sum(axis=1)))
    c, size = np.concatenate(coefficients), np.concatenate(norm)
    missing = np.sqrt(np.maximum(size**2 - (c**2).sum(axis=2), 0.0))
    return TrainingRuns(np.concatenate([b.z for b in batches]), rows, basis, c, missing, size, failed)
