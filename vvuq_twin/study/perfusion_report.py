"""What the perfusion study leaves in its run folder: numbers, tables, evidence and fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..credibility.budget import BudgetLine, budget_table
from ..domain.evidence import Evidence
from ..domain.runfolder import Number, RunFolder
from ..imaging.write import write_image
from ..twin.tracer import TracerModel
from .perfusion import CALIBRATED, POINT_MEAN, TWIN
from .perfusion_figures import figures
from .perfusion_goals import REGIONS, goals
from .perfusion_scores import interval_over_frames

if TYPE_CHECKING:
    from .perfusion import PerfusionResults
    from .perfusion_spec import PerfusionSpec

METHODS = (*CALIBRATED, POINT_MEAN)


def report(spec: PerfusionSpec, results: PerfusionResults, run: RunFolder) -> None:
    """Write numbers, tables, evidence, fields and figures."""
    for name in results.found:
        for region in REGIONS:
            _numbers(spec, results, run, name, region)
        _tumour_mean(results, run, name)
        _table(results, run, name)
    goals(spec, results, run)
    _motion(spec, results, run)
    _cycles(results, run)
    _choice(spec, results, run)
    _steps(spec, results, run)
    _budget(results, run)
    _limits(results, run)
    _fields(results, run)
    figures(spec, results, run)


def _numbers(spec: PerfusionSpec, results: PerfusionResults, run: RunFolder, name: str, region: str) -> None:
    scores = results.found[name].scores
    group = "forecast" if name == "registered" else "raw"
    where = f", {REGIONS[region]}, {name} frames"
    for method in METHODS:
        s = scores[region, method]
        key = f"{region}_{name}"
        for what, values, value, label in (
            ("rmse", (s.square, s.count), s.rmse, "Root mean square error"),
            ("crps", (s.crps, s.count), s.mean_crps, "CRPS"),
        ):

            def statistic(sums: list[float], root: bool = what == "rmse") -> float:
                ratio = sums[0] / sums[1]
                return float(np.sqrt(ratio)) if root else ratio

            interval = interval_over_frames(values, statistic, spec.seed, f"{what}/{key}/{method}")
            run.summary(Number(f"{what}_{key}", value, "mM", interval, 0.95, group, method, label + where))
        if method == POINT_MEAN:
            continue
        for level in (50, 90):
            hits = s.inside50 if level == 50 else s.inside90
            interval = interval_over_frames(
                (hits, s.count), lambda v: 100.0 * v[0] / v[1], spec.seed, f"{level}/{key}/{method}"
            )
            run.summary(
                Number(
                    f"coverage_{level}_{key}", s.coverage(level), "%", interval, 0.95, group, method,
                    f"Coverage of {level} % intervals" + where,
                )
            )  # fmt: skip


def _tumour_mean(results: PerfusionResults, run: RunFolder, name: str) -> None:
    """Coverage of the tumour's mean, whose error the voxels of a frame share."""
    for method, pair in results.found[name].region.items():
        for level, value in zip((50, 90), pair):
            run.summary(
                Number(
                    f"coverage_{level}_tumour_mean_{name}", value, "%",
                    group="forecast" if name == "registered" else "raw", of=method,
                    description=f"Coverage of {level} % intervals for the mean over the tumour, {name} frames",
                )
            )  # fmt: skip


def _table(results: PerfusionResults, run: RunFolder, name: str) -> None:
    found = results.found[name]
    rows = []
    for region, readable in REGIONS.items():
        for method in METHODS:
            s = found.scores[region, method]
            point = method == POINT_MEAN
            rows.append(
                [readable, _short(method), s.rmse, s.mean_absolute, s.mean_crps,
                 None if point else s.coverage(50), None if point else s.coverage(90),
                 None if point else found.rolling[region, method].rmse,
                 None if point else found.rolling[region, method].mean_crps]
            )  # fmt: skip
    columns = [("voxels", ""), ("forecast", ""), ("RMSE", "mM"), ("mean absolute error", "mM"), ("CRPS", "mM"),
               ("50 % covers", "%"), ("90 % covers", "%"), ("RMSE at rolling origins", "mM"),
               ("CRPS at rolling origins", "mM")]  # fmt: skip
    run.table(
        f"perfusion_{name}", columns, rows, title=f"Scores of the held-out frames, {name}",
        caption="Every forecast but the one without interval has intervals from its own errors at the rolling "
        "origins, so the baselines are as calibrated as the twin. Given the breathing state: the breathing scores of "
        "the frame, measured in the body outside the voxels forecast, are known. Lower is better.",
        section="scores", order=0 if name == "registered" else 1,
    )  # fmt: skip


def _short(method: str) -> str:
    return method.replace("forecast", "twin").removeprefix("baseline: ")


