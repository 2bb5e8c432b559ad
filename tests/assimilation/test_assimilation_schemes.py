"""Smoothers, small references, iterative, serial and rank-histogram schemes against what they must give."""

import numpy as np
import pytest
from linear_gaussian import dense, exact_ensemble, kalman, linear_case
from scipy import stats

from vvuq_twin.assimilation import (
    ESMDA,
    ETKF,
    IES,
    LETKF,
    Adaptive,
    Around,
    EnKF,
    FilterpyEnKF,
    FilterpyUnscented,
    Key,
    Past,
    RankHistogram,
    RootESMDA,
    SerialRoot,
    Tiles,
    boxcar,
    gaspari_cohn,
    sampling_error_taper,
    spherical,
    start,
    wendland,
)  # fmt: skip
from vvuq_twin.assimilation.voxelwise import fresh_scores, scores
from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.keys import generator
from vvuq_twin.domain.observations import ObservationError, Observations

KEY = Key(21)


def scan(y, error, time=0.0, name=None, coords=None, interval=None):
    coords = np.zeros((len(y), 0)) if coords is None else coords
    return Observations(y, error, coords, [name or f"scan {time:g}"], time, interval)


def analyse(scheme, model, E, obs, key=KEY):
    """All steps of one analysis, the model run before each."""
    carry = start(len(E))
    for _ in range(scheme.steps):
        update, carry = scheme.analyse(carry, model(E), obs, key)
        E = update.apply(E)
        if carry.step == 0:
            break
    return E, carry


def chain(cycles, n, m, size, correlated):
    """A linear model with noise: its matrices, observations, and the filter with exact sample moments."""
    rng = generator(4, "chain", cycles, n)
    F = np.linalg.qr(rng.standard_normal((n, n)))[0] * 0.95
    root = 0.4 * rng.standard_normal((n, n))
    mean, cov, H, first = linear_case(n, m, 4, correlated)
    error = first.error
    x, data = mean + np.linalg.cholesky(cov) @ rng.standard_normal(n), []
    for t in range(cycles):
        x = F @ x + root @ rng.standard_normal(n) if t else x
        data.append(H @ x + error.perturbations(rng.standard_normal((1, m + error.factor.shape[1])))[0])
    return F, root, mean, cov, H, error, data


def smoothed(scheme, lag, F, root, mean, cov, H, error, data, size):
    """Cycles of a filter whose process noise has exact sample moments, with the past kept."""
    n = len(mean)
    E, carry, past, out = exact_ensemble(mean, cov, size, 2), start(size), Past(lag), {}
    for t, y in enumerate(data):
        if t:
            known = scores(np.concatenate([E, *past.states], axis=1))
            E = E @ F.T + fresh_scores(generator(t, "noise").standard_normal((size, n)), known) @ root.T
        update, carry = scheme.analyse(carry, E @ H.T, scan(y, error, float(t)), KEY)
        past, E = past.after(update), update.apply(E)
        past, gone = past.add(float(t), E)
        out |= dict(gone)
    return out | dict(zip(past.times, past.states))


def rts(F, root, mean, cov, H, error, data):
    """filterpy's Kalman filter and Rauch-Tung-Striebel smoother."""
    from filterpy.kalman import KalmanFilter

    kf = KalmanFilter(dim_x=len(mean), dim_z=len(H))
    kf.x, kf.P, kf.H, kf.R, kf.F, kf.Q = mean[:, None].copy(), cov.copy(), H, dense(error), F, root @ root.T
    xs, ps = [], []
    for t, y in enumerate(data):
        if t:
            kf.predict()
        kf.update(y[:, None])
        xs.append(kf.x.copy())
        ps.append(kf.P.copy())
    x, P, *_ = kf.rts_smoother(np.array(xs), np.array(ps))
    return x[..., 0], P


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("lag", [None, 2])
def test_the_ensemble_smoother_is_the_kalman_smoother(lag, correlated):
    problem = chain(5, 3, 4, 60, correlated)
    found = smoothed(ETKF(), lag, *problem, 60)
    for t in range(5):
        until = 5 if lag is None else min(t + lag + 1, 5)
        x, P = rts(*problem[:-1], problem[-1][:until])
        np.testing.assert_allclose(found[float(t)].mean(axis=0), x[t], rtol=0, atol=1e-10)
        np.testing.assert_allclose(np.cov(found[float(t)].T), P[t], rtol=0, atol=1e-10)


