"""Forecasts scored on what was held out, beside their baselines."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..domain.errors import BadInput
from ..domain.evidence import Evidence, Status
from ..domain.keys import Label
from ..scores import crps_ensemble, crps_gaussian, crps_weighted, inside, interval_score, quantiles
from .bootstrap import DRAWS, Difference, compare

LEVELS = (0.5, 0.9)


@dataclass(frozen=True)
class Scored:
    """One method's scores, case by case; NaN where the observation is missing.

    Parameters
    ----------
    name : str
    patients : ndarray, shape (cases,)
    error : ndarray, shape (cases,)
        Forecast mean (of a sample) or point minus observation.
    crps : ndarray, shape (cases,)
        The absolute error for a point forecast.
    inside, width, interval_score : dict from level to ndarray, shape (cases,)
        Empty for a point forecast.
    """

    name: str
    patients: np.ndarray
    error: np.ndarray
    crps: np.ndarray
    inside: dict[float, np.ndarray]
    width: dict[float, np.ndarray]
    interval_score: dict[float, np.ndarray]

    def row(self) -> dict[str, Any]:
        """Means over all cases: rmse, crps, and per level coverage, width and interval score."""
        there = np.isfinite(self.crps)
        row: dict[str, Any] = {
            "name": self.name,
            "patients": len(np.unique(self.patients[there])),
            "cases": int(there.sum()),
            "rmse": float(np.sqrt(np.mean(self.error[there] ** 2))),
            "bias": float(np.mean(self.error[there])),
            "crps": float(np.mean(self.crps[there])),
        }
        for level in self.inside:
            percent = f"{100 * level:g}"
            row[f"coverage_{percent}"] = float(np.mean(self.inside[level][there]))
            row[f"width_{percent}"] = float(np.mean(self.width[level][there]))
            row[f"interval_score_{percent}"] = float(np.mean(self.interval_score[level][there]))
        return row

    def by_patient(self, level: float) -> np.ndarray:
        """Hits of the intervals of one level as (patients, most cases), NaN-padded, for ``judge_coverage``."""
        if level not in self.inside:
            raise BadInput(f"'{self.name}' has no {100 * level:g} % intervals", "validation")
        names = np.unique(self.patients)
        rows = [self.inside[level][self.patients == name] for name in names]
        out = np.full((len(names), max(len(r) for r in rows)), np.nan)
        for i, r in enumerate(rows):
            out[i, : len(r)] = r
        return out


def _cases(
    y: ArrayLike, patients: Sequence[Hashable] | np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observations as a vector, patients beside them, and which are there."""
    obs = np.asarray(y, dtype=float)
    who = np.zeros(len(obs), dtype=int) if patients is None else np.asarray(patients)
    if obs.ndim != 1 or len(who) != len(obs):
        raise BadInput(f"observations of shape {obs.shape} came with {len(who)} patients", "validation")
    there = np.isfinite(obs)
    if not there.any():
        raise BadInput("there is no held-out observation to score by", "validation")
    return obs, who, there


def _intervals(
    obs: np.ndarray, there: np.ndarray, ends: Mapping[float, tuple[np.ndarray, np.ndarray]]
) -> tuple[dict[float, np.ndarray], dict[float, np.ndarray], dict[float, np.ndarray]]:
    hit, width, score = {}, {}, {}
    for level, (low, high) in ends.items():
        hit[level] = np.where(there, inside(obs, low, high), np.nan)
        width[level] = np.where(there, high - low, np.nan)
        score[level] = np.where(there, interval_score(np.where(there, obs, low), low, high, level), np.nan)
    return hit, width, score


