"""Models of fields that a surrogate can be judged by: polynomial in the scores, and smooth but not polynomial."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vvuq_twin.domain.parameters import LogNormal, Normal, Parameter, ParameterSpace
from vvuq_twin.twin.model import Trajectory

SPACE = ParameterSpace(
    (
        Parameter("D", "mm2/day", LogNormal(0.1, 0.3)),
        Parameter("k", "1/day", LogNormal(0.03, 0.2)),
        Parameter("initial_1", "1", Normal(0.0, 1.0)),
    )
)
X = np.linspace(0.0, 1.0, 300)
TIMES = np.array([0.0, 10.0, 20.0])


@dataclass(frozen=True)
class Quadratic:
    """Fields of degree two in the scores; zero on the last hundred voxels."""

    space: ParameterSpace = SPACE

    def trajectory(self, theta):
        z = self.space.to_gaussian(theta)
        a, b, c = z.T
        parts = np.stack([2.0 + 0.3 * a, 0.2 * b + 0.1 * a * b, 0.1 * c**2 - 0.05 * c])
        shapes = np.stack([np.exp(-X), np.sin(3 * X), X]) * (X < 2 / 3)
        growth = 1.0 + 0.02 * TIMES
        return Trajectory(
            np.einsum("in,ix,t->ntx", parts, shapes, growth), np.zeros(len(z), dtype=int), TIMES
        )


@dataclass(frozen=True)
class Front:
    """A logistic front that spreads and grows: smooth, not polynomial. Runs with a large D diverge."""

    space: ParameterSpace = SPACE
    diverges_above: float = np.inf

    def trajectory(self, theta):
        d, k, c = (theta[:, i, None, None] for i in range(3))
        t = TIMES[None, :, None]
        centre, width = 0.3 + np.sqrt(d * k) * t * 0.2, 0.08 + 0.01 * np.sqrt(d * t)
        values = (0.5 + 0.05 * c) / (1.0 + np.exp((X - centre) / width))
        bad = theta[:, 0] > self.diverges_above
        values[bad, 1:] = np.nan
        return Trajectory(values, np.where(bad & (theta[:, 1] > 0.03), 1, 0), TIMES)
