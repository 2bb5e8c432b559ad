"""The arterial input measured in the images: vessel voxels (the user's mask, or candidates) to a plasma curve.

Blood flows into the slices before it has seen enough pulses to be in the steady state, which brightens its baseline
and hides its enhancement. The baseline may therefore be computed from the magnetisation M0 of the tissue around the
vessel and the T1 of blood instead of being read in the vessel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from scipy import ndimage

from ..domain.errors import BadInput, near
from ..domain.units import convert
from .contrast import concentration
from .t1 import spoiled_gradient_echo


@cache
def blood_constants(field: str = "1.5 T") -> tuple[float, float]:
    """T1 of arterial blood (s) at a field strength and the haematocrit, from the package's library (blood.yaml).

    Raises
    ------
    BadInput
        If the field strength is not in the library.
    """
    import yaml

    table: Any = yaml.safe_load(
        resources.files("vvuq_twin").joinpath("library/blood.yaml").read_text(encoding="utf-8")
    )
    if field not in table["t1"]:
        raise BadInput(f"no T1 of blood is known at '{field}'", "blood", near(field, table["t1"]))
    t1 = table["t1"][field]
    return float(convert(float(t1["value"]), t1["unit"], "s")), float(table["haematocrit"]["value"])


def vessel_candidates(
    signal: np.ndarray, baseline: int, body: np.ndarray, voxels: int = 60, largest: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Voxels whose signal rises early, high and fast, and falls again: a proposal for a person to look at.

    The score is the enhancement's peak times its steepest rise over the time it takes to the peak, times the share
    of the peak that is gone at the end; in voxels of the body that are steady before the agent.

    Parameters
    ----------
    signal : ndarray, shape (T, ni, nj, nk)
    baseline : int
        Frames before the agent.
    body : ndarray of bool, shape (ni, nj, nk)
    voxels : int
        How many of the best voxels are kept before the largest connected group is chosen.
    largest : bool
        Keep only the connected group (26 neighbours) with the greatest total score.

    Returns
    -------
    mask : ndarray of bool, shape (ni, nj, nk)
    score : ndarray, shape (ni, nj, nk)
        Zero where the voxel is no candidate.

    Raises
    ------
    BadInput
        If nothing enhances.
    """
    before = signal[:baseline].mean(axis=0)
    rise = signal[baseline:] - before
    noise = (
        np.diff(signal[:baseline], axis=0).std(axis=0) / np.sqrt(2.0)
        if baseline > 2
        else np.zeros_like(before)
    )
    peak, when = rise.max(axis=0), rise.argmax(axis=0)
    steep = np.diff(signal[baseline - 1 :], axis=0).max(axis=0)
    late = rise[-max(len(rise) // 5, 1) :].mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        gone = np.clip(1.0 - late / peak, 0.0, 1.0)
        steady = (peak > 5.0 * noise) & (before > 0)
        score = np.where(body & steady & (peak > 0), peak * steep / (when + 1.0) * gone, 0.0)
    score[~np.isfinite(score)] = 0.0
    if not (score > 0).any():
        raise BadInput(
            "no voxel enhances and washes out as a vessel does", "arterial input", "give a vessel mask"
        )
    count = min(voxels, int((score > 0).sum()))
    mask = score >= np.partition(score.ravel(), -count)[-count]
    if largest:
        labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
        total = ndimage.sum_labels(score, labels, np.arange(1, labels.max() + 1))
        mask = labels == int(np.argmax(total)) + 1
    return mask, score


@dataclass(frozen=True)
class VesselCurve:
    """An arterial input measured in a vessel.

    Parameters
    ----------
    plasma : ndarray, shape (T,)
        mM.
    error : ndarray, shape (T,)
        Standard error of the mean over the voxels, mM: noise alone, not partial volume or inflow.
    voxels : int
    saturated : int
        Samples of single voxels beyond what any concentration gives; left out of the mean.
    baseline_ratio : float
        Baseline read in the vessel over the one used: above one where blood flows in.
    """

    plasma: np.ndarray
    error: np.ndarray
    voxels: int
    saturated: int
    baseline_ratio: float


def measured_input(
    signal: np.ndarray,
    mask: np.ndarray,
    baseline: int,
    t1_blood: float,
    haematocrit: float,
    flip: Any,
    repetition_time: float,
    relaxivity: float,
    surroundings: np.ndarray | None = None,
) -> VesselCurve:
    """Plasma concentration in a vessel.

    Parameters
    ----------
    signal : ndarray, shape (T, ni, nj, nk)
    mask : ndarray of bool, shape (ni, nj, nk)
        The vessel.
    baseline : int
        Frames before the agent.
    t1_blood : float
        s.
    haematocrit : float
        Plasma is whole blood over one minus this.
    flip : float or ndarray, shape (ni, nj, nk)
        Radians.
    repetition_time, relaxivity : float
        s, 1/(mM s).
    surroundings : ndarray, shape (ni, nj, nk), optional
        M0 of the tissue (from the T1 map, at the dynamic series' gain). Given, the vessel's baseline is computed
        from the median M0 in a ring of two to four voxels around it; otherwise it is read in the vessel.

    Raises
    ------
    BadInput
        If the mask is empty, or most of the vessel is saturated in some frame.
    """
    if not mask.any():
        raise BadInput("the vessel mask is empty", "arterial input", "outline a vessel or leave the mask out")
    own = signal[:, mask]
    read = own[:baseline].mean(axis=0)
    angle = np.broadcast_to(np.asarray(flip, dtype=float), mask.shape)[mask]
    base = read
    if surroundings is not None:
        ring = ndimage.binary_dilation(mask, iterations=4) & ~ndimage.binary_dilation(mask, iterations=1)
        m0 = surroundings[ring & np.isfinite(surroundings)]
        if not m0.size:
            raise BadInput(
                "there is no tissue with M0 around the vessel", "arterial input", "read its own baseline"
            )
        base = spoiled_gradient_echo(float(np.median(m0)), 1.0 / t1_blood, angle, repetition_time)
    c = concentration(own, base, t1_blood, angle, repetition_time, relaxivity)
    lost = np.isnan(c)
    if (lost.mean(axis=1) > 0.5).any():
        frame = int(np.argmax(lost.mean(axis=1)))
        raise BadInput(
            f"most of the vessel is saturated in frame {frame + 1}", "arterial input",
            "use a population input, or a vessel in which the agent is more dilute",
        )  # fmt: skip
    there = (~lost).sum(axis=1)
    mean = np.nansum(c, axis=1) / there
    spread = np.sqrt(np.nansum((c - mean[:, None]) ** 2, axis=1) / np.maximum(there - 1, 1) / there)
    plasma = 1.0 / (1.0 - haematocrit)
    return VesselCurve(
        mean * plasma, spread * plasma, int(mask.sum()), int(lost.sum()), float(np.median(read / base))
    )
