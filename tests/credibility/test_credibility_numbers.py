"""Numbers as they are shown."""

from __future__ import annotations

from typing import Any

import pytest

from vvuq_twin.credibility.numbers import count, interval, moment, number, percent, unit


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (0, "0"), (31.87342, "31.87"), (-2.5, "−2.5"), (12345.678, "12\u202f346"),
        (1234567, "1\u202f234\u202f567"), (0.00123456, "0.001235"), (3.1e-14, "3.1 × 10⁻¹⁴"),
        (-4.0e9, "−4 × 10⁹"), (True, "yes"), (float("nan"), "not available"), (float("inf"), "not available"),
        (None, "not available"), ("x", "not available"), (10**400, "not available"), (100.0, "100"),
        (999999.0, "999\u202f999"), (1e6, "1 × 10⁶"),
    ],
)  # fmt: skip
def test_number(value: Any, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ((27.1234, 36.98), "27.1 to 37.0"), ((0.4, 1.9), "0.40 to 1.90"), ((-1.0, 250.0), "−1 to 250"),
        ((0.0, 0.0), "0 to 0"), ((1e-9, 2e-9), "1 × 10⁻⁹ to 2 × 10⁻⁹"), (None, ""), ((1.0,), ""), ("ab", ""),
        ((float("nan"), 1.0), "not available to 1"),
    ],
)  # fmt: skip
def test_interval(bounds: Any, text: str) -> None:
    assert interval(bounds) == text


def test_units_levels_counts_and_times() -> None:
    assert [unit(u) for u in ("1", None, "cm3", "mm2/day", "mM")] == ["", "", "cm³", "mm²/day", "mM"]
    assert [percent(p) for p in (0.9, 0.995, 1.0, 0.0, None, 95)] == ["90 %", "99.5 %", "100 %", "", "", ""]
    assert (count(1, "check"), count(0, "check")) == ("1 check", "0 checks")
    assert moment("2026-01-31T12:00:05+00:00") == "2026-01-31 12:00:05 UTC" and moment(None) == ""
