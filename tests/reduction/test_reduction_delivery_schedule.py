"""A reduced delivery whose doses and output times are data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from delivery_small import small_case, small_model

from vvuq_twin.kinetics.plasma import Dose
from vvuq_twin.reduction.backend import jax, jnp
from vvuq_twin.reduction.delivery import OTHER_SCHEDULE
from vvuq_twin.reduction.delivery_validation import relative_errors, truth, tumour_fields
from vvuq_twin.reduction.schedule import Schedule, padded_schedule


def _schedule(dose: Dose, times: tuple[float, ...]) -> Schedule:
    return padded_schedule((dose,), np.array(times), small_case().agent.plasma_model())


OWN = (Dose(0.0, 90.0, duration=0.25), (0.25, 1.0, 4.0, 12.0, 48.0))
OTHER = (Dose(0.1, 70.0, duration=0.4), (0.5, 1.2, 5.0, 10.0, 40.0))


def test_the_cases_own_schedule_gives_the_run() -> None:
    case, (model, _) = small_case(), small_model()
    theta = case.space.sample(3, 1, "schedule")
    wanted, found = model.run(case, theta), model.follow(case, theta, _schedule(*OWN))
    assert (found[1] == 0).all()
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-7, atol=1e-9 * np.abs(wanted[0]).max())


def test_another_schedule_agrees_with_the_full_order_and_does_not_compile_again() -> None:
    case, (model, _) = small_case(), small_model()
    theta = case.space.sample(3, 2, "schedule")
    model.follow(case, theta, _schedule(*OWN))
    program = model._program(case, False, False)
    before = program._cache_size()
    amount, status = model.follow(case, theta, _schedule(*OTHER))
    assert program._cache_size() == before and (status == 0).all()
    moved = replace(case, doses=OTHER[:1], times=np.array(OTHER[1]))
    errors = relative_errors(tumour_fields(model, case, amount), truth(moved, theta))
    assert errors.max() < 1e-3


def test_derivatives_by_amounts_and_times_are_the_finite_differences() -> None:
    case, (model, _) = small_case(), small_model()
    theta = jnp.asarray(case.space.sample(1, 3, "schedule"))
    schedule = _schedule(*OTHER)

    @jax.jit
    def taken_up(x: jax.Array) -> jax.Array:
        """By amount, start, duration and the four later times; the first output is the infusion's end."""
        times = jnp.concatenate([x[1:2] + x[2:3], x[3:]])
        at = schedule._replace(amount=x[:1], start=x[1:2], duration=x[2:3], times=times)
        return model.follow(case, theta, at, jnp)[0][0, :, 2].mean(axis=1).sum()

    x = jnp.array([70.0, 0.1, 0.4, *OTHER[1][1:]])
    gradient, h = np.asarray(jax.grad(taken_up)(x)), np.array([7e-2, 1e-4, 1e-4, 1e-3, 1e-3, 1e-3, 1e-2])
    for i in range(7):
        at = [float(taken_up(x.at[i].add(k * h[i]))) for k in (-2, -1, 1, 2)]
        slope = (8.0 * (at[2] - at[1]) - (at[3] - at[0])) / (12.0 * h[i])
        assert gradient[i] == pytest.approx(slope, rel=1e-6)


def test_a_schedule_of_another_form_has_a_code() -> None:
    case, (model, _) = small_case(), small_model()
    theta = case.space.sample(2, 4, "schedule")
    own = _schedule(*OWN)
    for other in (
        own._replace(times=own.times[[1, 0, 2, 3, 4]]),
        own._replace(times=np.array([0.3, 1.0, 4.0, 12.0, 48.0])),  # not at the infusion's end
        own._replace(times=np.array([0.25, 1.0, 4.0, 12.0, 90.0])),  # more than twice as long
        own._replace(duration=np.zeros(1), times=np.array([0.0, 1.0, 4.0, 12.0, 48.0])),
        own._replace(compartment=np.array([1])),
    ):
        amount, status = model.follow(case, theta, other)
        assert (status == OTHER_SCHEDULE).all() and np.isfinite(amount).all()
