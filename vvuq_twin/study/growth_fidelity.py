"""What the full order says of the forecast: few of its runs correct many reduced ones (on request)."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..domain.evidence import Evidence
from ..domain.keys import generator
from ..domain.runfolder import Number, RunFolder
from ..ensemble.context import Context
from ..multifidelity import Fidelity, MultifidelityResult, run_multifidelity
from ..sensitivity.fidelity import FidelitySobol, multifidelity_sobol
from ..twin.growth import ReducedGrowthTwin
from .growth_forecast import QUANTITIES
from .growth_model import StudyModel, quantities_task
from .growth_problem import GrowthProblem
from .growth_sensitivity import GROUPS
from .growth_spec import GrowthSpec
from .growth_twin import Assimilated, visible
from .workflow import Options


def full_task(z: np.ndarray, members: np.ndarray, model: StudyModel) -> dict[str, np.ndarray]:
    """Batch function: what :func:`~vvuq_twin.study.growth_model.quantities_task` gives, by the full order."""
    case = model.case
    theta = np.asarray(case.space.from_gaussian(z))
    out = np.zeros((len(z), 2, len(case.timeline.visits)))
    status = np.zeros(len(z), dtype=np.int32)
    for i in range(len(z)):  # one run in memory at a time
        values = case.values(theta[i : i + 1])
        start = case.initial(values.initial)
        states, code = case.solve(start, values)
        seen = states[0] >= case.n_detect
        out[i, 0], out[i, 1], status[i] = (states[0] * seen).sum(axis=1), seen.sum(axis=1), code[0]
    return {"quantities": out, "status": status}


def later_visits(
    z: np.ndarray, members: np.ndarray, model: StudyModel, task: Any, first: int
) -> dict[str, Any]:
    """Batch function: the quantities of ``task`` at the visits from ``first`` on, cm3."""
    found = task(z, members, model)
    cm3 = model.case.faces.grid.voxel_volume / 1000.0
    return {"y": cm3 * found["quantities"][:, :, first:], "status": found["status"]}


def orders(context: Context, first: int, cost_ratio: float, batch: int) -> list[Fidelity]:
    """Full and reduced order as models of the quantities at the visits from ``first`` on; the price of a reduced
    run is one."""
    return [
        Fidelity("full order", partial(later_visits, task=full_task, first=first), cost_ratio, context, batch=2),
        Fidelity("reduced order", partial(later_visits, task=quantities_task, first=first), 1.0, context, batch=batch),
    ]  # fmt: skip


def multifidelity(
    run: RunFolder, spec: GrowthSpec, problem: GrowthProblem, twin: ReducedGrowthTwin, result: Assimilated,
    context: Context, client: Any, options: Options,
) -> None:  # fmt: skip
    """Mean and standard deviation of the held-out visits' forecast at full order, and Sobol indices if asked for.

    The distribution is the ensemble's: members of the posterior drawn with replacement.
    """
    m = spec.multifidelity
    if m is None:
        return
    first = len(problem.series.visits) - len(_held_out(problem, spec, options))
    visits = [v.id for v in problem.series.visits[first:]]
    if visits:
        models = orders(context, first, m.cost_ratio, spec.batch)
        names = tuple(f"{q} at {v}" for q in QUANTITIES for v in visits)

        def draw(n: int, purpose: str) -> np.ndarray:
            picked = (generator(spec.seed, purpose).random(n) * len(result.posterior)).astype(int)
            return result.posterior[picked]

        found = run_multifidelity(
            models, draw, m.budget * m.cost_ratio, run.path / "results.zarr" / "multifidelity", m.pilot,
            outputs=names, client=client, progress=options.progress,
        )  # fmt: skip
        _tell(run, problem, twin, result, found, first, visits)
    if m.sobol_budget is not None:
        last = len(problem.series.visits) - 1
        indices = multifidelity_sobol(
            orders(context, last, m.cost_ratio, spec.batch), problem.space, m.sobol_budget * m.cost_ratio, spec.seed,
            run.path / "results.zarr" / "multifidelity-sobol", GROUPS, m.pilot, QUANTITIES, client=client,
            progress=options.progress,
        )  # fmt: skip
        _tell_sobol(run, indices, problem.series.visits[last].id)


def _held_out(problem: GrowthProblem, spec: GrowthSpec, options: Options) -> list[Any]:
    used = spec.assimilation.visits if options.assimilate is None else options.assimilate
    return list(problem.series.visits[used:])


def _tell(
    run: RunFolder, problem: GrowthProblem, twin: ReducedGrowthTwin, result: Assimilated, found: MultifidelityResult,
    first: int, visits: list[str],
) -> None:  # fmt: skip
    mean, (_, low, high) = found.value("mean"), found.interval("mean")
    sd = np.sqrt(np.maximum(found.value("variance"), 0.0))
    sd_low, sd_high = (np.sqrt(np.maximum(x, 0.0)) for x in found.interval("variance")[1:])
    alone = found.alone.get("reduced order")
    gain = found.plan.gain("mean"), found.plan.gain("variance")
    rows, shifts = [], []
    for q, quantity in enumerate(QUANTITIES):
        for v, visit in enumerate(visits):
            i = q * len(visits) + v
            members = visible(problem, twin, result.posterior_run[:, first + v])[q]
            reduced: list[float | None] = [None, None]
            if alone is not None:
                spread = float(np.sqrt(alone["variance"][i]))
                reduced = [float(alone["mean"][i]), spread]
                shifts.append(abs(float(alone["mean"][i] - mean[i])) / max(spread, 1e-12))
            rows.append(
                [quantity.replace("_", " "), visit, float(members.mean()), float(members.std(ddof=1)), *reduced, mean[i],
                 low[i], high[i], sd[i], sd_low[i], sd_high[i], gain[0][i], gain[1][i]]
            )  # fmt: skip
            run.summary(
                Number(
                    f"full_order_mean_{quantity}_{visit}", float(mean[i]), "cm3", (float(low[i]), float(high[i])),
                    found.confidence, "reduction", "full order, multi-fidelity",
                    f"mean of the forecast of {quantity.replace('_', ' ')} at {visit} at full order",
                )
            )  # fmt: skip
    run.data("multifidelity", found.to_dict())
    runs = ", ".join(f"{n} of the {name}" for name, n in found.to_dict()["runs"].items())
    run.table(
        "multifidelity",
        [("quantity", ""), ("visit", ""), ("ensemble mean", "cm3"), ("ensemble SD", "cm3"), ("reduced mean", "cm3"),
         ("reduced SD", "cm3"), ("full-order mean", "cm3"), ("from", "cm3"), ("to", "cm3"), ("full-order SD", "cm3"),
         ("from", "cm3"), ("to", "cm3"), ("gain, mean", ""), ("gain, variance", "")],
        rows, title="The forecast at full order", section="budget", order=3,
        caption=f"Reduced runs corrected by full-order ones ({found.plan.scheme.name}): {runs}, and {found.pilot} of each in "
        f"the pilot. Intervals at {100 * found.confidence:g} %; gain is the variance of as many full-order runs as cost the same, "
        "without the pilot, over the estimate's. All are of the ensemble's members, drawn with replacement.",
    )  # fmt: skip
    if shifts:
        run.evidence(
            Evidence(
                "reduction.forecast", "numerical_solver_error",
                "The reduced model does not shift the forecast: its mean agrees with the full order's.",
                "difference of the means below a tenth of the forecast's standard deviation, every quantity and held-out visit",
                {"largest difference over standard deviation": float(max(shifts)), **found.to_dict()["runs"]},
                "passed" if max(shifts) < 0.1 else "failed",
            )
        )  # fmt: skip


def _tell_sobol(run: RunFolder, indices: FidelitySobol, visit: str) -> None:
    rows = []
    for i, name in enumerate(indices.names):
        row: list[Any] = [name]
        for q in range(len(QUANTITIES)):
            row += [
                indices.first[i, q],
                indices.first_half[i, q],
                indices.total[i, q],
                indices.total_half[i, q],
            ]
        rows.append(row)
    columns = [("factor", "")]
    for quantity in QUANTITIES:
        label = quantity.replace("_", " ")
        columns += [(f"{label}, first", ""), ("± 95 %", ""), (f"{label}, total", ""), ("± 95 %", "")]
    run.data("multifidelity_sobol", indices.to_dict())
    points = ", ".join(f"{n} of the {name}" for name, n in indices.to_dict()["base_points"].items())
    run.table(
        "multifidelity_sobol", columns, rows, title=f"Sobol indices at {visit} at full order", section="sensitivity", order=3,
        caption=f"Over the prior, by {indices.result.plan.scheme.name}: base points {points}.",
    )  # fmt: skip
