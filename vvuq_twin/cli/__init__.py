"""The command line: ``vvuq-twin``."""

from __future__ import annotations

import os
import sys

#: What typer makes of Ctrl-C.
_INTERRUPTED = 130


def main() -> None:
    """Entry point: run the command; every expected fault is one sentence and an exit code.

    Exit codes: 0 done, 1 the run failed (or a check did), 2 bad input.
    """
    # one thread per process, set before any numerical library is loaded: workers share the cores,
    # and the numbers must not depend on how many there are
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from .app import app
    from .faults import sentence

    try:
        # typer hands the exit code back instead of raising when it does not stand alone
        code = app(standalone_mode=False) or 0
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(code)
    except SystemExit:
        raise
    except BaseException as error:
        text, code = sentence(error)
        if text:
            sys.stderr.write(text + "\n")
        sys.exit(code)
