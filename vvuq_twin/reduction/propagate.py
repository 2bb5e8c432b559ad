"""The reduced growth model in time: one compiled scan over the padded steps, all members at once.

Each step is Strang's: half the drug's kill (exact, elementwise), diffusion and reaction together by
Kutta's method of third order, the other half of the kill; then the state is
recorded, and after that the fraction of radiotherapy that falls on the step's end is applied (the
order of events of :class:`~vvuq_twin.physics.timeline.Timeline`). Differentiable in all but the times.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from .backend import jax, jnp
from .galerkin import GrowthOperators
from .law import loss, unlimited

OK, DIVERGED, TOO_STIFF, NOT_FINITE = 0, 1, 2, 3
STATUS = {
    OK: "good",
    DIVERGED: "the reduced state left the range it was trained for",
    TOO_STIFF: "the diffusivity is too large for the step",
    NOT_FINITE: "a parameter is not finite",
}
_STABLE = 2.5


class GrowthInputs(NamedTuple):
    """What drives N members over S steps.

    Parameters
    ----------
    conductance : array, shape (N, G)
        Conductance (mm2/day) of each face group.
    growth : array, shape (N, S)
        Mean growth rate over each step, 1/day.
    kill_first, kill_second : array, shape (N, S)
        Integral over each half of a step of the drug's kill rate at mean exposure.
    weight : array, shape (N,)
        How far the kill follows the exposure map: 0 not at all, 1 proportionally.
    log_survival : array, shape (N, S)
        Logarithm of the surviving fraction of the radiotherapy at the end of each step.
    """

    conductance: Any
    growth: Any
    kill_first: Any
    kill_second: Any
    weight: Any
    log_survival: Any


@partial(jax.jit, static_argnames=("substeps", "exponent"))
def propagate(
    operators: GrowthOperators,
    a0: Any,
    inputs: GrowthInputs,
    dt: Any,
    limit: Any,
    substeps: int = 1,
    exponent: float = 1.0,
) -> tuple[Any, Any, Any]:
    """Reduced coefficients at the end of every step.

    Parameters
    ----------
    operators : GrowthOperators
    a0 : array, shape (N, size)
    inputs : GrowthInputs
    dt : array, shape (S,)
        Days; a padded step has 0 and changes nothing.
    limit : float
        A member whose coefficients exceed this norm is stopped where it was, with status ``DIVERGED``.
    substeps : int
        Runge-Kutta steps per step.
    exponent : float
        Of the growth law (:mod:`~vvuq_twin.reduction.law`).

    Returns
    -------
    states : array, shape (S, N, size)
        Before the fraction at the step's end.
    final : array, shape (N, size)
        After everything.
    status : array of int, shape (N,)
        A code of :data:`STATUS`; the values are finite in any case.
    """
    groups, size, _ = operators.diffusion.shape
    # one product with everything that multiplies the coefficients
    stacked = jnp.transpose(operators.diffusion, (2, 0, 1)).reshape(size, groups * size)
    stacked = jnp.concatenate([stacked, operators.points.T], axis=1)
    c = inputs.conductance[:, :, None]
    rising = unlimited(exponent)

    finite = jnp.isfinite(a0).all(axis=1)
    for part in inputs:
        finite &= jnp.isfinite(part).reshape(len(a0), -1).all(axis=1)
    stiff = inputs.conductance.max(axis=1) * operators.spectral * jnp.max(dt) / substeps > _STABLE
    status0 = jnp.where(~finite, NOT_FINITE, jnp.where(stiff, TOO_STIFF, OK))
    good = status0 == OK
    # members that cannot run are given harmless inputs, so that neither values nor gradients are spoilt
    a0 = jnp.where(good[:, None], a0, 0.0)
    conductance = jnp.where(good[:, None, None], c, 0.0)
    driven = (inputs.growth, inputs.kill_first, inputs.kill_second, inputs.log_survival)
    per_step = tuple(jnp.where(good[:, None], x, 0.0).T for x in driven)
    weight = jnp.where(good, inputs.weight, 0.0)
    relative = 1.0 + weight[:, None] * (operators.omega[None, :] - 1.0)

    def rate(a: Any, k: Any) -> Any:
        both = a @ stacked
        spread = (conductance * both[:, : groups * size].reshape(-1, groups, size)).sum(axis=1)
        return spread + k * (rising * a - loss(both[:, groups * size :], exponent, jnp) @ operators.lift)

    def move(a: Any, x: tuple[Any, ...]) -> Any:
        h, k, first, second = x
        b = a * jnp.exp(-first[:, None] * relative)
        k = k[:, None]
        tau = h / substeps
        for _ in range(substeps):
            k1 = rate(b, k)
            k2 = rate(b + 0.5 * tau * k1, k)
            k3 = rate(b + tau * (2.0 * k2 - k1), k)
            b = b + tau / 6.0 * (k1 + 4.0 * k2 + k3)
        return b * jnp.exp(-second[:, None] * relative)

    def step(carry: tuple[Any, Any], x: tuple[Any, ...]) -> tuple[tuple[Any, Any], Any]:
        a, status = carry
        running = jnp.where((status == OK)[:, None], a, 0.0)
        # padding and events at the start have no length and cost nothing
        b = jax.lax.cond(x[0] > 0, move, lambda same, _: same, running, x[:4])
        within = (b * b).sum(axis=1) <= limit**2
        status = jnp.where((status == OK) & ~within, DIVERGED, status)
        a = jnp.where((status == OK)[:, None], b, a)
        after = jnp.where((status == OK)[:, None], a * jnp.exp(x[4])[:, None], a)
        return (after, status), a

    (final, status), states = jax.lax.scan(step, (a0, status0), (dt, *per_step))
    return states, final, status


@jax.jit
def drug_integrals(alpha: Any, beta: Any, dt: Any, amount: Any, initial: Any) -> tuple[Any, Any, Any]:
    """Integrals of ``alpha A(t)`` over the halves of each step; A decays at rate beta, jumps at step ends.

    Parameters
    ----------
    alpha, beta : array, shape (N,)
        Kill per unit amplitude (1/day) and decay rate (1/day); beta may be 0.
    dt : array, shape (S,)
    amount : array, shape (S,)
        Added to A at the end of each step.
    initial : array, shape (N,)
        A at the start.

    Returns
    -------
    first, second : array, shape (N, S)
        Over the first and the second half of each step.
    final : array, shape (N,)
        A after the last step.
    """

    def step(level: Any, x: tuple[Any, Any]) -> tuple[Any, tuple[Any, Any]]:
        h, dose = x
        decay = 0.5 * beta * h
        small = decay < 1e-6
        safe = jnp.where(small, 1.0, decay)
        mean = jnp.where(small, 1.0 - 0.5 * decay, -jnp.expm1(-safe) / safe)
        half = jnp.exp(-decay)
        first = alpha * level * mean * 0.5 * h
        return level * half * half + dose, (first, first * half)

    final, (first, second) = jax.lax.scan(step, initial, (dt, amount))
    return first.T, second.T, final
