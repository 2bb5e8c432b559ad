"""The error of a map of exchange with plasma as a log-normal random field of a few modes.

``K(x) = map(x) exp(sum_q z_q m_q(x))`` with standard normal scores z: the map is the median everywhere, and no value is ever
negative. The m_q are Karhunen-Loeve modes: the leading eigenvectors of the covariance ``sd(x) sd(y) exp(-|x - y|^2/(2 length^2))``
of the logarithm, sd from the map's own standard error or stated. The exponential is not affine in the
scores: who needs sums of fixed fields interpolates it (:func:`deviations`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from ..domain.errors import BadInput
from ..domain.keys import member_normals
from ..domain.parameters import Normal, Parameter
from ..imaging.modes import smooth_modes
from ..physics.faces import Faces
from .interpolation import Interpolated, interpolated

#: Of the parameters' names: ``exchange_1`` and so on.
PREFIX = "exchange_"
#: Maps an interpolation is made from, and how much farther than the prior their scores reach.
MAPS, REACH = 1500, 1.2


@dataclass(frozen=True)
class ExchangeModes:
    """Modes of the logarithm of a map.

    Parameters
    ----------
    patterns : ndarray, shape (q, n)
        One standard deviation each, on the active cells.
    carried : float
        Share of the logarithm's variance (its sum over cells) that they carry.
    """

    patterns: np.ndarray
    carried: float


def exchange_modes(faces: Faces, sd: np.ndarray, length: float, modes: int) -> ExchangeModes:
    """Karhunen-Loeve modes of the logarithm of a map.

    Parameters
    ----------
    faces : Faces
    sd : ndarray, shape (n,)
        Standard deviation of the logarithm; 0 where the map is taken as it is.
    length : float
        Correlation length, mm.
    modes : int

    Raises
    ------
    BadInput
        If sd has the wrong shape, is negative or not finite, or the length is not positive.
    """
    sd = np.asarray(sd, dtype=float)
    if sd.shape != (faces.n,) or not np.isfinite(sd).all() or (sd < 0).any():
        raise BadInput("the map's standard deviation is off the cells, negative or not finite", "exchange")
    where = np.flatnonzero(sd > 0)
    patterns = np.zeros((min(modes, len(where)), faces.n))
    if not patterns.size:
        return ExchangeModes(patterns, 1.0 if not len(where) else 0.0)
    # enough smooth fields of one size to hold the leading ones of the size sd(x)
    plain, _ = smooth_modes(faces.grid.points(faces.mask)[where], 1.0, length, 8 * modes + 32)
    factor = sd[where, None] * plain
    turn = np.linalg.svd(factor, full_matrices=False)[2]
    found = (factor @ turn.T)[:, : len(patterns)]
    found *= np.where(found[np.abs(found).argmax(axis=0), np.arange(found.shape[1])] < 0, -1.0, 1.0)
    patterns = patterns[: found.shape[1]]
    patterns[:, where] = found.T
    return ExchangeModes(patterns, float((patterns**2).sum() / (sd**2).sum()))


def fading(faces: Faces, region: np.ndarray, sd: float, rim: float) -> np.ndarray:
    """``sd`` in a region of the cells (bool, (n,)), falling linearly to nothing over a rim of this many mm; (n,)."""
    inside = faces.scatter(np.asarray(region, dtype=float)) > 0
    away = faces.gather(ndimage.distance_transform_edt(~inside, sampling=faces.grid.spacing))
    return np.asarray(sd * np.clip(1.0 - away / rim, 0.0, 1.0))


def log_sd(values: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Standard deviation of the logarithm of a log-normal field with this standard error about these values.

    Zero where the value is not positive or either is missing.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.sqrt(np.log1p((error / values) ** 2))
        return np.where(np.isfinite(found) & (values > 0), found, 0.0)


def exchange_parameters(modes: ExchangeModes, source: str = "") -> tuple[Parameter, ...]:
    """The scores ``exchange_1..q``: independent standard normals."""
    return tuple(
        Parameter(name, "1", Normal(0.0, 1.0), "score of a mode of the exchange map", source)
        for name in score_names(modes.patterns)
    )  # fmt: skip


def score_names(patterns: np.ndarray) -> list[str]:
    """Names of the scores of modes (q, n)."""
    return [f"{PREFIX}{i + 1}" for i in range(len(patterns))]


def require_patterns(patterns: np.ndarray, n: int) -> None:
    """Refuse modes that are not finite fields (q, n).

    Raises
    ------
    BadInput
    """
    if np.ndim(patterns) != 2 or patterns.shape[1] != n or not np.isfinite(patterns).all():
        raise BadInput(
            "the modes of the exchange map are off the cells or not finite", "exchange", "make them again"
        )


def scaling(scores: Any, patterns: Any, xp: Any = np) -> Any:
    """Factors (N, k) on the map at k cells from scores (N, q) and the patterns' values (q, k) there."""
    return xp.exp(scores @ xp.asarray(patterns))


class Vessels(NamedTuple):
    """The vessels' surface over its table value at k cells, and what the scores of its modes change of it.

    Parameters
    ----------
    relative : array, shape (k,)
    patterns : array, shape (q, k)
    """

    relative: Any
    patterns: Any

    def at(self, chosen: np.ndarray) -> Vessels:
        """Some of the cells."""
        return Vessels(self.relative[chosen], self.patterns[:, chosen])

    def surface(self, scores: Any, xp: Any = np) -> Any:
        """Values (N, k) of members with these scores (N, q)."""
        return self.relative * scaling(scores, self.patterns, xp)


def deviations(base: np.ndarray, patterns: np.ndarray, tolerance: float, max_terms: int) -> Interpolated:
    """Empirical interpolation of ``base (exp(sum z m) - 1)``, what the scores change of a map.

    Parameters
    ----------
    base : ndarray, shape (n,)
        The map.
    patterns : ndarray, shape (q, n)
    tolerance : float
        Relative energy of the changes that may be left out.
    max_terms : int

    Returns
    -------
    Interpolated
        Modes (n, k) whose coefficients are the changes at ``points``; none without patterns.
    """
    q = len(patterns)
    if q == 0:
        return Interpolated(np.zeros((len(base), 0)), np.zeros(0, np.int64), 1.0)
    scores = REACH * member_normals(0, "exchange maps", range(MAPS), q)
    return interpolated(base * np.expm1(scores @ patterns), tolerance, max_terms)
