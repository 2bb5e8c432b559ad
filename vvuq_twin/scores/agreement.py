"""Agreement of two sets of numbers or of two masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..domain.errors import BadInput


def _same(a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both flattened where both are finite; refuses different shapes and nothing to compare."""
    p, q = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if p.shape != q.shape:
        raise BadInput(f"arrays of shape {p.shape} and {q.shape} cannot be compared", "scores")
    both = np.isfinite(p) & np.isfinite(q)
    if not both.any():
        raise BadInput("there is no pair of finite values to compare", "scores")
    return p[both], q[both]


def rmse(a: ArrayLike, b: ArrayLike) -> float:
    """Root mean square difference over the places where both are finite."""
    p, q = _same(a, b)
    return float(np.sqrt(np.mean((p - q) ** 2)))


def concordance(a: ArrayLike, b: ArrayLike) -> float:
    """Lin's concordance correlation coefficient (CCC).

    Notes
    -----
    ``2 s_ab / (s_a^2 + s_b^2 + (mean_a - mean_b)^2)`` with moments divided by n (Lin 1989, Biometrics
    45:255). Two constants that are equal agree perfectly (1); otherwise a constant scores 0.
    """
    p, q = _same(a, b)
    below = p.var() + q.var() + (p.mean() - q.mean()) ** 2
    if below == 0:
        return 1.0
    return float(2 * np.mean((p - p.mean()) * (q - q.mean())) / below)


def dice(a: ArrayLike, b: ArrayLike) -> float:
    """Dice coefficient of two masks, ``2 |A and B| / (|A| + |B|)``; two empty masks agree (1)."""
    p, q = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if p.shape != q.shape:
        raise BadInput(f"masks of shape {p.shape} and {q.shape} cannot be compared", "scores")
    total = int(p.sum()) + int(q.sum())
    return 1.0 if total == 0 else 2.0 * int((p & q).sum()) / total


def skill(score: float, reference: float) -> float:
    """``1 - score / reference``: 0 is no better than the reference, 1 is perfect."""
    if not reference > 0:
        raise BadInput(f"the reference score ({reference:g}) must be positive", "scores")
    return 1.0 - score / reference
