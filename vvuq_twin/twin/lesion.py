"""A scalar twin of one lesion: log diameter, its trend, and how a reading of it comes about.

State ``(x, b)``: ``x = ln(d / mm)`` and a trend ``b`` per reference interval. Over an interval of
``s`` reference intervals the trend reverts to the drift of the population and the size follows it,

    db = -(b - drift) ds / time + sqrt(2 / time) trend_sd dW_b,      dx = b ds + v dW_x,

a linear stochastic equation whose transition is exact (:func:`transition`). With probability
``jump`` an interval also holds a jump of ``x`` (heavy tails). A reading is either a copy of the one
before (probability ``copy`` of the patient), or fresh: the diameter with multiplicative error, rounded.
A lesion may vanish with a probability that falls with its size. Volatility ``v`` and copy probability
differ between patients: each is a hidden constant on a Gauss-Hermite grid (:func:`nodes`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from scipy import special

#: Days of one reference interval; the unit of time of the trend and the volatility.
INTERVAL_DAYS = 42.0

#: Diameter (mm) at which the volatility is the patient's own (see ``size_power``).
REFERENCE_MM = 30.0


@dataclass(frozen=True)
class LesionPopulation:
    """What is common to all patients.

    Parameters
    ----------
    volatility : float
        Median over patients of the standard deviation of ``ln d`` gained in one reference interval.
    volatility_spread : float
        Standard deviation over patients of its logarithm.
    size_power : float
        The volatility of a lesion of diameter d is ``v (d / 30 mm)^-size_power``.
    reading : float
        Standard deviation of a fresh reading of ``ln d``, beside rounding.
    jump, jump_sd, jump_mean : float
        Probability of a jump of ``ln d`` in an interval between scans, and its moments.
    copy, copy_spread : float
        Copy probability of the median patient; standard deviation over patients of its logit.
    drift : float
        Mean trend (``ln d`` per reference interval) the trends revert to.
    start, start_sd : float
        Mean and standard deviation over patients of the trend at the first scan.
    trend_sd, trend_time : float
        Stationary standard deviation of the trend and its correlation time (reference intervals).
    vanish, vanish_power : float
        Probability that a lesion read at 10 mm is gone at the next scan, and the power of its odds:
        ``odds = odds_10 (10 mm / d)^vanish_power``.
    return_ : float
        Probability that a vanished lesion is seen again at the next scan.
    """

    volatility: float = 0.06
    volatility_spread: float = 0.6
    size_power: float = 0.1
    reading: float = 0.03
    jump: float = 0.08
    jump_sd: float = 0.35
    jump_mean: float = -0.05
    copy: float = 0.2
    copy_spread: float = 0.8
    drift: float = 0.0
    start: float = -0.03
    start_sd: float = 0.1
    trend_sd: float = 0.04
    trend_time: float = 4.0
    vanish: float = 0.03
    vanish_power: float = 2.0
    return_: float = 0.02

    def vector(self) -> np.ndarray:
        """Unconstrained coordinates, shape (p,): logarithms and logits where a value is bounded."""
        return np.array([_INWARD[_KIND.get(f.name, "log")](getattr(self, f.name)) for f in fields(self)])

    @classmethod
    def from_vector(cls, vector: np.ndarray) -> LesionPopulation:
        """The inverse of :meth:`vector`."""
        pairs = zip(fields(cls), vector)
        return cls(**{f.name: float(_OUTWARD[_KIND.get(f.name, "log")](v)) for f, v in pairs})

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the coordinates, in the order of :meth:`vector`."""
        return tuple(f.name for f in fields(cls))


_KIND = {
    "jump": "logit", "copy": "logit", "vanish": "logit", "return_": "logit",
    "jump_mean": "linear", "drift": "linear", "start": "linear", "size_power": "linear",
}  # fmt: skip
_INWARD: dict[str, Callable[[float], float]] = {"log": np.log, "logit": special.logit, "linear": float}
_OUTWARD: dict[str, Callable[[float], float]] = {"log": np.exp, "logit": special.expit, "linear": float}


@dataclass(frozen=True)
class Nodes:
    """The grid of patient constants, flattened: K nodes with prior log weights.

    Parameters
    ----------
    volatility, copy, log_weight : ndarray, shape (K,)
    """

    volatility: np.ndarray
    copy: np.ndarray
    log_weight: np.ndarray


def nodes(population: LesionPopulation, volatilities: int = 7, copies: int = 4) -> Nodes:
    """Gauss-Hermite grid of the patient's volatility (log-normal) and copy probability (logit-normal)."""
    zv, wv = np.polynomial.hermite_e.hermegauss(volatilities)
    zc, wc = np.polynomial.hermite_e.hermegauss(copies)
    v = population.volatility * np.exp(population.volatility_spread * zv)
    c = special.expit(special.logit(population.copy) + population.copy_spread * zc)
    weight = np.log(np.outer(wv / wv.sum(), wc / wc.sum())).ravel()
    return Nodes(np.repeat(v, copies), np.tile(c, volatilities), weight)


def transition(
    population: LesionPopulation, days: np.ndarray, volatility: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exact transition of ``(x, b)`` over an interval without a jump.

    Parameters
    ----------
    population : LesionPopulation
    days : ndarray, shape (...)
        Length of the interval.
    volatility : ndarray, shape (...)
        Broadcast against ``days``.

    Returns
    -------
    matrix : ndarray, shape (..., 2, 2)
    shift : ndarray, shape (..., 2)
    noise : ndarray, shape (..., 2, 2)
        ``z' = matrix z + shift + N(0, noise)``.

    Notes
    -----
    Integrated Ornstein-Uhlenbeck process (e.g. Gillespie 1996, Phys. Rev. E 54:2084, eqs. 1.6-1.9), plus a
    Wiener term on ``x``. With ``e = exp(-s/T)``: ``Var b = q (1 - e^2)``, ``Cov = q T (1 - e)^2``,
    ``Var x = q T (2 s - T (3 - e)(1 - e))`` where q is the stationary variance.
    """
    s, v = np.broadcast_arrays(np.asarray(days, dtype=float) / INTERVAL_DAYS, np.asarray(volatility))
    time, q = population.trend_time, population.trend_sd**2
    loss = -np.expm1(-s / time)
    zero, one = np.zeros_like(s), np.ones_like(s)
    matrix = np.stack([np.stack([one, time * loss], -1), np.stack([zero, 1.0 - loss], -1)], -2)
    shift = population.drift * np.stack([s - time * loss, loss], -1)
    var_x = q * time * np.maximum(2.0 * s - time * (2.0 + loss) * loss, 0.0) + v**2 * s
    cov = q * time * loss**2
    var_b = q * loss * (2.0 - loss)
    return matrix, shift, np.stack([np.stack([var_x, cov], -1), np.stack([cov, var_b], -1)], -2)


def size_factor(population: LesionPopulation, diameter_mm: np.ndarray) -> np.ndarray:
    """What the volatility of a lesion of this diameter is multiplied by."""
    return np.asarray((np.maximum(diameter_mm, 1.0) / REFERENCE_MM) ** -population.size_power)


def vanish_probability(population: LesionPopulation, diameter_mm: np.ndarray) -> np.ndarray:
    """Probability that a lesion last read at this diameter (> 0) is not seen at the next scan."""
    logit = special.logit(population.vanish)
    return np.asarray(special.expit(logit - population.vanish_power * np.log(np.maximum(diameter_mm, 1.0) / 10.0)))
