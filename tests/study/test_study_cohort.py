"""A cohort of three small virtual patients, from the study file to its evidence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from vvuq_twin.domain.runfolder import RunFolder
from vvuq_twin.ensemble.store import Ensemble
from vvuq_twin.study.workflow import Options, run_study

SMALL = Path(__file__).resolve().parents[1] / "cli" / "growth_small.yaml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("cohort")
    growth = yaml.safe_load(SMALL.read_text())
    (where / "growth.yaml").write_text(yaml.safe_dump(growth))
    cohort = {
        "kind": "cohort", "title": "Three patients", "use": growth["use"], "seed": 3, "study": "growth.yaml",
        "patients": 3, "first_seed": 40, "spacing_mm": 8.0, "step_days": 2.0,
        "reduction": {"training": 8, "greedy": 0, "modes": 24, "validation": 8, "rounds": 0, "tolerance": 0.02},
        "assimilation": {"visits": 4, "members": 30, "steps": 2},
    }  # fmt: skip
    (where / "cohort.yaml").write_text(yaml.safe_dump(cohort))
    return where


@pytest.fixture(scope="module")
def finished(folder: Path) -> RunFolder:
    run_study(folder / "cohort.yaml", folder / "run", Options(workers=1))
    return RunFolder.existing(folder / "run")


def test_every_patient_has_samples_an_outcome_and_baselines(finished: RunFolder) -> None:
    found = Ensemble(finished.path / "results.zarr")
    assert found.good.tolist() == [0, 1, 2]
    truth = found["truth"][:]
    assert truth.shape == (3, 2, 7) and np.array_equal(truth, found["true_outcome"][:])
    crps, low, high, low50, high50, middle = np.moveaxis(found["true__forecast"][:], 1, 0)
    assert (
        (low <= low50).all()
        and (low50 <= middle).all()
        and (middle <= high50).all()
        and (high50 <= high).all()
    )
    assert (crps > 0).all()
    # another patient, another tumour
    assert len(np.unique(truth[:, 1, 0])) == 3


def test_members_beyond_the_reduced_order_were_run_at_full_order(finished: RunFolder) -> None:
    evidence = {e.id: e for e in finished.all_evidence()}["reduction.cohort"]
    said = evidence.result
    assert said["patients"] == 3 and said["unseen members per patient"] == 8
    # 24 modes on 8 mm: the reduced order alone misses, and the guard is what is judged
    assert said["largest"] <= said["reduced order alone, largest"]
    assert 0.0 < said["run at full order, share of the prior ensembles"] <= 1.0
    assert evidence.status == ("passed" if said["largest"] < 0.02 else "failed")
    summary = {
        (r["name"], r["of"]): r["value"] for r in json.loads((finished.path / "summary.json").read_text())
    }
    assert summary[("reduction_error_worst", "reduced model")] == said["largest"]


def test_coverage_counts_patients(finished: RunFolder) -> None:
    evidence = {e.id: e for e in finished.all_evidence()}
    for kind in ("true", "seen"):
        # three patients can neither show nor refute it
        assert evidence[f"validation.coverage.{kind}"].status == "not assessed"
    table = json.loads((finished.path / "tables" / "coverage_true.json").read_text())
    names = [c["name"] for c in table["columns"]]
    assert {row[names.index("patients")] for row in table["rows"]} == {3}
    # two quantities, three held-out visits, two levels
    assert len(table["rows"]) == 12


def test_a_cohort_run_again_keeps_its_patients(folder: Path, finished: RunFolder) -> None:
    before = (finished.path / "summary.json").read_bytes()
    stamps = [p.stat().st_mtime_ns for p in sorted((finished.path / "results.zarr").rglob("batches/*.json"))]
    run_study(folder / "cohort.yaml", folder / "run", Options(workers=1))
    assert (finished.path / "summary.json").read_bytes() == before
    assert [
        p.stat().st_mtime_ns for p in sorted((finished.path / "results.zarr").rglob("batches/*.json"))
    ] == stamps
