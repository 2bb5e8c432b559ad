"""A scalar twin of one lesion: log diameter, its trend, and how a reading of it comes about.

State ``(x, b)``: ``x = ln(d / mm)`` and a trend ``b`` per reference interval. Between two scans the lesion
either stands still (with the patient's own probability ``still``; nothing moves and the reading repeats) or
moves. Where it moves for ``s`` reference intervals, the trend reverts to the population's drift and the size
follows it,

    db = -(b - drift) ds / T + sqrt(2 / T) trend_sd dW_b,      dx = b ds + v dW_x,

a linear stochastic equation whose transition is exact (:func:`transition`). A moving lesion may also jump
(heavy tails), and any lesion may vanish, with a probability that falls with its size. A reading is the
diameter with multiplicative error, rounded. The volatility ``v`` and ``still`` differ between patients: each
is a hidden constant on a Gauss-Hermite grid (:func:`nodes`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from ..domain.parameters import LogitNormal, LogNormal, Normal, Parameter, ParameterSpace, Prior

#: Days of one reference interval (six weeks), the unit of time of trend and volatility.
INTERVAL_DAYS = 42.0

#: Diameter (mm) at which ``vanish`` is given.
REFERENCE_MM = 10.0


@dataclass(frozen=True)
class LesionPopulation:
    """What is common to all patients.

    Parameters
    ----------
    volatility : float
        Median over patients of the standard deviation that ``ln d`` gains in one reference interval.
    volatility_spread : float
        Standard deviation over patients of its logarithm.
    reading : float
        Standard deviation of a reading of ``ln d``, beside rounding.
    jump, jump_mean, jump_sd : float
        Probability that a moving lesion jumps between two scans, and the moments of the jump of ``ln d``.
    still, still_spread : float
        Probability of the median patient to stand still between two scans; standard deviation over
        patients of its logit.
    drift : float
        Mean trend (``ln d`` per reference interval), to which trends revert.
    start, start_sd : float
        Mean and standard deviation over patients of the trend at the first scan.
    trend_sd, trend_time : float
        Stationary standard deviation of the trend, and its correlation time in reference intervals.
    vanish, vanish_power : float
        Probability that a lesion read at 10 mm is gone at the next scan, and the power of its odds:
        ``odds(d) = odds(10 mm) (10 mm / d)^vanish_power``.
    back : float
        Probability that a vanished lesion is seen again at the next scan.
    """

    volatility: float
    volatility_spread: float
    reading: float
    jump: float
    jump_mean: float
    jump_sd: float
    still: float
    still_spread: float
    drift: float
    start: float
    start_sd: float
    trend_sd: float
    trend_time: float
    vanish: float
    vanish_power: float
    back: float

    @classmethod
    def from_vector(cls, theta: np.ndarray) -> LesionPopulation:
        """From values in the order of :func:`hyperpriors`, shape (p,)."""
        return cls(*(float(v) for v in theta))


#: Coordinates that decide whether a lesion is seen at all; the others decide how large it is read.
DETECTION_NAMES = ("vanish", "vanish_power", "back")


def hyperpriors() -> ParameterSpace:
    """Weak priors of the population's constants, in the order of :class:`LesionPopulation`.

    Round orders of magnitude, chosen before any fit; the data of some hundred patients outweigh them.
    """

    def logit(probability: float, sd: float) -> LogitNormal:
        return LogitNormal(0.0, 1.0, float(special.logit(probability)), sd)

    rows: tuple[tuple[str, str, Prior], ...] = (
        ("volatility", "1", LogNormal(0.1, 0.7)),
        ("volatility_spread", "1", LogNormal(0.5, 0.7)),
        ("reading", "1", LogNormal(0.03, 0.5)),
        ("jump", "1", logit(0.05, 1.0)),
        ("jump_mean", "1", Normal(0.0, 0.3)),
        ("jump_sd", "1", LogNormal(0.5, 0.5)),
        ("still", "1", logit(0.2, 1.0)),
        ("still_spread", "1", LogNormal(1.0, 0.5)),
        ("drift", "1", Normal(0.0, 0.1)),
        ("start", "1", Normal(0.0, 0.1)),
        ("start_sd", "1", LogNormal(0.1, 0.7)),
        ("trend_sd", "1", LogNormal(0.05, 0.7)),
        ("trend_time", "1", LogNormal(3.0, 0.5)),
        ("vanish", "1", logit(0.03, 1.0)),
        ("vanish_power", "1", LogNormal(2.0, 0.5)),
        ("back", "1", logit(0.03, 1.0)),
    )
    return ParameterSpace(tuple(Parameter(n, u, p, source="chosen: order of magnitude") for n, u, p in rows))


@dataclass(frozen=True)
class Nodes:
    """The grid of patient constants, flattened: K nodes with prior log weights.

    Parameters
    ----------
    volatility, still, log_weight : ndarray, shape (K,)
    """

    volatility: np.ndarray
    still: np.ndarray
    log_weight: np.ndarray


def nodes(population: LesionPopulation, volatilities: int = 5, stills: int = 3) -> Nodes:
    """Gauss-Hermite grid of the patient's volatility (log-normal) and ``still`` (logit-normal)."""
    zv, wv = np.polynomial.hermite_e.hermegauss(volatilities)
    zs, ws = np.polynomial.hermite_e.hermegauss(stills)
    v = population.volatility * np.exp(population.volatility_spread * zv)
    s = special.expit(special.logit(population.still) + population.still_spread * zs)
    weight = np.log(np.outer(wv / wv.sum(), ws / ws.sum())).ravel()
    return Nodes(np.repeat(v, stills), np.tile(np.clip(s, 1e-9, 1 - 1e-9), volatilities), weight)


