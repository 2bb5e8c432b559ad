"""Forecasts and their baselines, each with intervals calibrated on rolling origins inside the frames seen.

A forecast is a mean and a standard deviation for each voxel and frame. How errors are distributed in units of that
standard deviation is its *error law*: the pooled standardised errors of the same method at earlier origins.
The baselines get the same treatment, so that they are fair opponents; the last-ten mean is also scored as a point
forecast (its CRPS is then its mean absolute error).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..domain.keys import generator
from ..kinetics.aif import plasma
from ..kinetics.convolution import exponential_convolution
from ..kinetics.tofts import Fit, fit_extended_tofts
from ..twin.tracer import TracerModel
from .perfusion_breathing import seen_range


@dataclass(frozen=True)
class Predicted:
    """Means and standard deviations, shape (n, H)."""

    mean: np.ndarray
    sd: np.ndarray


@dataclass(frozen=True)
class ErrorLaw:
    """Distribution of standardised errors: equally likely sorted points.

    Parameters
    ----------
    points : ndarray, shape (K,)
    """

    points: np.ndarray

    @classmethod
    def learn(cls, standardised: np.ndarray, size: int = 401) -> ErrorLaw:
        """From pooled standardised errors; NaN is left out."""
        z = standardised[np.isfinite(standardised)]
        return cls(np.quantile(z, (np.arange(size) + 0.5) / size))

    def quantile(self, level: float) -> float:
        return float(np.quantile(self.points, level))

    def crps(self, z: np.ndarray) -> np.ndarray:
        """CRPS of a standardised observation, ``E|X - z| - E|X - X'|/2`` by prefix sums."""
        x, n = self.points, len(self.points)
        sums = np.concatenate([[0.0], np.cumsum(x)])
        below = np.searchsorted(x, z)
        first = (z * below - sums[below] + (sums[-1] - sums[below]) - z * (n - below)) / n
        weight = 2.0 * np.arange(1, n + 1) - n - 1.0
        return np.asarray(first - float(weight @ x) / n**2)

    def pit(self, z: np.ndarray) -> np.ndarray:
        """Probability below a standardised observation."""
        levels = (np.arange(len(self.points)) + 0.5) / len(self.points)
        return np.asarray(np.interp(z, self.points, levels, left=0.0, right=1.0))


def pooled_sd(values: np.ndarray, weight: float = 4.0) -> np.ndarray:
    """Standard deviation of each row, its square drawn to the median of all rows with ``weight`` degrees of freedom."""
    seen = np.isfinite(values).sum(axis=1)
    mean = _row_mean(values, np.zeros(len(values)))
    square = np.nansum((values - mean[:, None]) ** 2, axis=1)
    typical = float(np.median((square / np.maximum(seen - 1, 1))[seen > 1]))
    return np.asarray(np.sqrt((weight * typical + square) / (weight + np.maximum(seen - 1, 0))))


