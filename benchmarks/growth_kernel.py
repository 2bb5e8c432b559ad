"""One step of the full-order growth model: against scipy.sparse, and against copying memory.

The peer takes the same Strang step (half logistic, Heun diffusion, half logistic) with the same operator
as a scipy.sparse CSR matrix; the difference is the largest of the final fields.

The bound is the time to move what the step cannot avoid moving, counted in arrays over the active rows:
Heun's first stage reads u and three face arrays and writes one, the second reads the stage, u and the
faces and writes u, each half logistic step reads and writes u: 15 in all. They move at the rate of a copy
(numpy) between two arrays; once as large as the step's own five arrays together, and once far beyond any cache.
"""

from __future__ import annotations

import common
import numpy as np

from vvuq_twin.physics import faces as domain
from vvuq_twin.physics.growth import GrowthParameters, advance
from vvuq_twin.physics.timeline import timeline
from vvuq_twin.virtual.brain import LABELS, make_brain

SMALL = {"spacing": 8.0, "steps": 5, "repeats": 1, "large_mib": 8}
ARRAYS = 15


def measure(
    spacing: float = 2.0, steps: int = 50, repeats: int = 5, large_mib: int = 512
) -> list[common.Row]:
    brain = make_brain(spacing, 1)
    faces = domain.assemble(brain.grid, brain.mask, brain.tissue, {name: k for k, name in LABELS.items()})
    line = timeline(0.0, [float(steps)], dt_max=1.0)
    d, rate, dt = np.array([0.1 if name == "white" else 0.02 for name in faces.names]), 0.05, 1.0
    points = np.argwhere(brain.mask) * spacing
    far = ((points - points.mean(axis=0) - 15.0) ** 2).sum(axis=1)
    start = 0.6 * np.exp(-far / (2 * 12.0**2))
    parameters = GrowthParameters.of(d, rate)
    matrix = (dt * faces.operator(d)).tocsr()
    e = np.exp(0.5 * rate * dt)

    def ours() -> np.ndarray:
        return advance(faces, start, parameters, line)[0][0, -1]

    def theirs() -> np.ndarray:
        u = start.copy()
        for _ in range(steps):
            u = e * u / (1.0 + (e - 1.0) * u)
            stage = u + matrix @ u
            u = 0.5 * (u + stage + matrix @ stage)
            u = e * u / (1.0 + (e - 1.0) * u)
        return u

    difference = float(np.abs(ours() - theirs()).max())
    mine, other, ratio = common.alternate(ours, theirs, repeats, (steps, steps))
    what = f"growth step, {faces.n} voxels"
    rows = [
        common.Row(what, mine, "scipy.sparse, same operator", other, ratio, difference=difference),
    ]
    cells = int((faces.rows[:, 3] - faces.rows[:, 2]).sum())
    for name, size, target in (
        ("copying its 15 arrays, in reach of the cache", 5 * int(np.prod(faces.box)), ""),
        ("copying its 15 arrays, beyond the cache", large_mib * 2**20 // 16, "0.4 (40 % of copying)"),
    ):
        source, sink = np.ones(size), np.zeros(size)
        rounds = max(1, 2**25 // size)

        def copy(source: np.ndarray = source, sink: np.ndarray = sink, rounds: int = rounds) -> None:
            for _ in range(rounds):
                np.copyto(sink, source)

        moved = 2 * size * rounds / (ARRAYS * cells)  # steps' worth of traffic in one call
        mine, other, ratio = common.alternate(ours, copy, repeats, (steps, moved))
        rows.append(common.Row(what, mine, name, other, ratio, target))
    return rows


if __name__ == "__main__":
    common.show(measure())
