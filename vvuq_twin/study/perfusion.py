"""The perfusion study: frames of a dynamic MRI series assimilated one after another, the later ones forecast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..domain.errors import BadInput
from ..domain.runfolder import RunFolder
from ..imaging.dce import DceSeries, read_dce
from ..kinetics.tofts import Fit
from ..twin.tracer import TracerModel
from .perfusion_breathing import breathing_scores
from .perfusion_filter import Analysed, FilterSettings, assimilate, settled_frame
from .perfusion_forecast import Forecast, forecast
from .perfusion_scores import (
    ErrorLaw,
    Laws,
    Predicted,
    Scores,
    joined,
    last_mean,
    last_mean_given,
    persistence,
    score,
    standardised,
    tofts,
)
from .perfusion_series import Curves, Motion, body_mask, register_series, to_curves
from .perfusion_spec import PerfusionSpec

TWIN = "forecast"
GIVEN = "forecast given the breathing state"
LAST_MEAN = "baseline: mean of the last frames"
GIVEN_MEAN = "baseline: mean of the last frames given the breathing state"
POINT_MEAN = "baseline: mean of the last frames, no interval"
PERSISTENCE = "baseline: last frame"
TOFTS = "baseline: extended Tofts fit per voxel"
CALIBRATED = (TWIN, GIVEN, LAST_MEAN, GIVEN_MEAN, PERSISTENCE, TOFTS)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Tried:
    """A candidate at the rolling origins: settings, RMSE and CRPS blind, and given the breathing (mM)."""

    settings: FilterSettings
    blind: tuple[float, float]
    given: tuple[float, float]

    @property
    def crps(self) -> float:
        """What is chosen by."""
        return (self.blind[1] + self.given[1]) / 2


@dataclass(frozen=True)
class SeriesResult:
    """What was found on one series of curves, registered or raw.

    Parameters
    ----------
    analysed : tuple of Analysed
        At the rolling origins, then at the end of the frames assimilated.
    forecasts : dict
        Of the twin, by method.
    laws : dict
        Error laws by method.
    tofts : Fit
    tofts_onset : float
        s.
    scores : dict
        By region ("enhancing", "tumour") and method.
    rolling : dict
        The same at the rolling origins, pooled.
    pit : dict
        Histogram in 20 bins of the blind forecast's PIT by region.
    region : dict
        By method of the twin, coverage (%) of 50 % and 90 % intervals for the tumour's mean.
    """

    analysed: tuple[Analysed, ...]
    forecasts: dict[str, Forecast]
    laws: dict[str, Laws]
    tofts: Fit
    tofts_onset: float
    scores: dict[tuple[str, str], Scores]
    rolling: dict[tuple[str, str], Scores]
    pit: dict[str, np.ndarray]
    region: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class PerfusionResults:
    """What the study found; ``breathing`` (F, b) are the frames' scores, ``choice`` the candidates tried."""

    series: DceSeries
    curves: Curves
    motion: Motion
    breathing: np.ndarray
    model: TracerModel
    settings: FilterSettings
    choice: tuple[Tried, ...]
    found: dict[str, SeriesResult]


def perfusion(spec: PerfusionSpec, data: Path, run: RunFolder, progress: Progress) -> PerfusionResults:
    """Run the study and fill its run folder.

    Parameters
    ----------
    spec : PerfusionSpec
    data : Path
        Folder with ``acquisition.json``; see :func:`vvuq_twin.imaging.dce.read_dce`.
    run : RunFolder
    progress : callable
        ``progress(label, done, total)``.

    Raises
    ------
    BadInput
        If the data or the settings cannot be used.
    """
    series = read_dce(data)
    _fits(spec, series)
    body = body_mask(series, spec.voxels)
    frames, motion = register_series(
        series, spec.registration, body, lambda done, total: progress("Registration", done, total)
    )
    curves = to_curves(series, frames, spec.voxels, spec.assimilate, body)
    run.journal.append(
        "frames registered", voxels=int(curves.where.sum()), enhancing=int(curves.enhancing.sum()),
        tumour=int(curves.tumour.sum()), tumour_outlined=int(series.tumour.sum()),
    )  # fmt: skip
    breathing = breathing_scores(
        series, motion, spec.registration, body, curves.where, spec.breathing,
        lambda done, total: progress("Breathing state", done, total),
    )  # fmt: skip
    model = spec.model(series)
    coords = series.grid.points(curves.where)
    choice = _choose(spec, series, curves, coords, breathing, model, progress)
    settings = min(choice, key=lambda tried: tried.crps).settings
    run.journal.append(
        "chosen at the rolling origins", variance=settings.discrepancy, memory_s=settings.memory_s,
        response=settings.response, trust=settings.trust,
    )  # fmt: skip
    found = {}
    for name, values in (("registered", curves.registered), ("raw", curves.raw)):
        found[name] = _series(
            spec, series, curves, values, coords, breathing, model, settings, name, progress
        )
        run.log.info("%s series done", name)
    results = PerfusionResults(series, curves, motion, breathing, model, settings, choice, found)
    from .perfusion_report import report

    report(spec, results, run)
    return results


