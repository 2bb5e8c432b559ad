"""The calibration of a growth study: NUTS on the shared parameters, beside the smoother's posterior."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..calibration import calibrate
from ..domain.evidence import Evidence
from ..domain.keys import generator
from ..domain.observations import Observations, stack
from ..domain.parameters import ParameterSpace
from ..domain.runfolder import Number, RunFolder
from ..ensemble.beside import Begin
from ..reduction.backend import jnp
from ..reduction.growth import ReducedGrowth
from ..reduction.restrict import distance, restrict
from .growth_figures import BLUE, GREY, new_figure
from .growth_problem import ADC_SCALE, GrowthProblem, VisitScan, until
from .growth_spec import GrowthSpec
from .growth_twin import Assimilated
from .workflow import Options


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
    shared = problem.shared
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
    problem = until(problem, visits)
    theta = _around(problem.space, result, shared, middle, 48, problem.spec.seed, "calibration reduction")
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
    vectors = np.where(there[:, None], reduced.moving[place], 0.0)
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