def _motion(spec: PerfusionSpec, results: PerfusionResults, run: RunFolder) -> None:
    motion, series = results.motion, results.series
    inside = motion.displacement[:, :, series.tumour].mean(axis=2)
    sd = inside[: spec.assimilate].std(axis=0)
    better = 1.0 - (motion.after / motion.before)
    run.evidence(
        Evidence(
            "validation.perfusion.registration", "test_conditions",
            "Registration lowers the residual of every frame against the reference components.",
            "a lower residual in every frame",
            {"tumour_displacement_sd_mm": dict(zip("xyz", sd)), "median_reduction_percent": 100 * np.median(better),
             "least_reduction_percent": 100 * better.min()},
            "passed" if (better > 0).all() else "failed", ("figures/perfusion_registration.png",),
        )
    )  # fmt: skip
    run.summary(
        Number("tumour_shift_through_plane_sd", float(sd[2]), "mm", group="imaging", of="measurement",
               description="Standard deviation over frames of the tumour's shift across slices")
    )  # fmt: skip


def _cycles(results: PerfusionResults, run: RunFolder) -> None:
    """Spread over error, cycle by cycle, of the local analyses; and what was learned of the arterial input."""
    rows = []
    found = results.found["registered"]
    for h in found.analysed[-1].history:
        if "spread_over_error" in h:
            rows.append(
                [h.get("time"), h["innovation_rmse"], h["expected_rmse"], h["spread_over_error"],
                 h.get("chi_square_over_m"), h.get("degrees_of_freedom_for_signal")]
            )  # fmt: skip
    columns = [("time", "s"), ("innovation, RMS", "mM"), ("expected, RMS", "mM"), ("expected over found", "1"),
               ("chi-square over m", "1"), ("degrees of freedom for signal", "1")]  # fmt: skip
    run.table(
        "perfusion_cycles", columns, rows, title="Analyses, registered frames",
        caption="Two analyses a frame: a few voxels for the arterial input, then all others for themselves.",
        section="assimilation",
    )  # fmt: skip
    space = results.model.shared
    rows = []
    for name, series in results.found.items():
        values = space.from_gaussian(series.analysed[-1].shared)
        for i, p in enumerate(space.parameters):
            low, mid, high = np.quantile(values[:, i], [0.05, 0.5, 0.95])
            prior = np.asarray(p.prior.from_gaussian(np.array([-1.645, 0.0, 1.645])))
            rows.append([name, p.name, p.unit, *prior, low, mid, high])
    columns = [("frames", ""), ("parameter", ""), ("unit", ""), ("prior 5 %", ""), ("prior 50 %", ""),
               ("prior 95 %", ""), ("5 %", ""), ("50 %", ""), ("95 %", "")]  # fmt: skip
    run.table(
        "perfusion_input", columns, rows, title="The shared arterial input",
        caption="Parker's population curve with an uncertain onset, scale, decay and dispersion.",
        section="assimilation", order=1,
    )  # fmt: skip


def _choice(spec: PerfusionSpec, results: PerfusionResults, run: RunFolder) -> None:
    rows = [
        [s.discrepancy, s.memory_s, s.response, s.trust, *tried.blind, *tried.given,
         "chosen" if s == results.settings else ""]
        for tried in results.choice for s in (tried.settings,)
    ]  # fmt: skip
    run.table(
        "perfusion_choice",
        [("discrepancy's variance over the error's", "1"), ("its memory", "s"), ("response to breathing over the error", "1"),
         ("share of the model's course", "1"), ("RMSE, blind", "mM"), ("CRPS, blind", "mM"),
         ("RMSE, given breathing", "mM"), ("CRPS, given breathing", "mM"), ("", "")],
        rows, title="Choices at the rolling origins",
        caption=f"Origins {', '.join(map(str, spec.origins))} inside the {spec.assimilate} frames assimilated, on part "
        "of the voxels, normal law; chosen by the mean of both CRPS. No later frame is read.",
        section="calibration",
    )  # fmt: skip


def _steps(spec: PerfusionSpec, results: PerfusionResults, run: RunFolder) -> None:
    """The exchange model again with half the step: how much the curves change."""
    model = results.model
    a = results.found["registered"].analysed[-1]
    some = np.linspace(0, a.voxel.shape[2] - 1, min(300, a.voxel.shape[2])).astype(int)
    start, stop, step = model.fine
    finer = TracerModel(model.times, model.shared, model.voxel, (start, stop, step / 4))
    change, size = 0.0, 0.0
    for frame in range(results.series.baseline, results.series.frames, 6):
        one, two = (m.at(a.shared[:8], a.voxel[:8][:, :, some], frame)[0] for m in (model, finer))
        # np.maximum keeps a NaN, so that the check fails
        change, size = np.maximum(change, np.abs(one - two).max()), np.maximum(size, np.abs(two).max())
    run.evidence(
        Evidence(
            "verification.perfusion.step", "discretization_error",
            "The plasma curve between its nodes is resolved well enough.",
            "a quarter of the step changes no concentration by more than 2 % of the largest",
            {"step_s": step, "largest_change_mM": float(change), "largest_concentration_mM": float(size)},
            "passed" if change <= 0.02 * size else "failed",
        )
    )  # fmt: skip


