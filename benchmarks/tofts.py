"""The extended Tofts fit of many voxels at once, per voxel, against scipy.optimize.curve_fit in a loop.

Both fit the same noisy curves with the same exact convolution (ours, compiled; a loop with a model in pure
Python would be slower), Ktrans, ve and vp free within bounds. The difference is the median relative one of
Ktrans between the two fits; the standard deviation of Ktrans by noise is some percent.
"""

from __future__ import annotations

import common
import numpy as np

from vvuq_twin.domain.keys import generator
from vvuq_twin.kinetics.aif import plasma
from vvuq_twin.kinetics.tofts import extended_tofts, fit_extended_tofts

SMALL = {"voxels": 64, "looped": 8, "repeats": 1}


def measure(
    voxels: int = 10_000, looped: int = 50, samples: int = 60, noise: float = 0.01, repeats: int = 5
) -> list[common.Row]:
    from scipy.optimize import curve_fit

    times = np.linspace(0.0, 5.0, samples)
    cp = plasma(times, onset=0.3)
    draw = generator(1, "benchmark", "tofts")
    ktrans, ve, vp = (draw.uniform(a, b, voxels) for a, b in ((0.05, 0.4), (0.15, 0.5), (0.01, 0.08)))
    curves = extended_tofts(cp, times, ktrans, ve, vp) + noise * draw.standard_normal((voxels, samples))

    def ours() -> np.ndarray:
        return fit_extended_tofts(curves, cp, times).ktrans

    def model(_: np.ndarray, k: float, e: float, p: float) -> np.ndarray:
        return extended_tofts(cp, times, k, e, p)[0]

    def theirs() -> np.ndarray:
        bounds = ([1e-6, 1e-3, 0.0], [5.0, 1.0, 1.0])
        found = [
            curve_fit(model, times, y, p0=(0.1, 0.2, 0.02), bounds=bounds)[0][0] for y in curves[:looped]
        ]
        return np.array(found)

    mine, loop = ours(), theirs()
    difference = float(np.median(np.abs(mine[:looped] - loop) / loop))
    one, other, ratio = common.alternate(ours, theirs, repeats, (voxels, looped))
    what = f"extended Tofts fit, a voxel of {voxels}, {samples} samples"
    return [
        common.Row(
            what,
            one,
            "scipy curve_fit in a loop",
            other,
            ratio,
            "1000, and 3 us",
            difference,
            common.peak(ours),
        )
    ]


if __name__ == "__main__":
    common.show(measure())
