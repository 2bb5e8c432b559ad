"""Agents (drugs and tracers) as data files: a new one is a YAML file, not code.

Every number carries its unit, its source, whether it was read there, and the spread a prior should have.
Inside the package time is in hours, length in mm, volume in L.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from ..domain.errors import BadInput, near
from ..domain.parameters import Parameter
from ..domain.yamlfile import read_yaml, validate
from ..kinetics.pbpk import Body, Value
from ..kinetics.plasma import OUT, Course, Dose, PlasmaModel, course, rate_matrix
from ..kinetics.saturable import CappedFlow, SaturableFlow, SaturableModel
from .agent_body import BodyEntry, Nuclide, Radiobiology, body_parameters, make_body
from .agent_number import Entry, Link, Number
from .agent_plasma import Capped, Effect, Flow, MichaelisMenten, Plasma
from .drug import Binding, Drug, Exchange, Uptake
from .effect import Hill

FREE = "free"
#: Cells an amount in cells is counted by.
CELLS = 1e5


PerTissue = Number | dict[str, Number]


class InPlasma(Entry):
    """The plasma concentration a moving species sees: a compartment's, and which part of it."""

    compartment: str | None = None
    volume: Number | None = None
    part: Literal["unbound", "bound", "all", "none"] = "unbound"


class Moving(Entry):
    """A species that moves with the interstitial fluid; a value, or one per tissue name.

    Diffusivity is on the basis of the interstitium (flux per area of interstitium), permeability is that
    of the vessel wall (times the vessels' surface per volume of tissue it is the exchange rate).
    """

    diffusivity: PerTissue
    permeability: PerTissue | None = None
    reflection: PerTissue | None = None
    plasma: InPlasma = InPlasma()


class TissueFlow(Link):
    """A first-order flow between species per volume of tissue; to "out" is a loss."""

    rate: PerTissue


class SaturableBinding(Link):
    """``k_on (capacity - C_to) c_from``: k_on per concentration in the interstitium, capacity per volume of tissue."""

    on: PerTissue = Field(alias="k_on")
    capacity: PerTissue


class SaturableUptake(Link):
    """Uptake and efflux of cells after Zhan & Xu, amounts in cells per 1e5 cells, cells per volume of tissue."""

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


class Agent(Entry):
    """A drug, a tracer or a radioligand."""

    name: str
    kind: Literal["drug", "tracer", "radioligand"]
    description: str = ""
    amount_unit: str
    plasma: Plasma
    routes: dict[str, str]
    tissue: InTissue
    effect: Effect | None = None
    nuclide: Nuclide | None = None
    body: BodyEntry | None = None
    radiobiology: Radiobiology | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Agent:
        known = (*self.plasma.compartments, OUT)
        used = [self.plasma.central, *self.routes.values(), *self.plasma.bioavailability]
        every: tuple[Flow | MichaelisMenten | Capped, ...]
        every = (*self.plasma.flows, *self.plasma.saturable, *self.plasma.capped)
        used += [x for f in every for x in (f.source, f.target)]
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
        if self.effect is not None and self.effect.species not in self.species:
            raise ValueError(f"the species '{self.effect.species}' of the effect is not among the species")
        if self.nuclide is None and (self.body is not None or self.plasma.decays):
            raise ValueError("a body, or amounts that decay, need a nuclide")
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

    @property
    def linear(self) -> bool:
        """Whether plasma and tissue kinetics are linear and one species moves."""
        plasma, tissue = self.plasma, self.tissue
        curved = plasma.saturable or plasma.capped or plasma.decays or tissue.binding or tissue.uptake
        return not curved and not tissue.mobile

    def plasma_model(self) -> PlasmaModel:
        """The plasma model at the nominal values (hours, L).

        Raises
        ------
        BadInput
            If it is not linear: :meth:`course` and :meth:`saturable_model` serve then.
        """
        if self.plasma.saturable or self.plasma.capped or self.plasma.decays:
            raise BadInput(
                f"the plasma kinetics of {self.name} are not linear", "agents",
                "use a linear agent here, or Agent.course",
            )  # fmt: skip
        return self._linear()

    def saturable_model(self) -> SaturableModel:
        """The plasma model with its flows that saturate, also where it has none."""
        amount = self.amount_unit
        return SaturableModel(
            self._linear(),
            tuple(
                SaturableFlow(f.source, f.target, f.vmax.to(f"{amount}/h"), f.half.to(f"{amount}/L"))
                for f in self.plasma.saturable
            ),
            tuple(
                CappedFlow(f.source, f.target, f.rate.to("1/h"), f.capacity.to(amount))
                for f in self.plasma.capped
            ),
            self.nuclide.decay if self.plasma.decays and self.nuclide is not None else 0.0,
        )

    def course(self, doses: Sequence[Dose], end: float) -> Course:
        """Plasma model and doses as what tissue is fed by; a saturable one as a curve until ``end`` (hours)."""
        if self.plasma.saturable or self.plasma.capped or self.plasma.decays:
            return self.saturable_model().course(doses, end)
        return course(self._linear(), doses)

    def body_model(self, values: Mapping[str, Value] | None = None) -> Body:
        """The physiologically based model; ``values`` replace numbers by their names in :meth:`parameters`.

        Raises
        ------
        BadInput
            If the file has no body.
        """
        if self.body is None or self.nuclide is None:
            raise BadInput(f"{self.name} has no body", "agents", "use one with organs, like lu177_psma")
        return make_body(self.body, self.nuclide, self.name, values)

    def kill_law(self) -> Hill:
        """Kill rate (1/h) by the concentration of the effect's species (amount per L of tissue).

        Raises
        ------
        BadInput
            If the file has no effect.
        """
        if self.effect is None:
            raise BadInput(f"{self.name} has no effect", "agents", "give the file one")
        e = self.effect
        return Hill(e.emax.to("1/h"), e.ec50.to(f"{self.amount_unit}/L"), e.power.to("1"))

    def _linear(self) -> PlasmaModel:
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
        """Log-normal priors of the file's numbers.

        Names: ``<from>_to_<to>`` (with ``_vmax``, ``_half`` or ``_capacity``), ``volume``, ``D_drug`` (or
        ``D_drug_<tissue>``), ``tissue_<from>_to_<to>``, ``effect_emax``, ``effect_ec50``, and those of the body.
        """
        named: list[tuple[str, Number, str]] = [
            (f"{f.source}_to_{f.target}", f.rate, "1/h") for f in self.plasma.flows
        ]
        amount = self.amount_unit
        for mm in self.plasma.saturable:
            name = f"{mm.source}_to_{mm.target}"
            named += [(f"{name}_vmax", mm.vmax, f"{amount}/h"), (f"{name}_half", mm.half, f"{amount}/L")]
        for c in self.plasma.capped:
            name = f"{c.source}_to_{c.target}"
            named += [(name, c.rate, "1/h"), (f"{name}_capacity", c.capacity, amount)]
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
        if self.effect is not None:
            named += [
                ("effect_emax", self.effect.emax, "1/h"),
                ("effect_ec50", self.effect.ec50, f"{amount}/L"),
            ]
        found = tuple(number.parameter(name, unit, self.name) for name, number, unit in named)
        return found if self.body is None else found + body_parameters(self.body, self.name)


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
