"""Units: one registry, and conversions that say what is wrong."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from .errors import BadInput


@cache
def registry() -> Any:
    """The package's pint registry (with mmHg, Bq, Gy, molar; built once, on first use)."""
    import pint

    return pint.UnitRegistry(cache_folder=None)


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
        return float(registry().Quantity(1.0, unit).to(to).magnitude)
    except pint.DimensionalityError as error:
        raise BadInput(
            f"the unit '{unit}' cannot be converted to '{to}'", where, f"give it in a unit like '{to}'"
        ) from error
    except Exception as error:  # pint raises many kinds for an unreadable unit
        raise BadInput(f"the unit '{unit}' is not known", where, f"give it in a unit like '{to}'") from error
