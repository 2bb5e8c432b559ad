"""Agents (drugs and tracers) as data files: a new one is a YAML file, not code.

Every number carries its unit, its source, whether it was read there, and the spread a prior should have.
Inside the package time is in hours, length in mm, volume in L.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..domain.errors import BadInput, near
from ..domain.parameters import LogNormal, Parameter
from ..domain.units import convert
from ..domain.yamlfile import read_yaml, validate
from ..kinetics.plasma import OUT, PlasmaModel, rate_matrix
from .drug import Binding, Drug, Exchange, Uptake

FREE = "free"
#: Cells an amount in cells is counted by.
CELLS = 1e5


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Number(_Model):
    """A quantity with its unit, source and spread (standard deviation of the logarithm)."""

    value: float = Field(ge=0, allow_inf_nan=False)
    unit: str
    sd_log: float = Field(default=0.5, gt=0, allow_inf_nan=False)
    source: str
    read: bool

    def to(self, unit: str) -> float:
        """The value in another unit."""
        return float(convert(self.value, self.unit, unit, "agent file"))


class Flow(_Model):
    """A first-order flow between compartments or species; to "out" is a loss."""

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    rate: Number


class Plasma(_Model):
    """The linear compartment model."""

    compartments: tuple[str, ...] = Field(min_length=1)
    central: str = "central"
    volume: Number
    unbound: Number
    flows: tuple[Flow, ...] = Field(min_length=1)
    bioavailability: dict[str, Number] = {}


PerTissue = Number | dict[str, Number]


class InPlasma(_Model):
    """The plasma concentration a moving species sees: a compartment's, and which part of it."""

    compartment: str | None = None
    volume: Number | None = None
    part: Literal["unbound", "bound", "all", "none"] = "unbound"


class Moving(_Model):
    """A species that moves with the interstitial fluid; a value, or one per tissue name.

    Diffusivity is on the basis of the interstitium (flux per area of interstitium), permeability is that
    of the vessel wall (times the vessels' surface per volume of tissue it is the exchange rate).
    """

    diffusivity: PerTissue
    permeability: PerTissue | None = None
    reflection: PerTissue | None = None
    plasma: InPlasma = InPlasma()


class TissueFlow(_Model):
    """A first-order flow between species per volume of tissue; to "out" is a loss."""

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    rate: PerTissue


class SaturableBinding(_Model):
    """``on (capacity - C_to) c_from``: on per concentration in the interstitium, capacity per volume of tissue."""

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    on: PerTissue
    capacity: PerTissue


class SaturableUptake(_Model):
    """Uptake and efflux of cells after Zhan & Xu, amounts in cells per 1e5 cells, cells per volume of tissue."""

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    rate: PerTissue
    half_in: PerTissue
    half_out: PerTissue
    cells: PerTissue


class InTissue(Moving):
    """The free drug's movement, other species that move (``mobile``), and what happens to them.

    ``basis`` says in words per volume of what the numbers of the file are.
    """

    basis: str = ""
    mobile: dict[str, Moving] = {}
    reactions: tuple[TissueFlow, ...] = ()
    binding: tuple[SaturableBinding, ...] = ()
    uptake: tuple[SaturableUptake, ...] = ()


