"""An error estimate for every member online: the full order's residual at a few hundred voxels.

The residual ``R = f(V a) - V da/dt`` of the reduced trajectory is sampled at voxels drawn in proportion
to the tumour's energy (with the weights that make its norm unbiased), added up over time with the
initial projection error, and divided by the norm of the field. This *indicator* is not a bound: it adds up
norms, and so overrates an error the more the larger it is and the longer it ran. On a validation set its
power law (in the indicator and in time) is fitted, and the factor measured that puts the law above the true
error (conformal prediction with residuals left out one at a time: Vovk et al. 2005; Barber et al. 2021). The
estimate is statistical, and good for parameters drawn as the validation's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from ..domain.keys import generator
from .backend import jax, jnp
from .case import GrowthCase
from .galerkin import GrowthOperators
from .law import loss, unlimited
from .propagate import GrowthInputs


class Probe(NamedTuple):
    """The full order's right-hand side at sampled voxels.

    Parameters
    ----------
    basis : array, shape (m, size)
        Rows of V.
    spread : array, shape (G, m, size)
        Rows of ``A_g V``.
    exposure : array, shape (m,)
        Relative exposure w.
    weight : array, shape (m,)
        Sampling weights: ``sum(weight * f(x)^2)`` estimates the sum over all voxels.
    """

    basis: Any
    spread: Any
    exposure: Any
    weight: Any


def make_probe(
    case: GrowthCase, vectors: np.ndarray, rows: np.ndarray, energy: np.ndarray, samples: int, seed: int
) -> Probe:
    """Draw the voxels and take the rows of the operators.

    Parameters
    ----------
    case : GrowthCase
    vectors : ndarray, shape (n_rows, size)
    rows : ndarray of int, shape (n_rows,)
    energy : ndarray, shape (n_rows,)
        Sum of squares of the snapshots at each voxel.
    samples : int
    seed : int
    """
    chance = 0.7 * np.sqrt(energy) / np.sqrt(energy).sum() + 0.3 / len(rows)
    picked = np.sort(generator(seed, "reduction", "probe").choice(len(rows), size=samples, p=chance))
    spread = [term.tocsr()[rows[picked]][:, rows] @ vectors for term in case.faces.sparse_terms()]
    exposure = np.ones(samples) if case.exposure is None else case.exposure[rows[picked]]
    return Probe(vectors[picked], np.array(spread), exposure, 1.0 / (samples * chance[picked]))


@partial(jax.jit, static_argnames=("stride", "exponent"))
def indicator(
    operators: GrowthOperators,
    probe: Probe,
    inputs: GrowthInputs,
    dt: Any,
    a0: Any,
    initial_error: Any,
    states: Any,
    visits: Any,
    stride: int = 4,
    exponent: float = 1.0,
) -> Any:
    """Uncalibrated relative error of each member at each visit.

    Parameters
    ----------
    operators, probe, inputs, dt
        As for the propagation.
    a0 : array, shape (N, size)
    initial_error : array, shape (N,)
        Norm of what the basis leaves out of the initial field.
    states : array, shape (S, N, size)
        Of :func:`~vvuq_twin.reduction.propagate.propagate`.
    visits : array of int, shape (V,)
        Step at whose end each visit lies; -1 for the initial state.
    stride : int
        The residual is taken at every stride-th step.
    exponent : float
        Of the growth law.

    Returns
    -------
    array, shape (N, V)
    """
    steps, rising = dt.shape[0], unlimited(exponent)
    inverse = jnp.where(dt > 0, 1.0 / jnp.where(dt > 0, dt, 1.0), 0.0)
    kill = (inputs.kill_first + inputs.kill_second) * inverse
    # what an early error has become by the end of each step, relative to its start: growth and kill
    gain = jnp.cumsum(inputs.growth * dt - kill * dt + inputs.log_survival, axis=1)
    weight = inputs.weight[:, None]

    def residual(s: Any) -> Any:
        a = states[s]
        k, kappa = inputs.growth[:, s, None], kill[:, s, None]
        spread = jnp.einsum("ng,gij,nj->ni", inputs.conductance, operators.diffusion, a)
        rate = spread + k * (rising * a - loss(a @ operators.points.T, exponent, jnp) @ operators.lift)
        rate = rate - kappa * (1.0 + weight * (operators.omega - 1.0)) * a
        u = a @ probe.basis.T
        full = k * (rising * u - loss(u, exponent, jnp)) - kappa * (1.0 + weight * (probe.exposure - 1.0)) * u
        for g in range(probe.spread.shape[0]):
            full = full + inputs.conductance[:, g, None] * (a @ probe.spread[g].T)
        gap = full - rate @ probe.basis.T
        return jnp.sqrt((probe.weight * gap * gap).sum(axis=1))

    picked = jnp.arange(0, steps, stride)
    size = jax.lax.map(residual, picked)
    share = jnp.concatenate([dt, jnp.zeros(-steps % stride)]).reshape(-1, stride).sum(axis=1)
    added = size.T * share * jnp.exp(-gain[:, picked])
    grown = jnp.exp(gain) * (
        initial_error[:, None] + jnp.repeat(jnp.cumsum(added, axis=1), stride, axis=1)[:, :steps]
    )
    norm = jnp.sqrt((states**2).sum(axis=2)).T
    at_step = grown / jnp.maximum(norm, 1e-300)
    at_start = initial_error / jnp.maximum(jnp.sqrt((a0**2).sum(axis=1)), 1e-300)
    return jnp.where(visits[None, :] < 0, at_start[:, None], at_step[:, jnp.maximum(visits, 0)])


@dataclass(frozen=True)
class Scale:
    """From indicator to estimated error: ``factor * exp(constant) * indicator^power * (1 + days)^decay``.

    Parameters
    ----------
    constant, power, decay : float
    factor : float
        Puts the law above the true error of a member's worst visit.
    level : float
        The probability of that: what the conformal argument alone promises.
    """

    constant: float
    power: float
    decay: float
    factor: float
    level: float

    def __call__(self, indicated: np.ndarray, days: np.ndarray) -> np.ndarray:
        """Estimated errors (N, V) of indicators (N, V) at times (V,), days since the start."""
        law = np.array([self.constant, self.power, self.decay])
        return self.factor * np.exp(_features(indicated, days) @ law)


#: Errors and indicators below this are as good as none.
_LEAST = 1e-6


def _features(indicated: np.ndarray, days: np.ndarray) -> np.ndarray:
    """What the logarithm of the error is linear in, shape (N, V, 3)."""
    size = np.log(np.maximum(indicated, _LEAST))
    return np.stack([np.ones_like(size), size, np.broadcast_to(np.log1p(days), size.shape)], axis=2)


def _law(error: np.ndarray, indicated: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Least squares for constant, power and decay; proportional where the data do not show a rising power."""
    features, size = _features(indicated, days), np.log(np.maximum(error, _LEAST))
    found = np.linalg.lstsq(features.reshape(-1, 3), size.ravel(), rcond=None)[0]
    if len(error) > 2 and found[1] > 0:
        return np.asarray(found)
    return np.array([float(np.median(size - features[:, :, 1])), 1.0, 0.0])


