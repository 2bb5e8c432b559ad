"""The growth study: scans over time to a forecast with error bars, its scores and its evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..domain.errors import BadInput, RunFailed
from ..domain.evidence import Evidence
from ..domain.files import write_with
from ..domain.runfolder import Number, RunFolder
from ..ensemble.beside import beside
from ..ensemble.cluster import cluster
from ..imaging.check import check_patient, require_usable
from ..imaging.series import ScanSeries, read_series
from ..reduction.store import save
from ..twin.growth import ReducedGrowthTwin
from ..verification import begin_suite
from .exposure import Exposure, exposure_map
from .exposure_uncertainty import exposure_uncertainty
from .growth_budget import budget
from .growth_calibration import calibration
from .growth_fidelity import multifidelity
from .growth_figures import cycles, over_time, slices
from .growth_forecast import field_maps, field_numbers, gather, score_numbers, write_fields
from .growth_grid import central_discretisation
from .growth_information import parameter_reduction
from .growth_model import StudyModel, load_model, model_context, reduce_growth, runner, save_model
from .growth_problem import GrowthProblem, growth_problem
from .growth_sensitivity import sensitivity
from .growth_spec import GrowthSpec
from .growth_trust import tell_trust
from .growth_twin import Assimilated, assimilate, observed, prior_scores, quantities
from .workflow import Options

#: Checks of what a growth study computes with; the others are for ``vvuq-twin verify``.
VERIFIED = (
    "gci.", "growth.", "lengths", "multifidelity.", "operators.", "plasma.", "reduction.horizon", "reduction.modes",
    "reduction.projection", "response.", "transport.",
)  # fmt: skip
#: The one of them that compiles what the exposure map needs.
FIRST = ("transport.tofts",)


def growth_study(spec: GrowthSpec, data: Path | None, run: RunFolder, options: Options) -> None:
    """Run a growth study into a run folder; every stage that is finished is not done again.

    Raises
    ------
    BadInput
        If the patient or the settings cannot be used.
    RunFailed
        If an ensemble could not be run.
    """
    given = None if data is None else _given(spec, data)
    if given is None and spec.virtual is None:
        raise BadInput("the study names no patient", "study.yaml: virtual", "add it, or give --data FOLDER")
    assimilated = spec.assimilation.visits if options.assimilate is None else options.assimilate
    work = run.path / "work"
    with cluster(options.workers, options.cluster, work) as client:
        # the solver is verified whenever a worker has nothing else to do. One check alone goes first: on a new machine it
        # compiles the transport's kernels while the patient's tumour compiles and uses those of growth; were they all
        # begun now, every process would compile the same ones
        idle = beside(client, priority=-1)
        checks = begin_suite(FIRST, quick=True, begin=idle)
        series, truth, notes = given or _virtual(spec, run, options)
        options.progress("exposure map", 0, 1)
        exposure = exposure_map(series)
        options.progress("exposure map", 1, 1)
        checks += begin_suite(VERIFIED, quick=True, begin=idle, but=FIRST)
        problem = growth_problem(series, spec, None if exposure is None else exposure.weight, assimilated)
        _tell_input(run, data if data is not None else run.path / "patient")
        model = work / "twin.pickle"
        if not model.exists():
            # the prior ensemble is known already: a member unlike all others is better trained on than missed
            wanted = np.asarray(problem.space.from_gaussian(prior_scores(problem, spec.seed)))
            trained = reduce_growth(problem.case, spec.reduction, spec.seed, client, options.progress, wanted)
            save(work / "reduced.zarr.zip", trained.reduced, trained.probe)
            save_model(
                model, StudyModel(problem.case, trained.reduced, trained.probe, spec.reduction.tolerance)
            )
            run.journal.append("reduced model trained", rank=trained.reduced.rank)
        loaded = load_model(str(model))
        problem, reduced, twin = replace(problem, case=loaded.case), loaded.reduced, loaded.twin
        context = model_context(model)
        step = runner(run.path / "results.zarr", context, spec.batch, client, options.progress)
        result = assimilate(problem, twin, step, assimilated, spec.seed)
        run.journal.append("visits assimilated", visits=assimilated, members=len(result.members))
        begin = beside(client)
        refined = begin(
            central_discretisation, str(model.resolve()), result.posterior, len(series.visits) - 1
        )
        _tell_patient(run, problem, exposure, notes, assimilated)
        _tell_reduction(run, spec, reduced)
        tell_trust(run, spec, problem.case, run.path / "results.zarr", result)
        _tell_assimilation(run, problem, result)
        _tell_forecast(run, problem, twin, result, assimilated, truth, spec.seed)
        if exposure is not None and exposure.reducible:
            options.progress("drug exposure", 0, 1)
            exposure_uncertainty(run, series, exposure, spec.seed)
            options.progress("drug exposure", 1, 1)
        budget(run, problem, twin, result, step, refined)
        sensitivity(run, spec, problem, context, client, options)
        multifidelity(run, spec, problem, twin, result, context, client, options)
        parameter_reduction(run, spec, problem, twin, result, assimilated, step, options)
        calibration(run, spec, problem, reduced, result, assimilated, options, begin)
        _tell_verification(run, checks, options)


def _tell_verification(run: RunFolder, checks: list[Callable[[], Evidence]], options: Options) -> None:
    found = []
    for i, outcome in enumerate(checks):
        options.progress("verification", i, len(checks))
        found.append(outcome())
    options.progress("verification", len(checks), len(checks))
    run.evidence(*sorted(found, key=lambda e: e.id))
    run.text(
        "verified", "verification",
        f"The {len(found)} checks of the code that are listed are those of what this study computes with, on their quick grids; "
        "the command vvuq-twin verify runs all of them.",
    )  # fmt: skip


Patient = tuple[ScanSeries, dict[str, np.ndarray] | None, tuple[str, ...]]


def _given(spec: GrowthSpec, data: Path) -> Patient:
    """The scans of a patient folder, no truth, and what had to be assumed."""
    if data.is_file():
        raise BadInput(
            "this is a file, not a patient folder", str(data), "name the folder that holds patient.yaml"
        )
    default = next((n[2:] for n in spec.parameters if n.startswith("D_")), "tissue")
    require_usable(data)
    series, notes = read_series(data, default)
    return series, None, notes


def _virtual(spec: GrowthSpec, run: RunFolder, options: Options) -> Patient:
    """The scans of the study's virtual patient, and its truth."""
    from ..virtual.folder import write_patient
    from ..virtual.glioma import make_patient

    assert spec.virtual is not None
    folder, hidden = run.path / "patient", run.path / "truth.npz"
    if not (folder / "patient.yaml").exists() or not hidden.exists():
        options.progress("virtual patient", 0, 1)
        made = make_patient(spec.virtual.seed, spec.virtual.spacing_mm, spec.virtual.refine)
        arrays = {
            "cellularity": made.cellularity.astype(np.float32), "total": made.total, "volume": made.volume,
            "names": np.array(list(made.truth.values)), "values": np.array(list(made.truth.values.values())),
        }  # fmt: skip
        write_with(hidden, lambda p: np.savez_compressed(p, **arrays))  # type: ignore[arg-type]
        write_patient(made, folder)
        options.progress("virtual patient", 1, 1)
        run.journal.append("virtual patient made", seed=spec.virtual.seed)
    series, notes = read_series(folder)
    with np.load(hidden) as truth:
        return series, {name: truth[name] for name in truth.files}, notes


