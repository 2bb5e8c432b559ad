"""The growth law as the reduced model needs it: unlimited growth less a loss, ``dN/dt = k (c N - phi(N))``.

| law | exponent nu | c | phi(N) |
|---|---|---|---|
| logistic | 1 | 1 | N^2 |
| generalised logistic (Richards 1959) | nu > 0 | 1 / nu | N^(1 + nu) / nu |
| Gompertz | 0 | 0 | N log N |

Below zero, where a reduced field may ripple, the last two neither grow nor lose; the square is what the exact
tensor projects.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def unlimited(exponent: float) -> float:
    """The factor c of unlimited growth."""
    return 1.0 / exponent if exponent > 0.0 else 0.0


def loss(u: Any, exponent: float, xp: Any = np) -> Any:
    """``phi(u)``, elementwise; differentiable in u with ``xp=jnp``."""
    if exponent == 1.0:
        return u * u
    there = u > 1e-30
    safe = xp.where(there, u, 1.0)
    if exponent == 0.0:
        return xp.where(there, safe * xp.log(safe), 0.0)
    # below zero what grows without limit is lost at once
    return xp.where(there, safe ** (1.0 + exponent) / exponent, 0.0) + xp.where(there, 0.0, u / exponent)
