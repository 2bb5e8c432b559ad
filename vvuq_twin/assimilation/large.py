"""Ensembles larger than memory: members in a Zarr store, moved by rows in the forecast and by columns in the analysis.

Layout of a run's folder::

    run.json                        what is computed (fingerprint)
    cycle-0003/work.pickle          model, scan and times of the cycle
    cycle-0003/forecast/            batches of members: HE and status, and their markers
    cycle-0003/forecast.zarr        the propagated members (K, n), until the cycle is finished
    cycle-0003/update*.pickle       the analysis, for all columns or for each tile with its halo
    cycle-0003/analysis/            tiles: mean and standard deviation of each column, and their markers
    cycle-0003/state.zarr           the analysed members (K, n)
    cycle-0003/done.pickle          written last: the carry
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.files import write_bytes
from ..domain.fingerprint import fingerprint
from ..domain.observations import Observations
from ..ensemble.context import Context, resolve
from ..ensemble.run import run_batches
from ..ensemble.store import Ensemble, claim
from .protocol import Carry, Key, Scheme, start
from .update import in_place

#: Called as ``progress(cycle, part, done, total)``, part "forecast" or "analysis".
Progress = Callable[[int, str, int, int], None]


@dataclass(frozen=True)
class LargeModel:
    """A model whose members are propagated in batches, by functions that workers can import.

    Parameters
    ----------
    n : int
        Length of a state.
    initial : callable
        ``initial(members, context) -> (b, n)``: the members of these numbers at the first time.
    propagate : callable
        ``propagate(E, members, t0, t1, context) -> (b, n)``, or that and a status (b,).
    observe : callable
        ``observe(E, scan, context) -> (b, m)``.
    context : Context or plain values, optional
        What the functions share; a ``Context`` is loaded once in each worker.
    """

    n: int
    initial: Callable[[np.ndarray, Any], np.ndarray]
    propagate: Callable[[np.ndarray, np.ndarray, float, float, Any], Any]
    observe: Callable[[np.ndarray, Observations, Any], np.ndarray]
    context: Any = None


@dataclass(frozen=True)
class Layout:
    """How the members are cut: ``batch`` members a row of chunks, ``width`` columns a column of them."""

    batch: int = 1
    width: int = 100_000
    dtype: str = "float64"


@dataclass(frozen=True)
class Large:
    """Where a run stands.

    Parameters
    ----------
    folder : Path
        Of the last finished cycle.
    carry : Carry
    """

    folder: Path
    carry: Carry

    @property
    def E(self) -> Any:
        """The members, a Zarr array (K, n); read blocks of it."""
        return _open(self.folder / "state.zarr")

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of every column after the analysis, (n,) each."""
        tiles = Ensemble(self.folder / "analysis")
        n = self.E.shape[1]
        return tiles.load("mean").reshape(-1)[:n], tiles.load("sd").reshape(-1)[:n]


@dataclass(frozen=True)
class _Work:
    """What the tasks of a cycle share; read from the cycle's folder, once in each process."""

    model: LargeModel
    layout: Layout
    members: np.ndarray
    t0: float
    t1: float
    scan: Observations | None


def _open(path: Path, mode: Any = "r") -> Any:
    import zarr

    return zarr.open_array(str(path), mode=mode)


def _create(path: Path, rows: int, layout: Layout, n: int) -> None:
    import zarr

    if not path.exists():
        zarr.create_array(
            str(path), shape=(rows, n), chunks=(layout.batch, layout.width), dtype=layout.dtype,
            fill_value=np.nan, compressors=None,
        )  # fmt: skip


def _load_work(path: str) -> tuple[Path, _Work]:
    return Path(path).parent, pickle.loads(Path(path).read_bytes())


def _context(folder: Path, name: str) -> Context:
    return Context(_load_work, (str((folder / "work.pickle").resolve()),), name)