def _tell_input(run: RunFolder, folder: Path) -> None:
    """Evidence that the input is what it says: the patient folder's own check."""
    found = check_patient(folder)
    count = {level: sum(f.level == level for f in found) for level in ("error", "warning", "note")}
    said = {f"{f.level} {i}": f.sentence for i, f in enumerate(found, start=1) if f.level != "note"}
    run.evidence(
        Evidence(
            "input.check", "use_error",
            "The patient folder passes the input check: units declared, images on one grid, masks that overlap, "
            "treatments and visits in order.",
            "no error; warnings are listed", {**{f"{k}s": v for k, v in count.items()}, **said},
            "failed" if count["error"] else "passed", provenance={"command": "vvuq-twin check"},
        )
    )  # fmt: skip


def _tell_patient(
    run: RunFolder,
    problem: GrowthProblem,
    exposure: Exposure | None,
    notes: tuple[str, ...],
    assimilated: int,
) -> None:
    series, given = problem.series, problem.series.treatments
    grid = series.grid
    rows: list[list[Any]] = [
        ["patient", series.id],
        [
            "grid",
            f"{' x '.join(map(str, grid.shape))} voxels of {' x '.join(f'{h:g}' for h in grid.spacing)} mm",
        ],
        ["organ", f"{int(series.brain.sum())} voxels, tissues: {', '.join(series.labels.values())}"],
        ["visits (day)", ", ".join(f"{v.id} ({v.day:g})" for v in series.visits)],
        ["assimilated", ", ".join(v.id for v in series.visits[:assimilated])],
        ["held out", ", ".join(v.id for v in series.visits[assimilated:])],
        ["radiation", f"{len(given.fractions)} fractions, {sum(g for _, g in given.fractions):g} Gy in all"],
        ["drug", f"{len(given.drug_doses)} doses of {given.agent}" if given.drug_doses else "none"],
    ]
    if exposure is not None:
        rows.append(
            [
                "drug exposure",
                f"tumour interstitium over plasma {exposure.ratio:.2f}; transport run's mass balance error "
                f"{exposure.balance:.1e}",
            ]
        )
    run.table(
        "patient",
        [("what", ""), ("value", "")],
        rows,
        title="Patient and regimen",
        caption="",
        section="patient",
    )
    for i, note in enumerate(notes):
        run.text(f"note_{i}", "patient", note, i)
    if exposure is not None:
        run.evidence(
            Evidence(
                "discretization.exposure_balance", "numerical_solver_error",
                "The transport run behind the exposure map conserves mass.", "relative error below 1e-9",
                {"relative error": exposure.balance}, "passed" if exposure.balance < 1e-9 else "failed",
            )
        )  # fmt: skip


