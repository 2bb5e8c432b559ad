"""Diagnostics over cycles, their pictures and files; joint states, parameters that evolve, model error."""

import json

import numpy as np
import pytest
from linear_gaussian import dense, exact_ensemble, linear_case

from vvuq_twin.assimilation import (
    ETKF,
    Autoregressive,
    ErrorVariance,
    Inflation,
    Joint,
    KernelSmoothing,
    Key,
    Part,
    Persistence,
    RandomWalk,
    VoxelETKF,
    alarms,
    identifiability,
    plots,
    read_history,
    start,
    write_history,
)  # fmt: skip
from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.keys import generator
from vvuq_twin.domain.observations import ObservationError, Observations
from vvuq_twin.domain.parameters import LogitNormal, LogNormal, Normal, Parameter, ParameterSpace

KEY = Key(6)


def cycles(spread, noise, count=40, size=400, m=30):
    """Independent analyses whose ensemble and error are off by these factors."""
    carry = start(size)
    for cycle in range(count):
        rng = generator(cycle, "series")
        truth, E = rng.standard_normal(m), spread * rng.standard_normal((size, m))
        y = truth + 0.7 * noise * rng.standard_normal(m)
        obs = Observations(y, ObservationError(np.full(m, 0.7)), np.zeros((m, 0)), [str(cycle)], float(cycle))
        _, carry = ETKF().analyse(carry, E, obs, KEY)
    return carry


def test_consistency_ratios_tell_spread_from_error():
    right, tight, noisy = cycles(1, 1), cycles(0.4, 1), cycles(1, 2)

    def mean(carry, name):
        return np.mean([line[name] for line in carry.history])

    assert mean(right, "desroziers_error") == pytest.approx(1.0, abs=0.15)
    assert mean(right, "desroziers_spread") == pytest.approx(1.0, abs=0.2)
    assert mean(tight, "desroziers_spread") > 2 * mean(right, "desroziers_spread")
    assert mean(noisy, "desroziers_error") > 2 * mean(right, "desroziers_error")
    assert mean(noisy, "crps") > mean(right, "crps")


def test_desroziers_is_that_of_the_dense_formula():
    mean, cov, H, obs = linear_case(5, 12, 4, True)
    E = exact_ensemble(mean, cov, 40, 5)
    update, carry = ETKF().analyse(start(40), E @ H.T, obs, KEY)
    before, after = obs.y - H @ mean, obs.y - H @ update.apply(E).mean(axis=0)
    line = carry.history[0]
    R, P = dense(obs.error), H @ cov @ H.T
    assert line["desroziers_error"] == pytest.approx(after @ before / np.trace(R), rel=1e-9)
    assert line["desroziers_spread"] == pytest.approx((before - after) @ before / np.trace(P), rel=1e-9)


def test_a_filter_that_loses_the_truth_raises_an_alarm():
    assert not any("alarm" in line for line in cycles(1, 1).history)
    lost = cycles(0.1, 1, count=5)
    assert any("innovations are" in text for text in lost.history[-1]["alarm"])
    assert alarms(lost.history, 400) == lost.history[-1]["alarm"]
    assert alarms([], 60) == []
    few = {**cycles(1, 1, count=1).history[0], "members": 20}
    assert alarms([few], 60) == ["40 of 60 members were lost"]
    assert json.loads(json.dumps(lost.history)) == list(lost.history)


def test_history_is_stored_and_every_figure_is_drawn(tmp_path):
    carry = cycles(1, 1, count=6)
    voxel = VoxelETKF(np.arange(4), np.arange(4))
    obs = Observations(np.zeros(4), ObservationError(np.ones(4)), np.zeros((4, 0)), ["v"], 99.0)
    _, carry = voxel.analyse(carry, generator(1, "v").standard_normal((400, 4)), obs, KEY)
    write_history(tmp_path / "cycles.json", carry.history)
    history = read_history(tmp_path / "cycles.json")
    assert history == list(carry.history)
    found = identifiability(np.eye(4)[:, :2] + 1, 0.5 * np.eye(4)[:, :2], ["k", "D"])
    figures = plots.all_figures(history) | {"p": plots.parameters(found), "d": plots.directions(found)}
    assert len(figures) == 8
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert figure.axes[0].get_title() and (tmp_path / f"{name}.png").stat().st_size > 2000
    bars = figures["rank_histogram"].axes[0].patches
    counts = np.sum([line["rank_histogram"] for line in history], axis=0)
    np.testing.assert_allclose([b.get_height() for b in bars[:10]], counts / counts.mean())


