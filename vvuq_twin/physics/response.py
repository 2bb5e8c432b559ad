"""Kill of a tumour by dose rates and by the transport model's own concentrations.

Growth is on days, transport on minutes to hours. Three ways to bring them together:

- :func:`dose_rate_kill`: a radionuclide's dose rate, with repair (Lea-Catcheside), as integrals over half steps;
- :func:`superposed_kill`: the exposure of one dose, computed once with the tumour frozen, placed at every dose:
  for linear kinetics that are over long before the tumour changes;
- :func:`coupled_growth`: transport and growth side by side, each seeing the other: for saturable agents, and to
  measure what the superposition neglects.

In all of them the kill rate is integrated over each half of each growth step; nothing is sampled at step ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..domain.errors import BadInput
from ..kinetics.dose_rate import dose_effect
from ..kinetics.plasma import Course
from .drug import Drug
from .effect import Hill, Linear
from .faces import Faces
from .growth import OK, GrowthParameters, Kill, advance
from .ledger import Balance, Ledger
from .stepper import Stepper
from .timeline import Timeline
from .tissue import Tissue
from .transport import SCHEMES

HOURS = 24.0
#: A concentration below this share of the largest so far is nothing: transport rests until the next dose.
NOTHING = 1e-10
#: Knots per e-fold that follow an exponential tail.
PER_FOLD = 64


def half_edges(line: Timeline) -> np.ndarray:
    """Start, middle and end of every step, days, shape (S, 3)."""
    return line.t[:, None] + line.dt[:, None] * np.array([0.0, 0.5, 1.0])


def dose_rate_kill(
    line: Timeline,
    hours: np.ndarray,
    rate: np.ndarray,
    alpha: np.ndarray | float,
    beta: np.ndarray | float,
    repair: float,
    weight: np.ndarray,
    tail: float | None = None,
) -> Kill:
    """Kill by a dose rate that has one course in time, scaled by a map.

    ``log survival = -alpha w D - beta w^2 G D^2`` over any stretch of time, with what was damaged before.

    Parameters
    ----------
    line : Timeline
        Days; the dose rate's hours count from the same zero.
    hours : ndarray, shape (T,)
        Increasing.
    rate : ndarray, shape (T,)
        Gy/h, linear between; zero before the first.
    alpha, beta : float or ndarray, shape (N,)
        1/Gy, 1/Gy2.
    repair : float
        1/h.
    weight : ndarray, shape (n,)
        Local over reference dose rate.
    tail : float, optional
        Decay of the dose rate after the last sample, 1/h; without it there is none.

    Raises
    ------
    BadInput
        As :func:`~vvuq_twin.kinetics.dose_rate.dose_effect`.
    """
    edges = HOURS * half_edges(line)
    t, r = np.asarray(hours, dtype=float), np.asarray(rate, dtype=float)
    end = float(edges.max())
    if tail is not None and end > t[-1]:
        count = max(2, int(np.ceil(PER_FOLD * tail * (end - t[-1]))))
        more = np.linspace(t[-1], end, count + 1)[1:]
        t, r = np.concatenate([t, more]), np.concatenate([r, r[-1] * np.exp(-tail * (more - t[-1]))])
    first = t[0]
    knots = np.union1d(t, np.clip(edges.ravel(), first, t[-1]))
    effect = dose_effect(knots, np.interp(knots, t, r), repair)
    amount = np.zeros((line.steps, 2, 2))
    for j, total in enumerate((effect.dose, effect.quadratic)):
        at = np.interp(edges, knots, total)
        amount[:, :, j] = np.maximum(np.diff(at, axis=1), 0.0)
    w = np.asarray(weight, dtype=float)
    both = np.broadcast_arrays(np.atleast_1d(alpha), np.atleast_1d(beta))
    return Kill(amount, np.stack([w, w * w]), np.stack([np.asarray(b, dtype=float) for b in both], axis=1))


def superposed_kill(
    line: Timeline,
    doses: Sequence[tuple[float, float]],
    hours: np.ndarray,
    exposure: np.ndarray,
    slope: np.ndarray | float,
) -> Kill:
    """Kill in proportion to concentration, from the exposure of one dose.

    The map is the exposure a unit dose leaves in all; its course in time is the mean over the cells.

    Parameters
    ----------
    line : Timeline
    doses : sequence of (day, amount)
    hours : ndarray, shape (T,)
        Since a dose, increasing from 0; after the last nothing is left.
    exposure : ndarray, shape (T, n)
        Area under the concentration until then, of a unit dose.
    slope : float or ndarray, shape (N,)
        Kill rate per concentration, 1/h.

    Raises
    ------
    BadInput
        If a dose is before the timeline's start or negative, or the exposure does not start at zero.
    """
    t, e = np.asarray(hours, dtype=float), np.asarray(exposure, dtype=float)
    if t.ndim != 1 or e.ndim != 2 or len(t) != len(e) or t[0] != 0.0 or (np.diff(t) <= 0).any() or e[0].any():
        raise BadInput("the exposure of a dose does not start from zero at hour 0", "superposition")
    course = e.mean(axis=1) / max(float(e[-1].mean()), np.finfo(float).tiny)
    edges = HOURS * half_edges(line)
    amount = np.zeros((line.steps, 2, 1))
    for day, given in doses:
        if not (np.isfinite([day, given]).all() and given >= 0) or day < line.t0:
            raise BadInput(f"the dose on day {day:g} is before the start, negative or not finite", "doses")
        done = np.interp(edges - HOURS * day, t, course)
        amount[:, :, 0] += given * np.diff(done, axis=1)
    return Kill(amount, e[-1][None, :], np.atleast_1d(np.asarray(slope, dtype=float))[:, None])


@dataclass(frozen=True)
class Coupled:
    """What a coupled run gives.

    Parameters
    ----------
    states : ndarray, shape (V, n)
        Cellularity at the visits, before what happens on them.
    kill : ndarray, shape (V, n)
        Integral of the kill rate until each visit.
    amount : ndarray, shape (V, s, n)
        The agent's species per L of tissue.
    balance : Balance
        Of the agent over the whole run.
    status : int
        As :func:`~vvuq_twin.physics.growth.advance`.
    """

    states: np.ndarray
    kill: np.ndarray
    amount: np.ndarray
    balance: Balance
    status: int


def coupled_growth(
    faces: Faces,
    initial: np.ndarray,
    parameters: GrowthParameters,
    line: Timeline,
    drug: Drug,
    plan: Course,
    law: Linear | Hill,
    tissue_of: Callable[[np.ndarray], Tissue],
    species: int = 0,
    dt_hours: float = 0.25,
    scheme: str = "van_leer",
) -> Coupled:
    """One member, growth and transport side by side.

    In each growth step the tissue is that of the cellularity at its start; transport runs through both halves
    of the step in steps of ``dt_hours`` and adds up the kill rate (exactly for a linear law, by the trapezoidal
    rule for Hill's); then the growth step is taken with that kill. Between two doses transport rests once
    nothing is left.

    Parameters
    ----------
    faces : Faces
    initial : ndarray, shape (n,)
    parameters : GrowthParameters
        Of one member; the kill of the timeline's own drug may be used besides.
    line : Timeline
        Days; the plan's hours count from the same zero.
    drug, plan
        Agent in tissue and in plasma.
    law : Linear or Hill
        Kill rate by the species' amount per L of tissue.
    tissue_of : callable
        Tissue, on ``faces``, at a given cellularity (n,).
    species : int
    dt_hours : float
    scheme : str

    Raises
    ------
    BadInput
        If there is more than one member, a dose is before the start, or the step is not positive.
    """
    if len(parameters.diffusivity) != 1:
        raise BadInput("a coupled run is of one member", "coupled growth", "run them one by one")
    if not (np.isfinite(dt_hours) and dt_hours > 0):
        raise BadInput(f"the transport step ({dt_hours:g} h) is not positive", "coupled growth")
    if plan.times.size and plan.times[0] < HOURS * line.t0 - 1e-9:
        raise BadInput(
            f"the dose at {plan.times[0]:g} h is before the first time ({HOURS * line.t0:g} h)", "doses",
            "start earlier, or leave it out",
        )  # fmt: skip
    n = np.asarray(initial, dtype=float).copy()
    stepper = Stepper(tissue_of(n), drug, plan, SCHEMES[scheme])
    run = _Transport(stepper, plan, law, species, dt_hours)
    visits = len(line.visits)
    states, kills = np.zeros((visits, faces.n)), np.zeros((visits, faces.n))
    amounts = np.zeros((visits, drug.size, faces.n))
    flows, present = np.zeros((visits, drug.size, 8)), np.zeros((visits, drug.size))
    total = np.zeros(faces.n)

    def record(visit: int, state: np.ndarray) -> None:
        states[visit], kills[visit], amounts[visit] = state, total, stepper.species.T
        flows[visit], present[visit] = stepper.flows(), stepper.present()

    if line.initial_visit >= 0:
        record(line.initial_visit, n)
    status = OK
    for s in range(line.used):
        a, b, c = HOURS * half_edges(line)[s] if line.dt[s] > 0 else np.full(3, HOURS * line.t[s])
        maps = np.stack([run.until(b), run.until(c)]) if c > a else np.zeros((2, faces.n))
        total = total + maps.sum(axis=0)
        small = _one_step(line, s)
        amount = np.zeros((2, 2, 2))
        amount[0] = np.eye(2)
        out, code = advance(
            faces, n, _at_step(parameters, s), small, kill=Kill(amount, maps, np.ones((1, 2)))
        )
        status = status or int(code[0])
        if line.visit[s] >= 0:
            record(int(line.visit[s]), out[0, 0])
        n = out[0, 1]
        if s + 1 < line.used and not run.resting:
            stepper.enter(tissue_of(n))
    balance = Balance.of(Ledger(drug.names, flows, present))
    return Coupled(states, kills, amounts, balance, status)


class _Transport:
    """Transport that goes on from where it was and adds up the kill rate."""

    def __init__(self, stepper: Stepper, plan: Course, law: Linear | Hill, species: int, dt: float) -> None:
        self.stepper, self.plan, self.law, self.species, self.dt = stepper, plan, law, species, dt
        self.now = -np.inf
        self.event = 0
        self.largest = 0.0
        self.resting = True

    def until(self, end: float) -> np.ndarray:
        """Integral of the kill rate from where it was until ``end`` (hours), shape (n,)."""
        kill = np.zeros(self.stepper.tissue.faces.n)
        while True:
            due = self.event < len(self.plan.times) and self.plan.times[self.event] < end
            stop = float(self.plan.times[self.event]) if due else end
            if not self.resting and stop > self.now:
                kill += self._march(stop)
            self.now = max(self.now, stop)
            if not due:
                return kill
            self.stepper.jump(float(self.plan.times[self.event]))
            self.event += 1
            self.resting = False

    def _march(self, stop: float) -> np.ndarray:
        stepper, law, s = self.stepper, self.law, self.species
        count = max(1, int(np.ceil((stop - self.now) / self.dt - 1e-9)))
        dt = (stop - self.now) / count
        if isinstance(law, Linear):
            before = stepper.integrals[:, s].copy()
            stepper.march(dt, count)
            kill = law.slope * np.maximum(stepper.integrals[:, s] - before, 0.0)
        else:
            kill = np.zeros(stepper.tissue.faces.n)
            rate = law.rate(stepper.species[:, s])
            for _ in range(count):
                stepper.march(dt, 1)
                new = law.rate(stepper.species[:, s])
                kill += 0.5 * dt * (rate + new)
                rate = new
        there = max(
            float(stepper.species.max(initial=0.0)), float(np.abs(stepper.plasma[: self.plan.size]).max())
        )
        self.largest = max(self.largest, there)
        self.resting = there <= NOTHING * self.largest
        return np.asarray(kill)


def _one_step(line: Timeline, s: int) -> Timeline:
    """Step ``s`` alone, then an empty one: the state before and after what happens at its end."""
    two = np.array([line.dt[s], 0.0])
    return Timeline(
        np.array([line.t[s], line.t[s] + line.dt[s]]), two, np.array([0.0, 0.0]),
        np.array([line.dose[s], 0.0]), np.array([line.dose_sq[s], 0.0]), np.array([0, 1]), -1,
        np.array([line.t[s] + line.dt[s]] * 2),
    )  # fmt: skip


def _at_step(parameters: GrowthParameters, s: int) -> GrowthParameters:
    rate = parameters.rate
    return replace(parameters, rate=rate[:, s : s + 1] if rate.ndim == 2 and rate.shape[1] > 1 else rate)
