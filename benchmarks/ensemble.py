"""What a sample of an ensemble costs beside the model: batches that are stored, against a Dask task a sample.

The model is a few operations, so the time is overhead. Ours evaluates batches, writes them to a Zarr store with
statuses and markers so that it can be resumed, and reads them back; the peer is ``client.map`` over single
samples with one gather, and stores nothing. Both run on the same embedded cluster; wall time.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import numpy as np

from vvuq_twin.ensemble.cluster import cluster
from vvuq_twin.ensemble.run import run_batches

SMALL = {"samples": 64, "singles": 8, "batch": 16, "workers": 1, "repeats": 1}


def model(x: np.ndarray, members: np.ndarray, context: Any) -> dict[str, np.ndarray]:
    """Batch function: two outputs of ten inputs."""
    return {"mean": x.mean(axis=1), "energy": (x**2).sum(axis=1)}


def single(x: np.ndarray) -> tuple[float, float]:
    """The same for one sample."""
    return float(x.mean()), float((x**2).sum())


def measure(
    samples: int = 10_000, singles: int = 1000, batch: int = 256, workers: int = 2, repeats: int = 5
) -> list[common.Row]:
    import cloudpickle

    # workers need not find this file
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    x = np.random.default_rng(1).standard_normal((samples, 10))
    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    try:
        with cluster(workers, folder=folder) as client:
            count = iter(range(10**6))

            def ours() -> np.ndarray:
                found = run_batches(model, x, folder / str(next(count)), batch, client)
                return np.stack([found["mean"][:], found["energy"][:]], axis=1)

            def inline() -> np.ndarray:
                found = run_batches(model, x, folder / str(next(count)), batch)
                return np.stack([found["mean"][:], found["energy"][:]], axis=1)

            def theirs() -> np.ndarray:
                return np.array(client.gather(client.map(single, list(x[:singles]), pure=False)))

            difference = float(np.abs(ours()[:singles] - theirs()).max())
            rows = []
            for name, run, target in (
                (f"batches of {batch} on Dask, a sample of {samples}", ours, "50, and 100 us"),
                (f"the same without Dask, a sample of {samples}", inline, ""),
            ):
                mine, other, ratio = common.alternate(
                    run, theirs, repeats, (samples, singles), time.perf_counter
                )
                rows.append(
                    common.Row(
                        name, mine, "a Dask task a sample, not stored", other, ratio, target, difference
                    )
                )
            return rows
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    common.show(measure())
