"""Unbiased means and variances of an expensive model from few of its runs and many runs of cheaper ones."""

from .campaign import Fidelity, MultifidelityResult, run_multifidelity
from .combine import Combined, combine
from .moments import Moments, moments
from .plan import Plan, allocate
from .scheme import Scheme, candidates

__all__ = [
    "Combined",
    "Fidelity",
    "Moments",
    "MultifidelityResult",
    "Plan",
    "Scheme",
    "allocate",
    "candidates",
    "combine",
    "moments",
    "run_multifidelity",
]
