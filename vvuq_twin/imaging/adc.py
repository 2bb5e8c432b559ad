"""Cellularity from the apparent diffusion coefficient (ADC), and the uncertainty that comes with it.

``N = (ADC_w - ADC) / (ADC_w - ADC_min)``: free water where there are no cells, ADC_min where the tissue
is full. ADC_w is a constant of nature at body temperature. ADC_min is one uncertain number per patient,
centred on a low quantile of the first visit's tumour; taken anew at each visit it would scale growth away.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from scipy import stats

from ..domain.errors import BadInput
from ..domain.units import convert


@cache
def constants() -> dict[str, Any]:
    """``free_water`` in mm2/s and ``minimum_quantile``, from the package's library (adc.yaml)."""
    import yaml

    table = yaml.safe_load(
        resources.files("vvuq_twin").joinpath("library/adc.yaml").read_text(encoding="utf-8")
    )
    water = table["free_water"]
    return {
        "free_water": float(convert(float(water["value"]), water["unit"], "mm2/s")),
        "minimum_quantile": float(table["minimum_quantile"]["value"]),
    }


@dataclass(frozen=True)
class AdcScale:
    """The two ends of the ADC scale, in mm2/s.

    Parameters
    ----------
    water : float
        ADC of free water: no cells.
    minimum : float
        ADC of tissue at carrying capacity, the centre of this patient's prior.
    minimum_sd : float
        Its standard deviation: sampling of the quantile and repeatability of the scan.
    """

    water: float
    minimum: float
    minimum_sd: float


def adc_scale(
    adc: np.ndarray,
    tumour: np.ndarray,
    wcv: float,
    *,
    noise_sd: float = 0.0,
    water: float | None = None,
    quantile: float | None = None,
    correlated: float = 1.0,
) -> AdcScale:
    """The ADC scale of a patient, from the first visit's tumour.

    Parameters
    ----------
    adc : ndarray, shape (i, j, k)
        mm2/s.
    tumour : ndarray of bool, same shape
    wcv : float
        Within-subject coefficient of variation of the scan (see :func:`noise.repeatability`).
    noise_sd : float
        Voxel noise, mm2/s, which widens the values and pulls the quantile down: that is put back (see
        :func:`low_quantile_bias`), and half of it counts as uncertain.
    water : float, optional
        ADC of free water, mm2/s; default from the library.
    quantile : float, optional
        Which quantile of the tumour is taken for ADC_min; default from the library.
    correlated : float
        Voxels per independent value; above 1 where the tumour is smooth, for a wider sampling error.

    Raises
    ------
    BadInput
        If the tumour has fewer than ten voxels with a value, or its ADC is above that of free water.

    Notes
    -----
    The quantile's sampling error is distribution-free: with n independent values the rank of the
    quantile q is binomial, so its standard deviation is half the distance between the order statistics
    at ``q n -+ sqrt(n q (1 - q))`` (Conover, Practical Nonparametric Statistics, 3.2).
    """
    water = constants()["free_water"] if water is None else water
    quantile = constants()["minimum_quantile"] if quantile is None else quantile
    values = adc[tumour]
    values = np.sort(values[np.isfinite(values)])
    if len(values) < 10:
        raise BadInput(
            f"the tumour has only {len(values)} voxels with an ADC", "first visit", "at least 10 are needed"
        )
    minimum = float(np.quantile(values, quantile))
    spread = float(np.median(np.abs(values - np.median(values)))) / stats.norm.ppf(0.75)
    bias = low_quantile_bias(noise_sd, float(np.sqrt(max(spread**2 - noise_sd**2, 0.0))), quantile)
    minimum -= bias
    if not 0.0 < minimum < water:
        raise BadInput(
            f"the tumour's lowest ADC is {minimum:.3g} mm2/s, not between 0 and free water's {water:.3g}",
            "first visit",
            "check the unit of the ADC image and the tumour mask",
        )
    independent = max(len(values) / correlated, 2.0)
    width = np.sqrt(quantile * (1.0 - quantile) / independent)
    low, high = np.quantile(values, np.clip([quantile - width, quantile + width], 0.0, 1.0))
    return AdcScale(water, minimum, float(np.linalg.norm([(high - low) / 2.0, wcv * minimum, bias / 2.0])))


def cellularity(adc: np.ndarray, scale: AdcScale) -> np.ndarray:
    """Cellularity as a fraction of carrying capacity, any shape, not clipped (noise goes beyond 0 and 1)."""
    return (scale.water - adc) / (scale.water - scale.minimum)


def adc_of(n: Any, water: Any, minimum: Any) -> Any:
    """ADC of a cellularity, mm2/s: the inverse of :func:`cellularity`, for NumPy and JAX arrays."""
    return water - (water - minimum) * n


def cellularity_sd(
    adc: np.ndarray, adc_sd: np.ndarray | float, scale: AdcScale
) -> tuple[np.ndarray, np.ndarray]:
    """First-order uncertainty of the cellularity.

    Parameters
    ----------
    adc : ndarray
        mm2/s.
    adc_sd : ndarray or float
        Standard deviation of the ADC, mm2/s.
    scale : AdcScale

    Returns
    -------
    own : ndarray
        Standard deviation from the ADC's own error, ``adc_sd / (ADC_w - ADC_min)``.
    shared : ndarray
        Standard deviation from ADC_min, ``|N| sd(ADC_min) / (ADC_w - ADC_min)``, fully correlated over
        the voxels and visits of a patient.
    """
    span = scale.water - scale.minimum
    own = np.broadcast_to(np.asarray(adc_sd, dtype=float) / span, np.shape(adc)).copy()
    return own, np.abs(cellularity(adc, scale)) * scale.minimum_sd / span


def minimum_prior(scale: AdcScale) -> tuple[float, float]:
    """Median and standard deviation of the logarithm of a log-normal prior for ADC_min."""
    return scale.minimum, float(np.sqrt(np.log1p((scale.minimum_sd / scale.minimum) ** 2)))


def clipped_mass(n: np.ndarray) -> tuple[float, float]:
    """What clipping to [0, 1] would add and take: sums of ``max(-N, 0)`` and ``max(N - 1, 0)``."""
    return float(np.clip(-n, 0, None).sum()), float(np.clip(n - 1, 0, None).sum())


def low_quantile_bias(noise_sd: float, tissue_sd: float, quantile: float) -> float:
    """How far voxel noise alone moves a low quantile of normal tissue values, mm2/s (negative).

    With tissue sd ``s`` and noise ``e`` the quantile lies ``z_q (sqrt(s^2 + e^2) - s)`` too low.
    """
    return float(stats.norm.ppf(quantile) * (np.hypot(tissue_sd, noise_sd) - tissue_sd))
