"""An append-only journal whose lines each carry the hash of the one before."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .files import cannot_write

_START = "0" * 64


@dataclass(frozen=True)
class Journal:
    """``journal.jsonl`` of a run folder.

    Each line is a JSON object with ``time`` (UTC), ``event``, ``facts`` and ``previous``, the SHA-256 of
    the line before (64 zeros for the first), so that a changed or removed line is found by :meth:`broken_at`.
    """

    path: Path

    def append(self, event: str, **facts: Any) -> None:
        """Add a line; it is on the disk when this returns."""
        lines = self._lines()
        entry = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "event": event,
            "facts": facts,
            "previous": _hash(lines[-1]) if lines else _START,
        }
        try:
            whole = sum(len(line.encode()) + 1 for line in lines)
            with open(self.path, "ab") as out:
                # what a crash cut off in the middle is not continued
                out.truncate(whole)
                out.write((json.dumps(entry, sort_keys=True, default=str) + "\n").encode())
                out.flush()
                os.fsync(out.fileno())
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def entries(self) -> list[dict[str, Any]]:
        """All lines as dictionaries."""
        return [json.loads(line) for line in self._lines()]

    def broken_at(self) -> int | None:
        """Number (from 1) of the first line whose link to the one before does not hold, or None.

        A last line that was cut off by a crash is dropped on reading, not counted as broken.
        """
        previous = _START
        for i, line in enumerate(self._lines(), start=1):
            try:
                if json.loads(line)["previous"] != previous:
                    return i
            except (json.JSONDecodeError, KeyError):
                return i
            previous = _hash(line)
        return None

    def _lines(self) -> list[str]:
        """The whole lines; one that a crash cut off, or that is being written, is not counted."""
        if not self.path.exists():
            return []
        text = self.path.read_text(encoding="utf-8")
        return text[: text.rfind("\n") + 1].splitlines()


def _hash(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()
