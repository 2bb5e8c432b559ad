"""Run folders: one study each, opened again only by the same, everything whole or absent."""

from __future__ import annotations

import errno
import json
import os
import platform
from pathlib import Path

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput, CannotWrite
from vvuq_twin.domain.evidence import Evidence
from vvuq_twin.domain.files import cannot_write, sha256, write_text, write_with
from vvuq_twin.domain.runfolder import Number, RunFolder, environment

IDENTITY = ("kind: growth\n", {"a.nii": "0" * 64}, {"assimilate": None})


def test_a_folder_opens_again_for_the_same_study_and_goes_on(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "deep" / "run", *IDENTITY)
    run.summary(Number("crps", 1.0, "cm3"))
    (run.path / ".part-of-a-killed-process").write_text("half")
    (run.path / ".part-folder-of-a-killed-process").mkdir()
    (run.path / ".part-folder-of-a-killed-process" / "map.nii.gz").write_text("half")
    again = RunFolder.open(run.path, *IDENTITY)
    assert [e["event"] for e in again.journal.entries()] == ["run started", "run resumed"]
    assert again.journal.broken_at() is None
    assert not list(run.path.rglob(".part-*"))
    assert (run.path / "study.yaml").read_text() == IDENTITY[0]
    assert json.loads((run.path / "inputs.json").read_text()) == IDENTITY[1]
    assert json.loads((run.path / "summary.json").read_text())[0]["value"] == 1.0
    assert RunFolder.existing(run.path).path == run.path


@pytest.mark.parametrize(
    ("identity", "word"),
    [
        (("kind: lesions\n", *IDENTITY[1:]), "study"),
        ((IDENTITY[0], {"a.nii": "1" * 64}, IDENTITY[2]), "inputs"),
        ((*IDENTITY[:2], {"assimilate": 3}), "settings"),
    ],
)
def test_another_study_is_refused_and_changes_nothing(tmp_path: Path, identity: tuple, word: str) -> None:
    run = RunFolder.open(tmp_path / "run", *IDENTITY)
    before = {p.name: p.read_bytes() for p in run.path.iterdir()}
    with pytest.raises(BadInput, match=rf"belongs to another study \({word} differ\); .*--out"):
        RunFolder.open(run.path, *identity)
    assert {p.name: p.read_bytes() for p in run.path.iterdir()} == before


def test_settings_are_compared_as_they_are_written(tmp_path: Path) -> None:
    settings = {"levels": (0.05, 0.95), "members": np.int64(3), "where": None}
    RunFolder.open(tmp_path / "run", "a: 1\n", {}, settings)
    RunFolder.open(tmp_path / "run", "a: 1\n", {}, settings)


def test_folders_that_are_no_runs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="a file, not a folder"):
        RunFolder.open(tmp_path / "file", *IDENTITY)
    with pytest.raises(BadInput, match="a file stands where a folder is needed"):
        RunFolder.open(tmp_path / "file" / "run", *IDENTITY)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(BadInput, match="not empty and is not a run folder"):
        RunFolder.open(tmp_path / "full", *IDENTITY)
    with pytest.raises(BadInput, match=r"identity\.json is missing"):
        RunFolder.existing(tmp_path / "full")
    RunFolder.open(tmp_path / "run", *IDENTITY)
    (tmp_path / "run" / "identity.json").write_text("[]")
    with pytest.raises(BadInput, match=r"cannot be read; .*delete this one"):
        RunFolder.open(tmp_path / "run", *IDENTITY)


@pytest.mark.skipif(platform.system() != "Linux", reason="/proc is Linux's")
def test_a_place_where_nothing_can_be_made_is_one_sentence() -> None:
    with pytest.raises(CannotWrite, match=r"/proc/run: .*--out"):
        RunFolder.open(Path("/proc/run"), *IDENTITY)


def test_a_discarded_run_frees_its_place(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "run", *IDENTITY)
    run.log.info("something")
    run.discard()
    assert not run.path.exists()
    other = RunFolder.open(tmp_path / "run", "kind: lesions\n", {}, {})
    other.log.info("something else")
    text = (other.path / "log.txt").read_text()
    assert "something else" in text and text.count("\n") == 1