def forecast_batch(rows: np.ndarray, members: np.ndarray, context: tuple[Path, _Work]) -> dict[str, Any]:
    """Propagate some members where they lie, write them, and return what the scan would show of them."""
    folder, work = context
    shared = resolve(work.model.context)
    positions = np.unique(rows[:, 0].astype(int))
    numbers = work.members[positions]
    status = np.zeros(len(positions), dtype=int)
    if work.scan is None:
        E = work.model.initial(numbers, shared)
    else:
        before = _open(_previous(folder) / "state.zarr")
        E = np.asarray(before[positions[0] : positions[-1] + 1], dtype=float)
        if work.t1 > work.t0:
            out = work.model.propagate(E, numbers, work.t0, work.t1, shared)
            E, status = out if isinstance(out, tuple) else (out, status)
    target = "state.zarr" if work.scan is None else "forecast.zarr"
    status = np.where((np.asarray(status) == 0) & ~np.isfinite(E).all(axis=1), -2, status)
    _open(folder / target, "r+")[positions[0] : positions[-1] + 1] = E
    repeat = np.searchsorted(positions, rows[:, 0].astype(int))
    found: dict[str, Any] = {"status": status[repeat]}
    if work.scan is not None:
        good = np.flatnonzero(status == 0)
        HE = np.full((len(positions), len(work.scan.y)), np.nan)
        if len(good):
            HE[good] = work.model.observe(E[good], work.scan, shared)
        found["HE"] = HE[repeat]
    return found


def analyse_tile(rows: np.ndarray, tiles: np.ndarray, context: tuple[Path, _Work]) -> dict[str, Any]:
    """Update one tile of columns of all members where it lies; its moments come back."""
    folder, work = context
    width, n = work.layout.width, work.model.n
    mean, sd = np.zeros((len(rows), width)), np.zeros((len(rows), width))
    for i, tile in enumerate(rows[:, 0].astype(int).tolist()):
        columns = np.arange(tile * width, min((tile + 1) * width, n))
        own = folder / f"update-{tile:06d}.pickle"
        update = pickle.loads((own if own.exists() else folder / "update.pickle").read_bytes())
        block = np.asarray(_open(folder / "forecast.zarr")[:, columns[0] : columns[-1] + 1], dtype=float)
        out = in_place(update, block, columns)
        _open(folder / "state.zarr", "r+")[:, columns[0] : columns[-1] + 1] = out
        mean[i, : len(columns)], sd[i, : len(columns)] = out.mean(axis=0), out.std(axis=0, ddof=1)
    return {"mean": mean, "sd": sd}


def _previous(folder: Path) -> Path:
    return folder.parent / f"cycle-{int(folder.name.split('-')[1]) - 1:04d}"


def assimilate_large(
    folder: str | Path,
    scheme: Scheme,
    model: LargeModel,
    scans: Sequence[Observations],
    key: Key,
    members: int,
    time: float = 0.0,
    layout: Layout | None = None,
    client: Any = None,
    progress: Progress | None = None,
) -> Large:
    """Cycles of forecast and analysis of an ensemble that is kept on the disk.

    Parameters
    ----------
    folder : path
        Of the run; one that holds an unfinished run of the same is continued.
    scheme : Scheme
        One with a single step: its update is applied tile by tile. A LETKF's local problems are solved where the
        tile lies, from the observations in its reach.
    model : LargeModel
    scans : sequence of Observations
        In the order of their times.
    key : Key
    members : int
    time : float
        Of the initial members.
    layout : Layout, optional
    client : distributed.Client, optional
    progress : callable, optional

    Returns
    -------
    Large

    Raises
    ------
    BadInput
        If the scheme takes several steps, scans are out of order, or the folder holds another run.
    RunFailed
        If fewer than two members are left.

    Notes
    -----
    Memory: ``batch`` states for each worker in the forecast, ``members * width`` numbers in the analysis, and the
    predictions (N, m) where the scheme runs. Disk: two ensembles and, while a cycle runs, a third. A cycle counts
    when its last file is written; until then it is done again from the batches that are finished. The numbers do
    not depend on the number of workers, nor on what was killed.
    """
    folder, layout = Path(folder), layout or Layout()
    if scheme.steps != 1:
        raise BadInput(
            f"{type(scheme).__name__} runs the model {scheme.steps} times for a scan", "large ensembles",
            "use a scheme of one step",
        )  # fmt: skip
    times = [time, *(float(s.time) for s in scans)]
    if any(b < a for a, b in pairwise(times)):
        raise BadInput("the scans are not in the order of their times", "large ensembles", "sort them")
    carry = start(members)
    name = fingerprint(scheme, list(scans), key, members, time, layout, model)
    claim(folder, {"fingerprint": name, "members": members, "n": model.n, "cycles": len(scans)})
    first = _finished(folder, len(scans))
    if first >= 0:
        carry = pickle.loads((_cycle(folder, first) / "done.pickle").read_bytes())
    for cycle in range(first + 1, len(scans) + 1):
        here = _cycle(folder, cycle)
        work = _Work(
            model, layout, carry.members, times[max(cycle - 1, 0)], times[cycle],
            scans[cycle - 1] if cycle else None,
        )  # fmt: skip
        _put(here / "work.pickle", work)
        carry = _run_cycle(here, cycle, work, scheme, carry, key, client, name, progress)
        _put(here / "done.pickle", carry)
        _tidy(folder, cycle)
    return Large(_cycle(folder, len(scans)), carry)


