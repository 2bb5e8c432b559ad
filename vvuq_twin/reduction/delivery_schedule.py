"""The steps of a delivery run for doses and output times that are data.

The number of steps between two stops and their shares of the interval are those of the case the model was built for; a
schedule moves the stops, and the steps between them stretch. Where the steps lie is thus no function of the schedule
(their number would jump), but their lengths are, so that the discrete solution has derivatives in every amount and time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .backend import jnp
from .delivery_case import DeliveryCase
from .schedule import Schedule, fractions, jumps
from .timegrid import Steps, TimeGrid

#: An interval may stretch to this many times its own length.
STRETCH = 2.0


class Template(NamedTuple):
    """A case's steps as shares of the intervals between its stops, P + 1 of them.

    Parameters
    ----------
    share : ndarray, shape (U,)
        Of distinct steps, over their interval's length.
    segment : ndarray of int, shape (U,)
        Their interval.
    which : ndarray of int, shape (S,)
        The distinct step of each step.
    first : ndarray of int, shape (P,)
        First step of each interval.
    gap : ndarray, shape (P,)
        Lengths of the intervals, hours.
    start, end : ndarray of int, shape (E,)
        Stops of the doses' starts and ends; -1 for one after the last output.
    output : ndarray of int, shape (T,)
        Stops of the output times.
    columns : ndarray of int, shape (p,)
        Of all compartments and pumps, those that the plasma course has.
    """

    share: np.ndarray
    segment: np.ndarray
    which: np.ndarray
    first: np.ndarray
    gap: np.ndarray
    start: np.ndarray
    end: np.ndarray
    output: np.ndarray
    columns: np.ndarray


def template(case: DeliveryCase, grid: TimeGrid) -> Template:
    """The steps of a case's grid as shares."""
    at = np.asarray(case.times, dtype=float)
    starts = np.array([d.time for d in case.doses])
    ends = starts + np.array([d.duration for d in case.doses])
    stops = np.unique(np.concatenate([at, starts, ends]))
    stops = stops[stops <= at[-1]]
    gap, dt = np.diff(stops), grid.dt
    over = np.searchsorted(stops, stops[0] + np.cumsum(dt) - 0.5 * dt) - 1
    length = np.round(dt / gap[over], 12)
    pairs, which = np.unique(np.stack([over, length]), axis=1, return_inverse=True)
    model = case.agent.plasma_model()
    m, infused = len(model.names), sorted({model.index(d.compartment) for d in case.doses if d.duration > 0})

    def stop(times: np.ndarray) -> np.ndarray:
        return np.where(times <= at[-1], np.searchsorted(stops, times), -1)

    return Template(
        pairs[1], pairs[0].astype(np.int64), which.ravel(), np.searchsorted(over, np.arange(len(gap))), gap, stop(starts),
        stop(ends), stop(at), np.array([*range(m), *(m + i for i in infused)]),
    )  # fmt: skip


def scheduled_steps(case: DeliveryCase, grid: TimeGrid, schedule: Schedule) -> tuple[Steps, Any]:
    """Steps for a schedule of the case's form, and whether it has that form.

    It has not if a dose goes elsewhere, if what falls together in the case does not, or if the stops' order changes or an interval
    more than :data:`STRETCH` times as long.
    """
    t = template(case, grid)
    begin, times = jnp.asarray(schedule.start), jnp.asarray(schedule.times)
    end = begin + jnp.asarray(schedule.duration)
    last = len(t.gap)
    events = [
        (i, x)
        for where, values in ((t.start, begin), (t.end, end), (t.output, times))
        for i, x in zip(where, values)
    ]
    here: dict[int, Any] = {}
    form = jnp.array(True)
    for i, x in events:
        if i < 0:
            form &= x > times[-1] - 1e-9
        elif i in here:
            form &= jnp.abs(x - here[i]) < 1e-9
        else:
            here[int(i)] = x
    gap = jnp.diff(jnp.stack([here[i] for i in range(last + 1)]))
    model = case.agent.plasma_model()
    given = np.array([model.index(d.compartment) for d in case.doses])
    infused = np.array([d.duration > 0 for d in case.doses])
    form &= ((jnp.asarray(schedule.duration) > 0) == infused).all()
    form &= (jnp.asarray(schedule.compartment) == given).all()
    form &= ((gap > 0) & (gap <= STRETCH * t.gap)).all()
    gap = jnp.where(form, gap, t.gap)
    jump = jnp.zeros((len(t.which), len(t.columns)))
    for where, values in zip((t.start, t.end), jumps(schedule, fractions(model))):
        for i, row in zip(where, values):
            if 0 <= i < last:  # what is given at the very end changes no tissue
                jump = jump.at[t.first[i]].add(row[t.columns])
    return Steps(t.share * gap[t.segment], t.which, jump, grid.output), form
