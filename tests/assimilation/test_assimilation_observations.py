"""Observations as they come: censored values, outliers, thinning, averages, streams, several modalities."""

import json

import numpy as np
import pytest
from linear_gaussian import exact_ensemble, kalman, linear_case
from scipy import stats

from vvuq_twin.assimilation import (
    ESMDA,
    ESTKF,
    ETKF,
    IES,
    LETKF,
    Adaptive,
    Cycling,
    DEnKF,
    EnKF,
    EnKFN,
    Key,
    RootESMDA,
    Tiles,
    analyse_stream,
    screen,
    start,
    superobs,
    thinned,
)
from vvuq_twin.assimilation.censored import equivalent
from vvuq_twin.domain.errors import BadInput, RunFailed
from vvuq_twin.domain.keys import generator
from vvuq_twin.domain.observations import ObservationError, Observations, stack

KEY = Key(8)


def scan(y, error, time=0.0, name="scan", coords=None, interval=None):
    coords = np.zeros((len(y), 0)) if coords is None else coords
    return Observations(y, error, coords, [name], time, interval)


def below(y, limit):
    """Values under the limit are known by an interval only."""
    hidden = y < limit
    bounds = np.where(hidden[:, None], np.array([-np.inf, limit]), np.nan)
    return np.where(hidden, np.nan, y), bounds


@pytest.mark.parametrize(
    "low, high", [(-np.inf, -1.0), (0.5, np.inf), (-0.2, 0.3), (-np.inf, -6.0), (-np.inf, 9.0)]
)
def test_one_censored_value_has_the_exact_mean_and_variance(low, high):
    E = exact_ensemble(np.array([0.4]), np.array([[1.3]]), 50, 1)
    obs = scan(np.array([np.nan]), ObservationError(np.array([0.6])), interval=np.array([[low, high]]))
    for scheme in (ETKF(), RootESMDA(1)):
        update, carry = scheme.analyse(start(50), E, obs, KEY)
        out = update.apply(E)
        x = np.linspace(-12, 12, 200001)
        w = stats.norm.pdf(x, 0.4, np.sqrt(1.3)) * (
            stats.norm.cdf((high - x) / 0.6) - stats.norm.cdf((low - x) / 0.6)
        )
        w /= w.sum()
        mean = w @ x
        assert out.mean() == pytest.approx(mean, abs=2e-5)
        assert out.var(ddof=1) == pytest.approx(w @ (x - mean) ** 2, rel=1e-4)
        assert carry.history[0]["censored"] == 1 and carry.history[0]["missing"] == 0


def test_censored_values_together_are_near_the_exact_posterior():
    """Two states, five readings of which three are below detection, an offset shared by all of them."""
    H = np.array([[1.0, 0.2], [0.8, -0.5], [0.3, 1.0], [1.0, 1.0], [-0.4, 1.0]])
    cov = np.array([[1.0, 0.5], [0.5, 1.0]])
    error = ObservationError(np.full(5, 0.4), 0.3 * np.ones((5, 1)))
    y = np.array([0.2, -0.9, -1.2, 0.7, -0.8])
    seen, bounds = below(y, -0.5)
    E = exact_ensemble(np.zeros(2), cov, 60, 1)
    update, _ = ETKF().analyse(start(60), E @ H.T, scan(seen, error, interval=bounds), KEY)
    out = update.apply(E)
    axis = np.linspace(-5, 5, 121)
    u = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    f = u[:, :2] @ H.T + 0.3 * u[:, 2:]
    log = stats.multivariate_normal(np.zeros(2), cov).logpdf(u[:, :2]) - 0.5 * u[:, 2] ** 2
    hidden = np.isnan(seen)
    log += stats.norm.logpdf(y[~hidden], f[:, ~hidden], 0.4).sum(axis=1)
    log += stats.norm.logcdf((-0.5 - f[:, hidden]) / 0.4).sum(axis=1)
    w = np.exp(log - log.max())
    w /= w.sum()
    mean = w @ u[:, :2]
    exact = (w[:, None] * (u[:, :2] - mean)).T @ (u[:, :2] - mean)
    np.testing.assert_allclose(out.mean(axis=0), mean, atol=0.01 * np.sqrt(np.diag(exact)).max())
    np.testing.assert_allclose(np.cov(out.T), exact, atol=0.02 * np.diag(exact).max())


