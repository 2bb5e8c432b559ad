"""Numbers as a reader wants them: few digits, the interval's digits the value's, units beside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

MISSING = "not available"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: Any, digits: int = 4) -> str:
    """A number with ``digits`` significant digits; powers of ten where it is very large or small.

    Anything that is not a number, or beyond 1e300, gives "not available", a bool yes or no.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float) or abs(value) > 1e300 or value != value:
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
    """An interval "lo to hi", both bounds with the decimals of the larger's third digit; "" if none."""
    if not isinstance(bounds, Sequence) or isinstance(bounds, str) or len(bounds) != 2:
        return ""
    low, high = (x if isinstance(x, int | float) and abs(x) < 1e300 else None for x in bounds)
    if low is None or high is None:
        return f"{number(low, 3)} to {number(high, 3)}"
    largest = max(abs(low), abs(high))
    if largest == 0 or not 1e-3 <= largest < 1e6:
        return f"{number(low, 3)} to {number(high, 3)}"
    decimals = max(2 - math.floor(math.log10(largest)), 0)
    low_text, high_text = (
        f"{x:,.{decimals}f}".replace(",", "\u202f").replace("-", "\u2212") for x in (low, high)
    )
    return f"{low_text} to {high_text}"


def count(n: int, noun: str) -> str:
    """ "1 check", "2 checks"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def moment(iso: Any) -> str:
    """A time as "2026-01-31 12:00:05 UTC", from what the journal writes."""
    return str(iso or "").replace("T", " ").replace("+00:00", " UTC")


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
