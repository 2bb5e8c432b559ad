"""What observations can tell and a forecast needs: Fisher information in whitened scores, and fewer parameters.

In whitened scores z the prior is a standard normal. With J the gradient of the predicted observations, R their error
covariance and G the gradient of the quantities to be forecast, ``F = J' R^-1 J`` is the Fisher information, ``(I + F)^-1``
the linearised posterior covariance and ``G (I + F)^-1 G'`` the linearised variance of the forecast. Eigenvectors of F
with eigenvalue well above 1 are *stiff* (the data decide), those well below are *sloppy* (the prior stays): Gutenkunst et
al. 2007, doi:10.1371/journal.pcbi.0030189.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..domain.errors import BadInput, RunFailed
from ..domain.observations import ObservationError
from ..domain.parameters import Normal, Parameter, ParameterSpace


def gradients(
    function: Callable[[Any], Any], z: np.ndarray, progress: Callable[[int, int], None] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Values (N, m) and gradients (N, m, p) of a JAX function at scores (N, p), one point at a time.

    Parameters
    ----------
    function : callable
        ``function(z)`` of shape (p,) to (m,), traceable. Forward mode where it has more outputs than inputs.
    progress : callable, optional
        ``progress(points done, points)``.

    Raises
    ------
    RunFailed
        If at more than half of the points a value or gradient is not finite; fewer are left out.
    """
    from ..reduction.backend import jax, jnp

    z = np.asarray(z, dtype=float)
    size = jax.eval_shape(function, jnp.asarray(z[0])).shape
    if len(size) != 1:
        raise BadInput(f"the function's values have shape {size}, not (m,)", "gradients")
    mode = jax.jacrev if size[0] < z.shape[1] else jax.jacfwd
    both = jax.jit(lambda x: (function(x), mode(function)(x)))
    values, slopes = [], []
    for i, point in enumerate(z, start=1):
        y, j = (np.asarray(a) for a in both(jnp.asarray(point)))
        if np.isfinite(y).all() and np.isfinite(j).all():
            values.append(y)
            slopes.append(j)
        if progress is not None:
            progress(i, len(z))
    if len(values) < max(1, len(z) / 2):
        raise RunFailed(
            f"the gradient is not finite at {len(z) - len(values)} of {len(z)} points of the parameters"
        )
    return np.array(values), np.array(slopes)


@dataclass(frozen=True)
class Effect:
    """What fewer parameters do to the forecast, linearised: each (q,).

    Parameters
    ----------
    spread : ndarray
        Standard deviation of the forecast over that with all parameters (below 1: too sure).
    shift : ndarray
        Root mean square shift of the forecast's mean, in its standard deviations, over data drawn from the
        whole model.
    """

    spread: np.ndarray
    shift: np.ndarray

    @property
    def worst(self) -> float:
        """The largest of all changes."""
        return float(max(np.abs(1.0 - self.spread).max(), self.shift.max()))


