"""Progress bars with the time left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bars(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A ``progress(label, done, total)`` callback that draws one bar per label on standard error.

    Where standard error is not a terminal, one line is written when a label begins and when it ends.
    """
    if quiet:
        yield lambda label, done, total: None
        return
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("left"), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as shown:
        tasks: dict[str, int] = {}

        def progress(label: str, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = shown.add_task(label, total=total)
            shown.update(tasks[label], completed=done, total=total)  # type: ignore[arg-type]

        yield progress


def _lines() -> Callable[[str, int, int], None]:
    import time

    began: dict[str, float] = {}

    def progress(label: str, done: int, total: int) -> None:
        if label not in began:
            began[label] = time.monotonic()
            sys.stderr.write(f"{label} ...\n")
        elif done >= total and began[label] >= 0:
            sys.stderr.write(f"{label}: done in {time.monotonic() - began[label]:.1f} s\n")
            began[label] = -1.0
        sys.stderr.flush()

    return progress
