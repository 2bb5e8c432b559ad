"""The perfusion study: frames of a dynamic MRI series assimilated one after another, the later ones forecast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from ..domain.errors import BadInput
from ..domain.parameters import Parameter, ParameterSpace, prior_from_spec
from ..domain.runfolder import RunFolder
from ..imaging.dce import DceSeries, read_dce
from ..kinetics.tofts import Fit
from ..twin.tracer import SHARED, Softened, TracerModel, VoxelPrior
from .perfusion_filter import Analysed, FilterSettings, Forecast, assimilate, forecast
from .perfusion_scores import (
    ErrorLaw,
    Predicted,
    Scores,
    last_mean,
    persistence,
    score,
    standardised,
    tofts,
)
from .perfusion_series import (
    Curves,
    Motion,
    RegistrationSpec,
    VoxelsSpec,
    body_mask,
    register_series,
    to_curves,
)
from .schema import Strict, StudySpec

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
UNITS = {"onset": "s", "scale": "1", "decay": "1/min", "dispersion": "1"}

# How long after the last frame before the bolus the plasma curve is resolved finely.
FIRST_PASS_S = 40.0

TWIN = "forecast"
LAST_MEAN = "baseline: mean of the last frames"
POINT_MEAN = "baseline: mean of the last frames, no interval"
PERSISTENCE = "baseline: last frame"
TOFTS = "baseline: extended Tofts fit per voxel"


class SoftenedSpec(Strict):
    """``bend * log(1 + exp((location + spread z)/bend))``."""

    location: float
    spread: Positive
    bend: Positive

    def build(self) -> Softened:
        return Softened(self.location, self.spread, self.bend)


class KepSpec(Strict):
    median_per_min: Positive
    sd_log: Positive


class VoxelPriorSpec(Strict):
    """Prior of every voxel's parameters."""

    ve: SoftenedSpec
    vp: SoftenedSpec
    kep: KepSpec


class FilterSpec(Strict):
    """Settings of the assimilation; see ``FilterSettings``."""

    members: Annotated[int, Field(ge=20)]
    settled_s: Positive
    passing: Positive
    relative: Annotated[float, Field(ge=0)]
    modes: Annotated[int, Field(ge=0)]
    noise_relative: Positive
    noise_weight: Positive
    relax_shared: Fraction
    shared_voxels: Annotated[int, Field(ge=1)]


class DiscrepancySpec(Strict):
    """A candidate: variance over the voxel error's, and correlation time."""

    variance: Annotated[float, Field(ge=0)]
    memory_s: Positive


class PerfusionSpec(StudySpec):
    """Settings of a perfusion study.

    Parameters
    ----------
    assimilate : int
        Frames assimilated; the others are forecast.
    origins : tuple of int
        Rolling origins inside the frames assimilated, for every choice and every error law.
    last : int
        Frames of the baseline that takes the mean of the last.
    arterial_input : mapping
        Priors of onset (s), scale, decay (1/min) and dispersion.
    first_pass_step_s : float
        Resolution of the plasma curve while the bolus passes.
    candidates : tuple
        Discrepancies to choose from, by CRPS at the rolling origins.
    choose_every : int
        The choice is made on every so many voxels, and all of the tumour.
    """

    kind: Literal["perfusion"]
    assimilate: Annotated[int, Field(ge=20)]
    origins: Annotated[tuple[int, ...], Field(min_length=1)]
    last: Annotated[int, Field(ge=2)]
    registration: RegistrationSpec
    voxels: VoxelsSpec
    arterial_input: dict[str, dict[str, dict[str, float]]]
    first_pass_step_s: Positive
    voxel_prior: VoxelPriorSpec
    filter: FilterSpec
    candidates: Annotated[tuple[DiscrepancySpec, ...], Field(min_length=1)]
    choose_every: Annotated[int, Field(ge=1)]

    def model(self, series: DceSeries) -> TracerModel:
        """The tracer model on the series' frames."""
        for name in self.arterial_input:
            if name not in SHARED:
                raise BadInput(
                    f"the key '{name}' is not known", f"arterial_input.{name}", "use " + ", ".join(SHARED)
                )
        parameters = []
        for name in SHARED:
            where = f"arterial_input.{name}"
            if name not in self.arterial_input:
                raise BadInput("this key is missing", where, "give its prior")
            parameters.append(Parameter(name, UNITS[name], prior_from_spec(self.arterial_input[name], where)))
        shared = ParameterSpace(tuple(parameters))
        prior = self.voxel_prior
        voxel = VoxelPrior(prior.ve.build(), prior.vp.build(), prior.kep.median_per_min, prior.kep.sd_log)
        start = float(series.times[series.baseline - 1])
        return TracerModel(series.times, shared, voxel, (start, start + FIRST_PASS_S, self.first_pass_step_s))

    def settings(self, baseline: int, discrepancy: DiscrepancySpec) -> FilterSettings:
        """The filter's settings with a candidate."""
        return FilterSettings(
            first=baseline, discrepancy=discrepancy.variance, memory_s=discrepancy.memory_s,
            **self.filter.model_dump(),
        )  # fmt: skip


