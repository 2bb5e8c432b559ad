"""Sobol indices of an expensive model from few of its runs and many runs of cheaper ones.

With inputs A and B and ``AB_j`` (A with factor j from B), the numerators of the indices and the variance are means:
``V = E (f(A) - f(B))^2 / 2``, ``V_j = E f(B) (f(AB_j) - f(A))`` (Saltelli et al. 2010), ``T_j V = E (f(A) - f(AB_j))^2 / 2``
(Jansen). A base point with its D + 2 runs is therefore one run of a "model" with 1 + 2D outputs, and the multi-fidelity
mean of those is unbiased (after Qian, Peherstorfer, O'Malley, Vesselinov & Willcox 2018, doi:10.1137/17M1151006); only
their ratios, the indices, have a bias, of the order of one over the base points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ..domain.errors import BadInput
from ..domain.keys import member_normals
from ..domain.parameters import ParameterSpace
from ..ensemble.run import BatchFunction, run_batches
from ..multifidelity import Fidelity, MultifidelityResult, run_multifidelity
from ..multifidelity.campaign import Progress
from .groups import Groups, dependent, grouped
from .sobol import plain


def sobol_terms(
    inputs: np.ndarray, members: np.ndarray, context: Any, function: BatchFunction, output: str, membership: np.ndarray,
    shift: np.ndarray,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Batch function: variance and numerators of a base point, (batch, (1 + 2D) q), and the worst status.

    Parameters
    ----------
    inputs : ndarray, shape (batch, 2p)
        Whitened scores of A and of B, side by side.
    function, output : callable, str
        The model, run D + 2 times for each row.
    membership : ndarray of int, shape (p,)
    shift : ndarray, shape (q,)
        Taken off the output: any constant leaves the means as they are, one near the mean steadies them.
    """
    n, p = len(inputs), len(membership)
    a, b = inputs[:, :p], inputs[:, p:]
    mixed = [np.where(membership == j, b, a) for j in range(int(membership.max()) + 1)]
    rows = np.concatenate([a, *mixed, b])
    found = function(rows, np.tile(members, len(mixed) + 2), context)
    y = np.asarray(found[output], dtype=float).reshape(len(mixed) + 2, n, -1) - shift
    status = np.asarray(found.get("status", np.zeros(len(rows)))).reshape(-1, n)
    ya, yb = y[0], y[-1]
    terms = [0.5 * (ya - yb) ** 2]
    terms += [yb * (ab - ya) for ab in y[1:-1]]
    terms += [0.5 * (ya - ab) ** 2 for ab in y[1:-1]]
    return {"y": np.concatenate(terms, axis=1), "status": np.abs(status).max(axis=0).astype(np.int32)}


@dataclass(frozen=True)
class FidelitySobol:
    """Indices of the first model with intervals.

    Parameters
    ----------
    names, outputs : tuple of str
        Factors (D of them) and outputs (q).
    first, total : ndarray, shape (D, q)
        NaN where the variance is not resolved.
    first_half, total_half : ndarray, shape (D, q)
        Half-widths of the intervals, from the jackknife of the linearised ratio.
    variance : ndarray, shape (q,)
    result : MultifidelityResult
        Of the variance and the numerators; costs are of base points.
    dependent : bool
        Whether factors are correlated; then the indices are those of the whitened scores in their order.
    """

    names: tuple[str, ...]
    outputs: tuple[str, ...]
    first: np.ndarray
    total: np.ndarray
    first_half: np.ndarray
    total_half: np.ndarray
    variance: np.ndarray
    result: MultifidelityResult
    dependent: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        parts = ("first", "first_half", "total", "total_half", "variance")
        plan = self.result.plan
        return {
            "method": "multi-fidelity Sobol (Saltelli 2010, Jansen)",
            "factors": list(self.names),
            "outputs": list(self.outputs),
            **{k: plain(getattr(self, k)) for k in parts},
            "scheme": plan.scheme.name,
            "base_points": {self.result.names[m]: n for m, n in plan.runs.items()},
            "confidence": self.result.confidence,
            "dropped_base_points": self.result.dropped,
            "dependent_factors": self.dependent,
        }


def multifidelity_sobol(
    models: Sequence[Fidelity],
    space: ParameterSpace,
    budget: float,
    seed: int,
    store: str | Path,
    groups: Groups | None = None,
    pilot: int = 24,
    outputs: tuple[str, ...] | None = None,
    confidence: float = 0.95,
    client: Any = None,
    progress: Progress | None = None,
) -> FidelitySobol:
    """First and total indices of the first model's outputs.

    Parameters
    ----------
    models : sequence of Fidelity
        Functions of whitened scores (n, p), the one to be believed first.
    space : ParameterSpace
    budget : float
        For everything, pilot included, in the unit of the models' costs; a base point costs D + 2 runs.
    seed : int
    store : path
    groups : mapping, optional
        See :func:`vvuq_twin.sensitivity.groups.grouped`.
    pilot : int
        Base points of the pilot.
    outputs, confidence, client, progress
        As for :func:`~vvuq_twin.multifidelity.campaign.run_multifidelity`.

    Raises
    ------
    BadInput
        If there are fewer than two factors, or what the campaign refuses.
    RunFailed
        If too many base points failed.
    """
    names, membership = grouped(space, groups)
    if len(names) < 2:
        raise BadInput("a sensitivity analysis needs at least two factors", "sensitivity groups")
    if not models:
        raise BadInput("a multi-fidelity estimate needs at least two models", "multi-fidelity models")

    def draw(n: int, purpose: str) -> np.ndarray:
        return member_normals(seed, f"sobol/{purpose}", range(n), 2 * space.size)

    last = models[-1]
    z = draw(pilot, "shift")[:, : space.size]
    centre = run_batches(
        last.function, z, Path(store) / "shift", last.batch, client, "shift", None, last.context, last.version
    )
    if last.output not in centre:
        raise BadInput(f"the model gives no output '{last.output}'", f"model '{last.name}'")
    shift = centre.load(last.output, good_only=True).reshape(len(centre.good), -1).mean(axis=0)
    d, q = len(names), len(shift)
    labels = outputs if outputs is not None else tuple(str(i) for i in range(q))
    if len(labels) != q:
        raise BadInput(f"there are {q} outputs and {len(labels)} names", "sensitivity")
    blocks = [
        replace(
            m, cost=m.cost * (d + 2), output="y", batch=max(1, m.batch // (d + 2)),
            function=partial(sobol_terms, function=m.function, output=m.output, membership=membership, shift=shift),
        )
        for m in models
    ]  # fmt: skip
    found = run_multifidelity(
        blocks, draw, budget, store, pilot, ("mean",), None, None, confidence, client, progress
    )
    estimate = found.estimates["mean"]
    value = estimate.value.reshape(1 + 2 * d, q)
    change = estimate.change.reshape(-1, 1 + 2 * d, q)
    variance = np.where(value[0] > 0, value[0], np.nan)
    ratio = value[1:] / variance
    moved = ((change[:, 1:] - ratio * change[:, :1]) / variance).reshape(len(change), -1)
    se, dof = estimate.spread(moved)
    half = (stats.t.ppf(0.5 + confidence / 2, np.maximum(dof, 1.0)) * se).reshape(2 * d, q)
    return FidelitySobol(
        names, tuple(labels), ratio[:d], ratio[d:], half[:d], half[d:], value[0], found, dependent(space, membership)
    )  # fmt: skip
