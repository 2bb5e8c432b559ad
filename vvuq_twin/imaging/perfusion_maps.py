"""A dynamic contrast-enhanced series to maps of a tracer model with a standard error per voxel.

T1 (variable flip angle, or a map), baseline and concentration, arterial input (population, or a vessel), the bolus'
delay found once from the region's mean curve, then one fit per voxel. The error of T1 and of the baseline is one
error for all frames of a voxel: it scales the curve, and so the amplitudes of the model, and is added to theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from ..domain.errors import BadInput, near
from ..kinetics.aif import POPULATION, population_input, require_causal
from ..kinetics.fit import TracerFit, fit_tracer
from ..kinetics.tracer import EXTENDED_TOFTS, TracerModel
from .contrast import concentration, concentration_error, refuse_saturation
from .dce import DceSeries
from .noise import bright_part
from .t1 import T1Map, t1_nonlinear
from .vessel import VesselCurve, measured_input


@dataclass(frozen=True)
class QuantityMap:
    """A quantity on the grid with its standard error; NaN where there is none."""

    values: np.ndarray
    error: np.ndarray
    unit: str


@dataclass(frozen=True)
class PerfusionMaps:
    """What a dynamic series gives.

    Parameters
    ----------
    maps : dict of str to QuantityMap
        The model's parameters, ``t1_map`` in s, and ``residual`` (root mean square of the fit, mM).
    where : ndarray of bool
        Voxels that were fitted.
    times : ndarray, shape (T,)
        min.
    input_times, plasma : ndarray, shape (A,)
        Arterial input, min and mM, shifted by the delay.
    input_name : str
    delay : float
        min, of the region's mean curve behind the input's own onset.
    mean_curve, mean_fit : ndarray, shape (T,)
        Of the region, mM.
    region : TracerFit
        Fit of the mean curve, the delay free.
    numbers : dict of str to float
        Scalars that say how good it is.
    vessel : VesselCurve, optional
    """

    maps: dict[str, QuantityMap]
    where: np.ndarray
    times: np.ndarray
    input_times: np.ndarray
    plasma: np.ndarray
    input_name: str
    delay: float
    mean_curve: np.ndarray
    mean_fit: np.ndarray
    region: TracerFit
    numbers: dict[str, float]
    vessel: VesselCurve | None = None


def pooled_noise(residual: np.ndarray, free: int) -> float:
    """Standard deviation of the signal's noise from residuals with few degrees of freedom each, robustly."""
    values = residual[np.isfinite(residual)]
    if free < 1 or not values.size:
        return float("nan")
    return float(np.sqrt(np.median(values**2) / (stats.chi2.ppf(0.5, free) / free)))


def series_t1(series: DceSeries, b1: np.ndarray | None = None) -> T1Map:
    """T1 (s) of a series by variable flip angle, the noise pooled over the voxels of the body."""
    first = t1_nonlinear(series.vfa, series.vfa_flips, series.vfa_repetition_time, b1)
    free = len(series.vfa_flips) - 2
    if free < 1:
        return first
    noise = pooled_noise(first.residual[bright_part(series.vfa.max(axis=0))], free)
    return t1_nonlinear(series.vfa, series.vfa_flips, series.vfa_repetition_time, b1, noise)


