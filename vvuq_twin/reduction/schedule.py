"""Doses and output times as arrays of one shape: data of a compiled run, not part of it, and differentiable.

A schedule is padded with doses of nothing. Everything that happens is sorted by time inside the program, so the order
of doses and outputs may differ from one schedule to the next. Where two of them fall together the state has a
derivative on either side only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..domain.errors import BadInput, near
from ..kinetics.plasma import Dose, PlasmaModel
from .backend import jnp


class Schedule(NamedTuple):
    """E doses and T output times.

    Parameters
    ----------
    amount : array, shape (E,)
        What is given in all; 0 for a place that is not used.
    start, duration : array, shape (E,)
        Hours; a duration of 0 is a bolus.
    compartment : array of int, shape (E,)
        Of the plasma model.
    times : array, shape (T,)
        Output times, hours.
    """

    amount: Any
    start: Any
    duration: Any
    compartment: Any
    times: Any


def padded_schedule(
    doses: Sequence[Dose], times: np.ndarray, model: PlasmaModel, size: int | None = None
) -> Schedule:
    """A schedule of ``size`` doses, as many as there are by default.

    Raises
    ------
    BadInput
        If a dose is negative, not finite or into no compartment, or there are more than ``size``.
    """
    size = len(doses) if size is None else size
    if len(doses) > size:
        raise BadInput(f"there are {len(doses)} doses for {size} places", "schedule", "give it more places")
    for dose in doses:
        dose.check()
        if dose.compartment not in model.names:
            raise BadInput(
                f"the compartment '{dose.compartment}' is not known", "schedule",
                near(dose.compartment, model.names),
            )  # fmt: skip
    amount, start, duration = np.zeros(size), np.zeros(size), np.zeros(size)
    where = np.zeros(size, dtype=np.int64)
    for i, dose in enumerate(doses):
        amount[i], start[i], duration[i] = dose.amount, dose.time, dose.duration
        where[i] = model.index(dose.compartment)
    return Schedule(amount, start, duration, where, np.asarray(times, dtype=float))


class Stops(NamedTuple):
    """What happens one after the other, S = 2 E + T stops.

    Parameters
    ----------
    gap : array, shape (S,)
        Hours since the stop before.
    jump : array, shape (S, 2 m)
        Added to the compartments and to their pumps.
    output : array of int, shape (T,)
        The stop of each output time; at the time of a dose the state is the one just after it.
    """

    gap: Any
    jump: Any
    output: Any


def fractions(model: PlasmaModel) -> np.ndarray:
    """Bioavailability of a dose into each compartment, (m,)."""
    known = model.fraction or {}
    return np.array([known.get(name, 1.0) for name in model.names])


def jumps(schedule: Schedule, fraction: np.ndarray) -> tuple[Any, Any]:
    """Jumps (E, 2 m) of compartments and pumps at each dose's start and at its end.

    Parameters
    ----------
    schedule : Schedule
    fraction : ndarray, shape (m,)
        Bioavailability of each compartment.
    """
    onto = jnp.eye(len(fraction))[jnp.asarray(schedule.compartment)]
    given = jnp.asarray(schedule.amount) * (onto @ fraction)
    infused = jnp.asarray(schedule.duration) > 0
    rate = jnp.where(infused, given / jnp.where(infused, schedule.duration, 1.0), 0.0)[:, None] * onto
    bolus = jnp.where(infused, 0.0, given)[:, None] * onto
    return jnp.concatenate([bolus, rate], axis=1), jnp.concatenate([0.0 * bolus, -rate], axis=1)


def stops(schedule: Schedule, fraction: np.ndarray) -> Stops:
    """Doses' starts and ends and the output times in their order."""
    start, times = jnp.asarray(schedule.start), jnp.asarray(schedule.times)
    at = jnp.concatenate([start, start + jnp.asarray(schedule.duration), times])
    order = jnp.argsort(at, stable=True)
    up, down = jumps(schedule, fraction)
    jump = jnp.concatenate([up, down, jnp.zeros((len(times), up.shape[1]))])
    sorted_at = at[order]
    return Stops(
        jnp.diff(sorted_at, prepend=sorted_at[:1]), jump[order], jnp.argsort(order)[2 * len(start) :]
    )
