"""What the lesion study leaves in its run folder: numbers, tables and evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..domain.evidence import Evidence
from ..domain.runfolder import Number, RunFolder
from ..twin.lesion import hyperpriors
from .lesion_checks import grid_check, self_consistency
from .lesion_figures import figures
from .lesion_scores import ScoredForecasts, binomial_interval, bootstrap_mean, covered

if TYPE_CHECKING:
    from .lesions import LesionResults, LesionSpec

_PERSISTENCE = "baseline: calibrated persistence"
_UNIT = "1"


def task_names(spec: LesionSpec) -> dict[str, str]:
    """Readable names of the tasks."""
    return {
        "after_first": f"one scan ahead after {spec.first} scans",
        "rolling": f"one scan ahead, every scan after the first {spec.first}",
        "last_scans": f"last {spec.last} scans of {spec.last_needs} or more",
    }


def report(spec: LesionSpec, results: LesionResults, run: RunFolder) -> None:
    """Write numbers, tables, evidence and figures."""
    scored = results.scored
    gone = {
        p
        for p, d in zip(results.table.patient, results.table.diameter_mm)
        if (np.nan_to_num(d, nan=1.0) <= 0).any()
    }
    who = scored.forecasts.patient
    subsets = {
        "all patients": np.ones(len(scored), dtype=bool),
        "detected at every scan": ~np.isin(who, list(gone)),
    }
    if spec.set_aside is not None:
        from .lesions import set_aside

        subsets["set aside during design"] = np.isin(who, list(set_aside(results.table, spec.set_aside)))
    rows = []
    for task, readable in task_names(spec).items():
        for subset, inside in subsets.items():
            part = scored.rows(inside & (scored.forecasts.task == task))
            if not len(part):
                continue
            rows.append(
                _row(spec, run, task, readable, subset, part, "" if subset == "all patients" else subset)
            )
    columns = [("task", ""), ("patients", ""), ("readings", "1"), ("patients with them", "1"), ("CRPS, twin", _UNIT),
               ("CRPS, calibrated persistence", _UNIT), ("difference", _UNIT), ("95 % from", _UNIT), ("to", _UNIT),
               ("MAE, twin", _UNIT), ("MAE, calibrated persistence", _UNIT), ("50 % covers, twin", "%"),
               ("90 % covers, twin", "%")]  # fmt: skip
    run.table(
        "lesion_scores", columns, rows, title="Scores of ln(volume / mm³), cross-validated over patients",
        caption="Volumes below detection count as the limit's. Differences are twin minus calibrated persistence "
        "(negative: the twin is better), intervals by bootstrap over patients; coverage by the randomised PIT.",
        section="scores",
    )  # fmt: skip
    _horizons(spec, results, run)
    _populations(results, run)
    _coverage(spec, scored, run)
    _samples(results, run, len(gone))
    run.evidence(*grid_check(spec, results), self_consistency(spec, results))
    figures(spec, results, run)
    run.text(
        "lesion_limits", "limitations",
        "Only patients who stayed on study have a next scan, and staying selects lesions that do not progress: the "
        "forecasts are conditional on there being a scan. One target lesion per patient, by its long diameter. "
        "Treatment is not an input: the arms enter through the common drift only. Each forecast is of one reading; "
        "the joint distribution of several is not scored.",
    )  # fmt: skip


def _row(
    spec: LesionSpec, run: RunFolder, task: str, readable: str, subset: str, part: ScoredForecasts, tag: str
) -> list[object]:
    """Scores of one task and subset, as a table's row; also as numbers, and as evidence for all patients."""
    who = part.forecasts.patient
    draws = spec.bootstrap
    name = task + ("_" + tag.replace(" ", "_") if tag else "")

    def mean(value: np.ndarray, what: str) -> tuple[float, tuple[float, float]]:
        return bootstrap_mean(value, who, spec.seed, f"{what}/{name}", draws)

    suffix = f", {readable}" + (f" ({tag})" if tag else "")
    group = tag or "forecast"
    pairs = {
        f"crps_log_volume_{name}": ("CRPS of ln volume", part.crps_twin, part.crps_persistence),
        f"mae_log_volume_{name}": ("Absolute error of ln volume", part.error_twin, part.error_persistence),
    }
    for key, (label, twin, persistence) in pairs.items():
        for of, value in (("forecast", twin), (_PERSISTENCE, persistence)):
            m, interval = mean(value, f"{key}/{of}")
            run.summary(Number(key, m, _UNIT, interval, 0.95, group, of, label + suffix))
    for level in (50, 90):
        for of, transform in (("forecast", part.pit_twin), (_PERSISTENCE, part.pit_persistence)):
            m, interval = mean(100.0 * covered(transform, level / 100), f"coverage{level}/{of}")
            key = f"coverage_{level}_{name}"
            run.summary(
                Number(key, m, "%", interval, 0.95, group, of, f"Coverage of {level} % intervals" + suffix)
            )
    difference, interval = mean(part.crps_twin - part.crps_persistence, "difference")
    run.summary(
        Number(f"crps_difference_{name}", difference, _UNIT, interval, 0.95, group, "forecast",
               "CRPS, twin minus calibrated persistence" + suffix)
    )  # fmt: skip
    if not tag:
        better = interval[1] < 0
        run.evidence(
            Evidence(
                f"forecast.lesions.crps.{task}", "output_comparison",
                f"The twin's forecast ({readable}) has a lower CRPS than calibrated persistence.",
                "the 95 % bootstrap interval over patients of the difference lies below zero",
                {f"crps_difference_{name}": difference, "lower": interval[0], "upper": interval[1],
                 "readings": len(part), "patients": len(np.unique(who))},
                "passed" if better else "failed", ("tables/lesion_scores.json", "figures/lesion_crps.png"),
                {"seed": spec.seed, "bootstrap": draws, "folds": spec.folds},
            )
        )  # fmt: skip
    return [
        readable, subset, len(part), len(np.unique(who)), float(part.crps_twin.mean()),
        float(part.crps_persistence.mean()), difference, interval[0], interval[1], float(part.error_twin.mean()),
        float(part.error_persistence.mean()), 100.0 * float(covered(part.pit_twin, 0.5).mean()),
        100.0 * float(covered(part.pit_twin, 0.9).mean()),
    ]  # fmt: skip


