"""Evidence from sensitivity analyses: surrogate error, resolution of the indices, agreement of methods."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..domain.evidence import Evidence
from .chaos import Chaos, ChaosIndices
from .sobol import SobolIndices

FACTOR = "model_inputs"


def chaos_evidence(chaos: Chaos, limit: float = 0.05, provenance: dict[str, Any] | None = None) -> Evidence:
    """Passed where the leave-one-out error of every output is at most ``limit`` of its variance."""
    error = np.atleast_1d(chaos.error).ravel()
    worst = int(np.argmax(error))
    return Evidence(
        id="sensitivity.chaos.error",
        factor=FACTOR,
        claim="The polynomial chaos expansion represents the model well enough to read indices from it.",
        acceptance=f"leave-one-out error at most {limit:g} of the variance for every output",
        result={
            "worst_relative_error": float(error[worst]),
            "worst_output": chaos.outputs[worst],
            "median_relative_error": float(np.median(error)),
            "terms": len(chaos.indices),
            "training_runs": chaos.training,
            "degree": chaos.degree,
            "hyperbolic": chaos.hyperbolic,
        },
        status="passed" if error[worst] <= limit else "failed",
        provenance=provenance or {},
    )


def sobol_evidence(
    indices: SobolIndices, limit: float = 0.1, provenance: dict[str, Any] | None = None
) -> Evidence:
    """Passed where the interval of every total index is narrow enough to tell what matters."""
    half = indices.total_half.reshape(len(indices.names), -1)
    moving = indices.variance.ravel() > 0
    worst = (
        float(half[:, moving].max()) if moving.any() and np.isfinite(half[:, moving]).all() else float("nan")
    )
    status = "not assessed" if not np.isfinite(worst) else "passed" if worst <= limit else "failed"
    return Evidence(
        id="sensitivity.sobol.resolution",
        factor=FACTOR,
        claim="The Sobol indices are resolved well enough to rank the uncertain inputs.",
        acceptance=f"{indices.confidence:.0%} bootstrap half-width of every total index at most {limit:g}",
        result={
            "worst_half_width": worst if np.isfinite(worst) else None,
            "base_points": indices.base,
            "dropped_base_points": indices.dropped,
            "outputs_that_vary": int(moving.sum()),
            "ranking": {name: indices.ranking(i) for i, name in enumerate(indices.outputs) if i < 20},
        },
        status=status,  # type: ignore[arg-type]
        provenance=provenance or {},
    )


def agreement_evidence(
    sobol: SobolIndices, chaos: ChaosIndices, limit: float = 0.1, provenance: dict[str, Any] | None = None
) -> Evidence:
    """Passed where two independent methods give the same total indices.

    The difference allowed is ``limit`` plus the bootstrap half-width of the sampled index.
    """
    difference = np.abs(sobol.total - chaos.total)
    excess = difference - np.nan_to_num(sobol.total_half)
    return Evidence(
        id="sensitivity.agreement",
        factor=FACTOR,
        claim="Sampled Sobol indices and those of the chaos expansion agree.",
        acceptance=f"total indices differ by at most {limit:g} beyond the sampling interval",
        result={"largest_difference": float(difference.max()), "largest_excess": float(excess.max())},
        status="passed" if excess.max() <= limit else "failed",
        provenance=provenance or {},
    )