@dataclass(frozen=True)
class Information:
    """Fisher information and forecast gradients at N draws.

    Parameters
    ----------
    space : ParameterSpace
    fisher : ndarray, shape (N, p, p)
    goal : ndarray, shape (N, q, p)
        Gradients of the forecast quantities.
    quantities : tuple of str
    """

    space: ParameterSpace
    fisher: np.ndarray
    goal: np.ndarray
    quantities: tuple[str, ...]

    @cached_property
    def _posterior(self) -> np.ndarray:
        """``(I + F)^-1`` at each draw."""
        return np.linalg.inv(np.eye(self.space.size) + self.fisher)

    @property
    def spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (p,), falling, and eigenvectors (p, p; columns) of the information averaged over the draws."""
        values, vectors = np.linalg.eigh(self.fisher.mean(axis=0))
        return np.maximum(values[::-1], 0.0), vectors[:, ::-1]

    @property
    def learned(self) -> np.ndarray:
        """Share of each score's prior variance that the observations remove, (p,)."""
        return 1.0 - np.einsum("npp->np", self._posterior).mean(axis=0)

    @property
    def prior_variance(self) -> np.ndarray:
        """Linearised variance of the quantities before the observations, (q,)."""
        return (self.goal**2).sum(axis=2).mean(axis=0)

    @property
    def variance(self) -> np.ndarray:
        """Linearised variance of the quantities after them, (q,)."""
        return np.einsum("nqi,nij,nqj->nq", self.goal, self._posterior, self.goal).mean(axis=0)

    @property
    def share(self) -> np.ndarray:
        """Share of the forecast's variance that would vanish if a score became known as well, (p, q).

        Of a score i: ``(B g)_i^2 / (B_ii g' B g)`` with B the posterior covariance.
        """
        through = np.einsum("nij,nqj->nqi", self._posterior, self.goal) ** 2
        gone = (through / np.einsum("npp->np", self._posterior)[:, None, :]).mean(axis=0)
        variance = self.variance
        return np.where(variance > 0, gone.T / np.where(variance > 0, variance, 1.0), 0.0)

    def restrict(self, directions: np.ndarray) -> Effect:
        """Effect of giving up all but some directions: ``z = W y`` with ``y`` standard normal.

        Parameters
        ----------
        directions : ndarray, shape (p, r)
            W, orthonormal columns; r may be 0.

        Notes
        -----
        With ``a = (I + F)^-1 g`` and ``b = W (I + W'FW)^-1 W'g`` the variance is ``g'b``, and over data drawn
        from the whole model the means differ by a variance of ``c' F (F + I) c``, ``c = a - b``.
        """
        w, f = directions, self.fisher
        inner = np.linalg.inv(np.eye(w.shape[1]) + np.einsum("ir,nij,js->nrs", w, f, w))
        a = np.einsum("nij,nqj->nqi", self._posterior, self.goal)
        b = np.einsum("ir,nrs,js,nqj->nqi", w, inner, w, self.goal, optimize=True)
        c = a - b
        seen = np.einsum("nij,nqj->nqi", f, c)
        shift = ((seen**2).sum(axis=2) + (seen * c).sum(axis=2)).mean(axis=0)
        left = (self.goal * b).sum(axis=2).mean(axis=0)
        whole = np.maximum(self.variance, 1e-300)
        return Effect(np.sqrt(np.maximum(left, 0.0) / whole), np.sqrt(np.maximum(shift, 0.0) / whole))

    def fix(self, names: Sequence[str]) -> Effect:
        """Effect of fixing parameters at their prior medians (scores at zero).

        Raises
        ------
        BadInput
            If a name is not a parameter.
        """
        for name in names:
            if name not in self.space.names:
                raise BadInput(f"there is no parameter '{name}'", "parameters to fix")
        keep = [i for i, n in enumerate(self.space.names) if n not in names]
        return self.restrict(np.eye(self.space.size)[:, keep])

    def fixable(self, tolerance: float) -> tuple[tuple[str, ...], Effect]:
        """Parameters that can be fixed together, the least missed first, while no change exceeds ``tolerance``.

        Greedy: at each step the parameter whose fixing, with those before, changes the forecast least.
        """
        chosen: list[str] = []
        effect = self.fix([])
        while len(chosen) < self.space.size:
            tried = {n: self.fix([*chosen, n]) for n in self.space.names if n not in chosen}
            best = min(tried, key=lambda n: (tried[n].worst, n))
            if tried[best].worst > tolerance:
                break
            chosen.append(best)
            effect = tried[best]
        return tuple(chosen), effect

    def merged(self, tolerance: float) -> tuple[np.ndarray, Effect]:
        """Fewest merged parameters with no change above ``tolerance``: directions (p, r) and their effect.

        The directions span what the linearised posterior needs for the forecast, ``(I + F)^-1 g`` at the draws,
        by a singular value decomposition in the metric ``I + E F``. For a linear model q directions are exact.
        """
        metric = np.eye(self.space.size) + self.fisher.mean(axis=0)
        values, vectors = np.linalg.eigh(metric)
        root, back = (vectors * np.sqrt(values)) @ vectors.T, (vectors / np.sqrt(values)) @ vectors.T
        scale = np.sqrt(np.maximum(self.variance, 1e-300))
        a = np.einsum("nij,nqj->nqi", self._posterior, self.goal) / scale[:, None]
        _, _, right = np.linalg.svd(a.reshape(-1, self.space.size) @ root, full_matrices=False)
        for r in range(1, len(right) + 1):
            w = np.linalg.qr(back @ right[:r].T)[0]
            w = w * np.sign(w[np.abs(w).argmax(axis=0), np.arange(r)])
            effect = self.restrict(w)
            if effect.worst <= tolerance:
                return w, effect
        return np.eye(self.space.size), self.fix([])


def information(
    space: ParameterSpace,
    slopes: np.ndarray,
    error: ObservationError,
    goal: np.ndarray,
    quantities: Sequence[str],
) -> Information:
    """Fisher information from gradients.

    Parameters
    ----------
    space : ParameterSpace
    slopes : ndarray, shape (N, m, p)
        Of the predicted observations in the whitened scores.
    error : ObservationError
        Of the m observations.
    goal : ndarray, shape (N, q, p)
        Of the quantities to be forecast, at the same draws.
    quantities : sequence of str, length q

    Raises
    ------
    BadInput
        If the shapes do not fit.
    """
    slopes, goal = np.asarray(slopes, dtype=float), np.asarray(goal, dtype=float)
    n, m, p = slopes.shape
    if p != space.size or goal.shape != (n, len(quantities), p) or m != len(error.voxel):
        raise BadInput(
            f"gradients of shapes {slopes.shape} and {goal.shape} do not fit {space.size} parameters, "
            f"{len(error.voxel)} observations and {len(quantities)} quantities", "information",
        )  # fmt: skip
    fisher = np.array([j.T @ error.solve(j) for j in slopes])
    return Information(space, 0.5 * (fisher + fisher.transpose(0, 2, 1)), goal, tuple(quantities))


@dataclass(frozen=True)
class Merged:
    """A parameter space with a few independent standard normals that move all parameters together.

    Parameters
    ----------
    whole : ParameterSpace
    directions : ndarray, shape (p, r)
        Orthonormal columns in whitened scores.
    centre : ndarray, shape (p,), optional
        Whitened scores at the origin; the prior medians if absent.
    """

    whole: ParameterSpace
    directions: np.ndarray
    centre: np.ndarray | None = None

    @property
    def space(self) -> ParameterSpace:
        """The merged parameters, ``direction_1`` to ``direction_r``."""
        parts = []
        for j, column in enumerate(self.directions.T, start=1):
            text = ", ".join(
                f"{column[i]:+.2f} {self.whole.names[i]}" for i in np.argsort(-np.abs(column))[:3]
            )
            parts.append(Parameter(f"direction_{j}", "1", Normal(0.0, 1.0), text, "merged parameters"))
        return ParameterSpace(tuple(parts))

    def theta(self, y: Any, xp: Any = np) -> Any:
        """Values (..., p) of all parameters from those of the merged ones (..., r); traceable with ``xp=jnp``."""
        z = y @ xp.asarray(self.directions.T)
        return self.whole.from_gaussian(z if self.centre is None else z + xp.asarray(self.centre), xp)
