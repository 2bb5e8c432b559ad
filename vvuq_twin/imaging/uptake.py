"""PET and SPECT: decay, standardised uptake values, and activity from counts."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..domain.errors import BadInput, near
from ..domain.units import convert
from ..kinetics.activity import decay_rate

Sex = Literal["female", "male"]


@cache
def _lean() -> dict[str, Any]:
    import yaml

    text = resources.files("vvuq_twin").joinpath("library/lean_body_mass.yaml").read_text(encoding="utf-8")
    return {k: v for k, v in yaml.safe_load(text).items() if isinstance(v, dict)}


def decayed(activity: ArrayLike, elapsed: float, half_life: float) -> np.ndarray:
    """Activity after a time; a negative time goes back. ``elapsed`` and ``half_life`` in one unit."""
    return np.asarray(np.asarray(activity, dtype=float) * np.exp(-decay_rate(half_life) * elapsed))


def frame_decay(start: ArrayLike, duration: ArrayLike, half_life: float) -> np.ndarray:
    """What decay leaves of an average over frames, relative to time zero: the mean of ``exp(-lambda t)``.

    Divide a frame's measured average by it to correct it for decay to time zero; all times in one unit.
    """
    rate = decay_rate(half_life)
    a = rate * np.asarray(duration, dtype=float)
    if (a <= 0).any():
        raise BadInput("a frame's duration is not positive", "decay correction")
    return np.asarray(np.exp(-rate * np.asarray(start, dtype=float)) * -np.expm1(-a) / a)


def lean_body_mass(mass: float, height: float, sex: Sex) -> float:
    """Lean body mass in kg after Janmahasatian et al. 2005, from mass (kg) and height (m).

    Raises
    ------
    BadInput
        If mass or height cannot be a person's in kg and m.
    """
    table = _lean()
    if sex not in table:
        raise BadInput(f"the sex '{sex}' is not known", "lean body mass", near(sex, table))
    if not 0.3 < height < 2.6:
        raise BadInput(f"the height is {height:g} m", "lean body mass", "give it in metres")
    if not 1.0 < mass < 500.0:
        raise BadInput(f"the mass is {mass:g} kg", "lean body mass", "give it in kg")
    known = table[sex]
    return float(known["top"] * mass / (known["base"] + known["slope"] * mass / height**2))


def suv(
    activity: np.ndarray,
    injected: float,
    mass: float,
    *,
    unit: str = "Bq/mL",
    half_life: float | None = None,
    since_injection: float = 0.0,
) -> np.ndarray:
    """Standardised uptake value, g/mL: activity concentration over injected activity per body mass.

    Parameters
    ----------
    activity : ndarray
        Activity concentration, in ``unit``.
    injected : float
        Bq at injection, residue in the syringe subtracted.
    mass : float
        kg: body mass, or :func:`lean_body_mass` for the lean SUV (SUL).
    unit : str
        Of ``activity``; it is declared, never guessed.
    half_life, since_injection : float, optional
        s. The time from injection to which the image is decay-corrected (the scan's start for DICOM's START, zero
        for ADMIN). The injected activity is decayed by it.

    Raises
    ------
    BadInput
        If the unit is no activity concentration, or the injected activity or the mass is not positive.
    """
    if not injected > 0:
        raise BadInput(
            f"the injected activity is {injected:g} Bq", "SUV", "give the activity at injection in Bq"
        )
    if not 1.0 < mass < 500.0:
        raise BadInput(f"the mass is {mass:g} kg", "SUV", "give it in kg")
    if since_injection and half_life is None:
        raise BadInput(
            "the scan is later than the injection but no half-life is given", "SUV", "give the half-life"
        )
    left = injected if half_life is None else float(decayed(injected, since_injection, half_life))
    concentration = convert(np.asarray(activity, dtype=float), unit, "Bq/mL", "SUV")
    return np.asarray(concentration / (left / (1000.0 * mass)))


def activity_of_counts(
    counts: np.ndarray, seconds: float, sensitivity: float, voxel_volume: float
) -> tuple[np.ndarray, np.ndarray]:
    """Activity concentration from reconstructed counts, and its Poisson standard error.

    Parameters
    ----------
    counts : ndarray
        Per voxel, corrected for scatter and attenuation.
    seconds : float
        Duration.
    sensitivity : float
        Counts per second and Bq (the camera's calibration, per 1 Bq: 9e-6 is 9 cps/MBq).
    voxel_volume : float
        mm3.

    Returns
    -------
    activity, error : ndarray
        Bq/mL. The error is that of as many counts, a lower bound: reconstruction correlates voxels and adds noise.

    Raises
    ------
    BadInput
        If a factor is not positive or counts are negative.
    """
    if not min(seconds, sensitivity, voxel_volume) > 0:
        raise BadInput(
            "the duration, the sensitivity or the voxel volume is not positive", "SPECT calibration"
        )
    if (counts < 0).any():
        raise BadInput(
            f"{int((counts < 0).sum())} voxels hold negative counts", "SPECT", "give corrected counts"
        )
    scale = 1.0 / (seconds * sensitivity * voxel_volume * 1e-3)
    return counts * scale, np.sqrt(counts) * scale