def _tell_reduction(run: RunFolder, spec: GrowthSpec, reduced: Any) -> None:
    e, cost = reduced.errors, reduced.timings
    limit = spec.reduction.tolerance
    result = {
        "worst relative error (L2 in the tumour, worst visit)": e["guarded_worst"], "median": e["guarded_median"],
        "share run at full order": e["guarded_share"], "unseen members": e["members"],
        "neither order could run": e["lost"], "reduced order alone, worst": e["worst"], "reduced order alone, 99th percentile": e["percentile_99"],
        "reduced order alone, median": e["median"],
        "reduced order alone, worst relative to the tumour itself, however small": e["strict_worst"],
        "reduced order alone, failed members": e["failed"], "training runs lost": e["training_runs_lost"],
        "modes": reduced.rank, "error estimate over truth, median": e["tightness"],
    }  # fmt: skip
    run.evidence(
        Evidence(
            "reduction.error", "numerical_solver_error",
            "The study's model, the reduced order with the full order for members it is not accurate for, follows the full "
            "order on parameters it was not trained on.",
            f"worst relative L2 error inside the tumour, worst visit, below {100 * limit:g} %, none that neither order can run",
            result, "passed" if e["guarded_worst"] < limit and e["lost"] == 0 else "failed",
        )
    )  # fmt: skip
    run.summary(
        Number("reduction_error_worst", e["guarded_worst"], "1", group="reduction", of="reduced model",
               description="relative L2 error inside the tumour at the worst visit, largest of the unseen members, those with "
               "too large an estimate run at full order"),
        Number("reduction_error_worst_alone", e["worst"], "1", group="reduction", of="reduced model",
               description="the same with no member at full order"),
        Number("reduction_error_median", e["guarded_median"], "1", group="reduction", of="reduced model",
               description="the same as the first, median"),
    )  # fmt: skip
    run.data(
        "timings",
        dict(cost),
    )
    run.text(
        "speed_up", "verification",
        f"Speed of the reduced model, measured when it was trained: {cost['speed_up']:.0f} times the full order at equal "
        f"steps, {cost['speed_up_own_steps']:.0f} times at its own longer ones ({cost['full_seconds']:.3f} s against "
        f"{cost['reduced_seconds']:.4f} s per member, one thread); {cost['speed_up_guarded']:.0f} times or more with the error estimate and "
        f"the {100 * e['guarded_share']:.0f} % of the prior's members that it sends to the full order; the training of "
        f"{cost['offline_seconds']:.0f} s has paid after {cost['break_even']:.0f} members.",
    )  # fmt: skip


