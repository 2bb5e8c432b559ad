"""The reduced growth model against the full order, its projected pieces against direct ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from growth_small import SETTINGS, small_case, small_timeline
from scipy import stats

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.physics.growth import advance
from vvuq_twin.reduction.backend import jax, jnp
from vvuq_twin.reduction.case import GrowthCase, GrowthNoise
from vvuq_twin.reduction.cubature import exact_square, fitted_loss, projected
from vvuq_twin.reduction.estimate import calibrated
from vvuq_twin.reduction.law import loss, unlimited
from vvuq_twin.reduction.propagate import DIVERGED, NOT_FINITE, TOO_STIFF, drug_integrals
from vvuq_twin.reduction.steps import coarser
from vvuq_twin.reduction.store import identity
from vvuq_twin.reduction.training import (
    Trained,
    Training,
    assemble,
    propose,
    run_full,
    to_the_ends,
    train,
    training_parameters,
)
from vvuq_twin.reduction.validation import indicators, judge, relative_error, validate


def full_states(case: GrowthCase, theta: np.ndarray) -> np.ndarray:
    values = case.values(theta)
    states, status = advance(
        case.faces, case.initial(values.initial), case.parameters(values), case.timeline, case.exposure
    )
    assert (status == 0).all()
    return states


def test_the_packed_tensor_is_the_projection_of_the_square() -> None:
    rng = np.random.default_rng(0)
    v = np.linalg.qr(rng.standard_normal((300, 16)))[0]
    a = rng.standard_normal((5, 16))
    points, lift = exact_square(v)
    direct = (a @ v.T) ** 2 @ v
    np.testing.assert_allclose((a @ points.T) ** 2 @ lift, direct, atol=1e-12)
    # in single precision within a tile
    np.testing.assert_allclose(projected(v, a, 1.0), direct, atol=3e-7)


def test_the_projection_is_the_same_in_tiles() -> None:
    rng = np.random.default_rng(4)
    v = np.linalg.qr(rng.standard_normal((2500, 16)))[0]
    a = rng.standard_normal((600, 16))
    np.testing.assert_allclose(projected(v, a, 1.0), (a @ v.T) ** 2 @ v, atol=3e-7)


def test_the_fitted_square_learns_what_the_states_have_in_common() -> None:
    rng = np.random.default_rng(3)
    x = np.linspace(0.0, 1.0, 400)
    # states: fronts of one shape anywhere, of which a few dozen modes hold all
    fields = 1.0 / (1.0 + np.exp((x[None, :] - rng.uniform(0.2, 0.8, 300)[:, None]) / 0.05))
    fields /= np.linalg.norm(fields, axis=1, keepdims=True)
    v = np.linalg.svd(fields, full_matrices=False)[2][:20].T
    states = fields @ v
    points, lift = fitted_loss(v, states[:250], 60, 1)
    exact = projected(v, states[250:], 1.0)
    gap = (states[250:] @ points.T) ** 2 @ lift - exact
    assert points.shape == lift.shape == (60, 20)
    assert np.linalg.norm(gap) < 1e-4 * np.linalg.norm(exact)
    few = fitted_loss(v, states[:250], 10, 1)
    worse = (states[250:] @ few[0].T) ** 2 @ few[1] - exact
    assert np.linalg.norm(worse) > 10 * np.linalg.norm(gap)


def test_the_fitted_square_of_fronts_beyond_the_trainings_still_ends_growth() -> None:
    rng = np.random.default_rng(5)
    x = np.linspace(0.0, 1.0, 400)
    places = np.sort(rng.uniform(0.2, 0.8, 300))
    fields = 1.0 / (1.0 + np.exp((x[None, :] - places[:, None]) / 0.05))
    fields /= np.linalg.norm(fields, axis=1, keepdims=True)
    v = np.linalg.svd(fields, full_matrices=False)[2][:20].T
    states = fields @ v
    points, lift = fitted_loss(v, states[:150], 80, 1)
    beyond = states[150:]
    exact, found = projected(v, beyond, 1.0), (beyond @ points.T) ** 2 @ lift
    # the loss's work, the integral of the cube; least squares alone turn its sign there and are off by up to 29 times
    work = (beyond * found).sum(axis=1) / (beyond * exact).sum(axis=1)
    assert work.min() > 0.9 and work.max() < 1.1
    assert (np.linalg.norm(found - exact, axis=1) < np.linalg.norm(exact, axis=1)).all()


def test_the_chosen_voxels_see_states_that_few_runs_reach() -> None:
    rng = np.random.default_rng(7)
    x = np.linspace(0.0, 1.0, 500)
    places = np.concatenate([rng.uniform(0.1, 0.4, 2500), np.linspace(0.75, 0.9, 6)])
    fields = 1.0 / (1.0 + np.exp((x[None, :] - places[:, None]) / 0.04))
    fields /= np.linalg.norm(fields, axis=1, keepdims=True)
    v = np.linalg.svd(fields, full_matrices=False)[2][:20].T
    states = fields @ v
    points, _ = fitted_loss(v, states, 30, 1)
    voxels = [int(np.linalg.norm(v - p, axis=1).argmin()) for p in points]
    squares = (states @ v.T) ** 2
    best = np.linalg.lstsq(squares[:, voxels], squares, rcond=1e-9)[0]
    gap = (squares - squares[:, voxels] @ best)[-6:]
    # pivots on a sample of 700 states leave out 0.2 to 1.6 % here
    assert np.linalg.norm(gap) < 1e-6 * np.linalg.norm(squares[-6:])


def test_coarser_steps_keep_events_visits_and_the_edges_of_rates() -> None:
    line = small_timeline(0.25)
    inner = np.flatnonzero((line.t > 25.0) & (line.t < 39.0))[17]
    edge = float((line.t + line.dt)[inner])
    wide = coarser(line, 3.0, (edge,))
    assert wide.used < line.used / 2
    assert wide.dt.sum() == pytest.approx(line.dt.sum(), abs=1e-12)
    assert wide.dt.max() <= 3.0 + 1e-12
    for name in ("drug_jump", "dose", "dose_sq", "visit"):
        fine, coarse = getattr(line, name), getattr(wide, name)
        empty = -1 if name == "visit" else 0
        both = [
            (np.round((x.t + x.dt)[y != empty], 9), y[y != empty]) for x, y in ((line, fine), (wide, coarse))
        ]
        for one, other in zip(*both):
            assert np.array_equal(one, other)
    ends = (wide.t + wide.dt)[: wide.used]
    np.testing.assert_allclose(wide.t[1 : wide.used], ends[:-1], atol=1e-9)
    assert np.abs(ends - edge).min() < 1e-9
    same = coarser(line, 1e-3)
    np.testing.assert_allclose(same.dt[: line.used], line.dt[: line.used], atol=1e-12)


def test_projected_diffusion_and_kill_are_those_of_the_full_order(trained: Trained, case: GrowthCase) -> None:
    model = trained.reduced
    r = model.rank
    rng = np.random.default_rng(1)
    a = np.zeros(model.size)
    a[:r] = rng.standard_normal(r)
    field = model.reconstruct(a[None, :])[0]
    d = np.array([0.3, 0.05])
    direct = case.faces.operator(d) @ field
    reduced = np.einsum("g,gij,j->i", case.faces.conductance(d), model.operators.diffusion, a)
    np.testing.assert_allclose(reduced, model.project(direct[None, :])[0], atol=1e-12)
    assert case.exposure is not None
    killed = model.project((case.exposure * field)[None, :])[0]
    np.testing.assert_allclose((model.operators.omega * a)[:r], killed[:r], atol=1e-12)
    assert model.operators.total @ a == pytest.approx(field.sum(), abs=1e-10)


def test_unseen_members_agree_with_the_full_order(trained: Trained, case: GrowthCase) -> None:
    theta = case.space.sample(8, 99, "unseen")
    coefficients, status = trained.reduced.run(case, theta)
    assert (status == 0).all()
    truth = full_states(case, theta)
    worst = 0.0
    for i in range(8):
        twin = trained.reduced.reconstruct(coefficients[i])
        for v in range(4):
            worst = max(worst, relative_error(truth[i, v], twin[v], case.n_detect, truth[i, 0]))
    assert worst < 0.01
    assert trained.validation.worst < 0.01
    assert trained.validation.failed == 0


@pytest.mark.parametrize("exponent", [0.0, 0.5])
def test_other_growth_laws_are_reduced_too(case: GrowthCase, exponent: float) -> None:
    case = replace(case, saturation=exponent)
    snapshots = [run_full(case, training_parameters(case.space, 24, 5))]
    unseen = case.space.sample(8, 5, "unseen")
    errors = []
    for rank in (12, 40):
        reduced, probe = assemble(case, snapshots, Training(max_rank=rank, points=5), 5)
        assert reduced.saturation == exponent
        found = judge([validate(reduced, probe, case, unseen)], 0.01)
        errors.append(found.median)
    assert found.worst < 0.02 and found.failed == 0 and errors[0] > 2 * errors[1]
    # the logistic model is another one, and far from it
    a, _ = replace(reduced, saturation=1.0).run(case, unseen)
    b, _ = reduced.run(case, unseen)
    assert np.linalg.norm(a[:, -1] - b[:, -1]) > 0.05 * np.linalg.norm(b[:, -1])


def test_gompertz_loss_has_finite_gradients_where_nothing_is() -> None:
    u = jnp.array([-1e-3, 0.0, 1e-40, 0.5])
    for exponent in (0.0, 0.5, 1.0, 2.0):
        slope = jax.vmap(jax.grad(lambda x, e=exponent: loss(x, e, jnp)))(u)
        assert np.isfinite(slope).all()
        gain = unlimited(exponent) * u - loss(u, exponent, jnp)
        assert gain[3] > 0 and (exponent == 1.0 or gain[0] == 0)
        assert float(unlimited(exponent) - loss(1.0, exponent)) == pytest.approx(0.0, abs=1e-15)


def test_the_error_falls_with_the_rank(case: GrowthCase) -> None:
    snapshots = [run_full(case, training_parameters(case.space, 16, 5))]
    unseen = case.space.sample(8, 5, "unseen")
    errors = []
    for rank in (8, 16, 32):
        reduced, probe = assemble(case, snapshots, Training(max_rank=rank, points=0), 5)
        errors.append(judge([validate(reduced, probe, case, unseen)], 0.01).median)
    assert errors[0] > 2 * errors[1] and errors[1] > 1.5 * errors[2]


def test_the_estimate_covers_unseen_errors_and_is_not_far_above(trained: Trained, case: GrowthCase) -> None:
    theta = case.space.sample(16, 123, "estimate")
    parts = [validate(trained.reduced, trained.probe, case, theta[i : i + 8]) for i in (0, 8)]
    compared = parts[0]
    raw = np.concatenate([p.indicator for p in parts])
    estimate = trained.validation.scale(raw, compared.days).max(axis=1)
    error = np.concatenate([p.error.max(axis=1) for p in parts])
    # the calibration promises 16/17; of 16 draws fewer than 12 covered has a chance well below 1 %
    assert (estimate >= error).sum() >= 12
    assert np.median(estimate / error) < 10
    np.testing.assert_allclose(
        indicators(trained.reduced, trained.probe, case, theta[:8]), compared.indicator, rtol=1e-12
    )


def test_the_law_of_the_estimate_is_found_and_its_level_kept() -> None:
    rng, days = np.random.default_rng(4), np.array([0.0, 20.0, 50.0, 120.0])

    def made(n: int) -> tuple[np.ndarray, np.ndarray]:
        indicated = np.exp(rng.normal(-1.0, 2.0, (n, 4)))
        noise = rng.normal(0.0, 0.3, (n, 1))
        return 0.01 * np.sqrt(indicated) * (1.0 + days) ** -0.4 * np.exp(noise), indicated

    scale = calibrated(*made(200), days)
    assert (scale.power, scale.decay) == pytest.approx((0.5, -0.4), abs=0.05)
    # the promise is an average over validation sets
    covered = []
    for _ in range(50):
        few = calibrated(*made(24), days)
        error, indicated = made(200)
        covered.append((few(indicated, days).max(axis=1) >= error.max(axis=1)).mean())
    assert np.mean(covered) > few.level == 24 / 25
    lone = calibrated(*made(1), days)
    assert (lone.power, lone.decay) == (1.0, 0.0)


def test_a_member_far_outside_is_flagged_by_the_estimate(trained: Trained, case: GrowthCase) -> None:
    usual = case.space.sample(8, 3, "usual")
    far = usual.copy()
    far[:, case.space.index("D_white")] *= 8.0
    near = indicators(trained.reduced, trained.probe, case, usual).max(axis=1)
    assert (indicators(trained.reduced, trained.probe, case, far).max(axis=1) > 3 * near).all()


def test_gradients_against_central_differences(trained: Trained, case: GrowthCase) -> None:
    theta = jnp.asarray(case.space.sample(1, 8, "gradient")[0])

    @jax.jit
    def total(t: jax.Array) -> jax.Array:
        return trained.reduced.run(case, t[None, :], jnp)[0][0, -1] @ trained.reduced.operators.total

    gradient = np.asarray(jax.grad(total)(theta))
    for i in range(case.space.size):
        h = 1e-3 * max(abs(float(theta[i])), 1e-3)

        def slope(step: float, i: int = i) -> float:
            return float(total(theta.at[i].add(step)) - total(theta.at[i].add(-step))) / (2 * step)

        # differences of fourth order, relative to the largest effect of a relative change
        best = (4 * slope(h / 2) - slope(h)) / 3
        size = float(total(theta)) / max(abs(float(theta[i])), 1e-3)
        assert gradient[i] == pytest.approx(best, rel=1e-6, abs=1e-8 * size)


def test_a_new_schedule_needs_no_compilation_and_is_as_good(trained: Trained) -> None:
    other = small_case(line=small_timeline(shift=2.0))
    theta = other.space.sample(8, 99, "unseen")
    from vvuq_twin.reduction.propagate import propagate

    before = propagate._cache_size()
    coefficients, status = trained.reduced.run(other, theta)
    assert propagate._cache_size() <= before + 1  # the batch's shape may be new, the schedule is not
    again = propagate._cache_size()
    trained.reduced.run(small_case(), theta)
    assert propagate._cache_size() == again
    truth = full_states(other, theta[:1])
    twin = trained.reduced.reconstruct(coefficients[0])
    assert (status == 0).all()
    assert relative_error(truth[0, 3], twin[3], other.n_detect, truth[0, 0]) < 0.01


def test_repeated_runs_are_bit_equal(trained: Trained, case: GrowthCase) -> None:
    theta = case.space.sample(8, 4, "bits")
    first, _ = trained.reduced.run(case, theta)
    second, _ = trained.reduced.run(case, theta)
    assert np.array_equal(first, second)


def test_training_again_gives_the_same_model(case: GrowthCase) -> None:
    how = Training(n_train=8, n_greedy=4, turns=1, n_valid=8, max_rank=16, rounds=0)
    one, two = (train(case, 7, how).reduced for _ in range(2))
    assert np.array_equal(one.vectors, two.vectors)
    assert np.array_equal(one.operators.lift, two.operators.lift)
    assert one.fingerprint == two.fingerprint
    assert identity(one) == identity(two) and one.timings != two.timings
    assert identity(replace(one, limit=2 * one.limit)) != identity(one)


def test_training_runs_that_fail_are_left_out_and_counted(case: GrowthCase, trained: Trained) -> None:
    theta = training_parameters(case.space, 3, 5)
    theta[1, case.space.index("k")] = np.nan
    assert run_full(case, theta).members == 2
    assert run_full(case, theta[1:2]).members == 0
    assert trained.reduced.errors["training_runs_lost"] == 0

    def broken(function: object, items: list) -> list:
        return [run_full(case, np.full_like(x, np.nan)) for x in items]

    with pytest.raises(BadInput, match="every full-order run of the training failed"):
        train(case, 1, Training(n_train=4), broken)  # type: ignore[arg-type]


def test_failed_members_have_a_code_and_leave_the_others_alone(trained: Trained, case: GrowthCase) -> None:
    theta = case.space.sample(5, 6, "failures")
    good, _ = trained.reduced.run(case, theta)
    bad = theta.copy()
    bad[0, case.space.index("k")] = np.nan
    bad[1, case.space.index("D_white")] = 1e4
    bad[2, case.space.index("initial_1")] = -1e3
    bad[3, case.space.index("alpha_rt")] = -5.0
    coefficients, status = trained.reduced.run(case, bad)
    assert status.tolist() == [NOT_FINITE, TOO_STIFF, 0, DIVERGED, 0]
    assert np.isfinite(coefficients).all()
    assert np.array_equal(coefficients[4], good[4])

    def total(t: jax.Array) -> jax.Array:
        return trained.reduced.run(case, t, jnp)[0].sum()

    gradient = np.asarray(jax.grad(total)(jnp.asarray(bad)))
    assert np.isfinite(gradient[1:]).all()


def test_long_runs_stay_bounded_and_saturate(trained: Trained) -> None:
    from vvuq_twin.physics.timeline import timeline

    free = small_case(line=timeline(0.0, [0.0, 100.0, 200.0], dt_max=1.0))
    theta = free.space.sample(8, 2, "long")
    coefficients, status = trained.reduced.run(free, theta)
    assert np.isfinite(coefficients).all()
    fields = trained.reduced.reconstruct(coefficients[:, -1])
    assert np.abs(fields[status == 0]).max() < 3.0


def test_drug_integrals_against_quadrature() -> None:
    dt = np.array([0.0, 0.7, 0.3, 1.0, 0.0])
    jump = np.array([2.0, 0.0, 1.0, 0.0, 0.0])
    alpha, beta = np.array([0.4, 0.2]), np.array([1.3, 0.0])
    first, second, final = (
        np.asarray(x) for x in drug_integrals(alpha, beta, dt, jump, np.array([0.5, 0.0]))
    )
    for i in range(2):
        level = 0.5 if i == 0 else 0.0
        for s in range(5):
            t = np.linspace(0, dt[s] / 2, 4001)
            half = alpha[i] * level * np.trapezoid(np.exp(-beta[i] * t), t)
            assert first[i, s] == pytest.approx(half, rel=1e-7, abs=1e-15)
            assert second[i, s] == pytest.approx(half * np.exp(-beta[i] * dt[s] / 2), rel=1e-7, abs=1e-15)
            level = level * np.exp(-beta[i] * dt[s]) + jump[s]
        assert final[i] == pytest.approx(level)


def test_growth_noise_has_the_stated_covariance() -> None:
    noise = GrowthNoise(0.2, 30.0, tuple(np.arange(0.0, 61.0, 10.0)))
    path = noise.path(np.random.default_rng(3).standard_normal((200_000, 6)))
    lag = np.abs(np.subtract.outer(np.arange(6), np.arange(6)))
    np.testing.assert_allclose(np.cov(path.T), 0.04 * np.exp(-lag / 3.0), atol=1e-3)


def test_the_design_reaches_beyond_the_prior(case: GrowthCase) -> None:
    theta = training_parameters(case.space, 64, 1)
    z = case.space.to_gaussian(theta)
    assert theta.shape == (64, case.space.size)
    assert 1.1 < z.std() < 1.25
    assert np.array_equal(theta, training_parameters(case.space, 64, 1))


def test_the_training_goes_to_the_ends_of_every_parameter(case: GrowthCase) -> None:
    theta = training_parameters(case.space, 40, 1)
    moved = to_the_ends(case.space, theta)
    for parameter, before, after in zip(case.space.parameters, theta.T, moved.T):
        ends = parameter.prior.from_gaussian(stats.norm.ppf([1e-4, 1.0 - 1e-4]))
        np.testing.assert_allclose([after.min(), after.max()], ends, rtol=1e-3, atol=1e-6)
        same = np.isclose(before, after, rtol=1e-9, atol=1e-12)
        assert same.sum() == 38 and not same[before.argmin()] and not same[before.argmax()]
    few = theta[: case.space.size - 1]
    assert to_the_ends(case.space, few) is few  # they would be nothing but ends


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fixed": {}}, "alpha_beta"),
        ({"fixed": {"alpha_beta": 10.0, "k": 0.1}}, "both uncertain and fixed"),
        ({"mean": np.zeros(3)}, "active voxels"),
        ({"mean": None}, "not finite"),
    ],
)
def test_a_case_that_cannot_be_is_refused(case: GrowthCase, change: dict, words: str) -> None:
    if "mean" in change and change["mean"] is None:
        change = {"mean": np.where(np.arange(case.faces.n) == 5, np.nan, case.mean)}
    with pytest.raises(BadInput, match=words):
        replace(case, **change)


def test_the_greedy_turn_takes_a_wanted_member_unlike_all_others(trained: Trained, case: GrowthCase) -> None:
    z = case.space.gaussian_sample(3, 8, "wanted")
    z[1] = 0.0
    z[1, case.space.names.index("k")] = 6.0  # grows far beyond what was trained
    wanted = np.asarray(case.space.from_gaussian(z))
    chosen = propose(trained.reduced, trained.probe, case, 4, 3, wanted)
    without = propose(trained.reduced, trained.probe, case, 4, 3)
    assert any(np.array_equal(row, wanted[1]) for row in chosen)
    assert not any(np.array_equal(row, wanted[0]) for row in chosen)  # an ordinary one is not
    assert sum(any(np.array_equal(row, x) for x in without) for row in chosen) == 3
    assert SETTINGS.fingerprint(case, 11) != SETTINGS.fingerprint(case, 11, wanted)
