"""Drug transport in tissue, full order: plasma kinetics, exchange, diffusion, convection, binding, loss.

For every species s that moves (the free drug, drug bound to a mobile protein, a carrier),

    dC_s/dt = div(phi D_s grad c) - div(v c) + gain_s Cp_s - (back_s + lymph + edge) c + supply_s + reactions,

with C an amount per volume of tissue and c = C/phi the concentration in the interstitium; species that do
not move (bound to a receptor, internalised) only react. Exchange with plasma carries solvent drag with it
(:func:`~vvuq_twin.physics.tissue.across_wall`). Reactions are of first order, saturable binding, or saturable
uptake and efflux of cells. Time is in hours, length in mm, volume in L. Without D and v, one species is the
extended Tofts model.

Each step is a symmetric splitting: half a step of local kinetics, transport, half a step of local kinetics
(two half steps in a row are taken as one). Linear local kinetics are exact, together with the plasma that
feeds them and the time integral of every species, so that what is exchanged, degraded and left adds up to
round-off; saturable ones are positive and conservative, and as accurate as their tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.sparse.linalg import LinearOperator, bicgstab, cg

from ..domain.errors import BadInput, RunFailed
from ..kinetics.plasma import Course
from . import convection
from .drug import Drug
from .faces import Faces
from .ledger import Balance, Ledger
from .stepper import Stepper
from .tissue import Tissue, reaction_sink, transport_terms

#: Status of a member: fine, its state became non-finite, its parameters are unusable.
OK, NOT_FINITE, BAD_PARAMETER = 0, 1, 2

SCHEMES = {"upwind": convection.UPWIND, "van_leer": convection.VAN_LEER, "central": convection.CENTRAL}


@dataclass(frozen=True)
class Injection:
    """Drug put into the tissue at once.

    Parameters
    ----------
    time : float
        Hours.
    amount : ndarray, shape (n,)
        Per L of tissue.
    species : int
    """

    time: float
    amount: np.ndarray
    species: int = 0


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
        All species together.
    ledger : Ledger
        Every species by every way.
    """

    times: np.ndarray
    amount: np.ndarray
    exposure: np.ndarray
    plasma: np.ndarray
    balance: Balance
    ledger: Ledger


def transport(
    tissue: Tissue | Sequence[tuple[float, Tissue]],
    drug: Drug,
    plan: Course,
    times: np.ndarray,
    dt_max: float | Sequence[float],
    scheme: str = "van_leer",
    injections: Sequence[Injection] = (),
    precision: type = np.float64,
    change: float = 0.005,
) -> Transported:
    """Run one member from before its first dose through ``times``.

    Parameters
    ----------
    tissue : Tissue, or sequence of (hours, Tissue)
        With several, each holds from its time on (an infusion that starts and ends changes flow and
        supply); they share their faces, and the first holds from the start.
    drug : Drug
    plan : Course
        Plasma model and doses (one member: a matrix of shape (p, p)), hours.
    times : ndarray, shape (T,)
        Increasing output times, hours.
    dt_max : float or sequence of float
        Longest splitting step, hours; or one up to each output time.
    scheme : {"upwind", "van_leer", "central"}
        Face value of the convected drug. Upwind and central are linear, van Leer is limited.
    injections : sequence of Injection
    precision : numpy type
        Of the fields: float64, or float32 for half the memory (the balance then closes to about 1e-5).
    change : float
        Saturable kinetics: largest relative change of a rate over half a part of a step: the tolerance.

    Raises
    ------
    BadInput
        If times go backwards, a step is not positive, the scheme is not known, or an injection is off the
        cells.
    RunFailed
        If the state becomes non-finite.
    """
    at, longest = _settings(times, dt_max, scheme)
    phases = [(-np.inf, tissue)] if isinstance(tissue, Tissue) else list(tissue)
    _check(phases, drug, injections)
    stepper = Stepper(phases[0][1], drug, plan, SCHEMES[scheme], precision, change)
    marks = [t for t, _ in phases[1:]] + [i.time for i in injections] + plan.times.tolist()
    stops = np.unique(np.concatenate([at, [t for t in marks if t <= at[-1]]]))
    n, s, p = stepper.tissue.faces.n, drug.size, plan.size
    amount: np.ndarray = np.zeros((len(at), s, n), precision)
    exposure: np.ndarray = np.zeros((len(at), s, n), precision)
    plasma = np.zeros((len(at), p))
    flows, present = np.zeros((len(at), s, 8)), np.zeros((len(at), s))

    def leave(time: float) -> None:
        for start, new in phases[1:]:
            if start == time:
                stepper.enter(new)
        stepper.jump(time)
        for one in injections:
            if one.time == time:
                stepper.inject(one.species, one.amount)
        for i in np.flatnonzero(at == time):
            flows[i], present[i] = stepper.flows(), stepper.present()
            amount[i], exposure[i] = stepper.species.T, stepper.integrals.T
            plasma[i] = stepper.plasma[:p]

    leave(float(stops[0]))
    for low, high in pairwise(stops.tolist()):
        step = float(longest[np.searchsorted(at, high)])
        count = max(1, int(np.ceil((high - low) / step - 1e-9)))
        stepper.march((high - low) / count, count)
        leave(high)
    if not (np.isfinite(amount).all() and np.isfinite(exposure).all()):
        raise RunFailed("The transport model became non-finite; shorten the step or check the maps.")
    ledger = Ledger(drug.names, flows, present)
    return Transported(at, amount, exposure, plasma, Balance.of(ledger), ledger)


