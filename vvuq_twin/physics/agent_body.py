"""What an agent file says of a radioligand: its nuclide, its organs, and how tissue answers to radiation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from ..domain.errors import BadInput, near
from ..domain.parameters import Parameter
from ..kinetics.pbpk import BLOOD, Body, Ligand, Organ, Value
from .agent_number import Entry, Number


class Nuclide(Entry):
    """A radionuclide: half-life, and the energy of electrons it leaves where it decays."""

    half_life: Number
    electrons: Number | None = None

    @property
    def decay(self) -> float:
        """Decay constant, 1/h."""
        return float(np.log(2.0) / self.half_life.to("h"))


class OrganEntry(Entry):
    """One organ; volumes of plasma and interstitium, receptors per volume of organ."""

    volume: Number
    flow: Number
    plasma: Number
    interstitium: Number
    permeability: Number
    receptors: Number | None = None
    release: Number | None = None
    filtration: Number | None = None
    drains: str = BLOOD


class BodyEntry(Entry):
    """Organs in plasma flow, and how the ligand binds."""

    blood: Number
    density: Number
    association: Number
    dissociation: Number
    internalisation: Number
    unbound: Number
    organs: dict[str, OrganEntry] = Field(min_length=1)


class Radiobiology(Entry):
    """Linear-quadratic law with repair; ``alpha_beta`` and BED ``limits`` of organs at risk."""

    alpha: Number
    beta: Number
    repair: Number
    alpha_beta: dict[str, Number] = {}
    limits: dict[str, Number] = {}


#: Units of an organ's numbers inside the package.
ORGAN_UNITS = {
    "volume": "L", "flow": "L/h", "plasma": "L", "interstitium": "L", "permeability": "L/h",
    "receptors": "nmol/L", "release": "1/h", "filtration": "L/h",
}  # fmt: skip
SHARED_UNITS = {
    "blood": "L", "density": "kg/L", "association": "L/nmol/h", "dissociation": "nmol/L",
    "internalisation": "1/h", "unbound": "1",
}  # fmt: skip


def body_parameters(entry: BodyEntry, agent: str) -> tuple[Parameter, ...]:
    """Priors of the body's numbers: ``body_<name>`` and ``<organ>_<name>``; the unit is in each."""
    found = [getattr(entry, n).parameter(f"body_{n}", u, agent) for n, u in SHARED_UNITS.items()]
    for organ, one in entry.organs.items():
        for name, unit in ORGAN_UNITS.items():
            number = getattr(one, name)
            if number is not None:
                found.append(number.parameter(f"{organ}_{name}", unit, agent))
    return tuple(found)


def make_body(
    entry: BodyEntry, nuclide: Nuclide, agent: str, values: Mapping[str, Value] | None = None
) -> Body:
    """The body model at the file's values.

    Parameters
    ----------
    entry : BodyEntry
    nuclide : Nuclide
    agent : str
    values : mapping of str to number or ndarray (N,), optional
        Replace numbers, by the names and in the units of :func:`body_parameters`.

    Raises
    ------
    BadInput
        If a value has an unknown name, or the body has a fault.
    """
    given = dict(values or {})
    known = {p.name for p in body_parameters(entry, agent)}
    for name in given:
        if name not in known:
            raise BadInput(f"the body has no number '{name}'", f"agent {agent}", near(name, known))

    def shared(name: str) -> Value:
        return given.get(f"body_{name}", getattr(entry, name).to(SHARED_UNITS[name]))

    def of(organ: str, name: str) -> Value:
        number = getattr(entry.organs[organ], name)
        return given.get(f"{organ}_{name}", 0.0 if number is None else number.to(ORGAN_UNITS[name]))

    organs = []
    for name, one in entry.organs.items():
        volume = of(name, "volume")
        organs.append(
            Organ(
                name, volume * shared("density"), of(name, "flow"), of(name, "plasma"), of(name, "interstitium"),
                of(name, "permeability"), of(name, "receptors") * volume, of(name, "release"),
                of(name, "filtration"), one.drains,
            )
        )  # fmt: skip
    ligand = Ligand(
        shared("association"),
        shared("dissociation"),
        shared("internalisation"),
        shared("unbound"),
        nuclide.decay,
        0.0 if nuclide.electrons is None else nuclide.electrons.to("keV"),
    )
    return Body(shared("blood"), tuple(organs), ligand)
