"""Fewer, longer steps between the events of a timeline: the reduced model needs no more for its accuracy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..physics.timeline import SAME_TIME, Timeline


def coarser(timeline: Timeline, longest: float, breaks: Iterable[float] = (), pad_to: int = 64) -> Timeline:
    """The same events and visits with as few equal steps between them as ``longest`` allows.

    Parameters
    ----------
    timeline : Timeline
    longest : float
        Days; steps that are longer already stay as they are.
    breaks : iterable of float
        Times a step must end on besides events and visits (edges of piecewise constant rates).
    pad_to : int
        The number of steps is rounded up to a multiple of this.
    """
    used = timeline.used
    ends = (timeline.t + timeline.dt)[:used]
    busy = (timeline.drug_jump != 0) | (timeline.dose != 0) | (timeline.visit >= 0)
    stop = busy[:used].copy()
    for time in breaks:
        stop |= np.abs(ends - time) <= 2 * SAME_TIME
    # a timeline begins with an empty step
    stop[:1] |= timeline.dt[:1] == 0
    stop[-1:] = True
    starts: list[float] = []
    lengths: list[float] = []
    source: list[int] = []
    gap, steps = 0.0, 0
    for s in range(used):
        gap += float(timeline.dt[s])
        steps += int(timeline.dt[s] > 0)
        if not stop[s]:
            continue
        count = max(1, min(steps, int(np.ceil(gap / longest - 1e-9))))
        starts += [float(ends[s]) - gap * (count - i) / count for i in range(count)]
        lengths += [gap / count] * count
        source += [-1] * (count - 1) + [s]
        gap, steps = 0.0, 0
    size = pad_to * max(1, -(-len(lengths) // pad_to))
    last = np.array([*source, *[-1] * (size - len(source))], dtype=np.int64)
    at = np.flatnonzero(last >= 0)

    def moved(values: np.ndarray, empty: float) -> np.ndarray:
        out = np.full(size, empty, dtype=values.dtype)
        out[at] = values[last[at]]
        return out

    start = np.full(size, float(timeline.t[-1] + timeline.dt[-1]))
    start[: len(starts)] = starts
    dt = np.zeros(size)
    dt[: len(lengths)] = lengths
    return replace(
        timeline,
        t=start,
        dt=dt,
        drug_jump=moved(timeline.drug_jump, 0.0),
        dose=moved(timeline.dose, 0.0),
        dose_sq=moved(timeline.dose_sq, 0.0),
        visit=moved(timeline.visit, -1),
    )