def perfusion_maps(
    series: DceSeries,
    *,
    model: TracerModel = EXTENDED_TOFTS,
    arterial: str = "parker",
    vessel: np.ndarray | None = None,
    t1_blood: float | None = None,
    inflow: bool = False,
    t1: T1Map | None = None,
    b1: np.ndarray | None = None,
    t1_range: tuple[float, float] = (0.05, 6.0),
) -> PerfusionMaps:
    """Fit a tracer model in every voxel of the body.

    Parameters
    ----------
    series : DceSeries
    model : TracerModel
    arterial : {"parker", "georgiou", "preclinical"}
        Population input, if there is no vessel.
    vessel : ndarray of bool, optional
        The user's vessel mask: the input is measured there.
    t1_blood : float, optional
        s; needed with a vessel (:func:`vessel.blood_constants`).
    inflow : bool
        Take the vessel's baseline from the tissue around it.
    t1 : T1Map, optional
        In place of the series' own flip angles.
    b1 : ndarray, optional
        Actual over nominal flip angle, for T1 and concentration alike.
    t1_range : tuple of float
        Credible T1, s; voxels outside are not fitted.

    Raises
    ------
    BadInput
        If most of the region is saturated, the input starts after the tissue, or nothing can be fitted.
    """
    found = series_t1(series, b1) if t1 is None else t1
    flip = series.flip if b1 is None else series.flip * np.asarray(b1)
    baseline = series.signal[: series.baseline].mean(axis=0)
    sequence = (flip, series.repetition_time, series.relaxivity)
    c = concentration(series.signal, baseline, found.t1, *sequence)
    with np.errstate(invalid="ignore"):
        body = bright_part(baseline) & (found.t1 > t1_range[0]) & (found.t1 < t1_range[1])
    region = series.tumour & body
    if not region.any():
        raise BadInput(
            "no voxel of the tumour has a credible T1", "T1 map", "check flip angles and repetition time"
        )
    saturated = refuse_saturation(c[:, region], "tumour")
    times = series.times / 60.0
    mean = np.nanmean(c[:, region], axis=1)
    measured = None
    bounds = (0.0, float(times[-1]) / 2.0)
    if vessel is not None:
        if t1_blood is None:
            raise BadInput("the T1 of blood is not given", "arterial input", "give it in seconds")
        measured = measured_input(
            series.signal, vessel, series.baseline, t1_blood, population_input().haematocrit, *sequence,
            found.m0 * _gain(series, baseline, body) if inflow else None,
        )  # fmt: skip
        ta, cp, name = times, measured.plasma, "vessel"
        require_causal(cp, ta, mean, times)
        bounds = (0.0, min(1.0, float(times[-1]) / 4.0))
    else:
        if arterial not in POPULATION:
            raise BadInput(
                f"the arterial input '{arterial}' is not known", "arterial input", near(arterial, POPULATION)
            )
        ta = np.arange(0.0, float(times[-1]) + 1.0 / 60.0, 1.0 / 60.0)
        cp, name = POPULATION[arterial](ta) / (1.0 - population_input().haematocrit), arterial
    whole = fit_tracer(model, mean[None], cp, ta, at=times, delay=bounds)
    delay = float(whole.values["delay"][0])
    # frames lost to saturation are missing samples; a voxel needs most of them
    where = body & (np.isfinite(c).mean(axis=0) > 0.8)
    fit = fit_tracer(model, c[:, where].T, cp, ta, at=times - delay)
    noise = c[: series.baseline, region].std(axis=0, ddof=1) if series.baseline > 2 else np.array([np.nan])
    maps = _maps(series, fit, c, baseline, found, sequence, where)
    maps["t1_map"] = QuantityMap(found.t1, found.t1_se, "s")
    shown = fit_tracer(model, mean[None], cp, ta, at=times - delay)
    predicted = model.curves({p: shown.values[p] for p in model.parameters}, cp, ta, at=times - delay)[0]
    residual = maps["residual"].values[region]
    numbers = {
        "tumour_voxels": float(region.sum()),
        "saturated_voxels": float(saturated.sum()),
        "fitted_voxels": float(where.sum()),
        "impossible_voxels": float(
            max(int((np.isnan(maps[p].values) & where & region).sum()) for p in model.parameters)
        ),
        "delay_min": delay,
        "residual_rms_mM": float(np.sqrt(np.nanmean(residual**2))),
        "residual_rms_mean_curve_mM": float(np.sqrt(np.mean((mean - predicted) ** 2))),
        "noise_baseline_mM": float(np.sqrt(np.nanmean(noise**2))),
    }
    for key in model.parameters:
        inside, spread = maps[key].values[region], maps[key].error[region]
        numbers[f"{key}_median"] = float(np.nanmedian(inside))
        numbers[f"{key}_error_median"] = float(np.nanmedian(spread))
        numbers[f"{key}_mean_curve"] = float(whole.values[key][0])
        numbers[f"{key}_mean_curve_error"] = float(whole.errors[key][0])
    return PerfusionMaps(
        maps, where, times, ta + delay, cp, name, delay, mean, predicted, whole, numbers, measured
    )  # fmt: skip


def _gain(series: DceSeries, baseline: np.ndarray, body: np.ndarray) -> float:
    """What the dynamic series' gain is against the flip-angle set's: the ratio at the nearest angle."""
    nearest = int(np.argmin(np.abs(series.vfa_flips - series.flip)))
    if abs(series.vfa_flips[nearest] - series.flip) > 0.02:
        raise BadInput(
            "no image of the flip-angle set has the dynamic series' angle, so their gains cannot be compared",
            "arterial input", "read the baseline in the vessel itself",
        )  # fmt: skip
    return float(np.nanmedian(baseline[body] / series.vfa[nearest][body]))


def _maps(
    series: DceSeries, fit: TracerFit, c: np.ndarray, baseline: np.ndarray, t1: T1Map, sequence: tuple[object, float, float],
    where: np.ndarray,
) -> dict[str, QuantityMap]:  # fmt: skip
    """The fit's values on the grid; errors with those of T1 and of the baseline, which scale a voxel's curve."""
    noise = (
        series.signal[: series.baseline].std(axis=0, ddof=1) if series.baseline > 2 else np.zeros(where.shape)
    )
    t1_sd = np.where(np.isfinite(t1.t1_se), t1.t1_se, 0.0)
    error = concentration_error(
        series.signal, baseline, t1.t1, *sequence, signal_sd=noise, baseline_sd=noise / np.sqrt(series.baseline),
        t1_sd=t1_sd,
    )  # fmt: skip
    curves = np.where(np.isfinite(c[:, where]), c[:, where], 0.0)
    power = np.maximum((curves**2).sum(axis=0), 1e-300)
    scale = [
        (curves * np.where(np.isfinite(part[:, where]), part[:, where], 0.0)).sum(axis=0) / power
        for part in (error.baseline, error.t1)
    ]
    relative = np.hypot(*scale)
    out = {}
    for name, unit in zip(fit.model.parameters, fit.model.units):
        values, errors = np.full(where.shape, np.nan), np.full(where.shape, np.nan)
        values[where] = fit.values[name]
        # every parameter that these models have but a rate constant is proportional to the curve
        proportional = np.abs(fit.values[name]) * relative
        errors[where] = np.hypot(fit.errors[name], proportional)
        if unit == "1":
            # more than the whole voxel: the tracer does not come back within the series, and no fraction is known
            impossible = values > 1.0
            values[impossible], errors[impossible] = np.nan, np.nan
        out[name] = QuantityMap(values, errors, unit)
    residual = np.full(where.shape, np.nan)
    residual[where] = fit.residual_sd
    out["residual"] = QuantityMap(residual, np.full(where.shape, np.nan), "mmol/L")
    return out
