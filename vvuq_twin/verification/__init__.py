"""Does the code solve its equations? Checks with oracles, each leaving evidence."""

from __future__ import annotations

from .registry import Check, run_suite

__all__ = ["Check", "run_suite"]
