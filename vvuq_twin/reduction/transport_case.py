"""One agent with linear kinetics in one patient's tissue, with uncertain numbers and an uncertain map of exchange."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..domain.errors import BadInput, near
from ..domain.parameters import ParameterSpace
from ..kinetics.plasma import Course, Dose, PlasmaModel, course, rate_matrix
from ..physics.agents import Agent
from ..physics.tissue import Drug, Tissue, TransportTerms, transport_terms
from ..physics.transport import TransportedMembers, total_exposure, transport_members
from .exchange import PREFIX, require_patterns, scaling, score_names


class TransportInputs(NamedTuple):
    """What differs between members.

    Parameters
    ----------
    diffusivity : array, shape (N, L)
        mm2/h.
    factor : array, shape (N,)
        On Ktrans everywhere.
    reactions : array, shape (N, s, s)
        1/h.
    plasma : array, shape (N, p, p)
        Rates between compartments, pumps included, 1/h.
    readout : array, shape (N, p)
        Plasma concentration from the compartments, 1/L.
    unbound : array, shape (N,)
    scores : array, shape (N, q)
        Of the modes of the exchange map.
    """

    diffusivity: Any
    factor: Any
    reactions: Any
    plasma: Any
    readout: Any
    unbound: Any
    scores: Any


@dataclass(frozen=True)
class TransportCase:
    """One agent in one patient's tissue.

    Parameters
    ----------
    tissue : Tissue
        At rest, or with a given velocity.
    agent : Agent
        With linear kinetics and one moving species.
    doses : tuple of Dose
    times : ndarray, shape (T,)
        Output times, hours.
    space : ParameterSpace
        Of the names of ``Agent.parameters()``, ``ktrans_factor`` and ``exchange_1..q``; other names are ignored.
    fixed : mapping of str to float
        Values instead of the agent's nominal ones.
    exchange : ndarray, shape (q, n), optional
        Modes of the logarithm of Ktrans, one standard deviation each (:mod:`~vvuq_twin.reduction.exchange`).

    Raises
    ------
    BadInput
        If a fixed name is unknown or also uncertain, the modes are off the cells, or the kinetics or the tissue are
        ones that a delivery is for.
    """

    tissue: Tissue
    agent: Agent
    doses: tuple[Dose, ...]
    times: np.ndarray
    space: ParameterSpace
    fixed: Mapping[str, float] = field(default_factory=dict)
    exchange: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not self.agent.linear or self.tissue.flow is not None:
            raise BadInput(
                f"the kinetics of {self.agent.name} are not linear, or the tissue has a pressure", "transport",
                "reduce it as a delivery (DeliveryCase)",
            )  # fmt: skip
        require_patterns(self.patterns, self.tissue.faces.n)
        if any(name.startswith(PREFIX) and name not in self.nominal for name in self.space.names):
            raise BadInput(
                f"there are scores of more modes than the exchange map's {len(self.patterns)}", "transport"
            )
        for name in self.fixed:
            if name in self.space.names:
                raise BadInput(f"'{name}' is both uncertain and fixed", "transport", "keep one of the two")
            if name not in self.nominal:
                raise BadInput(
                    f"{self.agent.name} has no parameter '{name}'", "transport", near(name, self.nominal)
                )

    @cached_property
    def nominal(self) -> dict[str, float]:
        """The agent's own values."""
        values: dict[str, float] = {}
        for p in self.agent.parameters():
            values[p.name] = float(np.asarray(p.prior.from_gaussian(np.zeros(1)))[0])
        values["ktrans_factor"] = 1.0
        values["unbound"] = self.agent.plasma.unbound.to("1")
        return values | dict.fromkeys(score_names(self.patterns), 0.0)

    @property
    def patterns(self) -> np.ndarray:
        """Modes of the logarithm of Ktrans, (q, n); none without an uncertain map."""
        return np.zeros((0, self.tissue.faces.n)) if self.exchange is None else self.exchange

    @cached_property
    def plan(self) -> Course:
        """Doses as jumps, at the nominal rates."""
        return course(self.agent.plasma_model(), self.doses)

    @cached_property
    def terms(self) -> TransportTerms:
        """The linear pieces of the full order."""
        return transport_terms(self.tissue)

    def value(self, theta: Any, name: str) -> Any:
        """Values (N,) of one parameter."""
        if name in self.space.names:
            return theta[:, self.space.index(name)]
        return 0.0 * theta[:, 0] + float(self.fixed.get(name, self.nominal[name]))

    def inputs(self, theta: Any, xp: Any = np) -> TransportInputs:
        """Members' rates from theta (N, p), in numpy or jax.numpy."""
        names = self.tissue.faces.names
        single = "D_drug" in self.nominal
        d = xp.stack([self.value(theta, "D_drug" if single else f"D_drug_{x}") for x in names], axis=1)
        plasma = self.agent.plasma
        k = self._rates(theta, plasma.compartments, [(f.source, f.target) for f in plasma.flows], "", xp)
        size, m = self.plan.size, len(plasma.compartments)
        pumps = np.array(self.plan.matrix)
        pumps[:m, :m] = 0.0
        k = xp.pad(k, ((0, 0), (0, size - m), (0, size - m))) + pumps
        reactions = self._rates(
            theta,
            self.agent.species,
            [(f.source, f.target) for f in self.agent.tissue.reactions],
            "tissue_",
            xp,
        )
        where = np.zeros(size)
        where[plasma.compartments.index(plasma.central)] = 1.0
        readout = where / self.value(theta, "volume")[:, None]
        scores = [self.value(theta, name) for name in score_names(self.patterns)]
        return TransportInputs(
            d, self.value(theta, "ktrans_factor"), reactions, k, readout, self.value(theta, "unbound"),
            xp.stack(scores, axis=1) if scores else xp.zeros((theta.shape[0], 0)),
        )  # fmt: skip

    def _rates(
        self, theta: Any, names: tuple[str, ...], flows: list[tuple[str, str]], prefix: str, xp: Any
    ) -> Any:
        total = xp.zeros((theta.shape[0], len(names), len(names)))
        for source, target in flows:
            unit = rate_matrix(names, {(source, target): 1.0})
            total = total + self.value(theta, f"{prefix}{source}_to_{target}")[:, None, None] * unit
        return total

    def full(
        self,
        theta: np.ndarray,
        dt_max: float,
        species: Sequence[int] = (0,),
        cells: np.ndarray | None = None,
    ) -> TransportedMembers:
        """Full-order runs of members (N, p), with linear (upwind) convection; of the kept species and cells."""
        x = self.inputs(np.asarray(theta, dtype=float))
        return transport_members(
            self.tissue.faces, lambda i: self.member(x, i), len(theta), self.times, dt_max, "upwind",
            species=species, cells=cells,
        )  # fmt: skip

    def full_exposure(self, theta: np.ndarray) -> np.ndarray:
        """Full-order time integrals of the free drug over all time, (N, n)."""
        x = self.inputs(np.asarray(theta, dtype=float))
        return np.array([total_exposure(*self.member(x, i)) for i in range(len(theta))])

    def member(self, x: TransportInputs, i: int) -> tuple[Tissue, Drug, Course]:
        """One member's tissue, drug and plasma course for the full order."""
        t = self.tissue
        ktrans = x.factor[i] * t.ktrans * scaling(x.scores[i], self.patterns)
        tissue = Tissue(t.faces, ktrans, t.phi, t.vp, t.velocity)
        drug = Drug(x.diffusivity[i], x.reactions[i], self.agent.species, float(x.unbound[i]))
        p = self.agent.plasma
        m = len(p.compartments)
        fraction = {name: number.to("1") for name, number in p.bioavailability.items()}
        volume = 1.0 / x.readout[i].sum()
        model = PlasmaModel(
            p.compartments, x.plasma[i, :m, :m], volume, float(x.unbound[i]), fraction, p.central
        )
        return tissue, drug, course(model, self.doses)