def test_the_stochastic_smoother_converges():
    problem = chain(4, 2, 3, 60, True)
    _, P = rts(*problem)
    errors = []
    for size in (100, 1600):
        found = smoothed(EnKF(), None, *problem, size)
        errors.append(np.linalg.norm(np.cov(found[0.0].T) - P[0]) / np.linalg.norm(P[0]))
    assert errors[1] < 0.15 and errors[1] < errors[0]


@pytest.mark.parametrize("scheme", [ETKF(rotate=True), SerialRoot(), RootESMDA(1)])
def test_linear_advection_is_the_kalman_filter(scheme):
    """A field moved around a ring one cell a step, a few places observed; members span its wave numbers."""
    n, waves, size = 60, 8, 40
    x = 2 * np.pi * np.arange(n) / n
    basis = np.concatenate(
        [np.cos(np.outer(np.arange(waves + 1), x)), np.sin(np.outer(np.arange(1, waves + 1), x))]
    )
    rng = generator(6, "advection")
    mean, cov = np.zeros(n), basis.T @ basis / waves
    E = exact_ensemble(np.zeros(len(basis)), np.eye(len(basis)), size, 3) @ basis / np.sqrt(waves)
    truth = rng.standard_normal(len(basis)) @ basis / np.sqrt(waves)
    places = np.array([3, 17, 40, 55])
    H, error, carry = np.eye(n)[places], ObservationError(np.full(4, 0.1)), start(size)
    for cycle in range(20):
        for _ in range(5):
            truth, E, mean = np.roll(truth, 1), np.roll(E, 1, axis=1), np.roll(mean, 1)
            cov = np.roll(np.roll(cov, 1, axis=0), 1, axis=1)
        y = truth[places] + 0.1 * rng.standard_normal(4)
        update, carry = scheme.analyse(carry, E[:, places], scan(y, error, float(cycle)), KEY)
        E = update.apply(E)
        mean, cov = kalman(mean, cov, H, y, error)
    np.testing.assert_allclose(E.mean(axis=0), mean, rtol=0, atol=1e-9)
    np.testing.assert_allclose(np.cov(E.T), cov, rtol=0, atol=1e-9)
    assert np.sqrt(np.mean((mean - truth) ** 2)) < 0.05


def test_the_unscented_scheme_is_filterpys_filter():
    from filterpy.kalman import UnscentedKalmanFilter

    scheme = FilterpyUnscented(2, 0.01 * np.eye(2))
    rng = generator(1, "unscented")

    def step(x):
        return np.stack([x[..., 0] + 0.1 * x[..., 1], x[..., 1] - 0.1 * np.sin(x[..., 0])], axis=-1)

    def see(x):
        return np.stack([np.sin(x[..., 0]), x[..., 0] ** 2, x[..., 1]], axis=-1)

    ukf = UnscentedKalmanFilter(2, 3, 1.0, see, lambda x, dt: step(x), scheme._rule())
    ukf.x, ukf.P, ukf.Q, ukf.R = np.array([0.5, 0.1]), 0.2 * np.eye(2), 0.01 * np.eye(2), 0.04 * np.eye(3)
    E, carry, error = scheme.points(ukf.x, ukf.P), start(5), ObservationError(np.full(3, 0.2))
    for cycle in range(6):
        y = rng.standard_normal(3)
        moved = step(scheme.points(ukf.x, ukf.P))
        ukf.predict()
        ukf.sigmas_f = moved  # what was propagated is observed; filterpy would draw points anew in between
        ukf.update(y)
        E = step(E)
        update, carry = scheme.analyse(carry, see(E), scan(y, error, float(cycle)), KEY)
        E = update.apply(E)
        mean, cov = scheme.moments(E)
        np.testing.assert_allclose(mean, ukf.x, rtol=0, atol=1e-12)
        np.testing.assert_allclose(cov, ukf.P, rtol=0, atol=1e-12)
    with pytest.raises(BadInput, match="sigma points"):
        scheme.analyse(start(4), see(E[:4]), scan(y, error, 9.0), KEY)
    with pytest.raises(BadInput, match="whole state"):
        update.apply(np.zeros((5, 3)))


