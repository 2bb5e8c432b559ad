"""Global schemes against filterpy's exact Kalman filter."""

import numpy as np
import pytest
from linear_gaussian import dense, exact_ensemble, kalman, linear_case

from vvuq_twin.assimilation import (
    ESMDA,
    ESTKF,
    ETKF,
    IES,
    DEnKF,
    EnKF,
    EnKFN,
    FilterpyKalman,
    Key,
    RootESMDA,
    SerialRoot,
    coefficients,
    sampling_inflation,
    start,
)  # fmt: skip
from vvuq_twin.assimilation.whitening import whiten
from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.keys import generator
from vvuq_twin.domain.observations import ObservationError, Observations

KEY = Key(11, ("test",))
# (state, observations, members): more observations than members, about as many, and very few
SIZES = [(6, 60, 20), (6, 12, 20), (4, 2, 40), (3, 1, 30)]


def run(scheme, E, H, obs, key=KEY):
    carry = start(len(E))
    for _ in range(scheme.steps):
        update, carry = scheme.analyse(carry, E @ H.T, obs, key)
        E = update.apply(E)
        if carry.step == 0:
            break
    return E, carry


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("n, m, size", SIZES)
@pytest.mark.parametrize(
    "scheme",
    [
        ETKF(), ETKF(rotate=True), ESTKF(), ESTKF(rotate=True), FilterpyKalman(), RootESMDA(1), RootESMDA(4),
        RootESMDA(5, 0.6), RootESMDA(20, adaptive=True), IES(1), IES(10), IES(60, length=0.5, tolerance=1e-12),
    ],
)  # fmt: skip
def test_square_root_schemes_are_the_kalman_filter_to_round_off(scheme, n, m, size, correlated):
    mean, cov, H, obs = linear_case(n, m, 1, correlated)
    E, _ = run(scheme, exact_ensemble(mean, cov, size, 2), H, obs)
    x, P = kalman(mean, cov, H, obs.y, obs.error)
    np.testing.assert_allclose(E.mean(axis=0), x, rtol=0, atol=1e-11)
    np.testing.assert_allclose(np.cov(E.T), P, rtol=0, atol=1e-11)


@pytest.mark.parametrize("n, m, size", SIZES)
def test_many_root_steps_are_one_member_by_member(n, m, size):
    mean, cov, H, obs = linear_case(n, m, 3, True)
    E = exact_ensemble(mean, cov, size, 4)
    one, _ = run(ETKF(), E, H, obs)
    many, carry = run(RootESMDA(4, 0.5), E, H, obs)
    np.testing.assert_allclose(many, one, rtol=0, atol=1e-12)
    np.testing.assert_allclose(carry.total.apply(E), many, rtol=0, atol=1e-12)


def test_correlation_left_out_gives_another_answer():
    # guards the oracle: were the low-rank part ignored, the tests above would have to fail
    mean, cov, H, obs = linear_case(6, 12, 1, True)
    x, _ = kalman(mean, cov, H, obs.y, obs.error)
    blind, _ = kalman(mean, cov, H, obs.y, ObservationError(obs.error.voxel))
    assert np.abs(x - blind).max() > 0.05


@pytest.mark.parametrize("n, m, size", SIZES)
def test_the_serial_root_is_the_kalman_filter_to_round_off(n, m, size):
    mean, cov, H, obs = linear_case(n, m, 1, False)
    E, _ = run(SerialRoot(), exact_ensemble(mean, cov, size, 2), H, obs)
    x, P = kalman(mean, cov, H, obs.y, obs.error)
    np.testing.assert_allclose(E.mean(axis=0), x, rtol=0, atol=2e-12)
    np.testing.assert_allclose(np.cov(E.T), P, rtol=0, atol=2e-12)


@pytest.mark.parametrize("n, m, size", SIZES)
def test_the_error_subspace_filter_is_the_etkf_member_by_member(n, m, size):
    mean, cov, H, obs = linear_case(n, m, 3, True)
    E = exact_ensemble(mean, cov, size, 4)
    np.testing.assert_allclose(run(ESTKF(), E, H, obs)[0], run(ETKF(), E, H, obs)[0], rtol=0, atol=1e-11)


@pytest.mark.parametrize("n, m, size", SIZES)
def test_half_the_gain_leaves_its_published_covariance(n, m, size):
    mean, cov, H, obs = linear_case(n, m, 3, True)
    E, _ = run(DEnKF(), exact_ensemble(mean, cov, size, 4), H, obs)
    gain = cov @ H.T @ np.linalg.inv(H @ cov @ H.T + dense(obs.error))
    half = np.eye(n) - 0.5 * gain @ H
    np.testing.assert_allclose(E.mean(axis=0), mean + gain @ (obs.y - H @ mean), rtol=0, atol=2e-12)
    np.testing.assert_allclose(np.cov(E.T), half @ cov @ half.T, rtol=0, atol=2e-12)


