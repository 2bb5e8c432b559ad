"""Mean and variance of a growth forecast from few full-order and many reduced runs, against full-order Monte Carlo.

Time is processor time to a standard error of a hundredth of the prior's standard deviation (mean), or of a tenth of
the variance (variance): variance of the estimate times its cost, training and pilot not counted, over the square of
that. The variance of the multi-fidelity estimate is measured over repeated experiments with draws of their own; that of
Monte Carlo is the reference runs' own. The difference is that of the repeated estimates' mean to the reference's, in
standard deviations of the quantity. A second table of notes gives the surrogates' errors beside the Galerkin model's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import common
import numpy as np

from vvuq_twin.multifidelity import Plan, allocate, combine, moments
from vvuq_twin.reduction.case import GrowthCase
from vvuq_twin.reduction.surrogate import fit_surrogate
from vvuq_twin.reduction.surrogate_fits import Fitter, GaussianProcesses, Polynomials
from vvuq_twin.reduction.surrogate_runs import training_scores
from vvuq_twin.reduction.training import Training, train
from vvuq_twin.reduction.validation import relative_error
from vvuq_twin.study.cohort import CohortSpec
from vvuq_twin.study.exposure import exposure_map
from vvuq_twin.study.growth_fidelity import full_task
from vvuq_twin.study.growth_model import StudyModel, quantities_task
from vvuq_twin.study.growth_problem import growth_problem
from vvuq_twin.study.schema import read_study
from vvuq_twin.twin.growth import FullOrderGrowth
from vvuq_twin.twin.surrogate import SurrogateTwin, training_runs
from vvuq_twin.virtual.glioma import make_patient

STUDY = Path(__file__).resolve().parents[1] / "studies" / "virtual_glioma" / "cohort.yaml"
SMALL = {
    "spacing": 8.0, "training": 16, "greedy": 0, "modes": 40, "unseen": 4, "runs": 48, "reference": 24, "repeats": 4, "budget": 20.0,
}  # fmt: skip
QUANTITIES = ("total cellularity", "volume")
Model = Callable[[np.ndarray], np.ndarray]


def growth_case(spacing: float, seed: int) -> GrowthCase:
    """A virtual glioma's problem as a cohort study sets it up."""
    cohort, _ = read_study(STUDY)
    assert isinstance(cohort, CohortSpec)
    spec = cohort.growth(STUDY.parent)
    patient = make_patient(seed, spacing, 2)
    exposure = exposure_map(patient.scans)
    weight = None if exposure is None else exposure.weight
    return growth_problem(patient.scans, spec, weight, spec.assimilation.visits).case


def measure(
    spacing: float = 4.0,
    training: int = 40,
    greedy: int = 24,
    modes: int = 128,
    unseen: int = 16,
    runs: int = 64,
    reference: int = 64,
    repeats: int = 10,
    budget: float = 30.0,
    seed: int = 7000,
) -> list[common.Row]:
    case = growth_case(spacing, seed)
    cm3 = case.faces.grid.voxel_volume / 1000.0
    start = time.process_time()
    how = Training(n_train=training, n_greedy=greedy, turns=1, n_valid=unseen, max_rank=modes, rounds=0)
    trained = train(case, seed, how)
    offline = time.process_time() - start
    pair = StudyModel(case, trained.reduced, trained.probe, 0.01)
    full = FullOrderGrowth(case)
    start = time.process_time()
    known_runs, times, size = training_runs(full, training_scores(case.space, runs, seed))
    chaos = SurrogateTwin(fit_surrogate(case.space, known_runs, times, size, Polynomials()))
    offline_chaos = time.process_time() - start

    def looked_up(z: np.ndarray) -> np.ndarray:
        found = chaos.trajectory(np.asarray(case.space.from_gaussian(z)))
        return np.where(found.status[:, None] == 0, full.burden(chaos.fields(found.values[:, -1])), np.nan)

    def through(task: Callable[..., dict[str, np.ndarray]]) -> Model:
        def run(z: np.ndarray) -> np.ndarray:
            found = task(z, np.arange(len(z)), pair)
            return np.where(found["status"][:, None] == 0, cm3 * found["quantities"][:, :, -1], np.nan)

        return run

    models: list[Model] = [through(full_task), crowded(through(quantities_task)), looked_up]
    z = case.space.gaussian_sample(reference, seed, "benchmark-reference")
    costs = [seconds(m, z[:n]) / n for m, n in zip(models, (4, 64, 64))]
    rows: list[common.Row] = []
    for width, where in ((1.0, "prior"), (0.5, "half the prior's width")):
        pairs = np.stack([m(width * z) for m in models], axis=1)
        known = moments(pairs[np.isfinite(pairs).all(axis=(1, 2))])
        plan = allocate(known, costs, budget * costs[0])
        used = [models[m] for m in plan.scheme.models]
        truth = pairs[np.isfinite(pairs[:, 0]).all(axis=1), 0]
        # whatever the cheap model is where it fails, nothing is biased
        found = compare(case, plan, used, truth, costs, repeats, width, seed, where)
        spent, ratio = offline + (offline_chaos if 2 in plan.scheme.models else 0.0), found[0].ratio
        pays = f"beyond {spent / costs[0] / (1 - 1 / ratio):.0f} full-order runs" if ratio > 1 else "never"
        lost = (~np.isfinite(pairs)).any(axis=2).sum(axis=0).tolist()
        note = (
            f"{plan.scheme.name} of {case.faces.n} voxels, runs {plan.runs} (0 full, 1 reduced, 2 chaos surrogate), {lost} of "
            f"{reference} reference runs failed; seconds a run {', '.join(f'{c:.2g}' for c in costs)}; correlations "
            f"{known.correlation[1:].min(axis=1).round(5).tolist()}; predicted gain, mean {plan.gain('mean').round(1).tolist()}, "
            f"variance {plan.gain('variance').round(1).tolist()}; training of {spent:.0f} s pays {pays} that Monte Carlo would take "
            "for the mean"
        )
        rows += [common.Row(**{**vars(found[0]), "notes": note}), *found[1:]]
    theta = case.space.sample(unseen, seed, "benchmark-unseen")
    v = trained.validation
    notes = [
        f"Galerkin, {training + greedy} runs, rank {trained.reduced.rank}: median {v.median:.1e}, worst {v.worst:.1e}"
    ]
    fits: list[tuple[str, Fitter]] = [
        ("polynomials", Polynomials()),
        ("Gaussian processes", GaussianProcesses()),
    ]
    for name, fitter in fits:
        twin = SurrogateTwin(fit_surrogate(case.space, known_runs, times, size, fitter))
        error, estimate, outside = unseen_error(full, twin, theta)
        e = twin.model.errors
        notes.append(
            f"{name}, {runs} runs, {e['scores']} scores: median {np.median(error):.1e}, worst {error.max():.1e} on {len(error)} "
            f"unseen ({outside} outside the range); cross-validated median {e['median']:.1e}, worst {e['worst']:.1e}; estimate "
            f"above the truth for {np.mean(estimate >= error):.0%}, {np.median(estimate / error):.1f} times it in the median"
        )
    rows[-1] = common.Row(**{**vars(rows[-1]), "notes": "; ".join(notes)})
    return rows


