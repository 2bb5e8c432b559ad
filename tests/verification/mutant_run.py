"""Runs a check against a copy of the package with one line made wrong, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from mutants import Mutant

PACKAGE = Path(__file__).resolve().parents[2] / "vvuq_twin"

#: Run in the copy: one check; prints its status and result.
DRIVER = """
import json, sys
from vvuq_twin.verification.registry import load_checks
evidence = load_checks()[sys.argv[1]].run(quick=True)
print(json.dumps({"status": evidence.status, "result": evidence.result}, default=float))
"""


def broken_copy(mutant: Mutant, folder: Path) -> Path:
    """A copy of the package with the mutant in it; compiled code that does not depend on it is kept."""
    shutil.copytree(PACKAGE, folder / "vvuq_twin")
    path = folder / "vvuq_twin" / mutant.file
    text = path.read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, (
        f"'{mutant.old}' occurs {text.count(mutant.old)} times in {mutant.file}"
    )
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    if "@compiled" in text or "njit" in text:  # compiled callers in other files hold a copy of the old kernel
        for cache in (path.parent / "__pycache__").glob("*.nb?"):
            cache.unlink()
    return folder


def run_mutant(mutant: Mutant, folder: Path) -> dict:
    """Status and result of the check that is to catch the mutant."""
    where = broken_copy(mutant, folder)
    environment = {**os.environ, "PYTHONPATH": str(where), "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", DRIVER, mutant.caught]
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])
