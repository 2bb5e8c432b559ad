"""A small growth problem that every test of the reduced growth model shares."""

from __future__ import annotations

import numpy as np

from vvuq_twin.domain.grid import Grid
from vvuq_twin.domain.parameters import LogNormal, Normal, Parameter, ParameterSpace, Uniform
from vvuq_twin.physics.faces import assemble
from vvuq_twin.physics.timeline import Timeline, timeline
from vvuq_twin.reduction.case import GrowthCase, GrowthNoise
from vvuq_twin.reduction.training import Training

SETTINGS = Training(n_train=24, n_greedy=8, turns=1, n_valid=16, max_rank=40, points=5, rounds=0)
NOISE = GrowthNoise(0.15, 40.0, (0.0, 20.0, 40.0, 60.0))


def small_timeline(dt_max: float = 1.0, shift: float = 0.0) -> Timeline:
    """Four visits, ten fractions and three drug doses."""
    return timeline(
        0.0,
        [0.0, 20.0, 40.0, 60.0],
        [(10.3 + shift, 1.0), (24.3, 1.0), (44.3, 2.0)],
        [(float(12 + i + i // 5 * 2) + 0.4, 2.0) for i in range(10)],
        dt_max,
        breaks=NOISE.edges[1:-1],
    )


def small_case(exposed: bool = True, line: Timeline | None = None) -> GrowthCase:
    """A ball of white and grey matter, 20 x 18 x 16 voxels of 3 mm, with a tumour in it."""
    grid = Grid((20, 18, 16), (3.0, 3.0, 3.0))
    x, y, z = np.meshgrid(*grid.centres(), indexing="ij")
    radius = np.sqrt((x - 28.5) ** 2 + (y - 25.5) ** 2 + (z - 22.5) ** 2)
    mask = radius < 27.0
    labels = np.where(radius > 20.0, 2, 1)
    faces = assemble(grid, mask, labels, {"white": 1, "grey": 2})
    away = np.sqrt((x - 24.0) ** 2 + 1.3 * (y - 24.0) ** 2 + (z - 22.0) ** 2)
    mean = 0.7 / (1.0 + np.exp((away - 10.0) / 2.0))
    patterns = [np.ones_like(x), (x - 24.0) / 12.0, (y - 24.0) / 12.0]
    modes = np.array([0.12 * mean * p for p in patterns])
    exposure = 1.0 + 0.5 * np.cos(x / 7.0) * np.sin(z / 6.0)

    def log(name: str, unit: str, median: float, sd: float) -> Parameter:
        return Parameter(name, unit, LogNormal(median, sd))

    space = ParameterSpace(
        (
            log("D_white", "mm2/day", 0.25, 0.35),
            log("D_grey", "mm2/day", 0.08, 0.35),
            log("k", "1/day", 0.03, 0.25),
            log("alpha_rt", "1/Gy", 0.02, 0.3),
            log("alpha_drug", "1/day", 0.15, 0.3),
            log("beta_drug", "1/day", 0.7, 0.3),
            Parameter("exposure_weight", "1", Uniform(0.0, 1.0)),
            log("adc_min", "mm2/s", 6e-4, 0.06),
            *(Parameter(f"initial_{i + 1}", "1", Normal(0.0, 1.0)) for i in range(3)),
            *(Parameter(f"growth_noise_{i + 1}", "1", Normal(0.0, 1.0)) for i in range(3)),
        )
    )
    return GrowthCase(
        faces,
        small_timeline() if line is None else line,
        space,
        faces.gather(mean),
        faces.gather(modes),
        0.16,
        {"alpha_beta": 10.0},
        faces.gather(exposure) if exposed else None,
        NOISE,
    )
