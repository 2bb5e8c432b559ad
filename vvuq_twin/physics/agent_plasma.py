"""What an agent file says of plasma kinetics, and of how cells die of the agent."""

from __future__ import annotations

from pydantic import Field

from .agent_number import Entry, Link, Number


class Flow(Link):
    """A first-order flow between compartments or species; to "out" is a loss."""

    rate: Number


class MichaelisMenten(Link):
    """A flow that saturates, ``vmax c/(half + c)`` with c the amount over the central volume."""

    vmax: Number
    half: Number


class Capped(Link):
    """A first-order flow into a compartment that holds only so much."""

    rate: Number
    capacity: Number


class Plasma(Entry):
    """The compartment model. Where amounts are activities, ``decays`` says that they decay."""

    compartments: tuple[str, ...] = Field(min_length=1)
    central: str = "central"
    volume: Number
    unbound: Number
    flows: tuple[Flow, ...] = Field(min_length=1)
    bioavailability: dict[str, Number] = {}
    saturable: tuple[MichaelisMenten, ...] = ()
    capped: tuple[Capped, ...] = ()
    decays: bool = False


class Effect(Entry):
    """Kill rate of cells by a species, ``emax C^power/(ec50^power + C^power)``, C per volume of tissue."""

    species: str
    emax: Number
    ec50: Number
    power: Number
