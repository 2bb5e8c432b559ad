"""Drug transport in tissue, full order: linear plasma kinetics, exchange, diffusion, convection, loss.

    dC_0/dt = div(phi D grad c) - div(v c) + Ktrans (f_u Cp - c) + (R C)_0,    c = C_0 / phi
    dC_s/dt = (R C)_s,                                      s > 0: fixed species (bound, internalised)

C is an amount per volume of tissue, c the concentration in the interstitium (fraction phi, ve where a
DCE scan is the source), Cp the plasma concentration, f_u its unbound fraction, Ktrans (or P S/V) the
exchange rate, R a matrix of first-order reactions. v is a given Darcy flux; where it comes from (pressure)
is not solved here. Time is in hours, length in mm. Without D and v this is the extended Tofts model.

Each step is a symmetric splitting: half a step of local kinetics, transport, half a step of local
kinetics. The local kinetics are exact, together with the plasma that feeds them and with the time
integral of every species, so what is exchanged, degraded and left adds up to round-off.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.linalg import expm
from scipy.sparse.linalg import LinearOperator, bicgstab, cg

from ..domain.errors import BadInput, RunFailed
from ..kinetics.plasma import Course
from . import convection, smallexp
from .tissue import Drug, Tissue, reaction_sink, transport_terms

#: Litres in a cubic millimetre.
LITRE_PER_MM3 = 1e-6

SCHEMES = {"upwind": convection.UPWIND, "van_leer": convection.VAN_LEER, "central": convection.CENTRAL}


@dataclass(frozen=True)
class Balance:
    """Where the drug went, in the unit of amount, at each output time; shapes (T,).

    ``supplied = returned + eliminated + present`` up to ``residual``, which is relative to what was supplied.
    """

    supplied: np.ndarray
    returned: np.ndarray
    eliminated: np.ndarray
    present: np.ndarray

    @property
    def residual(self) -> np.ndarray:
        """Relative error of the mass balance."""
        lost = self.supplied - self.returned - self.eliminated - self.present
        return np.asarray(lost / np.maximum(self.supplied, np.finfo(float).tiny))


@dataclass(frozen=True)
class Transported:
    """What a transport run gives.

    Parameters
    ----------
    times : ndarray, shape (T,)
        Hours.
    amount : ndarray, shape (T, s, n)
        Species per volume of tissue; the first is the free drug.
    exposure : ndarray, shape (T, s, n)
        Their time integrals since the first dose.
    plasma : ndarray, shape (T, p)
        States of the plasma model, just after a dose given at that time.
    balance : Balance
    """

    times: np.ndarray
    amount: np.ndarray
    exposure: np.ndarray
    plasma: np.ndarray
    balance: Balance


def transport(
    tissue: Tissue,
    drug: Drug,
    plan: Course,
    times: np.ndarray,
    dt_max: float,
    scheme: str = "van_leer",
) -> Transported:
    """Run one member from before its first dose through ``times``.

    Parameters
    ----------
    tissue : Tissue
    drug : Drug
    plan : Course
        Plasma model and doses (one member: a matrix of shape (p, p)), hours.
    times : ndarray, shape (T,)
        Increasing output times, hours.
    dt_max : float
        Longest splitting step, hours.
    scheme : {"upwind", "van_leer", "central"}
        Face value of the convected drug. Upwind and central are linear, van Leer is limited.

    Raises
    ------
    BadInput
        If times go backwards, the step is not positive, or the scheme is not known.
    RunFailed
        If the state becomes non-finite.
    """
    at = np.asarray(times, dtype=float)
    if at.size == 0 or not np.isfinite(at).all() or (np.diff(at) < 0).any():
        raise BadInput("output times are missing, not finite or go backwards", "transport", "sort them")
    if not (np.isfinite(dt_max) and dt_max > 0):
        raise BadInput(f"the longest step ({dt_max:g} h) is not positive", "transport")
    if scheme not in SCHEMES:
        raise BadInput(
            f"the convection scheme '{scheme}' is not known", "transport", "use one of: " + ", ".join(SCHEMES)
        )
    stepper = Stepper(tissue, drug, plan, SCHEMES[scheme])
    stops = np.unique(np.concatenate([at, plan.times[plan.times <= at[-1]]]))
    n, s, p = tissue.faces.n, drug.size, plan.size
    amount, exposure = np.zeros((len(at), s, n)), np.zeros((len(at), s, n))
    plasma, area = np.zeros((len(at), p)), np.zeros((len(at), p))

    def leave(time: float) -> None:
        stepper.jump(time)
        for i in np.flatnonzero(at == time):
            amount[i], exposure[i] = stepper.species.T, stepper.integrals.T
            plasma[i], area[i] = stepper.plasma[:p], stepper.plasma[p:]

    leave(float(stops[0]))
    for low, high in pairwise(stops.tolist()):
        count = max(1, int(np.ceil((high - low) / dt_max - 1e-9)))
        for _ in range(count):
            stepper.step((high - low) / count)
        leave(high)
    if not (np.isfinite(amount).all() and np.isfinite(exposure).all()):
        raise RunFailed("The transport model became non-finite; shorten the step or check the maps.")
    return Transported(at, amount, exposure, plasma, _balance(tissue, drug, plan, amount, exposure, area))


def _balance(
    tissue: Tissue, drug: Drug, plan: Course, amount: np.ndarray, exposure: np.ndarray, area: np.ndarray
) -> Balance:
    litres = tissue.faces.grid.voxel_volume * LITRE_PER_MM3
    auc = drug.unbound(plan) * (area @ plan.readout)
    sink = -drug.reactions.sum(axis=0)
    return Balance(
        supplied=litres * tissue.ktrans.sum() * auc,
        returned=litres * (exposure[:, 0] @ (tissue.ktrans / tissue.phi)),
        eliminated=litres * np.einsum("s,tsn->t", sink, exposure),
        present=litres * amount.sum(axis=(1, 2)),
    )


class Stepper:
    """The state of one run and its cached propagators."""

    def __init__(self, tissue: Tissue, drug: Drug, plan: Course, scheme: int) -> None:
        if plan.matrix.ndim != 2:
            raise BadInput("the plasma model is of more than one member", "transport", "run them one by one")
        faces = tissue.faces
        self.tissue, self.drug, self.plan, self.scheme = tissue, drug, plan, scheme
        self.g = tissue.face_conductance(drug.diffusivity)
        self.v = tissue.face_speed()
        self.flow = tissue.velocity is not None
        self.phi = faces.boxed(tissue.phi)
        self.inverse_phi = np.divide(1.0, self.phi, out=np.zeros(faces.box), where=self.phi > 0)
        self.bound = convection.transport_bound(self.g, self.v, self.phi, faces.rows, self.flow, scheme)
        self.c, self.first, self.rate = np.zeros(faces.box), np.zeros(faces.box), np.zeros(faces.box)
        self.species = np.zeros((faces.n, drug.size))
        self.integrals = np.zeros((faces.n, drug.size))
        self.plasma = np.zeros(2 * plan.size)
        self.maps: dict[float, np.ndarray] = {}
        self.flows: dict[float, np.ndarray] = {}
        self.kep = tissue.ktrans / tissue.phi
        self.input_row = plan.readout * drug.unbound(plan)

    def jump(self, time: float) -> None:
        """Doses given at ``time``."""
        for jump in self.plan.jumps[self.plan.times == time]:
            self.plasma[: self.plan.size] += jump

    def local(self, dt: float) -> None:
        """Exact local kinetics and plasma for ``dt``."""
        key = round(dt, 11)  # steps that differ by round-off share their maps
        p = self.plan.size
        if key not in self.maps:
            maps = np.empty((self.tissue.faces.n, 2 * self.drug.size, self.drug.size + p))
            smallexp.local_maps(
                self.kep, self.tissue.ktrans, self.drug.reactions, self.plan.matrix, self.input_row, dt, maps
            )
            augmented = np.zeros((2 * p, 2 * p))
            augmented[:p, :p], augmented[p:, :p] = self.plan.matrix, np.eye(p)
            self.maps[key], self.flows[key] = maps, expm(augmented * dt)
        smallexp.apply_maps(self.maps[key], self.plasma[:p], self.species, self.integrals)
        self.plasma = self.flows[key] @ self.plasma

    def step(self, dt: float) -> None:
        """One symmetric step."""
        self.local(0.5 * dt)
        if self.bound > 0:
            faces = self.tissue.faces
            flat = self.c.ravel()
            flat[faces.place] = self.species[:, 0] / self.tissue.phi
            substeps = max(1, int(np.ceil(dt * self.bound - 1e-12)))
            convection.transport_step(
                self.c, self.g, self.v, self.flow, faces.face_group, self.inverse_phi, faces.rows,
                self.scheme, dt, substeps, self.first, self.rate,
            )  # fmt: skip
            self.species[:, 0] = flat[faces.place] * self.tissue.phi
        self.local(0.5 * dt)


def total_exposure(tissue: Tissue, drug: Drug, plan: Course, tolerance: float = 1e-12) -> np.ndarray:
    """Time integral of the free drug over all time, shape (n,), exact in time.

    Linear kinetics that end empty: integrating the equation over all time leaves one steady problem,
    ``div(phi D grad e) - div(v e) - (Ktrans + k phi) e + Ktrans f_u AUC = 0`` with ``e`` the area under
    c(t) and ``k`` the net first-order loss through all species, solved by conjugate gradients.

    Raises
    ------
    BadInput
        If the drug never leaves the plasma.
    RunFailed
        If the solver does not converge.
    """
    terms = transport_terms(tissue)
    auc = float(drug.unbound(plan) * plan.total_exposure())
    conductance = tissue.faces.conductance(drug.diffusivity)
    # in the variable e the diffusion is symmetric: undo the 1/phi of the terms' columns
    operator = terms.symmetric(conductance)
    loss = tissue.ktrans + reaction_sink(drug.reactions) * tissue.phi
    right = tissue.ktrans * auc
    n = tissue.faces.n
    flow = None if terms.convection is None else terms.convection

    def apply(e: np.ndarray) -> np.ndarray:
        e = np.asarray(e).ravel()
        out = loss * e - operator @ e
        return out if flow is None else out - flow @ (tissue.phi * e)

    diagonal = loss - operator.diagonal()
    scale = np.where(diagonal > 0, 1.0 / np.where(diagonal > 0, diagonal, 1.0), 1.0)
    precondition = LinearOperator((n, n), matvec=lambda x: scale * np.asarray(x).ravel(), dtype=float)
    solver = cg if flow is None else bicgstab
    e, info = solver(
        LinearOperator((n, n), matvec=apply, dtype=float),
        right,
        rtol=tolerance,
        atol=0.0,
        M=precondition,
        maxiter=20 * n,
    )
    if info != 0 or not np.isfinite(e).all():
        raise RunFailed(
            "The steady exposure problem did not converge; check that Ktrans and phi are positive."
        )
    return np.asarray(e * tissue.phi)