def test_filterpys_ensemble_filter_converges_and_leaves_the_global_generator_alone():
    mean, cov, H, obs = linear_case(4, 6, 5, True)
    x, P = kalman(mean, cov, H, obs.y, obs.error)
    E = exact_ensemble(mean, cov, 1500, 6)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    out, _ = analyse(FilterpyEnKF(), lambda e: e @ H.T, E, obs)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert np.linalg.norm(np.cov(out.T) - P) / np.linalg.norm(P) < 0.15
    np.testing.assert_allclose(out.mean(axis=0), x, atol=0.1)
    again, _ = analyse(FilterpyEnKF(), lambda e: e @ H.T, E, obs)
    assert np.array_equal(out, again)


def curve(z):
    """A nonlinear model of two scores: an exponential decay seen six times."""
    return np.exp(0.5 * z[:, :1]) * np.exp(-np.exp(0.6 * z[:, 1:2]) * np.linspace(0.2, 2.0, 6))


def exact_posterior(model, obs, half=5.0, points=401):
    """Mean and covariance of two standard-normal scores by quadrature."""
    axis = np.linspace(-half, half, points)
    z = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    misfit = (obs.y - model(z)) / obs.error.voxel
    log = -0.5 * (misfit**2).sum(axis=1) - 0.5 * (z**2).sum(axis=1)
    w = np.exp(log - log.max())
    w /= w.sum()
    mean = w @ z
    return mean, (w[:, None] * (z - mean)).T @ (z - mean)


@pytest.mark.parametrize(
    "scheme, mean_off, spread_off",
    [
        (IES(20), 0.35, 0.2),
        (ESMDA(8), 0.3, 0.25),
        (RootESMDA(8), 0.3, 0.25),
        (ESMDA(30, adaptive=True), 0.3, 0.25),
    ],
)
def test_iterative_smoothers_are_near_the_posterior_of_a_nonlinear_model(scheme, mean_off, spread_off):
    truth = np.array([[0.9, -0.8]])
    error = ObservationError(np.full(6, 0.05))
    off, single = [], []
    for seed in range(6):
        rng = generator(seed, "nonlinear")
        obs = scan(curve(truth)[0] + 0.05 * rng.standard_normal(6), error)
        mean, cov = exact_posterior(curve, obs)
        E, _ = analyse(scheme, curve, rng.standard_normal((200, 2)), obs, Key(seed))
        one, _ = analyse(ETKF(), curve, rng.standard_normal((200, 2)), obs, Key(seed))
        sd = np.sqrt(np.diag(cov))
        off.append(np.abs(E.mean(axis=0) - mean) / sd)
        single.append(np.abs(one.mean(axis=0) - mean) / sd)
        assert np.log(E.std(axis=0, ddof=1) / sd) == pytest.approx(0.0, abs=spread_off)
    assert np.mean(off) < mean_off and np.mean(off) < 0.5 * np.mean(single)


def test_adaptive_steps_spend_the_information_once_and_more_of_them_where_the_misfit_is_large():
    counts = []
    for distance in (0.0, 3.0):
        obs = scan(curve(np.array([[distance, 0.0]]))[0], ObservationError(np.full(6, 0.05)))
        _, carry = analyse(
            ESMDA(40, adaptive=True), curve, generator(1, "steps").standard_normal((100, 2)), obs
        )
        alphas = np.array([line["alpha"] for line in carry.history])
        assert np.sum(1 / alphas) == pytest.approx(1.0, abs=1e-12) and carry.spent == 0.0
        counts.append(len(alphas))
    assert counts[1] > counts[0] > 1
    _, carry = analyse(ESMDA(3, adaptive=True), curve, generator(1, "steps").standard_normal((100, 2)), obs)
    alphas = np.array([line["alpha"] for line in carry.history])
    assert len(alphas) == 3 and np.sum(1 / alphas) == pytest.approx(1.0)