def _tell_assimilation(run: RunFolder, problem: GrowthProblem, result: Assimilated) -> None:
    names = ("spread", "observation_error", "innovation_rmse", "spread_over_error", "chi_square_over_m",
             "degrees_of_freedom_for_signal", "effective_size")  # fmt: skip
    rows = []
    for c in (c for c in result.cycles if c["step"] == 0):
        visit = problem.series.visits[c["cycle"] + 1]
        counted = [c.get("members"), c.get("observations"), c.get("missing")]
        rows.append([visit.id, visit.day, *counted, *(c.get(n) for n in names)])
    run.table(
        "cycles",
        [("visit", ""), ("day", ""), ("members", ""), ("observations", ""), ("missing", ""), ("spread", "µm²/ms"),
         ("observation error", "µm²/ms"), ("innovation", "µm²/ms"), ("spread over error", ""), ("chi² / m", ""),
         ("signal", "degrees of freedom"), ("effective size", "")],
        rows, title="Analyses", section="assimilation", order=2,
        caption="Forecast of each scan before its first update. Spread over error compares the innovation that "
        "ensemble and observation error expect with the one that came: 1 is right, below 1 too sure.",
    )  # fmt: skip
    run.data("cycles", list(result.cycles))
    space = problem.space
    shown = problem.shared
    before, after = (np.asarray(space.from_gaussian(z)) for z in (result.prior, result.posterior))
    rows = []
    for i in shown:
        p = space.parameters[i]
        low, mid, high = np.quantile(after[:, i], [0.05, 0.5, 0.95])
        gain = 1.0 - float(result.posterior[:, i].var(ddof=1) / result.prior[:, i].var(ddof=1))
        rows.append(
            [p.name, p.unit, *np.quantile(before[:, i], [0.05, 0.5, 0.95]).tolist(), low, mid, high, gain]
        )
    run.table(
        "parameters",
        [("parameter", ""), ("unit", ""), ("prior 5 %", ""), ("prior median", ""), ("prior 95 %", ""), ("posterior 5 %", ""),
         ("posterior median", ""), ("posterior 95 %", ""), ("variance explained", "")],
        rows, title="What was learned", section="assimilation", order=3,
        caption="Shared parameters before and after the assimilated visits. Little variance explained means that "
        "these scans cannot tell the parameter.",
    )  # fmt: skip


def _tell_forecast(
    run: RunFolder, problem: GrowthProblem, twin: ReducedGrowthTwin, result: Assimilated, assimilated: int,
    truth: dict[str, np.ndarray] | None, seed: int,
) -> None:  # fmt: skip
    members = np.arange(len(result.prior))
    posterior = quantities(
        problem, twin, result.posterior, result.posterior_run, result.members, seed, "posterior"
    )
    prior = quantities(problem, twin, result.prior, result.prior_run, members, seed, "prior")
    scans = np.array(observed(problem))
    kinds = (
        [("", None)]
        if truth is None
        else [("", np.array([truth["total"], truth["volume"]])), ("seen_", None)]
    )
    for prefix, outcome in kinds:
        forecasts = gather(problem, posterior, prior, assimilated - 1, outcome, seed)
        numbers = score_numbers(problem, forecasts)
        if prefix:
            numbers = [n for n in numbers if n.group == "scores"]
            numbers = [Number(**{**asdict(n), "name": prefix + n.name}) for n in numbers]
        else:
            over_time(run, problem, forecasts, scans)
            cycles(run, result.ahead, forecasts, scans)
        run.summary(*numbers)
        _judge(run, prefix, numbers)
    if not np.isfinite(posterior.total).all():
        raise RunFailed("the forecast is not finite")
    for visit in range(assimilated, len(problem.series.visits)):
        maps = field_maps(problem, twin, result.posterior_run[:, visit])
        write_fields(run, problem, visit, maps)
        run.summary(*field_numbers(problem, maps, visit))
        slices(
            run, problem, visit, maps, None if truth is None else truth["cellularity"][visit].astype(float)
        )
    arrays = {
        "total": posterior.total, "volume": posterior.volume, "seen_total": posterior.seen_total,
        "seen_volume": posterior.seen_volume, "days": np.array([v.day for v in problem.series.visits]),
        "names": np.array(problem.space.names),
        "parameters": np.asarray(problem.space.from_gaussian(result.posterior)),
    }  # fmt: skip
    write_with(run.path / "forecast.npz", lambda p: np.savez_compressed(p, **arrays))  # type: ignore[arg-type]


def _judge(run: RunFolder, prefix: str, numbers: list[Number]) -> None:
    """Evidence: is the forecast better than each baseline on the visits that were held out?"""
    score = {(n.name, n.of): n.value for n in numbers}
    against = "what the scans show" if prefix else "the outcome"
    for name in ("crps_total_cellularity", "crps_volume"):
        mine = score[(prefix + name, "forecast")]
        others = {of: v for (n, of), v in score.items() if n == prefix + name and of != "forecast"}
        run.evidence(
            Evidence(
                f"validation.{prefix}{name}", "output_comparison",
                f"The forecast of {name.removeprefix('crps_').replace('_', ' ')} at held-out visits beats both baselines "
                f"({against}, one patient).",
                "mean CRPS below that of persistence and of unassimilated growth",
                {"forecast (cm3)": mine, **{f"{of} (cm3)": v for of, v in others.items()}},
                "passed" if all(mine < v for v in others.values()) else "failed",
            )
        )  # fmt: skip
