"""Smoothers compared where the truth is one of the model's own: coverage, scores, and a long Markov chain beside."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ..assimilation.whitening import whiten
from ..calibration.crank_nicolson import crank_nicolson
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
from .growth_model import reduce_growth
from .growth_problem import GrowthProblem, growth_problem
from .growth_spec import AssimilationSpec, GrowthSpec, ReductionSpec, SchemeName
from .growth_twin import assimilate, visible
from .schema import Strict, StudySpec, read_study
from .workflow import Options

#: Changed when what is computed for a truth changes.
VERSION = "2"
#: Split R-hat above which chains are no reference.
R_HAT = 1.1
#: Entries kept of each quantity.
MEAN, SD, LOW, HIGH, CRPS, OUTCOME = range(6)


class ChainSpec(Strict):
    """The Markov chains beside the smoothers, for the first truths."""

    truths: Annotated[int, Field(ge=0)] = 2
    chains: Annotated[int, Field(ge=4)] = 50
    burn_in: Annotated[int, Field(gt=0)] = 800
    draws: Annotated[int, Field(ge=50)] = 1200


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
    rows, counts, last = [], [], None
    for name, chosen in spec.schemes.items():
        settings = problem.spec.assimilation.model_copy(update=chosen.model_dump())
        own = replace(problem, spec=problem.spec.model_copy(update={"assimilation": settings}))
        runs = 0
        result = assimilate(own, twin, run, spec.visits, spec.seed + number)
        counts.append(runs)
        rows.append(_summary(_wanted(stage, own, twin, result.posterior, result.posterior_run), outcome))
        last = result.posterior if last is None or name == "es-mda" else last
    assert last is not None
    chain, sampled = np.full((len(outcome), 6), np.nan), np.nan
    if number < spec.chain.truths:
        z, sampled = _chain(stage, problem, twin, run, last, number)
        values, _ = run(z)
        chain = _summary(_wanted(stage, problem, twin, z, values), outcome)
    return {"found": np.array([*rows, chain]), "runs": np.array(counts), "r_hat": np.array(sampled)}


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


def _chain(
    stage: _Stage,
    problem: GrowthProblem,
    twin: ReducedGrowthTwin,
    run: Any,
    ensemble: np.ndarray,
    number: int,
) -> tuple[np.ndarray, float]:
    """Draws of the posterior of all scans at once, thinned to a thousand, and the largest R-hat."""
    c = stage.spec.chain

    def log_likelihood(z: np.ndarray) -> np.ndarray:
        values, status = run(z)
        theta, total = np.asarray(problem.space.from_gaussian(z)), np.zeros(len(z))
        for v in range(1, stage.spec.visits):
            scan = problem.scans[v]
            predicted = problem.predict(scan, twin.fields(values[:, v]).at(scan.cells), theta)
            there = np.isfinite(scan.observations.y)
            error = scan.observations.error.take(np.flatnonzero(there))
            total -= 0.5 * (whiten(error, (scan.observations.y - predicted)[:, there]) ** 2).sum(axis=1)
        return np.where(status == 0, total, -np.inf)

    cov = np.cov(ensemble.T)
    # a sample covariance of few members is no reference in all directions
    cov = 0.7 * cov + 0.3 * np.diag(np.diag(cov)) + 1e-4 * np.eye(len(cov))
    centre, root = ensemble.mean(axis=0), np.linalg.cholesky(cov)
    start = (
        centre + generator(stage.spec.seed, "chains", number).standard_normal((c.chains, len(cov))) @ root.T
    )
    walk = crank_nicolson(log_likelihood, start, centre, root, c.draws, c.burn_in, stage.spec.seed, number)
    draws = walk.pooled()
    return draws[:: max(1, len(draws) // 1000)], float(walk.r_hat().max())


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
    r_hat = done.load("r_hat", good_only=True)
    days = [v.day for v in stage.problem.series.visits][spec.visits :]
    names = [f"{q}, day {d:g}" for d in days for q in ("total cellularity", "volume")]
    parameters = [stage.problem.space.names[i] for i in stage.problem.shared]
    names += [f"parameter {p}" for p in parameters]
    _judge(run, spec, found, runs, names, len(parameters))
    _beside_chain(run, spec, found, r_hat, names)
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
    run: RunFolder, spec: FiltersSpec, found: np.ndarray, r_hat: np.ndarray, names: list[str]
) -> None:
    """Each scheme's mean and spread against the Markov chains'."""
    sampled = np.flatnonzero(np.isfinite(r_hat))
    if not len(sampled):
        return
    chain = found[sampled, -1]
    rows = []
    for s, name in enumerate(spec.schemes):
        own = found[sampled, s]
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
        rows, title="Beside long Markov chains", section="calibration", order=1,
        caption=f"{len(sampled)} truths; largest split R-hat of any score {float(r_hat[sampled].max()):.3f}.",
    )  # fmt: skip
    worst = float(r_hat[sampled].max())
    run.evidence(
        Evidence(
            "calibration.chains", "model_inputs", "The Markov chains that the smoothers are compared with have converged.",
            f"split R-hat of every score below {R_HAT:g}", {"truths": len(sampled), "largest R-hat": worst},
            "passed" if worst < R_HAT else "failed",
        )
    )  # fmt: skip
    run.data("chains", {"r_hat": [float(r) for r in r_hat[sampled]]})
