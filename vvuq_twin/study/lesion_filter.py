"""The lesion twin and the mixture filter together: assimilate a patient's scans, forecast the next."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import special

from ..assimilation.mixture import Mixture, collapse, mixture_cdf, normalise, predict, update_interval
from ..twin.lesion import LesionPopulation, Nodes, nodes, transition, vanish_probability
from .lesion_table import LesionTable

#: ln(volume / mm3) = LOG_SHAPE + 3 ln(diameter / mm): an ellipsoid with axes d, d, d (0.52 ~ pi/6).
LOG_SHAPE = float(np.log(0.52))


def log_volume(diameter_mm: np.ndarray, detection_mm: float) -> np.ndarray:
    """Natural logarithm of the volume in mm3, censored: what is below detection counts as its limit."""
    return np.asarray(LOG_SHAPE + 3.0 * np.log(np.maximum(diameter_mm, detection_mm)))


@dataclass(frozen=True)
class Posterior:
    """What is known of some patients after their first ``scans`` scans.

    Parameters
    ----------
    scans : int
    rows : ndarray of int, shape (A,)
        The table's rows of those patients who have that many.
    state : Mixture
        Over the nodes; weights sum to one.
    last_mm, width_mm : ndarray, shape (A,)
        Last reading, and the step its patient's readings are rounded to.
    """

    scans: int
    rows: np.ndarray
    state: Mixture
    last_mm: np.ndarray
    width_mm: np.ndarray

    def take(self, keep: np.ndarray) -> Posterior:
        """Some of the patients."""
        state = Mixture(*(part[keep] for part in self.state))
        return Posterior(self.scans, self.rows[keep], state, self.last_mm[keep], self.width_mm[keep])


def rounding_mm(diameter_mm: np.ndarray) -> np.ndarray:
    """Step of each patient's readings so far: 1 mm while all are whole, else 0.1 mm; (P, V) to (P, V)."""
    broken = np.nan_to_num(diameter_mm) % 1.0 != 0
    return np.where(np.logical_or.accumulate(broken, axis=1), 0.1, 1.0)


def assimilate(
    population: LesionPopulation, table: LesionTable, grid: Nodes | None = None
) -> tuple[list[Posterior], np.ndarray]:
    """Assimilate every scan of every patient in turn.

    Returns
    -------
    posteriors : list of Posterior
        After the first scan, the second, ...
    log_score : ndarray, shape (P, V)
        Log probability of each reading given those before it; NaN for the first and where there is none.
    """
    grid = nodes(population) if grid is None else grid
    width = rounding_mm(table.diameter_mm)
    score = np.full(table.day.shape, np.nan)
    rows = np.arange(len(table))
    first = table.diameter_mm[:, 0]
    seen = np.where(first > 0, first, 1.0)
    state = _start(population, grid, seen, width[:, 0], population.start, population.start_sd)
    out = [Posterior(1, rows, state, first, width[:, 0])]
    for t in range(1, table.day.shape[1]):
        now = out[-1].take(table.visits[out[-1].rows] > t)
        rows, reading, step = now.rows, table.diameter_mm[now.rows, t], width[now.rows, t]
        days = table.day[rows, t] - table.day[rows, t - 1]
        seen, there = reading > 0, now.last_mm > 0
        read, value = normalise(_read(population, grid, now, days, reading, step))
        score[rows, t] = detection_log_probability(population, now.last_mm, reading)
        score[rows, t] += np.where(seen & there, value, 0.0)
        # a vanished lesion tells nothing of its patient's constants; one that is seen again starts anew
        anew = _start(
            population, grid, np.where(seen, reading, 1.0), step, population.drift, population.trend_sd
        )
        kept = (there & seen)[:, None]
        start = (~there & seen)[:, None]
        weight = np.where(kept, read.log_weight, now.state.log_weight)
        mean = _choose(kept, read.mean, _choose(start, anew.mean, now.state.mean))
        cov = _choose(kept, read.cov, _choose(start, anew.cov, now.state.cov))
        out.append(Posterior(t + 1, rows, Mixture(weight, mean, cov), reading, step))
    return out, score