def test_members_lost_on_the_way_leave_a_sound_iterative_smoother():
    mean, cov, H, obs = linear_case(4, 9, 3, True)
    E0 = exact_ensemble(mean, cov, 40, 4)
    E, carry = E0, start(40)
    for step in range(4):
        status = np.zeros(len(E), dtype=int)
        status[[3, 7]] = step == 1
        update, carry = IES(4, tolerance=0.0).analyse(carry, E @ H.T, obs, KEY, status)
        E = update.apply(E)
    x, P = kalman(mean, cov, H, obs.y, obs.error)
    assert len(E) == 38 and carry.step == 0
    # 38 of 40 members are left, so a sample: near the Kalman filter and not on it
    assert np.abs(E.mean(axis=0) - x).max() < 0.3 * np.sqrt(np.diag(P)).max()
    assert np.linalg.norm(np.cov(E.T) - P) / np.linalg.norm(P) < 0.2
    np.testing.assert_allclose(carry.total.apply(E0).mean(axis=0), E.mean(axis=0), atol=0.05)


def test_serial_localisation_is_the_tapered_gain():
    rng = generator(2, "serial")
    n, size = 30, 25
    E = rng.standard_normal((size, n)).cumsum(axis=1)
    points = np.column_stack([np.arange(float(n)), np.zeros(n)])
    around = Around(points, 3.0)
    obs = scan(np.array([4.0]), ObservationError(np.array([0.7])), coords=points[[12]])
    update, _ = SerialRoot(around).analyse(start(size), E[:, [12]], obs, KEY)
    out = update.apply(E)
    h, A = E[:, 12], E - E.mean(axis=0)
    taper = gaspari_cohn(np.abs(points[:, 0] - 12.0), 3.0)
    gain = taper * (A.T @ (h - h.mean()) / (size - 1)) / (h.var(ddof=1) + 0.49)
    np.testing.assert_allclose(out.mean(axis=0), E.mean(axis=0) + gain * (4.0 - h.mean()), atol=1e-12)
    assert out[:, 12].var(ddof=1) == pytest.approx(1 / (1 / h.var(ddof=1) + 1 / 0.49))
    assert np.array_equal(out[:, taper == 0], E[:, taper == 0]) and (taper == 0).any()
    # in blocks, the same bits
    columns = np.array([3, 11, 12, 29])
    assert np.array_equal(update.apply(E[:, columns], columns), out[:, columns])
    with pytest.raises(BadInput, match="coordinates"):
        SerialRoot(around).analyse(start(size), E[:, [12]], scan(np.array([4.0]), obs.error), KEY)


@pytest.mark.parametrize("kind", [SerialRoot, RankHistogram])
def test_serial_localisation_without_end_is_none(kind):
    rng = generator(3, "serial")
    E = rng.standard_normal((20, 12)) @ rng.standard_normal((12, 12))
    points = np.column_stack([np.r_[np.arange(11.0), np.nan], np.zeros(12)])
    obs = scan(rng.standard_normal(5), ObservationError(np.ones(5)), coords=points[:5])
    wide, _ = kind(Around(points, 1e9)).analyse(start(20), E[:, :5], obs, KEY)
    none, _ = kind().analyse(start(20), E[:, :5], obs, KEY)
    np.testing.assert_allclose(wide.apply(E), none.apply(E), rtol=0, atol=1e-11)


def test_serial_scheme_with_correlated_error_converges():
    mean, cov, H, obs = linear_case(4, 8, 5, True)
    x, P = kalman(mean, cov, H, obs.y, obs.error)
    E = exact_ensemble(mean, cov, 2000, 6)
    out, _ = analyse(SerialRoot(), lambda e: e @ H.T, E, obs)
    assert np.linalg.norm(np.cov(out.T) - P) / np.linalg.norm(P) < 0.1
    blind, _ = kalman(mean, cov, H, obs.y, ObservationError(obs.error.voxel))
    assert np.abs(out.mean(axis=0) - x).max() < 0.25 * np.abs(blind - x).max()


