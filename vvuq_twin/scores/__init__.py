"""Scores as functions on arrays: CRPS, coverage, PIT, CCC, Dice."""

from .agreement import concordance, dice, rmse, skill
from .calibration import central_interval, coverage, inside, pit
from .probability import (
    crps_ensemble,
    crps_gaussian,
    crps_weighted,
    energy_score,
    interval_score,
    quantiles,
)

__all__ = [
    "central_interval", "concordance", "coverage", "crps_ensemble", "crps_gaussian", "crps_weighted", "dice",
    "energy_score", "inside", "interval_score", "pit", "quantiles", "rmse", "skill",
]  # fmt: skip
