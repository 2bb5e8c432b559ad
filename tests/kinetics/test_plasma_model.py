"""Plasma model: members, conservation, conventions, bad input. Closed forms are in the verification suite."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.kinetics.plasma import Dose, PlasmaModel, concentration, course, rate_matrix, simulate

NAMES = ("gut", "central", "deep")
FLOWS = {("gut", "central"): 1.2, ("central", "deep"): 0.5, ("deep", "central"): 0.2, ("central", "out"): 0.3}


def test_columns_sum_to_minus_the_elimination():
    k = rate_matrix(NAMES, FLOWS)
    np.testing.assert_allclose(k.sum(axis=0), [0, -0.3, 0], atol=1e-15)


def test_what_is_given_is_in_the_body_or_eliminated():
    plan = course(
        PlasmaModel(NAMES, rate_matrix(NAMES, FLOWS), 10.0), [Dose(0, 80, "gut"), Dose(2.5, 30, duration=1.5)]
    )
    times = np.array([0.0, 1.0, 4.0, 20.0])
    amounts, integrals = simulate(plan, times)
    given = np.array([80.0, 80.0, 110.0, 110.0])
    np.testing.assert_allclose(amounts[:, :3].sum(axis=1) + 0.3 * integrals[:, 1], given, rtol=1e-13)


def test_state_is_just_after_the_dose():
    plan = course(PlasmaModel(NAMES, rate_matrix(NAMES, FLOWS), 10.0), [Dose(1.0, 50.0)])
    np.testing.assert_allclose(concentration(plan, np.array([0.0, 0.999999, 1.0])), [0, 0, 5.0])


def test_members_side_by_side_are_each_alone():
    ke = np.array([0.1, 0.3, 0.7])
    flows = {("gut", "central"): 1.2, ("central", "out"): ke}
    names, volume = ("gut", "central"), np.array([8.0, 10.0, 12.0])
    doses, times = [Dose(0, 80, "gut"), Dose(3.0, 20.0, duration=2.0)], np.linspace(0, 10, 11)
    together = concentration(course(PlasmaModel(names, rate_matrix(names, flows), volume), doses), times)
    assert together.shape == (3, 11)
    for i in range(3):
        flows_i = {("gut", "central"): 1.2, ("central", "out"): float(ke[i])}
        one = PlasmaModel(names, rate_matrix(names, flows_i), float(volume[i]))
        np.testing.assert_allclose(concentration(course(one, doses), times), together[i], rtol=1e-12)


def test_bioavailability_scales_the_dose():
    k = rate_matrix(NAMES, FLOWS)
    half = course(PlasmaModel(NAMES, k, 10.0, fraction={"gut": 0.5}), [Dose(0, 80, "gut")])
    full = course(PlasmaModel(NAMES, k, 10.0), [Dose(0, 40, "gut")])
    times = np.array([0.5, 3.0])
    np.testing.assert_array_equal(concentration(half, times), concentration(full, times))


def test_bad_input():
    k = rate_matrix(NAMES, FLOWS)
    model = PlasmaModel(NAMES, k, 10.0)
    with pytest.raises(BadInput, match="'gutt' is not known; did you mean 'gut'"):
        course(model, [Dose(0, 1, "gutt")])
    with pytest.raises(BadInput, match="negative"):
        course(model, [Dose(0, -1)])
    with pytest.raises(BadInput, match="negative or not finite"):
        rate_matrix(NAMES, {("gut", "central"): -1.0})
    with pytest.raises(BadInput, match="'kidney' is not known"):
        rate_matrix(NAMES, {("gut", "kidney"): 1.0})
    with pytest.raises(BadInput, match="go backwards"):
        simulate(course(model, [Dose(0, 1)]), np.array([2.0, 1.0]))
    trapped = PlasmaModel(("central",), rate_matrix(("central",), {("central", "out"): 0.0}), 1.0)
    with pytest.raises(BadInput, match="no way out"):
        course(trapped, [Dose(0, 1)]).total_exposure()
