"""Cycles of forecast and analysis for any model that is a function on arrays; late scans are re-analysed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.observations import Observations
from .observing import screen
from .protocol import Carry, Key, Scheme, start

#: ``model(E, t0, t1, members) -> E`` or ``(E, status)``: members (N, n) from t0 to t1; ``members`` are their
#: numbers, by which draws of process noise are keyed.
Model = Callable[[np.ndarray, float, float, np.ndarray], Any]
#: ``observe(E, scan) -> HE``: the scan's values predicted by each member, (N, m).
Observe = Callable[[np.ndarray, Observations], np.ndarray]


@dataclass(frozen=True)
class State:
    """An ensemble after an analysis.

    Parameters
    ----------
    time : float
    E : ndarray, shape (N, n)
    carry : Carry
    scan : Observations, optional
        What was analysed to get here.
    """

    time: float
    E: np.ndarray
    carry: Carry
    scan: Observations | None = None


@dataclass(frozen=True)
class Trail:
    """States from the oldest that is kept to the newest."""

    states: tuple[State, ...]

    @property
    def now(self) -> State:
        return self.states[-1]


@dataclass(frozen=True)
class Cycling:
    """A scheme and a model, joined.

    Parameters
    ----------
    scheme : Scheme
    model, observe : callable
        See ``Model`` and ``Observe``.
    key : Key
    outliers : float, optional
        Limit of the quality control before each analysis (``screen``); none if absent.
    keep : int
        States that are kept, for scans that come late.

    Notes
    -----
    A filter's analysis moves the state at the time of the scan. A scheme of several steps runs each step from the
    time of the last analysis again, and moves the ensemble there: what comes out is a trajectory of the model.
    """

    scheme: Scheme
    model: Model
    observe: Observe
    key: Key
    outliers: float | None = None
    keep: int = 2

    def begin(self, E: np.ndarray, time: float = 0.0) -> Trail:
        """The trail of an ensemble (N, n) that has seen nothing yet."""
        E = np.asarray(E, dtype=float)
        return Trail((State(time, E, replace(start(len(E)), time=time)),))

    def forecast(self, state: State, time: float) -> tuple[np.ndarray, np.ndarray]:
        """Members (N, n) at a later time, and their status (N,): not zero where the model failed.

        Raises
        ------
        BadInput
            If the time lies before the state's, or the model returns another number of members.
        """
        size = len(state.E)
        if time < state.time:
            raise BadInput(f"time cannot run from {state.time:g} back to {time:g}", "assimilation")
        if time == state.time:
            return state.E, np.zeros(size, dtype=int)
        out = self.model(state.E, state.time, time, state.carry.members)
        E, status = out if isinstance(out, tuple) else (out, np.zeros(size, dtype=int))
        E, status = np.asarray(E, dtype=float), np.asarray(status)
        if len(E) != size:
            raise BadInput(f"the model returned {len(E)} members of {size}", "assimilation")
        return E, np.where((status == 0) & ~np.isfinite(E).all(axis=1), -1, status)

    def add(self, trail: Trail, scan: Observations) -> Trail:
        """The trail with one more scan.

        A scan older than the newest state is put in its place and everything after it is analysed again, from the
        last state that is older. A scan that was seen changes nothing.

        Raises
        ------
        BadInput
            If the scan is older than the oldest state that is kept.
        """
        if all(i in trail.now.carry.seen for i in scan.ids):
            return trail
        old = [s for s in trail.states if s.time <= scan.time]
        if not old:
            raise BadInput(
                f"a scan at time {scan.time:g} is older than the oldest state that is kept "
                f"({trail.states[0].time:g})",
                "assimilation",
                "keep more states, or start again",
            )
        states = list(old)
        for each in (scan, *(s.scan for s in trail.states[len(old) :] if s.scan is not None)):
            states.append(self._analyse(states[-1], each))
        return Trail(tuple(states[-self.keep - 1 :]))

    def _analyse(self, state: State, scan: Observations) -> State:
        base, carry = state, state.carry
        for step in range(self.scheme.steps):
            E, status = self.forecast(base, scan.time)
            # members that failed show nothing that could be observed
            safe = np.where((status == 0)[:, None], E, state.E.mean(axis=0))
            HE = np.where((status == 0)[:, None], self.observe(safe, scan), np.nan)
            if step == 0 and self.outliers is not None:
                scan, carry = screen(carry, HE, scan, self.outliers)
            update, carry = self.scheme.analyse(carry, HE, scan, self.key, status)
            # what was shown to ``observe`` is ours, and no longer needed
            spare = safe if len(update.members) == len(safe) else None
            if self.scheme.steps == 1:
                return State(scan.time, update.apply(E, out=spare), carry, scan)
            base = State(state.time, update.apply(base.E, out=spare), carry)
            if carry.step == 0:
                break
        E, status = self.forecast(base, scan.time)
        good = np.flatnonzero(status == 0)
        lost = tuple((int(i), "the model failed") for i in carry.members[status != 0])
        carry = replace(carry, members=carry.members[good], dropped=carry.dropped + lost)
        return State(scan.time, E[good], carry, scan)
