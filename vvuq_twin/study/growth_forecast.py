"""Scores of the held-out visits beside the baselines, and forecast fields as images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..domain.runfolder import Number, RunFolder
from ..imaging.write import write_image
from ..scores import central_interval, concordance, crps_ensemble, dice, inside
from ..twin.model import ForwardModel
from .growth_problem import GrowthProblem
from .growth_twin import Quantities, observed, persistence

QUANTITIES = ("total_cellularity", "volume")


@dataclass(frozen=True)
class Forecasts:
    """Samples of both quantities at every visit for the twin and its baselines, and what came.

    Parameters
    ----------
    samples : dict of str to ndarray, shape (2, N, V)
        By forecast name: "forecast", "baseline: unassimilated growth", "baseline: persistence"; total
        cellularity and volume, cm3, with measurement error where ``truth`` is absent.
    outcome : ndarray, shape (2, V)
        cm3: the truth of a virtual patient, or what the scans show.
    days : ndarray, shape (V,)
    first_held_out : int
        Visits from here on were not assimilated.
    of_truth : bool
    """

    samples: dict[str, np.ndarray]
    outcome: np.ndarray
    days: np.ndarray
    first_held_out: int
    of_truth: bool

    @property
    def held_out(self) -> range:
        return range(self.first_held_out, len(self.days))


def gather(
    problem: GrowthProblem,
    posterior: Quantities,
    prior: Quantities,
    last: int,
    truth: np.ndarray | None,
    seed: int,
) -> Forecasts:
    """Put forecasts, baselines and outcome side by side.

    Parameters
    ----------
    last : int
        Index of the last assimilated visit.
    truth : ndarray, shape (2, V), optional
        True total cellularity and volume, cm3; without it the scans' own values are the outcome.
    """
    visits = len(problem.series.visits)

    def pick(q: Quantities) -> np.ndarray:
        return np.array([q.total, q.volume]) if truth is not None else np.array([q.seen_total, q.seen_volume])

    still = persistence(problem, last, len(posterior.total), seed)
    samples = {
        "forecast": pick(posterior),
        "baseline: unassimilated growth": pick(prior),
        "baseline: persistence": np.repeat(still[:, :, None], visits, axis=2),
    }
    outcome = truth if truth is not None else np.array(observed(problem))
    days = np.array([v.day for v in problem.series.visits])
    return Forecasts(samples, outcome, days, last + 1, truth is not None)


def score_numbers(problem: GrowthProblem, forecasts: Forecasts) -> list[Number]:
    """CRPS, error and interval hits of every held-out visit and their means, by the same names for all."""
    rows: list[Number] = []
    what = "truth" if forecasts.of_truth else "scan"
    for name, samples in forecasts.samples.items():
        for q, quantity in enumerate(QUANTITIES):
            crps, hits = [], []
            for v in forecasts.held_out:
                sample, y = samples[q][:, v], float(forecasts.outcome[q, v])
                low, high = (float(x) for x in central_interval(sample, 0.9))
                crps.append(float(crps_ensemble(y, sample)))
                hits.append(bool(inside(y, low, high)))
                label = problem.series.visits[v].id
                rows.append(
                    Number(
                        f"{quantity}_{label}", float(np.median(sample)), "cm3", (low, high), 0.9, "forecast", name,
                        f"{quantity.replace('_', ' ')} at {label}, day {forecasts.days[v]:g}; {what}: {y:.3g} cm3",
                    )
                )  # fmt: skip
            rows.append(
                Number(
                    f"crps_{quantity}", float(np.mean(crps)), "cm3", group="scores", of=name,
                    description=f"mean CRPS of {quantity.replace('_', ' ')} over held-out visits, against the {what}",
                )
            )  # fmt: skip
            rows.append(
                Number(
                    f"inside_90_{quantity}", float(np.mean(hits)), "1", group="scores", of=name,
                    description=f"share of held-out visits whose {quantity.replace('_', ' ')} ({what}) is inside the 90 % interval; one patient, no claim of coverage",
                )
            )  # fmt: skip
    return rows


def field_maps(
    problem: GrowthProblem,
    model: ForwardModel,
    coefficients: np.ndarray,
    levels: tuple[float, ...] = (0.05, 0.5, 0.95),
) -> dict[str, np.ndarray]:
    """Mean, standard deviation, quantiles and probability of detection of the forecast field at one visit.

    Parameters
    ----------
    coefficients : ndarray, shape (N, size)

    Returns
    -------
    dict of str to ndarray, grid.shape
    """
    n = problem.case.faces.n
    flat = {
        name: np.zeros(n) for name in ("mean", "sd", "visible", *(f"q{round(100 * p):02d}" for p in levels))
    }
    for cells, raw in model.fields(coefficients).blocks():
        values = np.clip(raw, 0.0, 1.0)
        flat["mean"][cells] = values.mean(axis=0)
        flat["sd"][cells] = values.std(axis=0, ddof=1)
        flat["visible"][cells] = (values >= problem.case.n_detect).mean(axis=0)
        for p, q in zip(levels, np.quantile(values, levels, axis=0)):
            flat[f"q{round(100 * p):02d}"][cells] = q
    return {name: problem.case.faces.scatter(v) for name, v in flat.items()}


def field_numbers(problem: GrowthProblem, maps: dict[str, np.ndarray], visit: int) -> list[Number]:
    """Agreement of the forecast field with a held-out scan: concordance of cellularity, Dice of the outline."""
    scan = problem.series.visits[visit]
    o = problem.spec.observation
    outline = scan.tumour & problem.series.brain
    seen = (o.adc_water_mm2_per_s - scan.adc) / (o.adc_water_mm2_per_s - problem.adc_reference)
    there = outline & np.isfinite(seen)
    rows = [
        Number(
            f"dice_{scan.id}", dice(maps["visible"] >= 0.5, outline), "1", group="field",
            description=f"Dice of the voxels more likely visible than not with the outline of {scan.id}",
        )
    ]  # fmt: skip
    if there.sum() > 1:
        rows.append(
            Number(
                f"concordance_{scan.id}", concordance(maps["mean"][there], seen[there]), "1", group="field",
                description=f"concordance of forecast and measured cellularity in the outline of {scan.id}, voxel by voxel",
            )
        )  # fmt: skip
    return rows


def write_fields(
    run: RunFolder, problem: GrowthProblem, visit: int, maps: dict[str, np.ndarray]
) -> list[Path]:
    """Forecast fields as NIfTI on the patient's grid, ``fields/<visit>-<statistic>.nii.gz``."""
    out = []
    for name, values in maps.items():
        path = run.path / "fields" / f"{problem.series.visits[visit].id}-cellularity-{name}.nii.gz"
        out.append(
            write_image(
                path, values.astype(np.float32), problem.series.grid, description=f"cellularity {name}"
            )
        )
    return out
