"""Run a function over an ensemble in batches: inline or on Dask, resumable, the same numbers everywhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..domain.errors import BadInput, RunFailed
from ..domain.fingerprint import fingerprint, function_name
from .context import resolve
from .store import GOOD, NOT_FINITE, RAISED, Ensemble, claim, finished, write_batch, write_marker

Inputs = np.ndarray | Mapping[str, np.ndarray]
#: Seconds between looks at the cluster while nothing finishes, and without any worker before giving up.
_POLL, _PATIENCE = 10.0, 120.0

BatchFunction = Callable[[Any, np.ndarray, Any], Mapping[str, Any]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Plan:
    """What every batch of one run shares; small, so that it may travel with each task."""

    function: BatchFunction
    store: str
    members: int
    batch: int
    context: Any
    allow_nan: bool


def _leading(inputs: Inputs) -> tuple[dict[str, np.ndarray] | np.ndarray, int]:
    """The inputs as arrays, and the number of members."""
    if isinstance(inputs, Mapping):
        arrays = {str(k): np.asarray(v) for k, v in inputs.items()}
        sizes = {len(v) for v in arrays.values() if v.ndim}
        if len(sizes) != 1 or any(v.ndim == 0 for v in arrays.values()):
            raise BadInput("the ensemble's inputs differ in their number of members", "ensemble")
        return arrays, sizes.pop()
    array = np.asarray(inputs)
    if array.ndim == 0:
        raise BadInput("the ensemble's inputs have no member axis", "ensemble")
    return array, len(array)


def _rows(inputs: Any, rows: np.ndarray) -> Any:
    return {k: v[rows] for k, v in inputs.items()} if isinstance(inputs, dict) else inputs[rows]


def _status_of(outputs: dict[str, np.ndarray], batch: int, allow_nan: bool) -> np.ndarray:
    """The model's own status, and ``NOT_FINITE`` where it says good but a value is not."""
    status = np.array(outputs.get("status", np.zeros(batch)), dtype=np.int32)
    if not allow_nan:
        for values in outputs.values():
            if values.dtype.kind in "fc":
                finite = np.isfinite(values.reshape(batch, -1)).all(axis=1)
                status[(status == GOOD) & ~finite] = NOT_FINITE
    return status


def _evaluate(plan: _Plan, index: int, batch_inputs: Any, members: np.ndarray, count: int) -> dict[str, Any]:
    """Compute one batch where it is called, write it, and return only its counts."""
    began = time.perf_counter()
    raw = plan.function(batch_inputs, members, resolve(plan.context))
    outputs = {name: np.asarray(values) for name, values in raw.items()}
    for name, values in outputs.items():
        if values.shape[:1] != (plan.batch,):
            raise ValueError(
                f"output '{name}' has shape {values.shape}: its first axis must be the batch ({plan.batch})"
            )
    outputs["status"] = _status_of(outputs, plan.batch, plan.allow_nan)
    start, store = index * plan.batch, Path(plan.store)
    write_batch(store, index, start, count, plan.members, plan.batch, outputs)
    record = {
        "start": start,
        "count": count,
        "status": {str(k): v for k, v in sorted(Counter(outputs["status"][:count].tolist()).items())},
        "seconds": time.perf_counter() - began,
    }
    write_marker(store, index, record)
    return record


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:400]


