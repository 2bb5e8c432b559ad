"""Tissue maps, exchange with plasma, and the linear pieces of transport that a reduced model projects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from ..domain.errors import BadInput
from . import kernels
from .drug import Drug, reaction_sink
from .faces import Faces
from .interstitium import FluidTissue, interstitium_map, surface_map
from .pressure import Flow


@dataclass(frozen=True)
class Tissue:
    """Maps of the active cells.

    Parameters
    ----------
    faces : Faces
    ktrans : ndarray, shape (n,)
        Exchange with plasma per volume of tissue, 1/h, not negative.
    phi : ndarray, shape (n,)
        Volume fraction of the interstitium the drug moves in (ve), positive.
    vp : ndarray, shape (n,), optional
        Plasma volume fraction: part of a measured concentration, not of the transport.
    velocity : tuple of three ndarray of shape faces.box, optional
        Darcy flux through the face below each cell along each axis, mm/h; closed faces are ignored.
        For a flow that is given; with ``flow`` it is that of the flow.
    flow : Flow, optional
        Interstitial pressure and flow: filtered and drained fluid carry drug across the vessels' walls.
    surface : ndarray, shape (n,), optional
        Vessel surface per volume of tissue S/V, 1/mm: with it an agent's permeability sets its exchange.
        Without it a second species' exchange is Ktrans times the ratio of the permeabilities.
    cells : ndarray, shape (n,), optional
        1e5 cells per L of tissue; replaces the number in the agent's file.
    supply : ndarray, shape (n,) or (m, n), optional
        Drug that is infused into the tissue itself, amount per L of tissue and hour, of the free drug or
        of each moving species: a slow injection, or an infusion's fluid source times its concentration.

    Raises
    ------
    BadInput
        If a map has the wrong shape, is not finite, or is out of range.
    """

    faces: Faces
    ktrans: np.ndarray
    phi: np.ndarray
    vp: np.ndarray | None = None
    velocity: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    flow: Flow | None = None
    surface: np.ndarray | None = None
    cells: np.ndarray | None = None
    supply: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        faces: Faces,
        tissues: Mapping[str, FluidTissue],
        flow: Flow | None = None,
        supply: np.ndarray | None = None,
    ) -> Tissue:
        """Uniform values per tissue from a table: the interstitium's fraction and the vessels' surface."""
        phi, surface = interstitium_map(faces, tissues), surface_map(faces, tissues)
        return cls(faces, np.zeros(faces.n), phi, flow=flow, surface=surface, supply=supply)

    def __post_init__(self) -> None:
        least = np.finfo(float).tiny
        ranges = (
            ("ktrans", 0.0),
            ("phi", least),
            ("vp", 0.0),
            ("surface", 0.0),
            ("cells", least),
            ("supply", 0.0),
        )
        for name, low in ranges:
            values = getattr(self, name)
            if values is None:
                continue
            if np.shape(values)[-1:] != (self.faces.n,) or np.ndim(values) > (2 if name == "supply" else 1):
                raise BadInput(
                    f"the map {name} has shape {np.shape(values)}, not ({self.faces.n},)", "tissue"
                )
            if not np.isfinite(values).all():
                raise BadInput(f"the map {name} has non-finite values", "tissue", "fill them before")
            if values.min() < low:
                raise BadInput(
                    f"the map {name} has a value of {values.min():g}", "tissue", "keep it positive"
                )
        if self.flow is not None:
            if self.velocity is not None:
                raise BadInput("both a velocity and a flow are given", "tissue", "keep one of the two")
            object.__setattr__(self, "velocity", self.flow.velocity)
        if self.velocity is not None:
            for part in self.velocity:
                if np.shape(part) != self.faces.box or not np.isfinite(part).all():
                    raise BadInput("a component of the velocity is off the box or not finite", "tissue")

    def face_conductance(self, diffusivity: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``phi_f D_f / h^2`` on the face below each cell of the box, 1/h: harmonic means of phi and of D.

        ``diffusivity`` is per tissue, (L,), or per tissue and axis, (L, 3).
        """
        d = np.asarray(diffusivity, dtype=float)
        box, phi = self.faces.box, self.faces.boxed(self.phi)
        found = []
        for axis, stride in enumerate((box[1] * box[2], box[2], 1)):
            c = self.faces.conductance(d[:, axis] if d.ndim == 2 else d)
            out = np.empty(box)
            scale = 1.0 / self.faces.grid.spacing[axis] ** 2
            kernels.face_products(self.faces.face_group[axis], c, scale, phi, stride, out)
            found.append(out)
        return found[0], found[1], found[2]

    def face_speed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Velocity, mm/h, zero at closed faces (a dummy cell where there is no flow); not a copy where it is so."""
        if self.velocity is None:
            none = np.zeros((1, 1, 1))
            return none, none, none
        found = []
        for axis, speed in enumerate(self.velocity):
            closed = self.faces.face_group[axis] == 0
            found.append(np.where(closed, 0.0, speed) if speed[closed].any() else speed)
        return found[0], found[1], found[2]

    @property
    def pace(self) -> tuple[float, float, float]:
        """One over the spacing, 1/mm."""
        x, y, z = self.faces.grid.spacing
        return 1.0 / x, 1.0 / y, 1.0 / z

    def exchange(self, drug: Drug) -> Rates:
        """Rates at which each moving species enters from plasma and leaves, see :class:`Rates`.

        Raises
        ------
        BadInput
            If neither a permeability with S/V nor Ktrans says how fast a species crosses.
        """
        m, n = drug.moving, self.faces.n
        if self.flow is None:
            wall, none = np.stack([self._wall(drug, s) for s in range(m)]), np.zeros(n)
            return Rates(wall, wall, none, none)
        gain, back = np.empty((m, n)), np.empty((m, n))
        for s, one in enumerate(drug.exchange):
            wall = self._wall(drug, s)
            sigma = 0.0 if one.reflection is None else np.asarray(one.reflection)[self.faces.label]
            drag = self.flow.filtered * (1.0 - sigma)
            gain[s], back[s] = across_wall(wall, drag)
        return Rates(gain, back, np.maximum(self.flow.drained, 0.0), self.flow.outflow)

    def _wall(self, drug: Drug, species: int) -> np.ndarray:
        """P S/V of a species, 1/h, shape (n,)."""
        p, free = drug.exchange[species].permeability, drug.exchange[0].permeability
        if self.surface is not None and p is not None:
            return np.asarray(p)[self.faces.label] * self.surface
        if self.surface is not None and not self.ktrans.any():
            raise BadInput(
                f"the species '{drug.names[species]}' has no permeability and the tissue no Ktrans", "drug",
                "add a permeability to the agent",
            )  # fmt: skip
        if species == 0:
            return self.ktrans
        if p is None or free is None or (np.asarray(free) <= 0).any():
            raise BadInput(
                f"the exchange of '{drug.names[species]}' is not known: it and the free drug need a permeability",
                "drug",
            )
        return self.ktrans * (np.asarray(p) / np.asarray(free))[self.faces.label]


def across_wall(wall: Any, drag: Any, xp: Any = np) -> tuple[Any, Any]:
    """Exchange across a vessel's wall with solvent drag (Patlak, Goldstein & Hoffman 1963).

    ``J = drag Cp + wall (Cp - c) Pe/(exp(Pe) - 1)`` with ``Pe = drag/wall`` is ``gain Cp - back c`` with
    ``gain = wall B(-Pe)``, ``back = wall B(Pe)`` and B(x) = x/(exp(x) - 1): neither is ever negative, and
    both limits are right for either sign, also where the wall is impermeable.

    Parameters
    ----------
    wall : array
        P S/V, 1/h.
    drag : array
        phi_v (1 - sigma), 1/h.
    xp : module
        numpy or jax.numpy: both orders of the model use this one formula.
    """
    open_wall = wall > 1e-300
    pe = xp.where(open_wall, drag / xp.where(open_wall, wall, 1.0), 0.0)

    def bernoulli(x: Any) -> Any:
        safe = xp.where(xp.abs(x) < 1e-5, 1.0, xp.minimum(x, 700.0))
        return xp.where(xp.abs(x) < 1e-5, 1.0 - 0.5 * x + x * x / 12.0, safe / xp.expm1(safe))

    gain = xp.where(open_wall, wall * bernoulli(-pe), xp.maximum(drag, 0.0))
    back = xp.where(open_wall, wall * bernoulli(pe), xp.maximum(-drag, 0.0))
    return gain, back


@dataclass(frozen=True)
class Rates:
    """How the moving species cross the vessels' walls and leave, all on the interstitial concentration.

    Parameters
    ----------
    gain : ndarray, shape (m, n)
        1/h, times the species' plasma concentration.
    back : ndarray, shape (m, n)
        To plasma, 1/h, times the interstitial concentration.
    lymph : ndarray, shape (n,)
        Drained by lymphatics, 1/h.
    edge : ndarray, shape (n,)
        Carried out through the mask's edge, 1/h. What flows in there carries none.
    """

    gain: np.ndarray
    back: np.ndarray
    lymph: np.ndarray
    edge: np.ndarray

    def out(self, phi: np.ndarray) -> np.ndarray:
        """All of the losses on the amount per volume of tissue, 1/h, shape (m, n)."""
        return np.asarray((self.back + self.lymph + self.edge) / phi)


@dataclass(frozen=True)
class TransportTerms:
    """``dC/dt = (sum_g c_g(D) diffusion_g + convection + theta exchange - k_deg) C + theta source f_u Cp``.

    Parameters
    ----------
    diffusion : list of csr_array, shape (n, n)
        One per face group, 1/mm2, acting on the free amount C; ``c_g`` from ``Faces.conductance``.
    convection : csr_array or None
        First-order upwind convection by the given velocity, 1/h.
    exchange : csr_array
        ``diag(-Ktrans / phi)``, 1/h, times a factor theta on Ktrans.
    source : ndarray, shape (n,)
        Ktrans (with solvent drag: see :func:`across_wall`), 1/h, times theta, the unbound fraction and the plasma concentration.
    phi : ndarray, shape (n,)
    """

    diffusion: list[sparse.csr_array]
    convection: sparse.csr_array | None
    exchange: sparse.csr_array
    source: np.ndarray
    phi: np.ndarray

    def matrix(
        self, conductance: np.ndarray, degradation: float = 0.0, factor: float = 1.0
    ) -> sparse.csr_array:
        """The operator on C for given parameters, shape (n, n), 1/h."""
        total = factor * self.exchange - degradation * sparse.eye_array(len(self.phi), format="csr")
        for c, term in zip(conductance, self.diffusion):
            total = total + c * term
        return sparse.csr_array(total if self.convection is None else total + self.convection)

    def symmetric(self, conductance: np.ndarray) -> sparse.csr_array:
        """Diffusion as an operator on the concentration c = C / phi: symmetric, shape (n, n), 1/h."""
        total = sparse.csr_array((len(self.phi), len(self.phi)))
        for c, term in zip(conductance, self.diffusion):
            total = total + c * term
        return sparse.csr_array(total @ sparse.diags_array(self.phi))


def transport_terms(tissue: Tissue, drug: Drug | None = None) -> TransportTerms:
    """Assemble the linear pieces from the same faces as the kernels, of the free drug.

    With a ``drug`` its own exchange is taken, else that of the Ktrans map. With a flow, what lymph and the
    mask's edge take is part of the convection.
    """
    faces = tissue.faces
    rates = tissue.exchange(Drug(np.zeros(len(faces.names))) if drug is None else drug)
    inverse = sparse.diags_array(1.0 / tissue.phi)
    diffusion = [sparse.csr_array(term @ inverse) for term in faces.sparse_terms(faces.face_mean(tissue.phi))]
    flow = None
    if tissue.velocity is not None:
        rows, cols, values = [], [], []
        for axis, (low, high, _) in enumerate(faces.neighbours):
            speed = tissue.face_speed()[axis].ravel()[faces.place[high]] * tissue.pace[axis]
            up, down = np.maximum(speed, 0.0), np.minimum(speed, 0.0)
            rows += [low, high, high, low]
            cols += [low, low, high, high]
            values += [-up, up, down, -down]
        index = (np.concatenate(rows), np.concatenate(cols))
        matrix = sparse.coo_array((np.concatenate(values), index), shape=(faces.n, faces.n)).tocsr()
        flow = sparse.csr_array((matrix - sparse.diags_array(rates.lymph + rates.edge)) @ inverse)
    exchange = sparse.csr_array(sparse.diags_array(-rates.back[0] / tissue.phi))
    return TransportTerms(diffusion, flow, exchange, rates.gain[0].copy(), tissue.phi.copy())


__all__ = ["Drug", "Rates", "Tissue", "TransportTerms", "across_wall", "reaction_sink", "transport_terms"]
