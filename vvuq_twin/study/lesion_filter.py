"""The lesion twin and the mixture filter together: assimilate a patient's scans, forecast the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from ..assimilation.mixture import Mixture, collapse, mixture_cdf, normalise, predict, update_interval
from ..twin.lesion import LesionPopulation, Nodes, nodes, size_factor, transition, vanish_probability
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
    """Step of each patient's readings so far: 1 mm while all are whole, else 0.1 mm; shape (P, V) to (P, V)."""
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
        rows = now.rows
        reading, step = table.diameter_mm[rows, t], width[rows, t]
        days = table.day[rows, t] - table.day[rows, t - 1]
        ahead = _ahead(population, grid, now, days)
        both, there = _read(population, grid, now, ahead, reading, step)
        fresh_start = _start(population, grid, np.where(reading > 0, reading, 1.0), step, population.drift, population.trend_sd)
        gone, back = reading <= 0, (now.last_mm <= 0) & (reading > 0)
        state, value = normalise(both)
        vanish = vanish_probability(population, np.maximum(now.last_mm, 1.0))
        seen_before = now.last_mm > 0
        score[rows, t] = np.where(
            seen_before,
            np.where(gone, np.log(vanish), np.log1p(-vanish) + np.where(there, value, 0.0)),
            np.where(gone, np.log1p(-population.return_), np.log(population.return_)),
        )
        # a vanished lesion tells nothing of its patient's constants; one that is back starts anew
        weight = np.where((gone | back)[:, None], now.state.log_weight, state.log_weight)
        mean = np.where(gone[:, None, None], now.state.mean, np.where(back[:, None, None], fresh_start.mean, state.mean))
        cov = np.where(
            gone[:, None, None, None], now.state.cov, np.where(back[:, None, None, None], fresh_start.cov, state.cov)
        )
        out.append(Posterior(t + 1, rows, Mixture(weight, mean, cov), reading, step))
    return out, score


def _start(
    population: LesionPopulation, grid: Nodes, reading: np.ndarray, step: np.ndarray, trend: float, trend_sd: float
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
    """The state ``days`` after the last scan, without a jump."""
    v = grid.volatility * size_factor(population, now.last_mm)[:, None]
    return predict(now.state, *transition(population, days[:, None], v))


def _jumped(population: LesionPopulation, state: Mixture, jumps: int) -> Mixture:
    mean, cov = state.mean.copy(), state.cov.copy()
    mean[..., 0] += jumps * population.jump_mean
    cov[..., 0, 0] += jumps * population.jump_sd**2
    return Mixture(state.log_weight, mean, cov)


def _read(
    population: LesionPopulation, grid: Nodes, now: Posterior, ahead: Mixture, reading: np.ndarray, step: np.ndarray
) -> tuple[Mixture, np.ndarray]:
    """Condition on readings: fresh or copied, after a quiet interval or a jump."""
    there = (reading > 0) & (now.last_mm > 0)
    value = np.where(there, reading, np.maximum(now.last_mm, 1.0))
    low, high = np.log(np.maximum(value - step / 2, step / 4)), np.log(value + step / 2)
    quiet = Mixture(ahead.log_weight + np.log1p(-population.jump), ahead.mean, ahead.cov)
    jump = _jumped(population, ahead, 1)
    jump = Mixture(jump.log_weight + np.log(population.jump), jump.mean, jump.cov)
    variance = np.asarray(population.reading**2)
    regimes = []
    tie = (there & (reading == now.last_mm))[:, None]
    for regime in (quiet, jump):
        fresh, _ = update_interval(regime, low[:, None], high[:, None], variance)
        regimes.append(Mixture(fresh.log_weight + np.log1p(-grid.copy), fresh.mean, fresh.cov))
        regimes.append(
            Mixture(np.where(tie, regime.log_weight + np.log(grid.copy), -np.inf), regime.mean, regime.cov)
        )
    return collapse(regimes), there


@dataclass(frozen=True)
class Forecast:
    """Predictive distribution of one reading for A patients: atoms and a Gaussian mixture of ``ln d``.

    Parameters
    ----------
    vanished, copied : ndarray, shape (A,)
        Probability of being below detection, and of repeating the last reading.
    weight, mean, sd : ndarray, shape (A, C)
        The fresh readings' mixture; ``vanished + copied + weight.sum(1) = 1``.
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
    population: LesionPopulation, posterior: Posterior, days: np.ndarray, detection_mm: float, grid: Nodes | None = None
) -> Forecast:
    """Forecast the reading of the last of H further scans.

    Parameters
    ----------
    posterior : Posterior
        Of A patients.
    days : ndarray, shape (A, H)
        Days from the last assimilated scan to each further scan, increasing; the H-th is forecast (how many
        scans lie between decides how often a reading may be copied, vanish or jump).
    """
    grid = nodes(population) if grid is None else grid
    horizon = days.shape[1]
    seen = posterior.last_mm > 0
    weight0 = np.exp(posterior.state.log_weight)
    stay = (1.0 - vanish_probability(population, np.maximum(posterior.last_mm, 1.0))) ** horizon
    weights, means, sds = [], [], []
    for j in range(1, horizon + 1):
        ahead = _ahead(population, grid, posterior, days[:, j - 1])
        share = weight0 * (1.0 - grid.copy) * grid.copy ** (horizon - j)
        for jumps in range(j + 1):
            chance = special.comb(j, jumps) * population.jump**jumps * (1.0 - population.jump) ** (j - jumps)
            state = _jumped(population, ahead, jumps)
            weights.append(share * chance)
            means.append(state.mean[..., 0])
            sds.append(np.sqrt(state.cov[..., 0, 0] + population.reading**2))
    weight, mean, sd = (np.concatenate(p, axis=1) for p in (weights, means, sds))
    copied = (weight0 * grid.copy**horizon).sum(axis=1)
    # a vanished lesion that is back: near the limit of detection, within a factor of two or so
    back = 1.0 - (1.0 - population.return_) ** horizon
    weight = np.where(seen[:, None], weight * stay[:, None], weight / weight.sum(axis=1, keepdims=True) * back)
    mean = np.where(seen[:, None], mean, np.log(2.0 * detection_mm))
    sd = np.where(seen[:, None], sd, 0.4)
    return Forecast(
        np.where(seen, 1.0 - stay, 1.0 - back), np.where(seen, copied * stay, 0.0), weight, mean, sd,
        posterior.last_mm, posterior.width_mm,
    )  # fmt: skip
