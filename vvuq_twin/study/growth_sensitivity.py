"""What drives a growth study's forecast: Sobol indices and a chaos expansion over the prior."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..domain.runfolder import RunFolder
from ..ensemble.context import Context
from ..ensemble.run import run_batches
from ..sensitivity.chaos import fit_chaos
from ..sensitivity.evidence import agreement_evidence, chaos_evidence, sobol_evidence
from ..sensitivity.sobol import SobolIndices, sobol_design, sobol_indices
from .growth_figures import new_figure
from .growth_forecast import QUANTITIES
from .growth_model import quantities_task
from .growth_problem import GrowthProblem
from .growth_spec import GrowthSpec
from .workflow import Options

GROUPS = {"initial field and ADC_min": ["adc_min", "initial_*"], "growth noise": ["growth_noise_*"]}


def sensitivity(
    run: RunFolder, spec: GrowthSpec, problem: GrowthProblem, context: Context, client: Any, options: Options
) -> None:
    """Sobol indices and a chaos expansion of both quantities at every visit, over the prior."""
    s = spec.sensitivity
    if s is None:
        return
    visits = [v.id for v in problem.series.visits][1:]
    outputs = tuple(f"{q} at {v}" for q in QUANTITIES for v in visits)

    def evaluate(z: np.ndarray, label: str) -> tuple[np.ndarray, np.ndarray]:
        found = run_batches(
            quantities_task, z, run.path / "results.zarr" / label, spec.batch, client, label,
            lambda done, total: options.progress(label, done, total), context,
        )  # fmt: skip
        return np.nan_to_num(found["quantities"][:])[:, :, 1:], found.status

    design = sobol_design(problem.space, s.samples, spec.seed, GROUPS)
    y, status = evaluate(design.z, "sensitivity")
    indices = sobol_indices(design, y, spec.seed, outputs=outputs, status=status)
    z = problem.space.gaussian_sample(s.chaos_samples, spec.seed, "chaos", "sobol")
    more, more_status = evaluate(z, "chaos expansion")
    # the design's own draws of the prior serve the expansion too
    own = design.independent
    z, y = np.concatenate([z, design.z[own]]), np.concatenate([more, y[own]])
    status = np.concatenate([more_status, status[own]])
    # a cellularity spans decades over the prior: its logarithm is what a polynomial can follow
    cm3 = problem.series.grid.voxel_volume / 1000.0
    degrees = tuple(range(1, s.chaos_degree + 1))
    plain = fit_chaos(problem.space, z, y, degrees, outputs=outputs, status=status)
    expanded = plain.sobol(GROUPS)
    run.evidence(
        sobol_evidence(indices, s.resolution),
        chaos_evidence(plain, s.chaos_limit),
        agreement_evidence(indices, expanded, s.agreement),
    )
    run.data(
        "sensitivity",
        {"sobol": indices.to_dict(), "chaos": {**plain.to_dict(), "indices": expanded.to_dict()}},
    )
    last = len(visits) - 1
    rows = []
    for i, name in enumerate(indices.names):
        row: list[Any] = [name]
        for q in range(2):
            row += [
                indices.first[i, q, last],
                indices.total[i, q, last],
                indices.total_half[i, q, last],
                expanded.total[i, q, last],
            ]
        rows.append(row)
    columns = [("factor", "")]
    for quantity in QUANTITIES:
        label = quantity.replace("_", " ")
        columns += [
            (f"{label}, first", ""),
            (f"{label}, total", ""),
            ("± 95 %", ""),
            (f"{label}, total by chaos", ""),
        ]
    run.table(
        "sobol", columns, rows, title=f"Sobol indices at {visits[last]}", section="sensitivity", order=2,
        caption=f"Over the prior, {indices.base} base points; {len(z)} runs for the chaos expansion, {len(own)} of them shared with the design. The initial field and "
        f"ADC_min are one factor: they depend on each other. The mean over the prior is {float(y[:, 1, last].mean() * cm3):.3g} cm³.",
    )  # fmt: skip
    _sobol_figure(run, problem, indices)


def _sobol_figure(run: RunFolder, problem: GrowthProblem, indices: SobolIndices) -> None:
    figure = new_figure(11, 4.2)
    days = [v.day for v in problem.series.visits][1:]
    colours = (
        "#1f5a8a",
        "#b5382a",
        "#3f8f5b",
        "#c98a1b",
        "#7a4ea3",
        "#2aa5a0",
        "#8a8a8a",
        "#5b4636",
        "#d16ba5",
    )
    for q, axis in enumerate(figure.subplots(1, 2, sharey=True)):
        for i, name in enumerate(indices.names):
            values = indices.total[i, q]
            axis.errorbar(days, values, indices.total_half[i, q], fmt="o-", ms=3, lw=1.2, capsize=2,
                          color=colours[i % len(colours)], label=name)  # fmt: skip
        axis.set(xlabel="time (days)", title=QUANTITIES[q].replace("_", " "), ylim=(0, 1.05))
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("total Sobol index")
    figure.axes[1].legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    run.figure(
        "sobol", figure, title="What drives the forecast", section="sensitivity", order=1,
        caption="Total Sobol indices over the prior with 95 % bootstrap intervals.",
        alt="Lines of total Sobol indices of each factor against time.",
    )  # fmt: skip
