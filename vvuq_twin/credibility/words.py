"""Names, anchors and values of any kind as short text for the page."""

from __future__ import annotations

import json
import re
from typing import Any

from .numbers import MISSING, number


def anchor(prefix: str, name: str) -> str:
    """An HTML id that is the same on every rendering and unique for unlike names."""
    return prefix + "-" + re.sub(r"[^A-Za-z0-9._-]", lambda m: f"_{ord(m[0]):x}_", name)


def compact(value: Any, limit: int = 400) -> str:
    """Any JSON value on one line."""
    text = (
        value
        if isinstance(value, str)
        else json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    )
    return text if len(text) <= limit else text[: limit - 1] + "…"


def readable(name: str) -> str:
    """``error_l2_tumour`` as "error l2 tumour"."""
    return name.replace("_", " ")


def observed(result: dict[str, Any], acceptance: str, most: int = 3) -> dict[str, Any]:
    """A few values of a result for a table's cell, and how many were left out.

    Those whose name shares a word with the acceptance come first.
    """
    asked = set(re.findall(r"[a-z0-9]+", acceptance.lower()))
    names = sorted(
        result, key=lambda k: not asked & set(re.findall(r"[a-z0-9]+", str(k).lower().replace("_", " ")))
    )
    shown = [(readable(str(k)), value(result[k])) for k in names]
    return {"values": shown[:most], "more": max(len(shown) - most, 0)}


def value(v: Any) -> str:
    """A result's value: a number in few digits, a short list of numbers, else compact JSON."""
    if v is None:
        return MISSING
    if isinstance(v, bool | int | float):
        return number(v)
    if isinstance(v, list) and v and len(v) <= 8 and all(isinstance(x, int | float) for x in v):
        return ", ".join(number(x) for x in v)
    return compact(v, 160)
