"""Physical lengths of pressure and drug transport, to be held against the voxel size.

A sink of rate k takes what diffuses into it over ``sqrt(D/k)``, pressure changes at a tissue's edge over
``sqrt(K/(Lp S/V))``: a grid resolves such a layer with three voxels or more. The cell Peclet number says
whether a voxel's transport is by flow (above 1) or by diffusion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..domain.errors import BadInput
from .agents import Agent
from .drug import Drug
from .interstitium import FluidTissue

#: Voxels that resolve a layer.
VOXELS = 3.0


@dataclass(frozen=True)
class Length:
    """One length.

    Parameters
    ----------
    what : str
    mm : float
    subgrid : str
        What stands in for it where voxels are coarser; empty: nothing does.
    """

    what: str
    mm: float
    subgrid: str = ""

    def resolved(self, voxel: float) -> bool:
        """Whether voxels of this size (mm) resolve it."""
        return voxel <= self.mm / VOXELS


def fluid_lengths(tissues: Mapping[str, FluidTissue]) -> list[Length]:
    """The pressure layer of each tissue."""
    return [
        Length(f"pressure layer of {name} tissue", t.layer, "the sub-grid flux across a tissue's rim")
        for name, t in tissues.items()
        if np.isfinite(t.layer)
    ]


def drug_lengths(agent: Agent, tissues: Mapping[str, FluidTissue]) -> list[Length]:
    """``sqrt(D/k)`` of every sink of every moving species, per tissue the agent has numbers for."""
    found = []
    for name, fluid in tissues.items():
        try:
            drug = agent.drug([name])
        except BadInput:
            continue
        for s in range(drug.moving):
            d = float(np.mean(drug.diffusivity_of(s)))
            for sink, rate in _sinks(drug, s, fluid):
                if rate > 0 and d > 0:
                    what = f"penetration of {agent.name} ({drug.names[s]}) against {sink} in {name} tissue"
                    found.append(Length(what, float(np.sqrt(d / rate))))
    return found


def _sinks(drug: Drug, s: int, fluid: FluidTissue) -> list[tuple[str, float]]:
    """(name, rate on the amount, 1/h) of what takes a species away in one tissue."""
    phi = fluid.interstitium.to("1")
    found = []
    wall = drug.exchange[s].permeability
    if wall is not None:
        found.append(("return to vessels", float(wall[0]) * fluid.surface.to("1/mm") / phi))
    r = drug.reactions if drug.reactions.ndim == 2 else drug.reactions[0]
    for target in range(drug.size):
        if target != s:
            found.append((f"becoming {drug.names[target]}", float(r[target, s])))
    found.append(("loss", float(-r[:, s].sum())))
    for b in drug.binding:
        if b.source == s:
            found.append(("binding to receptors", float(b.on[0] * b.capacity[0]) / phi))
    for u in drug.uptake:
        if u.source == s:
            found.append(("uptake by cells", float(u.cells[0] * u.rate[0] / u.half_in[0]) / phi))
    return found


def rim_speed(inside: FluidTissue, outside: FluidTissue) -> float:
    """Darcy flux across the flat rim between two tissues, mm/h."""
    drop = inside.effective_pressure - outside.effective_pressure
    return abs(drop) / (inside.layer / inside.conductivity + outside.layer / outside.conductivity)


def cell_peclet(agent: Agent, tissues: Mapping[str, FluidTissue], voxel: float) -> float | None:
    """``v h/(phi D)`` of the free drug at a tumour's rim; None without a tumour, its surroundings or a number."""
    if not {"tumour", "normal"} <= tissues.keys():
        return None
    try:
        d = float(np.mean(agent.drug(["tumour"]).diffusivity_of(0)))
    except BadInput:
        return None
    phi = tissues["tumour"].interstitium.to("1")
    return rim_speed(tissues["tumour"], tissues["normal"]) * voxel / (phi * d) if d > 0 else None


def sentences(agents: Sequence[Agent], tissues: Mapping[str, FluidTissue], voxel: float) -> list[str]:
    """In plain words: each length against the voxel, shortest first, and the cell Peclet numbers."""
    lengths = fluid_lengths(tissues)
    for agent in agents:
        lengths += drug_lengths(agent, tissues)
    found = []
    for length in sorted(lengths, key=lambda x: x.mm):
        if length.resolved(voxel):
            verdict = "resolved"
        elif length.subgrid:
            verdict = f"not resolved: {length.subgrid} stands in for it"
        else:
            verdict = "not resolved: nothing below the voxel is reported"
        found.append(f"{length.what}: {length.mm:.2g} mm, voxel {voxel:.2g} mm, {verdict}")
    for agent in agents:
        peclet = cell_peclet(agent, tissues, voxel)
        if peclet is not None:
            carried = "flow" if peclet > 1 else "diffusion"
            found.append(
                f"cell Peclet number of {agent.name} at a tumour's rim: {peclet:.2g}, moved mostly by {carried}"
            )
    return found
