"""The numbers of a drug's delivery by name, and priors about them.

The numbers are those of the tissue table and of the agent's file. Names of parameters:

- tissue table: ``K`` (conductivity), ``Lp``, ``S`` (vessel surface), ``sigma``, ``p_v``, ``pi_v``, ``pi_i``, ``LpL`` (drainage),
  ``p_L``, each with ``_<tissue>``;
- moving species: ``D``, ``P``, ``reflection`` with ``_<species>_<tissue>``, the free drug's species being ``drug``;
- ``tissue_<from>_to_<to>`` (first order), with ``_vmax``, ``_half_in``, ``_half_out``, ``_cells`` (uptake), with ``_on``,
  ``_capacity`` (binding), each with ``_<tissue>``;
- plasma: ``<from>_to_<to>``, ``volume``, ``unbound``;
- the perfusion map: ``exchange_1..q``, if the case has modes of it.

An uncertain name without its tissue holds for all tissues.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..domain.errors import BadInput, near
from ..domain.parameters import LogNormal, ParameterSpace
from ..physics.agent_number import Number
from ..physics.agents import FREE, Agent, PerTissue
from ..physics.site import Site

#: Keys of the tissue table's fields, and their units inside the package.
FLUID = {
    "K": ("tissue_conductivity", "mm2/mmHg/h"),
    "Lp": ("vessel_conductivity", "mm/mmHg/h"),
    "S": ("surface", "1/mm"),
    "sigma": ("reflection", "1"),
    "p_v": ("vessel_pressure", "mmHg"),
    "pi_v": ("vessel_osmotic", "mmHg"),
    "pi_i": ("tissue_osmotic", "mmHg"),
    "LpL": ("drainage", "1/mmHg/h"),
    "p_L": ("lymph_pressure", "mmHg"),
}
#: Beside them: the scores of the modes of the vessels' surface.
SCORES = "scores"


#: A number that is not in a file: nothing of it.
_NONE = Number(value=0.0, unit="1", source="not in the file", read=True)


def delivery_numbers(site: Site, agent: Agent) -> dict[str, tuple[Number, str]]:
    """Every number of a delivery by its name, with the unit it has inside the package."""
    amount, tissues = agent.amount_unit, site.faces.names
    found: dict[str, tuple[Number, str]] = {}
    for tissue in tissues:
        for key, (attribute, unit) in FLUID.items():
            found[f"{key}_{tissue}"] = getattr(site.table[tissue], attribute), unit

    def add(name: str, number: PerTissue | None, unit: str) -> None:
        for tissue in tissues:
            one = number[tissue] if isinstance(number, dict) else number
            found[f"{name}_{tissue}"] = (_NONE, "1") if one is None else (one, unit)

    for species, m in agent.moving.items():
        name = "drug" if species == FREE else species
        add(f"D_{name}", m.diffusivity, "mm2/h")
        add(f"P_{name}", m.permeability, "mm/h")
        add(f"reflection_{name}", m.reflection, "1")
    for f in agent.tissue.reactions:
        add(f"tissue_{f.source}_to_{f.target}", f.rate, "1/h")
    for b in agent.tissue.binding:
        add(f"tissue_{b.source}_to_{b.target}_on", b.on, f"L/({amount})/h")
        add(f"tissue_{b.source}_to_{b.target}_capacity", b.capacity, f"{amount}/L")
    for u in agent.tissue.uptake:
        name = f"tissue_{u.source}_to_{u.target}"
        add(f"{name}_vmax", u.rate, f"{amount}/h")
        add(f"{name}_half_in", u.half_in, f"{amount}/L")
        add(f"{name}_half_out", u.half_out, amount)
        add(f"{name}_cells", u.cells, "1/L")
    for flow in agent.plasma.flows:
        found[f"{flow.source}_to_{flow.target}"] = flow.rate, "1/h"
    found["volume"], found["unbound"] = (agent.plasma.volume, "L"), (agent.plasma.unbound, "1")
    return found


def delivery_space(site: Site, agent: Agent, spread: Mapping[str, float | None]) -> ParameterSpace:
    """Log-normal priors about the files' values.

    Parameters
    ----------
    spread : mapping of str to float or None
        Standard deviation of the logarithm by the parameter's name, None for the file's own; a name without
        its tissue takes the first tissue's number for all.

    Raises
    ------
    BadInput
        If a name is not known.
    """
    numbers = delivery_numbers(site, agent)
    found = []
    for name, sd in spread.items():
        key = name if name in numbers else f"{name}_{site.faces.names[0]}"
        if key not in numbers:
            raise BadInput(f"there is no parameter '{name}'", "delivery", near(name, sorted(numbers)))
        number, unit = numbers[key]
        one = number.parameter(name, unit, agent.name)
        found.append(one if sd is None else replace(one, prior=LogNormal(number.to(unit), sd)))
    return ParameterSpace(tuple(found))
