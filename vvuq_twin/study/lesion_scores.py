"""Scores of the lesion forecasts, with bootstrap intervals over patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from ..domain.keys import generator
from ..scores import crps_ensemble, pit
from .lesion_folds import FoldForecasts


@dataclass(frozen=True)
class ScoredForecasts:
    """Scores per reading of the twin and of calibrated persistence; shape (M,) each."""

    forecasts: FoldForecasts
    crps_twin: np.ndarray
    crps_persistence: np.ndarray
    error_twin: np.ndarray
    error_persistence: np.ndarray
    pit_twin: np.ndarray
    pit_persistence: np.ndarray

    def rows(self, keep: np.ndarray) -> ScoredForecasts:
        """Some of the readings."""
        parts = (
            self.crps_twin, self.crps_persistence, self.error_twin, self.error_persistence, self.pit_twin,
            self.pit_persistence,
        )  # fmt: skip
        return ScoredForecasts(self.forecasts.take(keep), *(p[keep] for p in parts))

    def __len__(self) -> int:
        return len(self.crps_twin)


def score(forecasts: FoldForecasts, seed: int) -> ScoredForecasts:
    """Score every reading; ties of the randomised PIT are broken by draws keyed by patient, task and scan."""
    keys = zip(forecasts.task, forecasts.patient, forecasts.scan, forecasts.horizon)
    u = np.array([generator(seed, "pit", *(str(k) for k in key)).random() for key in keys])
    y, a, b = forecasts.observed, forecasts.twin, forecasts.persistence
    return ScoredForecasts(
        forecasts, crps_ensemble(y, a), crps_ensemble(y, b), np.abs(y - np.median(a, axis=0)),
        np.abs(y - np.median(b, axis=0)), pit(y, a, u), pit(y, b, u),
    )  # fmt: skip


def covered(transform: np.ndarray, level: float) -> np.ndarray:
    """Whether a randomised PIT lies in the central interval: coverage that ties do not inflate."""
    return np.asarray(np.abs(transform - 0.5) <= level / 2)


def bootstrap_mean(
    value: np.ndarray, patient: np.ndarray, seed: int, purpose: str, draws: int, level: float = 0.95
) -> tuple[float, tuple[float, float]]:
    """Mean over readings and its percentile interval, patients drawn with replacement.

    Parameters
    ----------
    value : ndarray, shape (M,)
    patient : ndarray, shape (M,)
        Readings of one patient stay together.
    """
    _, who = np.unique(patient, return_inverse=True)
    total, count = np.bincount(who, weights=value), np.bincount(who)
    pick = generator(seed, "bootstrap", purpose).integers(0, len(count), (draws, len(count)))
    means = total[pick].sum(axis=1) / count[pick].sum(axis=1)
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return float(value.mean()), (float(low), float(high))


def binomial_interval(hits: int, n: int, level: float = 0.99) -> tuple[float, float]:
    """Clopper-Pearson interval of a probability."""
    a = (1.0 - level) / 2.0
    low = float(stats.beta.ppf(a, hits, n - hits + 1)) if hits else 0.0
    high = float(stats.beta.ppf(1.0 - a, hits + 1, n - hits)) if hits < n else 1.0
    return low, high
