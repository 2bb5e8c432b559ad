"""The Dask cluster a study runs on: embedded worker processes, or any scheduler's address."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..domain.errors import BadInput

SINGLE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "PJRT_NPROC": "1",
}


def default_workers() -> int:
    """As many workers as processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep spawned processes from running the user's script again.

    ``multiprocessing`` imports the main module's file in each child; a script without the
    ``if __name__ == "__main__"`` idiom would then start a cluster in every worker. Functions defined
    in the script still travel: they are pickled by value.
    """
    main = sys.modules["__main__"]
    kept = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    main.__spec__ = None
    if "__file__" in kept:
        del main.__file__
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(main, name, value)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Let Ctrl-C reach this process only.

    Threads and processes begun in here inherit the blocked signal, and so do the workers that Dask's
    thread starts later; an interrupt that arrives meanwhile is delivered on leaving.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # its start would unblock the signal again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Dask's own log below critical: what went wrong is reported by the runner, in words."""
    loggers = [
        logging.getLogger(n) for n in ("distributed", "distributed.worker", "distributed.nanny", "asyncio")
    ]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before):
            logger.setLevel(level)


@contextmanager
def cluster(
    workers: int | None = None,
    address: str | None = None,
    folder: str | Path | None = None,
    environment: dict[str, str] | None = None,
    timeout: float = 10.0,
) -> Iterator[Any]:
    """A connected :class:`distributed.Client`, closed on leaving.

    Parameters
    ----------
    workers : int, optional
        Worker processes of the embedded cluster, one thread each; all processors if absent.
    address : str, optional
        A running scheduler ("tcp://host:8786"; SLURM and Kubernetes clusters give one). Then nothing is
        started here, and the workers must see the run folder under the same path.
    folder : path, optional
        For the workers' scratch files (the run folder); a temporary one if absent.
    environment : dict, optional
        Further environment variables for the workers, set before they start.
    timeout : float
        Seconds to wait for the address.

    Raises
    ------
    BadInput
        If the address cannot be reached, or the number of workers is not positive.
    """
    if workers is not None and workers < 1:
        raise BadInput(f"the number of workers ({workers}) is not positive", "--workers", "give 1 or more")
    import dask
    from distributed import Client, LocalCluster

    with _quiet():
        if address is not None:
            try:
                client = Client(address, timeout=timeout, set_as_default=False)
            except (OSError, TimeoutError, ValueError, TypeError) as error:
                raise BadInput(
                    f"no Dask scheduler answers at '{address}'",
                    "--cluster",
                    "start it or leave the option out",
                ) from error
            try:
                yield client
            finally:
                client.close(timeout=timeout)
            return
        before = {**SINGLE_THREAD, **(environment or {})}
        settings = {
            "distributed.nanny.pre-spawn-environ": before,
            "distributed.scheduler.allowed-failures": 1,
            "distributed.worker.multiprocessing-method": "spawn",
            "distributed.logging.distributed": "critical",
            "distributed.admin.log-length": 100,
        }
        import tempfile

        with tempfile.TemporaryDirectory(
            prefix="workers-", dir=_made(folder), ignore_cleanup_errors=True
        ) as scratch, dask.config.set(settings), _main_hidden():  # fmt: skip
            try:
                with _interrupts_blocked():
                    local = LocalCluster(
                        n_workers=workers or default_workers(),
                        threads_per_worker=1,
                        processes=True,
                        dashboard_address=":0",
                        silence_logs=logging.CRITICAL,
                        local_directory=scratch,
                    )
            except RuntimeError as error:
                raise BadInput(
                    "the worker processes could not be started", "--workers", "use fewer"
                ) from error
            client = Client(local, set_as_default=False)
            try:
                yield client
            finally:
                # on a busy machine the workers may take their time; every result is on the disk by now
                with suppress(TimeoutError):
                    client.close(timeout=6 * timeout)
                with suppress(TimeoutError):
                    local.close(timeout=6 * timeout)


def _made(folder: str | Path | None) -> str | None:
    """The scratch folder's parent, made if need be."""
    if folder is None:
        return None
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        from ..domain.files import cannot_write

        raise cannot_write(Path(folder), error) from error
    return str(folder)
