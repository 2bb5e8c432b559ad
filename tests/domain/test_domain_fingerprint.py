"""Fingerprints: equal for equal content, different otherwise, the same in another process."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from vvuq_twin.domain.fingerprint import fingerprint


@dataclass(frozen=True)
class Pair:
    a: np.ndarray
    b: str


def test_content_not_identity_counts():
    shared = [1, 2]
    assert fingerprint([shared, shared]) == fingerprint([[1, 2], [1, 2]])
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint(Pair(np.arange(3), "x")) == fingerprint(Pair(np.arange(3), "x"))
    assert fingerprint(np.ones((4, 4))[:, ::2]) == fingerprint(np.ones((4, 2)))


def test_differences_show():
    values = [
        None, 0, 0.0, False, "0", b"0", [0], [[0]], {"a": 0}, np.zeros(1), np.zeros(1, np.float32),
        np.zeros((1, 1)), Path("0"), np.int64(0), max, min, partial(max, 1), partial(max, 2), ("a", "bc"),
        ("ab", "c"), {0}, {1}, Pair(np.arange(3), "x"), Pair(np.arange(3), "y"),
    ]  # fmt: skip
    assert len({fingerprint(v) for v in values}) == len(values)


def test_the_same_in_another_process():
    code = "from vvuq_twin.domain.fingerprint import fingerprint; print(fingerprint({'b': {'x', 'y'}, 'a': 1.5}, max))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == fingerprint({"b": {"x", "y"}, "a": 1.5}, max)


def test_what_has_no_content_is_refused():
    with pytest.raises(TypeError):
        fingerprint(object())
