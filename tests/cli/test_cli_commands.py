"""The small commands: version, help, check, report, verify; and the words for exceptions."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from command_line import Command, Process

from vvuq_twin import __version__
from vvuq_twin.cli.faults import sentence
from vvuq_twin.cli.progress import bars
from vvuq_twin.domain.errors import BadInput, RunFailed
from vvuq_twin.domain.evidence import Evidence
from vvuq_twin.domain.runfolder import Number, RunFolder

STUDY = """kind: growth
title: A study that was stopped
use: {question: How large?, context_of_use: Tests., model_influence: low, decision_consequence: low}
seed: 1
parameters: {}
"""


def test_version_and_help(cli: Command) -> None:
    assert cli("--version").out.strip() == f"vvuq-twin {__version__}"
    helped = cli("--help")
    assert helped.code == 0
    for command in ("run", "check", "report", "verify"):
        assert command in helped.out
    unknown = cli("runn")
    assert unknown.code == 2 and "runn" in unknown.err and "Traceback" not in unknown.err


def test_the_installed_command_answers(process: object) -> None:
    said = Process(("--version",), Path.cwd()).run()
    assert said.code == 0 and said.out.strip() == f"vvuq-twin {__version__}"


def test_verify_runs_the_checks_that_are_named(cli: Command, tmp_path: Path) -> None:
    path = tmp_path / "evidence.json"
    said = cli("verify", "--quick", "--only", "plasma.bolus", "--json", path, "--quiet")
    assert said.code == 0 and said.err == ""
    found = json.loads(path.read_text())
    assert [e["id"] for e in found] == ["plasma.bolus"] and found[0]["status"] == "passed"
    assert "plasma.bolus" in said.out and "1 of 1 checks passed" in said.out


def test_verify_writes_one_evidence_file_per_check_into_a_folder(cli: Command, tmp_path: Path) -> None:
    said = cli("verify", "--quick", "--only", "plasma.i", "--json", tmp_path / "evidence", "--quiet")
    assert said.code == 0
    assert [p.name for p in (tmp_path / "evidence").iterdir()] == ["plasma.infusion.json"]


def test_verify_says_when_nothing_has_that_name(cli: Command) -> None:
    said = cli("verify", "--only", "plasma.bolsu", "--quiet")
    assert said.code == 2 and "plasma.bolsu" in said.err and "plasma.bolus" in said.err


def test_a_failed_check_is_exit_code_one(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = Evidence("x", "software_quality", "It works.", "always", {"error": 0.5}, "failed")
    monkeypatch.setattr("vvuq_twin.verification.run_suite", lambda **_: [failed])
    said = cli("verify", "--quiet", "--workers", "1")
    assert said.code == 1 and "0 of 1 checks passed" in said.out and "0.5" in said.out


def test_the_report_of_an_interrupted_run_can_be_made(cli: Command, tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "run", STUDY, {}, {})
    run.summary(Number("crps_volume", 1.25, "cm3"))
    said = cli("report", tmp_path / "run")
    assert said.code == 0, said.err
    html = (tmp_path / "run" / "report.html").read_text()
    assert "A study that was stopped" in html and "1.25" in html and "ot assessed" in html


def test_each_exception_has_its_sentence_and_code() -> None:
    assert sentence(BadInput("it is wrong", "a.yaml: b", "mend it")) == (
        "error: a.yaml: b: it is wrong; mend it.",
        2,
    )
    assert sentence(RunFailed("it broke")) == ("error: it broke", 1)
    text, code = sentence(KeyboardInterrupt())
    assert code == 1 and text.startswith("interrupted")
    text, code = sentence(OSError(errno.ENOSPC, "No space left on device", "/a/b"))
    assert code == 2 and "/a/b: the disk is full" in text


def test_an_unexpected_exception_shows_its_traceback_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VVUQ_TWIN_DEBUG", raising=False)
    try:
        raise ValueError("odd")
    except ValueError as error:
        text, code = sentence(error)
        assert code == 1 and "unexpected ValueError: odd" in text and "\n" not in text
        monkeypatch.setenv("VVUQ_TWIN_DEBUG", "1")
        assert "Traceback" in sentence(error)[0]


def test_progress_is_a_line_at_the_start_and_the_end_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with bars(quiet=False) as progress:
        for done in range(4):
            progress("members", done, 3)
    shown = capsys.readouterr()
    assert shown.out == ""
    first, last = shown.err.splitlines()
    assert first == "members ..." and last.startswith("members: done in ")
    with bars(quiet=True) as progress:
        progress("members", 1, 3)
    assert capsys.readouterr() == ("", "")
