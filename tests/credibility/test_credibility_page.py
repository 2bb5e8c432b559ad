"""The page as a reader gets it: whole, offline, escaped, linked."""

from __future__ import annotations

import re
from pathlib import Path

from vvuq_twin.credibility import report


def test_report_is_written_and_repeats(finished: Path) -> None:
    first = report(finished).read_bytes()
    assert report(finished).read_bytes() == first
