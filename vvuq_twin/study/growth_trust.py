"""Which order ran the members of a forecast, and how accurately."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..domain.evidence import Evidence
from ..domain.runfolder import RunFolder
from ..ensemble.store import Ensemble
from ..reduction.case import GrowthCase
from ..twin.trust import outside_range
from .growth_spec import GrowthSpec
from .growth_twin import Assimilated


def tell_trust(run: RunFolder, spec: GrowthSpec, case: GrowthCase, store: Path, result: Assimilated) -> None:
    """Evidence on the members before and after the scans: errors, how many the full order ran, how many are out of
    the trained range."""
    found: dict[str, float | str] = {}
    largest, lost = 0.0, 0.0
    for name, scores in (("prior", result.prior), ("posterior", result.posterior)):
        ensemble = Ensemble(store / name)
        good = ensemble.good
        error, full = ensemble["error"][:][good], ensemble["full"][:][good]
        largest = max(largest, float(error.max(initial=0.0)))
        found[f"{name}: members run"] = len(good)
        found[f"{name}: of these at full order"] = int(full.sum())
        found[f"{name}: could not be run"] = len(ensemble.status) - len(good)
        lost = max(lost, 1.0 - len(good) / len(ensemble.status))
        found[f"{name}: error, median"] = float(np.median(error)) if len(error) else float("nan")
        found[f"{name}: error, largest"] = float(error.max(initial=0.0))
        beyond = outside_range(case.space, np.asarray(case.space.from_gaussian(scores)))
        if beyond:
            found[f"{name}: outside the trained range"] = ", ".join(
                f"{n} {c}" for n, c in sorted(beyond.items())
            )
    limit = spec.reduction.tolerance
    run.evidence(
        Evidence(
            "reduction.members", "numerical_solver_error",
            "Every member of the ensembles is run by an order that is accurate for it: by the reduced order, or, where "
            "that one's estimated error is too large, by the full order.",
            f"largest relative L2 error inside the tumour, worst visit, of the members that were run below {100 * limit:g} % "
            "(estimated for the reduced order; measured for what is kept of the full order), and at most 1 % could not be run",
            found, "passed" if largest <= limit and lost <= 0.01 else "failed",
        )
    )  # fmt: skip
