"""Does the code solve its equations? Checks with oracles, each leaving evidence."""

from __future__ import annotations

from .registry import Check, begin_suite, run_suite

__all__ = ["Check", "begin_suite", "run_suite"]
