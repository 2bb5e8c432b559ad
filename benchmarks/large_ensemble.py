"""An ensemble larger than memory: one cycle through Zarr against copying the members through Zarr.

The members are read by rows, propagated, written, read by columns, analysed and written: twice the traffic of the
copy beside it. Printed as memory is the most that this process held at once beyond what it began with. The difference
is between the updated members of the last tile and the same update made in memory.
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

import common
import numpy as np

from vvuq_twin.assimilation import ETKF, Key, start
from vvuq_twin.assimilation.large import LargeModel, Layout, assimilate_large
from vvuq_twin.domain.keys import generator, member_normals
from vvuq_twin.domain.observations import ObservationError, Observations

SMALL = {"n": 20_000, "m": 50, "size": 12, "width": 3000, "batch": 2}


def initial(members: np.ndarray, n: int) -> np.ndarray:
    """Smooth random fields of given members, (b, n): cheap ones, since it is not they that are timed."""
    draws = member_normals(3, "fields", members, 4)
    x = np.linspace(-1.0, 1.0, n)
    return ((draws[:, 3:] * x + draws[:, 2:3]) * x + draws[:, 1:2]) * x + draws[:, :1]


def propagate(E: np.ndarray, members: np.ndarray, t0: float, t1: float, n: int) -> np.ndarray:
    return 0.9 * E


def observe(E: np.ndarray, scan: Observations, n: int) -> np.ndarray:
    return E[:, scan.coords[:, 0].astype(int)]


def measure(
    n: int = 10_000_000,
    m: int = 1000,
    size: int = 100,
    width: int = 100_000,
    batch: int = 2,
    dtype: str = "float32",
) -> list[common.Row]:
    import zarr

    rng = generator(5, "large")
    at = np.sort(rng.choice(n, m, replace=False)).astype(float)[:, None]
    error = ObservationError(np.full(m, 0.5))
    scan = Observations(rng.standard_normal(m), error, at, ["scan"], 1.0)
    model, layout, key = LargeModel(n, initial, propagate, observe, n), Layout(batch, width, dtype), Key(1)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        folder = Path(scratch) / "run"
        begin = time.perf_counter()
        done = assimilate_large(folder, ETKF(), model, [scan], key, size, layout=layout)
        whole = time.perf_counter() - begin
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        last = np.arange((n - 1) // width * width, n)
        E = zarr.open_array(str(folder / "cycle-0000" / "state.zarr"), mode="r")
        prior = 0.9 * np.asarray(E[:, last[0] :], dtype=float)
        HE = np.concatenate([0.9 * observe(E[i : i + 1, :].astype(float), scan, n) for i in range(size)])
        update, _ = ETKF().analyse(start(size), HE.astype(dtype).astype(float), scan, key)
        difference = float(np.abs(update.apply(prior) - done.E[:, last[0] :]).max())
        begin = time.perf_counter()
        copy = zarr.create_array(
            str(Path(scratch) / "copy.zarr"),
            shape=(size, n),
            chunks=(batch, width),
            dtype=dtype,
            compressors=None,
        )
        for i in range(0, size, batch):
            copy[i : i + batch] = E[i : i + batch]
        copied = time.perf_counter() - begin
    what = f"initial members and one cycle, n = {n}, N = {size}, {dtype}"
    note = f"{whole / copied:.1f} times a copy; the ensemble itself is {size * n * np.dtype(dtype).itemsize / 2**20:.0f} MiB"
    return [
        common.Row(what, whole, "a copy through Zarr", copied, copied / whole, "", difference, peak, note)
    ]


if __name__ == "__main__":
    common.show(measure())
