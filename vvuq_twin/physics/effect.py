"""How cells die of a concentration: kill rates, 1/h."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..domain.errors import BadInput


@dataclass(frozen=True)
class Linear:
    """In proportion: ``slope C``.

    Parameters
    ----------
    slope : float
        1/h per unit of concentration.
    """

    slope: float

    def __post_init__(self) -> None:
        _positive("slope", self.slope, 0.0)

    def rate(self, c: np.ndarray) -> np.ndarray:
        """Kill rate, 1/h."""
        return self.slope * np.maximum(c, 0.0)


@dataclass(frozen=True)
class Hill:
    """Saturating: ``emax C^power / (ec50^power + C^power)``; power 1 is the Emax model.

    Parameters
    ----------
    emax : float
        Largest kill rate, 1/h.
    ec50 : float
        Concentration at half of it.
    power : float
    """

    emax: float
    ec50: float
    power: float = 1.0

    def __post_init__(self) -> None:
        _positive("emax", self.emax, 0.0)
        _positive("ec50", self.ec50, np.finfo(float).tiny)
        _positive("power", self.power, np.finfo(float).tiny)

    def rate(self, c: np.ndarray) -> np.ndarray:
        """Kill rate, 1/h."""
        x = (np.maximum(c, 0.0) / self.ec50) ** self.power
        return self.emax * x / (1.0 + x)


def _positive(name: str, value: float, least: float) -> None:
    if not (np.isfinite(value) and value >= least):
        raise BadInput(f"{name} of the effect ({value:g}) is negative, zero or not finite", "effect")
