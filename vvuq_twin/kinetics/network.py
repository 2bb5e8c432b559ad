"""Reaction networks: compartments whose kinetics are not linear (saturable elimination, receptor binding).

A network is a list of states (amounts) and reactions. A reaction takes one unit of each reactant and gives
one of each product, at the rate

    first order     k x_a
    second order    k x_a x_b                          (binding: ligand and free receptor)
    saturable       Vmax x_a / (half + sum of a pool)    (Michaelis-Menten; rivals in the pool compete)

so what leaves one state arrives in another by construction; ``"out"`` is a state like the others. Doses are
as in :mod:`~vvuq_twin.kinetics.plasma`. Accuracy: the tolerances given; amounts and receptors are conserved
to round-off, and negative values are no larger than the absolute tolerance.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..domain.errors import BadInput, near
from .plasma import OUT, Dose
from .stiff import BAD_PARAMETER, OK, propagate


@dataclass(frozen=True)
class Reaction:
    """One reaction.

    Parameters
    ----------
    reactants : tuple of str
        One or two states.
    products : tuple of str
        Any number of states; ``"out"`` collects what is lost.
    rate : float or ndarray, shape (N,)
        1/h (one reactant), 1/(amount h) (two), amount/h (saturable: the largest rate).
    half : float or ndarray, optional
        Amount at half saturation; makes it saturable.
    pool : tuple of str
        States that share the saturable site; the reactant alone if empty.
    """

    reactants: tuple[str, ...]
    products: tuple[str, ...]
    rate: float | np.ndarray
    half: float | np.ndarray | None = None
    pool: tuple[str, ...] = ()


@dataclass(frozen=True)
class Network:
    """States and reactions, of one person or of N members.

    Parameters
    ----------
    names : tuple of str
        States; ``"out"`` is added if a reaction names it.
    reactions : tuple of Reaction
    where : str
        For messages.

    Raises
    ------
    BadInput
        If a reaction names an unknown state, has no or more than two reactants, or a rate is negative or
        not finite.
    """

    names: tuple[str, ...]
    reactions: tuple[Reaction, ...]
    where: str = "reaction network"

    def __post_init__(self) -> None:
        used = [n for r in self.reactions for n in (*r.reactants, *r.products, *r.pool)]
        if OUT in used and OUT not in self.names:
            object.__setattr__(self, "names", (*self.names, OUT))
        for name in used:
            if name not in self.names:
                raise BadInput(f"the state '{name}' is not known", self.where, near(name, self.names))
        for r in self.reactions:
            said = f"the reaction {' + '.join(r.reactants)} to {' + '.join(r.products) or 'nothing'}"
            if not 1 <= len(r.reactants) <= (1 if r.half is not None else 2):
                raise BadInput(f"{said} has {len(r.reactants)} reactants", self.where)
            rate = np.asarray(r.rate, dtype=float)
            if not np.isfinite(rate).all() or (rate < 0).any():
                raise BadInput(f"{said} has a rate that is negative or not finite", self.where)
            if r.half is not None:
                half = np.asarray(r.half, dtype=float)
                if not np.isfinite(half).all() or (half <= 0).any():
                    raise BadInput(
                        f"{said} has an amount at half saturation that is not positive", self.where
                    )

    def index(self, name: str) -> int:
        """Position of a state.

        Raises
        ------
        BadInput
            If there is none of that name.
        """
        if name not in self.names:
            raise BadInput(f"the state '{name}' is not known", self.where, near(name, self.names))
        return self.names.index(name)

    @cached_property
    def first(self) -> np.ndarray:
        """First reactant of each reaction."""
        return np.array([self.index(r.reactants[0]) for r in self.reactions], dtype=np.int64)

    @cached_property
    def second(self) -> np.ndarray:
        """Second reactant, or -1."""
        two = [self.index(r.reactants[1]) if len(r.reactants) == 2 else -1 for r in self.reactions]
        return np.array(two, dtype=np.int64)

    @cached_property
    def pool(self) -> np.ndarray:
        """Saturating states, padded with -1, shape (r, q)."""
        pools = [
            [self.index(n) for n in (r.pool or r.reactants)] if r.half is not None else []
            for r in self.reactions
        ]
        width = max(1, *(len(p) for p in pools))
        return np.array([p + [-1] * (width - len(p)) for p in pools], dtype=np.int64)

    @cached_property
    def change(self) -> np.ndarray:
        """What one unit of each reaction adds to the states, shape (r, m)."""
        out = np.zeros((len(self.reactions), len(self.names)))
        for i, r in enumerate(self.reactions):
            for name in r.reactants:
                out[i, self.index(name)] -= 1.0
            for name in r.products:
                out[i, self.index(name)] += 1.0
        return out

    def constants(self) -> tuple[np.ndarray, np.ndarray]:
        """Rates and half saturations of the members, shape (N, r) each."""
        rate = [np.asarray(r.rate, dtype=float) for r in self.reactions]
        half = [np.asarray(0.0 if r.half is None else r.half, dtype=float) for r in self.reactions]
        shape = np.broadcast_shapes((1,), *(v.shape for v in (*rate, *half)))
        return (
            np.stack([np.broadcast_to(v, shape) for v in rate], axis=-1),
            np.stack([np.broadcast_to(v, shape) for v in half], axis=-1),
        )


@dataclass(frozen=True)
class NetworkRun:
    """Amounts of a network's states over time.

    Parameters
    ----------
    names : tuple of str
    times : ndarray, shape (T,)
        Hours.
    amounts, integrals : ndarray, shape (N, T, m)
        Values, and their time integrals since before the first dose; finite also where a member failed.
    status : ndarray of int, shape (N,)
        0 good; a code of :mod:`~vvuq_twin.kinetics.stiff` else.
    """

    names: tuple[str, ...]
    times: np.ndarray
    amounts: np.ndarray
    integrals: np.ndarray
    status: np.ndarray

    def of(self, *names: str) -> np.ndarray:
        """Sum of the amounts of some states, shape (N, T)."""
        return np.asarray(self.amounts[..., [self.names.index(n) for n in names]].sum(axis=-1))

    def integral_of(self, *names: str) -> np.ndarray:
        """Sum of the time integrals of some states, shape (N, T)."""
        return np.asarray(self.integrals[..., [self.names.index(n) for n in names]].sum(axis=-1))


def simulate_network(
    network: Network,
    doses: Iterable[Dose],
    times: np.ndarray,
    initial: Mapping[str, float | np.ndarray] | None = None,
    rtol: float = 1e-8,
    atol: float = 1e-10,
) -> NetworkRun:
    """Run all members.

    Parameters
    ----------
    network : Network
    doses : iterable of Dose
        ``compartment`` is a state; a dose with a duration is a constant infusion.
    times : ndarray, shape (T,)
        Increasing, hours. At the time of a dose the state is the one just after it.
    initial : mapping of str to amount, optional
        States that are not empty before the first dose (free receptors); an amount for all or one per member.
    rtol, atol : float
        Of each step; ``atol`` relative to the largest amount of any dose or initial state.

    Raises
    ------
    BadInput
        If times go backwards or a dose has a fault.
    """
    at = np.asarray(times, dtype=float)
    if at.size == 0 or not np.isfinite(at).all() or (np.diff(at) < 0).any():
        raise BadInput("times are missing, not finite or go backwards", network.where, "sort them")
    given = list(doses)
    changes = _changes(network, given)
    rate, half = network.constants()
    filled = [(network.index(name), np.asarray(v, dtype=float)) for name, v in (initial or {}).items()]
    members = np.broadcast_shapes((len(rate),), *(v.shape for _, v in filled))[0]
    start = np.zeros((members, len(network.names)))
    for i, v in filled:
        start[:, i] = v
    rate, half = (np.broadcast_to(v, (members, v.shape[1])) for v in (rate, half))
    largest = max([d.amount for d in given] + [float(start.max(initial=0.0))], default=1.0)
    amounts = np.zeros((members, len(at), len(network.names)))
    integrals, status = np.zeros_like(amounts), np.zeros(members, dtype=np.int64)
    for i in range(members):
        if not (np.isfinite(start[i]).all() and (start[i] >= 0).all()):
            status[i] = BAD_PARAMETER
            continue
        status[i] = _one(
            network, changes, at, start[i], np.ascontiguousarray(rate[i]), np.ascontiguousarray(half[i]),
            rtol, atol * max(largest, np.finfo(float).tiny), amounts[i], integrals[i],
        )  # fmt: skip
    return NetworkRun(network.names, at, amounts, integrals, status)


Change = tuple[float, np.ndarray, np.ndarray]


def _changes(network: Network, doses: Sequence[Dose]) -> list[Change]:
    """Times at which amounts jump or constant inputs change: (time, jump, change of input)."""
    m = len(network.names)
    found: dict[float, tuple[np.ndarray, np.ndarray]] = {}

    def at(time: float) -> tuple[np.ndarray, np.ndarray]:
        return found.setdefault(time, (np.zeros(m), np.zeros(m)))

    for dose in doses:
        dose.check()
        place = network.index(dose.compartment)
        if dose.duration == 0:
            at(dose.time)[0][place] += dose.amount
        else:
            flow = dose.amount / dose.duration
            at(dose.time)[1][place] += flow
            at(dose.time + dose.duration)[1][place] -= flow
    return [(t, *found[t]) for t in sorted(found)]


def _one(
    network: Network, changes: list[Change], at: np.ndarray, start: np.ndarray, rate: np.ndarray,
    half: np.ndarray, rtol: float, atol: float, amounts: np.ndarray, integrals: np.ndarray,
) -> int:  # fmt: skip
    """One member; fills ``amounts`` and ``integrals``."""
    x, area, feed = start.copy(), np.zeros_like(start), np.zeros_like(start)
    now = min([float(at[0])] + [c[0] for c in changes])
    step, event, status = 1e-3, 0, OK

    def to(time: float) -> None:
        nonlocal step, now, status
        if time > now and status == OK:
            step, status = propagate(
                x, area, time - now, step, rtol, atol, network.first, network.second, network.pool,
                network.change, rate, half, feed,
            )  # fmt: skip
        now = time

    for i, time in enumerate(at.tolist()):
        while event < len(changes) and changes[event][0] <= time:
            to(changes[event][0])
            x += changes[event][1]
            feed += changes[event][2]
            # a pump that was switched off must not leave round-off behind
            feed[np.abs(feed) < 1e-12 * max(1e-300, np.abs(changes[event][2]).max())] = 0.0
            step, event = min(step, 1e-2), event + 1
        to(time)
        if status != OK:
            amounts[i:], integrals[i:] = (amounts[i - 1], integrals[i - 1]) if i else (start, 0.0)
            break
        amounts[i], integrals[i] = x, area
    return int(status)