def _settings(
    times: np.ndarray, dt_max: float | Sequence[float], scheme: str
) -> tuple[np.ndarray, np.ndarray]:
    """Output times and the longest step up to each, shapes (T,), if they and the scheme are usable."""
    at = np.asarray(times, dtype=float)
    if at.size == 0 or not np.isfinite(at).all() or (np.diff(at) < 0).any():
        raise BadInput("output times are missing, not finite or go backwards", "transport", "sort them")
    longest = (
        np.broadcast_to(np.asarray(dt_max, dtype=float), at.shape)
        if np.ndim(dt_max) == 0
        else np.asarray(dt_max)
    )
    if longest.shape != at.shape:
        raise BadInput(f"there are {longest.size} longest steps for {at.size} output times", "transport")
    for step in longest:
        if not (np.isfinite(step) and step > 0):
            raise BadInput(f"the longest step ({step:g} h) is not positive", "transport")
    if scheme not in SCHEMES:
        raise BadInput(
            f"the convection scheme '{scheme}' is not known", "transport", "use one of: " + ", ".join(SCHEMES)
        )
    return at, longest


def _check(phases: list[tuple[float, Tissue]], drug: Drug, injections: Sequence[Injection]) -> None:
    if not phases:
        raise BadInput("there is no tissue", "transport")
    starts = [t for t, _ in phases]
    if any(b <= a for a, b in pairwise(starts)):
        raise BadInput("the times of the tissues do not increase", "transport", "sort them")
    faces = phases[0][1].faces
    if any(one.faces is not faces for _, one in phases):
        raise BadInput(
            "the tissues are not on the same cells", "transport", "build them from one set of faces"
        )
    for one in injections:
        values = np.asarray(one.amount, dtype=float)
        if values.shape != (faces.n,) or not np.isfinite(values).all() or (values < 0).any():
            raise BadInput("an injection is off the cells, negative or not finite", "injections")
        if not (np.isfinite(one.time) and 0 <= one.species < drug.size):
            raise BadInput("an injection has no time or no species", "injections")


@dataclass(frozen=True)
class TransportedMembers:
    """What is kept of the transport runs of N members.

    Parameters
    ----------
    times : ndarray, shape (T,)
        Hours.
    amount : ndarray, shape (N, T, s, n)
        The kept species in the kept cells, per volume of tissue; zero for a member that failed.
    exposure : ndarray, shape (N, T, s, n)
        Their time integrals since the first dose.
    status : ndarray of int, shape (N,)
        ``OK``, ``NOT_FINITE`` or ``BAD_PARAMETER``.
    """

    times: np.ndarray
    amount: np.ndarray
    exposure: np.ndarray
    status: np.ndarray

    def sound(self) -> TransportedMembers:
        """These runs, for those who need every member.

        Raises
        ------
        RunFailed
            If a member failed.
        """
        failed = np.flatnonzero(self.status)
        if failed.size:
            raise RunFailed(
                f"{failed.size} of {len(self.status)} transport runs failed, the first is member {failed[0]}; "
                "check the prior's range."
            )
        return self


