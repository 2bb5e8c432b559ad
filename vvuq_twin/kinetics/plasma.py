"""Plasma pharmacokinetics: any linear compartment model, exact by matrix exponential.

Amounts x obey ``dx/dt = K x + u(t)`` (docs: physics.md section 4). Every way of giving a drug becomes
jumps of one autonomous system: a bolus jumps its compartment; an oral dose jumps the gut, which is a
compartment; an infusion jumps a *pump*, an extra state that is constant and feeds its compartment, up
at the start and down at the end. So repeated doses need no quadrature and the propagation between two
jumps is ``expm(K dt)``. The time integral of every amount is carried along exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import expm

from ..domain.errors import BadInput, near

OUT = "out"


@dataclass(frozen=True)
class Dose:
    """One dose.

    Parameters
    ----------
    time : float
        When it is given, or starts, hours.
    amount : float
        What is given in all, in the model's unit of amount, not negative.
    compartment : str
        Where it goes: "central" for a vein, "gut" for an oral dose.
    duration : float
        Hours; 0 is a bolus.
    """

    time: float
    amount: float
    compartment: str = "central"
    duration: float = 0.0

    def check(self) -> None:
        """Raise :class:`BadInput` if the dose is negative or not finite."""
        if not np.isfinite([self.time, self.amount, self.duration]).all():
            raise BadInput("a dose has a time, amount or duration that is not finite", "doses")
        if self.amount < 0 or self.duration < 0:
            raise BadInput(f"the dose at {self.time:g} h is negative or has a negative duration", "doses")


@dataclass(frozen=True)
class PlasmaModel:
    """A linear compartment model, of one person or of N members.

    Parameters
    ----------
    names : tuple of str
        Compartments.
    matrix : ndarray, shape (..., m, m)
        Rates, 1/h: ``d(amounts)/dt = matrix @ amounts``.
    volume : ndarray or float, shape (...)
        Distribution volume of the central compartment, L.
    unbound : float
        Fraction of the plasma concentration that is not bound to protein.
    fraction : mapping of str to float
        Bioavailability of a dose into a compartment; 1 where it is not named.
    central : str
        The compartment whose concentration is measured.
    """

    names: tuple[str, ...]
    matrix: np.ndarray
    volume: np.ndarray | float
    unbound: float = 1.0
    fraction: Mapping[str, float] | None = None
    central: str = "central"

    def index(self, name: str) -> int:
        """Position of a compartment.

        Raises
        ------
        BadInput
            If there is none of that name.
        """
        if name not in self.names:
            raise BadInput(f"the compartment '{name}' is not known", "plasma model", near(name, self.names))
        return self.names.index(name)


@dataclass(frozen=True)
class Course:
    """A model with its doses as an autonomous system with jumps.

    Parameters
    ----------
    matrix : ndarray, shape (..., p, p)
        The model's compartments, then one pump for each compartment that is infused, 1/h.
    times : ndarray, shape (k,)
        Increasing times of the jumps, hours.
    jumps : ndarray, shape (k, p)
        Added to the state at these times.
    readout : ndarray, shape (..., p)
        ``readout . state`` is the plasma concentration (all of it, bound and unbound), amount per L.
    unbound : float
        Fraction of it that is free.
    given : ndarray, shape (m,)
        Amount that reaches each compartment in all.
    names : tuple of str
        Compartments; the first m states.
    area : ndarray, shape (...), optional
        Area under the plasma concentration over all time, where the matrix cannot tell it
        (:mod:`~vvuq_twin.kinetics.measured`).
    """

    matrix: np.ndarray
    times: np.ndarray
    jumps: np.ndarray
    readout: np.ndarray
    unbound: float
    given: np.ndarray
    names: tuple[str, ...] = ()
    area: np.ndarray | None = None

    @property
    def size(self) -> int:
        """Number of states, pumps included."""
        return int(self.matrix.shape[-1])

    def total_exposure(self) -> np.ndarray:
        """Area under the plasma concentration over all time, shape (...), amount h/L: ``-K^-1`` given.

        Raises
        ------
        BadInput
            If some of the drug is never eliminated, so that the area is infinite.
        """
        if self.area is not None:
            return self.area
        m = len(self.given)
        core = self.matrix[..., :m, :m]
        try:
            area = np.linalg.solve(-core, np.broadcast_to(self.given, core.shape[:-1])[..., None])[..., 0]
        except np.linalg.LinAlgError as error:
            raise BadInput(
                "a compartment has no way out", "plasma model", "add an elimination rate"
            ) from error
        return np.asarray((self.readout[..., :m] * area).sum(axis=-1))


def rate_matrix(
    names: Sequence[str], flows: Mapping[tuple[str, str], np.ndarray | float], where: str = "plasma model"
) -> np.ndarray:
    """Rate matrix from first-order flows.

    Parameters
    ----------
    names : sequence of str
        Compartments.
    flows : mapping of (source, target) to rate
        1/h, a number or one per member, not negative; the target ``"out"`` is elimination.

    Returns
    -------
    ndarray, shape (..., m, m)
        Off-diagonal entries are not negative; a column sums to minus its elimination rate.

    Raises
    ------
    BadInput
        If a compartment is not named or a rate is negative or not finite.
    """
    shape = np.broadcast_shapes(*(np.shape(v) for v in flows.values()))
    k = np.zeros((*shape, len(names), len(names)))
    for (source, target), rate in flows.items():
        for name in (source, target):
            if name not in names and not (name == OUT and target == OUT):
                raise BadInput(f"the compartment '{name}' is not known", where, near(name, names))
        value = np.asarray(rate, dtype=float)
        if not np.isfinite(value).all() or (value < 0).any():
            raise BadInput(f"the rate {source} to {target} is negative or not finite", where)
        a = list(names).index(source)
        k[..., a, a] -= value
        if target != OUT:
            k[..., list(names).index(target), a] += value
    return k


def course(model: PlasmaModel, doses: Iterable[Dose]) -> Course:
    """Turn doses into jumps of an autonomous system.

    Raises
    ------
    BadInput
        If a dose is negative or not finite, or its compartment is not known.
    """
    given = list(doses)
    for dose in given:
        dose.check()
        model.index(dose.compartment)
    infused = sorted({model.index(d.compartment) for d in given if d.duration > 0})
    m, size = len(model.names), len(model.names) + len(infused)
    k = np.asarray(model.matrix, dtype=float)
    matrix = np.zeros((*k.shape[:-2], size, size))
    matrix[..., :m, :m] = k
    for pump, compartment in enumerate(infused):
        matrix[..., compartment, m + pump] = 1.0
    volume = np.asarray(model.volume, dtype=float)
    readout = np.zeros((*volume.shape, size))
    readout[..., model.index(model.central)] = 1.0 / volume

    jumps: dict[float, np.ndarray] = {}
    total = np.zeros(m)
    for dose in given:
        place = model.index(dose.compartment)
        amount = dose.amount * (model.fraction or {}).get(dose.compartment, 1.0)
        total[place] += amount
        if dose.duration == 0:
            jumps.setdefault(dose.time, np.zeros(size))[place] += amount
        else:
            pump, rate = m + infused.index(place), amount / dose.duration
            jumps.setdefault(dose.time, np.zeros(size))[pump] += rate
            jumps.setdefault(dose.time + dose.duration, np.zeros(size))[pump] -= rate
    times = np.array(sorted(jumps))
    stacked = np.array([jumps[t] for t in times.tolist()]).reshape(len(times), size)
    return Course(matrix, times, stacked, readout, model.unbound, total, model.names)


def simulate(plan: Course, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Amounts and their time integrals, exact at any times.

    Parameters
    ----------
    plan : Course
        Nothing is in the body before its first jump.
    times : ndarray, shape (T,)
        Increasing, hours. At the time of a dose the state is the one just after it.

    Returns
    -------
    amounts : ndarray, shape (..., T, p)
    integrals : ndarray, shape (..., T, p)
        From before the first dose to each time.

    Raises
    ------
    BadInput
        If times are not finite or go backwards.
    """
    at = np.asarray(times, dtype=float)
    if not np.isfinite(at).all() or (np.diff(at) < 0).any():
        raise BadInput("times are not finite or go backwards", "plasma model", "sort them")
    p = plan.size
    batch = plan.matrix.shape[:-2]
    augmented = np.zeros((*batch, 2 * p, 2 * p))
    augmented[..., :p, :p] = plan.matrix
    augmented[..., p:, :p] = np.eye(p)
    state = np.zeros((*batch, 2 * p))
    out = np.zeros((*batch, len(at), 2 * p))
    flow: dict[float, np.ndarray] = {}
    now, event = -np.inf, 0

    def to(time: float) -> None:
        nonlocal state, now
        dt = time - now if np.isfinite(now) else 0.0
        key = round(dt, 11)  # intervals that differ by round-off share their exponential
        if dt > 0:
            if key not in flow:
                flow[key] = expm(augmented * dt)
            state = np.einsum("...ij,...j->...i", flow[key], state)
        now = time

    for i, time in enumerate(at.tolist()):
        while event < len(plan.times) and plan.times[event] <= time:
            to(float(plan.times[event]))
            state[..., :p] = state[..., :p] + plan.jumps[event]
            event += 1
        if event:
            to(time)
        out[..., i, :] = state
    return out[..., :p], out[..., p:]


def concentration(plan: Course, times: np.ndarray) -> np.ndarray:
    """Plasma concentration, bound and unbound, at ``times``; shape (..., T), amount per L."""
    return np.asarray((simulate(plan, times)[0] * plan.readout[..., None, :]).sum(axis=-1))
