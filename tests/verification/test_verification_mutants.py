"""Solvers broken on purpose are caught (what each mutant is: mutants.py beside this)."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutant_run import PACKAGE, run_mutant
from mutants import MUTANTS

from vvuq_twin.verification.registry import load_checks

#: Files whose kernels are compiled again when they change: minutes rather than seconds for all of them.
COMPILED = {"physics/kernels.py", "physics/growth.py", "physics/convection.py", "physics/smallexp.py",
            "physics/saturable.py", "kinetics/stiff.py"}  # fmt: skip


def test_every_mutant_is_one_change_and_names_a_check():
    assert len(MUTANTS) >= 12
    assert len({m.name for m in MUTANTS}) == len(MUTANTS)
    for m in MUTANTS:
        assert (PACKAGE / m.file).read_text(encoding="utf-8").count(m.old) == 1, m.name
        assert m.caught in load_checks(), m.name


@pytest.mark.parametrize(
    "mutant",
    [pytest.param(m, id=m.name, marks=[pytest.mark.slow] if m.file in COMPILED else []) for m in MUTANTS],
)
def test_mutant_is_caught(mutant, tmp_path: Path):
    found = run_mutant(mutant, tmp_path)
    assert found["status"] == "failed", found
    # caught by its numbers, not because it fell over
    assert not isinstance(found["result"].get("error"), str), found
