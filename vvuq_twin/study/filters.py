"""Smoothers compared where the truth is one of the model's own: coverage, scores, and a long Markov chain beside."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ..domain.errors import RunFailed
from ..domain.evidence import Evidence
from ..domain.files import sha256, write_bytes
from ..domain.keys import generator, member_normals
from ..domain.runfolder import Number, RunFolder
from ..ensemble.cluster import cluster
from ..ensemble.context import Context
from ..ensemble.run import run_batches
from ..reduction.growth import ReducedGrowth
from ..scores import central_interval, crps_ensemble
from ..twin.growth import ReducedGrowthTwin
from ..validation import coverage_evidence, judge_coverage
from .exposure import exposure_map
from .filter_chains import sample_scans
from .growth_model import reduce_growth
from .growth_problem import GrowthProblem, growth_problem
from .growth_spec import AssimilationSpec, GrowthSpec, ReductionSpec, SchemeName
from .growth_twin import assimilate, visible
from .schema import Strict, StudySpec, read_study
from .workflow import Options

#: Changed when what is computed for a truth changes.
VERSION = "3"
#: Chains are no reference above this R-hat, or below these effective draws of the centre and the tails.
R_HAT, ESS = 1.05, 400.0
#: Entries kept of each quantity.
MEAN, SD, LOW, HIGH, CRPS, OUTCOME = range(6)
#: What is kept of the chains of a truth (:class:`~vvuq_twin.study.filter_chains.Sampled`).
DIAGNOSTICS = ("r_hat", "ess_bulk", "ess_tail", "gradients", "failed", "divergent")


class ChainSpec(Strict):
    """The Markov chains beside the smoothers, for the first truths."""

    truths: Annotated[int, Field(ge=0)] = 3
    chains: Annotated[int, Field(ge=2)] = 4
    pilot: Annotated[int, Field(ge=20)] = 100
    tune: Annotated[int, Field(ge=20)] = 100
    draws: Annotated[int, Field(ge=50)] = 400


class SchemeSpec(Strict):
    """A smoother with its steps."""

    scheme: SchemeName
    steps: Annotated[int, Field(gt=0)]
    sampling_inflation: bool = False


class FiltersSpec(StudySpec):
    """A comparison of smoothers on virtual gliomas drawn from the twin's own prior."""

    study: str
    truths: Annotated[int, Field(ge=2)]
    patient_seed: Annotated[int, Field(ge=0)]
    spacing_mm: Annotated[float, Field(gt=0)]
    refine: Annotated[int, Field(ge=2)] = 2
    step_days: Annotated[float, Field(gt=0)] = 1.0
    reduction: ReductionSpec
    visits: Annotated[int, Field(ge=2)] = 4
    members: Annotated[int, Field(ge=20)] = 100
    schemes: dict[str, SchemeSpec]
    chain: ChainSpec = ChainSpec()

    def growth(self, folder: Path) -> GrowthSpec:
        """The growth study's settings with this comparison's sizes."""
        spec, _ = read_study(folder / self.study)
        assert isinstance(spec, GrowthSpec)
        model = spec.model.model_copy(update={"step_days": self.step_days})
        assimilation = AssimilationSpec(visits=self.visits, members=self.members)
        return spec.model_copy(
            update={
                "reduction": self.reduction,
                "assimilation": assimilation,
                "model": model,
                "seed": self.seed,
            }
        )


@dataclass(frozen=True)
class _Stage:
    """What every truth shares."""

    problem: GrowthProblem
    reduced: ReducedGrowth
    spec: FiltersSpec


def _load(path: str) -> _Stage:
    found = pickle.loads(Path(path).read_bytes())
    assert isinstance(found, _Stage)
    return found


def _stage(spec: FiltersSpec, folder: Path, path: Path, progress: Any) -> Context:
    """One virtual patient's problem and reduced model, made once and kept in the run folder."""
    from ..virtual.glioma import make_patient

    if not path.exists():
        patient = make_patient(spec.patient_seed, spec.spacing_mm, spec.refine)
        exposure = exposure_map(patient.scans)
        weight = None if exposure is None else exposure.weight
        problem = growth_problem(patient.scans, spec.growth(folder), weight, spec.visits)
        reduced = reduce_growth(problem.case, spec.reduction, spec.seed, None, progress).reduced
        write_bytes(path, pickle.dumps(_Stage(problem, reduced, spec), protocol=5))
    return Context(_load, (str(path.resolve()),), sha256(path))


def one_truth(numbers: np.ndarray, members: np.ndarray, stage: _Stage) -> dict[str, np.ndarray]:
    """Batch function: draw a truth, make its scans, let every smoother and the chains find it again."""
    found = [_one(stage, int(k)) for k in numbers[:, 0]]
    return {name: np.array([f[name] for f in found]) for name in found[0]}


