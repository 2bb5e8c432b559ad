"""Where the drug went: what every species gained and lost by every way, over a transport run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .drug import Binding, Drug, Uptake
from .tissue import Rates, Tissue

#: Litres in a cubic millimetre.
LITRE_PER_MM3 = 1e-6
#: Ways in and out that are counted, the columns of :attr:`Ledger.flows`.
WAYS = ("filtered", "given", "returned", "drained", "left", "eliminated", "reacted_in", "reacted_out")


@dataclass(frozen=True)
class Ledger:
    """Amounts since the start, in the agent's unit of amount.

    ``filtered + given + reacted_in = returned + drained + left + eliminated + reacted_out + present``
    for every species, up to :attr:`residual`.

    Parameters
    ----------
    names : tuple of str
        Species.
    flows : ndarray, shape (T, s, 8)
        By the ways in ``WAYS``: from plasma, infused or injected into the tissue, back to plasma, by lymph,
        through the mask's edge, by elimination, from and to the other species.
    present : ndarray, shape (T, s)
        In the tissue.
    """

    names: tuple[str, ...]
    flows: np.ndarray
    present: np.ndarray

    def of(self, way: str) -> np.ndarray:
        """One way's amounts, shape (T, s)."""
        return np.asarray(self.flows[..., WAYS.index(way)])

    @property
    def gained(self) -> np.ndarray:
        """All that came in, shape (T, s)."""
        return np.asarray(self.of("filtered") + self.of("given") + self.of("reacted_in"))

    @property
    def residual(self) -> np.ndarray:
        """Error of each species' balance relative to all it gained, shape (T, s)."""
        out = sum(self.of(w) for w in ("returned", "drained", "left", "eliminated", "reacted_out"))
        lost = self.gained - out - self.present
        return np.asarray(lost / np.maximum(self.gained, np.finfo(float).tiny))


@dataclass(frozen=True)
class Balance:
    """Where the drug went, all species together, in the unit of amount, at each output time; shapes (T,).

    ``supplied = returned + eliminated + present`` up to ``residual``, which is relative to what was
    supplied; ``returned`` is to plasma, lymph and through the mask's edge.
    """

    supplied: np.ndarray
    returned: np.ndarray
    eliminated: np.ndarray
    present: np.ndarray

    @classmethod
    def of(cls, ledger: Ledger) -> Balance:
        """The species of a ledger added up."""
        total = {way: ledger.of(way).sum(axis=1) for way in WAYS}
        return cls(
            total["filtered"] + total["given"],
            total["returned"] + total["drained"] + total["left"],
            total["eliminated"],
            ledger.present.sum(axis=1),
        )

    @property
    def residual(self) -> np.ndarray:
        """Relative error of the mass balance."""
        lost = self.supplied - self.returned - self.eliminated - self.present
        return np.asarray(lost / np.maximum(self.supplied, np.finfo(float).tiny))


def flows_of(
    tissue: Tissue,
    drug: Drug,
    rates: Rates,
    integrals: np.ndarray,
    area: np.ndarray,
    moved: np.ndarray,
    hours: float,
) -> np.ndarray:
    """What a stretch of time with constant rates moved, shape (s, 8).

    Parameters
    ----------
    integrals : ndarray, shape (n, s)
        Of each species' amount per volume over the stretch.
    area : ndarray, shape (m,)
        Of each moving species' plasma concentration.
    moved : ndarray, shape (n, q, 2)
        By the saturable reactions, forth and back.
    hours : float
        Length of the stretch, for a constant supply.
    """
    litres = tissue.faces.grid.voxel_volume * LITRE_PER_MM3
    s, m = drug.size, drug.moving
    out = np.zeros((s, len(WAYS)))
    at = {way: i for i, way in enumerate(WAYS)}
    out[:m, at["filtered"]] = rates.gain.sum(axis=1) * area
    if tissue.supply is not None:
        given = np.atleast_2d(tissue.supply).sum(axis=1) * hours
        out[: len(given), at["given"]] = given
    for i in range(m):
        inside = integrals[:, i] / tissue.phi
        out[i, at["returned"]] = inside @ rates.back[i]
        out[i, at["drained"]] = inside @ rates.lymph
        out[i, at["left"]] = inside @ rates.edge
    r = drug.reactions if drug.reactions.ndim == 3 else drug.reactions[None]
    for kind, matrix in enumerate(r):
        mine = integrals if len(r) == 1 else integrals[tissue.faces.label == kind]
        whole = mine.sum(axis=0)
        between = np.where(np.eye(s, dtype=bool), 0.0, matrix)
        out[:, at["reacted_in"]] += between @ whole
        out[:, at["reacted_out"]] += between.sum(axis=0) * whole
        out[:, at["eliminated"]] += -matrix.sum(axis=0) * whole
    links: tuple[Binding | Uptake, ...] = (*drug.binding, *drug.uptake)
    for q, link in enumerate(links):
        forth, back = moved[:, q].sum(axis=0)
        for species, came, went in ((link.source, back, forth), (link.target, forth, back)):
            out[species, at["reacted_in"]] += came
            out[species, at["reacted_out"]] += went
    return out * litres
