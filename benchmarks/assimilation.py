"""Global analyses: against the matrix products they cannot do without, and against filterpy.

The bound is one product of whitened anomalies, N x m with its transpose, and one of the transform with the state,
N x N with N x n, by the same BLAS: N^2 m + 2 N^2 n. For ES-MDA, two steps, it is twice that.

filterpy's EnsembleKalmanFilter forms n x n and m x m matrices and walks through the members, so it is measured at
a size it can do. Its gain applied to the mean innovation gives the mean that ours must have (its own mean
carries the sampling error of its perturbations): the difference is the largest between those.
"""

from __future__ import annotations

from collections.abc import Callable

import common
import numpy as np

from vvuq_twin.assimilation import ESMDA, ETKF, Key, Scheme, start
from vvuq_twin.domain.keys import generator
from vvuq_twin.domain.observations import ObservationError, Observations

SMALL = {"n": 500, "m": 40, "size": 20, "small_n": 30, "small_m": 10, "repeats": 1}


def problem(n: int, m: int, size: int) -> tuple[np.ndarray, Observations, np.ndarray]:
    """An ensemble (size, n), observations of m of its columns, and which."""
    draw = generator(1, "benchmark", "assimilation", n)
    members = 3.0 + draw.standard_normal((size, n))
    columns = np.sort(draw.choice(n, m, replace=False))
    observed = Observations(
        3.5 + draw.standard_normal(m), ObservationError(np.full(m, 0.5)), np.zeros((m, 0)), ["scan"], 0.0
    )
    return members, observed, columns


def analysis(
    scheme: Scheme, members: np.ndarray, observed: Observations, columns: np.ndarray
) -> Callable[[], np.ndarray]:
    """All steps of an analysis, the state updated each time; observing is picking columns."""

    def run() -> np.ndarray:
        carry, now = start(len(members)), members
        for _ in range(scheme.steps):
            update, carry = scheme.analyse(carry, now[:, columns], observed, Key(1))
            now = update.apply(now)
        return now

    return run


def measure(
    n: int = 100_000,
    m: int = 1000,
    size: int = 100,
    small_n: int = 300,
    small_m: int = 100,
    repeats: int = 5,
) -> list[common.Row]:
    members, observed, columns = problem(n, m, size)
    anomalies = members[:, columns] - members[:, columns].mean(axis=0)
    transform = np.eye(size) + 0.01
    gram, out = np.empty((size, size)), np.empty_like(members)
    rows = []
    for name, scheme in (("ETKF", ETKF()), ("ES-MDA, 2 steps", ESMDA(2))):
        run = analysis(scheme, members, observed, columns)

        def products(times: int = scheme.steps) -> None:
            for _ in range(times):
                np.matmul(anomalies, anomalies.T, out=gram)
                np.matmul(transform, members, out=out)

        mine, other, ratio = common.alternate(run, products, repeats)
        target = "0.67 (1.5 x the bound)" if scheme.steps == 1 else ""
        what = f"{name}, n = {n}, m = {m}, N = {size}"
        rows.append(
            common.Row(what, mine, "the matrix products", other, ratio, target, memory=common.peak(run))
        )

    from filterpy.kalman import EnsembleKalmanFilter

    members, observed, columns = problem(small_n, small_m, size)
    centre = members.mean(axis=0)
    peer = EnsembleKalmanFilter(
        centre, np.eye(small_n), small_m, 1.0, size, lambda x: x[columns], lambda x, dt: x
    )
    noise = np.diag(observed.error.voxel**2)

    def filterpy() -> None:
        peer.sigmas, peer.x, peer.P = members.copy(), centre, np.eye(small_n)
        peer.update(observed.y, noise)

    filterpy()
    mean = centre + peer.K @ (observed.y - centre[columns])
    for name, scheme in (("ETKF", ETKF()), ("ES-MDA, 1 step", ESMDA(1))):
        run = analysis(scheme, members, observed, columns)
        difference = float(np.abs(run().mean(axis=0) - mean).max())
        mine, other, ratio = common.alternate(run, filterpy, repeats)
        what = f"{name}, n = {small_n}, m = {small_m}, N = {size}"
        rows.append(common.Row(what, mine, "filterpy EnKF", other, ratio, difference=difference))
    return rows


if __name__ == "__main__":
    common.show(measure())
