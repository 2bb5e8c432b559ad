"""From evidence to the status of each credibility factor, and the risk of relying on the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ..domain.evidence import Evidence
from .factors import FACTORS, Factor, find

FactorState = Literal["failed", "passed", "in part", "planned", "not assessed", "not applicable"]

STATUSES: tuple[str, ...] = ("passed", "failed", "planned", "not assessed", "not applicable")


@dataclass(frozen=True)
class Assessment:
    """A factor, its joint status and the evidence that speaks to it."""

    factor: Factor
    status: FactorState
    evidence: tuple[Evidence, ...]


def joint(evidence: Iterable[Evidence]) -> FactorState:
    """The joint status of a factor's evidence.

    Returns
    -------
    str
        "failed" if any check failed; "passed" if all that apply passed; "in part" if some passed and
        others are only planned or were not assessed; else "planned", "not applicable" or "not assessed".
    """
    seen = {e.status for e in evidence}
    if "failed" in seen:
        return "failed"
    if "passed" in seen:
        return "in part" if seen & {"planned", "not assessed"} else "passed"
    if "planned" in seen:
        return "planned"
    return "not applicable" if seen == {"not applicable"} else "not assessed"


def assess(evidence: Iterable[Evidence]) -> tuple[Assessment, ...]:
    """The status of all thirteen factors, in the order of the standard.

    A factor without evidence is "not assessed"; evidence of an unknown factor is left to :func:`unplaced`.
    """
    held: dict[str, list[Evidence]] = {f.key: [] for f in FACTORS}
    for item in evidence:
        factor = find(item.factor)
        if factor is not None:
            held[factor.key].append(item)
    return tuple(Assessment(f, joint(held[f.key]), tuple(held[f.key])) for f in FACTORS)


def unplaced(evidence: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """Evidence whose factor is none of the standard's."""
    return tuple(e for e in evidence if find(e.factor) is None)


def counts(evidence: Iterable[Evidence]) -> dict[str, int]:
    """How many pieces of evidence have each status, all five statuses named."""
    seen: Counter[str] = Counter(e.status for e in evidence)
    return {status: seen[status] for status in STATUSES}


_LEVELS = {"low": 1, "medium": 2, "moderate": 2, "high": 3}
_RISK = {1: "low", 2: "low to medium", 3: "medium", 4: "medium to high", 5: "high"}


def model_risk(influence: str, consequence: str) -> str | None:
    """Model risk from model influence and decision consequence, each low, medium or high.

    V&V 40 makes risk a combination of the two and leaves the scale to its user. The scale here counts
    low, medium, high as 1, 2, 3 and adds: 2 is low, 6 is high, five steps in all.

    Returns
    -------
    str or None
        None if either level is not one of the three.
    """
    a, b = _LEVELS.get(influence.strip().lower()), _LEVELS.get(consequence.strip().lower())
    return None if a is None or b is None else _RISK[a + b - 1]
