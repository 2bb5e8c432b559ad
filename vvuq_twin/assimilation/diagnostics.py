"""What one analysis found: is the spread as large as the error it claims? Plain dicts, ready for JSON."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..domain.observations import ObservationError
from ..scores import crps_ensemble, pit
from .protocol import Key, Problem
from .roots import Signal

RANK_BINS = 10
RANK_OBSERVATIONS = 1000


def effective_size(values: np.ndarray) -> float:
    """``(sum v)^2 / sum v^2``: how many directions carry the spread (Patil et al. 2001); 0 without spread."""
    total = float(values.sum())
    return total**2 / float(values @ values) if total > 0 else 0.0


def spread_and_error(
    variance: np.ndarray, innovation: np.ndarray, error: ObservationError, members: int
) -> dict[str, float]:
    """Root mean squares of spread, error and innovation, and the ratio of what was expected to what came.

    Parameters
    ----------
    variance : ndarray, shape (m,)
        Of the members' predictions, divided by N - 1.
    innovation : ndarray, shape (m,)
    error : ObservationError
    members : int

    Returns
    -------
    dict
        ``spread``, ``observation_error``, ``innovation_rmse`` in the observation's unit;
        ``expected_rmse`` is the root of mean variance times (N + 1)/N, for the ensemble mean's own
        sampling error, plus the error's variance; ``spread_over_error`` their ratio, 1 where the
        spread is right, small where the ensemble collapsed.
    """
    m = len(innovation)
    predicted, noise = float(variance.sum()) / m, float(error.variance().sum()) / m
    rmse = math.sqrt(float(innovation @ innovation) / m)
    expected = math.sqrt(predicted * (members + 1.0) / members + noise)
    return {
        "spread": math.sqrt(predicted),
        "observation_error": math.sqrt(noise),
        "innovation_rmse": rmse,
        "innovation_mean": float(innovation.sum()) / m,
        "expected_rmse": expected,
        "spread_over_error": expected / rmse if rmse > 0 else float("inf"),
    }


def ranks(problem: Problem, key: Key) -> dict[str, Any]:
    """Ranks of the observations among the predictions with error added, in ten bins, and the CRPS of these.

    Returns
    -------
    dict
        ``rank_histogram`` (counts), ``crps`` (mean, in the observation's unit; fair to small ensembles).

    Notes
    -----
    At most a thousand evenly spaced observations are ranked. Flat where the forecast is honest, U-shaped
    where it is too sharp (Hamill 2001). Errors that are correlated over a scan make one scan's histogram
    lean without fault: judge the sum over scans and patients.
    """
    m, carry = len(problem.innovation), problem.carry
    rng = key.generator("ranks", carry.cycle, carry.step)
    error, scaled, innovation = problem.observations.error, problem.scaled, problem.innovation
    voxel, noise = error.voxel, error.variance()
    if m > RANK_OBSERVATIONS:
        some = np.linspace(0, m - 1, RANK_OBSERVATIONS).astype(int)
        scaled, innovation, voxel, noise = (
            scaled.take(some, axis=1),
            innovation[some],
            voxel[some],
            noise[some],
        )
    predictions = rng.standard_normal(scaled.shape)
    predictions *= np.sqrt(noise)
    predictions += scaled * (voxel * math.sqrt(len(scaled) - 1))
    u = pit(innovation, predictions, rng.uniform(size=len(innovation)))
    counts = np.bincount(np.minimum((u * RANK_BINS).astype(int), RANK_BINS - 1), minlength=RANK_BINS)
    return {
        "rank_histogram": counts.tolist(),
        "crps": float(crps_ensemble(innovation, predictions, fair=True).sum()) / len(innovation),
    }


def found(problem: Problem, signal: Signal, key: Key) -> dict[str, Any]:
    """The diagnostics of a global analysis before its update.

    Returns
    -------
    dict
        The entries of :func:`spread_and_error`, :func:`of_signal`, :func:`desroziers` and :func:`ranks`.
    """
    error, k, variance = problem.observations.error, len(problem.rows), problem.variance
    moved = (signal.weights() @ problem.scaled) * error.voxel
    return {
        **spread_and_error(variance, problem.innovation, error, k),
        **of_signal(signal),
        **desroziers(problem.innovation, moved, variance, error),
        **ranks(problem, key),
    }


def of_signal(signal: Signal) -> dict[str, Any]:
    """What follows from the spectrum alone.

    Returns
    -------
    dict
        ``chi_square`` and ``chi_square_over_m`` (1 expected), ``degrees_of_freedom_for_signal`` (trace of
        the influence matrix), ``effective_size`` of the ensemble as the observations see it.
    """
    chi2, values = signal.chi_square(), signal.values
    return {
        "chi_square": chi2,
        "chi_square_over_m": chi2 / signal.count,
        "degrees_of_freedom_for_signal": float((values / (1.0 + values)).sum()),
        "effective_size": effective_size(values),
    }


def desroziers(
    innovation: np.ndarray, moved: np.ndarray, variance: np.ndarray, error: ObservationError
) -> dict[str, Any]:
    """Consistency ratios of innovation and analysis residual, both 1 where spread and error are right.

    Parameters
    ----------
    innovation : ndarray, shape (m,)
    moved : ndarray, shape (m,)
        By how much the mean prediction moves: ``Signal.weights`` times the anomalies over sqrt(K - 1).
    variance : ndarray, shape (m,)
        Of the predictions.
    error : ObservationError

    Returns
    -------
    dict
        ``desroziers_error``, mean of ``(y - Hx_a)(y - Hx_b)`` over the mean error variance, and
        ``desroziers_spread``, mean of ``(Hx_a - Hx_b)(y - Hx_b)`` over the mean predicted variance
        (Desroziers et al. 2005, Q. J. R. Meteorol. Soc. 131:3385).
    """
    spread = float(variance.sum())
    return {
        "desroziers_error": float((innovation - moved) @ innovation) / float(error.variance().sum()),
        "desroziers_spread": float(moved @ innovation) / spread if spread > 0 else None,
    }