def test_a_number_of_the_same_name_and_owner_replaces(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "run", *IDENTITY)
    run.summary(Number("crps", 2.0, "cm3"), Number("crps", 3.0, "cm3", of="baseline: persistence"))
    run.summary(Number("crps", 1.0, "cm3", (0.5, 1.5), 0.9))
    rows = json.loads((run.path / "summary.json").read_text())
    assert {(r["of"], r["value"]) for r in rows} == {("forecast", 1.0), ("baseline: persistence", 3.0)}
    assert next(r for r in rows if r["of"] == "forecast")["interval"] == [0.5, 1.5]


def test_evidence_figures_tables_and_texts_are_kept(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    run = RunFolder.open(tmp_path / "run", *IDENTITY)
    item = Evidence("growth.mass", "numerical_solver_error", "Mass.", "below 1", {"error": 2.0}, "failed")
    run.evidence(item)
    assert run.all_evidence() == [item]
    assert run.journal.entries()[-1]["facts"] == {"id": "growth.mass", "status": "failed"}
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1], [0, 1])
    run.figure("line", figure, title="A line", caption="It rises.", section="forecast", order=3)
    assert (run.path / "figures" / "line.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((run.path / "figures" / "line.json").read_text())["alt"] == "A line"
    run.table(
        "t", [("day", "d")], [[np.float64(1.5)], [np.int64(2)]], title="T", caption="", section="scores"
    )
    assert json.loads((run.path / "tables" / "t.json").read_text())["rows"] == [[1.5], [2]]
    run.text("note", "patient", "A sentence.")
    assert json.loads((run.path / "text" / "note.json").read_text())["paragraph"] == "A sentence."
    assert not list(run.path.rglob(".part-*"))


def test_the_environment_says_what_was_used() -> None:
    found = environment()
    assert found["versions"]["numpy"] == np.__version__ and found["cpus"] == os.cpu_count()
    lock = Path(__file__).parents[2] / "requirements.lock"
    assert found["lock_sha256"] == (sha256(lock) if lock.exists() else None)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EACCES, "no permission to write here"),
        (errno.EROFS, "no permission to write here"),
        (errno.ENOTDIR, "a file stands where a folder is needed"),
        (errno.EIO, "cannot be written"),
    ],
)
def test_a_write_that_fails_leaves_the_old_file_and_no_part(tmp_path: Path, number: int, words: str) -> None:
    path = write_text(tmp_path / "a.json", "old")

    def half(temporary: Path) -> None:
        temporary.write_text("ne")
        raise OSError(number, os.strerror(number))

    with pytest.raises(CannotWrite, match=words) as caught:
        write_with(path, half)
    assert str(path) in str(caught.value) and "--out" in str(caught.value)
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert str(cannot_write(path, OSError("without a number"))).startswith(str(path))


def test_an_interrupted_write_leaves_no_part(tmp_path: Path) -> None:
    def stopped(temporary: Path) -> None:
        temporary.write_text("ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_with(tmp_path / "a.json", stopped)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_ordinary_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "folder", Path(os.devnull)):
        with pytest.raises(CannotWrite, match="not an ordinary file"):
            write_text(place, "text")
    assert not Path(os.devnull).is_file()


def test_what_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        sha256(tmp_path / "none")


@pytest.mark.parametrize("written", [0, 1, 2, 3])
def test_a_folder_whose_opening_was_stopped_opens_again(
    written: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many of the run's own records were written, the folder stays this study's."""
    real, left = os.replace, [written]

    def stopped(source: Path, target: Path) -> None:
        if left[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left[0] -= 1
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stopped)
        with pytest.raises(CannotWrite, match="the disk is full"):
            RunFolder.open(tmp_path / "run", *IDENTITY)
    (tmp_path / "run" / ".part-of-a-killed-process").write_text("half")
    run = RunFolder.open(tmp_path / "run", *IDENTITY)
    assert [e["event"] for e in run.journal.entries()] == ["run started"]
    assert not list(run.path.rglob(".part-*"))