def _choose(where: np.ndarray, yes: np.ndarray, no: np.ndarray) -> np.ndarray:
    return np.where(where.reshape(where.shape + (1,) * (yes.ndim - where.ndim)), yes, no)


def detection_log_probability(
    population: LesionPopulation, last_mm: np.ndarray, reading_mm: np.ndarray
) -> np.ndarray:
    """Log probability that the next reading is (or is not) below detection as it was; 0 = not seen."""
    vanish = vanish_probability(population, np.where(last_mm > 0, last_mm, 1.0))
    gone = np.where(last_mm > 0, vanish, 1.0 - population.back)
    return np.asarray(np.where(reading_mm > 0, np.log1p(-gone), np.log(gone)))


def _start(
    population: LesionPopulation,
    grid: Nodes,
    reading: np.ndarray,
    step: np.ndarray,
    trend: float,
    trend_sd: float,
) -> Mixture:
    """A lesion seen for the first time: size from the reading alone, trend from the population."""
    shape = (len(reading), len(grid.volatility))
    mean = np.zeros((*shape, 2))
    mean[..., 0], mean[..., 1] = np.log(reading)[:, None], trend
    cov = np.zeros((*shape, 2, 2))
    cov[..., 0, 0] = (population.reading**2 + (step / reading) ** 2 / 12.0)[:, None]
    cov[..., 1, 1] = trend_sd**2
    return Mixture(np.broadcast_to(grid.log_weight, shape).copy(), mean, cov)


def _ahead(population: LesionPopulation, grid: Nodes, now: Posterior, days: np.ndarray) -> Mixture:
    """The state of a lesion that has moved for ``days`` since the last scan, without a jump."""
    return predict(now.state, *transition(population, days[:, None], grid.volatility))


def _jumped(population: LesionPopulation, state: Mixture, jumps: int) -> Mixture:
    mean, cov = state.mean.copy(), state.cov.copy()
    mean[..., 0] += jumps * population.jump_mean
    cov[..., 0, 0] += jumps * population.jump_sd**2
    return Mixture(state.log_weight, mean, cov)


def _read(
    population: LesionPopulation,
    grid: Nodes,
    now: Posterior,
    days: np.ndarray,
    reading: np.ndarray,
    step: np.ndarray,
) -> Mixture:
    """Condition on readings: of a lesion that stood still, moved, or jumped (lesions seen both times)."""
    there = (reading > 0) & (now.last_mm > 0)
    value = np.where(there, reading, np.maximum(now.last_mm, 1.0))
    low, high = np.log(np.maximum(value - step / 2, step / 4)), np.log(value + step / 2)
    tie = (there & (reading == now.last_mm))[:, None]
    weight = np.where(tie, now.state.log_weight + np.log(grid.still), -np.inf)
    regimes = [Mixture(weight, now.state.mean, now.state.cov)]
    ahead = _ahead(population, grid, now, days)
    jumped = _jumped(population, ahead, 1)
    for regime, chance in ((ahead, 1.0 - population.jump), (jumped, population.jump)):
        moved, _ = update_interval(regime, low[:, None], high[:, None], np.asarray(population.reading**2))
        weight = moved.log_weight + np.log1p(-grid.still) + np.log(chance)
        regimes.append(Mixture(weight, moved.mean, moved.cov))
    return collapse(regimes)


