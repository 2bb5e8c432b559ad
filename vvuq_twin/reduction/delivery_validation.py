"""How wrong the reduced delivery is: in all, by its parts, and what it says of itself.

The error is the relative L2 difference inside the tumour of the free drug and of what cells have taken up, at the
worst output time, from the full order converged in time (:mod:`~vvuq_twin.reduction.delivery_reference`), over
members that were not trained on. A time at which less than 1 % of the member's peak is left is judged by the peak.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..domain.errors import RunFailed
from .delivery import ReducedDelivery
from .delivery_build import DeliveryTraining, assemble_delivery
from .delivery_case import DeliveryCase
from .delivery_online import local_kinetics, node_kinetics
from .delivery_reference import case_grid, reference
from .estimate import Scale, calibrated
from .flow import fluid_at
from .flow_build import FlowBasis

#: Steps of the truth: an eighth of the time error of the model's own, or less.
FINE = (5e-4, 0.06, 1.0)


def truth(case: DeliveryCase, theta: np.ndarray, steps: tuple[float, float, float] = FINE) -> np.ndarray:
    """Full-order amounts in the tumour, (N, T, s, c).

    Raises
    ------
    RunFailed
        If a member failed.
    """
    runs = reference(case, theta, case_grid(case, *steps), case.site.tumour)
    if runs.status.any():
        raise RunFailed(f"{int((runs.status != 0).sum())} of {len(theta)} full-order runs failed.")
    return runs.amount


def relative_errors(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Of fields (N, T, s, c): (N, T, s)."""
    size = np.linalg.norm(wanted, axis=-1)
    size = np.maximum(size, 0.01 * size.max(axis=1, keepdims=True))
    return np.asarray(np.linalg.norm(found - wanted, axis=-1) / size)


def tumour_fields(model: ReducedDelivery, case: DeliveryCase, amount: np.ndarray) -> np.ndarray:
    """Fields in the tumour (N, T, s, c) from amounts at the nodes."""
    return np.stack([model.fields(amount, s, case.site.tumour) for s in range(amount.shape[2])], axis=2)


def summary(errors: np.ndarray) -> dict[str, float]:
    """Median, 99th percentile and worst of members' errors (N,)."""
    return {
        "median": float(np.median(errors)),
        "percentile_99": float(np.quantile(errors, 0.99, method="higher")),
        "worst": float(np.max(errors)),
    }


@dataclass(frozen=True)
class Judged:
    """Validation members.

    Parameters
    ----------
    error : ndarray, shape (N, T, s)
    indicator : ndarray, shape (N, T)
    status : ndarray of int, shape (N,)
    times : ndarray, shape (T,)
        Days.
    names : tuple of str
        Of the species.
    """

    error: np.ndarray
    indicator: np.ndarray
    status: np.ndarray
    times: np.ndarray
    names: tuple[str, ...]

    def worst(self, species: int) -> np.ndarray:
        """Error of a species at the worst output time, (N,)."""
        return np.asarray(self.error[:, :, species].max(axis=1))

    def summary(self) -> dict[str, dict[str, float]]:
        """Per species."""
        return {name: summary(self.worst(s)) for s, name in enumerate(self.names)}

    def scale(self, level: float = 0.99) -> Scale:
        """The calibrated estimate of the largest error of any species, see :mod:`~vvuq_twin.reduction.estimate`."""
        return calibrated(self.error.max(axis=2), self.indicator, self.times, level)

    def estimated(self, scale: Scale) -> np.ndarray:
        """Estimates for these members, (N,): worst output time."""
        return np.asarray(scale(self.indicator, self.times).max(axis=1))


def validate_delivery(
    model: ReducedDelivery, case: DeliveryCase, theta: np.ndarray, wanted: np.ndarray | None = None
) -> Judged:
    """Errors and indicators of members (N, p); ``wanted`` from :func:`truth` if it is there already."""
    wanted = truth(case, theta) if wanted is None else wanted
    amount, status, indicator = model.indicate(case, theta)
    error = relative_errors(tumour_fields(model, case, amount), wanted)
    return Judged(error, indicator, status, np.asarray(case.times) / 24.0, case.drug.names)


def error_parts(
    model: ReducedDelivery, trained: FlowBasis, case: DeliveryCase, theta: np.ndarray, how: DeliveryTraining
) -> dict[str, np.ndarray]:
    """The error of the worst species and time of a few members (N, p), by its causes; each (N,).

    Returns
    -------
    dict
        ``time``: the full order at the model's steps against shorter ones. ``projection``: the reduced order with
        every cell a node, against the full order at equal steps. ``hyper_reduction``: kinetics at the nodes alone against
        at every cell. ``basis``: the best approximation of the truth in the basis.
        ``gain``, ``back``: relative L2 error over the tumour of the maps of exchange with plasma (solvent drag) from the
        reduced pressure, the worst moving species.
    """
    wanted = truth(case, theta)
    same = truth(case, theta, (how.first, how.rate, how.longest))
    every = assemble_delivery(case, model.bases, np.arange(case.site.faces.n), trained, how, model.limit)
    ours, whole = (tumour_fields(m, case, m.run(case, theta)[0]) for m in (model, every))
    found = {
        "time": relative_errors(same, wanted),
        "projection": relative_errors(whole, same),
        "hyper_reduction": relative_errors(ours, whole),
        "basis": relative_errors(_nearest(model, case, wanted), wanted),
    }
    result = {name: error.max(axis=(1, 2)) for name, error in found.items()}
    return result | wall_errors(every, case, theta)


