"""Do the intervals cover as often as they say? Judged over patients.

Visits and quantities of one patient are not independent, so the patient is what is counted: the share of a
patient's intervals that cover is one number between 0 and 1, and the interval for the mean of these numbers
is the binomial one for as many trials as there are patients (exact for one interval a patient, cautious for more).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..domain.errors import BadInput
from ..domain.evidence import Evidence, Status

LEAST_PATIENTS = 100


def binomial_interval(hits: float, trials: int, confidence: float = 0.99) -> tuple[float, float]:
    """Clopper-Pearson interval of a probability.

    Parameters
    ----------
    hits : float
        Successes; need not be whole (the beta quantiles continue the formula).
    trials : int
    confidence : float

    Returns
    -------
    tuple of float

    Notes
    -----
    Clopper & Pearson (1934), Biometrika 26:404: the alpha/2 quantile of Beta(x, n - x + 1) and the
    1 - alpha/2 quantile of Beta(x + 1, n - x). Covers at least as often as it says.

    Raises
    ------
    BadInput
        If there are no trials, or the hits are outside 0..trials.
    """
    from scipy import stats

    if trials < 1 or not 0 <= hits <= trials:
        raise BadInput(f"{hits:g} of {trials} is not a count of patients", "coverage")
    if not 0 < confidence < 1:
        raise BadInput(f"a confidence of {confidence:g} is not between 0 and 1", "coverage")
    half = (1.0 - confidence) / 2.0
    low = 0.0 if hits == 0 else float(stats.beta.ppf(half, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(stats.beta.ppf(1.0 - half, hits + 1, trials - hits))
    return low, high


@dataclass(frozen=True)
class Coverage:
    """A coverage with its verdict.

    Parameters
    ----------
    nominal : float
        What the intervals claim.
    observed : float
        Mean over patients of the share that covered.
    lower, upper : float
        Its binomial interval over patients.
    confidence : float
        Of that interval.
    patients : int
    intervals : int
        Intervals judged, all patients together.
    least_patients : int
        Below this many a coverage that is not refuted is not confirmed either.
    """

    nominal: float
    observed: float
    lower: float
    upper: float
    confidence: float
    patients: int
    intervals: int
    least_patients: int = LEAST_PATIENTS

    @property
    def width(self) -> float:
        """Width of the binomial interval: what the test could have seen."""
        return self.upper - self.lower

    @property
    def status(self) -> Status:
        """Failed if the interval excludes the nominal level; not assessed with too few patients."""
        if not self.lower <= self.nominal <= self.upper:
            return "failed"
        return "passed" if self.patients >= self.least_patients else "not assessed"

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with width and status."""
        return {**asdict(self), "width": self.width, "status": self.status}


def judge_coverage(
    inside: ArrayLike, nominal: float, confidence: float = 0.99, least_patients: int = LEAST_PATIENTS
) -> Coverage:
    """Judge whether intervals cover at their nominal level.

    Parameters
    ----------
    inside : array_like, shape (P,) or (P, k)
        Per patient whether each of k intervals covered (1 or 0); NaN where there was nothing to cover.
    nominal : float
    confidence : float
    least_patients : int

    Raises
    ------
    BadInput
        If no patient has an interval to judge, a value is outside 0..1, or the level is.
    """
    hits = np.asarray(inside, dtype=float)
    if hits.ndim not in (1, 2):
        raise BadInput(f"coverage of shape {hits.shape} is not patients by intervals", "coverage")
    hits = hits.reshape(len(hits), -1)
    if not 0 < nominal < 1:
        raise BadInput(f"the nominal level ({nominal:g}) is not between 0 and 1", "coverage")
    present = np.isfinite(hits)
    if (hits[present] < 0).any() or (hits[present] > 1).any():
        raise BadInput("a coverage is neither hit nor miss", "coverage")
    judged = present.any(axis=1)
    patients = int(judged.sum())
    if patients == 0:
        raise BadInput("there is no patient with an interval to judge", "coverage")
    share = np.where(present, hits, 0.0)[judged].sum(axis=1) / present[judged].sum(axis=1)
    observed = float(np.clip(share.mean(), 0.0, 1.0))
    low, high = binomial_interval(min(observed * patients, patients), patients, confidence)
    return Coverage(nominal, observed, low, high, confidence, patients, int(present.sum()), least_patients)


def coverage_evidence(
    id: str,
    claim: str,
    judged: Mapping[str, Coverage],
    beside: Mapping[str, Any] | None = None,
    factor: str = "output_comparison",
    provenance: Mapping[str, Any] | None = None,
    artefacts: tuple[str, ...] = (),
) -> Evidence:
    """Evidence from the coverages of several quantities or visits.

    Parameters
    ----------
    id, claim, factor, provenance, artefacts
        As in :class:`~vvuq_twin.domain.evidence.Evidence`.
    judged : mapping of str to Coverage
        By quantity and visit ("volume, day 42").
    beside : mapping, optional
        Sharpness and CRPS by name with unit: coverage bought by wide intervals is not a pass to be proud of.

    Returns
    -------
    Evidence
        Failed if any coverage failed; passed if all passed; else not assessed.
    """
    if not judged:
        raise BadInput("there is no coverage to make evidence of", id)
    states = {c.status for c in judged.values()}
    status: Status = "failed" if "failed" in states else "passed" if states == {"passed"} else "not assessed"
    levels = sorted({(c.nominal, c.confidence, c.least_patients) for c in judged.values()})
    acceptance = "; ".join(
        f"the {100 * conf:g} % binomial interval over at least {least} patients holds {100 * nominal:g} %"
        for nominal, conf, least in levels
    )
    result = {"coverage": {name: c.as_dict() for name, c in judged.items()}, **(beside or {})}
    return Evidence(id, factor, claim, acceptance, result, status, artefacts, dict(provenance or {}))