def test_rank_histogram_keeps_two_modes_and_bayes_weights():
    """A prior with two modes and an observation between them and off centre, beside Bayes' rule on a grid."""
    rng = generator(5, "two modes")
    size = 4000
    E = np.concatenate([-2 + 0.4 * rng.standard_normal(size // 2), 2 + 0.4 * rng.standard_normal(size // 2)])[
        :, None
    ]
    x = np.linspace(-5, 5, 20001)
    prior = 0.5 * stats.norm.pdf(x, -2, 0.4) + 0.5 * stats.norm.pdf(x, 2, 0.4)
    posterior = prior * stats.norm.pdf(0.4, x, 1.5)
    posterior /= posterior.sum()
    obs = scan(np.array([0.4]), ObservationError(np.array([1.5])))
    out, _ = analyse(RankHistogram(), lambda e: e, E, obs)
    cdf = np.cumsum(posterior)
    at = np.quantile(out[:, 0], [0.05, 0.2, 0.35, 0.8, 0.95])
    np.testing.assert_allclose(np.interp(at, x, cdf), [0.05, 0.2, 0.35, 0.8, 0.95], atol=0.02)
    # a Gaussian filter fills the gap between the modes, this one does not
    gauss, _ = analyse(ETKF(), lambda e: e, E, obs)
    assert np.mean(np.abs(out) < 0.7) < 0.01 < 0.05 < np.mean(np.abs(gauss) < 0.9)


@pytest.mark.parametrize("y", [0.3, 4.0])
def test_rank_histogram_of_a_normal_prior_is_the_kalman_filter(y):
    E = stats.norm.ppf((np.arange(1, 2001)) / 2001)[:, None]
    out, _ = analyse(RankHistogram(), lambda e: e, E, scan(np.array([y]), ObservationError(np.array([1.0]))))
    assert out.mean() == pytest.approx(y / 2, abs=0.02)
    assert out.var(ddof=1) == pytest.approx(0.5, rel=0.03)
    assert np.array_equal(np.argsort(out[:, 0]), np.arange(2000))


def test_rank_histogram_takes_a_censored_value_by_its_likelihood():
    E = stats.norm.ppf((np.arange(1, 2001)) / 2001)[:, None]
    hidden = scan(np.array([np.nan]), ObservationError(np.array([0.3])), interval=np.array([[-np.inf, -1.0]]))
    out, _ = analyse(RankHistogram(), lambda e: e, E, hidden)
    x = np.linspace(-6, 6, 20001)
    posterior = stats.norm.pdf(x) * stats.norm.cdf((-1.0 - x) / 0.3)
    posterior /= posterior.sum()
    mean = posterior @ x
    assert out.mean() == pytest.approx(mean, abs=0.01)
    assert out.std() == pytest.approx(np.sqrt(posterior @ (x - mean) ** 2), rel=0.02)


def test_correlations_no_larger_than_chance_do_not_move_a_parameter():
    """One parameter is seen, one is not, beside 1500 readings of other things."""
    left, wrong, seen = [], [], []
    for seed in range(20):
        rng = generator(seed, "placeless")
        E = rng.standard_normal((60, 2))
        own = rng.standard_normal((60, 1500))
        HE = np.concatenate([E[:, :1] + 0.1 * rng.standard_normal((60, 5)), own], axis=1)
        y = np.r_[np.full(5, 1.0), rng.standard_normal(1500)]
        for keep, scheme in ((left, RootESMDA(1, columns=True)), (wrong, RootESMDA(1))):
            update, _ = scheme.analyse(
                start(60), HE, scan(y, ObservationError(np.full(1505, 0.5))), Key(seed)
            )
            out = update.apply(E)
            keep.append(out.var(axis=0, ddof=1) / E.var(axis=0, ddof=1))
            if scheme.columns:
                seen.append(out[:, 0].mean())
    assert np.mean(left, axis=0)[1] > 0.7  # the unseen one keeps its spread
    assert np.mean(wrong, axis=0)[1] < 0.3
    # five readings of 1 with deviation 0.5 and a little more: 1/(1 + 5/0.25) of the variance is left
    assert np.mean(left, axis=0)[0] == pytest.approx(1 / 21, rel=0.4)
    assert np.mean(seen) == pytest.approx(20 / 21, abs=0.15)
    r = np.linspace(0, 1, 50)
    taper = sampling_error_taper(r, 100)
    assert (np.diff(taper) >= 0).all() and taper[5] == 0 and taper[-1] > 0.97
    assert (sampling_error_taper(r, 10**8)[1:] > 0.999).all()


@pytest.mark.parametrize("correlated", [False, True])
def test_column_analyses_with_many_members_are_the_global_one(correlated):
    mean, cov, H, obs = linear_case(3, 6, 5, correlated)
    E = exact_ensemble(mean, cov, 3000, 6)
    x, P = kalman(mean, cov, H, obs.y, obs.error)
    out, carry = analyse(RootESMDA(2, columns=True), lambda e: e @ H.T, E, obs)
    np.testing.assert_allclose(out.mean(axis=0), x, atol=0.1 * np.sqrt(np.diag(P)).min())
    # an observation that tells a column nothing alone may tell it something beside another: that is lost
    left = out.var(axis=0, ddof=1) / np.diag(P)
    assert (left > 0.99).all() and (left < 1.25).all() and np.sum(left < 1.01) >= 2
    assert carry.total is None and carry.cycle == 1


def test_adaptive_inflation_finds_the_missing_spread_in_time_and_in_space():
    """Left half: members as wide as they should be; right half: half the deviation, so a variance of a quarter."""
    n, size = 80, 30
    points = np.column_stack([np.arange(float(n)), np.zeros((n, 2))])
    scale = np.where(np.arange(n) < n // 2, 1.0, 0.5)
    error, carry, whole = ObservationError(np.full(n, 0.5)), start(size), start(size)
    letkf, etkf = LETKF(Tiles.of(points, 0.0), 3.0, adaptive=Adaptive(0.3)), ETKF(adaptive=Adaptive(0.3))
    estimates, all_of_it = [], []
    for cycle in range(200):
        rng = generator(cycle, "adaptive")
        truth, E = rng.standard_normal(n), scale * rng.standard_normal((size, n))
        obs = scan(truth + 0.5 * rng.standard_normal(n), error, float(cycle), coords=points)
        _, carry = letkf.analyse(carry, E, obs, KEY)
        _, whole = etkf.analyse(whole, E, obs, KEY)
        if cycle >= 100:
            estimates.append(carry.inflation)
            all_of_it.append(whole.inflation[0])
    mean = np.mean(estimates, axis=0)
    assert mean[5:30].mean() == pytest.approx(1.05, abs=0.15)
    assert mean[50:75].mean() == pytest.approx(4.0, rel=0.15)
    assert 1.2 < np.mean(all_of_it) < 2.2  # one number for both halves: (1 + 1) / (1 + 1/4) = 1.6
    update, after = etkf.analyse(whole, E, scan(obs.y, error, 999.0, coords=points), KEY)
    assert update.prior == pytest.approx(np.sqrt(after.inflation[0]))
    with pytest.raises(BadInput):
        Adaptive(0.0)


@pytest.mark.parametrize("taper", [gaspari_cohn, wendland, spherical])
def test_tapers_are_correlations_with_the_same_length(taper):
    points = np.arange(60.0)
    matrix = taper(points[:, None] - points[None, :], 4.0)
    assert np.linalg.eigvalsh(matrix).min() > -1e-12
    assert taper(np.array([0.0, 4.0, 4.0 * taper.reach]), 4.0) == pytest.approx(
        [1.0, np.exp(-0.5), 0.0], abs=0.09
    )


def test_boxcar_and_other_tapers_serve_a_local_analysis():
    rng = generator(7, "tapers")
    points = np.column_stack([np.arange(20.0), np.zeros((20, 2))])
    E = rng.standard_normal((30, 20))
    obs = scan(rng.standard_normal(20), ObservationError(np.full(20, 0.5)), coords=points)
    update, _ = LETKF(Tiles.of(points, 0.0), 0.5, taper=boxcar).analyse(start(30), E, obs, KEY)
    out = update.apply(E)
    for j in (0, 7, 19):  # each voxel sees itself alone
        x, P = kalman(
            E[:, [j]].mean(axis=0),
            np.cov(E[:, [j]].T).reshape(1, 1),
            np.eye(1),
            obs.y[[j]],
            obs.error.take(np.array([j])),
        )
        assert out[:, j].mean() == pytest.approx(x[0]) and out[:, j].var(ddof=1) == pytest.approx(P[0, 0])
