"""One drug delivered to one tumour, with uncertain numbers: pressure, flow, drag, several moving species.

The names of the numbers are those of :mod:`~vvuq_twin.reduction.delivery_numbers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..domain.errors import BadInput, near
from ..domain.parameters import ParameterSpace
from ..kinetics.plasma import Course, Dose, PlasmaModel, course, rate_matrix
from ..physics.agents import CELLS, FREE, Agent
from ..physics.drug import Binding, Drug, Exchange, Uptake
from ..physics.interstitium import Interstitium
from ..physics.pressure import Flow, interstitial_flow
from ..physics.site import Site
from ..physics.tissue import Tissue
from ..physics.transport import TransportedMembers, transport_members
from .delivery_numbers import FLUID, SCORES, delivery_numbers
from .exchange import Vessels, require_patterns, score_names
from .local import Links, Pairs


class DeliveryInputs(NamedTuple):
    """What differs between N members, per tissue (L) where it says so.

    Parameters
    ----------
    fluid : mapping of str to array, shape (N, L)
        By the keys of :data:`FLUID`; and :data:`SCORES` (N, q) of the vessels' modes.
    diffusivity, permeability, reflection : array, shape (N, m, L)
        mm2/h, mm/h, 1; of the moving species.
    reactions : array, shape (N, L, s, s)
        1/h.
    links : tuple of four arrays, shape (N, q, L)
        Of uptake v_max, half_in, half_out, cells; of binding on, capacity, 0, 1.
    plasma : array, shape (N, p, p)
        Rates between compartments, pumps included, 1/h.
    readout : array, shape (N, m, p)
        What each moving species sees of the plasma states, 1/L.
    volume, unbound : array, shape (N,)
    """

    fluid: Mapping[str, Any]
    diffusivity: Any
    permeability: Any
    reflection: Any
    reactions: Any
    links: tuple[Any, Any, Any, Any]
    plasma: Any
    readout: Any
    volume: Any
    unbound: Any


@dataclass(frozen=True)
class DeliveryCase:
    """One agent, its doses, one site, and what is uncertain.

    Parameters
    ----------
    site : Site
    agent : Agent
        With linear plasma kinetics, all of its moving species with a permeability.
    doses : tuple of Dose
    times : ndarray, shape (T,)
        Output times, hours.
    space : ParameterSpace
        Of the names above.
    subgrid : bool
        Of the pressure, see :mod:`~vvuq_twin.physics.pressure`.
    exchange : ndarray, shape (q, n), optional
        Modes of the logarithm of the site's relative vessel surface (its perfusion map), whose scores are
        ``exchange_1..q`` (:mod:`~vvuq_twin.reduction.exchange`): fluid and drug cross the same vessels.

    Raises
    ------
    BadInput
        If an uncertain name is not known or also given per tissue, the modes are off the cells, or the agent is one
        that this cannot reduce.
    """

    site: Site
    agent: Agent
    doses: tuple[Dose, ...]
    times: np.ndarray
    space: ParameterSpace
    subgrid: bool = True
    exchange: np.ndarray | None = None

    def __post_init__(self) -> None:
        require_patterns(self.vessels.patterns, self.site.faces.n)
        if any(m.permeability is None for m in self.agent.moving.values()):
            raise BadInput(
                f"a moving species of {self.agent.name} has no permeability", "delivery",
                "add one, or reduce it by its Ktrans (TransportCase)",
            )  # fmt: skip
        known = set(self.nominal) | {name.rpartition("_")[0] for name in self.nominal if self._per(name)}
        for name in self.space.names:
            if name not in known:
                raise BadInput(f"there is no parameter '{name}'", "delivery", near(name, sorted(known)))
            if any(f"{name}_{x}" in self.space.names for x in self.site.faces.names):
                raise BadInput(
                    f"'{name}' is uncertain for all tissues and for one", "delivery", "keep one of them"
                )

    def _per(self, name: str) -> bool:
        return any(name.endswith(f"_{x}") for x in self.site.faces.names)

    @cached_property
    def nominal(self) -> dict[str, float]:
        """All numbers at the values of the files, by name."""
        found = {
            name: number.to(unit) for name, (number, unit) in delivery_numbers(self.site, self.agent).items()
        }
        return found | dict.fromkeys(score_names(self.vessels.patterns), 0.0)

    @cached_property
    def vessels(self) -> Vessels:
        """Of all cells."""
        n = self.site.faces.n
        return Vessels(self.site.relative, np.zeros((0, n)) if self.exchange is None else self.exchange)

    @cached_property
    def plan(self) -> Course:
        """Doses as jumps, at the nominal rates."""
        return course(self.agent.plasma_model(), self.doses)

    @cached_property
    def drug(self) -> Drug:
        """The agent's drug at the files' values."""
        return self.agent.drug(self.site.faces.names)

    @cached_property
    def pairs(self) -> Pairs:
        """Source, target and kind of the saturable reactions."""
        return (
            *((b.source, b.target, True) for b in self.drug.binding),
            *((u.source, u.target, False) for u in self.drug.uptake),
        )

    @property
    def moving(self) -> int:
        """Number of moving species."""
        return self.drug.moving

    def value(self, theta: Any, name: str) -> Any:
        """Values (N,) of one parameter."""
        if name in self.space.names:
            return theta[:, self.space.index(name)]
        return 0.0 * theta[:, 0] + self.nominal[name]

    def tissues(self, theta: Any, name: str, xp: Any) -> Any:
        """Values (N, L) of a parameter per tissue."""
        if name in self.space.names:
            return xp.stack([self.value(theta, name)] * len(self.site.faces.names), axis=1)
        return xp.stack([self.value(theta, f"{name}_{x}") for x in self.site.faces.names], axis=1)

    def inputs(self, theta: Any, xp: Any = np) -> DeliveryInputs:
        """Members' numbers from theta (N, p), in numpy or jax.numpy."""
        agent, plasma, n = self.agent, self.agent.plasma, theta.shape[0]
        moving = ["drug" if x == FREE else x for x in agent.moving]

        def per(key: str) -> Any:
            return xp.stack([self.tissues(theta, f"{key}_{x}", xp) for x in moving], axis=1)

        species = agent.species
        reactions = xp.zeros((n, len(self.site.faces.names), len(species), len(species)))
        for f in agent.tissue.reactions:
            unit = rate_matrix(species, {(f.source, f.target): 1.0})
            rate = self.tissues(theta, f"tissue_{f.source}_to_{f.target}", xp)
            reactions = reactions + rate[:, :, None, None] * unit
        rows: list[list[Any]] = [[], [], [], []]
        for b in agent.tissue.binding:
            name = f"tissue_{b.source}_to_{b.target}"
            one = xp.ones((n, len(self.site.faces.names)))
            for row, key in zip(rows, ("on", "capacity")):
                row.append(self.tissues(theta, f"{name}_{key}", xp))
            rows[2].append(0.0 * one)
            rows[3].append(one)
        for u in agent.tissue.uptake:
            name = f"tissue_{u.source}_to_{u.target}"
            for row, key in zip(rows, ("vmax", "half_in", "half_out", "cells")):
                row.append(self.tissues(theta, f"{name}_{key}", xp))
        empty = xp.zeros((n, 0, len(self.site.faces.names)))
        top, half_in, half_out, cells = (xp.stack(row, axis=1) if row else empty for row in rows)

        size, m = self.plan.size, len(plasma.compartments)
        pumps = np.array(self.plan.matrix)
        pumps[:m, :m] = 0.0
        matrix = xp.zeros((n, size, size)) + pumps
        for flow in plasma.flows:
            unit = np.zeros((size, size))
            unit[:m, :m] = rate_matrix(plasma.compartments, {(flow.source, flow.target): 1.0})
            matrix = matrix + self.value(theta, f"{flow.source}_to_{flow.target}")[:, None, None] * unit
        volume, unbound = self.value(theta, "volume"), self.value(theta, "unbound")
        seen = [self._seen(e, volume, unbound, xp) for e in self.drug.exchange]
        scores = [self.value(theta, name) for name in score_names(self.vessels.patterns)]
        fluid = {key: self.tissues(theta, key, xp) for key in FLUID}
        return DeliveryInputs(
            fluid | {SCORES: xp.stack(scores, axis=1) if scores else xp.zeros((n, 0))},
            per("D"), per("P"), per("reflection"), reactions, (top, half_in, half_out, cells / CELLS),
            matrix, xp.stack(seen, axis=1), volume, unbound,
        )  # fmt: skip

    def _seen(self, e: Exchange, volume: Any, unbound: Any, xp: Any) -> Any:
        """What a moving species sees of the plasma states, (N, p); as ``Exchange.row``."""
        where = np.zeros(self.plan.size)
        name = self.agent.plasma.central if e.compartment is None else e.compartment
        where[self.agent.plasma.compartments.index(name)] = 1.0 if e.enters else 0.0
        size = volume if e.compartment is None or e.volume is None else 0.0 * volume + e.volume
        share = unbound if e.share is None else 0.0 * unbound + e.share
        return where * ((1.0 - unbound if e.bound else share) / size)[:, None]

    def fluid(self, x: DeliveryInputs, i: int) -> Interstitium:
        """One member's maps for the pressure."""
        faces, f = self.site.faces, {key: np.asarray(v)[i] for key, v in x.fluid.items()}
        p_e = f["p_v"] - f["sigma"] * (f["pi_v"] - f["pi_i"])
        filtration = (f["Lp"] * f["S"])[faces.label] * self.vessels.surface(f[SCORES])
        return Interstitium(
            faces, f["K"][faces.label], filtration, p_e[faces.label], f["LpL"][faces.label], f["p_L"][faces.label]
        )  # fmt: skip

    def flow(self, x: DeliveryInputs, i: int) -> Flow:
        """One member's pressure and flow, full order."""
        return interstitial_flow(self.fluid(x, i), self.site.boundary, subgrid=self.subgrid)

    def member(self, x: DeliveryInputs, i: int) -> tuple[Tissue, Drug, Course]:
        """One member's tissue, drug and plasma course for the full order."""
        faces, p = self.site.faces, self.agent.plasma
        tissue = Tissue(
            faces, np.zeros(faces.n), self.site.phi, flow=self.flow(x, i),
            surface=np.asarray(x.fluid["S"])[i][faces.label] * self.vessels.surface(np.asarray(x.fluid[SCORES])[i]),
        )  # fmt: skip
        base, k = self.drug, len(self.drug.binding)
        top, half_in, half_out, cells = (np.asarray(v)[i] for v in x.links)
        exchange = tuple(
            Exchange(x.permeability[i, s], x.reflection[i, s], e.compartment, e.volume, e.share, e.bound, e.enters)
            for s, e in enumerate(base.exchange)
        )  # fmt: skip
        drug = Drug(
            x.diffusivity[i] if self.moving > 1 else x.diffusivity[i, 0], x.reactions[i], base.names, float(x.unbound[i]),
            exchange,
            tuple(Binding(b.source, b.target, top[q], half_in[q]) for q, b in enumerate(base.binding)),
            tuple(
                Uptake(u.source, u.target, top[k + q], half_in[k + q], half_out[k + q], cells[k + q])
                for q, u in enumerate(base.uptake)
            ),
        )  # fmt: skip
        m = len(p.compartments)
        fraction = {name: number.to("1") for name, number in p.bioavailability.items()}
        model = PlasmaModel(
            p.compartments, x.plasma[i, :m, :m], float(x.volume[i]), float(x.unbound[i]), fraction, p.central
        )
        return tissue, drug, course(model, self.doses)

    def full(
        self, theta: np.ndarray, dt_max: float | Sequence[float], change: float = 0.005, scheme: str = "upwind",
        cells: np.ndarray | None = None,
    ) -> TransportedMembers:  # fmt: skip
        """Full-order runs of members (N, p): all species, in all cells unless told otherwise."""
        x = self.inputs(np.asarray(theta, dtype=float))
        return transport_members(
            self.site.faces, lambda i: self.member(x, i), len(theta), self.times, dt_max, scheme, change=change,
            species=range(self.drug.size), cells=cells,
        )  # fmt: skip


def cell_links(x: DeliveryInputs, pairs: Pairs, label: Any, phi: Any) -> Links:
    """Coefficients of the saturable reactions at cells of these labels and phi, for :mod:`~vvuq_twin.reduction.local`."""
    top, half_in, half_out, cells = x.links
    first, second, third = [], [], []
    for q, (_, _, binds) in enumerate(pairs):
        if binds:
            first.append(top[:, q][:, label] / phi)
            second.append(half_in[:, q][:, label])
            third.append(0.0 * second[-1])
        else:
            first.append((cells[:, q] * top[:, q])[:, label])
            second.append(half_in[:, q][:, label] * phi)
            third.append((half_out[:, q] * cells[:, q])[:, label])
    return Links(tuple(first), tuple(second), tuple(third))
