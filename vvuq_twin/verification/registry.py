"""The register of checks, and running them.

A check is a function ``(quick) -> (passed, result)`` with its claim and acceptance fixed beside it, before
any result. A check that raises counts as failed and says why; it never stops the others. A check whose oracle
is not installed raises :class:`NotAssessed`.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..domain.errors import BadInput, near
from ..domain.evidence import Evidence, Status
from ..ensemble.beside import Begin, here

Result = tuple[bool, dict[str, Any]]


def largest(values: Iterable[float]) -> float:
    """The largest number, NaN if there is one: Python's ``max`` may pass over it, and a check would hold."""
    return float(np.max([float(v) for v in values]))


class NotAssessed(Exception):
    """Raised by a check whose oracle is not installed here: its evidence is "not assessed", with the reason."""


@dataclass(frozen=True)
class Check:
    """One check: what is claimed, what has to hold, and how it is found out."""

    id: str
    factor: str
    claim: str
    acceptance: str
    source: str
    function: Callable[[bool], Result]

    def run(self, quick: bool = False) -> Evidence:
        """Run it; an exception is a failed check, except :class:`NotAssessed`."""
        start = time.process_time()
        status: Status
        try:
            passed, result = self.function(quick)
            status = "passed" if passed else "failed"
        except NotAssessed as reason:
            status, result = "not assessed", {"reason": str(reason)}
        except Exception as error:
            status, result = "failed", {"error": f"{type(error).__name__}: {error}"}
        return Evidence(
            id=self.id,
            factor=self.factor,
            claim=self.claim,
            acceptance=self.acceptance,
            result=result,
            status=status,
            provenance={
                "command": f"vvuq-twin verify --only {self.id}" + (" --quick" if quick else ""),
                "oracle": self.source,
                "cpu_seconds": round(time.process_time() - start, 3),
                "python": platform.python_version(),
                "machine": platform.machine(),
            },
        )


CHECKS: dict[str, Check] = {}


def check(
    id: str, claim: str, acceptance: str, source: str, factor: str = "numerical_code_verification"
) -> Callable[[Callable[[bool], Result]], Callable[[bool], Result]]:
    """Register a function as a check.

    Parameters
    ----------
    id : str
        Stable name, for example "growth.mms.space".
    claim, acceptance : str
        One sentence each; the acceptance is fixed before the result is known.
    source : str
        Where the true answer comes from.
    factor : str
        Key of a credibility factor.
    """

    def register(function: Callable[[bool], Result]) -> Callable[[bool], Result]:
        if id in CHECKS:
            raise ValueError(f"the check '{id}' is registered twice")
        CHECKS[id] = Check(id, factor, claim, acceptance, source, function)
        return function

    return register


def load_checks() -> dict[str, Check]:
    """All checks (their modules are imported on first use)."""
    from . import (  # noqa: F401
        coupled_orders,
        delivery_checks,
        delivery_reduction_checks,
        estimator_checks,
        gci_checks,
        growth_checks,
        growth_orders,
        imaging_checks,
        kinetics_checks,
        length_checks,
        operator_checks,
        plasma_checks,
        pressure_checks,
        pressure_orders,
        reduction_checks,
        response_checks,
        species_checks,
        splitting_checks,
        transport_checks,
        transport_orders,
    )

    return dict(sorted(CHECKS.items()))


def begin_suite(
    only: str | Sequence[str] | None = None, quick: bool = False, begin: Begin = here, but: Sequence[str] = ()
) -> list[Callable[[], Evidence]]:
    """Begin the checks; each outcome waits for its evidence. Parameters as of :func:`run_suite`; ``only`` may be
    several beginnings of ids, and ids that are in ``but`` are left out.

    Raises
    ------
    BadInput
        If no check has that name.
    """
    checks = load_checks()
    if only is None or isinstance(only, str):
        found = {only or "": [i for i in checks if only is None or only in i]}
    else:
        found = {name: [i for i in checks if i.startswith(name)] for name in only}
    for name, ids in found.items():
        if not ids:
            raise BadInput(f"there is no check named '{name}'", "verify", near(name, checks))
    chosen = sorted({i for ids in found.values() for i in ids if i not in but})
    return [begin(_run, i, quick) for i in chosen]


def run_suite(
    only: str | None = None,
    quick: bool = False,
    progress: Callable[[int, int], None] | None = None,
    begin: Begin = here,
) -> list[Evidence]:
    """Run the checks.

    Parameters
    ----------
    only : str, optional
        Only the checks whose id contains this ("growth", "mms").
    quick : bool
        Coarser grids and shorter runs, the same acceptance.
    progress : callable, optional
        Called as ``progress(done, total)`` before each check and once at the end.
    begin : Begin
        Where the checks run; here, one after another, by default.

    Returns
    -------
    list of Evidence, ordered by id

    Raises
    ------
    BadInput
        If no check has that name.
    """
    outcomes = begin_suite(only, quick, begin)
    found = []
    for i, outcome in enumerate(outcomes):
        if progress is not None:
            progress(i, len(outcomes))
        found.append(outcome())
    if progress is not None:
        progress(len(outcomes), len(outcomes))
    return found


def _run(id: str, quick: bool) -> Evidence:
    return load_checks()[id].run(quick)