@dataclass(frozen=True)
class Forecast:
    """Predictive distribution of one reading for A patients: atoms and a Gaussian mixture of ``ln d``.

    Parameters
    ----------
    vanished, copied : ndarray, shape (A,)
        Probability of being below detection, and of repeating the last reading.
    weight, mean, sd : ndarray, shape (A, C)
        Readings of a lesion that moved; ``vanished + copied + weight.sum(1) = 1``.
    last_mm, width_mm : ndarray, shape (A,)
    """

    vanished: np.ndarray
    copied: np.ndarray
    weight: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    last_mm: np.ndarray
    width_mm: np.ndarray

    def members(self, levels: np.ndarray, detection_mm: float) -> np.ndarray:
        """Diameters (mm) at probability levels, rounded as the patient's readings; 0 below detection.

        Parameters
        ----------
        levels : ndarray, shape (N,)
            Increasing, inside (0, 1).

        Returns
        -------
        ndarray, shape (N, A)
        """
        centre, spread = self._span()
        x = centre[:, None] + spread[:, None] * _GRID
        cdf = mixture_cdf(x, self.weight, self.mean, self.sd)
        out = np.zeros((len(levels), len(self.last_mm)))
        for i in range(len(self.last_mm)):
            known = np.log(max(self.last_mm[i], detection_mm))
            u = levels - self.vanished[i]
            below = np.interp(known, x[i], cdf[i])
            atom = (u >= below) & (u < below + self.copied[i])
            u = np.where(u >= below, u - self.copied[i], u)
            rising = np.concatenate([[True], np.diff(cdf[i]) > 0])
            d = np.exp(np.interp(u, cdf[i][rising], x[i][rising]))
            d = np.round(d / self.width_mm[i]) * self.width_mm[i]
            d = np.where(atom, self.last_mm[i], d)
            out[:, i] = np.where(levels < self.vanished[i], 0.0, np.where(d < detection_mm, 0.0, d))
        return out

    def _span(self) -> tuple[np.ndarray, np.ndarray]:
        total = np.maximum(self.weight.sum(axis=1), 1e-300)
        centre = (self.weight * self.mean).sum(axis=1) / total
        var = (self.weight * (self.sd**2 + (self.mean - centre[:, None]) ** 2)).sum(axis=1) / total
        return centre, np.sqrt(np.maximum(var, 1e-12))


_GRID = np.concatenate([-np.geomspace(12.0, 1e-3, 150), [0.0], np.geomspace(1e-3, 12.0, 150)])


def forecast(
    population: LesionPopulation,
    posterior: Posterior,
    days: np.ndarray,
    detection_mm: float,
    grid: Nodes | None = None,
) -> Forecast:
    """Forecast the reading of the last of H further scans.

    Parameters
    ----------
    posterior : Posterior
        Of A patients.
    days : ndarray, shape (A, H)
        Days from the last assimilated scan to each further scan, increasing; the H-th is forecast (how many
        scans lie between decides how often the lesion may stand still, jump or vanish).
    """
    grid = nodes(population) if grid is None else grid
    horizon = days.shape[1]
    seen = posterior.last_mm > 0
    weight0 = np.exp(posterior.state.log_weight)
    stay = (1.0 - vanish_probability(population, np.maximum(posterior.last_mm, 1.0))) ** horizon
    gaps = np.diff(days, axis=1, prepend=0.0)
    weights, means, sds = [], [], []
    for moves in product((False, True), repeat=horizon):
        if not any(moves):
            continue
        count = sum(moves)
        ahead = _ahead(population, grid, posterior, gaps[:, np.array(moves)].sum(axis=1))
        share = weight0 * (1.0 - grid.still) ** count * grid.still ** (horizon - count)
        for jumps in range(count + 1):
            chance = (
                special.comb(count, jumps)
                * population.jump**jumps
                * (1.0 - population.jump) ** (count - jumps)
            )
            state = _jumped(population, ahead, jumps)
            weights.append(share * chance)
            means.append(state.mean[..., 0])
            sds.append(np.sqrt(state.cov[..., 0, 0] + population.reading**2))
    weight, mean, sd = (np.concatenate(p, axis=1) for p in (weights, means, sds))
    copied = (weight0 * grid.still**horizon).sum(axis=1)
    # a vanished lesion that is seen again: near the limit of detection, within a factor of two or so
    again = 1.0 - (1.0 - population.back) ** horizon
    weight = np.where(
        seen[:, None], weight * stay[:, None], weight / weight.sum(axis=1, keepdims=True) * again
    )
    mean = np.where(seen[:, None], mean, np.log(2.0 * detection_mm))
    sd = np.where(seen[:, None], sd, 0.4)
    return Forecast(
        np.where(seen, 1.0 - stay, 1.0 - again), np.where(seen, copied * stay, 0.0), weight, mean, sd,
        posterior.last_mm, posterior.width_mm,
    )  # fmt: skip