def _nearest(model: ReducedDelivery, case: DeliveryCase, wanted: np.ndarray) -> np.ndarray:
    """Best approximation inside the tumour of fields (N, T, s, c)."""
    inside, found = case.site.tumour, np.empty_like(wanted)
    for s, basis in enumerate(model.bases):
        scale = case.site.phi[inside] if s < len(model.moved) else 1.0
        q, _ = np.linalg.qr(basis[inside])
        found[:, :, s] = ((wanted[:, :, s] / scale) @ q @ q.T) * scale
    return found


def wall_errors(every: ReducedDelivery, case: DeliveryCase, theta: np.ndarray) -> dict[str, np.ndarray]:
    """Errors of the gain and back maps in the tumour; ``every`` has all cells as nodes."""
    x = case.inputs(np.asarray(theta, dtype=float))
    flows = [case.flow(x, i) for i in range(len(theta))]
    filtered, drained = (np.array([getattr(f, key) for f in flows]) for key in ("filtered", "drained"))
    exact = local_kinetics(every.nodes, x, case.pairs, filtered, drained, np)
    ours = node_kinetics(every.flow, every.nodes, x, case.pairs, every.flow.solve(x.fluid), np)
    inside = case.site.tumour

    def worst(mine: tuple[np.ndarray, ...], theirs: tuple[np.ndarray, ...]) -> np.ndarray:
        gaps = [
            np.linalg.norm((a - b)[:, inside], axis=1) / np.linalg.norm(b[:, inside], axis=1)
            for a, b in zip(mine, theirs)
        ]
        return np.asarray(np.max(gaps, axis=0))

    return {"gain": worst(ours.gain, exact.gain), "back": worst(ours.out, exact.out)}


def flow_errors(trained: FlowBasis, case: DeliveryCase, theta: np.ndarray) -> dict[str, np.ndarray]:
    """Relative L2 errors (N,) of pressure (less the far-field one), of flow through faces and of what is filtered."""
    x, flow, site = case.inputs(np.asarray(theta, dtype=float)), trained.flow, case.site
    exact = [case.flow(x, i) for i in range(len(theta))]
    a = flow.solve(x.fluid)
    here = fluid_at(x.fluid, site.faces.label, case.vessels)
    far = here.far(np)
    ours = (a @ flow.vectors.T) * here.scales(flow.spacing, flow.subgrid, np)[1]
    filtered, _ = flow.exchange(x.fluid, a, flow.vectors, site.faces.label, case.vessels)
    parts = flow.parts(x.fluid, a) @ trained.parts.modes.T
    count, inner = len(trained.walls.low), trained.walls.open
    speed = (parts[:, :count] + parts[:, count:])[:, inner] * trained.walls.spacing[inner]

    def through(i: int) -> np.ndarray:
        v = exact[i].velocity
        high = [high for _, high, _ in site.faces.neighbours]
        return np.concatenate([v[axis].ravel()[site.faces.place[h]] for axis, h in enumerate(high)])

    def gap(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        return np.asarray(np.linalg.norm(mine - theirs, axis=1) / np.linalg.norm(theirs, axis=1))

    return {
        "pressure": gap(ours, np.array([f.pressure for f in exact]) - far),
        "flow": gap(speed, np.array([through(i) for i in range(len(exact))])),
        "filtered": gap(filtered, np.array([f.filtered for f in exact])),
    }


def scheme_effect(
    case: DeliveryCase, theta: np.ndarray, dt_max: list[float], change: float = 1e-3
) -> dict[str, np.ndarray]:
    """Difference of the full order's limited and central convection from the upwind one that is projected, (N,).

    The largest of all species and times; of runs at equal steps, so that only the scheme differs. Not an error
    of the reduction: a line of its own in a budget.
    """
    runs = {
        scheme: case.full(theta, dt_max, change, scheme, case.site.tumour).sound().amount
        for scheme in ("upwind", "van_leer", "central")
    }
    base = runs.pop("upwind")
    return {scheme: relative_errors(run, base).max(axis=(1, 2)) for scheme, run in runs.items()}


def with_errors(model: ReducedDelivery, judged: Judged) -> ReducedDelivery:
    """The model that carries its validation's summary."""
    return replace(model, errors=dict(judged.summary()), _programs={})


__all__ = [
    "FINE", "Judged", "error_parts", "flow_errors", "relative_errors", "scheme_effect", "summary", "truth",
    "validate_delivery", "wall_errors", "with_errors",
]  # fmt: skip
