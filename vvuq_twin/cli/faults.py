"""What the user reads when something goes wrong."""

from __future__ import annotations

import errno
import logging
import traceback

from ..domain.errors import TwinError


def sentence(error: BaseException) -> tuple[str, int]:
    """One sentence and the exit code for an exception that reached the top.

    An unexpected exception is written whole to the log of the run (or of the process), never to the screen.
    """
    import typer

    click_error = getattr(error, "format_message", None)
    if isinstance(error, typer.Exit):
        return "", int(error.exit_code)
    if isinstance(error, TwinError):
        return f"error: {error}", error.exit_code
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "interrupted: what was finished is kept; the same command goes on from there.", 1
    if click_error is not None:
        said = " ".join(click_error().split())
        return f"error: {said}{'' if said[-1:] in ('.', '?') else '.'}", 2
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"error: {error.filename or 'the run folder'}: the disk is full; free some space or use --out.",
            2,
        )
    text = "".join(traceback.format_exception(error))
    logs = [name for name in logging.root.manager.loggerDict if name.startswith("vvuq_twin.run.")]
    for name in logs:
        logging.getLogger(name).error("unexpected:\n%s", text)
    where = (
        "its traceback is in the run folder's log.txt"
        if logs
        else "set VVUQ_TWIN_DEBUG=1 to see its traceback"
    )
    import os

    if os.environ.get("VVUQ_TWIN_DEBUG"):
        return text, 1
    return f"error: unexpected {type(error).__name__}: {error}; {where}.", 1
