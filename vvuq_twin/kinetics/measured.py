"""A plasma concentration that is given as a curve (blood samples, a population input) as a :class:`Course`.

The curve is linear between its samples and decays by an exponential after the last: an autonomous system of
three states (concentration, its slope, the tail) whose slope jumps at the samples. So everything that is fed
by a plasma model (transport in tissue, time integrals) takes a measured input exactly as it takes a model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..domain.errors import BadInput
from . import aif
from .plasma import Course

#: States of a measured course.
CURVE, SLOPE, TAIL = 0, 1, 2


def measured_course(
    times: ArrayLike,
    concentration: ArrayLike,
    unbound: float = 1.0,
    tail: float | None = None,
    where: str = "plasma samples",
) -> Course:
    """A course that follows samples.

    Parameters
    ----------
    times : array_like, shape (k,)
        Increasing, hours; before the first the concentration is zero.
    concentration : array_like, shape (k,)
        In plasma, bound and unbound, amount per L, not negative.
    unbound : float
        Fraction that is free.
    tail : float, optional
        Rate of decay after the last sample, 1/h; if absent, from the logarithms of the last three samples.
    where : str
        For messages.

    Raises
    ------
    BadInput
        If there are fewer than two samples, they are not finite, negative or out of order, or the tail does
        not decay.
    """
    t, c = np.asarray(times, dtype=float), np.asarray(concentration, dtype=float)
    if t.ndim != 1 or t.shape != c.shape or len(t) < 2:
        raise BadInput("there are not two or more samples with a time each", where)
    if not (np.isfinite(t).all() and np.isfinite(c).all()):
        raise BadInput("a sample is not finite", where, "leave it out")
    if (np.diff(t) <= 0).any():
        raise BadInput("the times of the samples do not increase", where, "sort them")
    if (c < 0).any():
        raise BadInput(f"the sample at {t[int(c.argmin())]:g} h is negative", where)
    if not (np.isfinite(unbound) and 0 <= unbound <= 1):
        raise BadInput(f"the unbound fraction ({unbound:g}) is not between 0 and 1", where)
    rate = _tail(t, c, where) if tail is None else float(tail)
    if not (np.isfinite(rate) and rate > 0):
        raise BadInput(f"the tail's rate ({rate:g} 1/h) is not positive", where, "give it, or sample longer")
    slope = np.diff(c) / np.diff(t)
    jumps = np.zeros((len(t), 3))
    jumps[0, CURVE] = c[0]
    jumps[:-1, SLOPE] = np.diff(slope, prepend=0.0)
    # at the last sample the curve goes over into its tail
    jumps[-1] = (-c[-1], -slope[-1], c[-1])
    matrix = np.zeros((3, 3))
    matrix[CURVE, SLOPE], matrix[TAIL, TAIL] = 1.0, -rate
    area = float((0.5 * (c[1:] + c[:-1]) * np.diff(t)).sum() + c[-1] / rate)
    return Course(
        matrix,
        t,
        jumps,
        np.array([1.0, 0.0, 1.0]),
        float(unbound),
        np.zeros(3),
        ("curve", "slope", "tail"),
        np.asarray(area),
    )


def curve_course(
    curve: Callable[[np.ndarray], np.ndarray],
    edges: Sequence[float],
    tolerance: float = 1e-4,
    unbound: float = 1.0,
    tail: float | None = None,
) -> Course:
    """A course that follows a function of time, with as many knots as its chords need.

    Parameters
    ----------
    curve : callable
        Plasma concentration (T,) at increasing times (T,), hours; at a jump the value just after it.
    edges : sequence of float
        First and last time, and those between where the curve jumps or bends.
    tolerance : float
        Distance of the curve from the middle of each chord, relative to the peak.
    unbound, tail
        As in :func:`measured_course`.

    Raises
    ------
    BadInput
        If there are fewer than two edges, or the curve cannot be followed.
    """
    ends = np.unique(np.asarray(edges, dtype=float))
    if len(ends) < 2 or not np.isfinite(ends).all():
        raise BadInput("a curve needs a first and a last time", "plasma curve")
    # a jump is a chord that is as short as it may be
    shortest = 1e-9 * (ends[-1] - ends[0])
    before = ends[1:-1] - shortest
    knots = np.unique(np.concatenate([ends, before, np.linspace(ends[0], ends[-1], 65)]))
    for _ in range(40):
        middle = 0.5 * (knots[1:] + knots[:-1])
        values = np.asarray(curve(np.sort(np.concatenate([knots, middle]))), dtype=float)
        at, chord = values[1::2], 0.5 * (values[:-2:2] + values[2::2])
        wrong = (np.abs(at - chord) > tolerance * values.max()) & (np.diff(knots) > 4.0 * shortest)
        if not wrong.any():
            return measured_course(knots, np.maximum(values[::2], 0.0), unbound, tail, "plasma curve")
        knots = np.sort(np.concatenate([knots, middle[wrong]]))
    raise BadInput("the plasma curve cannot be followed to the tolerance", "plasma curve", "loosen it")


def population_course(
    scale: float = 1.0, onset: float = 0.0, unbound: float = 1.0, tolerance: float = 1e-4
) -> Course:
    """The population arterial input (Parker et al. 2006) as a course: plasma concentration, mM over hours.

    Parameters
    ----------
    scale : float
        Multiplies the curve; 1 is the population's standard dose.
    onset : float
        When the bolus arrives, hours.
    unbound : float
    tolerance : float
        As in :func:`curve_course`.
    """

    def curve(t: np.ndarray) -> np.ndarray:
        return np.asarray(aif.plasma(60.0 * (t - onset), scale=scale))

    tail = 60.0 * aif.population_input().decay
    # its Gaussians and its sigmoid are over within two minutes, to round-off
    edges = [onset, onset + 0.5 / 60.0, onset + 2.0 / 60.0]
    return curve_course(curve, edges, tolerance, unbound, tail)


def _tail(t: np.ndarray, c: np.ndarray, where: str) -> float:
    """Decay rate from the last samples that are positive."""
    use = np.flatnonzero(c > 0)[-3:]
    if len(use) < 2:
        return 1.0  # nothing is left to decay
    return float(-np.polyfit(t[use], np.log(c[use]), 1)[0])