class Agent(_Model):
    """A drug or tracer."""

    name: str
    kind: Literal["drug", "tracer"]
    description: str = ""
    amount_unit: str
    plasma: Plasma
    routes: dict[str, str]
    tissue: InTissue

    @model_validator(mode="after")
    def _consistent(self) -> Agent:
        known = (*self.plasma.compartments, OUT)
        used = [self.plasma.central, *self.routes.values(), *self.plasma.bioavailability]
        used += [x for f in self.plasma.flows for x in (f.source, f.target)]
        used += [m.plasma.compartment for m in self.moving.values() if m.plasma.compartment]
        for name in used:
            if name not in known:
                raise ValueError(f"the compartment '{name}' is not among the compartments")
        saturable: tuple[SaturableBinding | SaturableUptake, ...] = (
            *self.tissue.binding,
            *self.tissue.uptake,
        )
        for link in saturable:
            if link.source not in self.moving:
                raise ValueError(f"the species '{link.source}' is taken up but does not move")
        return self

    @property
    def moving(self) -> dict[str, Moving]:
        """Species that move, the free drug first."""
        return {FREE: self.tissue, **self.tissue.mobile}

    @cached_property
    def species(self) -> tuple[str, ...]:
        """The free drug, the others that move, then the fixed species that reactions name."""
        names = list(self.moving)
        flows: tuple[TissueFlow | SaturableBinding | SaturableUptake, ...]
        flows = (*self.tissue.reactions, *self.tissue.binding, *self.tissue.uptake)
        for flow in flows:
            names += [x for x in (flow.source, flow.target) if x not in names and x != OUT]
        return tuple(names)

    def plasma_model(self) -> PlasmaModel:
        """The plasma model at the nominal values (hours, L)."""
        flows = {(f.source, f.target): f.rate.to("1/h") for f in self.plasma.flows}
        return PlasmaModel(
            self.plasma.compartments,
            rate_matrix(self.plasma.compartments, flows, f"agent {self.name}"),
            self.plasma.volume.to("L"),
            self.plasma.unbound.to("1"),
            {name: number.to("1") for name, number in self.plasma.bioavailability.items()},
            self.plasma.central,
        )

    def compartment(self, route: str) -> str:
        """Where a dose by this route goes.

        Raises
        ------
        BadInput
            If the agent is not given by this route.
        """
        if route not in self.routes:
            raise BadInput(f"{self.name} has no route '{route}'", "treatments", near(route, self.routes))
        return self.routes[route]

    def drug(self, tissues: Sequence[str]) -> Drug:
        """Rates in tissue at the nominal values (mm, h, L and the agent's amount), for these tissue names.

        Raises
        ------
        BadInput
            If the file gives a number per tissue and one of the tissues is missing.
        """

        def of(number: PerTissue, unit: str, what: str) -> np.ndarray:
            if isinstance(number, Number):
                return np.full(len(tissues), number.to(unit))
            for name in tissues:
                if name not in number:
                    raise BadInput(
                        f"no {what} for the tissue '{name}'", f"agent {self.name}", near(name, number)
                    )
            return np.array([number[name].to(unit) for name in tissues])

        amount, at = self.amount_unit, self.species.index
        d = [of(m.diffusivity, "mm2/h", "diffusivity") for m in self.moving.values()]
        r = np.zeros((len(tissues), len(self.species), len(self.species)))
        for f in self.tissue.reactions:
            unit = rate_matrix(self.species, {(f.source, f.target): 1.0}, f"agent {self.name}")
            r += of(f.rate, "1/h", f"rate {f.source} to {f.target}")[:, None, None] * unit
        binding = tuple(
            Binding(
                at(b.source),
                at(b.target),
                of(b.on, f"L/({amount})/h", "on"),
                of(b.capacity, f"{amount}/L", "capacity"),
            )
            for b in self.tissue.binding
        )
        uptake = tuple(
            Uptake(
                at(u.source),
                at(u.target),
                of(u.rate, f"{amount}/h", "rate"),
                of(u.half_in, f"{amount}/L", "half_in"),
                of(u.half_out, amount, "half_out"),
                of(u.cells, "1/L", "cells") / CELLS,
            )
            for u in self.tissue.uptake
        )
        exchange = tuple(self._exchange(m, of) for m in self.moving.values())
        same = (r == r[:1]).all()
        return Drug(
            np.array(d) if len(d) > 1 else d[0],
            r[0] if same else r,
            self.species,
            exchange=exchange,
            binding=binding,
            uptake=uptake,
        )

    @staticmethod
    def _exchange(m: Moving, of: Callable[[PerTissue, str, str], np.ndarray]) -> Exchange:
        return Exchange(
            None if m.permeability is None else of(m.permeability, "mm/h", "permeability"),
            None if m.reflection is None else of(m.reflection, "1", "reflection"),
            m.plasma.compartment,
            None if m.plasma.volume is None else m.plasma.volume.to("L"),
            1.0 if m.plasma.part == "all" else None,
            m.plasma.part == "bound",
            m.plasma.part != "none",
        )

    def parameters(self) -> tuple[Parameter, ...]:
        """Log-normal priors of the plasma rates, the volume, the diffusivity and the loss in tissue.

        Names: ``<from>_to_<to>``, ``volume``, ``D_drug`` (or ``D_drug_<tissue>``), ``tissue_<from>_to_<to>``.
        """
        named: list[tuple[str, Number, str]] = [
            (f"{f.source}_to_{f.target}", f.rate, "1/h") for f in self.plasma.flows
        ]
        named.append(("volume", self.plasma.volume, "L"))

        def add(name: str, number: PerTissue, unit: str) -> None:
            if isinstance(number, Number):
                named.append((name, number, unit))
            else:
                named.extend((f"{name}_{k}", v, unit) for k, v in number.items())

        for species, m in self.moving.items():
            add("D_drug" if species == FREE else f"D_{species}", m.diffusivity, "mm2/h")
        for f in self.tissue.reactions:
            add(f"tissue_{f.source}_to_{f.target}", f.rate, "1/h")
        return tuple(
            Parameter(
                name,
                unit,
                LogNormal(number.to(unit), number.sd_log),
                f"{self.name}: {name.replace('_', ' ')}",
                number.source + ("" if number.read else " (not read there)"),
            )
            for name, number, unit in named
        )


def library() -> tuple[str, ...]:
    """Names of the agents that come with the package."""
    folder = resources.files("vvuq_twin").joinpath("library")
    names = []
    for item in folder.iterdir():
        if item.name.endswith(".yaml") and "\nplasma:" in item.read_text(encoding="utf-8"):
            names.append(item.name.removesuffix(".yaml"))
    return tuple(sorted(names))


def load_agent(name: str | Path) -> Agent:
    """An agent by its name in the library, or from a YAML file.

    Raises
    ------
    BadInput
        If there is none of that name, or the file has a fault.
    """
    path = Path(name)
    if path.suffix not in {".yaml", ".yml"}:
        if str(name) not in library():
            raise BadInput(f"the agent '{name}' is not in the library", "agents", near(str(name), library()))
        path = Path(str(resources.files("vvuq_twin").joinpath("library", f"{name}.yaml")))
    return validate(Agent, read_yaml(path), str(path))
