"""A multi-fidelity campaign: pilot, allocation, runs in batches with resume, estimates with intervals."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..domain.errors import BadInput, RunFailed
from ..ensemble.run import BatchFunction, run_batches
from .combine import Combined, combine
from .moments import Moments, moments
from .plan import LEAST, Plan, allocate
from .scheme import STATISTICS, Scheme, Statistic

#: ``draw(n, purpose) -> inputs (n, p)``: independent, keyed, the first of 2n the same as of n.
Draw = Callable[[int, str], np.ndarray]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Fidelity:
    """One of the models.

    Parameters
    ----------
    name : str
    function : callable
        A batch function as :func:`vvuq_twin.ensemble.run_batches` takes it. Whatever is random must come from its
        inputs, so that all models see the same.
    cost : float
        Of one run, in a unit all models share.
    context : Context or plain values, optional
    output : str
        Which of the function's outputs, shape (batch, *out).
    batch : int
    version : str
    """

    name: str
    function: BatchFunction
    cost: float
    context: Any = None
    output: str = "y"
    batch: int = 64
    version: str = "1"


@dataclass(frozen=True)
class MultifidelityResult:
    """Estimates for the first model, and how they were come by.

    Parameters
    ----------
    names, outputs : tuple of str
        Of models and outputs.
    plan : Plan
    correlation : ndarray, shape (M, q)
        Of each model with the first, over the pilot.
    estimates : dict of str to Combined
        By statistic.
    alone : dict of str to dict
        By cheaper model that was used: ``mean`` and ``variance`` (q,) over all its own runs, which has its bias.
    pilot : int
        Pilot inputs; their runs are not used again, so that the weights are independent of what they weigh.
    dropped : int
        Inputs left out because the first model failed there.
    failed : dict of str to int
        Failed runs of each model used; a cheaper one's have its pilot mean instead, which biases nothing.
    cost, pilot_cost : float
        Of the estimate and of the pilot.
    confidence : float
    """

    names: tuple[str, ...]
    outputs: tuple[str, ...]
    plan: Plan
    correlation: np.ndarray
    estimates: dict[Statistic, Combined]
    alone: dict[str, dict[str, np.ndarray]]
    pilot: int
    dropped: int
    failed: dict[str, int]
    cost: float
    pilot_cost: float
    confidence: float

    def value(self, statistic: Statistic) -> np.ndarray:
        """Unbiased estimates, shape (q,); a variance may come out negative where it is not resolved."""
        return self.estimates[statistic].value

    def interval(self, statistic: Statistic) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Standard error, lower and upper end of the confidence interval, each of shape (q,)."""
        return self.estimates[statistic].interval(self.confidence, positive=statistic == "variance")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        found: dict[str, Any] = {
            "scheme": self.plan.scheme.name, "runs": {self.names[m]: n for m, n in self.plan.runs.items()},
            "pilot": self.pilot, "dropped": self.dropped, "failed_runs": self.failed, "cost": self.cost, "pilot_cost": self.pilot_cost,
            "confidence": self.confidence, "outputs": list(self.outputs),
            "correlation": {n: c.tolist() for n, c in zip(self.names, self.correlation)},
            "alone": {n: {k: v.tolist() for k, v in a.items()} for n, a in self.alone.items()},
        }  # fmt: skip
        for statistic in self.estimates:
            se, low, high = self.interval(statistic)
            found[statistic] = {
                "value": self.value(statistic).tolist(), "standard_error": se.tolist(), "low": low.tolist(),
                "high": high.tolist(), "gain_over_monte_carlo": self.plan.gain(statistic).tolist(),
            }  # fmt: skip
        return found


