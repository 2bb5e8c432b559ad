"""The extended Tofts fit of 1e5 voxels with standard errors, per voxel, against scipy and dcmri.

The same noisy curves for all, Ktrans, ve and vp free. ``scipy.optimize.curve_fit`` runs in a loop with our own
exact, compiled convolution (a model in pure Python would be slower). dcmri's tissue (kinetics "HF", which is
extended Tofts) is trained voxel by voxel as its own array class does it, on the spoiled-gradient-echo signals of
these curves, the only thing it takes. The difference is the median relative one of Ktrans to the peer's.
"""

from __future__ import annotations

from importlib.util import find_spec

import common
import numpy as np

from vvuq_twin.domain.keys import generator
from vvuq_twin.imaging.contrast import signal_of
from vvuq_twin.kinetics.aif import plasma
from vvuq_twin.kinetics.tofts import extended_tofts, fit_extended_tofts

SMALL = {"voxels": 64, "looped": 8, "repeats": 1, "noise": 2e-4}

#: Acquisition of the signals for dcmri: T1 1.4 s, 15 degrees, TR 5 ms, relaxivity 4.5 /mM/s.
T1, FLIP, TR, R1 = 1.4, 15.0, 0.005, 4.5


def measure(
    voxels: int = 100_000, looped: int = 40, samples: int = 60, noise: float = 0.01, repeats: int = 5
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

    def loop() -> np.ndarray:
        bounds = ([1e-6, 1e-3, 0.0], [5.0, 1.0, 1.0])
        found = [curve_fit(model, times, y, p0=(0.1, 0.2, 0.02), bounds=bounds) for y in curves[:looped]]
        return np.array([popt[0] for popt, _ in found])

    def row(peer: str, theirs: np.ndarray, one: float, other: float, ratio: float, target: str) -> common.Row:
        difference = float(np.median(np.abs(mine[:looped] - theirs) / theirs))
        what = f"extended Tofts fit with errors, a voxel of {voxels}, {samples} samples"
        return common.Row(what, one, peer, other, ratio, target, difference, memory)

    mine, memory = ours(), common.peak(ours)
    timed = common.alternate(ours, loop, repeats, (voxels, looped))
    rows = [row("scipy curve_fit in a loop", loop(), *timed, "1000, and 3 us")]
    if find_spec("dcmri") is None:
        print("dcmri is not installed: no row for it (pip install vvuq_twin[bench])")
        return rows
    signals = signal_of(curves, 100.0, T1, np.deg2rad(FLIP), TR, R1)

    def dcmri() -> np.ndarray:
        from dcmri import Tissue

        found = []
        for y in signals[:looped]:
            tissue = Tissue(
                kinetics="HF", ca=cp, t=60.0 * times, H=0.0, R10=1.0 / T1, FA=FLIP, TR=TR, r1=R1, n0=2,
                free={"vb": [0, 1], "vi": [1e-3, 1], "PS": [0, 0.1]},
            )  # fmt: skip
            found.append(tissue.train(60.0 * times, y).PS * 60.0)
        return np.array(found)

    return [
        *rows,
        row(
            "dcmri Tissue.train in a loop",
            dcmri(),
            *common.alternate(ours, dcmri, repeats, (voxels, looped)),
            "",
        ),
    ]


if __name__ == "__main__":
    common.show(measure())
