"""The small growth problem of the reduction's tests, in both orders."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from vvuq_twin.reduction.training import Training, train
from vvuq_twin.twin.growth import FullOrderGrowth, ReducedGrowthTwin


def _small() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "reduction" / "growth_small.py"
    spec = importlib.util.spec_from_file_location("growth_small_for_twin", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def twins() -> tuple[FullOrderGrowth, ReducedGrowthTwin]:
    case = _small().small_case()
    result = train(case, 11, Training(n_train=24, n_greedy=0, n_valid=8, max_rank=40, rounds=0))
    return FullOrderGrowth(case), ReducedGrowthTwin(case, result.reduced, result.probe)