def transition(
    population: LesionPopulation, days: np.ndarray, volatility: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exact transition of ``(x, b)`` of a moving lesion, without a jump.

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
    The integral of an Ornstein-Uhlenbeck process (Gillespie 1996, Phys. Rev. E 54:2084) plus a Wiener
    term on ``x``. With ``l = 1 - exp(-s/T)`` and q the stationary variance: ``Var b = q l (2 - l)``,
    ``Cov = q T l^2``, ``Var x = q T (2 s - T l (2 + l)) + v^2 s``.
    """
    s, v = np.broadcast_arrays(np.asarray(days, dtype=float) / INTERVAL_DAYS, np.asarray(volatility))
    time, q = population.trend_time, population.trend_sd**2
    loss = -np.expm1(-s / time)
    matrix = np.zeros((*s.shape, 2, 2))
    matrix[..., 0, 0] = 1.0
    matrix[..., 0, 1] = time * loss
    matrix[..., 1, 1] = 1.0 - loss
    shift = population.drift * np.stack([s - time * loss, loss], -1)
    noise = np.empty((*s.shape, 2, 2))
    noise[..., 0, 0] = q * time * np.maximum(2.0 * s - time * (2.0 + loss) * loss, 0.0) + v**2 * s
    noise[..., 0, 1] = noise[..., 1, 0] = q * time * loss**2
    noise[..., 1, 1] = q * loss * (2.0 - loss)
    return matrix, shift, noise


def vanish_probability(population: LesionPopulation, diameter_mm: np.ndarray) -> np.ndarray:
    """Probability that a lesion last read at this diameter (> 0) is not seen at the next scan."""
    size = np.log(np.asarray(diameter_mm) / REFERENCE_MM)
    return np.asarray(special.expit(special.logit(population.vanish) - population.vanish_power * size))


def simulate(
    population: LesionPopulation,
    day: np.ndarray,
    first_mm: np.ndarray,
    rng: np.random.Generator,
    width_mm: float = 1.0,
) -> np.ndarray:
    """Readings of virtual patients, drawn from the model itself.

    Parameters
    ----------
    day : ndarray, shape (P, V)
        Days of the scans; NaN beyond a patient's scans.
    first_mm : ndarray, shape (P,)
        True diameter at the first scan.
    rng : numpy.random.Generator
    width_mm : float
        What readings are rounded to.

    Returns
    -------
    ndarray, shape (P, V)
        Diameters in mm, 0 for a vanished lesion (which here never comes back), NaN where ``day`` is.
    """
    count, visits = day.shape
    v = population.volatility * np.exp(population.volatility_spread * rng.standard_normal(count))
    odds = special.logit(population.still) + population.still_spread * rng.standard_normal(count)
    trend = population.start + population.start_sd * rng.standard_normal(count)
    state = np.stack([np.log(first_mm), trend], axis=-1)

    def read() -> np.ndarray:
        value = np.exp(state[:, 0] + population.reading * rng.standard_normal(count))
        return np.maximum(np.round(value / width_mm), 1.0) * width_mm

    out = np.full(day.shape, np.nan)
    out[:, 0] = read()
    for t in range(1, visits):
        matrix, shift, noise = transition(population, np.nan_to_num(day[:, t] - day[:, t - 1], nan=1.0), v)
        kick = np.einsum("pij,pj->pi", np.linalg.cholesky(noise), rng.standard_normal((count, 2)))
        moved = np.einsum("pij,pj->pi", matrix, state) + shift + kick
        jumps = rng.random(count) < population.jump
        size = population.jump_mean + population.jump_sd * rng.standard_normal(count)
        moved[:, 0] += np.where(jumps, size, 0.0)
        still = np.asarray(rng.random(count) < special.expit(odds))
        last = out[:, t - 1]
        seen = np.nan_to_num(last) > 0
        gone = rng.random(count) < vanish_probability(population, np.where(seen, last, 1.0))
        state = np.where(still[:, None], state, moved)
        value = np.where(still, last, read())
        out[:, t] = np.where(seen & ~gone, value, 0.0)
    return np.where(np.isfinite(day), out, np.nan)
