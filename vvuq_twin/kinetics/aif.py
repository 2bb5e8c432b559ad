"""Arterial input functions: what the plasma brings to the tissue, in mM over minutes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import yaml
from numpy.typing import ArrayLike


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
def population_input() -> PopulationInput:
    """Parker's population input, from the package's library (arterial_input.yaml)."""
    text = resources.files("vvuq_twin").joinpath("library/arterial_input.yaml").read_text(encoding="utf-8")
    data: dict[str, Any] = yaml.safe_load(text)
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
