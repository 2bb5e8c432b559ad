"""The journal: append-only, hash-chained, and whole after a crash."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.journal import Journal


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    out = Journal(tmp_path / "journal.jsonl")
    for i in range(4):
        out.append("step", number=i, note="naïve \u2028 lines")
    return out


def test_each_line_carries_the_hash_of_the_one_before(journal: Journal) -> None:
    lines = journal.path.read_bytes().split(b"\n")[:-1]
    assert len(lines) == 4
    previous = "0" * 64
    for i, line in enumerate(lines):
        entry = json.loads(line)
        assert entry["previous"] == previous and entry["facts"]["number"] == i
        previous = hashlib.sha256(line).hexdigest()
    assert journal.broken_at() is None
    assert [e["event"] for e in journal.entries()] == ["step"] * 4


@pytest.mark.parametrize(
    ("spoil", "broken"), [("change", 3), ("remove", 2), ("swap", 2), ("garble", 2), ("first", 1)]
)
def test_a_changed_or_removed_line_is_found(journal: Journal, spoil: str, broken: int) -> None:
    lines = journal.path.read_text().split("\n")[:-1]
    if spoil == "change":
        lines[1] = lines[1].replace('"number": 1', '"number": 7')
    elif spoil == "remove":
        del lines[1]
    elif spoil == "swap":
        lines[1], lines[2] = lines[2], lines[1]
    elif spoil == "garble":
        lines[1] = "not JSON"
    else:
        del lines[0]
    journal.path.write_text("\n".join(lines) + "\n")
    assert journal.broken_at() == broken


@pytest.mark.parametrize("keep", [1, 40, -1])
def test_a_line_that_a_crash_cut_off_is_dropped_and_written_over(journal: Journal, keep: int) -> None:
    whole = journal.path.read_bytes()
    last = whole.split(b"\n")[-2]
    journal.path.write_bytes(whole + last[:keep])
    assert len(journal.entries()) == 4 and journal.broken_at() is None
    journal.append("after the crash")
    assert journal.path.read_bytes().startswith(whole)
    assert [e["event"] for e in journal.entries()] == ["step"] * 4 + ["after the crash"]
    assert journal.broken_at() is None


def test_an_empty_journal_is_whole(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    assert journal.entries() == [] and journal.broken_at() is None
    journal.path.write_text("")
    assert journal.entries() == [] and journal.broken_at() is None
    journal.append("first")
    assert journal.broken_at() is None


def test_a_journal_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="a file stands where a folder is needed"):
        Journal(tmp_path / "file" / "journal.jsonl").append("event")
