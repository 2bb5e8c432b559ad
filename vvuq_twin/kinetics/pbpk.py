"""A physiologically based model of a radioligand that binds to receptors and is taken into cells.

After Kletting et al. 2016 (Med. Phys. 43:2844) in structure. Every organ has plasma, interstitium, receptors
that hold ligand, and ligand inside cells; blood plasma joins them. Plasma flows close: what enters an organ
leaves it, into blood or (spleen) into the next organ. Each place holds **hot** and **cold** ligand in moles,
which compete for the same receptors. Decay turns hot into cold ligand where it is: total ligand and receptors
do not know of it, so decay frees no receptor, and

    activity = hot moles x Avogadro x decay constant.

Ligand that is internalised leaves its receptor free on the surface (recycling is taken as immediate), and
what a cell gives back (``release``) is intact ligand in the interstitium. The kidney filters plasma.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.constants import Avogadro, elementary_charge

from ..domain.errors import BadInput, near
from .network import Network, NetworkRun, Reaction, simulate_network
from .plasma import Dose

BLOOD, EXCRETED = "blood", "excreted"
HOT, COLD = "hot", "cold"
PARTS = ("plasma", "interstitium", "bound", "internalised")

Value = float | np.ndarray


@dataclass(frozen=True)
class Organ:
    """One organ (or a tumour); numbers, or arrays (N,) of members.

    Parameters
    ----------
    name : str
    mass : Value
        kg, for absorbed dose.
    flow : Value
        Plasma flow from the arteries, L/h.
    plasma, interstitium : Value
        Volumes, L.
    permeability : Value
        Permeability-surface product between them, L/h.
    receptors : Value
        In all, nmol.
    release : Value
        Rate at which cells give internalised ligand back, 1/h.
    filtration : Value
        Of plasma into urine, L/h.
    drains : str
        Where its plasma goes: "blood" or another organ.
    """

    name: str
    mass: Value
    flow: Value
    plasma: Value
    interstitium: Value
    permeability: Value
    receptors: Value = 0.0
    release: Value = 0.0
    filtration: Value = 0.0
    drains: str = BLOOD


@dataclass(frozen=True)
class Ligand:
    """What the organs share.

    Parameters
    ----------
    association : Value
        k_on, L/(nmol h).
    dissociation : Value
        K_D, nmol/L; ``k_off = k_on K_D``.
    internalisation : Value
        Of bound ligand, 1/h.
    unbound : Value
        Fraction in plasma that is not bound to protein.
    decay : float
        1/h.
    energy : float
        Deposited where it decays, keV a decay.
    """

    association: Value
    dissociation: Value
    internalisation: Value
    unbound: Value
    decay: float
    energy: float

    @property
    def specific_activity(self) -> float:
        """Of pure hot ligand, MBq/nmol: Avogadro's number times the decay constant."""
        return Avogadro * 1e-9 * self.decay / 3600.0 * 1e-6

    @property
    def dose_factor(self) -> float:
        """Absorbed dose of a decay that stays in its organ, Gy kg/(GBq h)."""
        return self.energy * 1e3 * elementary_charge * 3600.0 * 1e9


@dataclass(frozen=True)
class Body:
    """Blood, organs and a ligand.

    Parameters
    ----------
    blood : Value
        Plasma volume of the great vessels, L.
    organs : tuple of Organ
    ligand : Ligand

    Raises
    ------
    BadInput
        If two organs share a name, one drains into none, drains go in a circle, or a number is out of range.
    """

    blood: Value
    organs: tuple[Organ, ...]
    ligand: Ligand

    def __post_init__(self) -> None:
        names = [o.name for o in self.organs]
        for name in names:
            if names.count(name) > 1 or name in (BLOOD, EXCRETED):
                raise BadInput(f"the organ '{name}' is there twice", "body")
        positive = [(BLOOD, "volume", self.blood)]
        for o in self.organs:
            if o.drains != BLOOD and o.drains not in names:
                raise BadInput(
                    f"the organ '{o.name}' drains into '{o.drains}', which is not there", "body",
                    near(o.drains, [BLOOD, *names]),
                )  # fmt: skip
            positive += [(o.name, k, getattr(o, k)) for k in ("mass", "flow", "plasma", "interstitium")]
            for key in ("permeability", "receptors", "release", "filtration"):
                _range(o.name, key, getattr(o, key), 0.0)
            step, passed = o.drains, [o.name]
            while step != BLOOD:
                if step in passed:
                    raise BadInput(f"the plasma of '{o.name}' never comes back to blood", "body")
                passed.append(step)
                step = next(x.drains for x in self.organs if x.name == step)
        for name, key, value in positive:
            _range(name, key, value, np.finfo(float).tiny)
        for key, value in vars(self.ligand).items():
            _range("ligand", key, value, 0.0)

    def through(self, organ: Organ) -> Value:
        """Plasma that flows through an organ: its own and what drains into it, L/h."""
        total = organ.flow
        for other in self.organs:
            if other.drains == organ.name:
                total = total + self.through(other)
        return total

    @property
    def cardiac_output(self) -> Value:
        """Plasma flow out of blood, which is what comes back, L/h."""
        total: Value = 0.0
        for o in self.organs:
            total = total + o.flow
        return total

    def network(self) -> Network:
        """The reactions of hot and cold ligand."""
        ligand, reactions = self.ligand, []
        k_off = ligand.association * ligand.dissociation
        names = [f"{o.name} receptors" for o in self.organs if np.any(np.asarray(o.receptors) > 0)]
        free = set(names)
        for kind in (HOT, COLD):
            blood, gone = f"{BLOOD} {kind}", f"{EXCRETED} {kind}"
            names += [blood, gone]
            for o in self.organs:
                plasma, space, bound, inside = (f"{o.name} {part} {kind}" for part in PARTS)
                names += [plasma, space]
                through = self.through(o)
                after = blood if o.drains == BLOOD else f"{o.drains} plasma {kind}"
                reactions += [
                    Reaction((blood,), (plasma,), o.flow / self.blood),
                    Reaction((plasma,), (after,), (through - o.filtration) / o.plasma),
                    Reaction((plasma,), (space,), ligand.unbound * o.permeability / o.plasma),
                    Reaction((space,), (plasma,), o.permeability / o.interstitium),
                ]
                if np.any(np.asarray(o.filtration) > 0):
                    reactions.append(Reaction((plasma,), (gone,), ligand.unbound * o.filtration / o.plasma))
                    # what is bound to protein is not filtered: it leaves with the plasma
                    rest = (1.0 - ligand.unbound) * o.filtration / o.plasma
                    reactions.append(Reaction((plasma,), (after,), rest))
                if f"{o.name} receptors" in free:
                    names += [bound, inside]
                    site = f"{o.name} receptors"
                    reactions += [
                        Reaction((space, site), (bound,), ligand.association / o.interstitium),
                        Reaction((bound,), (space, site), k_off),
                        Reaction((bound,), (inside, site), ligand.internalisation),
                        Reaction((inside,), (space,), o.release),
                    ]
        hot = [n for n in names if n.endswith(f" {HOT}")]
        reactions += [Reaction((n,), (n.removesuffix(HOT) + COLD,), ligand.decay) for n in hot]
        return Network(tuple(names), tuple(reactions), "body")

    def run(
        self, injections: Iterable[Injection], times: np.ndarray, rtol: float = 1e-8, atol: float = 1e-10
    ) -> BodyRun:
        """Distribution of hot and cold ligand.

        Parameters
        ----------
        injections : iterable of Injection
        times : ndarray, shape (T,)
            Hours.

        Raises
        ------
        BadInput
            If an injection has more activity than its ligand can carry, or another fault.
        """
        doses = [d for i in injections for d in i.doses(self.ligand)]
        receptors = {
            f"{o.name} receptors": o.receptors for o in self.organs if np.any(np.asarray(o.receptors) > 0)
        }
        return BodyRun(self, simulate_network(self.network(), doses, times, receptors, rtol, atol))


