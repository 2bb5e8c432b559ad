"""Keyed randomness: every draw is named by (seed, purpose, ...), never by the order of calls.

A label may be a string or an integer. The labels are hashed with SHA-256 into the key of a
counter-based Philox generator (Salmon et al. 2011), so that two different names give independent
streams and the same name the same numbers, in any process and for any number of workers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

Label = str | int


def _digest(seed: int, labels: tuple[Label, ...]) -> bytes:
    text = "\x1f".join([str(int(seed)), *(f"{type(x).__name__[0]}{x}" for x in labels)])
    return hashlib.sha256(text.encode()).digest()


def generator(seed: int, *labels: Label) -> np.random.Generator:
    """NumPy generator keyed by the seed and any number of labels."""
    key = np.frombuffer(_digest(seed, labels)[:16], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


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
    rows = [generator(seed, purpose, *labels, int(i)).standard_normal(size) for i in members]
    return np.array(rows).reshape(len(rows), size)
