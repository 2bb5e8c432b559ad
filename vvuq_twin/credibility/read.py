"""Read what a run left in its folder; what is missing or broken becomes a sentence, not a failure."""

from __future__ import annotations

import base64
import json
import re
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..domain.errors import BadInput
from ..domain.evidence import Evidence
from ..domain.journal import Journal
from ..domain.runfolder import RunFolder
from .assess import STATUSES

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Item:
    """A figure, table or paragraph of a section.

    ``content`` is ``{"uri", "width", "height"}`` (figure), ``{"columns", "rows"}`` (table) or the text;
    ``file`` is its place relative to the run folder.
    """

    kind: str
    name: str
    file: str
    section: str
    order: float
    title: str
    caption: str
    alt: str
    content: Any


@dataclass(frozen=True)
class JournalRecord:
    """The journal's entries and the first broken line (from 1), if any."""

    entries: tuple[dict[str, Any], ...]
    broken_at: int | None
    present: bool


@dataclass
class RunRecord:
    """All that a report can be made of. ``problems`` says what is missing or broken, one sentence each."""

    path: Path
    study: dict[str, Any] = field(default_factory=dict)
    study_text: str = ""
    environment: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    numbers: list[dict[str, Any]] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    evidence_files: dict[str, str] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    journal: JournalRecord = JournalRecord((), None, False)
    problems: list[str] = field(default_factory=list)


def read_run(folder: Path) -> RunRecord:
    """Everything a run left.

    Parameters
    ----------
    folder : Path
        A run folder, finished or interrupted.

    Raises
    ------
    BadInput
        If it is not a run folder or cannot be read at all.
    """
    run = RunFolder.existing(folder)
    record = RunRecord(run.path)
    _study(record)
    record.environment = _mapping(record, "environment.json")
    record.inputs = _mapping(record, "inputs.json")
    settings = _mapping(record, "identity.json").get("settings")
    record.settings = settings if isinstance(settings, dict) else {}
    _numbers(record)
    _evidence(record)
    record.items += [*_figures(record), *_tables(record), *_texts(record)]
    record.items.sort(key=lambda i: (i.order, i.kind != "text", i.name))
    _journal(record)
    return record


def _study(record: RunRecord) -> None:
    path = record.path / "study.yaml"
    try:
        record.study_text = path.read_text(encoding="utf-8")
        data = yaml.safe_load(record.study_text)
    except (OSError, UnicodeDecodeError):
        record.problems.append("study.yaml is missing or cannot be read.")
        return
    except yaml.YAMLError:
        record.problems.append("study.yaml is not valid YAML.")
        return
    if isinstance(data, dict):
        record.study = data
    else:
        record.problems.append("study.yaml does not hold a mapping of keys.")