def _one(stage: _Stage, number: int) -> dict[str, np.ndarray]:
    problem, spec = stage.problem, stage.spec
    twin = ReducedGrowthTwin(problem.case, stage.reduced)
    runs = 0

    def run(z: np.ndarray, label: str = "") -> tuple[np.ndarray, np.ndarray]:
        nonlocal runs
        runs += len(z)
        batch = 50
        theta = np.asarray(twin.space.from_gaussian(z))
        parts = [twin.trajectory(theta[i : i + batch]) for i in range(0, len(z), batch)]
        return np.concatenate([p.values for p in parts]), np.concatenate([p.status for p in parts])

    truth = member_normals(spec.seed, "truth", [number], problem.space.size)
    values, failed = run(truth)
    if failed.any():
        raise RunFailed(f"truth {number} could not be run")
    problem = _scanned(stage, problem, twin, truth, values, number)
    outcome = _wanted(stage, problem, twin, truth, values)[0]
    rows, counts = [], []
    for chosen in spec.schemes.values():
        settings = problem.spec.assimilation.model_copy(update=chosen.model_dump())
        own = replace(problem, spec=problem.spec.model_copy(update={"assimilation": settings}))
        runs = 0
        result = assimilate(own, twin, run, spec.visits, spec.seed + number)
        counts.append(runs)
        rows.append(_summary(_wanted(stage, own, twin, result.posterior, result.posterior_run), outcome))
    chain, sampled = np.full((len(outcome), 6), np.nan), np.full(len(DIAGNOSTICS), np.nan)
    if number < spec.chain.truths:
        c = spec.chain
        drawn = sample_scans(
            problem, stage.reduced, spec.visits, spec.seed + number, c.chains, c.pilot, c.tune, c.draws
        )
        sampled = np.array([float(getattr(drawn, name)) for name in DIAGNOSTICS])
        values, _ = run(drawn.z)
        chain = _summary(_wanted(stage, problem, twin, drawn.z, values), outcome)
    return {"found": np.array([*rows, chain]), "runs": np.array(counts), "sampled": sampled}


def _scanned(
    stage: _Stage,
    problem: GrowthProblem,
    twin: ReducedGrowthTwin,
    truth: np.ndarray,
    values: np.ndarray,
    number: int,
) -> GrowthProblem:
    """The problem with scans of the truth: predicted, with a draw of the whole error; missing where they were."""
    scans = list(problem.scans)
    theta = np.asarray(problem.space.from_gaussian(truth))
    for v in range(1, stage.spec.visits):
        scan = scans[v]
        cells = twin.fields(values[:, v]).at(scan.cells)
        error = scan.observations.error
        normals = generator(stage.spec.seed, "scan", number, v).standard_normal(
            (1, len(error.voxel) + error.factor.shape[1])
        )
        y = problem.predict(scan, cells, theta)[0] + error.perturbations(normals)[0]
        y = np.where(np.isnan(scan.observations.y), np.nan, y)
        scans[v] = replace(scan, observations=replace(scan.observations, y=y))
    return replace(problem, scans=tuple(scans))