def _budget(results: PerfusionResults, run: RunFolder) -> None:
    """What the spread of a tumour voxel's value in the last frame is made of."""
    tumour = results.curves.tumour
    forecast = results.found["registered"].forecasts[TWIN]
    sizes = np.sqrt(forecast.parts[:, tumour].mean(axis=1))
    discrepancy = "chosen at the rolling origins"
    innovations = "innovations of the frames assimilated"
    lines = [
        BudgetLine("parameters, response to breathing and discrepancy so far", float(sizes[0]), "ensemble"),
        BudgetLine("discrepancy from then on (model form)", float(sizes[1]), discrepancy),
        BudgetLine("breathing ahead", float(sizes[2]), "response times the spread of scores seen"),
        BudgetLine("frame's error shared by voxels", float(sizes[3]), innovations),
        BudgetLine("voxel noise and motion inside the voxel", float(sizes[4]), innovations),
        BudgetLine(
            "T1 map, flip angle and relaxivity", None, "one value each; would change the scale of all"
        ),
        BudgetLine(
            "plasma curve between nodes", None, "bounded by the step check", "verification.perfusion.step"
        ),
    ]
    table = budget_table("a tumour voxel's value", "mM", lines)
    run.table(
        "perfusion_budget", table["columns"], table["rows"], title="A tumour voxel in the last frame",
        caption="Root mean square over the tumour's voxels, registered frames, blind forecast; before the error law of the "
        "rolling origins is applied to it.",
        section="budget",
    )  # fmt: skip


def _limits(results: PerfusionResults, run: RunFolder) -> None:
    run.evidence(
        Evidence(
            "validation.perfusion.model_form", "model_form",
            "Tracer passes between voxels by diffusion at a rate this series can tell.",
            "not claimed: the exchange model has no transport between voxels",
            {"reason": "within the six minutes of the series tracer diffuses about half a millimetre, far less than a voxel "
             "and less than what breathing leaves after registration"},
            "not assessed",
        )
    )  # fmt: skip
    onset = results.found["registered"].tofts_onset
    sd = float(np.median(results.found["registered"].tofts.residual_sd[results.curves.tumour]))
    run.text(
        "perfusion_limits", "limitations",
        "Diffusion of tracer between voxels cannot be identified here: in the time of the series it moves tracer by about "
        "half a millimetre, far less than a voxel and than breathing leaves after registration. The arterial input was "
        "not measured, so the scale of Ktrans, ve and vp is that of a population curve. The signal of enhancing organs "
        "rises and falls together from frame to frame by some percent in a way registration does not remove; part of it "
        "follows the breathing state, the rest is frame error and sets a floor to any forecast. The forecast given the "
        "breathing state knows where in the breathing cycle a held-out frame was taken, measured in that frame outside "
        "the voxels forecast; it says how well tracer and scanner are understood, not what could be said before the frame was taken. Voxels that leave the view are missing, mostly in the "
        "outer slices. The flip-angle images and the dynamic baseline disagree inside the outline; T1 is from the "
        f"former, the baseline from the latter. The plain fit (onset {onset:.0f} s) leaves a median residual of "
        f"{sd:.2f} mM in the tumour.",
    )  # fmt: skip


def _fields(results: PerfusionResults, run: RunFolder) -> None:
    """Parameter maps and the last forecast frame as NIfTI, NaN outside the voxels forecast."""
    a = results.found["registered"].analysed[-1]
    f = results.found["registered"].forecasts[TWIN]
    ktrans, kep, vp = results.model.voxel.values(a.voxel)
    grid, where = results.series.grid, results.curves.where

    def write(name: str, values: np.ndarray, unit: str) -> None:
        volume = np.full(grid.shape, np.nan)
        volume[where] = values
        write_image(run.path / "fields" / f"{name}.nii.gz", volume, grid, description=unit)

    for name, members, unit in (
        ("ktrans", ktrans, "1/min"),
        ("ve", results.model.voxel.ve(a.voxel[:, 0]), "fraction"),
        ("vp", vp, "fraction"),
        ("kep", kep, "1/min"),
    ):
        write(f"{name}_mean", members.mean(axis=0), f"{name}, mean, {unit}")
        write(f"{name}_sd", members.std(axis=0, ddof=1), f"{name}, standard deviation, {unit}")
    low, high = (results.found["registered"].laws[TWIN].quantile(q) for q in (0.05, 0.95))
    for b, members in enumerate(np.moveaxis(a.response, 1, 0)):
        write(f"response_{b + 1}_mean", members.mean(axis=0), f"response to breathing score {b + 1}, mM")
    write("forecast_last_mean", f.mean[:, -1], "mM")
    write("forecast_last_sd", f.sd[:, -1], "mM")
    write("forecast_last_q05", f.mean[:, -1] + low * f.sd[:, -1], "mM")
    write("forecast_last_q95", f.mean[:, -1] + high * f.sd[:, -1], "mM")
