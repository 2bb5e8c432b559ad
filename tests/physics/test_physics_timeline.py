"""Steps land on every event; the padding does nothing."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.physics.timeline import timeline

VISITS = [0.0, 10.0, 31.5]
DRUG = [(0.0, 75.0), (3.3, 75.0), (10.0, 60.0), (31.5, 99.0), (40.0, 99.0)]
FRACTIONS = [(3.3, 2.0), (3.3, 1.5), (7.25, 2.0)]


def test_every_event_is_at_the_end_of_a_step():
    plan = timeline(0.0, VISITS, DRUG, FRACTIONS, dt_max=0.7, pad_to=64)
    ends = plan.t + plan.dt
    assert plan.steps % 64 == 0 and plan.used <= plan.steps
    for time, amount in [(0.0, 75.0), (3.3, 75.0), (10.0, 60.0)]:
        assert plan.drug_jump[np.isclose(ends, time, atol=1e-12) & (plan.drug_jump > 0)].sum() == amount
    assert plan.drug_jump.sum() == 210.0  # what is not before the last visit is left out
    together = np.flatnonzero(plan.dose == 3.5)
    assert together.size == 1 and plan.dose_sq[together[0]] == 4.0 + 2.25
    assert plan.dose.sum() == 5.5
    np.testing.assert_allclose(ends[plan.visit == 1], 10.0)
    np.testing.assert_allclose(ends[plan.visit == 2], 31.5)
    assert plan.initial_visit == 0 and (plan.visit == 0).sum() == 0


def test_steps_tile_time_and_are_short():
    plan = timeline(0.0, VISITS, DRUG, FRACTIONS, dt_max=0.7)
    used = slice(0, plan.used)
    assert plan.dt.max() <= 0.7 + 1e-12
    np.testing.assert_allclose(plan.dt.sum(), 31.5, rtol=1e-14)
    np.testing.assert_allclose(plan.t[used][1:], (plan.t + plan.dt)[used][:-1], atol=1e-12)
    rest = slice(plan.used, None)
    assert not plan.dt[rest].any() and not plan.dose[rest].any() and (plan.visit[rest] == -1).all()


def test_similar_schedules_have_one_shape():
    a = timeline(0.0, [20.0], [(i + 0.5, 75.0) for i in range(10)], dt_max=0.5)
    b = timeline(0.0, [20.0], [(i + 0.25, 75.0) for i in range(12)], dt_max=0.5)
    assert a.steps == b.steps


def test_first_visit_after_the_start_is_not_initial():
    plan = timeline(0.0, [5.0], dt_max=1.0)
    assert plan.initial_visit == -1 and plan.visit[plan.used - 1] == 0


def test_breaks_and_rate_intervals():
    edges = np.array([0.0, 7.0, 14.0, 21.0])
    plan = timeline(0.0, [21.0], dt_max=2.0, breaks=edges[1:-1].tolist())
    ends = (plan.t + plan.dt)[: plan.used]
    assert np.isclose(ends[:, None], edges[1:-1]).any(axis=0).all()
    which = plan.rate(edges)[: plan.used]
    middle = (plan.t + plan.dt / 2)[: plan.used]
    np.testing.assert_array_equal(which, np.minimum((middle / 7).astype(int), 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"visits": []}, "no visit"),
        ({"visits": [3.0, 1.0]}, "out of order"),
        ({"visits": [3.0, 3.0]}, "out of order"),
        ({"visits": [-1.0]}, "before the start"),
        ({"visits": [np.nan]}, "not finite"),
        ({"visits": [1.0], "dt_max": 0.0}, "not positive"),
        ({"visits": [1.0], "drug_events": [(0.5, -75.0)]}, "dose is negative"),
        ({"visits": [1.0], "fractions": [(np.inf, 2.0)]}, "not finite"),
        (
            {"visits": [1.0], "drug_events": [(-2.0, 75.0)]},
            "drug events: the dose on day -2 is before the first time",
        ),
        (
            {"visits": [1.0], "fractions": [(-2.0, 2.0)]},
            "fractions: the dose on day -2 is before the first time",
        ),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(BadInput, match=message):
        timeline(0.0, **arguments)
