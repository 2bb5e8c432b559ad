"""Intervals for scores and their differences by resampling patients, keyed."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..domain.errors import BadInput
from ..domain.keys import Label, generator

DRAWS = 4000


def patient_sums(
    values: ArrayLike, patients: Sequence[Hashable] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of each patient's cases, cases that are NaN left out, shape (P,) each.

    Raises
    ------
    BadInput
        If the lengths differ.
    """
    v = np.asarray(values, dtype=float)
    if v.ndim != 1 or len(v) != len(patients):
        raise BadInput(f"scores of shape {v.shape} came for {len(patients)} cases", "bootstrap")
    _, group = np.unique(np.asarray(patients), return_inverse=True)
    there = np.isfinite(v)
    size = int(group.max()) + 1 if len(group) else 0
    total = np.bincount(group[there], weights=v[there], minlength=size)
    return total, np.bincount(group[there], minlength=size).astype(float)


def resample_counts(patients: int, seed: int, *labels: Label, draws: int = DRAWS) -> np.ndarray:
    """How often each patient is drawn, shape (draws, P); the same key gives the same draws for every score."""
    rng = generator(seed, "bootstrap over patients", *labels)
    return rng.multinomial(patients, np.full(patients, 1.0 / patients), size=draws)


@dataclass(frozen=True)
class Difference:
    """A score beside a reference's, smaller being better.

    Parameters
    ----------
    score, reference : float
        Means over all cases.
    difference : float
        Score minus reference; negative is better.
    lower, upper : float or None
        Bootstrap interval of the difference over patients; None with a single patient.
    skill, skill_lower, skill_upper : float or None
        The same for ``1 - score / reference``; None where the reference is zero.
    confidence : float
    patients, cases : int
    """

    score: float
    reference: float
    difference: float
    lower: float | None
    upper: float | None
    skill: float | None
    skill_lower: float | None
    skill_upper: float | None
    confidence: float
    patients: int
    cases: int

    @property
    def better(self) -> bool | None:
        """Whether the whole interval lies below zero; None where there is no interval."""
        return None if self.upper is None else self.upper < 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "better": self.better}


def compare(
    score: ArrayLike,
    reference: ArrayLike,
    patients: Sequence[Hashable] | np.ndarray,
    seed: int,
    *labels: Label,
    confidence: float = 0.95,
    draws: int = DRAWS,
    root: bool = False,
) -> Difference:
    """Compare the scores of two forecasts of the same cases.

    Parameters
    ----------
    score, reference : array_like, shape (cases,)
        Per case; a case that is NaN in either is left out of both.
    patients : sequence, shape (cases,)
        Whose case it is: patients are drawn with replacement, with all their cases.
    seed : int
    *labels : str or int
        Further names of the draws.
    confidence : float
    draws : int
    root : bool
        The scores are squared errors, and the root of their mean is compared.

    Returns
    -------
    Difference
        Percentile interval (Efron & Tibshirani 1993, chapter 13) of the paired difference.

    Raises
    ------
    BadInput
        If the lengths differ or no case has both scores.
    """
    a, b = np.asarray(score, dtype=float), np.asarray(reference, dtype=float)
    if a.shape != b.shape:
        raise BadInput(f"scores of shape {a.shape} and {b.shape} are not of the same cases", "bootstrap")
    if not 0 < confidence < 1:
        raise BadInput(f"a confidence of {confidence:g} is not between 0 and 1", "bootstrap")
    both = np.isfinite(a) & np.isfinite(b)
    if not both.any():
        raise BadInput("no case has both scores", "bootstrap")
    kept = np.asarray(patients)[both] if len(patients) == len(both) else patients
    sums_a, count = patient_sums(a[both], kept)
    sums_b, _ = patient_sums(b[both], kept)
    shape = np.sqrt if root else np.asarray
    one, other = float(shape(sums_a.sum() / count.sum())), float(shape(sums_b.sum() / count.sum()))
    limits: list[float | None] = [None, None]
    skills: list[float | None] = [None, None]
    skill = 1.0 - one / other if other > 0 else None
    if len(count) > 1:
        times = resample_counts(len(count), seed, *labels, draws=draws)
        cases = times @ count
        drawn_a, drawn_b = shape(times @ sums_a / cases), shape(times @ sums_b / cases)
        ends = [(1 - confidence) / 2, (1 + confidence) / 2]
        limits = [float(x) for x in np.quantile(drawn_a - drawn_b, ends)]
        if skill is not None and (drawn_b > 0).all():
            skills = [float(x) for x in np.quantile(1.0 - drawn_a / drawn_b, ends)]
    return Difference(
        one, other, one - other, limits[0], limits[1], skill, skills[0], skills[1], confidence, len(count),
        int(both.sum()),
    )  # fmt: skip
