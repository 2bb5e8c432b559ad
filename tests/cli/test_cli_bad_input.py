"""Every bad input of a run: one sentence with file and field and what to do, exit code 2, nothing left behind."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml
from command_line import STUDY, Command, Said

Fault = Callable[[Path], None]


def refused(said: Said, *parts: str) -> str:
    """The one sentence of a refusal, with all ``parts`` in it."""
    assert said.code == 2, said
    lines = said.err.strip().splitlines()
    # progress and notes may come before it
    sentences = [line for line in lines if line.startswith("error: ")]
    assert len(sentences) == 1 and lines[-1] == sentences[0], said.err
    assert "Traceback" not in said.err + said.out
    for part in parts:
        assert re.search(part, sentences[0]), (part, sentences[0])
    assert sentences[0][-1] in ".?"
    return sentences[0]


def nothing_half_written(folder: Path) -> None:
    assert list(folder.rglob(".part-*")) == []


def edit(change: Callable[[dict[str, Any]], Any]) -> Fault:
    """A fault of ``patient.yaml``."""

    def apply(folder: Path) -> None:
        data = yaml.safe_load((folder / "patient.yaml").read_text())
        change(data)
        (folder / "patient.yaml").write_text(yaml.safe_dump(data, sort_keys=False))

    return apply


def voxels(name: str, change: Callable[[np.ndarray, np.ndarray], Any]) -> Fault:
    """A fault of an image: ``change(values, tumour of the second visit)`` in place."""

    def apply(folder: Path) -> None:
        tumour = np.asarray(nib.load(folder / "visit-2-tumour.nii.gz").dataobj) > 0  # type: ignore[attr-defined]
        image: Any = nib.load(folder / name)
        values = np.array(image.get_fdata())
        change(values, tumour)
        nib.save(nib.Nifti1Image(values.astype(np.float32), image.affine), folder / name)

    return apply


def smaller_mask(folder: Path) -> None:
    image: Any = nib.load(folder / "visit-2-tumour.nii.gz")
    cut = np.asarray(image.dataobj)[:-1]
    nib.save(nib.Nifti1Image(cut, image.affine), folder / "visit-2-tumour.nii.gz")


def shifted_mask(folder: Path) -> None:
    image: Any = nib.load(folder / "visit-2-tumour.nii.gz")
    affine = image.affine.copy()
    affine[0, 3] += 8.0
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), folder / "visit-2-tumour.nii.gz")


def one_voxel(value: float) -> Callable[[np.ndarray, np.ndarray], None]:
    def change(values: np.ndarray, tumour: np.ndarray) -> None:
        values[tuple(np.argwhere(tumour)[0])] = value

    return change


FAULTS: dict[str, tuple[Fault, tuple[str, ...]]] = {
    "missing image": (
        lambda folder: (folder / "visit-2-adc.nii.gz").unlink(),
        (r"patient.yaml, line \d+, visits\[1\].images.adc", "visit-2-adc.nii.gz' does not exist"),
    ),
    "missing patient file": (lambda folder: (folder / "patient.yaml").unlink(), ("no patient.yaml", "write one")),
    "wrong unit": (
        edit(lambda d: d["visits"][1]["images"]["adc"].update(unit="Gy")),
        (r"visits\[1\].images.adc.unit", "'Gy'", "mm2/s"),
    ),
    "unit of another size": (
        voxels("visit-2-adc.nii.gz", lambda v, t: np.multiply(v, 1e6, out=v)),
        (r"visits\[1\].images.adc", "implausible", "1e-6 mm2/s"),
    ),
    "mask of another shape": (smaller_mask, (r"visits\[1\].images.tumour", "is not on the image's grid", "voxels against")),
    "mask elsewhere": (shifted_mask, (r"visits\[1\].images.tumour", "is not on the image's grid", "8 mm away")),
    "visits out of order": (
        edit(lambda d: d["visits"].reverse()),
        (r"visits\[1\].day", "out of order", "sort the visits"),
    ),
    "visits on the same day": (
        edit(lambda d: d["visits"][2].update(day=35.0)),
        (r"visits\[2\].day", "same day", "one visit"),
    ),
    "NaN voxels": (
        voxels("visit-2-adc.nii.gz", one_voxel(np.nan)),
        (r"visits\[1\].images.adc", "1 voxel .* hold NaN", "missing: nan"),
    ),
    "infinite voxels": (
        voxels("visit-2-adc.nii.gz", one_voxel(np.inf)),
        (r"visits\[1\].images.adc", "1 voxel .* infinite", "mend the map"),
    ),
    "negative ADC": (
        voxels("visit-2-adc.nii.gz", one_voxel(-1e-3)),
        (r"visits\[1\].images.adc", "1 voxel .* below 0", "mend the map"),
    ),
    "empty tumour mask": (
        voxels("visit-2-tumour.nii.gz", lambda v, t: v.fill(0)),
        (r"visits\[1\].images.tumour", "mask is empty", "empty: true"),
    ),
    "negative dose of radiation": (
        edit(lambda d: d["treatments"][0].update(dose=-2.0)),
        (r"treatments\[0\].*dose", r"negative \(-2.0\)", "at least 0"),
    ),
    "negative dose of a drug": (
        edit(lambda d: d["treatments"][-1].update(amount=-75.0)),
        (r"treatments\[2\].*amount", r"negative \(-75.0\)", "at least 0"),
    ),
    "unknown key": (
        edit(lambda d: d["visits"][1].update(imagse=d["visits"][1].pop("images"))),
        (r"visits\[1\].imagse", "not known", "did you mean 'images'"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_run_refuses_what_check_refuses_and_leaves_nothing(
    name: str, patient: Path, tmp_path: Path, cli: Command
) -> None:
    spoil, parts = FAULTS[name]
    spoil(patient)
    out = tmp_path / "run"
    said = refused(cli("run", STUDY, "--data", patient, "--out", out, "--workers", 1), *parts)
    # nothing was computed: the place is free for the mended patient
    assert not out.exists()
    nothing_half_written(tmp_path)
    if (patient / "patient.yaml").exists():
        checked = cli("check", patient)
        assert checked.code == 2 and "not usable" in checked.out
        assert said.removeprefix("error: ") in checked.out


def test_check_says_that_a_good_patient_is_usable(small_patient: Path, cli: Command) -> None:
    said = cli("check", small_patient)
    assert "length: pressure layer of tumour tissue: 0.27 mm" in said.out and "not resolved" in said.out
    assert said.code == 0 and said.err == ""
    assert said.out.strip().endswith("warnings)") and ": usable (0 errors" in said.out


def _study(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    data = yaml.safe_load(STUDY.read_text())
    change(data)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


STUDY_FAULTS: dict[str, tuple[Callable[[dict[str, Any]], Any], tuple[str, ...]]] = {
    "unknown key": (
        lambda d: d["assimilation"].update(membres=d["assimilation"].pop("members")),
        ("study.yaml: assimilation.membres", "not known", "did you mean 'members'"),
    ),
    "unknown top key": (lambda d: d.update(modell=d.pop("model")), ("study.yaml: modell", "did you mean 'model'")),
    "missing key": (lambda d: d.pop("seed"), ("study.yaml: seed", "missing", "add it")),
    "missing kind": (lambda d: d.pop("kind"), ("study.yaml: kind", "missing", "growth")),
    "unknown kind": (lambda d: d.update(kind="grwoth"), ("study.yaml: kind", "grwoth", "did you mean 'growth'")),
    "wrong unit": (lambda d: d["parameters"]["k"].update(unit="mm2/day"), ("study.yaml: parameters", "k", "1/day")),
    "unknown unit": (lambda d: d["parameters"]["k"].update(unit="1/furlongs_ago"), ("study.yaml: parameters", "furlongs_ago")),
    "unknown parameter": (
        lambda d: d["parameters"].update(alpha_rx=d["parameters"].pop("alpha_rt")),
        ("study.yaml: parameters", "no parameter 'alpha_rx'", "did you mean 'alpha_rt'"),
    ),
    "bad prior": (
        lambda d: d["parameters"]["k"].update(prior={"lognormal": {"median": -1.0, "sd_log": 0.3}}),
        ("study.yaml: parameters.k.prior", "median"),
    ),
    "bad number": (lambda d: d["assimilation"].update(members="many"), ("study.yaml: assimilation.members", "many")),
    "too few members": (lambda d: d["assimilation"].update(members=3), ("study.yaml: assimilation.members", "20")),
    "no patient": (lambda d: d.pop("virtual"), ("study.yaml: virtual", "no patient", "--data")),
    "missing data": (lambda d: d.update(data="nowhere"), ("study.yaml: data", "nowhere", "--data")),
    "no diffusivity of a tissue": (
        lambda d: d["parameters"].pop("D_grey"), ("parameters", "tissue 'grey'", "no D_grey", "add it"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STUDY_FAULTS)
def test_a_bad_study_file_is_refused(name: str, tmp_path: Path, cli: Command) -> None:
    change, parts = STUDY_FAULTS[name]
    out = tmp_path / "run"
    refused(cli("run", _study(tmp_path, change), "--out", out, "--workers", 1, "--quiet"), *parts)
    assert not out.exists()
    nothing_half_written(tmp_path)


def test_a_missing_or_unreadable_study_is_refused(tmp_path: Path, cli: Command) -> None:
    refused(cli("run", tmp_path / "none.yaml"), "none.yaml: the file does not exist", "check the path")
    refused(cli("run", tmp_path), "study.yaml: the file does not exist")
    bad = tmp_path / "bad.yaml"
    bad.write_text("kind: [growth\nseed: 1\n")
    refused(cli("run", bad), "bad.yaml: .*not valid YAML", "line")
    bad.write_text("- kind\n- growth\n")
    refused(cli("run", bad), "bad.yaml: .*mapping of keys")
    bad.write_bytes(b"kind: \xff\xfe growth")
    refused(cli("run", bad), "bad.yaml: ", "UTF-8")
    bad.write_bytes(b"kind: gro\x00wth")
    refused(cli("run", bad), "bad.yaml: ")


def test_missing_data_are_refused(tmp_path: Path, cli: Command, patient: Path) -> None:
    out = tmp_path / "run"
    refused(
        cli("run", STUDY, "--data", tmp_path / "none", "--out", out), "none: the data do not exist", "--data"
    )
    refused(
        cli("run", STUDY, "--data", patient / "patient.yaml", "--out", out), "a file, not a patient folder"
    )
    refused(
        cli("run", STUDY, "--data", patient.parent, "--out", tmp_path.parent / f"{tmp_path.name}-run"),
        "patient.yaml",
    )
    assert not out.exists()


def test_options_out_of_range_are_refused(tmp_path: Path, cli: Command, small_patient: Path) -> None:
    out = tmp_path / "run"
    on = ("run", STUDY, "--data", small_patient, "--out", out)
    refused(cli(*on, "--workers", 0), "--workers", "0 workers", "1 or more")
    refused(cli(*on, "--workers", "two"), "--workers", "valid integer")
    refused(cli(*on, "--assimilate", 7), "7 visits cannot be assimilated of 7", "--assimilate")
    refused(cli(*on, "--assimilate", 0), "--assimilate: 0 visits")
    refused(cli(*on, "--no-such-option"), "No such option")
    assert not out.exists()
    refused(cli("report"), "Missing argument")


def test_an_unreachable_cluster_is_refused(tmp_path: Path, cli: Command, small_patient: Path) -> None:
    out = tmp_path / "run"
    for address in ("tcp://127.0.0.1:9", "nonsense"):
        said = cli("run", STUDY, "--data", small_patient, "--out", out, "--cluster", address)
        refused(said, "--cluster: no Dask scheduler answers at", address, "leave the option out")
        assert not out.exists()


def test_a_folder_of_another_study_is_refused(tmp_path: Path, cli: Command, small_patient: Path) -> None:
    from vvuq_twin.domain.runfolder import RunFolder

    out = tmp_path / "run"
    RunFolder.open(out, "kind: lesions\n", {}, {})
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    said = refused(
        cli("run", STUDY, "--data", small_patient, "--out", out), "belongs to another study", "--out"
    )
    assert "study" in said and str(out) in said
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    (out / "identity.json").write_text("{")
    refused(cli("run", STUDY, "--data", small_patient, "--out", out), "identity.json", "cannot be read")


def test_a_folder_that_is_no_run_folder_is_refused(tmp_path: Path, cli: Command, small_patient: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("precious")
    refused(
        cli("run", STUDY, "--data", small_patient, "--out", theirs),
        "not empty and is not a run folder",
        "--out",
    )
    assert [p.name for p in theirs.iterdir()] == ["thesis.txt"]
    file = tmp_path / "file"
    file.write_text("a file")
    refused(
        cli("run", STUDY, "--data", small_patient, "--out", file), "this is a file, not a folder", "--out"
    )
    assert file.read_text() == "a file"
    refused(
        cli("run", STUDY, "--data", small_patient, "--out", file / "run"),
        "a file stands where a folder is needed",
    )
    for command in ("report",):
        refused(cli(command, theirs), "not a run folder", "identity.json is missing")
        refused(cli(command, tmp_path / "none"), "not a run folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission_is_one_sentence(tmp_path: Path, cli: Command, small_patient: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    refused(
        cli("run", STUDY, "--data", small_patient, "--out", locked / "run"), "no permission to write", "--out"
    )
    refused(cli("run", STUDY, "--data", small_patient, "--out", locked), "no permission to write", "--out")


def test_a_system_that_refuses_writes_is_one_sentence(
    tmp_path: Path, cli: Command, small_patient: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, *how: Path(path) != out and real(path, *how))
    refused(
        cli("run", STUDY, "--data", small_patient, "--out", tmp_path / "run"),
        "no permission to write",
        "--out",
    )


@pytest.mark.parametrize("fails_at", [1, 3, 9, 20])
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_space(
    fails_at: int, tmp_path: Path, cli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills at the n-th file: among the run's own records, or while the patient is written."""
    real = os.replace
    count = 0

    def full(source: Any, target: Any) -> None:
        nonlocal count
        count += 1
        if count >= fails_at:
            raise OSError(28, "No space left on device", str(target))
        real(source, target)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        refused(
            cli("run", STUDY, "--out", out, "--workers", 1), "the disk is full", "free some space", str(out)
        )
    nothing_half_written(tmp_path)

    # with space again the same command gets past where it stopped: stopped here before the training
    def enough(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vvuq_twin.study.growth.reduce_growth", enough)
    said = cli("run", STUDY, "--out", out, "--workers", 1)
    assert said.code == 1 and "goes on from there" in said.err and "Traceback" not in said.err
    assert (out / "patient" / "patient.yaml").exists()
    from vvuq_twin.domain.runfolder import RunFolder

    journal = RunFolder.existing(out).journal
    assert journal.broken_at() is None
    events = [e["event"] for e in journal.entries()]
    assert events.count("virtual patient made") == 1


def test_an_unexpected_error_is_one_sentence_and_its_traceback_is_in_the_log(
    tmp_path: Path, cli: Command, small_patient: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by a mistake of ours")

    monkeypatch.setattr("vvuq_twin.study.growth.exposure_map", broken)
    out = tmp_path / "run"
    said = cli("run", STUDY, "--data", small_patient, "--out", out, "--quiet")
    assert said.code == 1 and said.out == ""
    assert (
        said.err.startswith("error: unexpected ZeroDivisionError: by a mistake of ours; ")
        and "log.txt" in said.err
    )
    assert said.err.count("\n") == 1
    assert "Traceback" in (out / "log.txt").read_text()
