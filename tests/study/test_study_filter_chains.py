"""The chains beside the smoothers sample the very likelihood that the smoothers assume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from vvuq_twin.calibration.likelihood import BAD
from vvuq_twin.domain.keys import generator
from vvuq_twin.domain.runfolder import RunFolder
from vvuq_twin.ensemble.store import Ensemble
from vvuq_twin.study.filter_chains import scans_likelihood
from vvuq_twin.study.filters import DIAGNOSTICS, FiltersSpec, _Stage, _stage
from vvuq_twin.study.growth_problem import GrowthProblem
from vvuq_twin.study.schema import read_study
from vvuq_twin.study.workflow import Options, run_study
from vvuq_twin.twin.growth import ReducedGrowthTwin

SMALL = Path(__file__).resolve().parents[1] / "cli" / "growth_small.yaml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("filters")
    growth = yaml.safe_load(SMALL.read_text())
    (where / "growth.yaml").write_text(yaml.safe_dump(growth))
    filters = {
        "kind": "filters", "title": "Two truths", "use": growth["use"], "seed": 3, "study": "growth.yaml", "truths": 2,
        "patient_seed": 40, "spacing_mm": 8.0, "step_days": 2.0,
        "reduction": {"training": 8, "greedy": 0, "modes": 24, "validation": 4, "rounds": 0, "tolerance": 0.02},
        "members": 40, "schemes": {"es-mda": {"scheme": "es-mda", "steps": 2}},
        "chain": {"truths": 1, "chains": 2, "pilot": 50, "tune": 50, "draws": 50},
    }  # fmt: skip
    (where / "study.yaml").write_text(yaml.safe_dump(filters))
    return where


@pytest.fixture(scope="module")
def stage(folder: Path) -> _Stage:
    spec, _ = read_study(folder / "study.yaml")
    assert isinstance(spec, FiltersSpec)
    found = _stage(spec, folder, folder / "stage.pickle", lambda *_: None).load()
    assert isinstance(found, _Stage)
    return found


def blotted(problem: GrowthProblem) -> GrowthProblem:
    """The problem with every seventh value missing."""
    scans = []
    for scan in problem.scans:
        y = scan.observations.y.copy()
        y[3::7] = np.nan
        scans.append(replace(scan, observations=replace(scan.observations, y=y)))
    return replace(problem, scans=tuple(scans))


def test_log_likelihood_is_that_of_the_smoothers_predictions_with_the_whole_error(stage: _Stage) -> None:
    problem, visits = blotted(stage.problem), stage.spec.visits
    twin = ReducedGrowthTwin(problem.case, stage.reduced)
    likelihood = scans_likelihood(problem, stage.reduced, visits)
    z = 0.5 * generator(1, "scores").standard_normal((6, problem.space.size))
    theta = np.asarray(problem.space.from_gaussian(z))
    run = twin.trajectory(theta)
    assert (run.status == 0).all()
    expected = np.zeros(len(z))
    for v in range(1, visits):
        scan = problem.scans[v]
        there = np.isfinite(scan.observations.y)
        assert not there.all()
        error = scan.observations.error
        assert error.factor.shape[1] > 1
        R = (np.diag(error.voxel**2) + error.factor @ error.factor.T)[np.ix_(there, there)]
        predicted = problem.predict(scan, twin.fields(run.values[:, v]).at(scan.cells), theta)
        off = (scan.observations.y - predicted)[:, there]
        expected -= 0.5 * np.einsum("ni,ni->n", off, np.linalg.solve(R, off.T).T)
        expected -= 0.5 * (np.linalg.slogdet(R)[1] + there.sum() * np.log(2.0 * np.pi))
    found = [likelihood(row)[0] for row in z]
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert np.ptp(expected) > 1.0


def test_the_gradient_is_that_of_the_smooth_count(stage: _Stage) -> None:
    smooth = scans_likelihood(stage.problem, stage.reduced, stage.spec.visits, counted=False)
    counted = scans_likelihood(stage.problem, stage.reduced, stage.spec.visits)
    z = 0.3 * generator(2, "scores").standard_normal(stage.problem.space.size)
    value, slope = smooth(z)
    for i in range(0, len(z), 3):
        e = np.zeros(len(z))
        e[i] = 1e-5
        assert slope[i] == pytest.approx((smooth(z + e)[0] - smooth(z - e)[0]) / 2e-5, rel=1e-3, abs=1e-3)
    own, towards = counted(z)
    # a count of voxels is not its smooth count, but near it
    assert own != value and own == pytest.approx(value, abs=0.05 * abs(value))
    assert towards @ slope > 0.9 * np.linalg.norm(towards) * np.linalg.norm(slope)


def test_a_member_that_cannot_be_run_turns_the_sampler_back(stage: _Stage) -> None:
    likelihood = scans_likelihood(stage.problem, stage.reduced, stage.spec.visits)
    z = np.zeros(stage.problem.space.size)
    z[stage.problem.space.index("D_white")] = 30.0
    value, slope = likelihood(z)
    assert value == BAD and not slope.any() and likelihood.bad == 1


@pytest.mark.slow
def test_a_study_has_chains_for_the_truths_it_asks_for(folder: Path) -> None:
    run_study(folder / "study.yaml", folder / "run", Options(workers=1))
    found = Ensemble(folder / "run" / "results.zarr")
    assert found.good.tolist() == [0, 1]
    sampled, summaries = found["sampled"][:], found["found"][:]
    assert np.isfinite(sampled[0]).all() and np.isnan(sampled[1]).all()
    told = dict(zip(DIAGNOSTICS, sampled[0]))
    assert told["r_hat"] < 1.3 and told["gradients"] > 2 * 4 * 50
    chain, smoother = summaries[0, -1], summaries[0, 0]
    assert (chain[:, 1] > 0).all()
    # of the same posterior, one from few draws, the other from few members
    assert np.sqrt(np.mean(((smoother[:, 0] - chain[:, 0]) / chain[:, 1]) ** 2)) < 2.0
    evidence = {e.id: e for e in RunFolder.existing(folder / "run").all_evidence()}
    assert evidence["calibration.chains"].result["truths"] == 1
