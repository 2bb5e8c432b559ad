"""Response per visit after RECIST 1.1 and RANO from the sizes of the target lesions.

Progression is judged against the smallest sum so far (the nadir, the baseline included), response against the
baseline. What a person has to judge (clinical state, steroids, T2/FLAIR, non-target lesions, confirmation four weeks
later) is an input or is named as not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from ..domain.errors import BadInput
from ..domain.grid import Grid
from .extent import Extent, extent, lesions

Category = Literal["baseline", "CR", "PR", "SD", "PD", "not evaluable"]


@dataclass(frozen=True)
class Criterion:
    """Thresholds of a response criterion.

    Parameters
    ----------
    name : str
    measurable : float
        Least diameter (RANO: of both) of a target lesion at baseline, mm.
    targets : int
        Most target lesions.
    partial, progression : float
        Relative changes, from baseline and from the nadir.
    least_growth : float
        Absolute growth from the nadir that progression needs as well, mm.
    two_diameters : bool
        Sums are of products (mm2) rather than of longest diameters (mm).
    """

    name: str
    measurable: float
    targets: int
    partial: float
    progression: float
    least_growth: float
    two_diameters: bool

    def size(self, found: Extent) -> float:
        """What is summed of a lesion."""
        return found.product if self.two_diameters else found.longest

    def can_be_target(self, found: Extent) -> bool:
        """Whether a lesion is measurable."""
        return min(found.longest, found.perpendicular if self.two_diameters else np.inf) >= self.measurable


@cache
def criterion(name: Literal["recist_1_1", "rano"]) -> Criterion:
    """A criterion from the package's library (response_criteria.yaml)."""
    import yaml

    text = resources.files("vvuq_twin").joinpath("library/response_criteria.yaml").read_text(encoding="utf-8")
    table: Any = yaml.safe_load(text)[name]
    least = table.get("least_growth", {"value": 0.0})["value"]
    return Criterion(
        name, float(table["measurable"]["value"]), int(table["targets"]), float(table["partial"]),
        float(table["progression"]), float(least), name == "rano",
    )  # fmt: skip


@dataclass(frozen=True)
class Response:
    """Judgement of one visit.

    Parameters
    ----------
    category : str
        "baseline", "CR", "PR", "SD", "PD" or "not evaluable".
    total : float
        Sum over the target lesions, mm (RECIST) or mm2 (RANO).
    from_baseline, from_nadir : float
        Relative changes; NaN at baseline.
    new_lesion : bool
    """

    category: Category
    total: float
    from_baseline: float
    from_nadir: float
    new_lesion: bool = False


def judge(
    totals: Sequence[float],
    rule: Criterion,
    new_lesion: Sequence[bool] | None = None,
    worse: Sequence[bool] | None = None,
) -> list[Response]:
    """Categories of all visits from their sums; the first visit is the baseline.

    Parameters
    ----------
    totals : sequence of float
        Sum over the same target lesions at each visit; NaN where one could not be measured.
    rule : Criterion
    new_lesion : sequence of bool, optional
        Whether a new lesion was seen at a visit: progression whatever the sums.
    worse : sequence of bool, optional
        Clinical deterioration, unequivocal growth of non-target disease or (RANO) of T2/FLAIR: progression too.

    Raises
    ------
    BadInput
        If the baseline has no measurable sum, a sum is negative, or the lengths differ.
    """
    sums = np.asarray(totals, dtype=float)
    news = [False] * len(sums) if new_lesion is None else list(new_lesion)
    worsened = [False] * len(sums) if worse is None else list(worse)
    if not len(sums) == len(news) == len(worsened) or not len(sums):
        raise BadInput("sums, new lesions and clinical signs are not one a visit", rule.name)
    if not sums[0] > 0 or (sums < 0).any():
        raise BadInput(
            "the baseline has no measurable lesion", rule.name, "start at the first visit that has one"
        )
    out = [Response("baseline", float(sums[0]), np.nan, np.nan)]
    nadir = sums[0]
    for total, new, bad in zip(sums[1:], news[1:], worsened[1:]):
        change, growth = total / sums[0] - 1.0, total - nadir
        # a nadir of zero means that the lesions had gone: any return is growth without bound
        relative = growth / nadir if nadir > 0 else (np.inf if growth > 0 else 0.0)
        category: Category
        if new or bad or (relative >= rule.progression and growth >= rule.least_growth and growth > 0):
            category = "PD"
        elif np.isnan(total):
            category = "not evaluable"
        elif total == 0:
            category = "CR"
        elif change <= rule.partial:
            category = "PR"
        else:
            category = "SD"
        out.append(Response(category, float(total), float(change), float(relative), bool(new)))
        nadir = min(nadir, total) if np.isfinite(total) else nadir
    return out


def response(masks: Sequence[np.ndarray], grid: Grid, rule: Criterion, reach: float = 10.0) -> list[Response]:
    """Response of every visit from tumour masks on one grid.

    The targets are the largest measurable connected lesions of the first visit. A later part belongs to the target
    that it overlaps most once that has been widened by ``reach`` mm (what registration and growth leave open); one
    that overlaps no lesion of the first visit and is measurable itself is a new lesion.

    Parameters
    ----------
    masks : sequence of ndarray of bool, shape ``grid.shape``
        One a visit, on the first visit's grid. An empty mask means that nothing is left.
    grid : Grid
    rule : Criterion
    reach : float
        mm.

    Raises
    ------
    BadInput
        If a mask is off the grid, or the first visit has no measurable lesion.
    """
    for number, mask in enumerate(masks, 1):
        if mask.shape != grid.shape:
            raise BadInput(
                f"the mask of visit {number} is on another grid", rule.name, "resample it to the first visit"
            )
    first = lesions(np.asarray(masks[0], dtype=bool), grid)
    measured = [extent(part, grid) for part in first]
    targets = [i for i, found in enumerate(measured) if rule.can_be_target(found)]
    targets = sorted(targets, key=lambda i: -rule.size(measured[i]))[: rule.targets]
    if not targets:
        raise BadInput(
            f"no lesion of the first visit is measurable (at least {rule.measurable:g} mm)", rule.name,
            "report the volume instead",
        )  # fmt: skip
    away = [ndimage.distance_transform_edt(~part, sampling=grid.spacing) for part in first]
    totals, news = [], []
    for mask in masks:
        parts: dict[int, np.ndarray] = {}
        new = False
        for part in lesions(np.asarray(mask, dtype=bool), grid):
            shared = [int((part & (d <= reach)).sum()) for d in away]
            if max(shared) == 0:
                new = new or rule.can_be_target(extent(part, grid))
                continue
            owner = int(np.argmax(shared))
            parts[owner] = parts.get(owner, np.zeros_like(part)) | part
        totals.append(sum(rule.size(extent(parts[i], grid)) for i in targets if i in parts))
        news.append(new)
    return judge(totals, rule, news)
