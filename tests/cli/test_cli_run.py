"""The whole path through the real command: a run, the same numbers after a kill, the patient's own scans."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml
from command_line import STUDY, Command, Process

from vvuq_twin.domain.runfolder import RunFolder

pytestmark = pytest.mark.slow
Start = Callable[..., Process]


@pytest.fixture(scope="module")
def finished(process: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted, on two workers."""
    folder = tmp_path_factory.mktemp("runs") / "two"
    said = process("run", STUDY, "--out", folder, "--workers", 2).run()
    assert said.code == 0, said.err
    assert f"report: {folder / 'report.html'}" in said.out.replace("\n", "")
    assert "crps_total_cellularity" in said.out
    assert "ensemble posterior" in said.err and "Traceback" not in said.err
    return folder


def numbers(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    return {(r["name"], r["of"]): r for r in json.loads((folder / "summary.json").read_text())}


def arrays(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "forecast.npz") as kept:
        return {name: kept[name] for name in kept.files}


def when_there(path: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a running command has made ``path``."""
    while not path.exists():
        if process.poll() is not None:
            _, err = process.communicate()
            raise AssertionError(f"ended before it could be interrupted: {process.returncode} {err}")
        time.sleep(0.02)


def test_the_run_folder_holds_what_it_should(finished: Path) -> None:
    run = RunFolder.existing(finished)
    assert run.journal.broken_at() is None
    events = [e["event"] for e in run.journal.entries()]
    assert events[0] == "run started" and events[-1] == "study finished"
    assert {"virtual patient made", "reduced model trained", "visits assimilated", "evidence"} < set(events)
    assert list(finished.rglob(".part-*")) == []
    assert (finished / "study.yaml").read_text() == STUDY.read_text()
    report = (finished / "report.html").read_text()
    assert "A small virtual glioma" in report and 'src="http' not in report and "data:image/png" in report
    evidence = {e.id: e for e in run.all_evidence()}
    for name in (
        "reduction.error",
        "validation.crps_volume",
        "discretization.exposure_balance",
        "growth.mass",
    ):
        assert name in evidence
    verified = [
        e for e in evidence.values() if e.id.startswith(("growth.", "transport.", "plasma.", "operators."))
    ]
    assert len(verified) > 10 and all(e.status == "passed" for e in verified)
    members = evidence["reduction.members"].result
    # 24 modes from eight runs: some members are beyond the reduced order, and the basis may be too small even to hold
    # them; what is left out is measured and judged
    assert members["prior: of these at full order"] > 0 and members["prior: could not be run"] == 0
    largest = max(members[f"{name}: error, largest"] for name in ("prior", "posterior"))
    assert (largest <= 0.1) == (evidence["reduction.members"].status == "passed")
    environment = json.loads((finished / "environment.json").read_text())
    assert environment["versions"]["numpy"] == np.__version__


def test_full_order_runs_correct_the_forecast(finished: Path) -> None:
    """The reduced model's means are near the full order's, and inside the budget the study gave."""
    found = json.loads((finished / "multifidelity.json").read_text())
    assert found["cost"] + found["pilot_cost"] <= 24 * 20 and found["runs"]["full order"] >= 8
    full, low, high = (np.array(found["mean"][k]) for k in ("value", "low", "high"))
    reduced = np.array(found["alone"]["reduced order"]["mean"])
    assert ((low < full) & (full < high)).all()
    np.testing.assert_allclose(reduced, full, rtol=0.05)
    shown = numbers(finished)[("full_order_mean_volume_visit-7", "full order, multi-fidelity")]
    assert shown["value"] == pytest.approx(full[-1]) and shown["unit"] == "cm3"
    # the prior's growth rate drives the last visit, at full order as by the reduced model
    sobol = json.loads((finished / "multifidelity_sobol.json").read_text())
    plain = json.loads((finished / "sensitivity.json").read_text())["sobol"]
    assert sobol["factors"] == plain["factors"]
    assert int(np.argmax(np.array(sobol["total"])[:, 0])) == sobol["factors"].index("k")


def test_fewer_parameters_are_tried_and_judged(finished: Path) -> None:
    found = json.loads((finished / "parameter_reduction.json").read_text())
    values = np.array(found["eigenvalues"])
    assert (np.diff(values) <= 1e-9).all() and values[0] > 1 > values[-1]
    learned, share = np.array(found["learned"]), np.array(found["share"]).max(axis=1)
    assert ((learned >= -1e-9) & (learned <= 1)).all() and ((share >= 0) & (share <= 1 + 1e-9)).all()
    names = found["parameters"]
    # the growth rate is learned and needed; noise after the last forecast visit is neither
    assert (
        learned[names.index("k")] > 0.3 and "k" not in found["fixed"] and "growth_noise_7" in found["fixed"]
    )
    assert len(found["directions"]) < len(names)
    evidence = {e.id: e for e in RunFolder.existing(finished).all_evidence()}
    for how, pair in zip(("fixed", "merged"), found["measured_change_of_spread_and_mean"].values()):
        assert evidence[f"sensitivity.parameters_{how}"].status == (
            "passed" if max(pair) <= 0.2 else "failed"
        )


def test_the_numbers_are_sane(finished: Path) -> None:
    found = numbers(finished)
    kept = arrays(finished)
    truth = np.load(finished / "truth.npz")
    assert kept["days"].tolist() == [0, 35, 60, 88, 116, 144, 172]
    assert kept["total"].shape == kept["volume"].shape and kept["total"].shape[1] == 7
    assert kept["parameters"].shape == (len(kept["total"]), len(kept["names"])) and "k" in kept["names"]
    assert all(np.isfinite(v).all() for n, v in kept.items() if n != "names") and (kept["total"] >= 0).all()
    # cellularity is a fraction: the total over capacity cannot exceed the volume (but for the reduced model's error)
    assert (kept["total"] <= 1.1 * kept["volume"] + 1e-9).all()
    for visit in ("visit-5", "visit-6", "visit-7"):
        row = found[(f"volume_{visit}", "forecast")]
        v = int(visit[-1]) - 1
        assert row["unit"] == "cm3" and row["level"] == 0.9
        assert row["interval"][0] <= row["value"] <= row["interval"][1]
        assert row["value"] == pytest.approx(float(np.median(kept["volume"][:, v])))
        for name in ("baseline: persistence", "baseline: unassimilated growth"):
            assert (f"volume_{visit}", name) in found
    # the scans taught the twin something: the last assimilated visit is known better than by the prior alone
    spread = [
        np.diff(found[("volume_visit-5", of)]["interval"])[0]
        for of in ("forecast", "baseline: unassimilated growth")
    ]
    assert spread[0] < spread[1]
    at_four = np.median(kept["volume"][:, 3])
    assert abs(np.log(at_four / truth["volume"][3])) < np.log(2.0)
    # the CRPS of a sample is never above the mean distance of the sample to the outcome
    crps = found[("crps_volume", "forecast")]["value"]
    assert (
        0
        < crps
        <= np.mean([np.abs(kept["volume"][:, v] - truth["volume"][v]).mean() for v in (4, 5, 6)]) + 1e-9
    )


def test_forecast_fields_lie_on_the_patients_grid(finished: Path) -> None:
    scan: Any = nib.load(finished / "patient" / "visit-5-adc.nii.gz")
    brain = np.asarray(nib.load(finished / "patient" / "brain.nii.gz").dataobj) > 0  # type: ignore[attr-defined]
    for visit in ("visit-5", "visit-6", "visit-7"):
        maps = {}
        for name in ("mean", "sd", "q05", "q50", "q95", "visible"):
            image: Any = nib.load(finished / "fields" / f"{visit}-cellularity-{name}.nii.gz")
            np.testing.assert_allclose(image.affine, scan.affine)
            maps[name] = np.asarray(image.dataobj)
            assert maps[name].shape == scan.shape
            assert (maps[name] >= 0).all() and (maps[name] <= 1).all() and (maps[name][~brain] == 0).all()
        assert (maps["q05"] <= maps["q50"]).all() and (maps["q50"] <= maps["q95"]).all()
        assert maps["sd"].max() > 0 and maps["mean"].max() > 0.16
    assert not (finished / "fields" / "visit-4-cellularity-mean.nii.gz").exists()


def test_one_worker_killed_half_way_gives_the_same_numbers(
    finished: Path, process: Start, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One worker instead of two, and the driver and its workers killed while ensembles were being run."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    command = process("run", STUDY, "--out", folder, "--workers", 1)
    running = command.start()
    when_there(folder / "results.zarr" / "cycle-2-step-2", running)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert not (folder / "report.html").exists() and not (folder / "summary.json").exists()
    kept = sorted((folder / "results.zarr").rglob("batches/*.json"))
    assert kept
    stamps = [p.stat().st_mtime_ns for p in kept]
    (folder / ".part-left-by-the-kill").write_text("half")

    said = command.run()
    assert said.code == 0, said.err
    assert [p.stat().st_mtime_ns for p in kept] == stamps  # what was finished was not done again
    assert (folder / "summary.json").read_bytes() == (finished / "summary.json").read_bytes()
    mine, theirs = arrays(folder), arrays(finished)
    assert mine.keys() == theirs.keys()
    for name, values in mine.items():
        assert values.tobytes() == theirs[name].tobytes(), name
    for image in sorted((finished / "fields").glob("*.nii.gz")):
        a, b = (np.asarray(nib.load(p).dataobj) for p in (image, folder / "fields" / image.name))  # type: ignore[attr-defined]
        assert a.tobytes() == b.tobytes(), image.name
    assert (folder / "sensitivity.json").read_bytes() == (finished / "sensitivity.json").read_bytes()
    journal = RunFolder.existing(folder).journal
    assert journal.broken_at() is None
    events = [e["event"] for e in journal.entries()]
    assert events.count("run resumed") == 1 and events.count("reduced model trained") == 1
    assert list(folder.rglob(".part-*")) == []


def test_a_patient_folder_is_refused_mended_interrupted_and_finished(
    finished: Path, process: Start, cli: Command, tmp_path: Path
) -> None:
    """The same study on a patient's own scans: bad input, then Ctrl-C, then the same command to the end."""
    patient = Path(shutil.copytree(finished / "patient", tmp_path / "patient"))
    text = (patient / "patient.yaml").read_text()
    study = yaml.safe_load(STUDY.read_text())
    del study["virtual"], study["sensitivity"]
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    out = tmp_path / "run"
    command = ("run", tmp_path, "--data", patient, "--out", out, "--assimilate", 3, "--workers", 2)

    (patient / "patient.yaml").write_text(text.replace("unit: mm2/s", "unit: mm2/fortnight", 1))
    bad = cli(*command)
    assert bad.code == 2 and "mm2/fortnight" in bad.err and not out.exists()

    (patient / "patient.yaml").write_text(text)
    started = process(*command)
    running = started.start()
    when_there(out / "results.zarr", running)
    running.send_signal(signal.SIGINT)
    shown, err = running.communicate()
    assert running.returncode == 1, err
    assert "interrupted: what was finished is kept; the same command goes on from there." in err
    assert "Traceback" not in err + shown
    assert list(out.rglob(".part-*")) == []
    assert not (out / "summary.json").exists()

    said = started.run()
    assert said.code == 0, said.err
    found = numbers(out)
    # scored against the scans that follow, from the fourth on
    for visit in range(1, 8):
        assert ((f"volume_visit-{visit}", "forecast") in found) == (visit >= 4)
    assert "scan:" in found[("volume_visit-4", "forecast")]["description"]
    cm3 = 0.512
    mask = np.asarray(nib.load(patient / "visit-4-tumour.nii.gz").dataobj) > 0  # type: ignore[attr-defined]
    assert f"scan: {cm3 * mask.sum():.3g} cm3" in found[("volume_visit-4", "forecast")]["description"]
    for of in ("forecast", "baseline: persistence", "baseline: unassimilated growth"):
        assert np.isfinite(found[("crps_volume", of)]["value"]) and ("seen_crps_volume", of) not in found
    assert (out / "fields" / "visit-4-cellularity-sd.nii.gz").exists()
    inputs = json.loads((out / "inputs.json").read_text())
    assert "patient.yaml" in inputs and "visit-7-adc.nii.gz" in inputs

    # the same folder with other settings is another study
    other = cli(*("run", tmp_path, "--data", patient, "--out", out, "--assimilate", 4))
    assert other.code == 2 and "settings differ" in other.err

    # and the report again from what is there
    (out / "report.html").unlink()
    again = cli("report", out)
    assert again.code == 0 and "A small virtual glioma" in (out / "report.html").read_text()