def test_censored_is_neither_dropped_nor_taken_at_the_limit():
    """Most readings of a low concentration are below detection: three treatments over many patients."""
    errors = {"censored": [], "dropped": [], "at the limit": []}
    for seed in range(60):
        rng = generator(seed, "detection")
        truth = -0.5 + 0.5 * rng.standard_normal()
        E = 1.0 * rng.standard_normal((60, 1))
        y = truth + 0.5 * rng.standard_normal(8)
        seen, bounds = below(y, 0.0)
        error = ObservationError(np.full(8, 0.5))
        cases = {
            "censored": scan(seen, error, interval=bounds),
            "dropped": scan(seen, error),
            "at the limit": scan(np.maximum(y, 0.0), error),
        }
        for name, obs in cases.items():
            update, _ = ETKF().analyse(start(60), np.repeat(E, 8, axis=1), obs, KEY)
            errors[name].append(update.apply(E).mean() - truth)
    bias = {name: abs(np.mean(e)) for name, e in errors.items()}
    rmse = {name: np.sqrt(np.mean(np.square(e))) for name, e in errors.items()}
    assert bias["censored"] < 0.1 < min(bias["dropped"], bias["at the limit"])
    assert rmse["censored"] < 0.6 * min(rmse["dropped"], rmse["at the limit"])


def test_censored_values_in_local_and_iterative_schemes_and_in_stacks():
    rng = generator(2, "local censored")
    points = np.column_stack([np.arange(10.0), np.zeros((10, 2))])
    E = rng.standard_normal((40, 10))
    y, bounds = below(rng.standard_normal(10) - 1.0, -1.0)
    obs = scan(y, ObservationError(np.full(10, 0.3)), coords=points, interval=bounds)
    for scheme in (LETKF(Tiles.of(points, 0.0), 1.0), ESMDA(3), RootESMDA(2, columns=True)):
        carry, now = start(40), E
        for _ in range(scheme.steps):
            update, carry = scheme.analyse(carry, now, obs, KEY)
            now = update.apply(now)
        hidden = np.isnan(y)
        assert hidden.any() and (now[:, hidden].mean(axis=0) < -0.5).all()
    other = scan(np.zeros(3), ObservationError(np.ones(3)), name="other", coords=np.zeros((3, 3)))
    both = stack([obs, other])
    assert both.censored.tolist() == [*hidden.tolist(), False, False, False]
    assert np.array_equal(both.present().censored, both.censored)
    assert np.array_equal(both.take(np.array([0, 11])).censored, both.censored[[0, 11]])
    # without censored values nothing is touched
    assert equivalent(other, np.zeros(3), np.zeros((5, 3))) is other
    with pytest.raises(BadInput, match="lower before the upper"):
        ETKF().analyse(start(40), E, scan(y, obs.error, interval=bounds[:, ::-1]), KEY)


def test_gross_outliers_are_taken_out_and_written_down():
    mean, cov, H, obs = linear_case(5, 40, 1, True)
    E = exact_ensemble(mean, cov, 30, 2)
    y = obs.y.copy()
    y[[3, 17]] += [60.0, -40.0]
    bad = Observations(y, obs.error, obs.coords, ["visit 3"], obs.time)
    clean, carry = screen(start(30), E @ H.T, bad)
    assert np.flatnonzero(np.isnan(clean.y)).tolist() == [3, 17]
    line = carry.history[0]
    assert line["outliers"] == 2 and [w["place"] for w in line["worst"]] in ([3, 17], [17, 3])
    assert line["worst"][0]["scan"] == "visit 3" and line["worst"][0]["deviations"] > 5
    assert json.loads(json.dumps(line)) == line
    update, carry = ETKF().analyse(carry, E @ H.T, clean, KEY)
    keep = np.delete(np.arange(40), [3, 17])
    x, _ = kalman(mean, cov, H[keep], obs.y[keep], obs.error.take(keep))
    np.testing.assert_allclose(update.apply(E).mean(axis=0), x, atol=1e-10)
    # a scan of which half is far away is not a scan with outliers
    far = Observations(obs.y + 60.0 * (np.arange(40) % 2), obs.error, obs.coords, ["visit 4"], obs.time)
    same, carry = screen(start(30), E @ H.T, far)
    assert same is far and carry.history[0]["refused"]


