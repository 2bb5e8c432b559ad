"""Scans of a virtual patient: ADC maps, outlines and perfusion maps with realistic error."""

from __future__ import annotations

import numpy as np

from ..domain.grid import Grid
from ..domain.keys import generator
from ..imaging.series import Perfusion, ScanVisit
from .fields import smooth_noise
from .population import Truth, settings


def scan(
    grid: Grid,
    tissue: np.ndarray,
    labels: dict[int, str],
    cellularity: np.ndarray,
    truth: Truth,
    visit: int,
    day: float,
) -> ScanVisit:
    """Image the tumour.

    Parameters
    ----------
    grid : Grid
        The scanner's grid (the twin's).
    tissue : ndarray of int
    labels : dict of int to str
    cellularity : ndarray, grid.shape
        True cellularity averaged to the scanner's voxels.
    truth : Truth
    visit : int
        Number of the visit, part of the key of its noise.
    day : float

    Returns
    -------
    ScanVisit

    Notes
    -----
    Inside the visible tumour ``ADC = ADC_w - (ADC_w - ADC_min) N``; outside it fades into that of normal
    tissue. Three errors act on it: a gain common to the whole scan, a smooth texture, voxel noise. The
    outline is a contour of the true cellularity at a threshold that wavers along the edge.
    """
    numbers = settings()["scan"]
    water = numbers["adc_water_mm2_per_s"]
    detection = settings()["at_diagnosis"]["detection"]
    normal = np.full(grid.shape, water)
    for label, name in labels.items():
        normal[tissue == label] = numbers["adc_normal_mm2_per_s"][name]
    # normal tissue shows through where the tumour is thinner than anyone would outline
    visible = np.clip((cellularity / detection - 0.4) / 0.35, 0.0, 1.0)
    adc = visible * (water - (water - truth["adc_min"]) * cellularity) + (1.0 - visible) * normal
    key = (truth.seed, "scan", visit)
    gain = 1.0 + numbers["scan_cv"] * generator(*key, "gain").standard_normal()
    texture = 1.0 + numbers["texture_cv"] * smooth_noise(grid, numbers["texture_length_mm"], *key, "texture")
    noise = 1.0 + numbers["voxel_cv"] * generator(*key, "noise").standard_normal(grid.shape)
    edge = detection + numbers["mask_noise"] * smooth_noise(
        grid, numbers["mask_noise_length_mm"], *key, "edge"
    )
    tumour = (cellularity >= edge) & (tissue > 0)
    return ScanVisit(f"visit-{visit + 1}", float(day), np.maximum(adc * gain * texture * noise, 0.0), tumour)


def perfusion_scan(grid: Grid, ktrans: np.ndarray, truth: Truth) -> Perfusion:
    """Tofts maps with a scan-level and a voxel error on Ktrans; ve is reported flat, as fitted by region."""
    numbers = settings()["perfusion"]
    key = (truth.seed, "perfusion scan")
    gain = np.exp(numbers["scan_cv"] * generator(*key, "gain").standard_normal())
    noise = np.exp(numbers["voxel_cv"] * generator(*key, "noise").standard_normal(grid.shape))
    return Perfusion(ktrans * gain * noise, np.full(grid.shape, numbers["ve"]))