def test_identifiability_finds_the_combination_that_was_seen():
    """Only the sum of two parameters is observed, a third not at all."""
    rng = generator(1, "identify")
    E = exact_ensemble(np.zeros(3), np.eye(3), 400, 3)
    H = np.array([[1.0, 1.0, 0.0]]) / np.sqrt(2)
    obs = Observations(np.array([0.4]), ObservationError(np.array([0.1])), np.zeros((1, 0)), ["s"], 0.0)
    update, _ = ETKF().analyse(start(400), E @ H.T, obs, KEY)
    found = identifiability(E, update.apply(E), ["a", "b", "c"])
    left = 1 / (1 + 1 / 0.01)
    np.testing.assert_allclose(found["variance_left"], [left, 1.0, 1.0], atol=1e-8)
    assert found["determined"] == 1
    assert abs(found["best"]["a"]) == pytest.approx(np.sqrt(0.5), abs=1e-6) and abs(found["best"]["c"]) < 1e-6
    assert found["best"]["a"] * found["best"]["b"] > 0
    assert found["contraction"] == pytest.approx(
        {"a": (1 - left) / 2, "b": (1 - left) / 2, "c": 0.0}, abs=1e-8
    )
    assert found["correlation"][0][1] == pytest.approx((left - 1) / (left + 1), abs=1e-8)
    assert rng is not None and json.loads(json.dumps(found)) == found


def space():
    return ParameterSpace(
        (Parameter("k", "1/day", LogNormal(0.05, 0.4)), Parameter("D", "mm2/day", LogNormal(0.1, 0.6))),
        np.array([[1.0, 0.5], [0.5, 1.0]]),
    )


def joint():
    return Joint(
        (
            Part("theta", 2, space()),
            Part("cells", 5, LogitNormal(0.0, 1.0)),
            Part("modes", 3),
            Part("offset", 1, Normal(2.0, 0.5)),
        )
    )


def test_joint_state_of_parameters_fields_coefficients_and_scalars():
    state, rng = joint(), generator(2, "joint")
    values = {
        "theta": space().sample(20, 1, "joint"), "cells": rng.uniform(0.05, 0.95, (20, 5)),
        "modes": rng.standard_normal((20, 3)), "offset": rng.standard_normal((20, 1)),
    }  # fmt: skip
    E, clipped = state.pack(values)
    assert E.shape == (20, state.size) == (20, 11) and clipped == {}
    for name, back in state.unpack(E).items():
        np.testing.assert_allclose(back, values[name], atol=1e-12)
    assert state.columns("modes").tolist() == [7, 8, 9]
    # one update of all of it: whatever the observations say, nothing leaves its support
    HE = np.concatenate([values["cells"], values["theta"][:, :1]], axis=1)
    obs = Observations(
        np.array([5.0, -3, 2, 2, 2, -1.0]), ObservationError(np.full(6, 0.01)), np.zeros((6, 0)), ["s"], 0.0
    )
    update, _ = ETKF(Inflation(factor=3.0)).analyse(start(20), HE, obs, KEY)
    after = state.unpack(update.apply(E))
    assert (after["theta"] > 0).all() and (after["cells"] >= 0).all() and (after["cells"] <= 1).all()
    assert np.isfinite(np.concatenate(list(after.values()), axis=1)).all()


def test_values_outside_their_support_are_clipped_and_the_mass_is_told():
    state = joint()
    values = {
        "theta": np.full((2, 2), 0.05),
        "cells": np.full((2, 5), 0.5),
        "modes": np.zeros((2, 3)),
        "offset": np.full((2, 1), 2.0),
    }
    values["cells"][0, 0], values["cells"][1, 2], values["theta"][0, 1] = -0.2, 1.3, -0.1
    E, clipped = state.pack(values)
    assert np.isfinite(E).all() and set(clipped) == {"cells", "theta"}
    assert clipped["cells"] == pytest.approx(0.5, abs=0.01)
    with pytest.raises(BadInput, match="twice"):
        Joint((Part("a", 1), Part("a", 2)))
    with pytest.raises(BadInput, match="2 parameters"):
        Joint((Part("theta", 3, space()),))
    with pytest.raises(BadInput, match="no part"):
        state.columns("nothing")
    with pytest.raises(BadInput, match="shape"):
        state.pack({**values, "modes": np.zeros((2, 4))})