def _run_cycle(
    here: Path, cycle: int, work: _Work, scheme: Scheme, carry: Carry, key: Key, client: Any, name: str,
    progress: Progress | None,
) -> Carry:  # fmt: skip
    size, layout, n = len(carry.members), work.layout, work.model.n
    context = _context(here, f"{name}/{cycle}")

    def tell(part: str) -> Callable[[int, int], None] | None:
        return None if progress is None else lambda done, total: progress(cycle, part, done, total)

    _create(here / ("forecast.zarr" if cycle else "state.zarr"), size, layout, n)
    ran = run_batches(
        forecast_batch, np.arange(size)[:, None], here / "forecast", layout.batch, client, f"forecast-{cycle}",
        tell("forecast"), context,
    )  # fmt: skip
    if work.scan is None:
        return carry
    HE = np.full((size, len(work.scan.y)), np.nan)
    if "HE" in ran:
        HE = ran.load("HE")
    update, after = scheme.analyse(carry, HE, work.scan, key, (ran.status != 0).astype(int))
    tiles = -(-n // layout.width)
    part = getattr(update, "part", None)
    if part is None:
        _put(here / "update.pickle", update)
    else:
        for tile in range(tiles):
            columns = np.arange(tile * layout.width, min((tile + 1) * layout.width, n))
            _put(here / f"update-{tile:06d}.pickle", part(columns))
    _create(here / "state.zarr", len(after.members), layout, n)
    run_batches(
        analyse_tile, np.arange(tiles)[:, None], here / "analysis", 1, client, f"analysis-{cycle}",
        tell("analysis"), context, allow_nan=False,
    )  # fmt: skip
    return after


def _put(path: Path, value: Any) -> None:
    import cloudpickle

    write_bytes(path, cloudpickle.dumps(value))


def _cycle(folder: Path, cycle: int) -> Path:
    return folder / f"cycle-{cycle:04d}"


def _finished(folder: Path, cycles: int) -> int:
    """The last cycle that is done, or -1."""
    done = [c for c in range(cycles + 1) if (_cycle(folder, c) / "done.pickle").exists()]
    return max(done, default=-1)


def _tidy(folder: Path, cycle: int) -> None:
    """Take away what no later cycle reads: this one's forecast, and states before the last."""
    shutil.rmtree(_cycle(folder, cycle) / "forecast.zarr", ignore_errors=True)
    for path in _cycle(folder, cycle).glob("update*.pickle"):
        path.unlink()
    # the state before is kept: a cycle that is done need not be read again, but a person may want to
    if cycle > 1:
        shutil.rmtree(_cycle(folder, cycle - 2) / "state.zarr", ignore_errors=True)
