"""Which members of an ensemble a reduced model can be trusted with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..domain.parameters import ParameterSpace
from ..reduction.training import REACH


@dataclass(frozen=True)
class Trust:
    """What the reduced model says of its own error, per member.

    Parameters
    ----------
    estimate : ndarray, shape (N,)
        Estimated relative L2 error inside the tumour at the worst visit.
    tolerance : float
    outside : dict of str to int
        How many members lie outside the trained range of each parameter (only those with any).
    failed : int
        Members whose run has a status other than good.
    """

    estimate: np.ndarray
    tolerance: float
    outside: dict[str, int]
    failed: int

    @property
    def flagged(self) -> np.ndarray:
        """Members whose estimate is above the tolerance, bool of shape (N,)."""
        return ~(self.estimate <= self.tolerance)

    def __str__(self) -> str:
        n = len(self.estimate)
        text = f"{int(self.flagged.sum())} of {n} members have an estimated error above {100 * self.tolerance:g} %"
        if self.outside:
            names = ", ".join(f"{name} {count}" for name, count in sorted(self.outside.items()))
            text += f"; outside the trained range: {names}"
        if self.failed:
            text += f"; {self.failed} could not be run"
        return text


def outside_range(space: ParameterSpace, theta: np.ndarray, reach: float = REACH) -> dict[str, int]:
    """How many members (N, p) have each parameter beyond ``reach`` standard normal scores of its prior."""
    beyond = {}
    for i, parameter in enumerate(space.parameters):
        score = np.asarray(parameter.prior.to_gaussian(np.asarray(theta)[:, i]))
        count = int((~(np.abs(score) <= reach)).sum())
        if count:
            beyond[parameter.name] = count
    return beyond
