"""Checks a lesion run makes of itself: is the grid of constants fine enough, is the filter calibrated?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..domain.evidence import Evidence
from ..domain.keys import generator
from ..scores import crps_ensemble, pit
from ..twin.lesion import LesionPopulation, nodes, simulate
from .lesion_filter import assimilate, forecast, log_volume
from .lesion_folds import FoldForecasts, FoldSettings, forecast_fold, levels
from .lesion_scores import binomial_interval, covered
from .lesion_table import LesionTable

if TYPE_CHECKING:
    from .lesions import LesionResults, LesionSpec


def grid_check(spec: LesionSpec, results: LesionResults) -> tuple[Evidence, ...]:
    """The first fold's forecasts again with finer grids of the patients' constants and of quantiles."""
    coarse = spec.settings()
    fine = replace(
        coarse, nodes=(2 * coarse.nodes[0] + 1, 2 * coarse.nodes[1] + 1), members=2 * coarse.members
    )
    population = LesionPopulation.from_vector(np.array(results.populations[0].theta))
    training, test = results.table.take(results.fold != 0), results.table.take(results.fold == 0)
    a, b = (_crps(forecast_fold(population, training, test, s)) for s in (coarse, fine))
    change = abs(float(a.mean() - b.mean()))
    return (
        Evidence(
            "verification.lesions.grid", "numerical_solver_error",
            "The grid of patient constants and the number of quantiles are fine enough for the scores.",
            "the mean CRPS of one fold changes by less than 0.002 with twice the points and quantiles",
            {"change_of_mean_crps": change, "readings": len(a), "nodes": list(coarse.nodes),
             "finer_nodes": list(fine.nodes)},
            "passed" if change < 0.002 else "failed",
        ),
    )  # fmt: skip


def _crps(found: FoldForecasts) -> np.ndarray:
    return crps_ensemble(found.observed, found.twin)


def self_consistency(spec: LesionSpec, results: LesionResults, patients: int = 4000) -> Evidence:
    """Virtual patients drawn from the model itself: there the intervals must cover as they say."""
    population = LesionPopulation.from_vector(np.array(results.populations[0].theta))
    transform = virtual_pit(population, spec.settings(), patients, spec.seed)
    result: dict[str, object] = {"virtual_patients": patients}
    good = True
    for level in (50, 90):
        hits = int(covered(transform, level / 100).sum())
        low, high = binomial_interval(hits, patients)
        good &= low <= level / 100 <= high
        result |= {
            f"coverage_{level}_percent": 100 * hits / patients,
            f"lower_{level}": 100 * low,
            f"upper_{level}": 100 * high,
        }
    return Evidence(
        "verification.lesions.self_consistency", "numerical_code_verification",
        "Where the model is true, the filter's forecasts cover as they say.",
        "the 99 % binomial intervals over virtual patients hold 50 % and 90 %",
        result, "passed" if good else "failed", (), {"seed": spec.seed},
    )  # fmt: skip


def virtual_pit(population: LesionPopulation, settings: FoldSettings, patients: int, seed: int) -> np.ndarray:
    """Randomised PIT of the scan after the first ones of virtual patients, shape (patients,)."""
    k, limit = settings.first, settings.detection_mm
    table = virtual_table(population, patients, k + 1, seed)
    grid = nodes(population, *settings.nodes)
    posterior = assimilate(population, table, grid)[0][k - 1]
    days = table.day[:, k : k + 1] - table.day[:, k - 1 : k]
    members = forecast(population, posterior, days, limit, grid).members(levels(settings.members), limit)
    observed = log_volume(table.diameter_mm[:, k], limit)
    return pit(
        observed, log_volume(members, limit), generator(seed, "lesions", "virtual pit").random(patients)
    )


def virtual_table(population: LesionPopulation, patients: int, scans: int, seed: int) -> LesionTable:
    """A table of virtual patients, scanned every six weeks."""
    rng = generator(seed, "lesions", "virtual")
    day = np.tile(42.0 * np.arange(scans), (patients, 1))
    first = np.exp(rng.normal(np.log(30.0), 0.6, patients)).clip(8.0)
    diameter = simulate(population, day, first, rng)
    names = tuple(f"V{i:05d}" for i in range(patients))
    return LesionTable(names, np.full(patients, scans), day, diameter, np.zeros(patients, dtype=int))
