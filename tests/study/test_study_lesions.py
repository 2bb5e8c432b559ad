"""The lesion study: its table, its twin against simulation, and a small run from end to end."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.runfolder import RunFolder
from vvuq_twin.study.lesion_checks import virtual_pit, virtual_table
from vvuq_twin.study.lesion_filter import assimilate, forecast, log_volume, rounding_mm
from vvuq_twin.study.lesion_folds import FoldSettings, forecast_fold, levels
from vvuq_twin.study.lesion_scores import binomial_interval, bootstrap_mean, covered
from vvuq_twin.study.lesion_table import LesionTable, read_lesions
from vvuq_twin.study.lesions import LesionSpec, lesions
from vvuq_twin.study.schema import read_study
from vvuq_twin.twin.lesion import LesionPopulation, nodes, simulate, transition, vanish_probability

POPULATION = LesionPopulation(
    volatility=0.1, volatility_spread=0.5, reading=0.02, jump=0.05, jump_mean=-0.2, jump_sd=0.5, still=0.2,
    still_spread=1.4, drift=0.03, start=-0.01, start_sd=0.1, trend_sd=0.04, trend_time=3.0, vanish=0.03,
    vanish_power=2.0, back=0.02,
)  # fmt: skip
GOOD = "patient,study,day,diameter_mm\nA,1,-3,20\nA,1,42,18\nB,2,0,9.5\nB,2,40,0\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


def table(diameters: list[list[float]]) -> LesionTable:
    d = np.array(diameters, dtype=float)
    n, v = d.shape
    day = np.tile(42.0 * np.arange(v), (n, 1))
    return LesionTable(tuple(f"P{i}" for i in range(n)), np.full(n, v), day, d, np.zeros(n, dtype=int))


def test_a_table_is_read(tmp_path: Path) -> None:
    found = read_lesions(write(tmp_path, GOOD))
    assert found.patient == ("A", "B")
    np.testing.assert_array_equal(found.diameter_mm, [[20, 18], [9.5, 0]])
    np.testing.assert_array_equal(found.group, [0, 1])
    np.testing.assert_array_equal(read_lesions(tmp_path).day, found.day)


def test_units_are_converted_and_whole_millimetres_stay_whole(tmp_path: Path) -> None:
    found = read_lesions(write(tmp_path, "patient,day,diameter_cm\nA,0,1.1\nA,42,2.3\n"))
    np.testing.assert_array_equal(found.diameter_mm, [[11.0, 23.0]])
    np.testing.assert_array_equal(rounding_mm(found.diameter_mm), 1.0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("patient,diameter_mm\nA,3\n", "column 'day' is missing"),
        ("patient,days,diameter_mm\nA,0,3\n", "did you mean 'days'"),
        ("patient,day\nA,3\n", "0 columns of diameters"),
        ("patient,day,diameter_mm\nA,0,-3\n", "negative"),
        ("patient,day,diameter_parsnips\nA,0,3\n", "'parsnips' is not known"),
        ("patient,day,diameter_s\nA,0,3\n", "cannot be converted"),
        ("patient,day,diameter_mm\nA,0,x\n", "'x' in column 'diameter_mm' is not a number"),
        ("patient,day,diameter_mm\nA,0,nan\n", "not finite"),
        ("patient,day,diameter_mm\nA,0,\n", "not a number"),
        ("patient,day,diameter_mm\nA,0,3\nA,0,4\n", "do not increase"),
        ("patient,day,diameter_mm\nA,9,3\nA,5,4\n", "do not increase"),
        ("patient,day,diameter_mm\nA,9\n", "has not 3 fields"),
        ("patient,day,diameter_mm\n,9,3\n", "no name"),
        ("patient,day,diameter_mm\n", "no rows"),
        ("", "column 'patient' is missing"),
        ("patient,day,diameter_mm,study\nA,0,3,1\nA,9,3,2\n", "two trials"),
    ],
)
def test_a_bad_table_is_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_lesions(write(tmp_path, text))
    sentence = str(caught.value)
    assert says in sentence and "table.csv" in sentence
    assert sentence[-1] in ".?" and "\n" not in sentence


def test_known_irregular_days_are_mended_and_no_others(tmp_path: Path) -> None:
    path = write(tmp_path, "patient,day,diameter_mm\nA,0,5\nA,50,7\nA,42,6\nA,50,7\n")
    found = read_lesions(path, ["A"])
    np.testing.assert_array_equal(found.day, [[0, 42, 50]])
    assert found.mended == ("A",)
    write(tmp_path, "patient,day,diameter_mm\nA,0,5\nA,0,7\n")
    with pytest.raises(BadInput, match="two diameters on day 0"):
        read_lesions(path, ["A"])


def test_the_transition_composes() -> None:
    """Two intervals one after another are one long interval (Chapman-Kolmogorov)."""
    a = transition(POPULATION, np.array(30.0), np.array(0.1))
    b = transition(POPULATION, np.array(51.0), np.array(0.1))
    whole = transition(POPULATION, np.array(81.0), np.array(0.1))
    np.testing.assert_allclose(b[0] @ a[0], whole[0], rtol=1e-13)
    np.testing.assert_allclose(b[0] @ a[1] + b[1], whole[1], rtol=1e-11)
    np.testing.assert_allclose(b[0] @ a[2] @ b[0].T + b[2], whole[2], rtol=1e-10)


def test_probabilities_of_all_readings_sum_to_one() -> None:
    """The log score is that of a distribution over millimetres and 'not seen', copies included."""
    readings = np.arange(0.0, 400.0)
    many = table([[20.0, 22.0, 22.0, r] for r in readings])
    _, score = assimilate(POPULATION, many)
    assert np.exp(score[:, 3]).sum() == pytest.approx(1.0, abs=2e-3)


def test_the_forecast_agrees_with_the_score() -> None:
    """Members of the forecast and the log score are two views of one distribution."""
    many = table([[20.0, 22.0, 22.0, r] for r in np.arange(0.0, 60.0)])
    posteriors, score = assimilate(POPULATION, many)
    three = posteriors[2].take(np.array([0]))
    members = forecast(POPULATION, three, np.array([[42.0]]), 3.0).members(levels(20000), 3.0)[:, 0]
    for r in (0, 15, 20, 21, 22, 23, 30):
        chance = np.exp(score[r, 3])
        assert np.mean(members == r) == pytest.approx(chance, abs=2e-3 + 0.01 * chance)


def test_two_scans_ahead_agree_with_simulation() -> None:
    """A forecast through the same history as the simulation that made it; wide nodes, no merging error."""
    population = LesionPopulation(**(vars(POPULATION) | {"volatility_spread": 1e-6, "still_spread": 1e-6,
                                                       "reading": 1e-4, "start_sd": 1e-6}))  # fmt: skip
    n = 40000
    days = np.tile([0.0, 42.0, 84.0], (n, 1))
    truth = simulate(population, days, np.full(n, 100.0), np.random.default_rng(5))
    grid = nodes(population)
    posterior = assimilate(population, table([[100.0]]), grid)[0][0]
    found = forecast(population, posterior, np.array([[42.0, 84.0]]), 3.0, grid)
    members = found.members(levels(2000), 3.0)[:, 0]
    assert np.mean(members == 100.0) == pytest.approx(np.mean(truth[:, 2] == 100.0), abs=0.01)
    for q in (0.02, 0.1, 0.3, 0.7, 0.9, 0.98):
        assert np.quantile(members, q) == pytest.approx(np.quantile(truth[:, 2], q), abs=1.6)


def test_vanished_lesions_mostly_stay_away() -> None:
    posterior = assimilate(POPULATION, table([[20.0, 0.0], [20.0, 21.0]]))[0][1]
    found = forecast(POPULATION, posterior, np.array([[42.0], [42.0]]), 3.0)
    assert found.vanished[0] == pytest.approx(1 - POPULATION.back)
    assert found.vanished[1] == pytest.approx(float(vanish_probability(POPULATION, np.array(21.0))))
    np.testing.assert_allclose(found.vanished + found.copied + found.weight.sum(axis=1), 1.0, rtol=1e-12)


def test_a_patient_who_stood_still_is_expected_to_do_so_again() -> None:
    quiet, lively = [20.0] * 5, [20.0, 24.0, 19.0, 27.0, 21.0]
    posterior = assimilate(POPULATION, table([quiet, lively]))[0][-1]
    found = forecast(POPULATION, posterior, np.array([[42.0], [42.0]]), 3.0)
    assert found.copied[0] > 2 * found.copied[1]
    spread = np.quantile(found.members(levels(400), 3.0), [0.05, 0.95], axis=0)
    assert spread[1, 1] - spread[0, 1] > 1.5 * (spread[1, 0] - spread[0, 0])


def test_forecasts_of_patients_drawn_from_the_model_cover_as_they_say() -> None:
    transform = virtual_pit(POPULATION, FoldSettings(3.0), 1500, 11)
    for level in (0.5, 0.9):
        low, high = binomial_interval(int(covered(transform, level).sum()), len(transform), 0.999)
        assert low <= level <= high


def test_a_forecast_does_not_see_what_comes_after() -> None:
    one = virtual_table(POPULATION, 60, 6, 3)
    other = LesionTable(one.patient, one.visits, one.day, one.diameter_mm.copy(), one.group)
    other.diameter_mm[:, 3:] = 55.0
    a, b = (forecast_fold(POPULATION, one, t, FoldSettings(3.0)) for t in (one, other))
    np.testing.assert_array_equal(a.twin[:, a.task == "after_first"], b.twin[:, b.task == "after_first"])


def test_censored_volume_and_scores() -> None:
    assert log_volume(np.array(0.0), 3.0) == log_volume(np.array(3.0), 3.0)
    assert log_volume(np.array(10.0), 3.0) == pytest.approx(np.log(520.0))
    low, high = binomial_interval(45, 50, 0.95)
    assert stats.binom.sf(44, 50, low) == pytest.approx(0.025)
    assert stats.binom.cdf(45, 50, high) == pytest.approx(0.025)
    mean, (least, most) = bootstrap_mean(np.array([1.0, 1.0, 3.0]), np.array(["a", "a", "b"]), 1, "x", 2000)
    assert mean == pytest.approx(5 / 3) and (least, most) == (1.0, 3.0)


def spec(**changes: object) -> LesionSpec:
    use = {"question": "q", "context_of_use": "c", "model_influence": "low", "decision_consequence": "low"}
    given = {"kind": "lesions", "title": "t", "use": use, "seed": 5, "detection_mm": 3.0, "folds": 2,
             "iterations": 2, "members": 50, "bootstrap": 200}  # fmt: skip
    return LesionSpec.model_validate(given | changes)


def as_csv(found: LesionTable, path: Path) -> Path:
    rows = [
        f"{name},{found.day[i, j]:g},{found.diameter_mm[i, j]:g}"
        for (i, name), j in product(enumerate(found.patient), range(found.day.shape[1]))
    ]
    path.write_text("\n".join(["patient,day,diameter_mm", *rows]) + "\n")
    return path


def test_a_run_leaves_its_numbers_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    data = as_csv(virtual_table(POPULATION, 60, 6, 3), tmp_path / "virtual.csv")
    seen: list[tuple[int, int]] = []
    run = RunFolder.open(tmp_path / "run", "x: 1\n", {}, {})
    first = lesions(spec(), data, run, lambda label, done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] and len(seen) > 2
    numbers = json.loads((run.path / "summary.json").read_text())
    names = {(n["name"], n["of"]) for n in numbers}
    for name in ("crps_log_volume_after_first", "mae_log_volume_last_scans", "coverage_90_rolling"):
        assert {(name, "forecast"), (name, "baseline: calibrated persistence")} <= names
    assert all(np.isfinite(n["value"]) for n in numbers)
    statuses = {e.id: e.status for e in run.all_evidence()}
    assert statuses["forecast.lesions.coverage.after_first.1"] == "not assessed"  # fewer than 100 patients
    for name in ("lesion_patients", "lesion_pit", "lesion_crps"):
        assert (run.path / "figures" / f"{name}.png").stat().st_size > 5000
    again: list[int] = []
    (run.path / "folds" / "fold_2.json").unlink()
    second = lesions(spec(), data, run, lambda label, done, total: again.append(done))
    assert len(again) < len(seen)
    np.testing.assert_array_equal(first.scored.crps_twin, second.scored.crps_twin)
    assert first.populations == second.populations


def test_too_few_patients_are_refused(tmp_path: Path) -> None:
    data = as_csv(virtual_table(POPULATION, 3, 6, 3), tmp_path / "virtual.csv")
    run = RunFolder.open(tmp_path / "run", "x: 1\n", {}, {})
    with pytest.raises(BadInput, match="too few for 2 folds"):
        lesions(spec(), data, run, lambda label, done, total: None)


def test_the_study_file_is_valid() -> None:
    study, _ = read_study(Path(__file__).parents[2] / "studies" / "lesion_series" / "study.yaml")
    assert isinstance(study, LesionSpec)


def test_the_real_table_is_read(shared_data: Path) -> None:
    study, _ = read_study(Path(__file__).parents[2] / "studies" / "lesion_series" / "study.yaml")
    assert isinstance(study, LesionSpec)
    folder = shared_data / "lesion_series"
    found = read_lesions(folder, study.irregular_days)
    assert len(found) == 622 and found.visits.min() == 3
    assert set(found.mended) == set(study.irregular_days)
    with pytest.raises(BadInput, match="do not increase"):
        read_lesions(folder)