def transport_members(
    faces: Faces,
    member: Callable[[int], tuple[Tissue, Drug, Course]],
    count: int,
    times: np.ndarray,
    dt_max: float | Sequence[float],
    scheme: str = "van_leer",
    injections: Sequence[Injection] = (),
    precision: type = np.float64,
    change: float = 0.005,
    species: Sequence[int] = (0,),
    cells: np.ndarray | None = None,
) -> TransportedMembers:
    """Run ``count`` members on the same cells; one that fails gets a code and the others go on.

    Members are run one after the other, each exactly as :func:`transport` would: what one needs (its
    faces' conductances, its local propagators) fills the caches, so that sweeping all of them step by
    step would only move more memory. Only what is kept of a run outlives it.

    Parameters
    ----------
    faces : Faces
        The cells of every member's tissue.
    member : callable
        Tissue, drug and plasma course of member i: its own diffusivity, velocity, exchange and kinetics.
        May raise ``BadInput`` for parameters it cannot use.
    count : int
        N.
    times, dt_max, scheme, injections, precision, change
        As of :func:`transport`, the same for every member.
    species : sequence of int
        Those that are kept; the free drug unless told otherwise.
    cells : ndarray of bool or int, optional
        Active cells that are kept, shape (n,) or their numbers; all if absent.

    Raises
    ------
    BadInput
        If the times, the steps or the scheme are unusable, or a member's tissue is on other cells.
    """
    at, longest = _settings(times, dt_max, scheme)
    kept = np.arange(faces.n) if cells is None else np.arange(faces.n)[cells]
    shape = (count, len(at), len(species), len(kept))
    amount: np.ndarray = np.zeros(shape, precision)
    exposure: np.ndarray = np.zeros(shape, precision)
    status = np.full(count, OK)
    chosen = np.ix_(np.arange(len(at)), np.asarray(species, dtype=int), kept)
    for i in range(count):
        try:
            tissue, drug, plan = member(i)
        except BadInput:
            status[i] = BAD_PARAMETER
            continue
        if tissue.faces is not faces:
            raise BadInput(f"the tissue of member {i} is on other cells", "transport")
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # the code says so
                run = transport(
                    tissue, drug, plan, at, longest.tolist(), scheme, injections, precision, change
                )
        except BadInput:
            status[i] = BAD_PARAMETER
        except RunFailed:
            status[i] = NOT_FINITE
        else:
            amount[i], exposure[i] = run.amount[chosen], run.exposure[chosen]
    return TransportedMembers(at, amount, exposure, status)


def total_exposure(tissue: Tissue, drug: Drug, plan: Course, tolerance: float = 1e-12) -> np.ndarray:
    """Time integral of the free drug over all time, shape (n,), exact in time.

    Linear kinetics of one moving species that end empty: integrating the equation over all time leaves one
    steady problem, ``div(phi D grad e) - div(v e) - (back + lymph + edge + k phi) e + gain f_u AUC = 0`` with
    ``e`` the area under c(t) and ``k`` the net first-order loss through all species, solved by conjugate
    gradients.

    Raises
    ------
    BadInput
        If the drug never leaves the plasma, or its kinetics are saturable, per tissue, or of several
        moving species.
    RunFailed
        If the solver does not converge.
    """
    if drug.saturable or drug.moving > 1 or drug.reactions.ndim > 2 or drug.diffusivity.ndim > 1:
        raise BadInput(
            "the exposure over all time is known for linear kinetics of one moving species only", "exposure",
            "run the transport long enough instead",
        )  # fmt: skip
    terms = transport_terms(tissue, drug)
    auc = float(drug.unbound(plan) * plan.total_exposure())
    conductance = tissue.faces.conductance(drug.diffusivity)
    # in the variable e the diffusion is symmetric: undo the 1/phi of the terms' columns
    operator = terms.symmetric(conductance)
    loss = reaction_sink(drug.reactions) * tissue.phi - terms.exchange.diagonal() * tissue.phi
    right = terms.source * auc
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


__all__ = [
    "BAD_PARAMETER",
    "NOT_FINITE",
    "OK",
    "SCHEMES",
    "Balance",
    "Injection",
    "Ledger",
    "Stepper",
    "Transported",
    "TransportedMembers",
    "total_exposure",
    "transport",
    "transport_members",
]
