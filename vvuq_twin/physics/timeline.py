"""Time as padded arrays: steps that land exactly on every visit and every treatment event.

Both orders of the growth model read the same :class:`Timeline`, so they take the same steps. Events
are data: two schedules of similar length have arrays of the same shape and need no new compilation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..domain.errors import BadInput

#: Times closer than this (days) are one time.
SAME_TIME = 1e-9


@dataclass(frozen=True)
class Timeline:
    """Steps from ``t0`` to the last visit, padded with empty steps (``dt = 0``, no event).

    At the end of a step, in this order: the visit is recorded, the fraction kills, the drug amount jumps.
    A scan on the same instant as a treatment therefore shows the state before it.

    Parameters
    ----------
    t : ndarray, shape (S,)
        Start of each step, days.
    dt : ndarray, shape (S,)
        Length of each step, days; 0 for padding (and for events at ``t0`` itself).
    drug_jump : ndarray, shape (S,)
        Amount of drug added at the end of the step, in the unit of the events given.
    dose, dose_sq : ndarray, shape (S,)
        Sum of the fractions (Gy) and of their squares (Gy2) at the end of the step.
    visit : ndarray of int, shape (S,)
        Index of the visit at the end of the step, or -1.
    initial_visit : int
        Index of the visit at ``t0``, or -1.
    visits : ndarray, shape (V,)
        Times of the visits, days.
    """

    t: np.ndarray
    dt: np.ndarray
    drug_jump: np.ndarray
    dose: np.ndarray
    dose_sq: np.ndarray
    visit: np.ndarray
    initial_visit: int
    visits: np.ndarray

    @property
    def steps(self) -> int:
        """Padded number of steps, the arrays' length."""
        return len(self.dt)

    @property
    def used(self) -> int:
        """Number of steps before the padding."""
        busy = (self.dt > 0) | (self.drug_jump != 0) | (self.dose != 0) | (self.visit >= 0)
        return int(np.flatnonzero(busy).max(initial=-1)) + 1

    @property
    def t0(self) -> float:
        """Start, days."""
        return float(self.t[0])

    def rate(self, edges: np.ndarray) -> np.ndarray:
        """For each step the index of the interval ``[edges[i], edges[i+1])`` its middle lies in, clipped.

        For a rate that is piecewise constant in time; give the inner edges as ``breaks`` to
        :func:`timeline`, so that no step straddles one.
        """
        middle = self.t + 0.5 * self.dt
        return np.clip(np.searchsorted(edges, middle, side="right") - 1, 0, len(edges) - 2)


def timeline(
    t0: float,
    visits: Sequence[float],
    drug_events: Iterable[tuple[float, float]] = (),
    fractions: Iterable[tuple[float, float]] = (),
    dt_max: float = 1.0,
    pad_to: int = 64,
    breaks: Iterable[float] = (),
) -> Timeline:
    """Build the steps.

    Parameters
    ----------
    t0 : float
        Start, days.
    visits : sequence of float
        Increasing times of the visits, days, none before ``t0``; one at ``t0`` is the initial state.
    drug_events : iterable of (time, amount)
        Doses of the drug, none before ``t0``. Those not before the last visit change nothing that is recorded
        and are left out.
    fractions : iterable of (time, Gy)
        Radiation fractions, treated the same.
    dt_max : float
        Longest step, days. Steps between two consecutive event times are equal.
    pad_to : int
        The number of steps is rounded up to a multiple of this.
    breaks : iterable of float
        Further times a step must end on (edges of piecewise constant rates).

    Raises
    ------
    BadInput
        If there is no visit, a time or amount is not finite, a dose is negative or before the start, visits
        are out of order or on the same time, or ``dt_max`` is not positive.
    """
    at = np.asarray(list(visits), dtype=float)
    drug = _pairs(drug_events, "drug events", t0)
    gray = _pairs(fractions, "fractions", t0)
    if not (np.isfinite(dt_max) and dt_max > 0):
        raise BadInput(f"the longest step ({dt_max:g} days) is not positive", "timeline")
    if at.size == 0:
        raise BadInput("there is no visit", "timeline", "give at least one time")
    if not (np.isfinite(at).all() and np.isfinite(t0)):
        raise BadInput("the time of a visit is not finite", "timeline")
    if (np.diff(at) <= SAME_TIME).any():
        raise BadInput("visits are out of order or on the same time", "timeline", "sort them by date")
    if at[0] < t0 - SAME_TIME:
        raise BadInput(
            f"a visit (day {at[0]:g}) is before the start (day {t0:g})", "timeline", "start earlier"
        )

    end = at[-1]
    events = np.concatenate([at, drug[:, 0], gray[:, 0], np.asarray(list(breaks), dtype=float)])
    events = np.sort(events[(events > t0 + SAME_TIME) & (events < end - SAME_TIME)])
    stops = [float(t0)]
    for time in [*events.tolist(), float(end)]:
        if time > stops[-1] + SAME_TIME:
            stops.append(time)
    edges = [stops[0]]
    for low, high in pairwise(stops):
        n = max(1, int(np.ceil((high - low) / dt_max - 1e-9)))
        edges += np.linspace(low, high, n + 1)[1:].tolist()

    # a first empty step carries what happens at t0
    starts = np.array([edges[0], *edges[:-1]])
    ends = np.array(edges)
    size = pad_to * max(1, -(-len(ends) // pad_to))
    t, dt = np.full(size, ends[-1]), np.zeros(size)
    t[: len(ends)], dt[: len(ends)] = starts, ends - starts

    def place(pairs: np.ndarray, power: int) -> np.ndarray:
        out = np.zeros(size)
        for time, value in pairs:
            i = int(np.abs(ends - time).argmin())
            if abs(ends[i] - time) <= 2 * SAME_TIME and time < end - SAME_TIME:
                out[i] += value**power
        return out

    visit = np.full(size, -1, dtype=np.int64)
    for v, time in enumerate(at):
        visit[int(np.abs(ends - time).argmin())] = v
    initial = int(visit[0])
    visit[0] = -1
    return Timeline(t, dt, place(drug, 1), place(gray, 1), place(gray, 2), visit, initial, at)


def _pairs(events: Iterable[tuple[float, float]], what: str, start: float) -> np.ndarray:
    """Events as an array of shape (k, 2), checked."""
    pairs = np.array(list(events), dtype=float).reshape(-1, 2)
    if not np.isfinite(pairs).all():
        raise BadInput("a time or an amount is not finite", what)
    if (pairs[:, 1] < 0).any():
        raise BadInput("a dose is negative", what, "give amounts of zero or more")
    if (pairs[:, 0] < start - SAME_TIME).any():
        raise BadInput(
            f"the dose on day {pairs[:, 0].min():g} is before the first time (day {start:g})", what,
            "start earlier, or leave it out",
        )  # fmt: skip
    return pairs