@pytest.mark.parametrize("n, m, size", SIZES)
def test_finite_size_filter_is_the_etkf_of_the_ensemble_it_inflates(n, m, size):
    mean, cov, H, obs = linear_case(n, m, 3, True)
    far = Observations(obs.y + 5.0 * (obs.y - H @ mean), obs.error, obs.coords, obs.ids, obs.time)
    E = exact_ensemble(mean, cov, size, 4)
    found = {}
    for name, scan in (("near", obs), ("far", far)):
        out, carry = run(EnKFN(), E, H, scan)
        found[name] = carry.history[0]["finite_size_inflation"]
        x, P = kalman(mean, cov * found[name] ** 2, H, scan.y, obs.error)
        np.testing.assert_allclose(out.mean(axis=0), x, rtol=0, atol=1e-11)
        np.testing.assert_allclose(np.cov(out.T), P, rtol=0, atol=1e-11)
        # the dual cost, in dense matrices, is least there
        d, R, HPH = scan.y - H @ mean, dense(obs.error), H @ cov @ H.T

        def cost(inflation, d=d, R=R, HPH=HPH):
            zeta = (size - 1) / inflation**2
            chi = d @ np.linalg.solve(R + inflation**2 * HPH, d)
            return chi + (1 + 1 / size) * zeta - size * np.log(zeta)

        least = min(np.geomspace(0.5, 20, 40001), key=cost)
        assert found[name] == pytest.approx(least, rel=3e-4)
    assert found["far"] > found["near"] > 0.9


def test_filters_with_perturbed_observations_agree():
    """One step of ES-MDA is the stochastic filter, and its gain is filterpy's."""
    mean, cov, H, obs = linear_case(5, 12, 3, True)
    E = exact_ensemble(mean, cov, 40, 4)
    assert np.array_equal(run(EnKF(), E, H, obs)[0], run(ESMDA(1), E, H, obs)[0])


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("m", [2, 12])
def test_stochastic_esmda_converges_as_one_over_root_n(m, steps, correlated):
    mean, cov, H, obs = linear_case(4, m, 5, correlated)
    x, P = kalman(mean, cov, H, obs.y, obs.error)
    sizes, errors = (64, 1024), []
    for size in sizes:
        E0 = exact_ensemble(mean, cov, size, 6)
        runs = [run(ESMDA(steps), E0, H, obs, Key(seed))[0] for seed in range(8)]
        errors.append(np.sqrt(np.mean([np.sum((np.cov(E.T) - P) ** 2) for E in runs])) / np.linalg.norm(P))
        if steps == 1:  # the perturbations' mean is taken out: no sampling error in the mean
            np.testing.assert_allclose(runs[0].mean(axis=0), x, rtol=0, atol=1e-12)
    rate = np.log(errors[0] / errors[1]) / np.log(sizes[1] / sizes[0])
    assert 0.3 < rate < 0.7
    assert errors[1] < 0.2
    # the mean over the runs is unbiased, so the error is noise and not a wrong factor
    bias = np.linalg.norm(np.mean([np.cov(E.T) for E in runs], axis=0) - P) / np.linalg.norm(P)
    assert bias < 2.5 * errors[1] / np.sqrt(8) + 3.0 / sizes[1]


def test_stochastic_esmda_total_is_all_its_steps():
    mean, cov, H, obs = linear_case(4, 30, 7, True)
    E0 = exact_ensemble(mean, cov, 20, 8)
    E, carry = run(ESMDA(3, 0.7), E0, H, obs)
    np.testing.assert_allclose(carry.total.apply(E0), E, rtol=0, atol=1e-11)
    assert carry.cycle == 1 and carry.step == 0 and len(carry.history) == 3


@pytest.mark.parametrize("steps, ratio", [(1, 1.0), (4, 1.0), (6, 0.5), (5, 2.0)])
def test_coefficients_spend_the_information_once(steps, ratio):
    alpha = coefficients(steps, ratio)
    assert np.sum(1 / alpha) == pytest.approx(1.0, abs=1e-14)
    np.testing.assert_allclose(alpha[1:] / alpha[:-1], ratio)


@pytest.mark.parametrize("bad", [(0, 1.0), (3, 0.0), (3, -1.0), (2, np.nan)])
def test_bad_coefficients_are_refused(bad):
    with pytest.raises(BadInput):
        ESMDA(*bad)


def test_whitening_is_the_inverse_covariance():
    _, _, _, obs = linear_case(3, 25, 9, True)
    b = generator(1, "b").standard_normal((4, 25))
    white = whiten(obs.error, b)
    np.testing.assert_allclose(
        white @ white.T, b @ np.linalg.solve(dense(obs.error), b.T), rtol=0, atol=1e-10
    )
    np.testing.assert_allclose(white @ white.T, b @ obs.error.solve(b.T), rtol=0, atol=1e-10)


