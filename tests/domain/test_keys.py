"""Keyed randomness: the same name gives the same numbers, another name independent ones."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from scipy import stats

from vvuq_twin.domain.keys import generator, integer, member_normals


def test_a_name_gives_the_same_stream_in_another_process() -> None:
    here = generator(7, "noise", 3, "adc").integers(0, 2**63, 4).tolist()
    code = (
        "from vvuq_twin.domain.keys import generator;"
        "print(generator(7, 'noise', 3, 'adc').integers(0, 2**63, 4).tolist())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert there.strip() == str(here)


def test_names_that_look_alike_are_different() -> None:
    names = [
        (0, "a"),
        (1, "a"),
        (0, "b"),
        (0, "a", 1),
        (0, "a", "1"),
        (0, "a1"),
        (0, "a", "b"),
        (0, "ab"),
        (0,),
    ]
    first = {generator(seed, *labels).integers(0, 2**63) for seed, *labels in names}
    assert len(first) == len(names)
    assert generator(0, "a", np.int64(5)).random() == generator(0, "a", 5).random()


def test_members_are_keyed_by_number_not_by_position() -> None:
    every = member_normals(1, "process", range(100), 6, "cycle", 2)
    some = member_normals(1, "process", [40, 3, 99], 6, "cycle", 2)
    np.testing.assert_array_equal(some, every[[40, 3, 99]])
    assert not np.array_equal(every, member_normals(1, "process", range(100), 6, "cycle", 3))
    assert member_normals(1, "process", [], 6).shape == (0, 6)
    alone = generator(1, "process", "cycle", 2, 40).standard_normal(6)
    np.testing.assert_array_equal(some[0], alone)


def test_members_are_independent_standard_normals() -> None:
    draws = member_normals(2, "check", range(4000), 8)
    assert stats.kstest(draws.ravel(), "norm").pvalue > 1e-3
    correlation = np.corrcoef(draws.T) - np.eye(8)
    assert np.abs(correlation).max() < 4.5 / np.sqrt(4000)
    neighbours = np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]
    assert abs(neighbours) < 4.5 / np.sqrt(4000)


def test_an_integer_seed_is_in_range_and_keyed() -> None:
    seeds = [integer(0, "library", i) for i in range(500)]
    assert min(seeds) >= 1 and max(seeds) < 2**31 and len(set(seeds)) == 500
    assert integer(0, "library", 3) == seeds[3]