@dataclass(frozen=True)
class Injection:
    """One administration into blood.

    Parameters
    ----------
    time : float
        Hours.
    activity : float
        MBq.
    ligand : float
        Hot and cold together, nmol.
    duration : float
        Hours; 0 is a bolus.
    """

    time: float
    activity: float
    ligand: float
    duration: float = 0.0

    def doses(self, ligand: Ligand) -> list[Dose]:
        """Hot and cold moles."""
        hot = self.activity / ligand.specific_activity if self.activity else 0.0
        if hot > self.ligand * (1.0 + 1e-12):
            raise BadInput(
                f"{self.activity:g} MBq need {hot:.3g} nmol of ligand, more than the {self.ligand:g} nmol injected",
                "injection", "check the units",
            )  # fmt: skip
        pair = ((HOT, hot), (COLD, max(self.ligand - hot, 0.0)))
        return [Dose(self.time, amount, f"{BLOOD} {kind}", self.duration) for kind, amount in pair]


@dataclass(frozen=True)
class BodyRun:
    """Where the ligand is over time.

    Parameters
    ----------
    body : Body
    run : NetworkRun
    """

    body: Body
    run: NetworkRun

    @property
    def times(self) -> np.ndarray:
        """Hours."""
        return self.run.times

    def _states(self, place: str, kinds: Sequence[str]) -> list[str]:
        if place in (BLOOD, EXCRETED):
            return [f"{place} {k}" for k in kinds]
        if place not in [o.name for o in self.body.organs]:
            raise BadInput(
                f"the organ '{place}' is not known", "body", near(place, [o.name for o in self.body.organs])
            )
        return [n for n in self.run.names if n.startswith(f"{place} ") and n.split()[-1] in kinds]

    def ligand(self, place: str) -> np.ndarray:
        """Hot and cold ligand of an organ, "blood" or "excreted", nmol, shape (N, T)."""
        return self.run.of(*self._states(place, (HOT, COLD)))

    def activity(self, place: str) -> np.ndarray:
        """MBq, shape (N, T)."""
        return self.body.ligand.specific_activity * self.run.of(*self._states(place, (HOT,)))

    def decays(self, place: str) -> np.ndarray:
        """Time-integrated activity until each time, MBq h, shape (N, T)."""
        return self.body.ligand.specific_activity * self.run.integral_of(*self._states(place, (HOT,)))

    def occupancy(self, place: str) -> np.ndarray:
        """Share of an organ's receptors that hold ligand, shape (N, T)."""
        organ = next(o for o in self.body.organs if o.name == place)
        free = self.run.of(f"{place} receptors")
        return np.asarray(1.0 - free / np.reshape(np.asarray(organ.receptors, dtype=float), (-1, 1)))

    def dose_rate(self, place: str) -> np.ndarray:
        """Absorbed dose rate of decays in the organ itself, Gy/h, shape (N, T)."""
        organ = next(o for o in self.body.organs if o.name == place)
        mass = np.reshape(np.asarray(organ.mass, dtype=float), (-1, 1))
        return np.asarray(self.body.ligand.dose_factor * 1e-3 * self.activity(place) / mass)


def _range(owner: str, key: str, value: Value, low: float) -> None:
    v = np.asarray(value, dtype=float)
    if not np.isfinite(v).all() or (v < low).any():
        raise BadInput(
            f"the {key} of {owner} ({v.min():g}) is negative, zero or not finite", "body", "correct it"
        )
