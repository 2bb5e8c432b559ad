"""Runs checks against a copy of the package with one line made wrong, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from mutants import Mutant

PACKAGE = Path(__file__).resolve().parents[2] / "vvuq_twin"

#: Run in the copy: checks in the order given until one fails; prints what failed and how.
DRIVER = """
import json, sys
from vvuq_twin.verification.registry import load_checks
checks = load_checks()
first = [i for hint in sys.argv[1].split(",") for i in checks if i.startswith(hint)]
order = first if sys.argv[2] == "only" else list(dict.fromkeys([*first, *checks]))
for i in order:
    evidence = checks[i].run(quick=True)
    if evidence.status == "failed":
        raised = isinstance(evidence.result.get("error"), str)
        print(json.dumps({"caught": i, "raised": raised, "result": evidence.result}, default=float))
        break
else:
    print(json.dumps({"caught": None}))
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
    for cache in (path.parent / "__pycache__").glob("*.nb?"):
        cache.unlink()
    return folder


def run_mutant(mutant: Mutant, folder: Path, checks: tuple[str, ...], only: bool) -> dict:
    """What the first check that fails says; ``checks`` are prefixes of ids, tried first or alone."""
    where = broken_copy(mutant, folder)
    environment = {**os.environ, "PYTHONPATH": str(where), "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", DRIVER, ",".join(checks), "only" if only else "all"]
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])
