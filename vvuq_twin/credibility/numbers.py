"""Numbers as a reader wants them: few digits, the interval's digits the value's, units beside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

MISSING = "not available"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: Any, digits: int = 4) -> str:
    """A number with ``digits`` significant digits; powers of ten where it is very large or small.

    Anything that is not a finite number gives "not available", a bool yes or no.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float) or not math.isfinite(value):
        return MISSING
    if isinstance(value, int) and abs(value) < 10**15:
        return f"{value:,}".replace(",", "\u202f").replace("-", "\u2212")
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if -4 < exponent < 6:
        return _plain(value, max(digits - 1 - exponent, 0))
    mantissa, power = f"{value:.{digits - 1}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa} × 10".replace("-", "\u2212") + str(int(power)).translate(_SUPERSCRIPT)


def _plain(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text.replace(",", "\u202f").replace("-", "\u2212")


def interval(bounds: Any) -> str:
    """An interval "lo to hi", with three significant digits; "" if there is none."""
    if not isinstance(bounds, Sequence) or isinstance(bounds, str) or len(bounds) != 2:
        return ""
    return f"{number(bounds[0], 3)} to {number(bounds[1], 3)}"


_UNITS = {
    "1": "", "dimensionless": "", "": "", "percent": "%", "mm2/s": "mm²/s", "mm2/day": "mm²/day",
    "mm3": "mm³", "cm3": "cm³", "1/day": "day⁻¹", "1/d": "d⁻¹", "1/s": "s⁻¹", "1/min": "min⁻¹",
    "1/Gy": "Gy⁻¹",
}  # fmt: skip


def unit(text: Any) -> str:
    """A unit for display; "" for none."""
    plain = "" if text is None else str(text).strip()
    return _UNITS.get(plain, plain)


def percent(level: Any) -> str:
    """A probability level as "90 %"; "" if it is not one."""
    if not isinstance(level, int | float) or isinstance(level, bool) or not 0 < level <= 1:
        return ""
    return f"{_plain(100 * level, 1)} %"
