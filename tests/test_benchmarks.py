"""Each benchmark runs at its smallest size, and both sides of it give the same answer."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
#: How far the two answers may be apart at the smallest size; the reduced model there is a crude one.
LIMITS = {
    "assimilation": 1e-9, "ensemble": 1e-12, "growth_kernel": 1e-12, "large_ensemble": 1e-5, "multifidelity": 2.0,
    "reduction": 1.0, "reduction_delivery": 0.05, "sensitivity": 1e-8, "transport": 0.01, "tofts": 0.01,
}  # fmt: skip


@pytest.fixture
def benchmarks(monkeypatch):
    """The folder importable, as when a script in it is run."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield
    for name in {p.stem for p in FOLDER.glob("*.py")} & (set(sys.modules) - before):
        del sys.modules[name]


def test_every_benchmark_has_a_limit() -> None:
    assert {p.stem for p in FOLDER.glob("*.py")} - {"common"} == set(LIMITS)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            n, marks=[pytest.mark.slow] if n in {"multifidelity", "reduction", "reduction_delivery"} else []
        )
        for n in sorted(LIMITS)
    ],
)
def test_smallest_case(name: str, benchmarks, capsys) -> None:
    module = importlib.import_module(name)
    rows = module.measure(**module.SMALL)
    importlib.import_module("common").show(rows)
    assert len(capsys.readouterr().out.splitlines()) >= len(rows) + 2
    differences = [r.difference for r in rows if r.difference is not None]
    assert differences and all(d <= LIMITS[name] for d in differences)
    for row in rows:
        assert np.isfinite([row.ours, row.theirs, row.ratio]).all() and row.theirs > 0
