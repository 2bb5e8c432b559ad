"""Keyed randomness: every draw is named by (seed, purpose, ...), never by the order of calls.

A label may be a string or an integer. The labels are hashed with SHA-256 into the key of a
counter-based Philox generator (Salmon et al. 2011), so that two different names give independent
streams and the same name the same numbers, in any process and for any number of workers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.random.bit_generator import ISeedSequence

Label = str | int


class _Words(ISeedSequence):
    """Gives Philox its key; ``Philox(key=...)`` asks the system for entropy that only ``spawn`` would use."""

    def __init__(self, digest: bytes) -> None:
        self.words = np.frombuffer(digest[:16], dtype=np.uint64)

    def generate_state(self, n_words: int, dtype: object = np.uint32) -> np.ndarray:
        return self.words


def _text(seed: int, labels: tuple[Label, ...]) -> str:
    return "\x1f".join([str(int(seed)), *(f"{type(x).__name__[0]}{x}" for x in labels)])


def _digest(seed: int, labels: tuple[Label, ...]) -> bytes:
    return hashlib.sha256(_text(seed, labels).encode()).digest()


def generator(seed: int, *labels: Label) -> np.random.Generator:
    """NumPy generator keyed by the seed and any number of labels."""
    philox = np.random.Philox(_Words(_digest(seed, labels)))  # type: ignore[arg-type]  # any ISeedSequence will do
    return np.random.Generator(philox)


def integer(seed: int, *labels: Label) -> int:
    """A 31-bit integer keyed the same way, for libraries that take an integer seed (never 0)."""
    return 1 + int.from_bytes(_digest(seed, labels)[16:24], "little") % (2**31 - 2)


def member_normals(seed: int, purpose: str, members: Iterable[int], size: int, *labels: Label) -> np.ndarray:
    """Standard normals, one independently keyed row per member.

    Parameters
    ----------
    seed : int
    purpose : str
    members : iterable of int
        The members' numbers, not their positions in a batch.
    size : int
        Draws per member.
    *labels : str or int
        Further names: cycle, iteration, observation.

    Returns
    -------
    ndarray, shape (len(members), size)
    """
    numbers = [int(i) for i in members]
    out = np.empty((len(numbers), size))
    # what the members' names share is hashed once
    shared = hashlib.sha256(_text(seed, (purpose, *labels)).encode())
    for row, number in zip(out, numbers):
        own = shared.copy()
        own.update(f"\x1fi{number}".encode())
        philox = np.random.Philox(_Words(own.digest()))  # type: ignore[arg-type]  # any ISeedSequence will do
        np.random.Generator(philox).standard_normal(out=row)
    return out
