"""Pictures of a lesion run: forecasts of a few patients, PIT histograms, CRPS beside the baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..domain.keys import generator
from ..domain.runfolder import RunFolder
from .lesion_filter import LOG_SHAPE
from .lesion_scores import ScoredForecasts, bootstrap_mean

if TYPE_CHECKING:
    from .lesions import LesionResults, LesionSpec

_TWIN, _BASE = "#1f6f8b", "#b9772c"


def figures(spec: LesionSpec, results: LesionResults, run: RunFolder) -> None:
    """Draw all of them."""
    _patients(spec, results, run)
    _pit(spec, results.scored, run)
    _crps(spec, results.scored, run)


def _axes(rows: int, columns: int, size: tuple[float, float], **how: Any) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **how)


def _mm(log_volume: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp((log_volume - LOG_SHAPE) / 3.0))


def _patients(spec: LesionSpec, results: LesionResults, run: RunFolder, shown: int = 6) -> None:
    found = results.scored.forecasts
    last = found.take(found.task == "last_scans")
    names = np.unique(last.patient)
    names = generator(spec.seed, "lesions", "shown").permutation(names)[:shown]
    figure, axes = _axes(2, (len(names) + 1) // 2, (11.0, 6.2))
    row = {n: i for i, n in enumerate(results.table.patient)}
    handles: dict[str, Any] = {}
    for axis, name in zip(axes.ravel(), names):
        i = row[str(name)]
        n = int(results.table.visits[i])
        day, size = results.table.day[i, :n], np.maximum(results.table.diameter_mm[i, :n], 0.0)
        k = n - spec.last
        part = last.take(last.patient == name)
        order = np.argsort(part.horizon)
        q = _mm(np.quantile(part.twin[:, order], [0.05, 0.25, 0.5, 0.75, 0.95], axis=0))
        ahead = day[k:]
        base = np.full((5, 1), max(size[k - 1], spec.detection_mm))
        q, ahead = np.hstack([base, q]), np.concatenate([[day[k - 1]], ahead])
        handles["90 % interval"] = axis.fill_between(ahead, q[0], q[4], color=_TWIN, alpha=0.18, lw=0)
        handles["50 % interval"] = axis.fill_between(ahead, q[1], q[3], color=_TWIN, alpha=0.35, lw=0)
        (handles["median"],) = axis.plot(ahead, q[2], color=_TWIN, lw=1.5)
        (handles["assimilated scan"],) = axis.plot(
            day[:k], size[:k], "o-", color="0.25", ms=4, lw=0.8, clip_on=False
        )
        (handles["held-out scan"],) = axis.plot(
            day[k:], size[k:], "o", mfc="white", mec="#b03030", mew=1.6, ms=6, clip_on=False
        )
        handles["detection limit"] = axis.axhline(spec.detection_mm, color="0.6", lw=0.8, ls=":")
        axis.set_title(str(name), fontsize=10)
        axis.set_ylim(bottom=0.0)
    for axis in axes.ravel()[len(names) :]:
        axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("days since start of treatment")
    for axis in axes[:, 0]:
        axis.set_ylabel("long diameter (mm)")
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=6, frameon=False, fontsize=9
    )
    run.figure(
        "lesion_patients", figure, title=f"Forecasts of the last {spec.last} scans of six patients",
        caption="The patients were drawn at random, not chosen. Bands start at the last assimilated scan; a "
        "vanished lesion is drawn at 0 mm, forecasts below detection at the limit of detection.",
        section="forecast", alt="Diameter over time with forecast bands for six patients",
    )  # fmt: skip


def _pit(spec: LesionSpec, scored: ScoredForecasts, run: RunFolder, bins: int = 10) -> None:
    from scipy import stats

    cases = (("rolling", "one scan ahead, every scan"), ("last_scans", f"last {spec.last} scans"))
    figure, axes = _axes(1, 2, (10.0, 3.6), sharey=True)
    for axis, (task, label) in zip(axes[0], cases):
        part = scored.rows(scored.forecasts.task == task)
        n = len(part)
        low, high = (float(stats.binom.ppf(p, n, 1 / bins)) / n * bins for p in (0.005, 0.995))
        axis.axhspan(low, high, color="0.9", label="99 % of a uniform PIT")
        axis.axhline(1.0, color="0.6", lw=0.8)
        edges = np.linspace(0, 1, bins + 1)
        for transform, colour, name in (
            (part.pit_persistence, _BASE, "calibrated persistence"), (part.pit_twin, _TWIN, "twin"),
        ):  # fmt: skip
            heights = np.histogram(transform, edges)[0] / n * bins
            axis.stairs(heights, edges, color=colour, lw=2.0 if name == "twin" else 1.2, label=name)
        axis.set_title(f"{label} ({n} readings)", fontsize=10)
        axis.set_xlabel("randomised PIT of ln volume")
    axes[0, 0].set_ylim(0.0, 1.15 * max(axis.dataLim.ymax for axis in axes[0]))
    axes[0, 0].set_ylabel("density (uniform = 1)")
    axes[0, 1].legend(frameon=False, fontsize=9, loc="lower right")
    run.figure(
        "lesion_pit", figure, title="Are the forecasts honest?",
        caption="Histogram of the randomised probability integral transform: flat where the forecast is right; a "
        "hump says too wide, a bowl too narrow. Readings of one patient are not independent, so the grey band is "
        "a little too narrow.",
        section="scores", order=2, alt="PIT histograms of twin and calibrated persistence",
    )  # fmt: skip


def _crps(spec: LesionSpec, scored: ScoredForecasts, run: RunFolder) -> None:
    cases = [("after_first", 1, f"4th scan\nfrom {spec.first}" if spec.first == 3 else f"after {spec.first}")]
    cases += [("rolling", 1, "every next\nscan")]
    cases += [("last_scans", h, f"last scans,\n{h} ahead") for h in range(1, spec.last + 1)]
    figure, axes = _axes(1, 2, (10.5, 3.8))
    left, right = axes[0]
    for i, (task, h, _) in enumerate(cases):
        part = scored.rows((scored.forecasts.task == task) & (scored.forecasts.horizon == h))
        who = part.forecasts.patient
        for value, shift, colour, name in (
            (part.crps_twin, -0.12, _TWIN, "twin"),
            (part.crps_persistence, 0.12, _BASE, "calibrated persistence"),
        ):
            m, (low, high) = bootstrap_mean(
                value, who, spec.seed, f"figure/{task}/{h}/{name}", spec.bootstrap
            )
            left.errorbar(i + shift, m, [[m - low], [high - m]], fmt="o", color=colour, capsize=3,
                          label=name if i == 0 else None)  # fmt: skip
        m, (low, high) = bootstrap_mean(
            part.crps_twin - part.crps_persistence,
            who,
            spec.seed,
            f"figure/{task}/{h}/difference",
            spec.bootstrap,
        )
        right.errorbar(i, m, [[m - low], [high - m]], fmt="o", color=_TWIN, capsize=3)
    right.axhline(0.0, color="0.5", lw=0.8)
    left.set_ylim(bottom=0.0)
    left.set_ylabel("CRPS of ln(volume / mm³)")
    right.set_ylabel("difference of CRPS\n(below 0: twin better)")
    left.legend(frameon=False, fontsize=9, loc="lower right")
    for axis in (left, right):
        axis.set_xticks(range(len(cases)), [c[2] for c in cases])
        axis.set_xlim(-0.5, len(cases) - 0.5)
    run.figure(
        "lesion_crps", figure, title="CRPS by horizon beside calibrated persistence",
        caption="Left: mean CRPS; right: twin minus calibrated persistence on the same readings. Bars: 95 % "
        "bootstrap intervals over patients.",
        section="scores", order=3, alt="CRPS of the twin and of calibrated persistence for each task",
    )  # fmt: skip
