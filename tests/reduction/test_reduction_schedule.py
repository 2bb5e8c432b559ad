"""Doses and output times as data: the same numbers as a case with them built in, one program, derivatives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from transport_small import small_reduced, small_transport

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.kinetics.plasma import Dose
from vvuq_twin.reduction import transport
from vvuq_twin.reduction.backend import jax, jnp
from vvuq_twin.reduction.propagate import NOT_FINITE, TOO_STIFF
from vvuq_twin.reduction.schedule import Schedule, padded_schedule

DOSES = (Dose(0.5, 100.0, "gut"), Dose(2.0, 60.0, "central", duration=1.5), Dose(5.0, 30.0, "central"))
TIMES = np.array([0.25, 2.7, 5.0, 11.0])


def _schedule(doses: tuple[Dose, ...] = DOSES, times: np.ndarray = TIMES) -> Schedule:
    return padded_schedule(doses, times, small_transport().agent.plasma_model(), 4)


def test_a_schedule_gives_what_a_case_of_it_gives() -> None:
    case, reduced = small_transport(), small_reduced()
    theta = case.space.sample(3, 1, "schedule")
    later = (Dose(0.0, 10.0, "central", duration=12.0), Dose(3.0, 70.0, "gut"))
    for doses, times in ((DOSES, TIMES), (later, TIMES[[0, 1, 2, 2]]), (DOSES[::-1], TIMES)):
        wanted = reduced.run(replace(case, doses=doses, times=times), theta)
        found = reduced.follow(case, theta, _schedule(doses, times))
        for a, b in zip(found, wanted):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11 * np.abs(b).max())


def test_a_new_schedule_of_the_same_shape_does_not_compile_again() -> None:
    case, reduced = small_transport(), small_reduced()
    theta = case.space.sample(3, 1, "schedule")
    reduced.follow(case, theta, _schedule())
    before = transport._follow._cache_size()
    reduced.follow(case, theta, _schedule((Dose(1.0, 5.0, "gut", 2.0),), TIMES + 0.5))
    assert transport._follow._cache_size() == before


def test_derivatives_by_amounts_and_times_are_the_finite_differences() -> None:
    case, reduced = small_transport(), small_reduced()
    theta = jnp.asarray(case.space.sample(1, 2, "schedule"))
    readout = reduced.vectors[::7].mean(axis=0)
    schedule = _schedule()._replace(times=jnp.array([1.3, 2.7, 5.6, 11.0]))

    @jax.jit
    def seen(amount: jax.Array, start: jax.Array, duration: jax.Array, times: jax.Array) -> jax.Array:
        at = schedule._replace(amount=amount, start=start, duration=duration, times=times)
        amounts, exposure, _ = reduced.follow(case, theta, at, jnp)
        return (amounts[0, :, 0] @ readout).sum() + 0.3 * (exposure[0] @ readout).sum()

    given = [jnp.asarray(x) for x in (*schedule[:3], schedule.times)]
    slopes = jax.grad(seen, argnums=(0, 1, 2, 3))(*given)
    # amounts of each dose; starts of each; the one duration that is not a bolus; each output time
    for part, indices, h in ((0, (0, 1, 2, 3), 1.0), (1, (0, 1, 2), 2e-3), (2, (1,), 2e-3), (3, (0, 1, 2, 3), 2e-3)):  # fmt: skip
        for i in indices:
            at = []
            for k in (-2, -1, 1, 2):
                moved = list(given)
                moved[part] = moved[part].at[i].add(k * h)
                at.append(float(seen(*moved)))
            wanted = (8.0 * (at[2] - at[1]) - (at[3] - at[0])) / (12.0 * h)
            assert float(slopes[part][i]) == pytest.approx(wanted, rel=1e-6)


def test_a_schedule_that_cannot_be_followed_has_a_code() -> None:
    case, reduced = small_transport(), small_reduced()
    theta = case.space.sample(2, 3, "schedule")
    for times, code in ((np.array([1.0, np.nan, 2.0, 3.0]), NOT_FINITE), (np.array([1.0, 2.0, 3.0, 9e4]), TOO_STIFF)):  # fmt: skip
        amount, exposure, status = reduced.follow(case, theta, _schedule(DOSES, times))
        assert (status == code).all() and np.isfinite(amount).all() and np.isfinite(exposure).all()


def test_doses_that_do_not_fit() -> None:
    model = small_transport().agent.plasma_model()
    with pytest.raises(BadInput, match="3 doses for 2 places"):
        padded_schedule(DOSES, TIMES, model, 2)
    with pytest.raises(BadInput, match="compartment 'centre' is not known"):
        padded_schedule((Dose(0.0, 1.0, "centre"),), TIMES, model)
    with pytest.raises(BadInput, match="negative"):
        padded_schedule((Dose(0.0, -1.0),), TIMES, model)
