"""Single pieces of work done by the workers beside this process: begun now, waited for where they are needed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

#: Begin ``function(*arguments)``; the result is a function that waits for the outcome and returns it.
Begin = Callable[..., Callable[[], Any]]
_HEAVY = 1_000_000


def here(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """A :data:`Begin` without workers: the work is done when the outcome is asked for."""
    return lambda: function(*arguments)


def beside(client: Any, priority: int = 0) -> Begin:
    """A :data:`Begin` on the workers of a Dask client.

    Parameters
    ----------
    client : distributed.Client
    priority : int
        Work of a lower priority waits while batches of a higher one are there.

    Returns
    -------
    Begin
        What a piece raises is raised by its outcome. A piece whose worker died is done in this process.
    """

    def begin(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
        from distributed import KilledWorker
        from distributed.protocol.pickle import dumps

        given: Any = (function, arguments)
        if len(dumps(given)) > _HEAVY:
            # large data do not go through the scheduler
            given = client.scatter(given, hash=False)
        task = client.submit(_do, given, pure=False, retries=1, priority=priority)

        def outcome() -> Any:
            try:
                return task.result()
            except (KilledWorker, CancelledError):
                return function(*arguments)

        return outcome

    return begin


def _do(given: tuple[Callable[..., Any], tuple[Any, ...]]) -> Any:
    function, arguments = given
    return function(*arguments)
