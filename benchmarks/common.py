"""What the benchmarks share: one thread, alternating measurements, one table.

Import this before numpy, so that the libraries see the number of threads.
"""

from __future__ import annotations

import os
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

if "numpy" not in sys.modules:  # later it has no effect
    for _name in ("OMP", "OPENBLAS", "MKL", "NUMBA", "VECLIB_MAXIMUM"):
        os.environ[f"{_name}_NUM_THREADS"] = "1"
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["PJRT_NPROC"] = "1"


@dataclass(frozen=True)
class Row:
    """One comparison.

    Parameters
    ----------
    what : str
    ours : float
        Seconds, or seconds per unit of work.
    peer : str
        Name of what it is compared with.
    theirs : float
        Seconds per the same unit.
    ratio : float
        Median over the repeats of theirs over ours: above one, ours is faster.
    target : str
        What the project aims at.
    difference : float, optional
        Between the two answers; how it is taken is in the script.
    memory : float, optional
        Peak of what our side allocated, MiB.
    notes : str
        Printed below the table.
    """

    what: str
    ours: float
    peer: str
    theirs: float
    ratio: float
    target: str = ""
    difference: float | None = None
    memory: float | None = None
    notes: str = ""


def alternate(
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    repeats: int = 5,
    units: tuple[float, float] = (1.0, 1.0),
    clock: Callable[[], float] = time.process_time,
) -> tuple[float, float, float]:
    """Time two functions in turns, after one call of each that does not count.

    Parameters
    ----------
    units : tuple of float
        Units of work in one call of each.
    clock : callable
        Processor time of this process, which other programs disturb less; ``time.perf_counter`` where
        the work is done elsewhere.

    Returns
    -------
    tuple of float
        Median seconds per unit of ours and of theirs, and the median of their ratio in each turn.
    """
    ours(), theirs()
    pairs = []
    for _ in range(repeats):
        begin = clock()
        ours()
        middle = clock()
        theirs()
        pairs.append(((middle - begin) / units[0], (clock() - middle) / units[1]))
    return median(a for a, _ in pairs), median(b for _, b in pairs), median(b / a for a, b in pairs)


def turns(works: Sequence[Callable[[], Any]], repeats: int) -> list[list[float]]:
    """Processor seconds of several functions in turns, a list for each, after one call of each that does not count."""
    for work in works:
        work()
    found: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for work, times in zip(works, found):
            begin = time.process_time()
            work()
            times.append(time.process_time() - begin)
    return found


def versus(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Median seconds of ours and of theirs, and the median of their ratio in each turn."""
    return median(ours), median(theirs), median(b / a for a, b in zip(ours, theirs))


def peak(work: Callable[[], Any]) -> float:
    """Most memory that Python and numpy held at once during a call beyond what was there before, MiB."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def seconds(value: float) -> str:
    """Seconds in a readable unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def show(rows: Sequence[Row]) -> None:
    """Print the comparisons as a table in markdown."""
    head = ["what", "ours", "peer", "peer's", "peer/ours", "target", "difference", "our peak"]
    lines = [
        [
            r.what, seconds(r.ours), r.peer, seconds(r.theirs), f"{r.ratio:.3g}", r.target,
            "" if r.difference is None else f"{r.difference:.1e}",
            "" if r.memory is None else f"{r.memory:.3g} MiB",
        ]
        for r in rows
    ]  # fmt: skip
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for line in lines:
        print("| " + " | ".join(line) + " |")
    for r in rows:
        if r.notes:
            print(f"{r.what}: {r.notes}")
