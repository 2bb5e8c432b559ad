"""Matrix exponentials of many small matrices in JAX: scaling and squaring of plain products.

A Taylor polynomial of degree 12 of ``M / 2^s``, squared s times (Moler & Van Loan 2003). For a norm
of at most 1/2 after scaling the truncation error is below round-off; s is fixed when the program is
compiled, so that every member does the same work. One product costs 2 n^3; jax's own ``expm`` under vmap
is several times slower.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .backend import jnp

DEGREE = 12


def squarings(norm: float) -> int:
    """How often to halve a matrix of this 1-norm."""
    return max(0, int(np.ceil(np.log2(max(norm, 1e-300) / 0.5))))


def expm(matrix: Any, halvings: int) -> Any:
    """Exponentials of matrices (..., n, n), scaled by ``2^-halvings``."""
    scaled = matrix * 0.5**halvings
    eye = jnp.eye(matrix.shape[-1])
    out = eye + scaled / DEGREE
    for degree in range(DEGREE - 1, 0, -1):
        out = eye + scaled @ out / degree
    for _ in range(halvings):
        out = out @ out
    return out
