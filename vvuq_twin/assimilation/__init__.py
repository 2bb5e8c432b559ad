"""Ensemble filters and smoothers in member space: ETKF, ES-MDA, local analyses, inflation, diagnostics."""

from .esmda import ESMDA, RootESMDA, coefficients
from .etkf import ETKF
from .protocol import Carry, Key, Scheme, start
from .update import GlobalUpdate, Inflation, LocalUpdate, Update

__all__ = [
    "ESMDA", "ETKF", "Carry", "GlobalUpdate", "Inflation", "Key", "LocalUpdate", "RootESMDA", "Scheme",
    "Update", "coefficients", "start",
]  # fmt: skip
