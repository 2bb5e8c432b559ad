"""Ways to make quantities from images wrong, one for each of their checks."""

from __future__ import annotations

from dataclasses import replace

from vvuq_twin.imaging import dose, t1
from vvuq_twin.kinetics import fit
from vvuq_twin.kinetics.tracer import MODELS
from vvuq_twin.verification import imaging_checks

_ONE_RATE, _ANGLES, _SCATTER = fit.fit_one_rate, t1._angles, dose._scatter


def swapped(p):
    """The exchange model with its two rates changed over."""
    amplitudes, rates = MODELS["2cxm"].terms(p)
    return amplitudes, rates[::-1]


def stopped_early(*args):
    """A rate that is not quite where the sum of squares is least."""
    amplitudes, log_rate, *rest = _ONE_RATE(*args)
    return amplitudes, log_rate + 1e-4, *rest


def nominal(signal, flips, repetition_time, b1):
    """The transmit field is left out."""
    return _ANGLES(signal, flips, repetition_time, None)


def forgotten(*args):
    """What leaves the kernel is not counted."""
    return 0.0 * _SCATTER(*args)


WRONG_EXCHANGE = {**MODELS, "2cxm": replace(MODELS["2cxm"], terms=swapped)}

IMAGING_MUTATIONS = [
    ("tracer.curves", imaging_checks, "MODELS", WRONG_EXCHANGE),
    ("tracer.recovery", fit, "fit_one_rate", stopped_early),
    ("t1.recovery", t1, "_angles", nominal),
    ("dose.energy", dose, "_scatter", forgotten),
]
