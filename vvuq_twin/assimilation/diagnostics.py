"""What one analysis found: is the spread as large as the error it claims? Plain dicts, ready for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..domain.observations import ObservationError
from ..scores import pit
from .protocol import Key, Problem
from .roots import Spectrum

RANK_BINS = 10
RANK_OBSERVATIONS = 1000


def chi_square(spectrum: Spectrum, d: np.ndarray, alpha: float = 1.0) -> float:
    """``v^T (HPH^T + R)^-1 v`` of the innovation v; m in the mean where spread and error are right.

    Parameters
    ----------
    spectrum : Spectrum
        Of the whitened anomalies over sqrt(alpha).
    d : ndarray, shape (m,)
        Whitened innovation.
    alpha : float
        By which the error covariance was multiplied in ``spectrum``; taken out again.

    Notes
    -----
    ``|d|^2 - d^T S^T (I + S S^T)^-1 S d`` (Woodbury), S for alpha = 1.
    """
    values, vectors = spectrum.eigen
    if spectrum.thin:
        return float(np.sum((vectors.T @ d) ** 2 / (1.0 + alpha * values)))
    along = vectors.T @ (spectrum.S @ d)
    return float(d @ d - alpha * np.sum(along**2 / (1.0 + alpha * values)))


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


def rank_histogram(
    predictions: np.ndarray, innovation: np.ndarray, error: ObservationError, rng: np.random.Generator
) -> list[int]:
    """Ranks of the observations among the members' predictions with error added, in ten bins.

    Parameters
    ----------
    predictions : ndarray, shape (N, m)
        Anomalies.
    innovation : ndarray, shape (m,)
        Observation minus mean prediction.
    error : ObservationError
    rng : numpy.random.Generator

    Notes
    -----
    At most a thousand evenly spaced observations are ranked. Flat where the forecast is honest, U-shaped
    where it is too sharp (Hamill 2001). Errors that are correlated over a scan make one scan's histogram
    lean without fault: judge the sum over scans and patients.
    """
    m = len(innovation)
    some = np.unique(np.linspace(0, m - 1, min(m, RANK_OBSERVATIONS)).astype(int))
    noise = rng.standard_normal((len(predictions), len(some))) * np.sqrt(error.variance()[some])
    u = pit(innovation[some], predictions[:, some] + noise, rng.uniform(size=len(some)))
    counts, _ = np.histogram(u, bins=RANK_BINS, range=(0.0, 1.0))
    return [int(c) for c in counts]


def found(
    problem: Problem, spectrum: Spectrum, d: np.ndarray, key: Key, alpha: float = 1.0
) -> Mapping[str, Any]:
    """The diagnostics of a global analysis before its update.

    Returns
    -------
    dict
        The entries of :func:`spread_and_error`, ``chi_square`` and ``chi_square_over_m`` (1 expected),
        ``degrees_of_freedom_for_signal`` (trace of the influence matrix), ``effective_size`` of the
        ensemble as the observations see it, ``rank_histogram``.
    """
    error, k = problem.observations.error, len(problem.rows)
    variance = (problem.anomalies**2).sum(axis=0)
    chi2 = chi_square(spectrum, d, alpha)
    values = alpha * spectrum.values
    rng = key.generator("ranks", problem.carry.cycle, problem.carry.step)
    return {
        **spread_and_error(variance, problem.innovation, error, k),
        "chi_square": chi2,
        "chi_square_over_m": chi2 / len(d),
        "degrees_of_freedom_for_signal": float(np.sum(values / (1.0 + values))),
        "effective_size": effective_size(values),
        "rank_histogram": rank_histogram(problem.predictions, problem.innovation, error, rng),
    }