def crowded(model: Model, crowd: int = 64) -> Model:
    """The model in batches of one shape, so that nothing is compiled again."""

    def run(z: np.ndarray) -> np.ndarray:
        whole = z[np.minimum(np.arange(-(-len(z) // crowd) * crowd), len(z) - 1)]
        return np.concatenate([model(part) for part in whole.reshape(-1, crowd, z.shape[1])])[: len(z)]

    return run


def seconds(model: Model, z: np.ndarray) -> float:
    """Processor time of the second of two calls."""
    model(z)
    start = time.process_time()
    model(z)
    return time.process_time() - start


def compare(
    case: GrowthCase, plan: Plan, models: list[Model], truth: np.ndarray, price: list[float], repeats: int, width: float, seed: int, where: str
) -> list[common.Row]:  # fmt: skip
    """Repeated experiments against plain Monte Carlo, a row for each statistic and quantity."""
    found: dict[str, list[np.ndarray]] = {"mean": [], "variance": []}
    for r in range(repeats):
        z = width * case.space.gaussian_sample(plan.length, seed, f"benchmark-repeat-{r}")
        y, good = [], np.ones(plan.length, dtype=bool)
        for place, model in enumerate(models):
            rows = plan.members(place)
            full = np.zeros((plan.length, truth.shape[1]))
            full[rows] = model(z[rows])
            if place == 0:
                good &= np.isfinite(full).all(axis=1)
            y.append(np.nan_to_num(full))
        for statistic in found:
            found[statistic].append(combine(plan, y, statistic, good).value)  # type: ignore[arg-type]
    sd = truth.std(axis=0, ddof=1)
    out = []
    for statistic, values in found.items():
        every = np.array(values)
        variance = every.var(axis=0, ddof=1)
        target = sd / 100 if statistic == "mean" else sd**2 / 10
        exact = truth.mean(axis=0) if statistic == "mean" else sd**2
        # of one run: what n runs give is this over n, for the variance up to terms in 1 / n^2
        one = sd**2 if statistic == "mean" else ((truth - truth.mean(axis=0)) ** 2).var(axis=0, ddof=1)
        difference = np.abs(every.mean(axis=0) - exact) / (sd if statistic == "mean" else sd**2)
        for q, quantity in enumerate(QUANTITIES):
            mine, theirs = variance[q] * plan.cost / target[q] ** 2, one[q] * price[0] / target[q] ** 2
            out.append(
                common.Row(
                    f"{statistic} of {quantity}, {where}", float(mine), "full-order Monte Carlo", float(theirs),
                    float(theirs / mine), difference=float(difference[q]),
                )
            )  # fmt: skip
    return out


def unseen_error(
    full: FullOrderGrowth, twin: SurrogateTwin, theta: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Relative L2 error inside the tumour at the worst visit, its estimate, and how many are outside the range."""
    found = twin.trajectory(theta)
    inside = np.flatnonzero(found.status == 0)
    errors = []
    for i in inside:
        truth = full.trajectory(theta[i : i + 1]).values[0]
        fields = twin.model.reconstruct(found.values[i])
        errors.append(max(relative_error(t, f, full.case.n_detect, truth[0]) for t, f in zip(truth, fields)))
    return np.array(errors), twin.error_estimate(theta[inside]).max(axis=1), len(theta) - len(inside)


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--spacing", type=float, default=4.0, help="voxel size, mm")
    options.add_argument("--repeats", type=int, default=10, help="experiments that measure the variance")
    common.show(measure(**vars(options.parse_args())))
