"""The first scan's cellularity as an uncertain field: a mean and modes of one standard deviation each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..domain.errors import BadInput
from ..domain.grid import Grid
from .modes import smooth_modes


@dataclass(frozen=True)
class InitialSettings:
    """How the first scan becomes a field.

    Parameters
    ----------
    adc_water : float
        mm2/s.
    detection : float
        Cellularity at the edge of the visible tumour.
    modes : int
        All of them: what ADC_min's error does, what the scan's gain does, the length of the invisible tail,
        then smooth patterns.
    sd : float
        Standard deviation of the cellularity where it is half of capacity.
    length : float
        Correlation length of the smooth patterns, mm.
    tail, tail_sd_log : float
        Median length over which cellularity falls outside the visible edge (mm), sd of its logarithm.
    wcv : float
        Within-subject coefficient of variation of the scan's gain.
    adc_min_sd_log : float
        Standard deviation of the logarithm of ADC_min.
    """

    adc_water: float
    detection: float
    modes: int
    sd: float
    length: float
    tail: float
    tail_sd_log: float
    wcv: float
    adc_min_sd_log: float


def adc_floor(adc: np.ndarray, tumour: np.ndarray, quantile: float = 0.02) -> float:
    """A robust low quantile of the smoothed ADC in the tumour, the centre of ``ADC_min``'s prior.

    Raises
    ------
    BadInput
        If the tumour has no finite voxel.
    """
    inside = tumour & np.isfinite(adc)
    if not inside.any():
        raise BadInput("no voxel of the tumour has a finite ADC", "first visit")
    return float(np.quantile(_smooth_inside(adc, inside, 1.0)[inside], quantile))


def initial_field(
    grid: Grid,
    organ: np.ndarray,
    adc: np.ndarray,
    tumour: np.ndarray,
    adc_min: float,
    settings: InitialSettings,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and modes of the initial cellularity.

    Parameters
    ----------
    grid : Grid
    organ : ndarray of bool, grid.shape
    adc : ndarray, grid.shape
        mm2/s; NaN where missing.
    tumour : ndarray of bool, grid.shape
        Visible tumour.
    adc_min : float
        Centre of the prior of the ADC at capacity, mm2/s.
    settings : InitialSettings

    Returns
    -------
    mean : ndarray, shape (n,)
        On the organ's voxels in C order.
    modes : ndarray, shape (settings.modes, n)

    Raises
    ------
    BadInput
        If the visible tumour is empty or lies outside the organ.

    Notes
    -----
    Inside the outline the measured cellularity, lightly smoothed with the outline as the edge. Outside
    it, the front of a Fisher wave: ``n_detect exp(-distance / tail)``, ``tail`` about ``sqrt(D/k)``. The
    first mode is the derivative by the logarithm of ADC_min: its score *is* that parameter's, so that
    the two must be made to go together (a Gaussian copula). The smooth patterns carry the envelope
    ``2 sqrt(N (1 - N))``: where nothing or everything is tumour, nothing varies. The first scan is spent
    on this field: assimilating it again would count it twice.
    """
    tumour = tumour & organ
    if not tumour.any():
        raise BadInput("the tumour mask is empty or outside the organ", "first visit")
    s = settings
    measured = (s.adc_water - adc) / (s.adc_water - adc_min)
    inside = tumour & np.isfinite(adc)
    smooth = np.clip(_smooth_inside(np.where(inside, measured, np.nan), inside, 0.5), s.detection, 0.98)
    nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    smooth = smooth[tuple(nearest)]
    distance = ndimage.distance_transform_edt(~tumour, sampling=grid.spacing)
    away = np.maximum(distance - 0.5 * min(grid.spacing), 0.0)
    tail = np.where(away < 8.0 * s.tail, s.detection * np.exp(-away / s.tail), 0.0)
    field = np.where(tumour, smooth, tail)[organ]

    envelope = 2.0 * np.sqrt(field * (1.0 - field))
    outside = ~tumour[organ]
    modes = np.zeros((s.modes, field.size))
    modes[0] = field * adc_min / (s.adc_water - adc_min) * s.adc_min_sd_log
    shown = (s.adc_water - (s.adc_water - adc_min) * field) / (s.adc_water - adc_min)
    modes[1] = np.where(outside, 0.0, -s.wcv * shown)
    modes[2] = np.where(outside, field * (away / s.tail)[organ] * s.tail_sd_log, 0.0)
    where = np.flatnonzero(field > 0.02)
    points = grid.points(organ)[where]
    patterns, _ = smooth_modes(points, s.sd, s.length, s.modes - 3)
    modes[3 : 3 + patterns.shape[1], where] = envelope[where] * patterns.T
    return field, modes


def _smooth_inside(field: np.ndarray, inside: np.ndarray, voxels: float) -> np.ndarray:
    """Gaussian mean over the voxels of ``inside`` only."""
    weight = ndimage.gaussian_filter(inside.astype(float), voxels)
    total = ndimage.gaussian_filter(np.where(inside, field, 0.0), voxels)
    return np.where(inside, total / np.maximum(weight, 1e-12), np.nan)
