"""Both orders of the growth twin behind one contract."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.reduction.backend import jax, jnp
from vvuq_twin.twin.growth import FullOrderGrowth, GuardedGrowthTwin, ReducedGrowthTwin
from vvuq_twin.twin.model import segment
from vvuq_twin.twin.observe import Adc, Cellularity, FullFields, statistics

Twins = tuple[FullOrderGrowth, ReducedGrowthTwin]


def test_both_orders_agree_within_the_validated_error(twins: Twins) -> None:
    full, reduced = twins
    theta = full.space.sample(8, 50, "contract")
    a, b = full.trajectory(theta), reduced.trajectory(theta)
    assert (a.status == 0).all() and (b.status == 0).all()
    assert np.array_equal(a.times, b.times)
    inside = np.flatnonzero(full.case.mean > full.case.n_detect)
    for v in range(4):
        x = full.fields(a.values[:, v]).at(inside)
        y = reduced.fields(b.values[:, v]).at(inside)
        assert np.linalg.norm(x - y, axis=1) / np.linalg.norm(x, axis=1) == pytest.approx(0.0, abs=0.02)
        big = full.burden(full.fields(a.values[:, v]), theta)
        small = reduced.burden(reduced.fields(b.values[:, v]), theta)
        np.testing.assert_allclose(small[:, 0], big[:, 0], rtol=0.03, atol=0.3)


def test_segments_join_to_the_trajectory(twins: Twins) -> None:
    theta = twins[0].space.sample(8, 51, "segments")
    for model in twins:
        whole = model.trajectory(theta)
        state = model.initial(theta)
        assert np.array_equal(state.values, whole.values[:, 0])
        for v in range(3):
            state, status = model.propagate(state, theta, whole.times[v], whole.times[v + 1])
            assert (status == 0).all()
            np.testing.assert_allclose(state.values, whole.values[:, v + 1], rtol=0, atol=1e-12)
        assert state.time == whole.times[-1]


def test_the_drug_outlives_a_segment(twins: Twins) -> None:
    # a dose at 10.3 days still acts after a stop at 12.4: the amplitude is part of the state
    theta = twins[0].space.sample(8, 52, "amplitude")
    for model in twins:
        state, _ = model.propagate(model.initial(theta), theta, 0.0, 12.4)
        assert (state.amplitude > 0.01).all()
        whole, _ = model.propagate(model.initial(theta), theta, 0.0, 20.0)
        joined, _ = model.propagate(state, theta, 12.4, 20.0)
        np.testing.assert_allclose(joined.values, whole.values, atol=1e-12)


def test_a_failed_member_stays_failed_and_the_others_go_on(twins: Twins) -> None:
    theta = twins[0].space.sample(8, 53, "failed")
    bad = theta.copy()
    bad[2, twins[0].space.index("k")] = np.nan
    for model in twins:
        state, status = model.propagate(model.initial(theta), bad, 0.0, 20.0)
        assert status[2] != 0 and (np.delete(status, 2) == 0).all()
        assert np.isfinite(state.values).all()
        later, again = model.propagate(state, theta, 20.0, 40.0)
        assert np.array_equal(status, again)
        assert np.array_equal(later.values[2], state.values[2])


def test_conditioning_replaces_the_state(twins: Twins) -> None:
    theta = twins[0].space.sample(8, 54, "conditioning")
    for model in twins:
        state = model.initial(theta, {"amplitude": np.full(8, 0.7)})
        assert (state.amplitude == 0.7).all()


def test_a_segment_must_end_on_a_step(twins: Twins) -> None:
    line = twins[0].case.timeline
    part = segment(line, 20.0, 40.0)
    assert part.dt.sum() == pytest.approx(20.0)
    assert part.steps == line.steps
    with pytest.raises(BadInput, match="not a step's end"):
        segment(line, 0.0, 20.123)


def test_reading_fields_in_parts_gives_the_whole(twins: Twins) -> None:
    _, model = twins
    values = model.trajectory(model.space.sample(8, 55, "parts")).values[:, 2]
    whole = model.model.reconstruct(values)
    cells = np.array([5, 0, 2047, 17])
    np.testing.assert_allclose(model.fields(values).at(cells), whole[:, cells], atol=1e-15)
    stats = statistics(model.fields(values), whole.shape[1], (0.1, 0.5))
    cut = np.clip(whole, 0, 1)
    np.testing.assert_allclose(stats["mean"], cut.mean(axis=0), atol=1e-13)
    np.testing.assert_allclose(stats["sd"], cut.std(axis=0), atol=1e-13)
    np.testing.assert_allclose(stats["q10"], np.quantile(cut, 0.1, axis=0), atol=1e-13)


def test_adc_and_below_detection() -> None:
    fields = FullFields(np.array([[0.0, 0.1, 0.5, 1.0], [0.2, 0.3, 0.0, 0.9]]))
    theta = np.array([[6e-4], [8e-4]])
    operator = Adc(np.array([0, 1, 2, 3]), np.array([False, False, True, True]), 3e-3, 0.16, 0)
    expected = np.array(
        [
            [0.0, 0.0, 3e-3 - 2.4e-3 * 0.5, 6e-4],
            [0.04 * 2.2e-3, 0.14 * 2.2e-3, 3e-3, 3e-3 - 2.2e-3 * 0.9],
        ]
    )
    np.testing.assert_allclose(operator(fields, theta), expected, rtol=1e-12)
    assert Cellularity(np.array([3, 1]))(fields, theta).tolist() == [[1.0, 0.1], [0.9, 0.3]]


def test_quantities_are_the_sums_and_differentiable(twins: Twins) -> None:
    full, model = twins
    regions = [np.arange(1000, 1400), np.flatnonzero(full.case.mean > 0.4)]
    quantities = model.quantities(regions)
    theta = model.space.sample(8, 56, "quantities")
    values = np.asarray(quantities(theta)).reshape(8, 4, 3)
    states = model.trajectory(theta).values
    cm3 = full.case.faces.grid.voxel_volume / 1000.0
    for v in range(4):
        field = model.model.reconstruct(states[:, v])
        np.testing.assert_allclose(values[:, v, 0], field.sum(axis=1) * cm3, rtol=1e-10)
        for r, cells in enumerate(regions):
            np.testing.assert_allclose(values[:, v, 1 + r], field[:, cells].mean(axis=1), atol=1e-12)
    one = jax.jit(quantities)
    slope = jax.jit(jax.jacrev(quantities))(jnp.asarray(theta[0]))
    column = model.space.index("k")
    h = 1e-6
    up, down = theta[0].copy(), theta[0].copy()
    up[column] += h
    down[column] -= h
    np.testing.assert_allclose(slope[:, column], (one(up) - one(down)) / (2 * h), rtol=1e-5, atol=1e-7)


def test_errors_for_the_budget(twins: Twins) -> None:
    _, model = twins
    assert model.qoi_error().shape == (4, 2)
    assert (model.qoi_error()[:, 0] < 0.05).all()
    estimate = model.error_estimate(model.space.sample(8, 57, "estimate"))
    assert estimate.shape == (8, 4)
    assert (estimate > 0).all() and np.median(estimate) < 0.1
    with pytest.raises(BadInput, match="no calibrated error estimate"):
        ReducedGrowthTwin(model.case, model.model).error_estimate(model.space.sample(1, 1, "x"))


def test_the_guarded_twin_gives_fields_of_both_orders(twins: Twins) -> None:
    full, model = twins
    theta = model.space.sample(16, 58, "guarded")
    tolerance = float(np.median(model.error_estimate(theta).max(axis=1)))
    guarded = GuardedGrowthTwin(model.case, model.model, model.probe, tolerance)
    which = guarded.guarded(theta).full
    assert 0 < which.sum() < 16
    found, plain = guarded.trajectory(theta), model.trajectory(theta)
    visit, cells = 3, np.arange(0, full.case.faces.n, 7)
    mine = guarded.fields(found.values[:, visit])
    truth = full.trajectory(theta).values[:, visit]
    np.testing.assert_allclose(
        mine.at(cells)[~which], model.fields(plain.values[:, visit]).at(cells)[~which], atol=1e-14
    )
    gap = np.linalg.norm(model.model.reconstruct(found.values[:, visit]) - truth, axis=1)
    assert (gap < tolerance * np.linalg.norm(truth, axis=1))[which].all()
    # read in blocks, at voxels, or whole: the same
    whole = np.zeros_like(truth)
    for rows, values in mine.blocks():
        whole[:, rows] = values
    np.testing.assert_allclose(whole, model.model.reconstruct(found.values[:, visit]), atol=1e-13)
    np.testing.assert_allclose(mine.at(cells), whole[:, cells], atol=1e-13)
    assert guarded.qoi_error().max() <= model.qoi_error().max()


def test_a_guard_needs_an_estimate(twins: Twins) -> None:
    with pytest.raises(BadInput, match="no calibrated error estimate"):
        GuardedGrowthTwin(twins[1].case, twins[1].model)
    with pytest.raises(BadInput, match="not what the guard was calibrated for"):
        GuardedGrowthTwin(twins[1].case, twins[1].model, twins[1].probe, 0.5)


def test_a_model_of_another_patient_is_refused(twins: Twins) -> None:
    with pytest.raises(BadInput, match="voxels"):
        ReducedGrowthTwin(twins[1].case, replace(twins[1].model, size_full=5))


def test_members_the_reduced_model_cannot_be_trusted_with_are_named(twins: Twins) -> None:
    twin = twins[1]
    usual = twin.space.sample(12, 21, "trust")
    trust = twin.trust(usual, tolerance=1.0)
    assert not trust.flagged.any() and trust.failed == 0
    far = usual.copy()
    far[0, twin.space.index("D_white")] = 0.25 * np.exp(0.35 * 3.95)
    far[1, twin.space.index("k")] = np.nan
    found = twin.trust(far, tolerance=0.5 * float(twin.trust(far).estimate[0]))
    assert found.flagged[0] and found.flagged[1] and found.failed == 1
    assert found.estimate[0] > 2 * np.median(found.estimate)
    assert found.outside == {"D_white": 1, "k": 1}
    assert "D_white 1" in str(found) and "could not be run" in str(found)
