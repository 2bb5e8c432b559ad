"""Agents (drugs and tracers) as data files: a new one is a YAML file, not code.

Every number carries its unit, its source, whether it was read there, and the spread a prior should have.
Inside the package time is in hours, length in mm, volume in L.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from .tissue import Drug

FREE = "free"


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


class InTissue(_Model):
    """Movement and reactions in tissue; one diffusivity, or one per tissue name."""

    diffusivity: Number | dict[str, Number]
    reactions: tuple[Flow, ...] = ()


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
        for name in used:
            if name not in known:
                raise ValueError(f"the compartment '{name}' is not among the compartments")
        return self

    @cached_property
    def species(self) -> tuple[str, ...]:
        """The free drug, then the fixed species its reactions name."""
        names = [FREE]
        for flow in self.tissue.reactions:
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
        """Rates in tissue at the nominal values (mm2/h, 1/h), for these tissue names.

        Raises
        ------
        BadInput
            If the file gives a diffusivity per tissue and one of the tissues is missing.
        """
        given = self.tissue.diffusivity
        if isinstance(given, Number):
            d = np.full(len(tissues), given.to("mm2/h"))
        else:
            for name in tissues:
                if name not in given:
                    raise BadInput(
                        f"no diffusivity for the tissue '{name}'", f"agent {self.name}", near(name, given)
                    )
            d = np.array([given[name].to("mm2/h") for name in tissues])
        flows = {(f.source, f.target): f.rate.to("1/h") for f in self.tissue.reactions}
        r = rate_matrix(self.species, flows, f"agent {self.name}") if flows else np.zeros((1, 1))
        return Drug(d, r, self.species)

    def parameters(self) -> tuple[Parameter, ...]:
        """Log-normal priors of the plasma rates, the volume, the diffusivity and the loss in tissue.

        Names: ``<from>_to_<to>``, ``volume``, ``D_drug`` (or ``D_drug_<tissue>``), ``tissue_<from>_to_<to>``.
        """
        named: list[tuple[str, Number, str]] = [
            (f"{f.source}_to_{f.target}", f.rate, "1/h") for f in self.plasma.flows
        ]
        named.append(("volume", self.plasma.volume, "L"))
        d = self.tissue.diffusivity
        if isinstance(d, Number):
            named.append(("D_drug", d, "mm2/h"))
        else:
            named += [(f"D_drug_{k}", v, "mm2/h") for k, v in d.items()]
        named += [(f"tissue_{f.source}_to_{f.target}", f.rate, "1/h") for f in self.tissue.reactions]
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
