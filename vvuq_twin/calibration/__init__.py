"""Bayesian calibration with gradients. Names are loaded on first use: JAX and PyMC are slow to import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .diagnostics import Limits
    from .posterior import CalibrationResult, calibrate
    from .sbc import SbcResult, simulation_based_calibration

_HOME = {
    "CalibrationResult": "posterior",
    "Limits": "diagnostics",
    "SbcResult": "sbc",
    "calibrate": "posterior",
    "simulation_based_calibration": "sbc",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


__all__ = ["CalibrationResult", "Limits", "SbcResult", "calibrate", "simulation_based_calibration"]