@dataclass(frozen=True)
class SeriesResult:
    """What was found on one series of curves, registered or raw.

    Parameters
    ----------
    analysed : tuple of Analysed
        At the rolling origins, then at the end of the frames assimilated.
    forecast : Forecast
    law : ErrorLaw
        Of the twin.
    tofts : Fit
    tofts_onset : float
        s.
    scores : dict
        By region ("enhancing", "tumour") and method.
    rolling : dict
        The same at the rolling origins, pooled.
    pit : dict
        Histogram in 20 bins of the forecast's PIT by region.
    region : tuple of float
        Coverage (%) of 50 % and 90 % intervals for the tumour's mean.
    """

    analysed: tuple[Analysed, ...]
    forecast: Forecast
    law: ErrorLaw
    tofts: Fit
    tofts_onset: float
    scores: dict[tuple[str, str], Scores]
    rolling: dict[tuple[str, str], Scores]
    pit: dict[str, np.ndarray]
    region: tuple[float, float]


@dataclass(frozen=True)
class PerfusionResults:
    """What the study found; ``choice`` has a row for each candidate with its CRPS at the rolling origins."""

    series: DceSeries
    curves: Curves
    motion: Motion
    model: TracerModel
    settings: FilterSettings
    choice: tuple[tuple[DiscrepancySpec, float, float], ...]
    found: dict[str, SeriesResult]


def perfusion(
    spec: PerfusionSpec, data: Path, run: RunFolder, progress: Callable[[str, int, int], None]
) -> PerfusionResults:
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
    model = spec.model(series)
    coords = series.grid.points(curves.where)
    choice = _choose(spec, series, curves, coords, model, progress)
    best = min(choice, key=lambda row: row[2])[0]
    run.journal.append(
        "discrepancy chosen at the rolling origins", variance=best.variance, memory_s=best.memory_s
    )
    settings = spec.settings(series.baseline, best)
    found = {}
    for name, values in (("registered", curves.registered), ("raw", curves.raw)):
        found[name] = _series(spec, series, curves, values, coords, model, settings, name, progress)
        run.log.info("%s series done", name)
    results = PerfusionResults(series, curves, motion, model, settings, choice, found)
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
    model: TracerModel,
    progress: Callable[[str, int, int], None],
) -> tuple[tuple[DiscrepancySpec, float, float], ...]:
    """RMSE and CRPS (normal law) of each candidate at the rolling origins, on some voxels of the registered series.

    No frame from ``spec.assimilate`` on is read.
    """
    some = curves.tumour.copy()
    some[:: spec.choose_every] = True
    values = curves.registered[some, : spec.assimilate]
    total = len(spec.candidates) * max(spec.origins)
    law = ErrorLaw(_normal_points())
    rows = []
    for i, candidate in enumerate(spec.candidates):
        settings = spec.settings(series.baseline, candidate)

        def tick(frame: int, before: int = i * max(spec.origins)) -> None:
            progress("Choice at rolling origins", before + frame, total)

        square = crps = count = 0.0
        steps = assimilate(values, coords[some], model, settings, spec.origins, spec.seed, "choice", tick)
        for analysed in steps:
            f = forecast(analysed, model, settings, spec.assimilate, curves.tumour[some])
            s = score(Predicted(f.mean, f.sd), values[:, analysed.seen :], law)
            square, crps, count = square + s.square.sum(), crps + s.crps.sum(), count + s.count.sum()
        rows.append((candidate, float(np.sqrt(square / count)), float(crps / count)))
    return tuple(rows)


