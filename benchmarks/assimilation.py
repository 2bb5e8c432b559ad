"""Analyses of the same arrays: against the matrix products they cannot do without, and against other libraries.

The bound is one product of whitened anomalies, N x m with its transpose, and one of the transform with the state,
N x N with N x n, by the same BLAS: N^2 m + 2 N^2 n. Ours makes its diagnostics (spread, ranks, CRPS, ...) each time,
the others do not. The bound writes into an array that is there; ours does so too ("kept array"), writes over the ensemble
("in place"), and makes a new array, as the peers do. Peers: DAPPER's square-root and local analyses, iterative_ensemble_smoother's ES-MDA with the very
perturbations ours draws, filterpy's ensemble filter, which forms n x n and m x m matrices and walks through the members,
so at a size it can do. The difference is the largest between the updated members (filterpy: between means).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from itertools import product
from typing import Any

import common
import numpy as np

from vvuq_twin.assimilation import ESMDA, ETKF, LETKF, Key, Scheme, Tiles, start
from vvuq_twin.domain.keys import generator
from vvuq_twin.domain.observations import ObservationError, Observations

#: (n, m, N) of the global analyses; the local one's voxels along an edge, members and radius in voxels.
SIZES = tuple(product((1000, 100_000, 1_000_000), (50, 1000, 10_000), (50, 100, 500)))
#: Numbers in an ensemble beyond which the peers' copies of it would not fit into 24 GiB.
PEERS_HOLD = 100_000_000
SMALL: dict[str, Any] = {
    "sizes": ((500, 40, 20), (60, 90, 20)),
    "edge": 12,
    "local_members": 10,
    "small_n": 30,
    "small_m": 10,
    "repeats": 1,
}
KEY = Key(1)


def problem(n: int, m: int, size: int) -> tuple[np.ndarray, Observations, np.ndarray]:
    """An ensemble (size, n), observations of m of its columns (some twice if m > n), and which."""
    draw = generator(1, "benchmark", "assimilation", n, m)
    members = 3.0 + draw.standard_normal((size, n))
    columns = np.sort(draw.choice(n, m, replace=m > n))
    observed = Observations(
        3.5 + draw.standard_normal(m), ObservationError(np.full(m, 0.5)), np.zeros((m, 0)), ["scan"], 0.0
    )
    return members, observed, columns


def analysis(
    scheme: Scheme, members: np.ndarray, observed: Observations, HE: np.ndarray, out: np.ndarray | None = None
) -> Callable[[], np.ndarray]:
    """One analysis and the update of the state, written into ``out`` or a new array."""

    def run() -> np.ndarray:
        update, _ = scheme.analyse(start(len(members)), HE, observed, KEY)
        return update.apply(members, out=out)

    return run


def products(anomalies: np.ndarray, members: np.ndarray, out: np.ndarray) -> Callable[[], None]:
    size = len(members)
    transform, gram = np.eye(size) + 0.01, np.empty((size, size))

    def run() -> None:
        np.matmul(anomalies, anomalies.T, out=gram)
        np.matmul(transform, members, out=out)

    return run


def dapper_global(members: np.ndarray, observed: Observations, HE: np.ndarray) -> Callable[[], np.ndarray]:
    """DAPPER's ``EnKF_analysis`` with the square root, as its EnKF calls it."""
    from dapper.da_methods.ensemble import EnKF_analysis
    from dapper.tools.randvars import GaussRV

    noise = GaussRV(C=observed.error.voxel[0] ** 2, M=len(observed.y))
    return lambda: EnKF_analysis(members, HE, noise, observed.y, "Sqrt")


def dapper_local(
    members: np.ndarray, observed: Observations, HE: np.ndarray, near: list[tuple[np.ndarray, np.ndarray]]
) -> Callable[[], np.ndarray]:
    """DAPPER's ``local_analyses``, one state index a batch, with the neighbours and tapers given."""
    from dapper.da_methods.ensemble import local_analyses
    from dapper.tools.randvars import GaussRV

    R = GaussRV(C=observed.error.voxel[0] ** 2, M=len(observed.y)).C
    batches = [np.array([i]) for i in range(members.shape[1])]

    def run() -> np.ndarray:
        found, _ = local_analyses(members.copy(), HE, R, observed.y, batches, lambda ii: near[int(ii[0])])
        return np.asarray(found)

    return run


def smoother(members: np.ndarray, observed: Observations, HE: np.ndarray) -> Callable[[], np.ndarray]:
    """iterative_ensemble_smoother's ES-MDA of one step, members along its second axis, with our perturbations."""
    from iterative_ensemble_smoother import ESMDA as Theirs

    size, m = HE.shape
    normals = KEY.normals("perturbations", np.arange(size), m, 0, 0)
    eps = observed.error.perturbations(normals)
    eps = (eps - eps.mean(axis=0)) * np.sqrt(size / (size - 1.0))
    X, Y, D = np.asfortranarray(members.T), np.asfortranarray(HE.T), eps.T.copy()

    def run() -> np.ndarray:
        theirs = Theirs(observed.error.voxel**2, observed.y, alpha=np.array([1.0]), seed=1)
        theirs.prepare_assimilation(Y=Y, truncation=1.0, observation_perturbations=D)
        return np.asarray(theirs.assimilate_batch(X=X)).T

    return run


