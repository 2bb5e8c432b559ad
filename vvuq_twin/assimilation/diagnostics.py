"""What one analysis found: is the spread as large as the error it claims? Plain dicts, ready for JSON."""

from __future__ import annotations

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
    total = float(np.sum(values))
    return total**2 / float(np.sum(values**2)) if total > 0 else 0.0


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
    noise = error.variance()
    rmse = float(np.sqrt(np.mean(innovation**2)))
    expected = float(np.sqrt(np.mean(variance * (members + 1.0) / members + noise)))
    return {
        "spread": float(np.sqrt(np.mean(variance))),
        "observation_error": float(np.sqrt(np.mean(noise))),
        "innovation_rmse": rmse,
        "innovation_mean": float(np.mean(innovation)),
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
    some = np.unique(np.linspace(0, m - 1, min(m, RANK_OBSERVATIONS)).astype(int))
    predictions = problem.anomalies[:, some] * np.sqrt(len(problem.rows) - 1)
    sd = np.sqrt(problem.observations.error.variance()[some])
    predictions += rng.standard_normal((len(predictions), len(some))) * sd
    innovation = problem.innovation[some]
    u = pit(innovation, predictions, rng.uniform(size=len(some)))
    counts, _ = np.histogram(u, bins=RANK_BINS, range=(0.0, 1.0))
    return {
        "rank_histogram": [int(c) for c in counts],
        "crps": float(np.mean(crps_ensemble(innovation, predictions, fair=True))),
    }


def found(problem: Problem, signal: Signal, key: Key) -> dict[str, Any]:
    """The diagnostics of a global analysis before its update.

    Returns
    -------
    dict
        The entries of :func:`spread_and_error`, :func:`of_signal`, :func:`desroziers` and :func:`ranks`.
    """
    error, k = problem.observations.error, len(problem.rows)
    variance = (problem.anomalies**2).sum(axis=0)
    return {
        **spread_and_error(variance, problem.innovation, error, k),
        **of_signal(signal),
        **desroziers(problem.innovation, problem.anomalies, signal.weights(), variance, error),
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
        "degrees_of_freedom_for_signal": float(np.sum(values / (1.0 + values))),
        "effective_size": effective_size(values),
    }


def desroziers(
    innovation: np.ndarray,
    anomalies: np.ndarray,
    weights: np.ndarray,
    variance: np.ndarray,
    error: ObservationError,
) -> dict[str, Any]:
    """Consistency ratios of innovation and analysis residual, both 1 where spread and error are right.

    Parameters
    ----------
    innovation : ndarray, shape (m,)
    anomalies : ndarray, shape (K, m)
        Predicted, over sqrt(K - 1).
    weights : ndarray, shape (K,)
        See ``Signal.weights``.
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
    moved = weights @ anomalies
    spread = float(np.sum(variance))
    return {
        "desroziers_error": float(np.sum((innovation - moved) * innovation) / np.sum(error.variance())),
        "desroziers_spread": float(np.sum(moved * innovation)) / spread if spread > 0 else None,
    }
