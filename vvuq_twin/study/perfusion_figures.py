"""Pictures of a perfusion run: parameter maps, curves with bands, registration, coverage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..domain.keys import generator
from ..domain.runfolder import RunFolder

if TYPE_CHECKING:
    from .perfusion import PerfusionResults
    from .perfusion_spec import PerfusionSpec

_TWIN, _SEEN, _HELD, _BASE = "#1f6f8b", "0.25", "#b03030", "#b9772c"


def figures(spec: PerfusionSpec, results: PerfusionResults, run: RunFolder) -> None:
    """Draw all of them."""
    _maps(results, run)
    _curves(spec, results, run)
    _registration(spec, results, run)
    _coverage(spec, results, run)


def _figure(size: tuple[float, float]) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _maps(results: PerfusionResults, run: RunFolder) -> None:
    series, curves = results.series, results.curves
    a = results.found["registered"].analysed[-1]
    ktrans, _, vp = results.model.voxel.values(a.voxel)
    ve = results.model.voxel.ve(a.voxel[:, 0])
    k = int((series.tumour & curves.where).sum(axis=(0, 1)).argmax())
    ground = series.signal[: series.baseline].mean(axis=0)[:, :, k]
    parts = [
        ("Ktrans (1/min)", ktrans.mean(axis=0), 1.0), ("standard deviation of Ktrans (1/min)", ktrans.std(axis=0), 0.3),
        ("ve (fraction)", ve.mean(axis=0), 1.0), ("standard deviation of ve (fraction)", ve.std(axis=0), 0.3),
        ("vp (fraction)", vp.mean(axis=0), 0.3), ("standard deviation of vp (fraction)", vp.std(axis=0), 0.1),
    ]  # fmt: skip
    figure = _figure((12.0, 8.6))
    axes = figure.subplots(3, 2)
    sx, sy, _ = series.grid.spacing
    extent = (0.0, ground.shape[0] * sx, ground.shape[1] * sy, 0.0)
    x = (np.arange(ground.shape[0]) + 0.5) * sx
    y = (np.arange(ground.shape[1]) + 0.5) * sy
    for axis, (title, values, top) in zip(axes.ravel(), parts):
        volume = np.full(series.grid.shape, np.nan)
        volume[curves.where] = values
        axis.imshow(ground.T, cmap="gray", extent=extent)
        shown = axis.imshow(volume[:, :, k].T, cmap="viridis", extent=extent, vmin=0, vmax=top)
        axis.contour(x, y, series.tumour[:, :, k].T, levels=[0.5], colors="#ff5050", linewidths=1.2)
        figure.colorbar(shown, ax=axis, label=title, extend="max", shrink=0.9)
        axis.set_xlabel("x (mm)")
        axis.set_ylabel("y (mm)")
    run.figure(
        "perfusion_maps", figure, title=f"Exchange parameters in slice {k + 1}",
        caption="Posterior mean and standard deviation of the ensemble over enhancing voxels, on the baseline image, in the "
        "slice with most of the tumour that can be measured; "
        "the tumour's outline in red. An arterial input that was not measured leaves a common scale uncertain.",
        section="forecast", order=2, alt="Maps of Ktrans, ve and vp with their standard deviations",
    )  # fmt: skip


def _curves(spec: PerfusionSpec, results: PerfusionResults, run: RunFolder) -> None:
    from .perfusion import GIVEN, TWIN

    found, t, seen = results.found["registered"], results.series.times, spec.assimilate
    values, tumour = results.curves.registered, results.curves.tumour
    blind, given = found.forecasts[TWIN], found.forecasts[GIVEN]
    figure = _figure((12.0, 7.4))
    axes = figure.subplots(2, 2)
    ahead = t[seen:]
    handles: dict[str, Any] = {}

    def draw(
        axis: Any, y: np.ndarray, mean: np.ndarray, sd: np.ndarray, knowing: np.ndarray, q: tuple[float, ...]
    ) -> None:
        for low, high, alpha, label in (
            (q[0], q[3], 0.18, "90 % interval"),
            (q[1], q[2], 0.35, "50 % interval"),
        ):
            handles[label] = axis.fill_between(
                ahead, mean + low * sd, mean + high * sd, color=_TWIN, alpha=alpha, lw=0
            )
        (handles["forecast"],) = axis.plot(ahead, mean, color=_TWIN, lw=1.6)
        (handles["given the breathing state"],) = axis.plot(ahead, knowing, color="0.1", lw=0.8)
        (handles["assimilated frame"],) = axis.plot(t[:seen], y[:seen], "o-", color=_SEEN, ms=3, lw=0.6)
        (handles["held-out frame"],) = axis.plot(
            t[seen:], y[seen:], "o", mfc="white", mec=_HELD, ms=4, mew=1.2
        )
        last = np.nanmean(y[seen - spec.last : seen])
        (handles[f"mean of the last {spec.last}"],) = axis.plot(
            [t[seen - spec.last], t[-1]], [last, last], color=_BASE, lw=1.2, ls="--"
        )
        axis.set_xlabel("time (s)")
        axis.set_ylabel("concentration (mM)")

    normal = (-1.6449, -0.6745, 0.6745, 1.6449)
    mean_curve = np.nanmean(values[tumour], axis=0)
    draw(axes[0, 0], mean_curve, blind.region_mean, blind.region_sd, given.region_mean, normal)
    axes[0, 0].set_title("mean over the tumour", fontsize=10)
    picked = generator(spec.seed, "perfusion", "shown").permutation(np.flatnonzero(tumour))[:3]
    at = np.argwhere(results.curves.where)
    for axis, i in zip(axes.ravel()[1:], picked):
        law = tuple(found.laws[TWIN].of(i).quantile(p) for p in (0.05, 0.25, 0.75, 0.95))
        draw(axis, values[i], blind.mean[i], blind.sd[i], given.mean[i], law)
        axis.set_title("tumour voxel " + str(tuple(int(x) + 1 for x in at[i])), fontsize=10)
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=7, frameon=False, fontsize=9
    )
    run.figure(
        "perfusion_curves", figure, title="Tracer in the tumour, registered frames",
        caption="The three voxels were drawn at random, not chosen. Bands are of what the scanner will show in an unknown "
        "breathing state: parameters, discrepancy, breathing and noise. The thin line is the forecast given where in "
        "the breathing cycle each frame was taken.",
        section="forecast", order=1, alt="Concentration over time with forecast bands and held-out frames",
    )  # fmt: skip


def _registration(spec: PerfusionSpec, results: PerfusionResults, run: RunFolder) -> None:
    t, seen, series = results.series.times, spec.assimilate, results.series
    curves, motion = results.curves, results.motion
    figure = _figure((12.0, 9.0))
    axes = figure.subplots(3, 2)
    shift = motion.displacement[:, :, series.tumour].mean(axis=2)
    for c, (name, colour) in enumerate(zip(("x", "y", "z, across slices"), ("0.6", _BASE, _TWIN))):
        axes[0, 0].plot(t, shift[:, c], color=colour, lw=1.2, label=name)
    axes[0, 0].set_ylabel("mean shift of the tumour (mm)")
    axes[0, 0].legend(frameon=False, fontsize=9)
    axes[0, 1].plot(t, motion.before, color=_BASE, lw=1.2, label="raw")
    axes[0, 1].plot(t, motion.after, color=_TWIN, lw=1.2, label="registered")
    axes[0, 1].set_ylabel("residual (signal units)")
    axes[0, 1].legend(frameon=False, fontsize=9)
    i = int(np.flatnonzero(curves.tumour)[curves.tumour.sum() // 2])
    for values, colour, name in ((curves.raw, _BASE, "raw"), (curves.registered, _TWIN, "registered")):
        axes[1, 0].plot(t, values[i], color=colour, lw=1.2, label=name)
        spread = np.nanstd(values[curves.tumour][:, seen - 20 : seen], axis=1)
        axes[1, 1].hist(spread, bins=30, histtype="step", color=colour, lw=1.6, label=name)
    axes[1, 0].set_ylabel("one tumour voxel (mM)")
    axes[1, 1].set_xlabel("standard deviation in the last 20 frames assimilated (mM)")
    axes[1, 1].set_ylabel("tumour voxels")
    axes[1, 1].legend(frameon=False, fontsize=9)
    for b, colour in zip(range(results.breathing.shape[1]), (_TWIN, _BASE, "0.4", "0.7")):
        axes[2, 0].plot(t, results.breathing[:, b], color=colour, lw=1.2, label=f"component {b + 1}")
    axes[2, 0].set_ylabel("breathing score (1)")
    axes[2, 0].legend(frameon=False, fontsize=9, ncols=2)
    response = results.found["registered"].analysed[-1].response.mean(axis=0)
    for b, colour in zip(range(len(response)), (_TWIN, _BASE, "0.4", "0.7")):
        axes[2, 1].hist(
            np.clip(response[b], -0.3, 0.3), bins=np.linspace(-0.3, 0.3, 61), histtype="step", color=colour,
            lw=1.6, label=f"component {b + 1}",
        )  # fmt: skip
    axes[2, 1].set_xlabel("response to a score of one (mM; the outer bins hold what lies beyond)")
    axes[2, 1].set_ylabel("voxels forecast")
    axes[2, 1].legend(frameon=False, fontsize=9)
    for axis in (*axes.ravel()[:3], axes[2, 0]):
        axis.axvline(t[seen - 1], color="0.7", lw=0.8, ls=":")
        axis.set_xlabel("time (s)")
    run.figure(
        "perfusion_registration", figure, title="Raw and registered frames",
        caption="Every frame is registered to components of the first "
        f"{spec.registration.reference_frames} frames alone. The dotted line is the last frame assimilated. Breathing "
        "scores are measured in the body outside the voxels forecast.",
        section="validation", order=1, alt="Displacements, residuals and curves before and after registration",
    )  # fmt: skip


def _coverage(spec: PerfusionSpec, results: PerfusionResults, run: RunFolder) -> None:
    from .perfusion import GIVEN, LAST_MEAN, TWIN

    t, seen = results.series.times, spec.assimilate
    found = results.found["registered"]
    figure = _figure((12.0, 6.8))
    axes = figure.subplots(2, 2)
    for axis, region in zip(axes[0], ("enhancing", "tumour")):
        for method, style, name in ((TWIN, "-", "blind"), (GIVEN, "--", "given the breathing state")):
            s = found.scores[region, method]
            for hits, level, colour in ((s.inside50, 50, _TWIN), (s.inside90, 90, _BASE)):
                axis.axhline(level, color=colour, lw=0.8, ls=":")
                percent = 100.0 * hits / np.maximum(s.count, 1)
                axis.plot(t[seen:], percent, style, color=colour, lw=1.3, label=f"{level} %, {name}")
        axis.set_ylim(0, 100)
        axis.set_title("all enhancing voxels" if region == "enhancing" else "tumour", fontsize=10)
        axis.set_xlabel("time (s)")
        axis.set_ylabel("voxels inside (%)")
    axes[0, 0].legend(frameon=False, fontsize=9, loc="lower left", ncols=2)
    edges = np.linspace(0, 1, 21)
    for region, colour, name in (("enhancing", _TWIN, "all enhancing voxels"), ("tumour", _HELD, "tumour")):
        counts = found.pit[region]
        axes[1, 0].stairs(counts / counts.sum() * len(counts), edges, color=colour, lw=1.6, label=name)
    axes[1, 0].axhline(1.0, color="0.6", lw=0.8)
    axes[1, 0].set_xlabel("probability integral transform, blind forecast")
    axes[1, 0].set_ylabel("density (uniform = 1)")
    axes[1, 0].set_ylim(bottom=0)
    axes[1, 0].legend(frameon=False, fontsize=9)
    for method, colour, name in (
        (TWIN, _TWIN, "twin, blind"),
        (GIVEN, "0.1", "twin, given the breathing state"),
        (LAST_MEAN, _BASE, f"mean of the last {spec.last}"),
    ):
        s = found.scores["enhancing", method]
        axes[1, 1].plot(t[seen:], s.crps / np.maximum(s.count, 1), color=colour, lw=1.3, label=name)
    axes[1, 1].set_xlabel("time (s)")
    axes[1, 1].set_ylabel("CRPS, enhancing voxels (mM)")
    axes[1, 1].set_ylim(bottom=0)
    axes[1, 1].legend(frameon=False, fontsize=9)
    run.figure(
        "perfusion_coverage", figure, title="Are the forecasts honest? Registered, held-out frames",
        caption="Voxels of one frame share its breathing, so coverage swings from frame to frame; its mean over frames "
        "is what is judged.",
        section="scores", order=2, alt="Coverage by frame, PIT histogram, CRPS by frame",
    )  # fmt: skip
