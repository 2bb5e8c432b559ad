"""A dynamic PET series to net uptake (Patlak) per voxel and the two-tissue model of the tumour's mean curve."""

from __future__ import annotations

import numpy as np

from ..domain.errors import BadInput
from ..kinetics.fit import TracerFit, fit_tracer
from ..kinetics.graphical import patlak_plot
from ..kinetics.tracer import TWO_TISSUE_IRREVERSIBLE
from .noise import bright_part
from .perfusion_maps import QuantityMap


def uptake_maps(
    series: np.ndarray,
    starts: np.ndarray,
    durations: np.ndarray,
    artery: np.ndarray,
    tumour: np.ndarray | None = None,
    plasma_ratio: float = 1.0,
) -> tuple[dict[str, QuantityMap], TracerFit | None, dict[str, float | str]]:
    """Patlak maps with an input measured in the images, and the two-tissue fit of the tumour.

    The plot starts at half of the scan. The input is the artery's mean, taken at the middle of each frame, zero at
    the injection (the first frame's start).

    Parameters
    ----------
    series : ndarray, shape (T, i, j, k)
        Bq/mL, corrected for decay to one time.
    starts, durations : ndarray, shape (T,)
        s after injection, s.
    artery : ndarray of bool, shape (i, j, k)
    tumour : ndarray of bool, shape (i, j, k), optional
    plasma_ratio : float
        Plasma over whole blood.

    Raises
    ------
    BadInput
        If frames and times do not fit, the artery is empty or shows nothing, or too few frames come late.
    """
    if not (len(series) == len(starts) == len(durations)) or (durations <= 0).any():
        raise BadInput(
            f"{len(series)} frames came with {len(starts)} starts and {len(durations)} durations", "dynamic PET",
            "give one of each a frame",
        )  # fmt: skip
    if not artery.any():
        raise BadInput("the artery's mask is empty", "dynamic PET", "outline an artery or the left ventricle")
    frames = np.stack([starts, starts + durations], axis=1) / 60.0
    curve = series[:, artery].mean(axis=1)
    if not (curve > 0).any():
        raise BadInput("the artery shows no activity", "dynamic PET", "check its outline and the image")
    times = np.concatenate([[0.0], frames.mean(axis=1), [frames[-1, 1]]])
    blood = np.concatenate([[0.0], np.maximum(curve, 0.0), [max(float(curve[-1]), 0.0)]])
    times, keep = np.unique(times, return_index=True)
    blood = blood[keep]
    body = bright_part(series.mean(axis=0), 0.05, 99.5)
    start = float(frames[-1, 1]) / 2.0
    plot = patlak_plot(series[:, body].T, blood * plasma_ratio, times, start, frames=frames)
    maps = {}
    for name, values, error, unit in (("ki", plot.ki, plot.ki_se, "1/min"), ("v0", plot.v0, plot.v0_se, "1")):
        one = QuantityMap(np.full(body.shape, np.nan), np.full(body.shape, np.nan), unit)
        one.values[body], one.error[body] = values, error
        maps[name] = one
    numbers: dict[str, float | str] = {"patlak_from_min": start, "artery_voxels": float(artery.sum())}
    fit = None
    if tumour is not None and (tumour & body).any():
        mean = series[:, tumour & body].mean(axis=1)
        fit = fit_tracer(
            TWO_TISSUE_IRREVERSIBLE, mean[None], blood * plasma_ratio, times, blood=blood, frames=frames
        )
        for name, found in fit.values.items():
            numbers[f"tumour_{name}"] = float(found[0])
            numbers[f"tumour_{name}_error"] = float(fit.errors[name][0])
        numbers["tumour_ki_patlak_median"] = float(np.nanmedian(maps["ki"].values[tumour]))
    return maps, fit, numbers