def test_perturbations_have_the_right_covariance():
    _, _, _, obs = linear_case(3, 10, 9, True)
    normals = KEY.normals("perturbations", np.arange(20_000), 13)
    sample, R = np.cov(obs.error.perturbations(normals).T), dense(obs.error)
    # standard deviation of a sample covariance's entries: sqrt((R_ii R_jj + R_ij^2) / N)
    noise = np.sqrt((np.outer(np.diag(R), np.diag(R)) + R**2) / 20_000)
    assert np.abs((sample - R) / noise).max() < 4.5
    assert np.abs((sample - np.diag(np.diag(R))) / noise).max() > 20


@pytest.mark.parametrize(("members", "strength"), [(50, 0.4), (50, 0.1), (100, 0.4)])
def test_sampling_inflation_makes_small_ensembles_as_sure_as_they_may_be(members, strength):
    """Errors of the mean against the ensemble's variance over truths, where observations say much, and nothing."""
    size, m, truths = 20, 30, 300
    H = strength * generator(1, "operator").standard_normal((m, size)) * (np.arange(size) < size // 2)
    error = ObservationError(np.ones(m))
    ratios = {False: np.zeros(size), True: np.zeros(size)}
    signals = np.zeros(truths)
    for k in range(truths):
        draw = generator(2, "truth", k)
        truth, prior = draw.standard_normal(size), draw.standard_normal((members, size))
        seen = Observations(H @ truth + draw.standard_normal(m), error, np.zeros((m, 0)), [f"scan {k}"], 1.0)
        update, carry = ETKF().analyse(start(members), prior @ H.T, seen, Key(3))
        after = update.apply(prior)
        signals[k] = carry.history[0]["degrees_of_freedom_for_signal"]
        for inflated, sample in ((False, after), (True, sampling_inflation(prior, after, [signals[k]]))):
            np.testing.assert_allclose(sample.mean(axis=0), after.mean(axis=0), atol=1e-12)
            ratios[inflated] += (sample.mean(axis=0) - truth) ** 2 / sample.var(axis=0, ddof=1) / truths
    known, unknown = slice(0, size // 2), slice(size // 2, size)
    print(  # the table of docs/assimilation.md
        f"members {members}, signal {signals.mean():.1f}: unobserved {ratios[False][unknown].mean():.2f}, "
        f"inflated {ratios[True][unknown].mean():.2f}; observed {ratios[False][known].mean():.2f}, "
        f"inflated {ratios[True][known].mean():.2f}"
    )
    share = signals.mean() / (members - 1)
    # what is mended is there without it, as large as the formula says
    assert ratios[False][unknown].mean() == pytest.approx((1 + share) / (1 - share), rel=0.12)
    assert ratios[True][unknown].mean() == pytest.approx(1.0, abs=0.15)
    assert ratios[True][known].mean() == pytest.approx(1.0, abs=0.15)


def test_sampling_inflation_refuses_a_signal_the_ensemble_cannot_carry():
    members = generator(1, "members").standard_normal((50, 3))
    with pytest.raises(BadInput, match="more members"):
        sampling_inflation(members, members, [3.0, 49.0])


@pytest.mark.parametrize(
    "scheme", [ESMDA(1), ESMDA(3), ESMDA(8, adaptive=True), RootESMDA(3), IES(3)], ids=lambda s: repr(s)
)
def test_sampling_inflation_counts_what_each_step_was_fitted_with(scheme):
    """Columns that nothing is seen of: what the steps took of their variance, and the error against what is left."""
    size, m, truths, members = 20, 30, 200, 50
    H = 0.4 * generator(1, "operator").standard_normal((m, size)) * (np.arange(size) < size // 2)
    error = ObservationError(np.ones(m))
    left = ratio = lost = expected = 0.0
    for k in range(truths):
        draw = generator(2, "truth", k)
        truth, prior = draw.standard_normal(size), draw.standard_normal((members, size))
        seen = Observations(H @ truth + draw.standard_normal(m), error, np.zeros((m, 0)), [f"scan {k}"], 1.0)
        after, carry = run(scheme, prior, H, seen, Key(k))
        fitted = [line["fitted"] for line in carry.history if "fitted" in line]
        sample = sampling_inflation(prior, after, fitted)
        own = [(x[:, size // 2 :].mean(axis=0) - truth[size // 2 :]) ** 2 / x[:, size // 2 :].var(axis=0, ddof=1)
               for x in (after, sample)]  # fmt: skip
        lost, ratio = lost + own[0].mean() / truths, ratio + own[1].mean() / truths
        left += after[:, size // 2 :].var(axis=0, ddof=1).mean() / truths
        expected += np.prod(1.0 - np.array(fitted) / (members - 1)) / truths
    print(
        f"{scheme}: {lost:.2f}, inflated {ratio:.2f}; variance left {left:.3f}, by the formula {expected:.3f}"
    )
    assert left == pytest.approx(expected, abs=0.012)
    assert ratio == pytest.approx(1.0, abs=0.08)
