"""Coverage over patients, bootstrap over patients, and the table of scores."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy import stats

from vvuq_twin import validation
from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.keys import generator


@pytest.mark.parametrize("hits, trials", [(0, 10), (3, 10), (90, 100), (10, 10)])
@pytest.mark.parametrize("confidence", [0.9, 0.99])
def test_binomial_interval_is_clopper_pearson(hits, trials, confidence):
    low, high = validation.binomial_interval(hits, trials, confidence)
    exact = stats.binomtest(hits, trials).proportion_ci(confidence, method="exact")
    assert (low, high) == (pytest.approx(exact.low, abs=1e-12), pytest.approx(exact.high, abs=1e-12))


def test_coverage_of_one_interval_a_patient():
    judged = validation.judge_coverage(np.r_[np.ones(84), np.zeros(16)], 0.9)
    assert judged.observed == 0.84 and judged.patients == judged.intervals == 100
    exact = stats.binomtest(84, 100).proportion_ci(0.99, method="exact")
    assert (judged.lower, judged.upper) == (pytest.approx(exact.low), pytest.approx(exact.high))
    assert judged.width == pytest.approx(exact.high - exact.low)
    assert judged.status == "passed"
    assert validation.judge_coverage(np.r_[np.ones(75), np.zeros(25)], 0.9).status == "failed"
    # too wide is a failure as well
    assert validation.judge_coverage(np.ones(200), 0.9).status == "failed"
    assert validation.judge_coverage(np.r_[np.ones(9), 0.0], 0.9).status == "not assessed"
    assert validation.judge_coverage(np.zeros(10), 0.9).status == "failed"


def test_many_visits_of_a_patient_do_not_make_patients():
    hits = np.zeros((100, 50))
    hits[:85] = 1.0  # all visits of a patient alike
    hits[0, 3:] = np.nan  # one that left early counts like the others
    judged = validation.judge_coverage(hits, 0.9)
    assert judged.patients == 100 and judged.observed == pytest.approx(0.85) and judged.intervals == 4953
    single = validation.judge_coverage(hits[:, 0], 0.9)
    assert judged.width == pytest.approx(single.width)


def test_a_right_method_is_seldom_failed_and_a_wrong_one_found():
    rng = generator(1, "judging")
    verdicts = {
        p: [validation.judge_coverage(rng.uniform(size=100) < p, 0.9).status for _ in range(400)]
        for p in (0.9, 0.7)
    }
    assert np.mean([v == "failed" for v in verdicts[0.9]]) <= 0.02
    assert np.mean([v == "failed" for v in verdicts[0.7]]) > 0.95


def test_coverage_evidence_keeps_failures_and_is_json(tmp_path):
    good = validation.judge_coverage(np.r_[np.ones(90), np.zeros(10)], 0.9)
    bad = validation.judge_coverage(np.r_[np.ones(40), np.zeros(60)], 0.9)
    few = validation.judge_coverage(np.ones(5), 0.9)
    made = validation.coverage_evidence("a.b", "claim", {"volume": good, "mass": bad}, {"width_90_cm3": 3.0})
    assert made.status == "failed" and made.result["width_90_cm3"] == 3.0
    assert made.result["coverage"]["mass"]["observed"] == 0.4
    assert "99 %" in made.acceptance and "90 %" in made.acceptance and "100 patients" in made.acceptance
    assert validation.coverage_evidence("a.b", "claim", {"volume": good}).status == "passed"
    assert validation.coverage_evidence("a.b", "claim", {"volume": good, "few": few}).status == "not assessed"
    assert json.loads(made.write(tmp_path).read_text())["result"]["coverage"]["volume"]["status"] == "passed"


def cohort(patients, cases, seed, shift=0.0):
    """Observations with a patient effect; a calibrated and a shifted Gaussian forecast."""
    rng = generator(seed, "cohort")
    who = np.repeat(np.arange(patients), cases)
    mean = rng.standard_normal(patients * cases)
    y = mean + 0.6 * rng.standard_normal(patients)[who] + 0.8 * rng.standard_normal(len(who))
    return who, y, mean + shift


def test_bootstrap_interval_of_the_mean_has_the_right_width_and_counts_patients():
    patients, cases = 400, 5
    rng = generator(2, "bootstrap")
    who = np.repeat(np.arange(patients), cases)
    effect = rng.standard_normal(patients)
    a = 3.0 + effect[who]  # all of a patient's cases alike
    found = validation.compare(a, np.zeros_like(a), who, 7)
    half = 1.96 * effect.std() / np.sqrt(patients)
    assert found.upper - found.lower == pytest.approx(2 * half, rel=0.06)
    assert found.difference == pytest.approx(a.mean()) and found.patients == patients and found.cases == 2000
    assert found.skill is None
    again = validation.compare(a, np.zeros_like(a), who, 7)
    assert again == found
    assert validation.compare(a, np.zeros_like(a), who, 8) != found


def test_bootstrap_intervals_cover_the_true_difference():
    hits = 0
    for seed in range(200):
        rng = generator(seed, "cover")
        who = np.repeat(np.arange(60), 3)
        a = 1.0 + 0.5 * rng.standard_normal(60)[who] + 0.3 * rng.standard_normal(180)
        b = 1.2 + 0.5 * rng.standard_normal(60)[who] + 0.3 * rng.standard_normal(180)
        found = validation.compare(a, b, who, seed, draws=500)
        hits += found.lower <= -0.2 <= found.upper
    assert 0.88 < hits / 200 < 0.99


def test_a_single_patient_gives_no_interval():
    found = validation.compare(np.array([1.0, 2.0]), np.array([2.0, 3.0]), [0, 0], 1)
    assert found.difference == -1.0 and found.lower is None and found.better is None


def test_table_is_the_mean_over_cases_and_compares_pairwise():
    who, y, mean = cohort(200, 3, 3)
    forecast = validation.score_gaussian("twin", y, mean, 1.0, who)
    baselines = [
        validation.score_gaussian("shifted", y, mean + 1.0, 1.0, who),
        validation.score_point("persistence", y, 0.0, who),
    ]
    table = validation.score_table(forecast, baselines, 5)
    assert [row["name"] for row in table] == ["twin", "shifted", "persistence"]
    assert table[0]["rmse"] == pytest.approx(np.sqrt(np.mean((mean - y) ** 2)))
    assert table[0]["coverage_90"] == pytest.approx(np.mean(np.abs(y - mean) < 1.6448536), abs=1e-12)
    assert abs(table[0]["coverage_90"] - 0.9) < 0.04 and abs(table[0]["coverage_50"] - 0.5) < 0.06
    assert table[0]["width_90"] == pytest.approx(2 * 1.6448536, abs=1e-6)
    assert table[2]["crps"] == pytest.approx(np.mean(np.abs(y))) and "coverage_90" not in table[2]
    against = table[1]["forecast_crps"]
    assert against["difference"] == pytest.approx(table[0]["crps"] - table[1]["crps"]) and against["better"]
    assert table[1]["forecast_rmse"]["difference"] == pytest.approx(table[0]["rmse"] - table[1]["rmse"])
    made = validation.score_evidence("f.s", "better", forecast, baselines, "cm3", 5)
    assert made.status == "passed" and made.result["unit"] == "cm3"
    worse = validation.score_evidence("f.s", "better", baselines[0], [forecast], "cm3", 5)
    assert worse.status == "failed"
    json.dumps(asdict(made))


def test_sample_scores_agree_with_the_gaussian_ones_and_weights_with_repeats():
    who, y, mean = cohort(30, 2, 4)
    normals = generator(5, "members").standard_normal((6000, len(y)))
    sample = validation.score_sample("members", y, mean + normals, who).row()
    exact = validation.score_gaussian("formula", y, mean, 1.0, who).row()
    for name in ("crps", "rmse", "width_50", "width_90"):
        assert sample[name] == pytest.approx(exact[name], rel=0.02)
    few, count = mean + normals[:40], np.arange(1, 41)
    weighted = validation.score_sample("w", y, few, who, weights=count)
    repeated = validation.score_sample("r", y, np.repeat(few, count, axis=0), who)
    np.testing.assert_allclose(weighted.crps, repeated.crps, atol=1e-12)
    np.testing.assert_allclose(weighted.error, repeated.error, atol=1e-12)


def test_missing_observations_count_nowhere():
    who, y, mean = cohort(20, 2, 6)
    y[[0, 1, 5]] = np.nan
    scored = validation.score_gaussian("twin", y, mean, 1.0, who)
    there = np.isfinite(y)
    kept = validation.score_gaussian("twin", y[there], mean[there], 1.0, who[there])
    assert scored.row() == kept.row() and scored.row()["patients"] == 19
    judged = validation.judge_coverage(scored.by_patient(0.9), 0.9)
    assert judged.patients == 19 and judged.intervals == 37


@pytest.mark.parametrize(
    "call",
    [
        lambda: validation.binomial_interval(5, 4),
        lambda: validation.judge_coverage([np.nan], 0.9),
        lambda: validation.judge_coverage([2.0], 0.9),
        lambda: validation.judge_coverage([1.0], 1.0),
        lambda: validation.coverage_evidence("a", "b", {}),
        lambda: validation.compare([1.0], [1.0, 2.0], [0], 1),
        lambda: validation.compare([1.0], [1.0], [0, 1], 1),
        lambda: validation.compare([np.nan], [1.0], [0], 1),
        lambda: validation.score_point("p", [np.nan], [0.0]),
        lambda: validation.score_point("p", [1.0], [np.inf]),
        lambda: validation.score_sample("p", [1.0], [[np.nan]]),
        lambda: validation.score_gaussian("p", [1.0, 2.0], 0.0, 1.0, ["a"]),
        lambda: validation.score_point("p", [1.0], [1.0]).by_patient(0.9),
        lambda: validation.score_evidence("a", "b", validation.score_point("p", [1.0], [1.0]), [], "mm", 1),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call):
    with pytest.raises(BadInput) as caught:
        call()
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