def _fits(spec: PerfusionSpec, series: DceSeries) -> None:
    """Refuse settings that do not fit the series."""
    if spec.assimilate >= series.frames:
        raise BadInput(
            f"{spec.assimilate} of {series.frames} frames are to be assimilated, none is left to forecast",
            "assimilate", "give fewer",
        )  # fmt: skip
    least = series.baseline + 6 + spec.last
    if min(spec.origins) < least or max(spec.origins) >= spec.assimilate:
        raise BadInput(
            "a rolling origin is not inside the frames assimilated", "origins",
            f"give frames from {least} to {spec.assimilate - 1}",
        )  # fmt: skip
    if not series.baseline + 5 < spec.registration.reference_frames <= spec.assimilate:
        raise BadInput(
            "the reference frames are not among those assimilated", "registration.reference_frames",
            f"give {series.baseline + 6} to {spec.assimilate}",
        )  # fmt: skip


def _choose(
    spec: PerfusionSpec,
    series: DceSeries,
    curves: Curves,
    coords: np.ndarray,
    breathing: np.ndarray,
    model: TracerModel,
    progress: Progress,
) -> tuple[Tried, ...]:
    """Each candidate at the rolling origins (normal law), on some voxels of the registered series.

    No frame from ``spec.assimilate`` on is read.
    """
    some = curves.tumour.copy()
    some[:: spec.choose_every] = True
    values, seen = curves.registered[some, : spec.assimilate], breathing[: spec.assimilate]
    total = len(spec.candidates) * max(spec.origins)
    law = ErrorLaw(_normal_points())
    out = []
    for i, candidate in enumerate(spec.candidates):

        def tick(frame: int, before: int = i * max(spec.origins)) -> None:
            progress("Choice at rolling origins", before + frame, total)

        settings = spec.settings(series.baseline, candidate, candidate.trust[0])
        steps = assimilate(
            values, coords[some], seen, model, settings, spec.origins, spec.seed, "choice", tick
        )
        for trust in candidate.trust:
            settings = replace(settings, trust=trust)
            scores: tuple[list[Scores], list[Scores]] = ([], [])
            for a in steps:
                both = forecast(a, seen, model, settings, spec.assimilate, curves.tumour[some])
                for kept, f in zip(scores, both):
                    kept.append(score(Predicted(f.mean, f.sd), values[:, a.seen :], law))
            blind, given = (joined(kept) for kept in scores)
            out.append(Tried(settings, (blind.rmse, blind.mean_crps), (given.rmse, given.mean_crps)))
    return tuple(out)


def _normal_points(size: int = 401) -> np.ndarray:
    from scipy.special import ndtri

    return np.asarray(ndtri((np.arange(size) + 0.5) / size))


def _series(
    spec: PerfusionSpec,
    series: DceSeries,
    curves: Curves,
    values: np.ndarray,
    coords: np.ndarray,
    breathing: np.ndarray,
    model: TracerModel,
    settings: FilterSettings,
    name: str,
    progress: Progress,
) -> SeriesResult:
    """Assimilate, forecast and score one series of curves."""
    seen, end = spec.assimilate, series.frames
    analysed = assimilate(
        values, coords, breathing, model, settings, (*spec.origins, seen), spec.seed, name,
        lambda frame: progress(f"Assimilation, {name}", frame, seen),
    )  # fmt: skip
    ahead: dict[str, list[tuple[Predicted, np.ndarray]]] = {m: [] for m in CALIBRATED}
    settled = settled_frame(model, settings)
    for a in analysed:
        stop = end if a.seen == seen else seen
        known, truth = values[:, : a.seen], values[:, a.seen : stop]
        blind, given = forecast(a, breathing[:stop], model, settings, stop, curves.tumour)
        plain, fit, onset = tofts(known, a.seen, stop, model)
        for method, predicted in (
            (TWIN, Predicted(blind.mean, blind.sd)),
            (GIVEN, Predicted(given.mean, given.sd)),
            (LAST_MEAN, last_mean(known, a.seen, truth.shape[1], spec.last)),
            (GIVEN_MEAN, last_mean_given(known, breathing[:stop], settled, spec.last, settings.response)),
            (PERSISTENCE, persistence(known, a.seen, truth.shape[1], spec.last)),
            (TOFTS, plain),
        ):
            ahead[method].append((predicted, truth))
    regions = {"enhancing": curves.enhancing, "tumour": curves.tumour}
    scores: dict[tuple[str, str], Scores] = {}
    rolling: dict[tuple[str, str], Scores] = {}
    laws, pit = {}, {}
    point = Laws.same(ErrorLaw(np.zeros(1)), curves.tumour)
    for method, pairs in ahead.items():
        law = laws[method] = Laws.learn(pairs[:-1], curves.tumour)
        predicted, truth = pairs[-1]
        for region, rows in regions.items():
            scores[region, method] = law.score(predicted, truth, rows)
            rolling[region, method] = joined([law.score(p, y, rows) for p, y in pairs[:-1]])
            if method == LAST_MEAN:
                scores[region, POINT_MEAN] = point.score(predicted, truth, rows)
            if method == TWIN:
                levels = law.pit(standardised(predicted, truth), rows)
                pit[region] = np.histogram(levels, bins=20, range=(0, 1))[0]
    whole = np.nanmean(values[curves.tumour][:, seen:], axis=0)
    forecasts, region_cover = {TWIN: blind, GIVEN: given}, {}
    for method, f in forecasts.items():
        z = np.abs(whole - f.region_mean) / f.region_sd
        region_cover[method] = (float(100 * (z < 0.6745).mean()), float(100 * (z < 1.6449).mean()))
    return SeriesResult(tuple(analysed), forecasts, laws, fit, onset, scores, rolling, pit, region_cover)


__all__ = ["PerfusionResults", "PerfusionSpec", "perfusion"]
