"""What the reduced model's own error estimate says of the members of a forecast."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..domain.evidence import Evidence
from ..domain.runfolder import RunFolder
from ..reduction.case import GrowthCase
from ..reduction.store import load
from ..twin.growth import ReducedGrowthTwin
from .growth_model import how
from .growth_spec import GrowthSpec
from .growth_twin import Assimilated


def tell_trust(run: RunFolder, spec: GrowthSpec, case: GrowthCase, stored: Path, result: Assimilated) -> None:
    """Evidence on the members before and after the scans: estimates, flags, and how many are out of range.

    Raises
    ------
    BadInput
        If the stored model was built from something else.
    """
    reduced, probe = load(stored, how(spec.reduction).fingerprint(case, spec.seed))
    twin = ReducedGrowthTwin(case, reduced, probe)
    found: dict[str, float | str] = {}
    share = 1.0
    for name, scores in (("prior", result.prior), ("posterior", result.posterior)):
        trust = twin.trust(np.asarray(case.space.from_gaussian(scores)), spec.reduction.tolerance)
        finite = trust.estimate[np.isfinite(trust.estimate)]
        found[f"{name}: estimated error, median"] = float(np.median(finite)) if len(finite) else float("nan")
        share = float(trust.flagged.mean())
        found[f"{name}: flagged share"] = share
        found[f"{name}: in words"] = str(trust)
    run.evidence(
        Evidence(
            "reduction.members", "numerical_solver_error",
            "The forecast's members lie where the reduced model is accurate by its own estimate.",
            f"at most 1 % of the members have an estimated error above {100 * spec.reduction.tolerance:g} %",
            found, "passed" if share <= 0.01 else "failed",
        )
    )  # fmt: skip
