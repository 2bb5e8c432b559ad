"""Training a reduced delivery: bases from full-order states, nodes, projected operators."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg, sparse

from ..domain.errors import BadInput, RunFailed
from ..domain.fingerprint import fingerprint
from .delivery import Moved, Nodes, ReducedDelivery
from .delivery_case import DeliveryCase
from .delivery_reference import OK, Reference, case_grid, reference
from .flow_build import FlowBasis, build_flow, convection_matrix
from .pod import pod
from .training import training_parameters


@dataclass(frozen=True)
class DeliveryTraining:
    """How a reduced delivery is made.

    Parameters
    ----------
    modes : int
        Most modes of the drug's fields.
    oversample : float
        Nodes per mode.
    tolerance : float
        Relative energy of the normalised snapshots the basis may leave out.
    flow_tolerance : float
        The same of pressure and flow.
    flow_modes : int
        Most modes of the pressure, and most entries of its system and of the flow.
    flows : int
        Pressures beyond those of the training runs that the flow is learnt from: an uncertain perfusion map asks for
        more than there are runs.
    records : int
        States of each training run that are learnt from.
    first, rate, longest : float
        Of the steps, see :func:`~vvuq_twin.reduction.timegrid.time_grid`.
    joint : bool
        One basis for all species, or one for each.
    """

    modes: int = 40
    oversample: float = 1.5
    tolerance: float = 1e-6
    flow_tolerance: float = 1e-5
    flow_modes: int = 40
    flows: int = 0
    records: int = 40
    first: float = 1e-3
    rate: float = 0.12
    longest: float = 4.0
    joint: bool = True

    def fingerprint(self, case: DeliveryCase, theta: np.ndarray) -> str:
        """What :func:`build_delivery` marks its result with, to ask a store for it."""
        return fingerprint(case, np.asarray(theta, dtype=float), self)


def training_runs(case: DeliveryCase, theta: np.ndarray, how: DeliveryTraining) -> Reference:
    """Full-order states of members (N, p) on the reduced order's own steps."""
    grid = case_grid(case, how.first, how.rate, how.longest)
    nowhere = np.zeros(case.site.faces.n, dtype=bool)
    return reference(case, theta, grid, nowhere, how.records)


def build_delivery(
    case: DeliveryCase, theta: np.ndarray, runs: Reference, how: DeliveryTraining | None = None
) -> tuple[ReducedDelivery, FlowBasis]:
    """The reduced model from training runs of members theta (N, p).

    Raises
    ------
    RunFailed
        If more than half of the training runs failed; the others are left out.
    """
    how = DeliveryTraining() if how is None else how
    good = runs.status == OK
    if good.sum() * 2 <= len(good):
        raise RunFailed(f"{int((~good).sum())} of {len(good)} training runs failed; check the prior's range.")
    site, m = case.site, case.moving
    more = training_parameters(case.space, how.flows, 0) if how.flows else np.zeros((0, case.space.size))
    x = case.inputs(np.concatenate([np.asarray(theta, dtype=float)[good], more]))
    trained = build_flow(
        site, case.vessels, {k: np.asarray(v) for k, v in x.fluid.items()}, case.subgrid, how.flow_tolerance,
        how.flow_modes,
    )  # fmt: skip
    states = np.concatenate(runs.states)
    fields = np.array(states)
    fields[:, :m] /= site.phi
    bases = _bases(case, fields, how)
    nodes = _nodes(np.concatenate(bases[:1] if how.joint else bases, axis=1), how)
    limit = 1e3 * float(np.abs(states).max())
    model = assemble_delivery(case, bases, nodes, trained, how, limit)
    return replace(model, fingerprint=how.fingerprint(case, theta)), trained


