"""Assimilation and forecast of one patient's growth twin; how members are run is the caller's affair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..assimilation.esmda import ESMDA, RootESMDA
from ..assimilation.ies import IES
from ..assimilation.inflation import Inflation, sampling_inflation
from ..assimilation.protocol import Key, Scheme, start
from ..domain.keys import generator, member_normals
from ..imaging.noise import repeatability
from ..twin.growth import ReducedGrowthTwin
from ..twin.model import ForwardModel
from ..twin.observe import Burden
from .growth_problem import GrowthProblem
from .growth_spec import AssimilationSpec

#: ``run(z, label) -> (values (N, V, n or size), status (N,))`` for whitened scores z (N, p).
Runner = Callable[[np.ndarray, str], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Assimilated:
    """The ensemble before and after the scans.

    Parameters
    ----------
    prior, posterior : ndarray, shape (N, p)
        Whitened scores.
    prior_run, posterior_run : ndarray, shape (N, V, size)
        The model's values at all visits (reduced coefficients, or fields).
    members : ndarray of int
        Numbers of the members that are left.
    cycles : tuple of dict
        What each analysis found, ready for JSON.
    ahead : dict of int to ndarray, shape (2, N)
        Total cellularity and volume forecast for each assimilated visit before its analysis.
    """

    prior: np.ndarray
    posterior: np.ndarray
    prior_run: np.ndarray
    posterior_run: np.ndarray
    members: np.ndarray
    cycles: tuple[dict[str, Any], ...]
    ahead: dict[int, np.ndarray]


def prior_scores(problem: GrowthProblem, seed: int) -> np.ndarray:
    """Whitened scores (N, p) of the prior ensemble."""
    return problem.space.gaussian_sample(problem.spec.assimilation.members, seed, "ensemble")


def assimilate(
    problem: GrowthProblem, model: ForwardModel, run: Runner, visits: int, seed: int
) -> Assimilated:
    """Assimilate visits 2 to ``visits`` one after another; the first scan is spent on the initial field.

    Each cycle is an iterative smoother (``assimilation.scheme``) over parameters, initial modes and growth
    noise, under the strong constraint: the model runs from the first day again, so that no analysed state
    can leave what the model could have reached.

    Raises
    ------
    RunFailed
        If fewer than two members are left.
    """
    spec = problem.spec.assimilation
    scheme = smoother(spec)
    inflation = Inflation(factor=spec.inflation)
    z = prior_scores(problem, seed)
    prior = z
    carry = start(spec.members)
    key = Key(seed, ("growth",))
    coefficients, status = run(z, "prior")
    prior_run = coefficients
    ahead: dict[int, np.ndarray] = {}
    for cycle in range(1, visits):
        scan = problem.scans[cycle]
        before, numbers, lines = z, carry.members, len(carry.history)
        for step in range(scheme.steps):
            if cycle > 1 or step > 0:
                coefficients, status = run(z, f"cycle-{cycle + 1}-step-{step + 1}")
            if step == 0:
                ahead[cycle] = np.array(visible(problem, model, coefficients[:, cycle]))
            cells = model.fields(coefficients[:, cycle]).at(scan.cells)
            predicted = problem.predict(scan, cells, problem.space.from_gaussian(z))
            update, carry = scheme.analyse(carry, predicted, scan.observations, key, status)
            z = update.apply(z, inflate=False)
            if carry.step == 0:
                break
        fitted = [line["fitted"] for line in carry.history[lines:] if "fitted" in line]
        if spec.sampling_inflation and fitted:
            before = before[np.searchsorted(numbers, carry.members)]
            z = sampling_inflation(before, z, fitted)
        if inflation.active:
            z = inflation.apply(z - z.mean(axis=0), z)
    posterior_run, status = run(z, "posterior")
    good = status == 0
    return Assimilated(
        prior, z[good], prior_run, posterior_run[good], carry.members[good], carry.history, ahead
    )


def smoother(spec: AssimilationSpec) -> Scheme:
    """The scheme a study asks for."""
    schemes: dict[str, Scheme] = {
        "es-mda": ESMDA(spec.steps),
        "root-es-mda": RootESMDA(spec.steps),
        "adaptive-es-mda": ESMDA(spec.steps, adaptive=True),
        "ies": IES(spec.steps),
    }
    return schemes[spec.scheme]


def visible(problem: GrowthProblem, model: ForwardModel, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Total cellularity and volume (cm3) of the visible tumour of members (N, n or size)."""
    found = Burden(problem.case.n_detect, problem.series.grid.voxel_volume)(model.fields(values))
    return found[:, 0], found[:, 1]


@dataclass(frozen=True)
class Quantities:
    """Quantities of interest at every visit, members first.

    Parameters
    ----------
    total, volume : ndarray, shape (N, V)
        cm3, of the tumour itself.
    seen_total, seen_volume : ndarray, shape (N, V)
        cm3, as a scan would show them: with the error of the measurement.
    """

    total: np.ndarray
    volume: np.ndarray
    seen_total: np.ndarray
    seen_volume: np.ndarray


