"""One fold of the lesion study: learn from the training patients, forecast the test patients.

Pure functions of arrays and plain settings, so that folds may run anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from ..calibration.population import PersistenceErrors, PopulationFit, fit_population
from ..twin.lesion import DETECTION_NAMES, LesionPopulation, hyperpriors, nodes
from .lesion_filter import assimilate, detection_log_probability, forecast, log_volume
from .lesion_table import LesionTable

#: The forecasting tasks: one scan ahead after the first scans (one forecast a patient), one scan ahead after
#: every further scan, and the last scans of the longer series.
TASKS = ("after_first", "rolling", "last_scans")


@dataclass(frozen=True)
class FoldSettings:
    """What decides the numbers of a fold.

    Parameters
    ----------
    detection_mm : float
        Volumes below this diameter's count as this diameter's (censored scores).
    first : int
        Scans assimilated before the first forecast.
    last, last_needs : int
        The last ``last`` scans of series with at least ``last_needs`` are forecast.
    iterations : int
        Of the search for the population's constants.
    members : int
        Quantiles that represent a forecast.
    nodes : tuple of int
        Points of the grid of the patients' volatility and probability to stand still.
    """

    detection_mm: float
    first: int = 3
    last: int = 2
    last_needs: int = 6
    iterations: int = 20
    members: int = 200
    nodes: tuple[int, int] = (5, 3)


@dataclass(frozen=True)
class FoldForecasts:
    """Forecasts of M readings and what was read; all sizes as ln(volume / mm3), censored at detection.

    Parameters
    ----------
    task : ndarray of str, shape (M,)
    patient : ndarray of str, shape (M,)
    scan, horizon : ndarray of int, shape (M,)
        Index of the reading in its series (from 0), and scans after the last assimilated one.
    observed, last : ndarray, shape (M,)
    twin, persistence : ndarray, shape (N, M)
        Quantiles of the two forecasts at equidistant levels.
    """

    task: np.ndarray
    patient: np.ndarray
    scan: np.ndarray
    horizon: np.ndarray
    observed: np.ndarray
    last: np.ndarray
    twin: np.ndarray
    persistence: np.ndarray

    def take(self, keep: np.ndarray) -> FoldForecasts:
        """Some of the readings."""
        return FoldForecasts(*(getattr(self, f.name)[..., keep] for f in fields(self)))


def join(parts: list[FoldForecasts]) -> FoldForecasts:
    """Forecasts of several folds one after another."""
    columns = [[getattr(p, f.name) for p in parts] for f in fields(FoldForecasts)]
    return FoldForecasts(*(np.concatenate(c, axis=-1) for c in columns))


def levels(members: int) -> np.ndarray:
    """Equidistant levels ``(i - 1/2) / N``."""
    return (np.arange(members) + 0.5) / members


def learn(
    training: LesionTable, settings: FoldSettings, on_iteration: Callable[[int], None] | None = None
) -> PopulationFit:
    """The population's constants, from one-step forecasts of the training patients after their first scans.

    The readings' size and whether they are seen at all have no constant in common, so they are fitted apart.
    """
    space = hyperpriors()
    sized = [n for n in space.names if n not in DETECTION_NAMES]
    scored = slice(settings.first, None)
    last, reading = training.diameter_mm[:, :-1], training.diameter_mm[:, 1:]
    pairs = np.isfinite(last) & np.isfinite(reading)

    def seen(theta: np.ndarray) -> float:
        population = LesionPopulation.from_vector(theta)
        return float(detection_log_probability(population, last[pairs], reading[pairs]).sum())

    def size(theta: np.ndarray) -> float:
        population = LesionPopulation.from_vector(theta)
        _, score = assimilate(population, training, nodes(population, *settings.nodes))
        return float(np.nansum(score[:, scored]))

    detection = fit_population(seen, space, DETECTION_NAMES, iterations=100)
    return fit_population(size, space, sized, detection.z, settings.iterations, on_iteration=on_iteration)


def forecast_fold(
    population: LesionPopulation, training: LesionTable, test: LesionTable, settings: FoldSettings
) -> FoldForecasts:
    """Assimilate each test patient's scans in turn and forecast those of every task, beside persistence."""
    grid = nodes(population, *settings.nodes)
    posteriors, _ = assimilate(population, test, grid)
    level = levels(settings.members)
    limit = settings.detection_mm
    size = log_volume(test.diameter_mm, limit)
    parts = []
    for task in TASKS:
        for horizon in range(1, (settings.last if task == "last_scans" else 1) + 1):
            errors = _persistence(training, task, horizon, settings)
            for posterior in posteriors:
                k = posterior.scans
                now = posterior.take(_origin(task, test.visits[posterior.rows], k, settings))
                rows = now.rows
                if not len(rows):
                    continue
                days = test.day[rows, k : k + horizon] - test.day[rows, k - 1 : k]
                twin = log_volume(forecast(population, now, days, limit, grid).members(level, limit), limit)
                last = size[rows, k - 1]
                gone = (now.last_mm <= 0).astype(int)
                plain = np.maximum(errors.members(last, gone, level), log_volume(np.zeros(1), limit))
                n, target = len(rows), k + horizon - 1
                n, target = len(rows), k + horizon - 1
                name, label = np.array(test.patient)[rows], np.full(n, task)
                scan, ahead = np.full(n, target), np.full(n, horizon)
                parts.append(FoldForecasts(label, name, scan, ahead, size[rows, target], last, twin, plain))
    return join(parts)


def _origin(task: str, visits: np.ndarray, scans: int, settings: FoldSettings) -> np.ndarray:
    """Which patients are forecast from their first ``scans`` scans."""
    if task == "after_first":
        return (visits > scans) & (scans == settings.first)
    if task == "rolling":
        return (visits > scans) & (scans >= settings.first)
    return (visits >= settings.last_needs) & (visits == scans + settings.last)


def _persistence(training: LesionTable, task: str, horizon: int, settings: FoldSettings) -> PersistenceErrors:
    """Errors of the last value over the same task and horizon in the training patients."""
    size = log_volume(training.diameter_mm, settings.detection_mm)
    pairs = [(np.empty(0), np.empty(0), np.empty(0, dtype=int))]
    for scans in range(1, training.day.shape[1]):
        rows = np.flatnonzero(_origin(task, training.visits, scans, settings))
        if not len(rows):
            continue
        gone = training.diameter_mm[rows, scans - 1] <= 0
        pairs.append((size[rows, scans - 1], size[rows, scans + horizon - 1], gone.astype(int)))
    last, later, gone = (np.concatenate(p) for p in zip(*pairs))
    return PersistenceErrors.learn(last, later, gone)
