"""Does the code solve its equations? Checks with oracles, each leaving evidence."""

from __future__ import annotations

from .registry import Check, load_checks, run_check, run_suite

__all__ = ["Check", "load_checks", "run_check", "run_suite"]
