"""Plasma models with saturable (Michaelis-Menten) elimination, saturable distribution, or decay.

Beside the first-order flows of a :class:`~vvuq_twin.kinetics.plasma.PlasmaModel` a compartment may lose
``Vmax c / (Km + c)``, with ``c`` its amount over the central volume, or fill another that holds only so much. Solved as a reaction network, and made a
:class:`~vvuq_twin.kinetics.plasma.Course` for whatever is fed by plasma.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..domain.errors import BadInput
from .measured import curve_course
from .network import Network, NetworkRun, Reaction, simulate_network
from .plasma import OUT, Course, Dose, PlasmaModel

DECAYED = "decayed"


def _sites(compartment: str) -> str:
    return f"{compartment} sites"


@dataclass(frozen=True)
class SaturableFlow:
    """A flow that saturates.

    Parameters
    ----------
    source, target : str
        Compartments; the target "out" is elimination.
    vmax : float or ndarray, shape (N,)
        Largest rate, amount/h.
    half : float or ndarray, shape (N,)
        Km, concentration at half of it, amount/L of the central volume.
    """

    source: str
    target: str
    vmax: float | np.ndarray
    half: float | np.ndarray


@dataclass(frozen=True)
class CappedFlow:
    """A flow into a compartment that holds only so much: ``k x_source (1 - x_target / capacity)``.

    Parameters
    ----------
    source, target : str
        Compartments.
    rate : float or ndarray, shape (N,)
        k, 1/h.
    capacity : float or ndarray, shape (N,)
        Amount.
    """

    source: str
    target: str
    rate: float | np.ndarray
    capacity: float | np.ndarray


@dataclass(frozen=True)
class SaturableModel:
    """A linear compartment model with further flows that saturate.

    Parameters
    ----------
    linear : PlasmaModel
    flows : tuple of SaturableFlow
    capped : tuple of CappedFlow
        At most one into each compartment. What leaves such a compartment frees its sites.
    decay : float
        First-order loss of every compartment into the state "decayed", 1/h: amounts are activities then.
    """

    linear: PlasmaModel
    flows: tuple[SaturableFlow, ...]
    capped: tuple[CappedFlow, ...] = ()
    decay: float = 0.0

    def network(self) -> Network:
        """The reactions."""
        k, names = np.asarray(self.linear.matrix, dtype=float), self.linear.names
        sites = {f.target: (_sites(f.target),) for f in self.capped}
        reactions = []
        for a, source in enumerate(names):
            for b, target in enumerate(names):
                if a != b and np.any(k[..., b, a] != 0):
                    reactions.append(Reaction((source,), (target, *sites.get(source, ())), k[..., b, a]))
            loss = -k[..., :, a].sum(axis=-1)
            # what round-off leaves of a column that loses nothing is nothing
            loss = np.where(np.abs(loss) <= 1e-14 * np.abs(k[..., a, a]), 0.0, loss)
            if np.any(loss != 0):
                reactions.append(Reaction((source,), (OUT, *sites.get(source, ())), loss))
        volume = np.asarray(self.linear.volume, dtype=float)
        for f in self.flows:
            freed = (f.target, *sites.get(f.source, ()))
            reactions.append(Reaction((f.source,), freed, f.vmax, f.half * volume))
        for c in self.capped:
            if np.any(np.asarray(c.capacity) <= 0):
                raise BadInput(f"the capacity of '{c.target}' is not positive", "plasma model")
            gained = (c.target, *sites.get(c.source, ()))
            reactions.append(Reaction((c.source, _sites(c.target)), gained, c.rate / np.asarray(c.capacity)))
        if self.decay > 0:
            reactions += [Reaction((n,), (DECAYED, *sites.get(n, ())), self.decay) for n in names]
        extra = (*(s for (s,) in sites.values()), *((DECAYED,) if self.decay > 0 else ()))
        return Network((*names, *extra), tuple(reactions), "plasma model")

    def run(self, doses: Iterable[Dose], times: np.ndarray, rtol: float = 1e-8) -> NetworkRun:
        """Amounts at ``times``; bioavailability is applied to the doses."""
        share = self.linear.fraction or {}
        given = [
            Dose(d.time, d.amount * share.get(d.compartment, 1.0), d.compartment, d.duration) for d in doses
        ]
        empty = {_sites(f.target): f.capacity for f in self.capped}
        return simulate_network(self.network(), given, times, empty, rtol=rtol)

    def concentration(self, doses: Iterable[Dose], times: np.ndarray) -> np.ndarray:
        """Plasma concentration, bound and unbound, shape (N, T), amount/L."""
        run = self.run(doses, times)
        volume = np.atleast_1d(np.asarray(self.linear.volume, dtype=float))[:, None]
        return np.asarray(run.of(self.linear.central) / volume)

    def course(self, doses: Sequence[Dose], end: float, tolerance: float = 1e-4) -> Course:
        """One member's plasma curve as a course, linear between knots set by ``tolerance``.

        Parameters
        ----------
        doses : sequence of Dose
        end : float
            Hours; after it the curve decays by its last slope.
        tolerance : float
            Largest distance of the curve from its chords, relative to the peak.

        Raises
        ------
        BadInput
            If there is no dose, ``end`` is before the last one is over, or the model is of many members.
        """
        if not doses:
            raise BadInput("there is no dose", "plasma model")
        edges = sorted({t for d in doses for t in (d.time, d.time + d.duration)})
        if end <= edges[-1]:
            raise BadInput(f"the end ({end:g} h) is not after the last dose", "plasma model", "end later")
        if np.ndim(self.linear.volume) or np.ndim(self.linear.matrix) != 2:
            raise BadInput(
                "the plasma model is of more than one member", "plasma model", "run them one by one"
            )

        def curve(t: np.ndarray) -> np.ndarray:
            return np.asarray(self.concentration(doses, t)[0])

        return curve_course(curve, [*edges, end], tolerance, self.linear.unbound)