def _json(record: RunRecord, file: str) -> Any:
    """Content of a JSON file, or None with a problem noted."""
    try:
        return json.loads((record.path / file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        record.problems.append(f"{file} is missing.")
    except (OSError, UnicodeDecodeError):
        record.problems.append(f"{file} cannot be read.")
    except (json.JSONDecodeError, RecursionError):
        record.problems.append(f"{file} is not valid JSON.")
    return None


def _mapping(record: RunRecord, file: str) -> dict[str, Any]:
    data = _json(record, file)
    if data is None or isinstance(data, dict):
        return data or {}
    record.problems.append(f"{file} does not hold a mapping.")
    return {}


def _numbers(record: RunRecord) -> None:
    rows = _json(record, "summary.json")
    if rows is None:
        return
    good = [r for r in rows if isinstance(r, dict) and "name" in r] if isinstance(rows, list) else []
    if not isinstance(rows, list) or len(good) != len(rows):
        record.problems.append("summary.json holds rows without a name, which are left out.")
    record.numbers = good


def _evidence(record: RunRecord) -> None:
    for path in sorted((record.path / "evidence").glob("*.json")):
        file = f"evidence/{path.name}"
        data = _json(record, file)
        if data is None:
            continue
        try:
            data["artefacts"] = tuple(str(a) for a in data.get("artefacts", ()))
            item = Evidence(**data)
            broken = not (isinstance(item.result, dict) and isinstance(item.provenance, dict))
            broken = broken or not all(isinstance(v, str) for v in (item.id, item.factor, item.claim))
        except (TypeError, AttributeError):
            broken = True
        if broken:
            record.problems.append(f"{file} is not a record of evidence.")
        elif item.status not in STATUSES:
            record.problems.append(f"{file} has the unknown status '{item.status}'.")
        elif item.id in record.evidence_files:
            record.problems.append(f"{file} repeats the evidence '{item.id}'; the first is kept.")
        else:
            record.evidence.append(item)
            record.evidence_files[item.id] = file
    record.evidence.sort(key=lambda e: _natural(e.id))
    for item in record.evidence:
        for artefact in item.artefacts:
            if relative(record.path, artefact) is None:
                record.problems.append(
                    f"The evidence '{item.id}' names {artefact}, which is not in the run folder."
                )


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts "case 2" before "case 10"."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def relative(folder: Path, artefact: str) -> str | None:
    """The path of an artefact relative to the run folder, or None if it is not a file or folder in it."""
    if not artefact or "\x00" in artefact or Path(artefact).is_absolute():
        return None
    try:
        path = (folder / artefact).resolve()
        inside = path.is_relative_to(folder.resolve()) and path.exists()
    except OSError:
        return None
    return Path(artefact).as_posix() if inside else None


def _sidecars(record: RunRecord, folder: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted((record.path / folder).glob("*.json")):
        file = f"{folder}/{path.name}"
        data = _json(record, file)
        if isinstance(data, dict):
            yield path, data
        elif data is not None:
            record.problems.append(f"{file} does not hold a mapping.")


def _item(kind: str, file: str, side: dict[str, Any], content: Any) -> Item:
    order = side.get("order", 0)
    order = order if isinstance(order, int | float) and abs(order) < 1e9 else 0
    title = str(side.get("title") or "")
    return Item(
        kind, Path(file).stem, file, str(side.get("section") or ""),
        float(order),
        title, str(side.get("caption") or ""), str(side.get("alt") or title), content,
    )  # fmt: skip


def _figures(record: RunRecord) -> Iterator[Item]:
    described = set()
    for path, side in _sidecars(record, "figures"):
        file = f"figures/{path.stem}.png"
        described.add(path.stem)
        data = _picture(record, file)
        if data is not None:
            yield _item("figure", file, side, data)
    for path in sorted((record.path / "figures").glob("*.png")):
        if path.stem not in described:
            record.problems.append(f"figures/{path.name} has no description beside it.")
            data = _picture(record, f"figures/{path.name}")
            if data is not None:
                side = {"title": path.stem.replace("_", " "), "alt": "A figure without a description"}
                yield _item("figure", f"figures/{path.name}", side, data)


def _picture(record: RunRecord, file: str) -> dict[str, Any] | None:
    """A PNG as a data URI with its size for the page, or None with a problem noted."""
    try:
        raw = (record.path / file).read_bytes()
    except OSError:
        record.problems.append(f"{file} is missing or cannot be read.")
        return None
    if len(raw) < 45 or not raw.startswith(_PNG) or b"IEND" not in raw[-12:]:
        record.problems.append(f"{file} is not a whole PNG picture.")
        return None
    # figures are saved at 130 dots per inch, and a CSS pixel is 1/96 inch
    width, height = (round(n * 96 / 130) for n in struct.unpack(">II", raw[16:24]))
    uri = "data:image/png;base64," + base64.b64encode(raw).decode()
    return {"uri": uri, "width": width, "height": height}


def _tables(record: RunRecord) -> Iterator[Item]:
    for path, data in _sidecars(record, "tables"):
        file = f"tables/{path.name}"
        columns, rows = data.get("columns"), data.get("rows")
        whole = (
            isinstance(columns, list)
            and isinstance(rows, list)
            and all(isinstance(c, dict) and "name" in c for c in columns)
            and all(isinstance(r, list) and len(r) == len(columns) for r in rows)
        )
        if not whole:
            record.problems.append(f"{file} is not a table: its rows do not fit its columns.")
            continue
        yield _item("table", file, data, {"columns": columns, "rows": rows})


def _texts(record: RunRecord) -> Iterator[Item]:
    for path, data in _sidecars(record, "text"):
        paragraph = data.get("paragraph")
        if isinstance(paragraph, str):
            yield _item("text", f"text/{path.name}", data, paragraph)
        else:
            record.problems.append(f"text/{path.name} holds no paragraph.")


def _journal(record: RunRecord) -> None:
    path = record.path / "journal.jsonl"
    if not path.exists():
        record.problems.append("journal.jsonl is missing, so the order of events cannot be checked.")
        return
    try:
        raw = path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if whole != raw:
            record.problems.append("The last line of journal.jsonl was cut off.")
        # a copy, because a journal that was cut off is mended when it is opened, and a report only reads
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / "journal.jsonl"
            copy.write_bytes(whole)
            journal = Journal(copy)
            broken = journal.broken_at()
            entries = _entries(whole)
    except (OSError, UnicodeDecodeError, TypeError) as error:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise BadInput("the journal cannot be read", str(path), "check its permissions") from error
        record.problems.append("journal.jsonl is not text with one JSON object a line.")
        record.journal = JournalRecord((), 1, True)
        return
    record.journal = JournalRecord(tuple(entries), broken, True)
    last = {}
    for entry in entries:
        facts = entry.get("facts")
        if entry.get("event") == "evidence" and isinstance(facts, dict) and "id" in facts:
            last[str(facts["id"])] = str(facts.get("status"))
    held = {e.id: e.status for e in record.evidence}
    for name, status in last.items():
        if name not in held:
            record.problems.append(
                f"The journal records the evidence '{name}' ({status}), but its file is missing or broken."
            )
        elif held[name] != status:
            record.problems.append(
                f"The journal says '{status}' of the evidence '{name}', its file says '{held[name]}'."
            )


def _entries(raw: bytes) -> list[dict[str, Any]]:
    found = []
    for line in raw.decode("utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found