def calibrated(error: np.ndarray, indicated: np.ndarray, days: np.ndarray, level: float = 0.99) -> Scale:
    """Fit the law and the factor to validation members.

    Parameters
    ----------
    error, indicated : ndarray, shape (N, V)
        True relative errors and the indicator of them.
    days : ndarray, shape (V,)
        Since the start.
    level : float
        Wanted probability that a member's estimate is above its error, at the worst visit of each.
    """

    def worst(law: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(_features(rows, days) @ law).max(axis=1))

    ratio = np.empty(len(error))
    for i in range(len(error)):
        others = np.delete(np.arange(len(error)), i) if len(error) > 1 else np.arange(1)
        ratio[i] = (
            error[i].max() / worst(_law(error[others], indicated[others], days), indicated[i : i + 1])[0]
        )
    factor, reached = conformal_factor(ratio, level)
    constant, power, decay = _law(error, indicated, days).tolist()
    return Scale(constant, power, decay, factor, reached)


def conformal_factor(ratio: np.ndarray, level: float = 0.99) -> tuple[float, float]:
    """Factor that puts the indicator above the error with the wanted probability, and the level reached.

    Parameters
    ----------
    ratio : ndarray, shape (n,)
        True error over indicator of validation members.
    level : float
        Wanted.

    Returns
    -------
    factor : float
        The split conformal one. Where n / (n + 1) is below ``level`` it is the largest ratio, or the
        one-sided prediction limit of a lognormal ratio at ``level`` if that is larger.
    reached : float
        What the conformal argument alone promises, n / (n + 1) at most; the rest leans on the lognormal.
    """
    n = len(ratio)
    rank = int(np.ceil((n + 1) * level))
    ordered = np.sort(ratio)
    if rank <= n:
        return float(ordered[rank - 1]), rank / (n + 1)
    largest = float(ordered[-1])
    if n < 3 or ordered[0] <= 0:
        return largest, n / (n + 1)
    logs = np.log(ordered)
    limit = logs.mean() + stats.t.ppf(level, n - 1) * logs.std(ddof=1) * np.sqrt(1.0 + 1.0 / n)
    return max(largest, float(np.exp(limit))), n / (n + 1)