def global_rows(n: int, m: int, size: int, repeats: int) -> list[common.Row]:
    members, observed, columns = problem(n, m, size)
    HE = np.ascontiguousarray(members[:, columns])
    kept = np.empty_like(members)
    bound = products((HE - HE.mean(axis=0)) / 0.5, members, kept)
    rows = []
    peers = (
        ("ETKF", ETKF(), "DAPPER, square root", "dapper", dapper_global),
        ("ES-MDA, 1 step", ESMDA(1), "iterative_ensemble_smoother", "iterative_ensemble_smoother", smoother),
    )
    for name, scheme, peer, module, make in peers:
        what = f"{name}, n = {n}, m = {m}, N = {size}"
        ours = {
            "kept array": analysis(scheme, members, observed, HE, kept),
            "in place": analysis(scheme, kept, observed, HE, kept),
            "new array": analysis(scheme, members, observed, HE),
        }
        works: list[Callable[[], Any]] = [bound, *ours.values()]
        difference = None
        if n * size <= PEERS_HOLD and find_spec(module) is None:
            print(f"{module} is not installed: no row for it")
        elif n * size <= PEERS_HOLD:
            theirs = make(members, observed, HE)
            works.append(theirs)
            difference = float(np.abs(ours["kept array"]() - theirs()).max())
            print(f"{what}: {peer} holds {common.peak(theirs):.3g} MiB")
        seconds = common.turns(works, repeats)
        target = "0.67 (1.5 x the bound)" if name == "ETKF" and n >= 100_000 else ""
        memory = {way: common.peak(run) for way, run in ours.items()}
        others = [("the matrix products", seconds[0], target, None)]
        if difference is not None:
            others.append((peer, seconds[-1], "3" if n >= 100_000 else "", difference))
        for label, other, aim, apart in others:
            for way, own in zip(ours, seconds[1:4]):
                row = common.versus(own, other)
                rows.append(
                    common.Row(f"{what}, {way}", row[0], label, row[1], row[2], aim, apart, memory[way])
                )
    return rows


def local_row(edge: int, members: int, repeats: int, radius: float = 1.5) -> list[common.Row]:
    """Every pixel of a square observed and analysed by itself."""
    points = np.argwhere(np.ones((edge, edge))).astype(float)
    E, observed, _ = problem(len(points), len(points), members)
    observed = replace(observed, coords=points)
    scheme = LETKF(Tiles.of(points, 0.0), radius)
    run, what = (
        analysis(scheme, E, observed, E),
        f"LETKF, {edge} x {edge} pixels, N = {members}, radius {radius:g}",
    )
    if find_spec("dapper") is None:
        print("dapper is not installed: no row for it")
        return []
    update, _ = scheme.analyse(start(members), E, observed, KEY)
    near: list[Any] = [None] * len(points)
    for chosen, index, taper in update.local.near(np.arange(len(points))):  # type: ignore[union-attr]
        for i, rows, weight in zip(chosen, index, taper):
            near[int(i)] = (rows[weight > 0], weight[weight > 0])
    theirs = dapper_local(E, observed, E, near)
    difference = float(np.abs(run() - theirs()).max())
    mine, other, ratio = common.alternate(run, theirs, repeats)
    return [common.Row(what, mine, "DAPPER, local_analyses", other, ratio, "5", difference, common.peak(run))]


def filterpy_rows(n: int, m: int, size: int, repeats: int) -> list[common.Row]:
    from filterpy.kalman import EnsembleKalmanFilter

    members, observed, columns = problem(n, m, size)
    HE, centre = members[:, columns], members.mean(axis=0)
    peer = EnsembleKalmanFilter(centre, np.eye(n), m, 1.0, size, lambda x: x[columns], lambda x, dt: x)
    noise = np.diag(observed.error.voxel**2)

    def filterpy() -> None:
        peer.sigmas, peer.x, peer.P = members.copy(), centre, np.eye(n)
        peer.update(observed.y, noise)

    filterpy()
    # its own mean carries the sampling error of its perturbations: its gain on the mean innovation does not
    mean = centre + peer.K @ (observed.y - centre[columns])
    rows = []
    for name, scheme in (("ETKF", ETKF()), ("ES-MDA, 1 step", ESMDA(1))):
        run = analysis(scheme, members, observed, HE)
        difference = float(np.abs(run().mean(axis=0) - mean).max())
        mine, other, ratio = common.alternate(run, filterpy, repeats)
        what = f"{name}, n = {n}, m = {m}, N = {size}"
        rows.append(common.Row(what, mine, "filterpy EnKF", other, ratio, difference=difference))
    return rows


def measure(
    sizes: tuple[tuple[int, int, int], ...] = SIZES, edge: int = 48, local_members: int = 40, small_n: int = 300,
    small_m: int = 100, repeats: int = 3,
) -> list[common.Row]:  # fmt: skip
    # what takes a millisecond is measured more often
    rows = [
        row for n, m, size in sizes for row in global_rows(n, m, size, repeats * (10 if n < 10_000 else 1))
    ]
    rows += local_row(edge, local_members, repeats) + local_row(edge, local_members, repeats, 4.0)
    return rows + filterpy_rows(small_n, small_m, sizes[0][2], repeats)


if __name__ == "__main__":
    common.show(measure())