def _wanted(
    stage: _Stage, problem: GrowthProblem, twin: ReducedGrowthTwin, z: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """Total and volume (cm3) at the held-out visits, then the shared parameters' scores, shape (N, Q)."""
    held = [np.array(visible(problem, twin, values[:, v])) for v in range(stage.spec.visits, values.shape[1])]
    return np.concatenate([np.concatenate(held).T, z[:, stage.problem.shared]], axis=1)


def _summary(sample: np.ndarray, outcome: np.ndarray) -> np.ndarray:
    """Mean, deviation, 90 % bounds, CRPS and the outcome of each quantity, shape (Q, 6)."""
    low, high = central_interval(sample, 0.9)
    return np.array(
        [sample.mean(axis=0), sample.std(axis=0, ddof=1), low, high, crps_ensemble(outcome, sample), outcome]
    ).T


def filters(spec: FiltersSpec, data: Path | None, run: RunFolder, options: Options, folder: Path) -> None:
    """Compare the smoothers and judge them.

    Raises
    ------
    RunFailed
        If no truth could be run.
    """
    context = _stage(spec, folder, run.path / "work" / "stage.pickle", options.progress)
    stage = context.load()
    with cluster(options.workers, options.cluster, run.path / "work") as client:
        done = run_batches(
            one_truth, np.arange(spec.truths, dtype=float)[:, None], run.path / "results.zarr", 1, client, "truths",
            lambda n, total: options.progress("truths", n, total), context, VERSION, allow_nan=True,
        )  # fmt: skip
    found, runs = done.load("found", good_only=True), done.load("runs", good_only=True)
    sampled = done.load("sampled", good_only=True)
    days = [v.day for v in stage.problem.series.visits][spec.visits :]
    names = [f"{q}, day {d:g}" for d in days for q in ("total cellularity", "volume")]
    parameters = [stage.problem.space.names[i] for i in stage.problem.shared]
    names += [f"parameter {p}" for p in parameters]
    _judge(run, spec, found, runs, names, len(parameters))
    _beside_chain(run, spec, found, sampled, names)
    if len(done.failed):
        run.text(
            "failed", "limitations", f"{len(done.failed)} truths could not be run; they are not counted."
        )


def _judge(
    run: RunFolder, spec: FiltersSpec, found: np.ndarray, runs: np.ndarray, names: list[str], parameters: int
) -> None:
    """Coverage over truths of every quantity, and means of the scores."""
    rows: list[list[Any]] = []
    forecast = slice(0, len(names) - parameters)
    for s, name in enumerate(spec.schemes):
        own = found[:, s]
        inside = (own[..., OUTCOME] >= own[..., LOW]) & (own[..., OUTCOME] <= own[..., HIGH])
        judged = {q: judge_coverage(inside[:, i].astype(float), 0.9) for i, q in enumerate(names)}
        run.evidence(
            coverage_evidence(
                f"validation.coverage.{name}",
                f"The 90 % intervals of {name} hold forecasts and parameters of truths drawn from the prior.", judged,
            )
        )  # fmt: skip
        share = inside.mean(axis=0)
        outcome = np.maximum(own[:, forecast, OUTCOME], 0.5)
        width = np.median((own[:, forecast, HIGH] - own[:, forecast, LOW]) / outcome)
        rows.append(
            [name, float(runs[:, s].mean()), 100 * float(share[forecast].mean()), 100 * float(share[forecast.stop :].mean()),
             100 * float(share.min()), names[int(share.argmin())], float(own[:, forecast, CRPS].mean()),
             float(own[:, forecast.stop :, CRPS].mean()), float(width)]
        )  # fmt: skip
        run.summary(
            Number(f"coverage_90_{name}", float(share.mean()), "1", group="coverage", of=name),
            Number(f"crps_{name}", float(own[:, forecast, CRPS].mean()), "cm3", group="scores", of=name),
        )
    run.table(
        "filters",
        [("scheme", ""), ("model runs a truth", ""), ("forecasts covered", "%"), ("parameters covered", "%"), ("least covered", "%"),
         ("which", ""), ("CRPS, forecasts", "cm3"), ("CRPS, parameters", "prior sd"), ("median width over outcome", "")],
        rows, title="Smoothers on truths from the prior", section="validation", order=1,
        caption=f"90 % intervals, {len(found)} truths, {spec.members} members.",
    )  # fmt: skip


def _beside_chain(
    run: RunFolder, spec: FiltersSpec, found: np.ndarray, sampled: np.ndarray, names: list[str]
) -> None:
    """Each scheme's mean and spread against the Markov chains', and whether these have converged.

    ``sampled`` has :data:`DIAGNOSTICS` of each truth, NaN where it has no chains.
    """
    which = np.flatnonzero(np.isfinite(sampled[:, 0]))
    if not len(which):
        return
    chain, told = found[which, -1], dict(zip(DIAGNOSTICS, sampled[which].T))
    worst, bulk, tail = told["r_hat"].max(), told["ess_bulk"].min(), told["ess_tail"].min()
    rows = []
    for s, name in enumerate(spec.schemes):
        own = found[which, s]
        off = (own[..., MEAN] - chain[..., MEAN]) / chain[..., SD]
        ratio = own[..., SD] / chain[..., SD]
        rows.append(
            [name, float(np.sqrt(np.mean(off**2))), float(np.median(ratio)), float(ratio.min()), float(ratio.max()),
             names[int(np.abs(off).max(axis=0).argmax())]]
        )  # fmt: skip
        run.summary(
            Number(
                f"off_chain_{name}", float(np.sqrt(np.mean(off**2))), "posterior sd", group="mcmc", of=name
            )
        )
    run.table(
        "chain",
        [("scheme", ""), ("mean off the chains' (root mean square)", "posterior sd"), ("median spread over the chains'", ""),
         ("smallest", ""), ("largest", ""), ("farthest off in", "")],
        rows, title="Beside Markov chains", section="calibration", order=1,
        caption=f"{len(which)} truths; of any score the largest R-hat is {worst:.3f}, the least effective draws "
        f"{bulk:.0f} (bulk) and {tail:.0f} (tail).",
    )  # fmt: skip
    run.evidence(
        Evidence(
            "calibration.chains", "model_inputs", "The Markov chains that the smoothers are compared with have converged.",
            f"rank-normalised split R-hat of every score below {R_HAT:g}, at least {ESS:g} effective draws of its bulk and "
            "its tails, no divergent transition but those that failed runs of the model make",
            {"truths": len(which), **{name: values.tolist() for name, values in told.items()}},
            "passed" if worst < R_HAT and min(bulk, tail) >= ESS and (told["divergent"] <= told["failed"]).all() else "failed",
        )
    )  # fmt: skip
    run.data("chains", {name: values.tolist() for name, values in told.items()})