def test_thinning_takes_one_value_of_each_cell():
    points = np.argwhere(np.ones((6, 6, 4))) * 2.0
    y = np.arange(len(points), dtype=float)
    y[::7] = np.nan
    rows = thinned(scan(y, ObservationError(np.ones(len(y))), coords=points), 4.0)
    cells = {tuple(c) for c in np.floor(points[np.isfinite(y)] / 4.0).astype(int)}
    assert len(rows) == len(cells) == len({tuple(c) for c in np.floor(points[rows] / 4.0).astype(int)})
    assert np.isfinite(y[rows]).all()
    with pytest.raises(BadInput, match="positions"):
        thinned(scan(y, ObservationError(np.ones(len(y)))), 4.0)


def test_averages_tell_as_much_as_their_values_where_the_model_is_smooth():
    """All values of a cell predict the same, so averaging by precision loses nothing, offset and all."""
    rng = generator(3, "averages")
    points = np.column_stack(
        [np.repeat(np.arange(6) * 10.0, 20) + rng.uniform(0, 5, 120), np.zeros((120, 2))]
    )
    error = ObservationError(0.2 + rng.uniform(size=120), 0.4 * np.ones((120, 1)))
    E = rng.standard_normal((40, 6)) @ rng.standard_normal((6, 6))
    HE, y = np.repeat(E, 20, axis=1), rng.standard_normal(120)
    y[[5, 60]] = np.nan
    full = scan(y, error, coords=points)
    few = superobs(full, 10.0)
    assert few.observations.y.shape == (6,) and few.predict(HE).shape == (40, 6)
    np.testing.assert_allclose(few.predict(HE), E, atol=1e-12)
    a, _ = ETKF().analyse(start(40), HE, full, KEY)
    b, _ = ETKF().analyse(start(40), few.predict(HE), few.observations, KEY)
    np.testing.assert_allclose(a.apply(E), b.apply(E), atol=1e-9)


@pytest.mark.parametrize(
    "scheme", [ETKF(), ETKF(rotate=True, adaptive=Adaptive()), ESTKF(), DEnKF(), EnKFN()]
)
def test_observations_in_blocks_are_the_observations_at_once(scheme):
    mean, cov, H, obs = linear_case(6, 700, 1, True)
    E = exact_ensemble(mean, cov, 30, 2)
    E[11] = np.nan
    y = obs.y.copy()
    y[5] = np.nan
    obs = Observations(y, obs.error, obs.coords, obs.ids, obs.time)
    HE = E @ H.T
    HE[4, 650] = np.nan  # found out in the last block

    def blocks():
        for at in range(0, 700, 90):
            rows = np.arange(at, min(at + 90, 700))
            yield HE[:, rows], obs.take(rows)

    streamed, carry = analyse_stream(scheme, start(30), blocks, KEY)
    once, other = scheme.analyse(start(30), HE, obs, KEY)
    np.testing.assert_allclose(streamed.apply(E), once.apply(E), rtol=0, atol=1e-9)
    assert carry.members.tolist() == other.members.tolist() and carry.seen == other.seen
    for name in ("chi_square", "spread", "spread_over_error", "degrees_of_freedom_for_signal", "missing"):
        assert carry.history[0][name] == pytest.approx(other.history[0][name], rel=1e-9)
    again, later = analyse_stream(scheme, carry, lambda: ((b[0][carry.members], b[1]) for b in blocks()), KEY)
    assert later.history[-1]["repeated"] == 699 and np.array_equal(
        again.apply(E[carry.members]), E[carry.members]
    )


def test_streams_that_cannot_be_are_refused():
    with pytest.raises(BadInput, match="at once"):
        analyse_stream(EnKF(), start(5), list, KEY)
    with pytest.raises(BadInput, match="no block"):
        analyse_stream(ETKF(), start(5), list, KEY)