def _horizons(spec: LesionSpec, results: LesionResults, run: RunFolder) -> None:
    """The last scans, horizon by horizon."""
    scored = results.scored
    rows = []
    for h in range(1, spec.last + 1):
        part = scored.rows((scored.forecasts.task == "last_scans") & (scored.forecasts.horizon == h))
        who = part.forecasts.patient
        gain, interval = bootstrap_mean(
            part.crps_twin - part.crps_persistence, who, spec.seed, f"horizon/{h}", spec.bootstrap
        )
        rows.append([f"{h} ahead", len(part), float(part.crps_twin.mean()), float(part.crps_persistence.mean()),
                     gain, *interval, float(part.error_twin.mean()), float(part.error_persistence.mean())])  # fmt: skip
    columns = [("scan", ""), ("patients", "1"), ("CRPS, twin", _UNIT), ("CRPS, calibrated persistence", _UNIT),
               ("difference", _UNIT), ("95 % from", _UNIT), ("to", _UNIT), ("MAE, twin", _UNIT),
               ("MAE, calibrated persistence", _UNIT)]  # fmt: skip
    run.table("lesion_horizons", columns, rows, title="The last scans, by horizon",
              caption="Scores of ln(volume / mm³).", section="scores", order=1)  # fmt: skip


def _populations(results: LesionResults, run: RunFolder) -> None:
    """The population's constants, fold by fold."""
    space = hyperpriors()
    theta = np.array([p.theta for p in results.populations])
    z = np.array([p.z for p in results.populations])
    rows = [
        [p.name, float(np.asarray(p.prior.from_gaussian(0.0))), float(theta[:, i].mean()), float(theta[:, i].min()),
         float(theta[:, i].max()), float(np.abs(z[:, i]).max())]
        for i, p in enumerate(space.parameters)
    ]  # fmt: skip
    columns = [("constant", ""), ("prior's centre", ""), ("mean over folds", ""), ("least", ""), ("greatest", ""),
               ("largest shift, prior sd", "1")]  # fmt: skip
    run.table("lesion_population", columns, rows, title="Constants of the population, per fold",
              caption="Maximum a posteriori. Per reference interval of 42 days; sizes are of ln(diameter).",
              section="calibration")  # fmt: skip
    done = all(p.converged for p in results.populations)
    inside = bool((np.abs(z) < 3).all())
    run.evidence(
        Evidence(
            "calibration.lesions.population", "model_inputs",
            "The search for the population's constants ended at a mode in every fold, inside the priors.",
            "every search converged, no constant beyond three prior standard deviations",
            {"converged": done, "largest_shift_prior_sd": float(np.abs(z).max()),
             "evaluations": [p.evaluations for p in results.populations]},
            "passed" if done and inside else "failed", ("tables/lesion_population.json",),
        )
    )  # fmt: skip


def _coverage(spec: LesionSpec, scored: ScoredForecasts, run: RunFolder) -> None:
    """Coverage where each patient counts once: after the first scans, and each of the last."""
    cases = [("after_first", 1)] + [("last_scans", h) for h in range(1, spec.last + 1)]
    for task, horizon in cases:
        part = scored.rows((scored.forecasts.task == task) & (scored.forecasts.horizon == horizon))
        found: dict[str, object] = {"patients": len(part)}
        good = True
        for level in (50, 90):
            hits = int(covered(part.pit_twin, level / 100).sum())
            low, high = binomial_interval(hits, len(part))
            good &= low <= level / 100 <= high
            found |= {f"coverage_{level}_percent": 100 * hits / len(part), f"lower_{level}": 100 * low,
                      f"upper_{level}": 100 * high}  # fmt: skip
        enough = len(part) >= 100
        run.evidence(
            Evidence(
                f"forecast.lesions.coverage.{task}.{horizon}", "output_comparison",
                f"The twin's 50 % and 90 % intervals cover as they say ({task_names(spec)[task]}, {horizon} ahead).",
                "the 99 % binomial interval over patients holds the nominal level; at least 100 patients",
                found, ("passed" if good else "failed") if enough else "not assessed",
                ("figures/lesion_pit.png",), {"seed": spec.seed},
            )
        )  # fmt: skip


def _samples(results: LesionResults, run: RunFolder, gone: int) -> None:
    table = results.table
    run.evidence(
        Evidence(
            "validation.lesions.samples", "test_samples",
            "Every forecast patient was left out of the population that forecast it.",
            "no patient in both halves of a fold; at least 100 patients",
            {"patients": len(table), "scans": int(table.visits.sum()), "patients_with_a_vanished_lesion": gone,
             "patients_mended": list(table.mended), "trials": len(np.unique(table.group))},
            "passed" if len(table) >= 100 else "not assessed", ("inputs.json",),
        )
    )  # fmt: skip
