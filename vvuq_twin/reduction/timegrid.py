"""The steps of a delivery run: short after a dose, longer as the drug settles, few distinct lengths.

After every jump of the plasma model the steps start at ``first`` and are at most a share ``rate`` of the
time since; their lengths are ``first`` times powers of two, but for the one that ends at a stop, so that the plasma
needs few matrix exponentials.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np


class Steps(NamedTuple):
    """What a run needs of its steps; see :class:`TimeGrid`."""

    interval: Any
    which: Any
    jump: Any
    output: Any


@dataclass(frozen=True)
class TimeGrid:
    """Steps through all stops.

    Parameters
    ----------
    interval : ndarray, shape (U,)
        Distinct lengths, hours.
    which : ndarray of int, shape (S,)
        The length of each step.
    jump : ndarray, shape (S, p)
        Added to the plasma states at the start of each step.
    output : ndarray of int, shape (T,)
        The step at whose end each output time lies; -1 is the start.
    last : ndarray, shape (p,)
        Jumps at the very end (they change no tissue).
    """

    interval: np.ndarray
    which: np.ndarray
    jump: np.ndarray
    output: np.ndarray
    last: np.ndarray

    @property
    def steps(self) -> Steps:
        """The part of it that a run needs."""
        return Steps(self.interval, self.which, self.jump, self.output)

    @property
    def dt(self) -> np.ndarray:
        """Step lengths (S,), hours."""
        return self.interval[self.which]


def time_grid(
    times: np.ndarray,
    jump_times: np.ndarray,
    jumps: np.ndarray,
    first: float = 1e-3,
    rate: float = 0.15,
    longest: float = 2.0,
) -> TimeGrid:
    """Steps from the first stop to the last output time.

    Parameters
    ----------
    times : ndarray, shape (T,)
        Increasing output times, hours.
    jump_times, jumps : ndarray, shapes (k,), (k, p)
    first : float
        Shortest regular step, hours.
    rate : float
        Longest step over the time since the last jump.
    longest : float
        Hours.
    """
    at = np.asarray(times, dtype=float)
    marks = np.unique(jump_times[jump_times <= at[-1]])
    stops = np.unique(np.concatenate([at, marks]))
    steps: list[float] = []
    ends: list[int] = [-1]  # step that ends at each stop
    begun: list[int] = []  # first step of each interval between stops
    for low, high in pairwise(stops.tolist()):
        before = marks[marks <= low]
        now = low
        begun.append(len(steps))
        while high - now > 1e-9:
            since = now - before[-1] if before.size else np.inf
            wanted = min(max(first, rate * since), longest, high - now)
            power = max(0.0, np.floor(np.log2(wanted / first) + 1e-9))
            h = min(first * 2.0**power, high - now)
            h = high - now if high - now - h < 0.25 * h else h  # no sliver at the end
            steps.append(h)
            now += h
        ends.append(len(steps) - 1)
    interval, which = np.unique(np.round(np.array(steps), 12), return_inverse=True)
    jump, last = np.zeros((len(steps), jumps.shape[1])), np.zeros(jumps.shape[1])
    for time, values in zip(jump_times, jumps):
        if time < at[-1]:
            jump[begun[int(np.searchsorted(stops, time))]] += values
        elif time == at[-1]:
            last += values
    return TimeGrid(interval, which, jump, np.array(ends)[np.searchsorted(stops, at)], last)
