"""Arterial input functions: what the plasma brings to the tissue, in mM over minutes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import Any

import numpy as np
import yaml
from numpy.typing import ArrayLike
from scipy import special

from ..domain.errors import BadInput
from ..domain.units import convert


@dataclass(frozen=True)
class PopulationInput:
    """Constants of a population input: two Gaussians and a sigmoid times an exponential.

    Parameters
    ----------
    amplitudes : tuple of float
        mM min.
    widths, centres : tuple of float
        Standard deviations and centres of the Gaussians, min.
    tail : float
        mM.
    decay, rise : float
        1/min.
    turn : float
        min.
    haematocrit : float
        Plasma is whole blood divided by one minus this.
    """

    amplitudes: tuple[float, ...]
    widths: tuple[float, ...]
    centres: tuple[float, ...]
    tail: float
    decay: float
    rise: float
    turn: float
    haematocrit: float


@cache
def _library(name: str) -> dict[str, Any]:
    text = resources.files("vvuq_twin").joinpath(f"library/{name}").read_text(encoding="utf-8")
    data: dict[str, Any] = yaml.safe_load(text)
    return data


def _constant(name: str, key: str, unit: str) -> np.ndarray:
    entry = _library(name)[key]
    return np.asarray(convert(np.asarray(entry["value"], dtype=float), entry["unit"], unit))


@cache
def population_input() -> PopulationInput:
    """Parker's population input, from the package's library (arterial_input.yaml)."""
    data = _library("arterial_input.yaml")
    given = {k: v["value"] for k, v in data.items() if isinstance(v, dict)}
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else float(v) for k, v in given.items()}
    return PopulationInput(**values)


def blood(
    times: ArrayLike,
    onset: ArrayLike = 0.0,
    scale: ArrayLike = 1.0,
    decay: ArrayLike | None = None,
    dispersion: ArrayLike = 1.0,
    constants: PopulationInput | None = None,
) -> np.ndarray:
    """Concentration in whole blood after Parker et al. 2006, eq. 1, with four things made uncertain.

    Parameters
    ----------
    times : array_like, shape (T,)
        min.
    onset : array_like, shape (...)
        When the bolus arrives, min; zero before it.
    scale : array_like, shape (...)
        Multiplies the whole curve (dose, body, calibration).
    decay : array_like, shape (...), optional
        Rate of the tail, 1/min; the population's if absent.
    dispersion : array_like, shape (...)
        Stretches the first pass in time with its area kept (injection rate, cardiac output); 1 is Parker's.
    constants : PopulationInput, optional

    Returns
    -------
    ndarray, shape (..., T)
        mM.
    """
    p = constants or population_input()
    rate = p.decay if decay is None else decay
    on, s, b, w = (np.asarray(v, dtype=float)[..., None] for v in (onset, scale, rate, dispersion))
    t = np.asarray(times, dtype=float) - on
    curve = np.zeros(np.broadcast_shapes(t.shape, s.shape, b.shape, w.shape))
    for a, width, centre in zip(p.amplitudes, p.widths, p.centres):
        sigma = width * w
        curve += a / (sigma * np.sqrt(2 * np.pi)) * np.exp(-((t - centre * w) ** 2) / (2 * sigma**2))
    with np.errstate(over="ignore"):
        curve += p.tail * np.exp(-b * np.maximum(t, 0.0)) / (1.0 + np.exp(-p.rise / w * (t - p.turn * w)))
    return np.where(t >= 0, s * curve, 0.0)


def plasma(
    times: ArrayLike,
    onset: ArrayLike = 0.0,
    scale: ArrayLike = 1.0,
    decay: ArrayLike | None = None,
    dispersion: ArrayLike = 1.0,
    constants: PopulationInput | None = None,
) -> np.ndarray:
    """Concentration in plasma: :func:`blood` over one minus the haematocrit."""
    p = constants or population_input()
    return blood(times, onset, scale, decay, dispersion, p) / (1.0 - p.haematocrit)


def georgiou(times: ArrayLike, onset: float = 0.0) -> np.ndarray:
    """Whole blood after Georgiou et al. 2019, eq. 1 (the form of Horsfield et al. 2009).

    Circulation k arrives at ``k tau`` as a gamma variate of shape ``(k + 1) alpha + k`` and scale ``beta``; their
    sum, of unit area each, is multiplied by three exponentials of the time since the onset.

    Parameters
    ----------
    times : array_like, shape (T,)
        min.
    onset : float
        min; zero before it.

    Returns
    -------
    ndarray, shape (T,)
        mM.
    """
    name = "arterial_input_georgiou.yaml"
    shape, scale, tau = (
        float(_constant(name, k, u)) for k, u in (("shape", "1"), ("scale", "min"), ("circulation", "min"))
    )
    t = np.asarray(times, dtype=float) - onset
    rounds = np.zeros(t.shape)
    for k in range(int(np.ceil(max(float(t.max(initial=0.0)), 0.0) / tau)) + 1):
        since, a = t - k * tau, (k + 1) * shape + k
        with np.errstate(divide="ignore", invalid="ignore"):
            log = a * np.log(since) - since / scale - (a + 1) * np.log(scale) - special.gammaln(a + 1)
        rounds += np.where(since > 0, np.exp(np.where(since > 0, log, 0.0)), 0.0)
    fall = sum(
        a * np.exp(-m * np.maximum(t, 0.0))
        for a, m in zip(_constant(name, "amplitudes", "mmol/L"), _constant(name, "decays", "1/min"))
    )
    return np.asarray(rounds * fall)


def mcgrath(times: ArrayLike, onset: float = 0.0) -> np.ndarray:
    """Whole blood of rats after McGrath et al. 2009, model B (eq. 5): a ramp while injected, then two exponentials.

    Parameters
    ----------
    times : array_like, shape (T,)
        min.
    onset : float
        min; zero before it.

    Returns
    -------
    ndarray, shape (T,)
        mM.
    """
    name = "arterial_input_mcgrath.yaml"
    length = float(_constant(name, "injection", "min"))
    t = np.asarray(times, dtype=float) - onset
    top, rates = _constant(name, "amplitudes", "mmol/L"), _constant(name, "decays", "1/min")
    after = np.exp(-np.multiply.outer(np.maximum(t - length, 0.0), rates)) @ top
    return np.asarray(np.where(t < 0, 0.0, np.where(t <= length, top.sum() * t / length, after)))


#: Population inputs by name: whole blood in mM at times in min after an onset in min.
POPULATION: dict[str, Callable[..., np.ndarray]] = {
    "parker": blood,
    "georgiou": georgiou,
    "preclinical": mcgrath,
}


def onset_time(curve: ArrayLike, times: ArrayLike) -> float:
    """When a curve begins to rise, min: the break of a constant followed by a straight line, up to half its height.

    The break that fits the curve best in the least-squares sense, to a tenth of a sample (Cheong et al. 2003,
    Phys Med Biol 48:N83).

    Raises
    ------
    BadInput
        If the curve does not rise above its own scatter.
    """
    y, t = np.asarray(curve, dtype=float), np.asarray(times, dtype=float)
    there = np.isfinite(y)
    y, t = y[there], t[there]
    if len(y) < 4:
        raise BadInput("the curve has fewer than four samples", "bolus arrival", "give the whole series")
    noise = (
        float(np.median(np.abs(np.diff(y, 2)))) / (special.ndtri(0.75) * np.sqrt(6.0)) if len(y) > 8 else 0.0
    )
    base = float(np.median(y[:3]))
    rise = float(y.max()) - base
    if not rise > max(5.0 * noise, 1e-12 * abs(base)):
        raise BadInput(
            "the curve does not rise above its scatter", "bolus arrival", "look at the curve and its mask"
        )
    end = max(int(np.argmax(y >= base + 0.5 * rise)) + 1, 3)
    y, t = y[:end], t[:end]
    tried = np.unique(np.concatenate([np.linspace(a, b, 11) for a, b in pairwise(t)]))[:-1]
    best, found = np.inf, float(t[0])
    for begin in tried:
        design = np.stack([np.ones_like(t), np.maximum(t - begin, 0.0)], axis=1)
        coefficients, *_ = np.linalg.lstsq(design, y, rcond=None)
        rss = float(((y - design @ coefficients) ** 2).sum())
        if rss < best * (1 - 1e-9) - 1e-300:
            best, found = rss, float(begin)
    return found


def require_causal(
    cp: ArrayLike, times: ArrayLike, tissue: ArrayLike, at: ArrayLike | None = None
) -> tuple[float, float]:
    """Refuse an arterial input that starts after the tissue it feeds.

    Parameters
    ----------
    cp, times : array_like, shape (A,)
        Input, min.
    tissue : array_like, shape (T,)
        The tissue's mean curve.
    at : array_like, shape (T,), optional
        Its times, min; ``times`` by default.

    Returns
    -------
    tuple of float
        Both onsets, min.

    Raises
    ------
    BadInput
        If the input's onset is later than the tissue's by more than one sample of the tissue.
    """
    when = np.asarray(times if at is None else at, dtype=float)
    first, second = onset_time(cp, times), onset_time(tissue, when)
    if first > second + float(np.median(np.diff(when))):
        raise BadInput(
            f"the arterial input starts at {first:.2f} min, after the tissue at {second:.2f} min", "arterial input",
            "give the input's own onset, take a vessel that feeds the tissue, or check the times of both",
        )  # fmt: skip
    return first, second
