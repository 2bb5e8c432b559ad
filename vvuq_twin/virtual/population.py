"""The population virtual glioma patients are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from ..domain.keys import generator
from ..domain.parameters import prior_from_spec


@cache
def settings() -> dict[str, Any]:
    """``library/virtual_glioma.yaml``."""
    text = resources.files("vvuq_twin.library").joinpath("virtual_glioma.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


@dataclass(frozen=True)
class Truth:
    """What is true of one virtual patient and hidden from its twin: named numbers."""

    seed: int
    values: dict[str, float]

    def __getitem__(self, name: str) -> float:
        return self.values[name]


def draw_truth(seed: int) -> Truth:
    """Draw a patient's parameters, each keyed by the patient's seed and its own name."""
    values: dict[str, float] = {}
    for group in ("growth", "unknown", "at_diagnosis"):
        for name, spec in settings()[group].items():
            if isinstance(spec, dict):
                z = generator(seed, "truth", name).standard_normal()
                prior = prior_from_spec(spec["prior"], f"virtual_glioma.yaml: {group}.{name}")
                values[name] = float(prior.from_gaussian(z))
    return Truth(seed, values)
