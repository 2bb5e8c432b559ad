"""Sensitivity, calibration and the uncertainty budget of a growth study."""

from __future__ import annotations

from typing import Any


def further(*_: Any) -> None:
    """To come."""
