"""The uncertainty budget of a growth study: where the spread of its last forecast comes from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..credibility.budget import BudgetLine, budget_table
from ..domain.runfolder import RunFolder
from ..twin.growth import ReducedGrowthTwin
from .growth_forecast import QUANTITIES
from .growth_grid import Discretisation, discretisation_evidence
from .growth_problem import GrowthProblem
from .growth_twin import Assimilated, visible


def budget(
    run: RunFolder, problem: GrowthProblem, twin: ReducedGrowthTwin, result: Assimilated,
    step: Callable[[np.ndarray, str], tuple[np.ndarray, np.ndarray]], refined: Callable[[], Discretisation],
) -> None:  # fmt: skip
    """Where the spread of the last visit's forecast comes from, for both quantities."""
    names = problem.space.names
    groups = {
        "shared parameters": problem.shared,
        "initial field": [i for i, n in enumerate(names) if n.startswith("initial_")],
        "growth noise (model form)": [i for i, n in enumerate(names) if n.startswith("growth_noise_")],
    }
    z, last = result.posterior, len(problem.series.visits) - 1
    lines: list[list[BudgetLine]] = [[], []]
    whole = visible(problem, twin, result.posterior_run[:, last])
    shares = [_shares(z, values, list(groups.values())) for values in whole]
    for g, (name, columns) in enumerate(groups.items()):
        alone = np.repeat(z.mean(axis=0)[None, :], len(z), axis=0)
        alone[:, columns] = z[:, columns]
        coefficients, status = step(alone, f"budget {name.split(' (')[0]}")
        for q, values in enumerate(visible(problem, twin, coefficients[status == 0][:, last])):
            lines[q].append(
                BudgetLine(
                    name, float(values.std(ddof=1)), "posterior ensemble, all else at its mean; share by covariance",
                    share=shares[q][g],
                )
            )  # fmt: skip
    fine = refined()
    last_visit = problem.series.visits[last].id
    run.evidence(discretisation_evidence(fine, last_visit, tuple(q.replace("_", " ") for q in QUANTITIES)))
    for q, quantity in enumerate(QUANTITIES):
        middle = float(np.median(whole[q]))
        relative = twin.qoi_error()[last, q]
        sd_reduction = float(relative * middle)
        lines[q].append(
            BudgetLine(
                "reduction", sd_reduction, "root mean square over unseen parameters", "reduction.error"
            )
        )
        for which, source in (("time", "time step"), ("grid", "voxels")):
            fit = (fine.time if which == "time" else fine.grid)[q]
            how = (
                "too few grids, or a failed run"
                if fit is None
                else f"posterior mean at full order, {fit.how}: half of 95 %"
            )
            lines[q].append(BudgetLine(source, fine.standard(q, which), how, "discretization.forecast"))
        lines[q].append(BudgetLine("missing mechanisms beyond the growth noise", None, "not quantified"))
        total = float(np.hypot(whole[q].std(ddof=1), sd_reduction))
        table = budget_table(
            f"{quantity.replace('_', ' ')} at {problem.series.visits[last].id}", "cm3", lines[q], total
        )
        run.table(
            f"budget_{quantity}", table["columns"], table["rows"], section="budget", order=q,
            title=f"{quantity.replace('_', ' ').capitalize()} at {problem.series.visits[last].id}",
            caption="The scans tie the groups to each other: alone, a group moves the forecast more than all do together. Its share "
            "is the covariance of its part (linear regression over the ensemble) with the forecast, so that shares add up.",
        )  # fmt: skip


def _shares(z: np.ndarray, values: np.ndarray, groups: list[list[int]]) -> list[float]:
    """Covariance of each group's linear part with the values, over their variance (Li et al. 2010)."""
    centred, y = z - z.mean(axis=0), values - values.mean()
    slope = np.linalg.lstsq(centred, y, rcond=None)[0]
    return [float(centred[:, c] @ slope[c] @ y / (y @ y)) for c in groups]
