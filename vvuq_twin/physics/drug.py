"""How an agent moves, binds and reacts in tissue: plain arrays, one value per tissue.

Species are numbered: first those that move with the interstitial fluid (0 is the free drug), then those
that stay where they are (bound to a receptor, internalised). Amounts are per volume of tissue.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..domain.errors import BadInput
from ..kinetics.plasma import Course


@dataclass(frozen=True)
class Exchange:
    """How a moving species crosses the vessel wall, and which plasma concentration it sees.

    Parameters
    ----------
    permeability : ndarray, shape (L,), optional
        mm/h per tissue; None takes the exchange rate of the tissue's Ktrans map.
    reflection : ndarray, shape (L,), optional
        Osmotic reflection coefficient, 0 to 1; None is 0.
    compartment : str, optional
        Of the plasma model; None is the one whose concentration is read.
    volume : float, optional
        Distribution volume of that compartment, L; None is that of the central one.
    share : float or None
        Fraction of that concentration; None is the plasma's unbound fraction.
    bound : bool
        Takes what is bound in plasma instead: one minus the unbound fraction.
    enters : bool
        False: the species is not in plasma at all (it may still leave the tissue).
    """

    permeability: np.ndarray | None = None
    reflection: np.ndarray | None = None
    compartment: str | None = None
    volume: float | None = None
    share: float | None = None
    bound: bool = False
    enters: bool = True

    def row(self, plan: Course, unbound: float) -> np.ndarray:
        """The plasma concentration this species sees from the states of the plasma model, shape (p,)."""
        if not self.enters:
            return np.zeros(plan.size)
        readout = plan.readout
        if self.compartment is not None:
            if self.compartment not in plan.names:
                raise BadInput(f"the plasma model has no compartment '{self.compartment}'", "drug")
            readout = np.zeros(plan.size)
            size = float(plan.readout.max()) if self.volume is None else 1.0 / self.volume
            readout[plan.names.index(self.compartment)] = size
        share = unbound if self.share is None else self.share
        return np.asarray(readout * ((1.0 - unbound) if self.bound else share))


@dataclass(frozen=True)
class Binding:
    """Saturable binding: ``k_on (B_max - C_target) c_source`` per volume of tissue.

    What leaves the receptor (dissociation, internalisation) is a first-order reaction of the target
    species; a receptor is free again as soon as its ligand has left it.

    Parameters
    ----------
    source, target : int
        Species; the source moves.
    on : ndarray, shape (L,)
        L/(amount h).
    capacity : ndarray, shape (L,)
        B_max, amount per L of tissue.
    """

    source: int
    target: int
    on: np.ndarray
    capacity: np.ndarray


@dataclass(frozen=True)
class Uptake:
    """Saturable uptake and efflux of cells (Zhan & Xu 2013), per volume of tissue.

    ``cells (v_max c/(c + k_in) - v_max q/(q + k_out))`` with ``c`` the interstitial concentration of the
    source and ``q`` the target's amount per 1e5 cells.

    Parameters
    ----------
    source, target : int
        Species; the source moves.
    rate : ndarray, shape (L,)
        v_max, amount per 1e5 cells and hour.
    half_in : ndarray, shape (L,)
        Amount per L of interstitium.
    half_out : ndarray, shape (L,)
        Amount per 1e5 cells.
    cells : ndarray, shape (L,)
        1e5 cells per L of tissue, where the tissue has no map of its own.
    """

    source: int
    target: int
    rate: np.ndarray
    half_in: np.ndarray
    half_out: np.ndarray
    cells: np.ndarray


@dataclass(frozen=True)
class Drug:
    """How an agent moves and reacts in tissue.

    Parameters
    ----------
    diffusivity : ndarray, shape (L,), (L, 3), (m, L) or (m, L, 3)
        In the interstitium, per tissue of ``Faces.names``, mm2/h; a last axis of 3 is one value along
        each axis of the grid. With m moving species there is one row for each.
    reactions : ndarray, shape (s, s) or (L, s, s)
        First-order rates between species per volume of tissue, 1/h, the same everywhere or per tissue.
        Off-diagonal entries are not negative, a negative column sum is a loss.
    names : tuple of str
        Of the species, the moving ones first.
    plasma_unbound : float, optional
        Replaces the unbound fraction of the plasma model.
    exchange : tuple of Exchange
        Of the moving species, m of them.
    binding : tuple of Binding
    uptake : tuple of Uptake

    Raises
    ------
    BadInput
        If a rate is not finite, a reaction creates drug, or a coefficient is negative; it names which.
    """

    diffusivity: np.ndarray
    reactions: np.ndarray = field(default_factory=lambda: np.zeros((1, 1)))
    names: tuple[str, ...] = ("free",)
    plasma_unbound: float | None = None
    exchange: tuple[Exchange, ...] = (Exchange(),)
    binding: tuple[Binding, ...] = ()
    uptake: tuple[Uptake, ...] = ()

    def __post_init__(self) -> None:
        d = np.asarray(self.diffusivity, dtype=float)
        r = np.asarray(self.reactions, dtype=float)
        if r.shape[-2:] != (len(self.names), len(self.names)):
            raise BadInput("the reaction matrix does not have one row per species", "drug")
        if not (np.isfinite(d).all() and np.isfinite(r).all()):
            raise BadInput("a rate of the drug is not finite", "drug")
        if (d < 0).any():
            raise BadInput("a diffusivity is negative", "drug")
        diagonal = np.eye(len(self.names), dtype=bool)
        top = 1e-12 * np.abs(r).max(initial=0.0)
        if (np.where(diagonal, 0.0, r) < 0).any() or (r.sum(axis=-2) > top).any():
            raise BadInput("a reaction creates drug or has a negative rate", "drug", "check the signs")
        m = len(self.exchange)
        if m > len(self.names) or d.ndim == 0 or (m > 1 and (d.ndim < 2 or len(d) != m)):
            raise BadInput("there is not one diffusivity per moving species", "drug")
        object.__setattr__(self, "diffusivity", d)
        object.__setattr__(self, "reactions", r)
        for one in self.exchange:
            self._in_range("permeability", one.permeability, np.inf)
            self._in_range("reflection", one.reflection, 1.0)
        links: tuple[Binding | Uptake, ...] = (*self.binding, *self.uptake)
        for link in links:
            if not (0 <= link.source < m and 0 <= link.target < self.size and link.source != link.target):
                raise BadInput("a saturable reaction does not go from a moving species to another", "drug")
            for name, value in vars(link).items():
                if name not in ("source", "target"):
                    self._in_range(name, value, np.inf)
        for cell in self.uptake:
            if (np.asarray(cell.half_in) <= 0).any() or (np.asarray(cell.half_out) <= 0).any():
                raise BadInput("a half-saturation of the uptake is zero", "drug", "give it a positive value")

    @staticmethod
    def _in_range(name: str, value: np.ndarray | None, most: float) -> None:
        if value is None:
            return
        v = np.asarray(value, dtype=float)
        if not np.isfinite(v).all() or (v < 0).any() or (v > most).any():
            raise BadInput(f"{name} is negative, too large or not finite", "drug", "correct the agent")

    @property
    def size(self) -> int:
        """Number of species."""
        return len(self.names)

    @property
    def moving(self) -> int:
        """Number of species that move; they are the first."""
        return len(self.exchange)

    @property
    def saturable(self) -> bool:
        """Whether the local kinetics are nonlinear."""
        return bool(self.binding or self.uptake)

    def diffusivity_of(self, species: int) -> np.ndarray:
        """Diffusivity of a moving species, shape (L,) or (L, 3)."""
        return self.diffusivity[species] if self.moving > 1 else self._alone()

    def _alone(self) -> np.ndarray:
        d = self.diffusivity
        return d[0] if d.ndim == 3 else d

    def unbound(self, plan: Course) -> float:
        """Fraction of the plasma concentration that is not bound to protein."""
        return plan.unbound if self.plasma_unbound is None else self.plasma_unbound

    def inputs(self, plan: Course) -> np.ndarray:
        """Plasma concentration of each moving species from the plasma states, shape (m, p)."""
        return np.array([e.row(plan, self.unbound(plan)) for e in self.exchange])


def reaction_sink(reactions: np.ndarray) -> float:
    """Net first-order loss of the free drug over all time, through all species, 1/h.

    Species that nothing leaves keep what they get; they are taken as lost. The others end empty, so the
    integrals of their equations give them in terms of the free drug's (a Schur complement).
    """
    r = np.asarray(reactions, dtype=float)
    alive = [s for s in range(1, len(r)) if r[s, s] != 0]
    if not alive:
        return float(-r[0, 0])
    block = r[np.ix_(alive, alive)]
    return float(-(r[0, 0] - r[0, alive] @ np.linalg.solve(block, r[alive, 0])))
