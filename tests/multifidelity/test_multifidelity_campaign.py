"""Campaigns: estimates near the truth, resume, workers, failures, bad input, the page's example."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import multifidelity_cases as cases
import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput, RunFailed
from vvuq_twin.ensemble import cluster
from vvuq_twin.multifidelity import Fidelity, run_multifidelity

NAMES = ("first", "second")


def models(truth=cases.run_truth, good=cases.run_good, context=None):
    return [
        Fidelity("truth", truth, 1.0), Fidelity("good copy", good, 0.02, context), Fidelity("rough copy", cases.run_rough, 0.002),
    ]  # fmt: skip


def test_estimates_of_a_campaign_are_near_the_truth(tmp_path: Path) -> None:
    found = run_multifidelity(models(), cases.draw, 80.0, tmp_path / "mf", 24, outputs=NAMES)
    mean, known = cases.exact()
    for statistic, target in (("mean", mean[0]), ("variance", known.covariance[0, 0])):
        se, low, high = found.interval(statistic)
        assert (np.abs(found.value(statistic) - target) < 4 * se).all()
        assert (low < found.value(statistic)).all() and (found.value(statistic) < high).all()
    # the cheap model alone is precise and wrong
    alone = found.alone["good copy"]["mean"]
    assert np.abs(alone - mean[0]).min() > 5 * found.interval("mean")[0].max()
    assert found.pilot_cost + found.cost <= 80.0 and found.dropped == 0
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["runs"]["truth"] >= 8 and plain["mean"]["gain_over_monte_carlo"][0] > 2


def test_an_interrupted_campaign_goes_on_and_workers_do_not_matter(tmp_path: Path) -> None:
    def run(folder: Path, client=None):
        parts = models(good=cases.run_until_flag, context=str(tmp_path))
        return run_multifidelity(parts, cases.draw, 80.0, folder, 24, client=client)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a")
    (tmp_path / "go").touch()
    first, again = run(tmp_path / "a"), run(tmp_path / "a")
    with cluster(workers=2) as client:
        spread = run(tmp_path / "b", client)
    for other in (again, spread):
        for statistic in ("mean", "variance"):
            assert (first.value(statistic) == other.value(statistic)).all()
            assert (first.interval(statistic)[0] == other.interval(statistic)[0]).all()


def test_a_failed_member_is_left_out_everywhere_and_counted(tmp_path: Path) -> None:
    found = run_multifidelity(models(cases.run_truth_fails), cases.draw, 80.0, tmp_path / "mf", 24)
    assert found.dropped > 0 and (np.abs(found.value("mean")) < 10).all()


def test_failures_of_a_cheap_model_do_not_bias(tmp_path: Path) -> None:
    """It fails where the truth is largest: leaving those inputs out would move the mean by far more than the error."""
    parts = [Fidelity("truth", cases.run_truth, 1.0), Fidelity("good copy", cases.run_good_fails, 0.02)]
    found = run_multifidelity(parts, cases.draw, 600.0, tmp_path / "mf", 40)
    mean, _ = cases.exact()
    se = found.interval("mean")[0]
    assert found.dropped == 0 and found.failed["good copy"] > 10 and found.failed["truth"] == 0
    assert (np.abs(found.value("mean") - mean[0]) < 4 * se).all() and se[0] < 0.1


def test_a_model_that_always_fails_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="lost 24 of 24"):
        run_multifidelity(models(cases.run_always_fails), cases.draw, 80.0, tmp_path / "mf", 24)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"models": models()[:1]}, "at least two models"),
        ({"models": [models()[0], models()[0]]}, "two models are called"),
        ({"models": [models()[0], Fidelity("free", cases.run_good, 0.0)]}, "not positive"),
        ({"models": [models()[0], Fidelity("short", cases.run_short, 0.1)]}, "different numbers of outputs"),
        ({"models": [models()[0], Fidelity("other", cases.run_good, 0.1, output="volume")]}, "no output 'volume'"),
        ({"pilot": 4}, "too few to tell correlations"),
        ({"budget": 30.0}, "does not pay"),
        ({"confidence": 1.0}, "not between 0 and 1"),
        ({"outputs": ("one",)}, "2 outputs and 1 names"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(change, word, tmp_path: Path) -> None:
    given = {"models": models(), "draw": cases.draw, "budget": 80.0, "store": tmp_path / "mf", "pilot": 24}
    with pytest.raises(BadInput, match=word):
        run_multifidelity(**{**given, **change})


def test_a_store_of_another_campaign_is_refused(tmp_path: Path) -> None:
    run_multifidelity(models(), cases.draw, 80.0, tmp_path / "mf", 24)
    with pytest.raises(BadInput, match="another computation"):
        run_multifidelity(models(), lambda n, p: cases.draw(n, p) + 1.0, 80.0, tmp_path / "mf", 24)


def test_the_example_of_the_page_runs(tmp_path: Path) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "multifidelity.md"
    script = tmp_path / "example.py"
    script.write_text("\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.S)))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and done.stdout
