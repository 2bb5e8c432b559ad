"""Pictures of a growth study: slices with uncertainty, quantities over time, the initial field."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..domain.runfolder import RunFolder
from .growth_forecast import QUANTITIES, Forecasts
from .growth_problem import GrowthProblem

BLUE, GREY, RED, BLACK = "#1f5a8a", "#8a8a8a", "#b5382a", "#111111"


def new_figure(width: float, height: float) -> Any:
    """An empty figure without any window system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def over_time(run: RunFolder, problem: GrowthProblem, forecasts: Forecasts, scans: np.ndarray) -> None:
    """Total cellularity and volume with 50 and 90 % intervals, scans, held-out outcomes and treatment."""
    figure = new_figure(11, 4.4)
    axes = figure.subplots(1, 2)
    titles = (
        "Total cellularity of the visible tumour (cm³ at capacity)",
        "Volume of the visible tumour (cm³)",
    )
    days, held = forecasts.days, forecasts.first_held_out
    for q, axis in enumerate(axes):
        sample = forecasts.samples["forecast"][q]
        for level, alpha in ((0.9, 0.18), (0.5, 0.35)):
            low, high = np.quantile(sample, [0.5 - level / 2, 0.5 + level / 2], axis=0)
            axis.fill_between(
                days, low, high, color=BLUE, alpha=alpha, lw=0, label=f"twin, {100 * level:.0f} % interval"
            )
        axis.plot(days, np.median(sample, axis=0), color=BLUE, lw=1.5, label="twin, median")
        prior = np.median(forecasts.samples["baseline: unassimilated growth"][q], axis=0)
        axis.plot(days, prior, color=GREY, lw=1.2, ls="--", label="unassimilated growth, median")
        axis.plot(days[:held], scans[q, :held], "o", color=BLACK, ms=5, label="scan, assimilated")
        axis.plot(days[held:], scans[q, held:], "o", mfc="white", color=BLACK, ms=6, label="scan, held out")
        if forecasts.of_truth:
            axis.plot(days, forecasts.outcome[q], "x", color=RED, ms=6, label="truth")
        axis.axvline(0.5 * (days[held - 1] + days[held]), color=GREY, lw=0.8)
        given = problem.series.treatments
        if given.fractions:
            times = [t for t, _ in given.fractions]
            axis.axvspan(min(times), max(times), ymax=0.03, color=RED, alpha=0.5, lw=0, label="radiotherapy")
        if given.drug_doses:
            times = [t for t, _ in given.drug_doses]
            axis.plot(
                times,
                np.zeros(len(times)),
                "|",
                color="#7a4ea3",
                ms=7,
                label=f"{given.agent} dose",
                clip_on=False,
            )
        axis.set(xlabel="time (days)", title=titles[q], ylim=(0, None))
        axis.title.set_fontsize(10)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(fontsize=7, frameon=False, loc="upper left")
    run.figure(
        "over_time", figure, title="Tumour over time", section="forecast", order=1,
        caption="Left of the vertical line visits were assimilated (the first is spent on the initial field), right of it "
        "they are forecast. Open circles were not seen by the twin.",
        alt="Two curves over time with uncertainty bands; open circles mark held-out scans.",
    )  # fmt: skip


def slices(
    run: RunFolder, problem: GrowthProblem, visit: int, maps: dict[str, np.ndarray], truth: np.ndarray | None
) -> None:
    """One slice through the tumour at a held-out visit: scan or truth, forecast, its error, its uncertainty."""
    series, o = problem.series, problem.spec.observation
    scan = series.visits[visit]
    level = int(np.argmax(maps["mean"].sum(axis=(0, 1))))
    seen = (o.adc_water_mm2_per_s - scan.adc) / (o.adc_water_mm2_per_s - problem.adc_reference)
    seen = np.where(scan.tumour, np.clip(np.nan_to_num(seen), 0, 1.2), 0.0)
    reference = seen if truth is None else truth
    panels = [
        (reference, "true cellularity" if truth is not None else "measured cellularity", "inferno", 0.0, 1.0),
        (maps["mean"], "forecast mean", "inferno", 0.0, 1.0),
        (
            maps["mean"] - reference,
            "forecast minus " + ("truth" if truth is not None else "scan"),
            "RdBu_r",
            -0.4,
            0.4,
        ),
        (maps["sd"], "forecast standard deviation", "viridis", 0.0, float(max(maps["sd"].max(), 1e-6))),
        (maps["visible"], "probability of being visible", "viridis", 0.0, 1.0),
    ]
    figure = new_figure(15, 3.7)
    x, y, _ = series.grid.spacing
    extent = (0.0, series.grid.shape[0] * x, 0.0, series.grid.shape[1] * y)
    # the neighbourhood of what may be tumour
    inside = np.argwhere((maps["visible"] > 0.02).any(axis=2) | scan.tumour.any(axis=2))
    (x0, y0), (x1, y1) = inside.min(axis=0) * (x, y) - 22.0, (inside.max(axis=0) + 1) * (x, y) + 22.0
    for axis, (field, title, colours, low, high) in zip(figure.subplots(1, len(panels)), panels):
        image = np.where(series.brain[:, :, level], field[:, :, level], np.nan).T
        shown = axis.imshow(
            image, origin="lower", cmap=colours, vmin=low, vmax=high, extent=extent, interpolation="nearest"
        )
        outline = scan.tumour[:, :, level].T.astype(float)
        if outline.any() and not outline.all():
            axis.contour(outline, [0.5], colors="#2bd1c0", linewidths=0.9, origin="lower", extent=extent)
        axis.set(title=title, xlabel="x (mm)", xlim=(x0, x1), ylim=(y0, y1), facecolor="#dddddd")
        axis.title.set_fontsize(9)
        axis.tick_params(labelsize=7)
        figure.colorbar(shown, ax=axis, shrink=0.8).ax.tick_params(labelsize=7)
    figure.axes[0].set_ylabel("y (mm)")
    run.figure(
        f"slices_{scan.id}", figure, title=f"Forecast of {scan.id} (day {scan.day:g})", section="forecast", order=2 + visit,
        caption="Cellularity as a fraction of the carrying capacity, on the slice with most forecast tumour. "
        "The line is the outline drawn on the held-out scan; cerebrospinal fluid and outside are grey.",
        alt="Five maps of one slice: reference, forecast mean, their difference, standard deviation, probability.",
    )  # fmt: skip


def cycles(run: RunFolder, ahead: dict[int, np.ndarray], forecasts: Forecasts, scans: np.ndarray) -> None:
    """What each assimilated visit looked like one step ahead, before its analysis."""
    if not ahead:
        return
    figure = new_figure(9, 3.6)
    for q, axis in enumerate(figure.subplots(1, 2)):
        visits = sorted(ahead)
        boxes = [ahead[v][q] for v in visits]
        axis.boxplot(boxes, positions=range(len(visits)), whis=(5, 95), showfliers=False, widths=0.5)
        axis.plot(range(len(visits)), scans[q, visits], "o", color=RED, label="scan that came")
        axis.set_xticks(range(len(visits)), [f"day {forecasts.days[v]:g}" for v in visits])
        axis.set(title=f"{QUANTITIES[q].replace('_', ' ')} (cm³), one step ahead", ylim=(0, None))
        axis.title.set_fontsize(10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(fontsize=8, frameon=False)
    run.figure(
        "one_step_ahead", figure, title="One step ahead", section="assimilation", order=1,
        caption="The ensemble's forecast of each assimilated visit before its analysis: median, quartiles, 5 to 95 %.",
        alt="Box plots of forecast quantities with the value of the scan that came.",
    )  # fmt: skip