class _Run:
    """The bookkeeping of one call: which batches are left, what came back, what failed."""

    def __init__(
        self, plan: _Plan, inputs: Any, done: dict[int, dict[str, Any]], progress: Progress | None
    ) -> None:
        self.plan, self.inputs, self.progress = plan, inputs, progress
        self.records = dict(done)
        self.errors: dict[int, str] = {}
        self.total = -(-plan.members // plan.batch)
        self.left = [i for i in range(self.total) if i not in done]
        self.members_done = sum(r["count"] for r in done.values())

    def task(self, index: int) -> tuple[_Plan, int, Any, np.ndarray, int]:
        """Arguments of :func:`_evaluate`: the last batch is filled up by repeating its last member."""
        start = index * self.plan.batch
        members = np.minimum(np.arange(start, start + self.plan.batch), self.plan.members - 1)
        return (
            self.plan,
            index,
            _rows(self.inputs, members),
            members,
            min(self.plan.batch, self.plan.members - start),
        )

    def succeeded(self, index: int, record: dict[str, Any]) -> None:
        self.errors.pop(index, None)
        self.records[index] = record
        self.members_done += record["count"]
        self.report()

    def report(self) -> None:
        if self.progress is not None:
            self.progress(self.members_done, self.plan.members)

    def give_up(self, index: int) -> None:
        """Mark a batch's members as failed; outputs of missing chunks read as NaN."""
        start = index * self.plan.batch
        count = min(self.plan.batch, self.plan.members - start)
        status = {"status": np.full(self.plan.batch, RAISED, dtype=np.int32)}
        store = Path(self.plan.store)
        write_batch(store, index, start, count, self.plan.members, self.plan.batch, status)
        record = {"start": start, "count": count, "status": {str(RAISED): count}, "seconds": 0.0}
        write_marker(store, index, {**record, "error": self.errors[index]})
        self.records[index] = record
        self.members_done += count
        self.report()

    def inline(self, indices: list[int]) -> None:
        """One batch after another in this process."""
        for index in indices:
            try:
                record = _evaluate(*self.task(index))
            except BadInput:
                raise
            except Exception as error:
                self.errors[index] = _short(error)
            else:
                self.succeeded(index, record)

    def on_dask(self, client: Any, label: str, indices: list[int], window: int, retries: int) -> None:
        """At most ``window`` batches in flight, so that neither the scheduler nor memory grows with N."""
        from dask.distributed import wait

        waiting = iter(indices)
        flying: dict[Any, int] = {}

        def submit() -> None:
            index = next(waiting, None)
            if index is not None:
                key = f"{label}-{fingerprint(self.plan.store)[:8]}-{index:06d}-{time.monotonic_ns()}"
                future = client.submit(_evaluate, *self.task(index), key=key, retries=retries, pure=False)
                flying[future] = index

        for _ in range(window):
            submit()
        alone_since: float | None = None
        try:
            while flying:
                try:
                    with client.as_current():
                        done = wait(list(flying), timeout=_POLL, return_when="FIRST_COMPLETED").done
                except TimeoutError:
                    alone_since = self._without_workers(client, label, alone_since)
                    continue
                alone_since = None
                for future in sorted(done, key=flying.__getitem__):
                    index = flying.pop(future)
                    error = future.exception()
                    if isinstance(error, BadInput):
                        raise error
                    if error is None:
                        self.succeeded(index, future.result())
                    else:
                        self.errors[index] = _short(error)
                    future.release()
                    submit()
        except BaseException:
            client.cancel(list(flying), force=True)
            raise

    def _without_workers(self, client: Any, label: str, since: float | None) -> float | None:
        """Since when there has been no worker, or None; killed workers come back, but not always."""
        if client.nthreads():
            return None
        now = time.monotonic()
        if since is not None and now - since > _PATIENCE:
            raise RunFailed(
                f"{label}: every worker is gone; run the same command again to go on where it stopped"
            )
        return now if since is None else since


def run_batches(
    function: BatchFunction,
    inputs: Inputs,
    store: str | Path,
    batch: int = 64,
    client: Any = None,
    label: str = "ensemble",
    progress: Progress | None = None,
    context: Any = None,
    version: str = "1",
    allow_nan: bool = False,
    retries: int = 1,
) -> Ensemble:
    """Evaluate ``function`` for every member and keep the results in a Zarr store.

    Parameters
    ----------
    function : callable
        ``function(batch_inputs, members, context) -> {name: array with leading axis batch}``. It must be
        importable by the workers and depend on nothing but its arguments (draws keyed by ``members``).
        An output named ``status`` (integers, 0 is good) is the model's own verdict on each member.
    inputs : ndarray, shape (N, ...), or a mapping of such arrays
        One row per member.
    store : path
        Folder of the results. One that holds unfinished results of the same computation is continued.
    batch : int
        Members per batch. It is part of the computation: a JAX product may differ in the last bits with
        the batch's shape. The last batch is filled up to it by repeating the last member.
    client : distributed.Client, optional
        From :func:`vvuq_twin.ensemble.cluster.cluster`; without one everything runs in this process.
    label : str
        Name of the tasks, for logs.
    progress : callable, optional
        ``progress(members done, members in all)`` after each batch.
    context : Context or plain values, optional
        What all batches share; see :class:`vvuq_twin.ensemble.context.Context`.
    version : str
        To be changed when ``function`` changes what it computes.
    allow_nan : bool
        Whether a value that is not finite is a legitimate result; if not, its member gets a failed status.
    retries : int
        How often Dask tries a batch again before it is tried once more alone.

    Returns
    -------
    Ensemble
        A mapping from output name to Zarr array; ``status`` tells which members may be used.

    Raises
    ------
    BadInput
        If the store belongs to another computation or cannot be written, or the inputs do not fit.
    RunFailed
        If no batch succeeded.

    Notes
    -----
    The numbers do not depend on the number of workers, nor on interruptions. A batch that raises, or
    whose worker dies, is retried, then run once more with nothing beside it; if it fails again its members
    have status -1 and NaN. Ctrl-C leaves the store ready to be continued.
    """
    arrays, members = _leading(inputs)
    if members == 0:
        raise BadInput("the ensemble has no members", label)
    if batch < 1:
        raise BadInput(f"the batch size ({batch}) is not positive", label)
    folder = Path(store)
    name = function_name(function)
    identity = {
        "fingerprint": fingerprint(arrays, function, version, context, batch, allow_nan),
        "function": name,
        "version": version,
        "members": members,
        "batch": batch,
    }
    claim(folder, identity)
    done = finished(folder)
    resumed = sum(r["count"] for r in done.values())
    plan = _Plan(function, str(folder.resolve()), members, int(batch), context, allow_nan)
    run = _Run(plan, arrays, done, progress)
    run.report()
    if client is None:
        run.inline(run.left)
        run.inline(sorted(run.errors))
    elif run.left:
        threads = sum(client.nthreads().values())
        run.on_dask(client, label, run.left, window=max(8, 4 * threads), retries=retries)
        run.on_dask(client, f"{label}-alone", sorted(run.errors), window=1, retries=0)
    failures = dict(run.errors)
    if len(failures) == run.total:
        raise RunFailed(f"{label}: every batch failed, the first with {failures[min(failures)]}")
    for index in sorted(failures):
        run.give_up(index)
    seconds = float(sum(r["seconds"] for r in run.records.values()))
    return Ensemble(folder, failures, seconds, resumed)