def test_parameters_that_evolve_have_the_variance_they_should():
    members = np.arange(20_000)
    z = generator(3, "evolve").standard_normal((20_000, 2)) * [1.0, 0.3] + [0.0, 1.0]
    assert Persistence()(z, 5.0, KEY, members) is z
    walk = RandomWalk(0.2)(z, 4.0, KEY, members, 1)
    np.testing.assert_allclose(walk.var(axis=0), z.var(axis=0) + 0.16, rtol=0.03)
    forget = Autoregressive(10.0)(z, 5.0, KEY, members, 1)
    keep = np.exp(-0.5)
    np.testing.assert_allclose(forget.mean(axis=0), keep * z.mean(axis=0), atol=0.03)
    np.testing.assert_allclose(forget.var(axis=0), keep**2 * z.var(axis=0) + 1 - keep**2, rtol=0.03)
    kernel = KernelSmoothing(0.95)(z, 1.0, KEY, members, 1)
    np.testing.assert_allclose(kernel.mean(axis=0), z.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(np.cov(kernel.T), np.cov(z.T), atol=0.03)
    assert np.abs(kernel - z).max() > 0.1
    # keyed by member and label: again the same, another cycle another draw
    assert np.array_equal(RandomWalk(0.2)(z[5:9], 4.0, KEY, members[5:9], 1), walk[5:9])
    assert not np.array_equal(RandomWalk(0.2)(z, 4.0, KEY, members, 2), walk)


def test_a_history_that_cannot_be_read_is_named(tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text("[{")
    for path in (tmp_path / "none.json", broken):
        with pytest.raises(BadInput, match=path.name):
            read_history(path)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: RandomWalk(-0.1), "random walk"),
        (lambda: RandomWalk(np.nan), "random walk"),
        (lambda: Autoregressive(0.0), "memory"),
        (lambda: KernelSmoothing(0.2), "discount"),
        (lambda: RandomWalk(0.1)(np.zeros((2, 1)), -1.0, KEY, np.arange(2)), "in order of time"),
        (lambda: Autoregressive(3.0)(np.zeros((2, 1)), np.nan, KEY, np.arange(2)), "in order of time"),
    ],
)
def test_evolution_models_refuse_what_would_be_nan(make, word):
    with pytest.raises(BadInput, match=word):
        make()


def test_model_error_likelihood_is_the_dense_one():
    mean, cov, H, obs = linear_case(5, 8, 4, True)
    Q = 0.3 * np.eye(5)
    joint = exact_ensemble(
        np.r_[mean, np.zeros(5)], np.block([[cov, np.zeros((5, 5))], [np.zeros((5, 5)), Q]]), 60, 5
    )
    before = ErrorVariance.prior()
    after = before.learn(joint[:, :5] @ H.T, joint[:, 5:] @ H.T, obs)
    v, base = obs.y - H @ mean, H @ cov @ H.T + dense(obs.error)
    log = []
    for q in before.factors:
        V = base + q * H @ Q @ H.T
        log.append(-0.5 * (np.linalg.slogdet(V)[1] + v @ np.linalg.solve(V, v)))
    found = after.log_weight - before.log_weight
    np.testing.assert_allclose(found - found[0], np.array(log) - log[0], atol=1e-8)


def test_model_error_variance_is_learned_beside_the_state():
    """A random walk seen with noise: the variance of its steps is four times what was thought."""
    n, size, truth_q = 12, 80, 4.0
    rng = generator(5, "model error")
    truth, E, carry = np.zeros(n), 0.1 * rng.standard_normal((size, n)), start(size)
    estimate, error = ErrorVariance.prior(), ObservationError(np.full(n, 0.3))
    for cycle in range(60):
        truth = 0.95 * truth + np.sqrt(truth_q) * 0.2 * rng.standard_normal(n)
        clean, noise = 0.95 * E, 0.2 * KEY.normals("noise", carry.members, n, cycle)
        obs = Observations(
            truth + 0.3 * rng.standard_normal(n), error, np.zeros((n, 0)), [str(cycle)], float(cycle)
        )
        estimate = estimate.learn(clean, noise, obs)
        E = clean + np.sqrt(estimate.mean) * noise
        update, carry = ETKF().analyse(carry, E, obs, KEY)
        E = update.apply(E)
    low, high = estimate.quantiles(np.array([0.01, 0.99]))
    assert low < truth_q < high and high / low < 2.0
    tail = np.mean([line["chi_square_over_m"] for line in carry.history[20:]])
    assert tail == pytest.approx(1.0, abs=0.2)
    same = estimate.learn(clean, noise, Observations(np.full(n, np.nan), error, obs.coords, ["x"], 99.0))
    assert same is estimate
    with pytest.raises(BadInput):
        ErrorVariance.prior(0.0)
