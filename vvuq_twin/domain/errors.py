"""The package's exceptions: bad input (exit code 2) and a run that failed (exit code 1)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TwinError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = 1


class BadInput(TwinError):
    """The user's input cannot be used.

    Parameters
    ----------
    problem : str
        What is wrong, a clause without a full stop ("the tumour mask is empty").
    where : str, optional
        The file, field or visit it was found in ("patient.yaml: visits[2].images.adc").
    mend : str, optional
        What to do about it ("declare the unit, for example 'mm2/s'").

    Notes
    -----
    ``str(error)`` is one sentence: ``where: problem; mend.``
    """

    exit_code = 2

    def __init__(self, problem: str, where: str = "", mend: str = "") -> None:
        self.problem = problem
        self.where = where
        self.mend = mend
        text = f"{where}: {problem}" if where else problem
        super().__init__(
            f"{text}; {mend.rstrip('.')}{'' if mend.endswith('?') else '.'}" if mend else f"{text}."
        )

    def __reduce__(self) -> tuple[type[BadInput], tuple[str, str, str]]:
        return type(self), (self.problem, self.where, self.mend)


class CannotWrite(BadInput):
    """The system refused a write: what was finished until then is whole, and worth keeping."""


class RunFailed(TwinError):
    """The input was good but the computation could not be finished."""

    exit_code = 1


def near(word: str, known: Iterable[str]) -> str:
    """A hint naming the known word nearest to ``word``, or the whole list.

    Returns
    -------
    str
        "did you mean 'adc'?" or "one of: adc, dce".
    """
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean '{close[0]}'?" if close else "use one of: " + ", ".join(sorted(known))
