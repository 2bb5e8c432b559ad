"""The comparison of smoothers: its settings, and what it makes of results whose verdict is known."""

import json
from pathlib import Path

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.keys import generator
from vvuq_twin.domain.runfolder import RunFolder
from vvuq_twin.scores import central_interval
from vvuq_twin.study.filters import DIAGNOSTICS, FiltersSpec, _beside_chain, _judge, _summary
from vvuq_twin.study.schema import read_study

STUDY = Path(__file__).resolve().parents[2] / "studies" / "filters" / "study.yaml"
NAMES = ["total cellularity, day 116", "volume, day 116", "parameter k"]


def spec() -> FiltersSpec:
    found, _ = read_study(STUDY)
    assert isinstance(found, FiltersSpec)
    return found


def test_the_study_file_is_read_and_takes_the_growth_studys_model(tmp_path: Path) -> None:
    growth = spec().growth(STUDY.parent)
    assert growth.assimilation.visits == 4 and growth.assimilation.members == 100
    assert growth.reduction.modes == 48 and growth.seed == spec().seed
    assert (
        spec().schemes["es-mda-inflated"].sampling_inflation
        and not spec().schemes["es-mda"].sampling_inflation
    )
    bad = tmp_path / "study.yaml"
    bad.write_text(STUDY.read_text().replace("scheme: ies", "scheme: kalman"))
    with pytest.raises(BadInput, match="schemes"):
        read_study(bad)


def results(truths: int, spread: float) -> np.ndarray:
    """Summaries (truths, schemes, Q, 6) of samples about the truth, ``spread`` times as wide as they should be."""
    rng = generator(3, "filters", str(spread))
    out = []
    others = len(spec().schemes) - 2
    for _ in range(truths):
        outcome = np.array([5.0, 20.0, 0.3]) + rng.standard_normal(3)
        centre = outcome + rng.standard_normal(3)
        own = [_summary(centre + s * rng.standard_normal((400, 3)), outcome) for s in (1.0, spread)]
        out.append([*own, *([own[0]] * others), own[0]])
    return np.array(out)


def test_summary_has_interval_scores_and_outcome() -> None:
    sample = generator(1, "summary").standard_normal((300, 2))
    found = _summary(sample, np.array([0.0, 9.0]))
    low, high = central_interval(sample, 0.9)
    np.testing.assert_allclose(found[:, 2:4].T, [low, high])
    assert found[0, 4] < found[1, 4] and found[:, 5].tolist() == [0.0, 9.0]


def test_honest_spread_passes_and_narrow_spread_fails(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "run", "kind: filters\n", {}, {})
    found = results(100, 0.3)
    _judge(run, spec(), found, np.full((100, len(spec().schemes)), 700), NAMES, 1)
    _beside_chain(run, spec(), found, chains(), NAMES)
    status = {
        e["id"]: e["status"]
        for e in (json.loads(p.read_text()) for p in (tmp_path / "run" / "evidence").glob("*.json"))
    }
    assert status["validation.coverage.es-mda"] == "passed"
    assert status["validation.coverage.root-es-mda"] == "failed"
    assert status["calibration.chains"] == "passed"
    text = "".join(p.read_text() for p in (tmp_path / "run").rglob("*.json"))
    assert "1.03" in text and "parameter k" in text


def chains() -> np.ndarray:
    """Diagnostics of converged chains of the first three of a hundred truths."""
    found = np.full((100, len(DIAGNOSTICS)), np.nan)
    found[:3] = [
        [1.01, 900.0, 800.0, 2e4, 3, 2],
        [1.03, 700.0, 600.0, 3e4, 0, 0],
        [1.02, 500.0, 450.0, 2e4, 1, 0],
    ]
    return found


@pytest.mark.parametrize(("column", "value"), [(0, 1.06), (1, 390.0), (2, 390.0), (5, 1.0)])
def test_chains_that_have_not_converged_fail(tmp_path: Path, column: int, value: float) -> None:
    run = RunFolder.open(tmp_path / "run", "kind: filters\n", {}, {})
    sampled = chains()
    sampled[1, column] = value
    _beside_chain(run, spec(), results(100, 1.0), sampled, NAMES)
    found = {e.id: e.status for e in run.all_evidence()}
    assert found["calibration.chains"] == "failed"


def test_without_chains_nothing_is_said_of_them(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "run", "kind: filters\n", {}, {})
    _beside_chain(run, spec(), results(3, 1.0), np.full((3, len(DIAGNOSTICS)), np.nan), NAMES)
    assert not list((tmp_path / "run").rglob("*chain*"))
