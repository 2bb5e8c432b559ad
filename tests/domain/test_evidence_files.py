"""Files that are whole or absent, evidence that comes back as it was, errors that are one sentence."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import stat
from pathlib import Path

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput, RunFailed, near
from vvuq_twin.domain.evidence import Evidence, read_evidence, verdict
from vvuq_twin.domain.files import cannot_write, sha256, write_bytes, write_text, write_with


def test_a_file_is_written_whole_with_its_folders(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a" / "b" / "x.json", "grüße\n")
    assert path.read_text(encoding="utf-8") == "grüße\n"
    assert write_bytes(path, b"new").read_bytes() == b"new"
    assert sha256(path) == hashlib.sha256(b"new").hexdigest()
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


def test_others_may_read_what_was_written_as_the_umask_says(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    assert stat.S_IMODE(write_text(tmp_path / "x", "1").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = write_text(tmp_path / "x.nii.gz", "old")
    names: list[str] = []

    def fail(part: Path) -> None:
        names.append(part.name)
        part.write_text("half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_with(path, fail)
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["x.nii.gz"]
    assert names[0].endswith(".nii.gz")  # libraries choose the format by the ending


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    def full(part: Path) -> None:
        part.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(BadInput, match=r"x.bin: the disk is full; free some space .*--out\.$"):
        write_with(tmp_path / "x.bin", full)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "no permission"),
        (errno.EROFS, "no permission"),
        (errno.ENOTDIR, "a file stands"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EIO, "cannot be written"),
    ],
)
def test_each_refusal_of_the_system_has_its_words(number: int, said: str) -> None:
    assert said in str(cannot_write(Path("run"), OSError(number, os.strerror(number))))


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(BadInput, match="a file stands where a folder is needed"):
        write_text(tmp_path / "run" / "x", "1")


def test_bad_input_is_one_sentence_and_survives_a_process_boundary() -> None:
    error = BadInput("the mask is empty", "patient.yaml: tumour", "draw it")
    assert str(error) == "patient.yaml: tumour: the mask is empty; draw it."
    assert str(BadInput("the mask is empty")) == "the mask is empty."
    assert str(BadInput("no such key", mend="did you mean 'adc'?")) == "no such key; did you mean 'adc'?"
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.where == "patient.yaml: tumour"
    assert (BadInput("x").exit_code, RunFailed("x").exit_code) == (2, 1)


def test_near_names_the_near_word_or_all() -> None:
    assert near("tumor", ["tumour", "adc"]) == "did you mean 'tumour'?"
    assert near("zzz", ["b", "a"]) == "use one of: a, b"


def test_evidence_comes_back_as_it_was(tmp_path: Path) -> None:
    first = Evidence(
        "growth.mms.space",
        "numerical_code_verification",
        "The scheme is of second order in space.",
        "observed order 2 within 0.1",
        {"order": np.float64(1.98), "errors": np.array([1e-2, 2.5e-3]), "n": np.int64(3)},
        "passed",
        ("figures/mms.png",),
        {"seed": 1},
    )
    second = Evidence("a/b c", "f", "c", "a", status="failed")
    assert second.write(tmp_path).name == "a_b_c.json"
    first.write(tmp_path)
    found = read_evidence(tmp_path)
    assert [e.id for e in found] == ["a/b c", "growth.mms.space"]
    assert found[0] == second
    assert found[1].result == {"order": 1.98, "errors": [1e-2, 2.5e-3], "n": 3}
    assert found[1].artefacts == ("figures/mms.png",)


def test_one_failure_decides_the_verdict() -> None:
    def made(*states: str) -> list[Evidence]:
        return [Evidence(str(i), "f", "c", "a", status=s) for i, s in enumerate(states)]  # type: ignore[arg-type]

    assert verdict(made("passed", "failed", "passed")) == "failed"
    assert verdict(made("passed", "not assessed")) == "passed"
    assert verdict(made("planned", "not applicable")) == "not assessed"
    assert verdict([]) == "not assessed"
