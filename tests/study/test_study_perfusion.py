"""The perfusion study on a small series whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from perfusion_case import SEEN, study_text, write_case

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.runfolder import RunFolder
from vvuq_twin.scores import crps_ensemble
from vvuq_twin.study.perfusion import GIVEN, LAST_MEAN, TWIN, PerfusionResults, perfusion
from vvuq_twin.study.perfusion_scores import (
    ErrorLaw,
    Laws,
    Predicted,
    interval_over_frames,
    last_mean,
    last_mean_given,
    persistence,
    pooled_sd,
    score,
)
from vvuq_twin.study.perfusion_spec import PerfusionSpec
from vvuq_twin.study.schema import read_study


def _spec(folder: Path, **changes: object) -> PerfusionSpec:
    path = folder / "study.yaml"
    path.write_text(study_text(**changes))
    spec, _ = read_study(path)
    assert isinstance(spec, PerfusionSpec)
    return spec


def _run(folder: Path, name: str, **case: float) -> tuple[PerfusionResults, RunFolder]:
    data = write_case(folder / f"data-{name}", **case)  # type: ignore[arg-type]
    run = RunFolder.open(folder / f"run-{name}", "kind: perfusion", {}, {})
    return perfusion(_spec(folder), data, run, lambda label, done, total: None), run


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[PerfusionResults, RunFolder]:
    return _run(tmp_path_factory.mktemp("perfusion"), "one")


def test_twin_beats_the_last_mean_where_its_model_is_true(ran: tuple[PerfusionResults, RunFolder]) -> None:
    for found in ran[0].found.values():
        twin, base = found.scores["enhancing", TWIN], found.scores["enhancing", LAST_MEAN]
        assert twin.rmse < base.rmse
        assert twin.mean_crps < 1.03 * base.mean_crps
        assert 40 < twin.coverage(50) < 62
        assert 82 < twin.coverage(90) < 97


def test_run_folder_is_complete(ran: tuple[PerfusionResults, RunFolder]) -> None:
    results, run = ran
    numbers = {(n["name"], n["of"]): n for n in json.loads((run.path / "summary.json").read_text())}
    for name in ("rmse_tumour_registered", "crps_enhancing_raw", "coverage_90_enhancing_registered"):
        assert numbers[name, TWIN]["value"] > 0
        assert numbers[name, LAST_MEAN]["unit"] == numbers[name, TWIN]["unit"]
        low, high = numbers[name, TWIN]["interval"]
        assert low <= numbers[name, TWIN]["value"] <= high
    evidence = {e.id: e for e in run.all_evidence()}
    assert evidence["verification.perfusion.step"].status == "passed"
    assert evidence["validation.perfusion.model_form"].status == "not assessed"
    for name in ("perfusion_maps", "perfusion_curves", "perfusion_registration", "perfusion_coverage"):
        assert (run.path / "figures" / f"{name}.png").stat().st_size > 10_000
    assert (run.path / "fields" / "ktrans_mean.nii.gz").exists()
    assert {e.seen for e in results.found["registered"].analysed} == {24, 28, SEEN}


def test_held_out_frames_change_no_forecast_and_runs_repeat(
    ran: tuple[PerfusionResults, RunFolder], tmp_path: Path
) -> None:
    other, _ = _run(tmp_path, "two", later=40.0)
    for name, found in ran[0].found.items():
        then, now = found.forecasts[TWIN], other.found[name].forecasts[TWIN]
        assert np.array_equal(then.mean, now.mean)
        assert np.array_equal(then.sd, now.sd)
        for method in (TWIN, GIVEN, LAST_MEAN):
            assert np.array_equal(
                found.laws[method].others.points, other.found[name].laws[method].others.points
            )
        assert found.scores["enhancing", TWIN].rmse != other.found[name].scores["enhancing", TWIN].rmse
    assert np.array_equal(ran[0].curves.where, other.curves.where)


def test_the_arterial_input_is_learned(ran: tuple[PerfusionResults, RunFolder]) -> None:
    model, a = ran[0].model, ran[0].found["raw"].analysed[-1]
    onset = model.shared.from_gaussian(a.shared)[:, 0]
    assert abs(onset.mean() - 33.0) < 3.0
    assert onset.std() < 3.0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"assimilate": 44}, "none is left to forecast"),
        ({"origins": [10]}, "not inside the frames assimilated"),
        ({"arterial_input": {"onsett": {"normal": {"mean": 1.0, "sd": 1.0}}}}, "onsett"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, changes: dict[str, object], sentence: str) -> None:
    data = write_case(tmp_path / "data")
    run = RunFolder.open(tmp_path / "run", "kind: perfusion", {}, {})
    with pytest.raises(BadInput, match=sentence):
        perfusion(_spec(tmp_path, **changes), data, run, lambda label, done, total: None)


def test_unknown_key_names_the_near_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="did you mean 'origins'"):
        _spec(tmp_path, originss=[25])


def test_error_law_scores_as_its_sample() -> None:
    rng = np.random.default_rng(1)
    law = ErrorLaw(np.sort(rng.standard_t(4, 301)))
    z = np.concatenate([rng.standard_normal(50), [-50.0, 50.0, law.points[7]]])
    expected = crps_ensemble(z, np.repeat(law.points[:, None], len(z), axis=1))
    assert np.allclose(law.crps(z), expected, atol=1e-12)
    assert np.allclose(ErrorLaw(np.zeros(1)).crps(z), np.abs(z))
    assert law.pit(np.array([-1e3, 1e3])).tolist() == [0.0, 1.0]


def test_baselines_and_missing_values() -> None:
    y = np.arange(24.0).reshape(2, 12)
    y[0, 11] = np.nan
    assert persistence(y, 12, 3, 5).mean.tolist() == [[10.0] * 3, [23.0] * 3]
    assert last_mean(y, 12, 2, 4).mean[:, 0].tolist() == [9.0, 21.5]
    truth = np.array([[1.0, np.nan], [3.0, 4.0]])
    s = score(Predicted(np.zeros((2, 2)), np.ones((2, 2))), truth, ErrorLaw(np.zeros(1)))
    assert s.count.tolist() == [2, 1]
    assert s.rmse == pytest.approx(np.sqrt(26 / 3))
    assert s.mean_crps == pytest.approx(8 / 3)
    rng = np.random.default_rng(2)
    assert np.allclose(pooled_sd(2.0 * rng.standard_normal((500, 40))).mean(), 2.0, rtol=0.05)


def test_interval_over_frames_covers_the_whole() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.uniform(1, 2, 35), np.ones(35)
    low, high = interval_over_frames((a, b), lambda v: v[0] / v[1], 7, "x")
    assert low < a.mean() < high
    assert (low, high) == interval_over_frames((a, b), lambda v: v[0] / v[1], 7, "x")


def test_baseline_given_the_breathing_takes_the_response_out() -> None:
    rng = np.random.default_rng(8)
    z = rng.standard_normal((40, 2))
    slope = np.array([[0.5, 0.0], [-0.3, 0.2]])
    y = 1.0 + slope @ z.T
    found = last_mean_given(y[:, :30], z, 5, 10, 1e3)
    held = np.clip(z, z[5:30].min(axis=0), z[5:30].max(axis=0))
    assert np.allclose(found.mean, 1.0 + slope @ held[30:].T, atol=1e-5)
    plain = last_mean_given(y[:, :30], np.zeros((40, 0)), 5, 10, 1.0)
    assert np.allclose(plain.mean, last_mean(y, 30, 10, 10).mean)


def test_laws_of_two_groups() -> None:
    rng = np.random.default_rng(9)
    inside = np.arange(200) < 100
    wide = np.where(inside, 2.0, 1.0)[:, None]
    zero = Predicted(np.zeros((200, 30)), np.ones((200, 30)))
    laws = Laws.learn([(zero, wide * rng.standard_normal((200, 30)))], inside)
    truth = wide * rng.standard_normal((200, 30))
    for rows in (inside, ~inside):
        s = laws.score(zero, truth, rows)
        assert s.count.sum() == 3000
        assert 86 < s.coverage(90) < 94
    everything = laws.score(zero, truth, np.ones(200, bool))
    assert everything.crps.sum() == pytest.approx(
        sum(laws.score(zero, truth, rows).crps.sum() for rows in (inside, ~inside))
    )
    assert laws.quantile(0.95)[0] == pytest.approx(laws.of(0).quantile(0.95))
    assert np.histogram(laws.pit(truth, inside), 4, (0, 1))[0].min() > 600