def assemble_delivery(
    case: DeliveryCase,
    bases: tuple[np.ndarray, ...],
    nodes: np.ndarray,
    trained: FlowBasis,
    how: DeliveryTraining,
    limit: float,
) -> ReducedDelivery:
    """The reduced model on these bases (n, r) and nodes (k,); with all cells as nodes nothing is interpolated."""
    site, m, phi = case.site, case.moving, case.site.phi
    diffusion = site.faces.sparse_terms(site.faces.face_mean(phi))
    count, n = len(trained.walls.low), site.faces.n
    carried = [
        convection_matrix(trained.walls, mode[:count], mode[count:], n) for mode in trained.parts.modes.T
    ]
    moved: list[Moved] = []
    lifts: list[np.ndarray] = []
    for s, b in enumerate(bases):
        same = next((i for i in range(s) if bases[i] is b), None)  # one basis for all is projected once
        lifts.append(np.linalg.pinv(b[nodes]) if same is None else lifts[same])
        if s < m:
            moved.append(
                _project(b, lifts[s], nodes, phi, (diffusion, carried)) if same is None else moved[same]
            )
    grid = case_grid(case, how.first, how.rate, how.longest)
    at = Nodes(
        nodes, site.faces.label[nodes], case.vessels.at(nodes), phi[nodes], trained.flow.vectors[nodes],
        site.tumour[nodes].astype(float),
    )  # fmt: skip
    return ReducedDelivery(
        trained.flow,
        at,
        tuple(moved),
        bases,
        tuple(lifts),
        site.faces.groups,
        grid,
        limit,
        phi,
        np.asarray(case.times),
        case.doses,
    )


def _project(
    b: np.ndarray, lift: np.ndarray, nodes: np.ndarray, phi: np.ndarray, terms: tuple[list[sparse.csr_array], ...]
) -> Moved:  # fmt: skip
    """Diffusion's and convection's terms on a basis (n, r)."""
    rows, r = phi[nodes, None] * b[nodes], b.shape[1]
    small, left = [], []
    for group in terms:
        moved = [term @ b for term in group]
        small.append(np.array([b.T @ x for x in moved]).reshape(-1, r, r))
        left.append(
            np.array([x[nodes] - rows @ y for x, y in zip(moved, small[-1])]).reshape(-1, len(nodes), r)
        )
    return Moved(b[nodes], lift, *small, *left)


def _bases(case: DeliveryCase, fields: np.ndarray, how: DeliveryTraining) -> tuple[np.ndarray, ...]:
    """Of every species, (n, r); fields (., s, n) are concentrations or amounts.

    Snapshots are scaled to norm one inside the tumour, where the error is judged.
    """
    root, inside = np.sqrt(case.site.phi), case.site.tumour
    scaled = fields * root
    size = np.linalg.norm(scaled[..., inside], axis=-1, keepdims=True)
    scaled = np.divide(scaled, size, out=np.zeros_like(scaled), where=size > 0)
    if how.joint:
        groups = [scaled.reshape(-1, scaled.shape[-1])]
    else:
        groups = [scaled[:, s] for s in range(scaled.shape[1])]
    found = []
    for rows in groups:
        rows = rows[np.abs(rows).max(axis=1) > 0]
        if not len(rows):
            raise BadInput("a species is nowhere in the training runs", "reduced delivery", "check the doses")
        found.append(pod(rows, how.tolerance, how.modes).vectors / root[:, None])
    return tuple(found * fields.shape[1] if how.joint else found)


def _nodes(vectors: np.ndarray, how: DeliveryTraining) -> np.ndarray:
    """Cells for the kinetics: pivoted QR, then again on what the first ones see least, until there are enough."""
    wanted = min(len(vectors), int(np.ceil(how.oversample * vectors.shape[1])))
    left, chosen = vectors.copy(), np.zeros(0, dtype=np.int64)
    while len(chosen) < wanted:
        pivots = linalg.qr(left.T, mode="r", pivoting=True, check_finite=False)[1]
        take = pivots[: min(vectors.shape[1], wanted - len(chosen))]
        chosen = np.concatenate([chosen, take])
        left[chosen] = 0.0
    return np.sort(chosen)


__all__ = ["DeliveryTraining", "assemble_delivery", "build_delivery", "training_runs"]
