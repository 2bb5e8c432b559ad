"""The three parts of a scan's error: scan-level repeatability, voxel noise, smooth representation error."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from scipy import special

from ..domain.errors import BadInput, near
from ..domain.observations import ObservationError
from .modes import smooth_modes


@dataclass(frozen=True)
class Repeatability:
    """Within-subject coefficient of variation of a region's mean, and where it was read."""

    wcv: float
    source: str


@cache
def _table() -> dict[str, dict[str, Repeatability]]:
    import yaml

    text = resources.files("vvuq_twin").joinpath("library/repeatability.yaml").read_text(encoding="utf-8")
    return {
        modality: {organ: Repeatability(float(e["wcv"]), e["source"]) for organ, e in organs.items()}
        for modality, organs in yaml.safe_load(text).items()
    }


def repeatability(modality: str, organ: str) -> Repeatability:
    """The scan-level repeatability of a modality in an organ (library/repeatability.yaml).

    Raises
    ------
    BadInput
        If there is none for this modality or organ: it is not guessed from another organ's.
    """
    table = _table()
    if modality not in table:
        raise BadInput(f"no repeatability is known for '{modality}'", "repeatability", near(modality, table))
    organs = table[modality]
    if organ not in organs and "any" not in organs:
        raise BadInput(
            f"no repeatability of {modality} is known for '{organ}'", "repeatability", near(organ, organs)
        )
    return organs.get(organ) or organs["any"]


def bright_part(image: np.ndarray, share: float = 0.1, percent: float = 98.0) -> np.ndarray:
    """Voxels above a share of a high percentile: the body, without the air around it. Missing voxels are not of it."""
    there = np.isfinite(image)
    if not there.any():
        return there
    with np.errstate(invalid="ignore"):
        return np.asarray(image > share * np.percentile(image[there], percent))


@dataclass(frozen=True)
class VoxelNoise:
    """Noise of single voxels.

    Parameters
    ----------
    sd : float
        Standard deviation, in the image's unit.
    relative_error : float
        Standard error of ``sd`` over ``sd``, for white noise.
    differences : int
        How many local differences it rests on.
    axes : tuple of int
        Along which axes they were taken.
    """

    sd: float
    relative_error: float
    differences: int
    axes: tuple[int, ...]


def voxel_noise(
    image: np.ndarray, mask: np.ndarray, spacing: tuple[float, ...] | None = None, least: int = 50
) -> VoxelNoise:
    """Standard deviation of the voxel noise, estimated from the image itself.

    The second difference [1, -2, 1] along two axes at once removes every signal of the form
    ``f(x) + g(y)``, and any smooth signal up to fourth order in the voxel size; of white noise it
    leaves ``6 sd``. The median absolute value of it over the mask is robust against edges
    (J. Immerkaer 1996, Computer Vision and Image Understanding 64:300, with the median of Donoho's
    wavelet estimate in place of the mean).

    Parameters
    ----------
    image : ndarray, shape (i, j, k)
    mask : ndarray of bool, same shape
        Where the noise is wanted; only differences wholly inside count.
    spacing : tuple of float, optional
        Voxel size: the two finest axes are preferred, since signals are smoothest along them.
    least : int
        Differences needed before fewer axes are tried.

    Returns
    -------
    VoxelNoise

    Raises
    ------
    BadInput
        If the mask is too thin in every direction.

    Notes
    -----
    White noise is assumed. Interpolated or filtered images have correlated noise, of which local
    differences see too little: the estimate is then a lower bound. Noise of single voxels of a
    magnitude image is Rician; at a signal below three times the noise it is not normal.
    """
    valid = mask & np.isfinite(image)
    values = np.where(valid, image, 0.0).astype(np.float64)
    order = [
        int(a) for a in np.argsort(spacing if spacing is not None else np.zeros(image.ndim), kind="stable")
    ]
    pairs = [(a, b) for i, a in enumerate(order) for b in order[i + 1 :]]
    for axes in [*pairs, *((a,) for a in order)]:
        if any(image.shape[a] < 3 for a in axes):
            continue
        found, inside = values, valid
        for axis in axes:
            low, mid, high = (_part(found, axis, s) for s in (0, 1, 2))
            found = low - 2.0 * mid + high
            inside = _part(inside, axis, 0) & _part(inside, axis, 1) & _part(inside, axis, 2)
        differences = found[inside]
        if len(differences) < least:
            continue
        scale = np.sqrt(6.0) ** len(axes) * special.ndtri(0.75)
        sd = float(np.median(np.abs(differences)) / scale)
        # the median absolute value is 37 % efficient; neighbouring differences share voxels
        shared = (70.0 / 36.0) ** len(axes)
        return VoxelNoise(sd, float(np.sqrt(shared / (2 * 0.37 * len(differences)))), len(differences), axes)
    raise BadInput(
        "the voxel noise cannot be estimated: the mask is too small or thin for local differences",
        "voxel noise", "use a larger mask (the organ) or give the noise",
    )  # fmt: skip


def _part(array: np.ndarray, axis: int, start: int) -> np.ndarray:
    stop = array.shape[axis] - 2 + start
    return array[(slice(None),) * axis + (slice(start, stop),)]


@dataclass(frozen=True)
class Representation:
    """What the model cannot represent: model form, reduction, structure below the voxel.

    Parameters
    ----------
    sd : float
        Standard deviation of its smooth part, in the observation's unit.
    length : float
        Correlation length, mm.
    local_sd : float
        Standard deviation of a part without correlation.
    modes : int
        Smooth modes kept; what they leave out goes to the independent part.
    """

    sd: float
    length: float
    local_sd: float = 0.0
    modes: int = 32


def scan_error(
    level: np.ndarray,
    coords: np.ndarray,
    voxel_sd: float | np.ndarray,
    wcv: float,
    representation: Representation,
) -> ObservationError:
    """The three-part error of one scan (an ADC map).

    Parameters
    ----------
    level : ndarray, shape (m,)
        Observed or, better, predicted values: the scan-level error is ``wcv`` times them.
    coords : ndarray, shape (m, 3)
        mm.
    voxel_sd : float or ndarray, shape (m,)
        Voxel noise, in the unit of ``level``.
    wcv : float
        Within-subject coefficient of variation: one fully correlated column.
    representation : Representation

    Returns
    -------
    ObservationError
        The variance of each observation is exactly ``voxel_sd^2 + (wcv level)^2 + sd^2 + local_sd^2``.

    Raises
    ------
    BadInput
        If a value is missing or a standard deviation is not positive.
    """
    level = np.asarray(level, dtype=float)
    if not np.isfinite(level).all():
        raise BadInput("a value is missing", "observation error", "leave missing pixels out first")
    modes, left = smooth_modes(coords, representation.sd, representation.length, representation.modes)
    independent = np.sqrt(np.square(voxel_sd) + representation.local_sd**2 + left)
    return ObservationError(np.broadcast_to(independent, level.shape).copy(), (wcv * level)[:, None], modes)