def quantities(
    problem: GrowthProblem, model: ForwardModel, z: np.ndarray, coefficients: np.ndarray,
    members: np.ndarray, seed: int, purpose: str,
) -> Quantities:  # fmt: skip
    """Quantities of interest of an ensemble, the reduced model's measured error added.

    Parameters
    ----------
    problem : GrowthProblem
    model : ForwardModel
        Full or reduced; the reduced one's ``qoi_error`` (relative, per visit) is added as noise.
    z : ndarray, shape (N, p)
    coefficients : ndarray, shape (N, V, size)
    members : ndarray of int, shape (N,)
        Numbers that key the draws.
    seed : int
    purpose : str
    """
    visits = coefficients.shape[1]
    total, volume = (np.empty((len(z), visits)) for _ in range(2))
    for v in range(visits):
        total[:, v], volume[:, v] = visible(problem, model, coefficients[:, v])
    error = model.qoi_error().T if isinstance(model, ReducedGrowthTwin) else np.zeros((2, visits))
    normals = member_normals(seed, f"{purpose}/reduction error", members, 2).reshape(-1, 2, 1)
    total = total * np.exp(error[0] * normals[:, 0])
    volume = volume * np.exp(error[1] * normals[:, 1])
    adc_min = problem.space.from_gaussian(z)[:, problem.space.index("adc_min")][:, None]
    draws = member_normals(seed, f"{purpose}/measurement error", members, 2 * visits)
    seen_total, seen_volume = measured(problem, total, volume, adc_min, draws.reshape(-1, 2, visits))
    return Quantities(total, volume, seen_total, seen_volume)


def measured(
    problem: GrowthProblem, total: np.ndarray, volume: np.ndarray, adc_min: np.ndarray, draws: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What a scan would show: outline error on the volume, gain error and the reader's ADC_min on the total.

    Parameters
    ----------
    total, volume : ndarray, shape (N, V)
        cm3.
    adc_min : ndarray, shape (N, 1)
        The members', mm2/s.
    draws : ndarray, shape (N, 2, V)
        Standard normals.

    Notes
    -----
    A reader computes ``N = (ADC_w - ADC)/(ADC_w - a_ref)`` in the outline with the reference ADC_min;
    summed over a member's visible tumour, with gain error g on its ADC, that is
    ``[(w - (1+g) w) V + (1+g)(w - a) T] / (w - a_ref)``. The outline's error scales both.
    """
    o = problem.spec.observation
    water = o.adc_water_mm2_per_s
    gain = repeatability("adc", o.organ).wcv * draws[:, 0]
    outline = np.exp(_outline_sd(problem, volume) * draws[:, 1])
    shown = ((1.0 + gain) * (water - adc_min) * total - gain * water * volume) / (
        water - problem.adc_reference
    )
    return np.maximum(shown, 0.0) * outline, volume * outline


def _outline_sd(problem: GrowthProblem, volume: np.ndarray) -> np.ndarray:
    """Relative error of an outlined volume (cm3): the reader's, and an edge known to a fraction of a mm."""
    o = problem.spec.observation
    radius = (3.0 * 1000.0 * np.maximum(volume, 0.02) / (4.0 * np.pi)) ** (1.0 / 3.0)
    return np.hypot(o.volume_cv, np.minimum(3.0 * o.edge_mm / radius, 1.0))


def observed(problem: GrowthProblem) -> tuple[np.ndarray, np.ndarray]:
    """What the scans show: total cellularity (reference ADC_min) and outlined volume, cm3, shape (V,)."""
    series, o = problem.series, problem.spec.observation
    cm3 = series.grid.voxel_volume / 1000.0
    total, volume = [], []
    for visit in series.visits:
        inside = visit.tumour & series.brain
        cellularity = (o.adc_water_mm2_per_s - visit.adc[inside]) / (
            o.adc_water_mm2_per_s - problem.adc_reference
        )
        count = int(inside.sum())
        mean = (
            float(np.nanmean(cellularity))
            if np.isfinite(cellularity).any()
            else (0.0 if count == 0 else np.nan)
        )
        total.append(cm3 * count * mean)
        volume.append(cm3 * count)
    return np.array(total), np.array(volume)


def persistence(problem: GrowthProblem, last: int, members: int, seed: int) -> np.ndarray:
    """The naive forecast: the last assimilated visit's values, with the error of measuring them.

    Returns
    -------
    ndarray, shape (2, N)
        Total cellularity and volume, cm3.
    """
    total, volume = observed(problem)
    normals = generator(seed, "persistence").standard_normal((2, members))
    o = problem.spec.observation
    outline = np.exp(_outline_sd(problem, np.array(volume[last])) * normals[1])
    gain = repeatability("adc", o.organ).wcv * normals[0]
    water = o.adc_water_mm2_per_s
    shown = (1.0 + gain) * total[last] - gain * water * volume[last] / (water - problem.adc_reference)
    return np.array([np.maximum(shown, 0.0) * outline, volume[last] * outline])
