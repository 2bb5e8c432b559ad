"""Orthonormal polynomials in whitened scores, and one QR decomposition for all outputs.

chaospy's families in one variable: Hermite in a parameter's whitened Gaussian score, or Legendre in its probability
where the prior is (log-)uniform; products over a hyperbolic set of multi-indices (Blatman & Sudret 2011,
doi:10.1016/j.jcp.2010.12.021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

from ..domain.parameters import LogUniform, ParameterSpace, Uniform

_CONDITION = 1e10


def families(space: ParameterSpace) -> tuple[str, ...]:
    """The family of each parameter: "legendre" for an independent (log-)uniform prior, else "hermite"."""
    if space.correlation is not None:
        return ("hermite",) * space.size
    return tuple(
        "legendre" if isinstance(p.prior, Uniform | LogUniform) else "hermite" for p in space.parameters
    )


def multi_indices(dimensions: int, degree: int, hyperbolic: float = 1.0) -> np.ndarray:
    """Exponents ``a`` with ``(sum a_i^q)^(1/q) <= degree``, shape (P, dimensions), the constant first."""
    import numpoly

    found = numpoly.glexindex(
        0, degree + 1, dimensions=dimensions, graded=True, reverse=True, cross_truncation=hyperbolic
    )
    return np.asarray(found, dtype=int).reshape(-1, dimensions)


def basis(z: np.ndarray, indices: np.ndarray, kinds: Sequence[str]) -> np.ndarray:
    """Orthonormal polynomials at whitened scores.

    Parameters
    ----------
    z : ndarray, shape (n, p)
    indices : ndarray of int, shape (P, p)
    kinds : sequence of str
        Family of each parameter.

    Returns
    -------
    ndarray, shape (n, P)
    """
    from chaospy import expansion

    z = np.asarray(z, dtype=float)
    out = np.ones((len(z), len(indices)))
    highest = indices.max(axis=0)
    tables: dict[tuple[str, int], Any] = {}
    for i, (kind, order) in enumerate(zip(kinds, highest)):
        if order == 0:
            continue
        key = (kind, int(order))
        if key not in tables:
            maker = expansion.legendre if kind == "legendre" else expansion.hermite
            tables[key] = maker(int(order), normed=True)
        x = 2.0 * special.ndtr(z[:, i]) - 1.0 if kind == "legendre" else z[:, i]
        values = np.asarray(tables[key](x))
        active = np.flatnonzero(indices[:, i])
        out[:, active] *= values[indices[active, i]].T
    return out


def decompose(psi: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """QR of a basis matrix (n, P) and the leverages of its rows (n,); None if it does not determine P coefficients.

    With these the least-squares coefficients are ``R^-1 Q^T y`` and the leave-one-out residuals
    ``(y - Q Q^T y) / (1 - leverage)``, for any number of outputs.
    """
    q, r = np.linalg.qr(psi)
    d = np.abs(np.diag(r))
    if d.min() * _CONDITION < d.max():
        return None
    leverage = (q**2).sum(axis=1)
    return None if (leverage > 1 - 1e-10).any() else (q, r, leverage)