def _normal_points(size: int = 401) -> np.ndarray:
    from scipy.special import ndtri

    return np.asarray(ndtri((np.arange(size) + 0.5) / size))


def _series(
    spec: PerfusionSpec,
    series: DceSeries,
    curves: Curves,
    values: np.ndarray,
    coords: np.ndarray,
    model: TracerModel,
    settings: FilterSettings,
    name: str,
    progress: Callable[[str, int, int], None],
) -> SeriesResult:
    """Assimilate, forecast and score one series of curves."""
    seen, end = spec.assimilate, series.frames
    analysed = assimilate(
        values, coords, model, settings, (*spec.origins, seen), spec.seed, name,
        lambda frame: progress(f"Assimilation, {name}", frame, seen),
    )  # fmt: skip
    regions = {"enhancing": curves.enhancing, "tumour": curves.tumour}
    ahead: dict[str, list[tuple[Predicted, np.ndarray]]] = {
        m: [] for m in (TWIN, LAST_MEAN, PERSISTENCE, TOFTS)
    }
    final: Forecast | None = None
    for a in analysed:
        stop = end if a.seen == seen else seen
        truth = values[:, a.seen : stop]
        f = forecast(a, model, settings, stop, curves.tumour)
        known = values[:, : a.seen]
        fit_forecast, fit, onset = tofts(known, a.seen, stop, model)
        ahead[TWIN].append((Predicted(f.mean, f.sd), truth))
        ahead[LAST_MEAN].append((last_mean(known, a.seen, truth.shape[1], spec.last), truth))
        ahead[PERSISTENCE].append((persistence(known, a.seen, truth.shape[1], spec.last), truth))
        ahead[TOFTS].append((fit_forecast, truth))
        final = f
    assert final is not None
    scores: dict[tuple[str, str], Scores] = {}
    rolling: dict[tuple[str, str], Scores] = {}
    pit = {}
    point = ErrorLaw(np.zeros(1))
    for method, pairs in ahead.items():
        law = ErrorLaw.learn(np.concatenate([standardised(p, y).ravel() for p, y in pairs[:-1]]))
        for region, rows in regions.items():
            scores[region, method] = score(_rows(pairs[-1][0], rows), pairs[-1][1][rows], law)
            early = [score(_rows(p, rows), y[rows], law) for p, y in pairs[:-1]]
            rolling[region, method] = _joined(early)
            if method == LAST_MEAN:
                scores[region, POINT_MEAN] = score(_rows(pairs[-1][0], rows), pairs[-1][1][rows], point)
            if method == TWIN:
                z = standardised(_rows(pairs[-1][0], rows), pairs[-1][1][rows])
                pit[region] = np.histogram(law.pit(z[np.isfinite(z)]), bins=20, range=(0, 1))[0]
        if method == TWIN:
            twin_law = law
    whole = np.nanmean(values[curves.tumour][:, seen:], axis=0)
    z = np.abs(whole - final.region_mean) / final.region_sd
    region_cover = (float(100 * (z < 0.6745).mean()), float(100 * (z < 1.6449).mean()))
    return SeriesResult(tuple(analysed), final, twin_law, fit, onset, scores, rolling, pit, region_cover)


def _rows(predicted: Predicted, rows: np.ndarray) -> Predicted:
    return Predicted(predicted.mean[rows], predicted.sd[rows])


def _joined(parts: list[Scores]) -> Scores:
    """Frames of several origins one after another."""
    fields: dict[str, Any] = {
        k: np.concatenate([getattr(p, k) for p in parts]) for k in Scores.__dataclass_fields__
    }
    return Scores(**fields)


__all__ = ["PerfusionResults", "PerfusionSpec", "perfusion"]
