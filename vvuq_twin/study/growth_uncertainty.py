"""Sensitivity, calibration and the uncertainty budget of a growth study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ..calibration import calibrate
from ..credibility.budget import BudgetLine, budget_table
from ..domain.evidence import Evidence
from ..domain.keys import generator
from ..domain.observations import Observations, stack
from ..domain.parameters import ParameterSpace
from ..domain.runfolder import Number, RunFolder
from ..ensemble.beside import Begin
from ..ensemble.context import Context
from ..ensemble.run import run_batches
from ..physics.timeline import timeline
from ..reduction.backend import jnp
from ..reduction.growth import ReducedGrowth
from ..reduction.restrict import distance, restrict
from ..sensitivity.chaos import fit_chaos
from ..sensitivity.evidence import agreement_evidence, chaos_evidence, sobol_evidence
from ..sensitivity.sobol import SobolIndices, sobol_design, sobol_indices
from ..twin.growth import ReducedGrowthTwin
from .growth_figures import BLUE, GREY, new_figure
from .growth_forecast import QUANTITIES
from .growth_grid import Discretisation, discretisation_evidence
from .growth_model import quantities_task
from .growth_problem import ADC_SCALE, GrowthProblem, VisitScan
from .growth_spec import GrowthSpec
from .growth_twin import Assimilated, visible
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


def calibration(
    run: RunFolder, spec: GrowthSpec, problem: GrowthProblem, reduced: ReducedGrowth, result: Assimilated,
    visits: int, options: Options, begin: Begin,
) -> None:  # fmt: skip
    """NUTS on the shared parameters given the assimilated scans, beside the smoother's posterior.

    The initial modes and the growth noise are held at the smoother's posterior mean; the data are the ADC means
    of the blocks inside the outlines.
    """
    c = spec.calibration
    if c is None:
        return
    space = problem.space
    shared = [i for i, n in enumerate(space.names) if not n.startswith(("initial_", "growth_noise_"))]
    part = ParameterSpace(tuple(space.parameters[i] for i in shared))
    middle = np.asarray(space.from_gaussian(result.posterior.mean(axis=0)[None, :]))[0]
    small, problem = _smaller(problem, reduced, result, shared, middle, visits, c.modes)
    widened = _around(space, result, shared, middle, 16, spec.seed, "calibration reduction check")
    apart = distance(small, reduced, problem.case, widened)
    worst = float(apart.max())
    run.evidence(
        Evidence(
            "reduction.calibration", "numerical_solver_error",
            "The smaller reduced model the calibration runs on follows the study's reduced model over the posterior.",
            "relative L2 distance of the fields at the worst visit below 2 % for draws it was not made from",
            {"worst": worst, "median": float(np.median(apart)), "modes": small.rank, "draws": len(apart)},
            "passed" if worst < 0.02 else "failed",
        )
    )  # fmt: skip
    predict, observations = _block_model(problem, small, shared, middle, visits)
    found = calibrate(
        part, predict, observations, spec.seed, c.chains, c.draws, c.tune,
        target_accept=0.9,  # growth and kill trade off along a curved ridge
        progress=lambda done, total: options.progress("calibration (NUTS)", done, total),
        begin=begin,
    )  # fmt: skip
    run.data("calibration", found.to_dict())
    run.evidence(
        Evidence(
            "calibration.convergence", "model_inputs", "The sampler of the calibration converged.",
            "; ".join(f"{name} {check['limit']}" if "limit" in check else name for name, check in found.checks.items()),
            {name: check["value"] for name, check in found.checks.items()}, "passed" if found.passed else "failed",
        )
    )  # fmt: skip
    smoother = np.asarray(space.from_gaussian(result.posterior))[:, shared]
    draws = found.sample()
    rows = []
    for j, p in enumerate(part.parameters):
        d = found.parameters[p.name]
        low, mid, high = np.quantile(draws[:, j], [0.05, 0.5, 0.95])
        low_s, mid_s, high_s = np.quantile(smoother[:, j], [0.05, 0.5, 0.95])
        diagnostics = [next((v for k, v in d.items() if key in k), None) for key in ("hat", "bulk")]
        rows.append([p.name, p.unit, low, mid, high, low_s, mid_s, high_s, *diagnostics])
    run.table(
        "calibration",
        [("parameter", ""), ("unit", ""), ("NUTS 5 %", ""), ("NUTS median", ""), ("NUTS 95 %", ""), ("smoother 5 %", ""),
         ("smoother median", ""), ("smoother 95 %", ""), ("R-hat", ""), ("bulk ESS", "")],
        rows, title="Calibration beside the smoother", section="calibration", order=2,
        caption="NUTS holds the initial field and the growth noise at the smoother's mean and sees only ADC inside the "
        "outlines, so that its intervals are conditional and need not agree. This is a fit, not a validation.",
    )  # fmt: skip
    _marginals(run, part, draws, smoother)
    run.summary(
        Number(
            "calibration_max_rhat",
            float(max(r[8] for r in rows if r[8] is not None)),
            "1",
            group="calibration",
            of="NUTS",
        )
    )


def _around(
    space: ParameterSpace,
    result: Assimilated,
    shared: list[int],
    middle: np.ndarray,
    count: int,
    seed: int,
    purpose: str,
) -> np.ndarray:
    """Draws around the posterior, twice as wide in the shared parameters, the rest at ``middle``."""
    z = result.posterior
    mean = z.mean(axis=0)
    cov = np.cov(z[:, shared], rowvar=False) * 4.0
    normals = generator(seed, purpose).standard_normal((count, len(shared)))
    draws = np.repeat(mean[None, :], count, axis=0)
    draws[:, shared] += normals @ np.linalg.cholesky(cov + 1e-12 * np.eye(len(shared))).T
    theta = np.repeat(middle[None, :], count, axis=0)
    theta[:, shared] = np.asarray(space.from_gaussian(draws))[:, shared]
    return theta


def _smaller(
    problem: GrowthProblem, reduced: ReducedGrowth, result: Assimilated, shared: list[int], middle: np.ndarray,
    visits: int, modes: int,
) -> tuple[ReducedGrowth, GrowthProblem]:  # fmt: skip
    """A reduced model of the assimilated visits over the posterior, and the problem cut to them."""
    case = problem.case
    days = case.timeline.visits[:visits]
    given, spec = problem.series.treatments, problem.spec
    edges = () if case.noise is None else case.noise.edges[1:-1]
    line = timeline(
        case.timeline.t0, days.tolist(), [(t, a / spec.dose_unit_mg_per_m2) for t, a in given.drug_doses],
        given.fractions, spec.model.step_days, breaks=[e for e in edges if e < days[-1]],
    )  # fmt: skip
    problem = replace(problem, case=case.on(line))
    theta = _around(problem.space, result, shared, middle, 48, spec.seed, "calibration reduction")
    return restrict(reduced, problem.case, theta, modes), problem


def _block_model(
    problem: GrowthProblem, reduced: ReducedGrowth, shared: list[int], middle: np.ndarray, visits: int
) -> tuple[Callable[[Any], Any], Observations]:
    """ADC means of blocks inside the outlines as a JAX function of the shared parameters, and the data."""
    read, observations = block_readout(problem, reduced, visits)

    def predict(theta: Any) -> Any:
        full = jnp.asarray(middle).at[jnp.asarray(shared)].set(theta)[None, :]
        coefficients, _ = reduced.run(problem.case, full, jnp)
        return read(full[0], coefficients[0])

    return predict, observations


def block_readout(
    problem: GrowthProblem, reduced: ReducedGrowth, visits: int
) -> tuple[Callable[[Any, Any], Any], Observations]:
    """ADC means of blocks inside the outlines of the assimilated visits from one member's parameters (p,) and
    coefficients (V, size), traceable; and the data."""
    water = ADC_SCALE * problem.spec.observation.adc_water_mm2_per_s
    means, data = [], []
    for scan in problem.scans[1:visits]:
        weights, rows = _inside_blocks(scan, reduced)
        if not len(rows):
            continue
        means.append((scan.visit, jnp.asarray(weights)))
        error = scan.observations.error.take(rows)
        centres = scan.observations.coords[rows]
        ids, day = scan.observations.ids, scan.observations.time
        data.append(Observations(scan.observations.y[rows], error, centres, ids, day))
    floor = problem.space.index("adc_min")

    def read(theta: Any, coefficients: Any) -> Any:
        span = water - ADC_SCALE * theta[floor]
        return jnp.concatenate([water - span * (w @ coefficients[visit]) for visit, w in means])

    return read, stack(data)


def _inside_blocks(scan: VisitScan, reduced: ReducedGrowth) -> tuple[np.ndarray, np.ndarray]:
    """Weights (b, size) of the reduced coefficients in the mean of each block inside, and the blocks."""
    blocks = np.unique(scan.block[scan.inside])
    place = np.minimum(np.searchsorted(reduced.rows, scan.cells), len(reduced.rows) - 1)
    there = reduced.rows[place] == scan.cells
    vectors = np.where(there[:, None], reduced.vectors[place], 0.0)
    weights = np.zeros((int(scan.block.max()) + 1, reduced.size))
    np.add.at(weights, scan.block, vectors)
    size = np.bincount(scan.block)
    present = blocks[np.isfinite(scan.observations.y[blocks])]
    return weights[present] / size[present, None], present


def _marginals(run: RunFolder, space: ParameterSpace, draws: np.ndarray, smoother: np.ndarray) -> None:
    count = space.size
    figure = new_figure(2.6 * min(count, 4), 2.3 * -(-count // 4))
    axes = np.atleast_1d(figure.subplots(-(-count // 4), min(count, 4))).ravel()
    for axis in axes[count:]:
        axis.set_visible(False)
    for j, (p, axis) in enumerate(zip(space.parameters, axes)):
        both = np.concatenate([draws[:, j], smoother[:, j]])
        low, high = (float(x) for x in np.quantile(both, [0.002, 0.998]))
        bins = np.linspace(low, high, 31)
        axis.hist(draws[:, j], bins, density=True, color=BLUE, alpha=0.55, label="NUTS")
        axis.hist(
            smoother[:, j], bins, density=True, histtype="step", color="#b5382a", lw=1.3, label="smoother"
        )
        prior = np.asarray(p.prior.from_gaussian(np.linspace(-3, 3, 4001)))
        weight = np.exp(-0.5 * np.linspace(-3, 3, 4001) ** 2)
        axis.hist(
            prior,
            bins,
            weights=weight,
            density=True,
            histtype="step",
            color=GREY,
            lw=1,
            ls="--",
            label="prior",
        )
        axis.set_xlabel(f"{p.name} ({p.unit})" if p.unit != "1" else p.name, fontsize=8)
        axis.set_yticks([])
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right", "left"]].set_visible(False)
    axes[0].legend(fontsize=7, frameon=False)
    run.figure(
        "marginals", figure, title="Shared parameters", section="calibration", order=1,
        caption="Posterior of the calibration and of the smoother with the prior.", alt="Histograms of each parameter.",
    )  # fmt: skip


def budget(
    run: RunFolder, problem: GrowthProblem, twin: ReducedGrowthTwin, result: Assimilated,
    step: Callable[[np.ndarray, str], tuple[np.ndarray, np.ndarray]], refined: Callable[[], Discretisation],
) -> None:  # fmt: skip
    """Where the spread of the last visit's forecast comes from, for both quantities."""
    names = problem.space.names
    groups = {
        "shared parameters": [
            i for i, n in enumerate(names) if not n.startswith(("initial_", "growth_noise_"))
        ],
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
            how = "too few grids" if fit is None else f"posterior mean at full order, {fit.how}: half of 95 %"
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
