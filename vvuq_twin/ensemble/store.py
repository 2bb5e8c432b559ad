"""Where members are kept: one Zarr group, one chunk a batch, and a marker file for each finished batch.

Layout of a store::

    <store>/run.json            what was computed (fingerprint, members, batch size)
    <store>/members.zarr/       one array per output, chunks (batch, ...); ``status`` (N,)
    <store>/batches/000000.json marker, written after the chunks: counts, seconds, error if any
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.files import cannot_write, write_text

GOOD, RAISED, NOT_FINITE, NOT_RUN = 0, -1, -2, -3
MEANING = {
    GOOD: "good",
    RAISED: "the batch raised an error or killed its worker",
    NOT_FINITE: "the model returned a value that is not finite",
    NOT_RUN: "not computed",
}


def claim(store: Path, identity: dict[str, Any]) -> None:
    """Make ``store`` the home of this computation, or check that it already is.

    Raises
    ------
    BadInput
        If the store holds another computation, is unreadable, or cannot be written.
    """
    path = store / "run.json"
    if path.exists():
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise BadInput(
                "the record of this store cannot be read", str(path), "delete the store"
            ) from error
        differs = sorted(k for k in identity if found.get(k) != identity[k] and k != "fingerprint")
        if found.get("fingerprint") != identity["fingerprint"] or differs:
            what = ", ".join(differs) or "inputs or context"
            raise BadInput(
                f"this store belongs to another computation ({what} differ)",
                str(store),
                "choose another folder or delete this one",
            )
        return
    if store.exists() and any(store.iterdir()):
        raise BadInput(
            "the folder is not empty and is no ensemble store", str(store), "choose another folder"
        )
    write_text(path, json.dumps(identity, indent=1, sort_keys=True) + "\n")


def open_group(store: Path, mode: Any = "r") -> Any:
    """The Zarr group of a store."""
    import zarr

    return zarr.open_group(str(store / "members.zarr"), mode=mode)


def _fill(dtype: np.dtype) -> Any:
    if dtype.kind in "fc":
        return dtype.type(np.nan)
    return dtype.type(-1) if dtype.kind == "i" else dtype.type(0)


def ensure_array(
    group: Any, name: str, members: int, batch: int, tail: tuple[int, ...], dtype: np.dtype
) -> Any:
    """The array ``name``, created if no batch has done so; two writers at once write the same bytes."""
    from zarr.errors import ContainsArrayError

    if name not in group:
        fill = NOT_RUN if name == "status" else _fill(dtype)
        try:
            return group.create_array(
                name, shape=(members, *tail), chunks=(batch, *tail), dtype=dtype, fill_value=fill
            )
        except ContainsArrayError:
            pass
    array = group[name]
    if array.shape != (members, *tail) or array.dtype != dtype:
        other = f"{array.shape[1:]} and {array.dtype} in another"
        raise ValueError(f"output '{name}' has shape {tail} and type {dtype} in one batch, {other}")
    return array


def write_batch(
    store: Path,
    index: int,
    start: int,
    count: int,
    members: int,
    batch: int,
    outputs: Mapping[str, np.ndarray],
) -> None:
    """Write the chunks of one batch (``count`` rows from ``start``), its status last.

    Raises
    ------
    BadInput
        If the folder cannot be written or the disk is full.
    """
    try:
        group = open_group(store, "a")
        for name in sorted(outputs, key=lambda n: (n == "status", n)):
            values = outputs[name][:count]
            array = ensure_array(group, name, members, batch, values.shape[1:], values.dtype)
            array[start : start + count] = values
    except OSError as error:
        raise cannot_write(store, error) from error


def marker(store: Path, index: int) -> Path:
    """Path of a batch's marker."""
    return store / "batches" / f"{index:06d}.json"


def write_marker(store: Path, index: int, record: dict[str, Any]) -> None:
    """Record a batch as finished, atomically."""
    write_text(marker(store, index), json.dumps(record, sort_keys=True) + "\n")


def read_markers(store: Path) -> dict[int, dict[str, Any]]:
    """The records of finished batches by number; an unreadable one counts as absent."""
    found = {}
    for path in sorted((store / "batches").glob("[0-9]*.json")):
        try:
            found[int(path.stem)] = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
    return found


def finished(store: Path) -> dict[int, dict[str, Any]]:
    """Batches that need not run again: a good marker whose chunk is really there."""
    records = {i: r for i, r in read_markers(store).items() if not r.get("error")}
    if not records:
        return {}
    try:
        group = open_group(store)
        status = np.asarray(group["status"][:])
    except (KeyError, FileNotFoundError):
        return {}
    return {
        i: r
        for i, r in records.items()
        if (status[r["start"] : r["start"] + r["count"]] != NOT_RUN).all() and r["count"] > 0
    }


@dataclass(frozen=True)
class Ensemble(Mapping[str, Any]):
    """Stored members: a mapping from output name to its Zarr array (leading axis: members).

    Parameters
    ----------
    store : Path
    errors : dict of int to str
        Batches that failed, with the reason.
    seconds : float
        Computing time of all batches, summed over workers (this run's and those before).
    resumed : int
        Members that an earlier run had finished.
    """

    store: Path
    errors: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    resumed: int = 0

    @cached_property
    def group(self) -> Any:
        return open_group(self.store)

    def __getitem__(self, name: str) -> Any:
        return self.group[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.group.array_keys()))

    def __len__(self) -> int:
        return sum(1 for _ in self.group.array_keys())

    @cached_property
    def status(self) -> np.ndarray:
        """Status per member, shape (N,): 0 good, positive the model's own code, negative see ``MEANING``."""
        return np.asarray(self.group["status"][:])

    @property
    def good(self) -> np.ndarray:
        """Numbers of the members that may be used, ascending."""
        return np.flatnonzero(self.status == GOOD)

    @property
    def failed(self) -> np.ndarray:
        """Numbers of the members that may not."""
        return np.flatnonzero(self.status != GOOD)

    def load(self, name: str, good_only: bool = False) -> np.ndarray:
        """One output in memory, shape (N, ...), or only its good members in order."""
        values = np.asarray(self.group[name][:])
        return values[self.good] if good_only else values

    def batches(self, name: str) -> Iterator[tuple[slice, np.ndarray]]:
        """One batch after another, so that memory stays flat."""
        array = self.group[name]
        for start in range(0, array.shape[0], array.chunks[0]):
            rows = slice(start, min(start + array.chunks[0], array.shape[0]))
            yield rows, np.asarray(array[rows])

    def moments(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (N - 1) over good members, batch by batch (Chan et al. 1979).

        The order is that of the members, so the result does not depend on workers.
        """
        n, mean, m2 = 0, np.zeros(()), np.zeros(())
        for rows, values in self.batches(name):
            kept = values[self.status[rows] == GOOD]
            if not len(kept):
                continue
            k, mu = len(kept), kept.mean(axis=0)
            delta = mu - mean
            m2 = m2 + ((kept - mu) ** 2).sum(axis=0) + delta**2 * (n * k / (n + k))
            mean = mean + delta * (k / (n + k))
            n += k
        return mean, np.sqrt(m2 / max(n - 1, 1))

    def summary(self) -> dict[str, Any]:
        """Members by status in words, failed batches and their reasons, computing time in seconds."""
        counts = Counter(self.status.tolist())
        return {
            "members": len(self.status),
            "status": {MEANING.get(code, f"model status {code}"): n for code, n in sorted(counts.items())},
            "failed_batches": {str(k): v for k, v in sorted(self.errors.items())},
            "resumed_members": self.resumed,
            "seconds": self.seconds,
        }