def _finite(forecast: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(forecast).all():
        raise BadInput(
            f"the forecast '{name}' is not finite", "validation", "drop members that failed beforehand"
        )
    return forecast


def score_sample(
    name: str,
    y: ArrayLike,
    sample: ArrayLike,
    patients: Sequence[Hashable] | np.ndarray | None = None,
    weights: ArrayLike | None = None,
    levels: Sequence[float] = LEVELS,
    fair: bool = False,
) -> Scored:
    """Score a forecast given as members (observation error included, where y has it).

    Parameters
    ----------
    name : str
    y : array_like, shape (cases,)
        Held-out observations; NaN is missing.
    sample : array_like, shape (N, cases)
    patients : sequence, shape (cases,), optional
        Whose case it is; one patient if absent.
    weights : array_like, shape (N,) or (N, cases), optional
    levels : sequence of float
        Of the central intervals.
    fair : bool
        Fair CRPS (not for weighted samples).
    """
    obs, who, there = _cases(y, patients)
    x = _finite(np.asarray(sample, dtype=float), name)
    filled = np.where(there, obs, 0.0)
    if weights is None:
        crps, mean = crps_ensemble(filled, x, fair), x.mean(axis=0)
    else:
        crps = crps_weighted(filled, x, weights)
        w = np.asarray(weights, dtype=float)
        w = np.broadcast_to(w[:, None] if w.ndim == 1 else w, x.shape)
        mean = (w * x).sum(axis=0) / w.sum(axis=0)
    ends = {}
    for level in levels:
        low, high = quantiles(x, [0.5 - level / 2, 0.5 + level / 2], weights)
        ends[float(level)] = (low, high)
    return Scored(
        name,
        who,
        np.where(there, mean - obs, np.nan),
        np.where(there, crps, np.nan),
        *_intervals(obs, there, ends),
    )


def score_gaussian(
    name: str,
    y: ArrayLike,
    mean: ArrayLike,
    sd: ArrayLike,
    patients: Sequence[Hashable] | np.ndarray | None = None,
    levels: Sequence[float] = LEVELS,
) -> Scored:
    """Score a normal forecast with mean and standard deviation per case."""
    from scipy import special

    obs, who, there = _cases(y, patients)
    mu, s = (_finite(np.broadcast_to(np.asarray(v, dtype=float), obs.shape), name) for v in (mean, sd))
    crps = crps_gaussian(np.where(there, obs, 0.0), mu, s)
    reach = {float(level): float(special.ndtri(0.5 + level / 2)) for level in levels}
    ends = {level: (mu - z * s, mu + z * s) for level, z in reach.items()}
    return Scored(
        name,
        who,
        np.where(there, mu - obs, np.nan),
        np.where(there, crps, np.nan),
        *_intervals(obs, there, ends),
    )


def score_point(
    name: str, y: ArrayLike, value: ArrayLike, patients: Sequence[Hashable] | np.ndarray | None = None
) -> Scored:
    """Score a forecast without uncertainty: its CRPS is its absolute error, and it has no intervals."""
    obs, who, there = _cases(y, patients)
    point = _finite(np.broadcast_to(np.asarray(value, dtype=float), obs.shape), name)
    error = np.where(there, point - obs, np.nan)
    return Scored(name, who, error, np.abs(error), {}, {}, {})


def compare_scores(
    forecast: Scored,
    baseline: Scored,
    seed: int,
    *labels: Label,
    metric: str = "crps",
    confidence: float = 0.95,
    draws: int = DRAWS,
) -> Difference:
    """A forecast beside a baseline on the same cases, with a bootstrap interval over patients.

    ``metric`` is "crps" or "rmse".
    """
    if not np.array_equal(forecast.patients, baseline.patients):
        raise BadInput(
            f"'{forecast.name}' and '{baseline.name}' are not scored on the same cases", "validation"
        )
    if metric == "crps":
        pair = forecast.crps, baseline.crps
    elif metric == "rmse":
        pair = forecast.error**2, baseline.error**2
    else:
        raise BadInput(f"the metric '{metric}' is not known", "validation", "use crps or rmse")
    return compare(
        *pair,
        forecast.patients,
        seed,
        metric,
        *labels,
        confidence=confidence,
        draws=draws,
        root=metric == "rmse",
    )


def score_table(
    forecast: Scored, baselines: Sequence[Scored], seed: int, confidence: float = 0.95, draws: int = DRAWS
) -> list[dict[str, Any]]:
    """Rows of scores, the forecast first; each baseline's row holds the forecast's CRPS and RMSE against it.

    Returns
    -------
    list of dict
        As :meth:`Scored.row`; baselines also have ``forecast_crps`` and ``forecast_rmse``, each a
        :class:`~vvuq_twin.validation.bootstrap.Difference` as a dict.
    """
    rows = [forecast.row()]
    for baseline in baselines:
        against = {
            f"forecast_{metric}": compare_scores(
                forecast, baseline, seed, metric=metric, confidence=confidence, draws=draws
            ).as_dict()
            for metric in ("crps", "rmse")
        }
        rows.append({**baseline.row(), **against})
    return rows


def score_evidence(
    id: str,
    claim: str,
    forecast: Scored,
    baselines: Sequence[Scored],
    unit: str,
    seed: int,
    confidence: float = 0.95,
    factor: str = "output_comparison",
    provenance: Mapping[str, Any] | None = None,
    artefacts: tuple[str, ...] = (),
    draws: int = DRAWS,
) -> Evidence:
    """Evidence that the forecast's CRPS is below every baseline's.

    Returns
    -------
    Evidence
        Passed if the whole bootstrap interval of each difference lies below zero, failed if one reaches
        above; not assessed with a single patient, where there is no such interval.
    """
    if not baselines:
        raise BadInput("there is no baseline to compare with", id)
    table = score_table(forecast, baselines, seed, confidence, draws)
    better = [row["forecast_crps"]["better"] for row in table[1:]]
    status: Status = "not assessed" if None in better else "passed" if all(better) else "failed"
    acceptance = (
        f"the {100 * confidence:g} % bootstrap interval over patients of the CRPS minus each baseline's "
        "lies below zero"
    )
    made = {"seed": seed, "bootstrap_draws": draws, **(provenance or {})}
    return Evidence(id, factor, claim, acceptance, {"unit": unit, "table": table}, status, artefacts, made)