def test_several_modalities_at_once_are_one_after_the_other():
    """Scans of different kinds, units and errors: together or in turn, the same in the linear case."""
    mean, cov, H, adc = linear_case(5, 30, 1, True)
    _, _, G, volume = linear_case(5, 2, 2, False)
    pet = Observations(
        1000 * volume.y, ObservationError(1000 * volume.error.voxel), volume.coords, ["pet"], 1.0
    )
    E = exact_ensemble(mean, cov, 30, 2)
    together, _ = ETKF().analyse(
        start(30), np.concatenate([E @ H.T, 1000 * E @ G.T], axis=1), stack([adc, pet]), KEY
    )
    first, carry = ETKF().analyse(start(30), E @ H.T, adc, KEY)
    middle = first.apply(E)
    second, _ = ETKF().analyse(carry, 1000 * middle @ G.T, pet, KEY)
    a, b = together.apply(E), second.apply(middle)
    np.testing.assert_allclose(a.mean(axis=0), b.mean(axis=0), atol=1e-10)
    np.testing.assert_allclose(np.cov(a.T), np.cov(b.T), atol=1e-10)


def turning(E, t0, t1, members):
    """A linear model: a slow rotation with decay."""
    a = 0.3 * (t1 - t0)
    F = np.exp(-0.1 * (t1 - t0)) * np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
    return E @ F.T


def visits():
    """Masks change from visit to visit."""
    rng = generator(9, "visits")
    out = []
    for t in (1.0, 2.0, 4.0, 5.0):
        m = int(rng.integers(3, 9))
        H = rng.standard_normal((m, 2))
        obs = scan(
            H @ np.array([0.5, -0.2]) + 0.3 * rng.standard_normal(m),
            ObservationError(np.full(m, 0.3)),
            t,
            f"day {t:g}",
        )
        out.append((obs, H))
    return out


@pytest.mark.parametrize("scheme", [ETKF(), RootESMDA(3)])
def test_a_late_scan_is_put_in_its_place(scheme):
    data = {obs.ids[0]: H for obs, H in visits()}
    cycling = Cycling(scheme, turning, lambda E, obs: E @ data[obs.ids[0]].T, KEY, keep=4)
    E = generator(1, "late").standard_normal((40, 2))
    in_order = late = cycling.begin(E)
    scans = [obs for obs, _ in visits()]
    for obs in scans:
        in_order = cycling.add(in_order, obs)
    for obs in (scans[0], scans[2], scans[3], scans[1]):
        late = cycling.add(late, obs)
    assert np.array_equal(in_order.now.E, late.now.E) and late.now.carry.cycle == 4
    assert cycling.add(late, scans[1]) is late  # it counts once
    short = Cycling(scheme, turning, cycling.observe, KEY, keep=1)
    trail = short.begin(E)
    for obs in scans[1:]:
        trail = short.add(trail, obs)
    with pytest.raises(BadInput, match="older than the oldest state"):
        short.add(trail, scans[0])
    with pytest.raises(BadInput, match="back"):
        short.forecast(trail.now, 0.0)


def test_cycles_of_a_smoother_with_several_steps_are_those_of_the_filter_in_the_linear_case():
    data = {obs.ids[0]: H for obs, H in visits()}
    found = []
    for scheme in (ETKF(), RootESMDA(3), IES(4)):
        cycling = Cycling(scheme, turning, lambda E, obs: E @ data[obs.ids[0]].T, KEY)
        trail = cycling.begin(generator(1, "late").standard_normal((40, 2)))
        for obs, _ in visits():
            trail = cycling.add(trail, obs)
        found.append(trail.now.E)
    np.testing.assert_allclose(found[1], found[0], atol=1e-10)
    np.testing.assert_allclose(found[2], found[0], atol=1e-8)


def test_models_that_fail_lose_members_and_not_the_cycle():
    data = {obs.ids[0]: H for obs, H in visits()}

    def fragile(E, t0, t1, members):
        out = turning(E, t0, t1, members)
        out[members == 7] = np.nan
        return out, (members == 3).astype(int)

    for scheme in (ETKF(), RootESMDA(2)):
        cycling = Cycling(scheme, fragile, lambda E, obs: E @ data[obs.ids[0]].T, KEY, outliers=6.0)
        trail = cycling.begin(generator(1, "late").standard_normal((40, 2)))
        for obs, _ in visits():
            trail = cycling.add(trail, obs)
        assert len(trail.now.E) == 38 and np.isfinite(trail.now.E).all()
        assert sorted(i for i, _ in trail.now.carry.dropped) == [3, 7]
        assert sum("screened" in line for line in trail.now.carry.history) == 4
    everything = Cycling(ETKF(), lambda E, a, b, members: np.full_like(E, np.nan), cycling.observe, KEY)
    with pytest.raises(RunFailed):
        everything.add(everything.begin(np.eye(2)), visits()[0][0])
