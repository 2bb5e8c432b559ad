"""Units: one registry, and conversions that say what is wrong."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np

from .errors import BadInput


@cache
def registry() -> Any:
    """The package's pint registry (with mmHg, Bq, Gy, molar; built once, on first use)."""
    import pint

    return pint.UnitRegistry(cache_folder=None, preprocessors=[_powers])


def _powers(text: str) -> str:
    """Powers as they are written in scanner and laboratory files: ``mm2/s``, ``um^2/ms``, ``min-1``."""
    return re.sub(r"(?<![A-Za-z0-9_])([A-Za-zµμ]+)(-?[1-4])(?![A-Za-z0-9.])", r"\1**\2", text)


def convert(value: Any, unit: str, to: str, where: str = "") -> Any:
    """Convert a number or array from ``unit`` to ``to``.

    Raises
    ------
    BadInput
        If a unit is unknown or the two have different dimensions.
    """
    if unit == to:
        return value
    return (
        np.asarray(value) * factor(unit, to, where)
        if isinstance(value, np.ndarray)
        else value * factor(unit, to, where)
    )


@cache
def factor(unit: str, to: str, where: str = "") -> float:
    """What a value in ``unit`` must be multiplied by to be in ``to``."""
    import pint

    try:
        one = registry().Quantity(registry().parse_expression(unit))  # "1e-6 mm2/s" has a number in it
        if registry().Quantity(0.0, one.units).to(to).magnitude != 0.0:
            raise ValueError("a scale with an offset has no factor")
        return float(one.to(to).magnitude)
    except pint.DimensionalityError as error:
        raise BadInput(
            f"the unit '{unit}' cannot be converted to '{to}'", where, f"give it in a unit like '{to}'"
        ) from error
    except Exception as error:  # pint raises many kinds for an unreadable unit
        raise BadInput(f"the unit '{unit}' is not known", where, f"give it in a unit like '{to}'") from error
