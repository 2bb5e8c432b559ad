"""Many virtual patients: is the twin honest? Coverage, sharpness and CRPS beside the baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ..domain.evidence import Evidence
from ..domain.runfolder import Number, RunFolder
from ..ensemble.cluster import cluster
from ..ensemble.run import run_batches
from ..scores import central_interval, crps_ensemble, inside
from ..twin.growth import GuardedGrowthTwin
from ..validation import Coverage, compare, coverage_evidence, judge_coverage
from .exposure import exposure_map
from .growth_figures import BLUE, GREY, RED, new_figure
from .growth_forecast import QUANTITIES, gather
from .growth_model import reduce_growth
from .growth_problem import growth_problem
from .growth_spec import AssimilationSpec, GrowthSpec, ReductionSpec
from .growth_twin import assimilate, quantities
from .schema import StudySpec, read_study
from .workflow import Options

#: Changed when a patient's computation changes, so that a finished batch is not taken for another's.
VERSION = "5"
#: What is kept of each patient's validation of the reduced model.
REDUCTION = ("guarded_worst", "worst", "guarded_median", "median", "guarded_share")


class CohortSpec(StudySpec):
    """A cohort of virtual patients, each a growth study on a coarser grid."""

    study: str
    patients: Annotated[int, Field(ge=2)]
    first_seed: Annotated[int, Field(ge=0)]
    spacing_mm: Annotated[float, Field(gt=0)]
    refine: Annotated[int, Field(ge=2)] = 2
    reduction: ReductionSpec
    assimilation: AssimilationSpec
    step_days: Annotated[float, Field(gt=0)] = 1.0

    def growth(self, folder: Path) -> GrowthSpec:
        """The growth study's settings with this cohort's reductions."""
        spec, _ = read_study(folder / self.study)
        assert isinstance(spec, GrowthSpec)
        model = spec.model.model_copy(update={"step_days": self.step_days})
        return spec.model_copy(
            update={
                "reduction": self.reduction,
                "assimilation": self.assimilation,
                "model": model,
                "seed": self.seed,
            }
        )


def cohort_patient(seeds: np.ndarray, members: np.ndarray, context: dict[str, Any]) -> dict[str, np.ndarray]:
    """Batch function of one patient: make it, assimilate its scans, forecast; samples and outcome."""
    from ..virtual.glioma import make_patient

    spec = GrowthSpec.model_validate(context["growth"])
    out = []
    for seed in seeds[:, 0].astype(int).tolist():
        patient = make_patient(seed, context["spacing"], context["refine"])
        exposure = exposure_map(patient.scans)
        last = spec.assimilation.visits
        problem = growth_problem(patient.scans, spec, None if exposure is None else exposure.weight, last)
        trained = reduce_growth(problem.case, spec.reduction, seed, None, lambda *_: None)
        reduced = trained.reduced
        twin = GuardedGrowthTwin(problem.case, reduced, trained.probe, spec.reduction.tolerance)
        full: dict[str, float] = {}

        def run(
            z: np.ndarray, label: str, twin: GuardedGrowthTwin = twin, full: dict[str, float] = full
        ) -> tuple[np.ndarray, np.ndarray]:
            theta = np.asarray(twin.space.from_gaussian(z))
            parts = [twin.guarded(theta[i : i + spec.batch]) for i in range(0, len(z), spec.batch)]
            full[label] = float(np.concatenate([p.full for p in parts]).mean())
            return np.concatenate([p.coefficients for p in parts]), np.concatenate([p.status for p in parts])

        result = assimilate(problem, twin, run, last, seed)
        everyone = np.arange(len(result.prior))
        posterior = quantities(
            problem, twin, result.posterior, result.posterior_run, result.members, seed, "posterior"
        )
        prior = quantities(problem, twin, result.prior, result.prior_run, everyone, seed, "prior")
        truth = np.array([patient.total, patient.volume])
        row: dict[str, np.ndarray] = {"truth": truth}
        for kind, outcome in (("true", truth), ("seen", None)):
            found = gather(problem, posterior, prior, last - 1, outcome, seed)
            row[f"{kind}_outcome"] = found.outcome
            for name, sample in found.samples.items():
                row[f"{kind}/{name}"] = _summarised(sample, found.outcome)
        e, cost = reduced.errors, reduced.timings
        row["reduction"] = np.array([e[name] for name in REDUCTION])
        row["speed"] = np.array([cost["speed_up"], cost["speed_up_own_steps"], cost["speed_up_guarded"]])
        row["full"] = np.array([full["prior"], full["posterior"]])
        row["cycles"] = np.array([c["spread_over_error"] for c in result.cycles if c["step"] == 0])
        out.append(row)
    return {
        name.replace("/", "__").replace(": ", "_").replace(" ", "_"): np.array([r[name] for r in out])
        for r in out[:1]
        for name in r
    }


def _summarised(sample: np.ndarray, outcome: np.ndarray) -> np.ndarray:
    """CRPS, 90 % and 50 % bounds, median of samples (2, N, V): shape (6, 2, V)."""
    swapped = np.moveaxis(sample, 1, 0)
    low, high = central_interval(swapped, 0.9)
    low50, high50 = central_interval(swapped, 0.5)
    return np.array([crps_ensemble(outcome, swapped), low, high, low50, high50, np.median(swapped, axis=0)])


def cohort(spec: CohortSpec, data: Path | None, run: RunFolder, options: Options, folder: Path) -> None:
    """Run a cohort of virtual patients and judge the twin on them.

    Raises
    ------
    RunFailed
        If no patient could be run.
    """
    growth = spec.growth(folder)
    seeds = np.arange(spec.first_seed, spec.first_seed + spec.patients, dtype=float)[:, None]
    context = {"growth": growth.model_dump(), "spacing": spec.spacing_mm, "refine": spec.refine}
    with cluster(options.workers, options.cluster, run.path / "work") as client:
        found = run_batches(
            cohort_patient, seeds, run.path / "results.zarr", 1, client, "patients",
            lambda done, total: options.progress("virtual patients", done, total), context, VERSION, allow_nan=True,
        )  # fmt: skip
    good = found.good
    arrays = {name: np.asarray(found[name][:])[good] for name in found if name != "status"}
    failed = [int(s) for s in np.setdiff1d(seeds[:, 0].astype(int), seeds[good, 0].astype(int))]
    run.journal.append("cohort finished", patients=len(good), failed=failed)
    days = _days()
    held = range(spec.assimilation.visits, len(days))
    _reduction(run, spec, arrays)
    for kind in ("true", "seen"):
        _coverage(run, arrays, kind, days, held)
        _skill(run, spec, arrays, kind, held)
    _figure(run, arrays, days, held)
    ratio = arrays["cycles"]
    run.table(
        "spread", [("visit", ""), ("median spread over error", ""), ("10 %", ""), ("90 %", "")],
        [[i + 2, *np.quantile(ratio[:, i], [0.5, 0.1, 0.9]).tolist()] for i in range(ratio.shape[1])],
        title="Spread over error, one step ahead", section="assimilation", order=1,
        caption="Over patients, before each analysis: expected over actual innovation; 1 is right.",
    )  # fmt: skip
    if failed:
        run.text(
            "failed",
            "limitations",
            f"{len(failed)} patients could not be run (seeds {failed}); they are not counted.",
        )


def _days() -> np.ndarray:
    from ..virtual.population import settings

    return np.asarray(settings()["visits_days"], dtype=float)


def _reduction(run: RunFolder, spec: CohortSpec, arrays: dict[str, np.ndarray]) -> None:
    """Evidence on the models' error over patients; the models' speeds."""
    found = dict(zip(REDUCTION, arrays["reduction"].T))
    worst, alone = found["guarded_worst"], found["worst"]
    limit = spec.reduction.tolerance
    prior, posterior = arrays["full"].T
    run.evidence(
        Evidence(
            "reduction.cohort", "numerical_solver_error",
            "The model of each patient, the reduced order with the full order for members it is not accurate for, stays near "
            "the full order on parameters it was not trained on.",
            f"worst relative L2 error inside the tumour below {100 * limit:g} % in every patient",
            {"patients": len(worst), "unseen members per patient": spec.reduction.validation, "largest": float(worst.max()),
             "median of patients' worst": float(np.median(worst)),
             "median of medians": float(np.median(found["guarded_median"])),
             "patients above the limit": int((worst >= limit).sum()),
             "reduced order alone, largest": float(alone.max()),
             "reduced order alone, median of patients' worst": float(np.median(alone)),
             "reduced order alone, patients above the limit": int((alone >= limit).sum()),
             "run at full order, share of unseen members": float(found["guarded_share"].mean()),
             "run at full order, share of the prior ensembles": float(prior.mean()),
             "run at full order, share of the posterior ensembles": float(posterior.mean())},
            "passed" if (worst < limit).all() else "failed",
        )
    )  # fmt: skip
    for name, values in (("reduction_error_worst", worst), ("reduction_error_worst_alone", alone)):
        for suffix, value in (("", values.max()), ("_median", np.median(values))):
            run.summary(Number(name + suffix, float(value), "1", group="reduction", of="reduced model"))
    equal, own, guarded = np.median(arrays["speed"], axis=0).tolist()
    run.data("timings", {"equal steps": equal, "own steps": own, "guarded": guarded})
    run.text(
        "speed_up", "verification",
        f"Median over patients of the reduced model's speed: {equal:.0f} times the full order at equal steps, {own:.0f} times at "
        f"its own longer ones, {guarded:.1f} times with the error estimate and the prior's members that it sends to the full "
        "order.",
    )  # fmt: skip


def _coverage(
    run: RunFolder, arrays: dict[str, np.ndarray], kind: str, days: np.ndarray, held: range
) -> None:
    """Coverage of the intervals at each held-out visit, over patients, with sharpness beside."""
    outcome, found = arrays[f"{kind}_outcome"], arrays[f"{kind}__forecast"]
    what = "true" if kind == "true" else "scanned"
    rows: list[list[Any]] = []
    judged_90: dict[str, Coverage] = {}
    judged_50: dict[str, Coverage] = {}
    widths: dict[str, float] = {}
    for q, quantity in enumerate(QUANTITIES):
        for v in held:
            y = outcome[:, q, v]
            name = f"{quantity.replace('_', ' ')}, day {days[v]:g}"
            for level, (a, b) in ((0.9, (1, 2)), (0.5, (3, 4))):
                low, high = found[:, a, q, v], found[:, b, q, v]
                judged = judge_coverage(inside(y, low, high).astype(float), level)
                # a tumour below half a cubic centimetre has no meaningful relative width
                width = float(np.median((high - low) / np.maximum(y, 0.5)))
                rows.append(
                    [what, quantity.replace("_", " "), days[v], 100 * level, 100 * judged.observed, 100 * judged.lower,
                     100 * judged.upper, judged.patients, width]
                )  # fmt: skip
                if level == 0.5:
                    judged_50[name] = judged
                else:
                    judged_90[name], widths[f"median width over outcome, {name}"] = judged, width
                    run.summary(
                        Number(f"coverage_90_{kind}_{quantity}_visit-{v + 1}", judged.observed, "1",
                               (judged.lower, judged.upper), 0.99, "coverage", "forecast")
                    )  # fmt: skip
    run.evidence(
        coverage_evidence(
            f"validation.coverage.{kind}",
            f"The 90 % intervals hold the {what} total cellularity and volume at the held-out visits.",
            judged_90, widths,
        ),
        coverage_evidence(
            f"validation.coverage_50.{kind}",
            f"The 50 % intervals hold the {what} total cellularity and volume at the held-out visits.",
            judged_50,
        ),
    )  # fmt: skip
    run.table(
        f"coverage_{kind}",
        [("outcome", ""), ("quantity", ""), ("day", ""), ("nominal", "%"), ("observed", "%"), ("99 % low", "%"),
         ("99 % high", "%"), ("patients", ""), ("median width over outcome", "")],
        rows, title=f"Coverage against the {what} outcome", section="validation", order=1 if kind == "true" else 2,
        caption="Intervals over patients by the binomial (Clopper-Pearson); the last column is sharpness.",
    )  # fmt: skip


def _skill(run: RunFolder, spec: CohortSpec, arrays: dict[str, np.ndarray], kind: str, held: range) -> None:
    patients = np.repeat(np.arange(len(arrays["truth"])), len(held))
    rows = []
    for q, quantity in enumerate(QUANTITIES):
        mine = arrays[f"{kind}__forecast"][:, 0, q, held.start :].ravel()
        run.summary(
            Number(f"crps_{kind}_{quantity}", float(mine.mean()), "cm3", group="scores", of="forecast")
        )
        for name, label in (
            ("baseline_persistence", "persistence"),
            ("baseline_unassimilated_growth", "unassimilated growth"),
        ):
            theirs = arrays[f"{kind}__{name}"][:, 0, q, held.start :].ravel()
            d = compare(mine, theirs, patients, spec.seed, kind, quantity, name)
            rows.append(
                [
                    kind,
                    quantity.replace("_", " "),
                    label,
                    d.score,
                    d.reference,
                    d.difference,
                    d.lower,
                    d.upper,
                ]
            )
            run.summary(
                Number(
                    f"crps_{kind}_{quantity}",
                    float(theirs.mean()),
                    "cm3",
                    group="scores",
                    of=f"baseline: {label}",
                )
            )
            run.evidence(
                Evidence(
                    f"validation.crps.{kind}.{quantity}.{name}", "output_comparison",
                    f"The forecast of {kind} {quantity.replace('_', ' ')} is better than {label}, over patients.",
                    "95 % bootstrap interval over patients of the difference in CRPS below zero",
                    {"forecast (cm3)": d.score, f"{label} (cm3)": d.reference, "difference (cm3)": d.difference,
                     "95 % low": d.lower, "95 % high": d.upper, "patients": d.patients},
                    "passed" if d.better else "failed",
                )
            )  # fmt: skip
    run.table(
        f"crps_{kind}",
        [("outcome", ""), ("quantity", ""), ("baseline", ""), ("forecast", "cm3"), ("baseline's", "cm3"), ("difference", "cm3"),
         ("95 % low", "cm3"), ("95 % high", "cm3")],
        rows, title=f"Mean CRPS over held-out visits, {kind} outcome", section="scores", order=1 if kind == "true" else 2,
        caption="Bootstrap over patients; a negative difference is better than the baseline.",
    )  # fmt: skip


def _figure(run: RunFolder, arrays: dict[str, np.ndarray], days: np.ndarray, held: range) -> None:
    figure = new_figure(11, 4.0)
    for q, axis in enumerate(figure.subplots(1, 2)):
        found, y = arrays["true__forecast"][:, :, q], arrays["truth"][:, q]
        for v, colour in zip(held, (BLUE, GREY, RED)):
            middle, low, high = found[:, 5, v], found[:, 1, v], found[:, 2, v]
            axis.errorbar(y[:, v], middle, yerr=[np.maximum(middle - low, 0), np.maximum(high - middle, 0)], fmt="o", ms=3,
                          lw=0.6, color=colour, label=f"day {days[v]:g}")  # fmt: skip
        most = float(max(y[:, held.start :].max(), np.quantile(found[:, 2, held.start :], 0.98)))
        axis.plot([0, most], [0, most], color="black", lw=0.8)
        axis.set(xlabel="true (cm³)", ylabel="forecast, median and 90 % (cm³)", title=QUANTITIES[q].replace("_", " "),
                 xlim=(0, None), ylim=(0, most))  # fmt: skip
        axis.legend(fontsize=8, frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    run.figure(
        "cohort", figure, title="Forecast against truth", section="validation", order=1,
        caption="Each point is a virtual patient at a held-out visit.",
        alt="Scatter of forecast medians with intervals against true values, on the diagonal if right.",
    )  # fmt: skip
