"""Tissue maps, a drug's rates, and the linear pieces of transport that a reduced model projects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ..domain.errors import BadInput
from . import kernels
from .drug import Drug, reaction_sink
from .faces import Faces


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

    def __post_init__(self) -> None:
        for name, low in (("ktrans", 0.0), ("phi", np.finfo(float).tiny), ("vp", 0.0)):
            values = getattr(self, name)
            if values is None:
                continue
            if np.shape(values) != (self.faces.n,):
                raise BadInput(
                    f"the map {name} has shape {np.shape(values)}, not ({self.faces.n},)", "tissue"
                )
            if not np.isfinite(values).all():
                raise BadInput(f"the map {name} has non-finite values", "tissue", "fill them before")
            if values.min() < low:
                raise BadInput(
                    f"the map {name} has a value of {values.min():g}", "tissue", "keep it positive"
                )
        if self.velocity is not None:
            for part in self.velocity:
                if np.shape(part) != self.faces.box or not np.isfinite(part).all():
                    raise BadInput("a component of the velocity is off the box or not finite", "tissue")

    def face_conductance(self, diffusivity: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``phi_f D_f / h^2`` on the face below each cell of the box, 1/h: harmonic means of phi and of D."""
        c = self.faces.conductance(np.asarray(diffusivity, dtype=float))
        found = []
        for axis, mean in enumerate(self.faces.face_mean(self.phi)):
            out = np.empty(self.faces.box)
            kernels.face_values(self.faces.face_group[axis], c, 1.0 / self.faces.grid.spacing[axis] ** 2, out)
            found.append(out * mean)
        return found[0], found[1], found[2]

    def face_speed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Velocity over spacing, 1/h, zero at closed faces (a dummy cell where there is no flow)."""
        if self.velocity is None:
            none = np.zeros((1, 1, 1))
            return none, none, none
        parts = [
            np.where(self.faces.face_group[axis] > 0, self.velocity[axis], 0.0)
            / self.faces.grid.spacing[axis]
            for axis in range(3)
        ]
        return parts[0], parts[1], parts[2]


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
        Ktrans, 1/h, times theta, the unbound fraction and the plasma concentration.
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


def transport_terms(tissue: Tissue) -> TransportTerms:
    """Assemble the linear pieces from the same faces as the kernels."""
    faces = tissue.faces
    inverse = sparse.diags_array(1.0 / tissue.phi)
    diffusion = [sparse.csr_array(term @ inverse) for term in faces.sparse_terms(faces.face_mean(tissue.phi))]
    flow = None
    if tissue.velocity is not None:
        rows, cols, values = [], [], []
        for axis, (low, high, _) in enumerate(faces.neighbours):
            speed = tissue.face_speed()[axis].ravel()[faces.place[high]]
            up, down = np.maximum(speed, 0.0), np.minimum(speed, 0.0)
            rows += [low, high, high, low]
            cols += [low, low, high, high]
            values += [-up, up, down, -down]
        index = (np.concatenate(rows), np.concatenate(cols))
        matrix = sparse.coo_array((np.concatenate(values), index), shape=(faces.n, faces.n)).tocsr()
        flow = sparse.csr_array(matrix @ inverse)
    exchange = sparse.csr_array(sparse.diags_array(-tissue.ktrans / tissue.phi))
    return TransportTerms(diffusion, flow, exchange, tissue.ktrans.copy(), tissue.phi.copy())


__all__ = ["Drug", "Tissue", "TransportTerms", "reaction_sink", "transport_terms"]
