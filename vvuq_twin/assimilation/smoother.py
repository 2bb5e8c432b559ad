"""Ensemble Kalman smoother: what a scan says about the past."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..domain.errors import BadInput
from .update import Update


@dataclass(frozen=True)
class Past:
    """Past states of an ensemble, each moved by every later analysis.

    Parameters
    ----------
    lag : int, optional
        How many states are kept: a fixed-lag smoother. All of them if absent: the full smoother.
    times : tuple of float
    states : tuple of ndarray, shape (N, n) each
        Any blocks that have members: states, parts of them, parameters.

    Raises
    ------
    BadInput
        If the lag is not positive.

    Notes
    -----
    Evensen & van Leeuwen (2000), Mon. Wea. Rev. 128:1852: a past state is updated by the same X as the
    present one. Inflation is left off, since the past has no error growth of its own. An update that depends on
    place (LETKF) acts on states of the same layout; what left the window keeps its last value and is returned by
    :meth:`add`. Smoothed states of a scheme with rotation are rotated too, so members stay paired with the
    present ones.

    Examples
    --------
    >>> past = Past(lag=2)
    >>> for t in range(4):
    ...     past, gone = past.add(float(t), np.full((3, 1), float(t)))
    >>> past.times, float(gone[0][1][0, 0])
    ((2.0, 3.0), 1.0)
    """

    lag: int | None = None
    times: tuple[float, ...] = ()
    states: tuple[np.ndarray, ...] = ()

    def __post_init__(self) -> None:
        if self.lag is not None and self.lag < 1:
            raise BadInput(f"a lag of {self.lag} keeps nothing", "smoother", "keep at least one state")

    def after(self, update: Update) -> Past:
        """The past as an analysis leaves it; call it before the analysed state is added."""
        return Past(self.lag, self.times, tuple(update.apply(E, inflate=False) for E in self.states))

    def add(self, time: float, E: np.ndarray) -> tuple[Past, tuple[tuple[float, np.ndarray], ...]]:
        """The past with one more state, and what fell out of the window: (time, state) pairs."""
        times, states = (*self.times, time), (*self.states, E)
        cut = 0 if self.lag is None else max(len(times) - self.lag, 0)
        return Past(self.lag, times[cut:], states[cut:]), tuple(zip(times[:cut], states[:cut]))
