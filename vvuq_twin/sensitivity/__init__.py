"""Which inputs matter: Sobol indices and polynomial chaos."""

from .chaos import Chaos, ChaosIndices, fit_chaos
from .evidence import agreement_evidence, chaos_evidence, sobol_evidence
from .groups import grouped
from .sobol import SobolDesign, SobolIndices, sobol_design, sobol_indices

__all__ = [
    "Chaos",
    "ChaosIndices",
    "SobolDesign",
    "SobolIndices",
    "agreement_evidence",
    "chaos_evidence",
    "fit_chaos",
    "grouped",
    "sobol_design",
    "sobol_evidence",
    "sobol_indices",
]