def _row_mean(values: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Mean of the values seen in each row, ``otherwise`` where there are none."""
    seen = np.isfinite(values)
    count = seen.sum(axis=1)
    return np.where(count > 0, np.where(seen, values, 0.0).sum(axis=1) / np.maximum(count, 1), otherwise)


def last_mean(curves: np.ndarray, origin: int, ahead: int, last: int) -> Predicted:
    """The mean of the last frames, and their standard deviation."""
    part = curves[:, origin - last : origin]
    mean = _row_mean(part, _row_mean(curves[:, :origin], np.zeros(len(curves))))
    return _constant(mean, pooled_sd(part), ahead)


def last_mean_given(
    curves: np.ndarray, breathing: np.ndarray, settled: int, last: int, response: float
) -> Predicted:
    """The mean of the last frames, and each voxel's ridge regression on the breathing scores since the first pass.

    Parameters
    ----------
    curves : ndarray, shape (n, origin)
    breathing : ndarray, shape (end, b)
        Scores of the frames seen and of those to forecast.
    settled : int
        First frame after the first pass.
    last : int
    response : float
        Prior standard deviation of a slope over the voxel error's, the twin's own.
    """
    origin = curves.shape[1]
    z = seen_range(breathing, settled, origin) if breathing.shape[1] else breathing
    part = curves[:, settled:origin]
    seen = np.isfinite(part)
    level = _row_mean(part, np.zeros(len(part)))
    known = z[settled:origin] - z[settled:origin].mean(axis=0)
    weight = np.linalg.inv(known.T @ known + np.eye(z.shape[1]) / max(response, 1e-9) ** 2)
    slope = np.where(seen, part - level[:, None], 0.0) @ known @ weight
    steady = last_mean(curves - slope @ z[:origin].T, origin, len(z) - origin, last)
    return Predicted(steady.mean + slope @ z[origin:].T, steady.sd)


def persistence(curves: np.ndarray, origin: int, ahead: int, last: int) -> Predicted:
    """The last value seen of each voxel, and the standard deviation of differences of neighbouring frames."""
    part = curves[:, :origin]
    seen = np.isfinite(part)
    at = origin - 1 - np.argmax(seen[:, ::-1], axis=1)
    mean = part[np.arange(len(part)), at]
    return _constant(mean, pooled_sd(np.diff(part[:, origin - last - 1 :], axis=1)), ahead)


def _constant(mean: np.ndarray, sd: np.ndarray, ahead: int) -> Predicted:
    shape = (len(mean), ahead)
    return Predicted(np.broadcast_to(mean[:, None], shape).copy(), np.broadcast_to(sd[:, None], shape).copy())


def tofts(curves: np.ndarray, origin: int, end: int, model: TracerModel) -> tuple[Predicted, Fit, float]:
    """An extended-Tofts fit of every voxel by itself, population input with its onset fitted to the mean curve.

    Returns
    -------
    forecast : Predicted
        From ``origin`` to ``end``; the standard deviation is the residual's.
    fit : Fit
    onset : float
        s.
    """
    nodes = model.nodes / 60.0
    at = np.searchsorted(model.nodes, model.times)
    padded = np.full((len(curves), len(nodes)), np.nan)
    padded[:, at[:origin]] = curves[:, :origin]
    shown = int(at[origin - 1]) + 1
    average = np.full((1, shown), np.nan)
    average[0, at[:origin]] = np.nanmean(curves[:, :origin], axis=0)
    centre = float(model.shared.from_gaussian(np.zeros(len(model.shared.names)))[0])
    onsets = centre + np.arange(-10.0, 10.5, 1.0)
    residual = [
        fit_extended_tofts(average, plasma(nodes[:shown], s / 60.0), nodes[:shown]).residual_sd[0]
        for s in onsets
    ]
    onset = float(onsets[int(np.argmin(residual))])
    cp = plasma(nodes, onset / 60.0)
    fit = fit_extended_tofts(padded[:, :shown], cp[:shown], nodes[:shown])
    mean = np.empty((len(curves), end - origin))
    with np.errstate(invalid="ignore", divide="ignore"):
        kep = np.where(fit.ktrans > 0, fit.ktrans / fit.ve, 0.0)
    for start in range(0, len(curves), 4096):
        rows = slice(start, start + 4096)
        whole = fit.vp[rows, None] * cp + fit.ktrans[rows, None] * exponential_convolution(
            cp, nodes, kep[rows]
        )
        mean[rows] = whole[:, at[origin:end]]
    sd = np.sqrt((fit.residual_sd**2 + np.median(fit.residual_sd) ** 2) / 2)
    return Predicted(mean, np.broadcast_to(sd[:, None], mean.shape).copy()), fit, onset


def standardised(predicted: Predicted, truth: np.ndarray) -> np.ndarray:
    """Errors in units of the forecast's standard deviation, NaN where the truth is missing."""
    return np.asarray((truth - predicted.mean) / predicted.sd)


@dataclass(frozen=True)
class Scores:
    """Scores of one method in one region.

    Parameters
    ----------
    square, absolute, crps : ndarray, shape (H,)
        Sums over voxels in each frame; square errors, absolute errors, CRPS.
    count : ndarray, shape (H,)
        Voxels scored in each frame.
    inside50, inside90 : ndarray, shape (H,)
        Voxels whose value lay in its interval.
    """

    square: np.ndarray
    absolute: np.ndarray
    crps: np.ndarray
    count: np.ndarray
    inside50: np.ndarray
    inside90: np.ndarray

    @property
    def rmse(self) -> float:
        return float(np.sqrt(self.square.sum() / self.count.sum()))

    @property
    def mean_absolute(self) -> float:
        return float(self.absolute.sum() / self.count.sum())

    @property
    def mean_crps(self) -> float:
        return float(self.crps.sum() / self.count.sum())

    def coverage(self, level: int) -> float:
        """In percent, for level 50 or 90."""
        return float(100.0 * (self.inside50 if level == 50 else self.inside90).sum() / self.count.sum())


def score(predicted: Predicted, truth: np.ndarray, law: ErrorLaw) -> Scores:
    """Score a forecast whose errors follow ``law``; missing values do not count."""
    seen = np.isfinite(truth)
    z = np.where(seen, standardised(predicted, truth), 0.0)
    error = np.where(seen, truth - predicted.mean, 0.0)
    crps = np.where(seen, predicted.sd * law.crps(z), 0.0)

    def within(level: float) -> np.ndarray:
        low, high = law.quantile(0.5 - level / 2), law.quantile(0.5 + level / 2)
        return np.asarray((seen & (z >= low) & (z <= high)).sum(axis=0))

    return Scores(
        (error**2).sum(axis=0),
        np.abs(error).sum(axis=0),
        crps.sum(axis=0),
        seen.sum(axis=0),
        within(0.5),
        within(0.9),
    )


def joined(parts: Sequence[Scores]) -> Scores:
    """Frames of several origins one after another."""
    fields: dict[str, Any] = {
        k: np.concatenate([getattr(p, k) for p in parts]) for k in Scores.__dataclass_fields__
    }
    return Scores(**fields)


@dataclass(frozen=True)
class Laws:
    """The error laws of one method: one for the voxels of the tumour, one for all others.

    Parameters
    ----------
    tumour, others : ErrorLaw
    inside : ndarray of bool, shape (n,)
        Voxels of the tumour.
    """

    tumour: ErrorLaw
    others: ErrorLaw
    inside: np.ndarray

    @classmethod
    def same(cls, law: ErrorLaw, inside: np.ndarray) -> Laws:
        return cls(law, law, inside)

    @classmethod
    def learn(cls, pairs: Sequence[tuple[Predicted, np.ndarray]], inside: np.ndarray) -> Laws:
        """From forecasts and what came, at the rolling origins; all voxels stand in for a group without any."""
        z = np.concatenate([standardised(p, y) for p, y in pairs], axis=1)
        pooled = ErrorLaw.learn(z)
        groups = [ErrorLaw.learn(z[rows]) if rows.any() else pooled for rows in (inside, ~inside)]
        return cls(groups[0], groups[1], inside)

    def of(self, voxel: int) -> ErrorLaw:
        """The law of one voxel."""
        return self.tumour if self.inside[voxel] else self.others

    def quantile(self, level: float) -> np.ndarray:
        """Standardised quantile of each voxel, shape (n,)."""
        return np.where(self.inside, self.tumour.quantile(level), self.others.quantile(level))

    def _parts(self, rows: np.ndarray) -> list[tuple[ErrorLaw, np.ndarray]]:
        return [(self.tumour, rows & self.inside), (self.others, rows & ~self.inside)]

    def score(self, predicted: Predicted, truth: np.ndarray, rows: np.ndarray) -> Scores:
        """Scores of the voxels in ``rows``, each by its own law."""
        first, second = (
            score(Predicted(predicted.mean[part], predicted.sd[part]), truth[part], law)
            for law, part in self._parts(rows)
        )
        return Scores(*(getattr(first, k) + getattr(second, k) for k in Scores.__dataclass_fields__))

    def pit(self, z: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Probabilities below the standardised values that were seen in ``rows``."""
        found = [law.pit(z[part][np.isfinite(z[part])]) for law, part in self._parts(rows)]
        return np.concatenate(found)


def interval_over_frames(
    values: Sequence[np.ndarray],
    statistic: Callable[[list[float]], float],
    seed: int,
    name: str,
    draws: int = 2000,
    block: int = 5,
) -> tuple[float, float]:
    """95 % bootstrap interval of a statistic of per-frame sums, by moving blocks of frames.

    Voxels of one frame share its motion, so frames, not voxels, are resampled. It says nothing about other patients.

    Parameters
    ----------
    values : sequence of ndarray, shape (H,)
    statistic : callable
        Of the sums of the values over frames, a list of floats.
    """
    h = len(values[0])
    rng = generator(seed, "frames", name)
    starts = rng.integers(0, max(h - block, 0) + 1, size=(draws, -(-h // block)))
    rows = (starts[:, :, None] + np.arange(block)).reshape(draws, -1)[:, :h]
    found = [statistic([float(v[r].sum()) for v in values]) for r in rows]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)