def run_multifidelity(
    models: Sequence[Fidelity],
    draw: Draw,
    budget: float,
    store: str | Path,
    pilot: int = 24,
    statistics: Sequence[Statistic] = STATISTICS,
    outputs: tuple[str, ...] | None = None,
    schemes: Sequence[Scheme] | None = None,
    confidence: float = 0.95,
    client: Any = None,
    progress: Progress | None = None,
) -> MultifidelityResult:
    """Estimate means and variances of the first model's outputs within a budget.

    Parameters
    ----------
    models : sequence of Fidelity
        The one to be believed first.
    draw : callable
        For a prior ``lambda n, purpose: space.gaussian_sample(n, seed, purpose)``.
    budget : float
        For everything, the pilot included, in the unit of the costs.
    store : path
        Folder of the runs; a campaign that was interrupted goes on where it stopped.
    pilot : int
        Inputs at which all models run to find correlations, weights and allocation.
    statistics : sequence of {"mean", "variance"}
    outputs : tuple of str, optional
        Names of the outputs in C order.
    schemes : sequence of Scheme, optional
        See :func:`~vvuq_twin.multifidelity.plan.allocate`.
    confidence : float
    client : distributed.Client, optional
    progress : callable, optional
        ``progress(label, done, total)``.

    Raises
    ------
    BadInput
        If there is one model only, two have one name, the outputs differ in shape, or the budget is too small.
    RunFailed
        If the first model failed at more than half of the inputs of the pilot or of the estimate.
    """
    folder = Path(store)
    _check(models, pilot, confidence)
    spent = pilot * sum(m.cost for m in models)
    least = spent + LEAST * models[0].cost
    if not np.isfinite(budget) or budget < least:
        raise BadInput(
            f"the budget ({budget:g}) does not pay for the pilot ({spent:g}) and {LEAST} more runs of '{models[0].name}' "
            f"({models[0].cost:g} each)", "multi-fidelity budget", f"give at least {least:g}, or a smaller pilot",
        )  # fmt: skip

    def evaluate(model: Fidelity, z: np.ndarray, stage: str) -> tuple[np.ndarray, np.ndarray]:
        label = f"{stage} {model.name}"
        told = None if progress is None else (lambda done, total: progress(label, done, total))
        found = run_batches(
            model.function, z, folder / stage / _slug(model.name), model.batch, client, label, told, model.context,
            model.version,
        )  # fmt: skip
        if model.output not in found:
            raise BadInput(f"the model gives no output '{model.output}'", f"model '{model.name}'")
        return found.load(model.output).reshape(len(z), -1), found.status

    z = np.asarray(draw(pilot, "multifidelity-pilot"))
    first = [evaluate(m, z, "pilot") for m in models]
    sizes = {y.shape[1] for y, _ in first}
    if len(sizes) > 1:
        raise BadInput(
            f"the models give different numbers of outputs ({', '.join(map(str, sorted(sizes)))})",
            "multi-fidelity models",
        )
    names = outputs if outputs is not None else tuple(str(i) for i in range(sizes.pop()))
    if len(names) != first[0][0].shape[1]:
        raise BadInput(
            f"there are {first[0][0].shape[1]} outputs and {len(names)} names", "multi-fidelity outputs"
        )
    # a cheap model may be any function of the inputs: where it fails it is its mean, and nothing is biased
    instead = [
        y[status == 0].mean(axis=0) if (status == 0).any() else np.zeros(y.shape[1]) for y, status in first
    ]
    good = first[0][1] == 0
    _enough(good, "pilot")
    filled = [np.where((status == 0)[:, None], y, c) for (y, status), c in zip(first, instead)]
    known: Moments = moments(np.stack([y[good] for y in filled], axis=1))
    plan = allocate(known, [m.cost for m in models], budget - spent, statistics, schemes)

    z = np.asarray(draw(plan.length, "multifidelity-estimate"))
    values, usable, failed = [], np.ones(plan.length, dtype=bool), {}
    alone: dict[str, dict[str, np.ndarray]] = {}
    for place, number in enumerate(plan.scheme.models):
        rows = plan.members(place)
        y, status = evaluate(models[number], z[rows], "estimate")
        failed[models[number].name] = int((status != 0).sum())
        full = np.zeros((plan.length, y.shape[1]))
        full[rows] = np.where((status == 0)[:, None], y, instead[number])
        values.append(full)
        if place == 0:
            usable[rows[status != 0]] = False
        else:
            kept = full[rows]
            alone[models[number].name] = {"mean": kept.mean(axis=0), "variance": kept.var(axis=0, ddof=1)}
    _enough(usable, "estimate")
    return MultifidelityResult(
        tuple(m.name for m in models),
        tuple(names),
        plan,
        known.correlation,
        {s: combine(plan, values, s, usable) for s in statistics},
        alone,
        pilot,
        int((~good).sum() + (~usable).sum()),
        failed,
        plan.cost,
        spent,
        confidence,
    )


def _check(models: Sequence[Fidelity], pilot: int, confidence: float) -> None:
    """Refuse what cannot be a campaign before anything runs."""
    if len(models) < 2:
        raise BadInput(
            "a multi-fidelity estimate needs at least two models",
            "multi-fidelity models",
            "add a cheaper one",
        )
    slugs = [_slug(m.name) for m in models]
    for m, slug in zip(models, slugs):
        if slugs.count(slug) > 1:
            raise BadInput(f"two models are called '{m.name}'", "multi-fidelity models", "rename one of them")
        if not (np.isfinite(m.cost) and m.cost > 0):
            raise BadInput(
                f"its cost ({m.cost:g}) is not positive",
                f"model '{m.name}'",
                "give the seconds one run takes",
            )
    if pilot < 8:
        raise BadInput(
            f"{pilot} pilot runs are too few to tell correlations", "multi-fidelity pilot", "use 20 or more"
        )
    if not 0 < confidence < 1:
        raise BadInput(f"the confidence level ({confidence:g}) is not between 0 and 1", "multi-fidelity")


def _enough(good: np.ndarray, stage: str) -> None:
    if good.sum() < max(4, len(good) / 2):
        raise RunFailed(
            f"the multi-fidelity {stage} lost {int((~good).sum())} of {len(good)} inputs to failed members"
        )


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
