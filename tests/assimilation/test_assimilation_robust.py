"""What real scans bring: missing pixels, repeated scans, failed members, bad input; and diagnostics."""

import json

import numpy as np
import pytest
from linear_gaussian import dense, exact_ensemble, kalman, linear_case

from vvuq_twin.assimilation import (
    ESMDA,
    ESTKF,
    ETKF,
    IES,
    LETKF,
    Around,
    DEnKF,
    EnKF,
    EnKFN,
    FilterpyEnKF,
    FilterpyKalman,
    Inflation,
    Key,
    RankHistogram,
    RootESMDA,
    SerialRoot,
    Tiles,
    VoxelETKF,
    start,
)  # fmt: skip
from vvuq_twin.assimilation.roots import mean_preserving_rotation
from vvuq_twin.domain.errors import BadInput, RunFailed
from vvuq_twin.domain.keys import generator
from vvuq_twin.domain.observations import ObservationError, Observations, stack

KEY = Key(3)
M = 12


def case(seed=1):
    mean, cov, H, obs = linear_case(5, M, seed, True)
    coords = np.column_stack([np.arange(float(M)), np.zeros((M, 2))])
    return exact_ensemble(mean, cov, 30, 2), H, Observations(obs.y, obs.error, coords, obs.ids, obs.time)


def schemes():
    tiles = Tiles.of(np.column_stack([np.arange(4.0), np.zeros((4, 2))]), 0.0, shared=1)
    points = np.column_stack([np.r_[np.arange(4.0), np.nan], np.zeros((5, 2))])
    return [
        ETKF(), ETKF(rotate=True), ESMDA(2), RootESMDA(2), LETKF(tiles, 5.0), EnKF(), ESTKF(), DEnKF(), EnKFN(),
        IES(3), ESMDA(3, adaptive=True), RootESMDA(2, columns=True), SerialRoot(),
        SerialRoot(Around(points, 5.0)), RankHistogram(), FilterpyKalman(), FilterpyEnKF(),
    ]  # fmt: skip


#: Schemes whose members meet draws of their own number: survivors are not as if they had been alone.
DRAWN = (ESMDA, EnKF, SerialRoot, FilterpyEnKF)


def run(scheme, E, H, obs, carry=None, status=None):
    carry = start(len(E)) if carry is None else carry
    for _ in range(scheme.steps):
        update, carry = scheme.analyse(carry, E @ H.T, obs, KEY, status)
        E, status = update.apply(E), None
        if carry.step == 0:
            break
    return E, carry


@pytest.mark.parametrize("scheme", schemes())
def test_a_missing_pixel_is_the_same_as_leaving_it_out(scheme):
    E, H, obs = case()
    y = obs.y.copy()
    y[[2, 7]] = np.nan
    keep = np.flatnonzero(np.isfinite(y))
    gap, carry = run(scheme, E, H, Observations(y, obs.error, obs.coords, obs.ids, obs.time))
    out, _ = run(
        scheme, E, H[keep], Observations(y[keep], obs.error.take(keep), obs.coords[keep], obs.ids, obs.time)
    )
    assert np.array_equal(gap, out)
    assert carry.history[0]["missing"] == 2


@pytest.mark.parametrize("scheme", schemes())
def test_a_scan_that_arrives_twice_counts_once(scheme):
    E, H, obs = case()
    once, carry = run(scheme, E, H, obs)
    again, carry = run(scheme, once, H, obs, carry)
    assert np.array_equal(again, once)
    assert carry.history[-1]["repeated"] == M and carry.history[-1]["observations"] == 0
    assert carry.seen == {"scan 1"}
    later, carry = run(scheme, again, H, alter(obs, ids=["scan 2"], time=9.0), carry)
    # also when it comes out of order
    assert np.array_equal(run(scheme, later, H, obs, carry)[0], later)


def test_of_two_scans_together_only_the_new_one_counts():
    E, H, obs = case()
    other = Observations(obs.y + 1.0, obs.error, obs.coords, ["scan 2"], 2.0)
    _, carry = run(ETKF(), E, H, obs)
    H2 = generator(1, "second").standard_normal(H.shape)
    both, after = run(ETKF(), E, np.concatenate([H, H2]), stack([obs, other]), carry)
    alone, _ = run(ETKF(), E, H2, other, carry)
    np.testing.assert_allclose(both, alone, rtol=0, atol=1e-13)
    assert after.history[-1]["repeated"] == M and after.seen == {"scan 1", "scan 2"}


@pytest.mark.parametrize("scheme", schemes())
def test_failed_members_are_dropped_and_the_rest_goes_on(scheme):
    E, H, obs = case()
    # one says it failed, one gives NaN, one an infinite value only in its state's prediction
    bad, status = E.copy(), np.zeros(30, dtype=int)
    status[4], bad[9], bad[20, 0] = 2, np.nan, np.inf
    out, carry = run(scheme, bad, H, obs, status=status)
    good = np.delete(np.arange(30), [4, 9, 20])
    assert out.shape == (27, 5) and np.isfinite(out).all()
    assert carry.members.tolist() == good.tolist()
    assert [number for number, _ in carry.dropped] == [4, 9, 20]
    assert carry.history[0]["dropped_members"] == [4, 9, 20]
    if not isinstance(scheme, DRAWN):  # without keyed draws the survivors are as if they had been alone
        alone, _ = run(scheme, E[good], H, obs)
        np.testing.assert_allclose(out, alone, rtol=0, atol=1e-12)


def test_the_draws_of_a_member_do_not_depend_on_its_neighbours():
    a = KEY.normals("perturbations", np.array([3, 7, 9]), 5, 0, 1)
    b = KEY.normals("perturbations", np.arange(10), 5, 0, 1)
    assert np.array_equal(a, b[[3, 7, 9]])


def test_members_lost_between_steps_still_shape_the_joined_transform():
    E, H, obs = case()
    scheme, carry = RootESMDA(3), start(30)
    now = E
    for step in range(3):
        status = np.zeros(len(now), dtype=int)
        if step == 1:
            status[[0, 5]] = 1
        update, carry = scheme.analyse(carry, now @ H.T, obs, KEY, status)
        now = update.apply(now)
    assert len(now) == 28
    np.testing.assert_allclose(carry.total.apply(E), now, rtol=0, atol=1e-11)
    assert carry.total.members.tolist() == carry.members.tolist()


def test_a_scan_without_a_single_pixel_changes_nothing():
    E, H, obs = case()
    empty = Observations(np.full(M, np.nan), obs.error, obs.coords, obs.ids, obs.time)
    out, carry = run(ESMDA(3), E, H, empty)
    np.testing.assert_allclose(out, E, rtol=0, atol=1e-13)
    assert carry.cycle == 1 and not carry.seen  # the scan may still come with its pixels


def alter(obs, **changes):
    return Observations(**{**vars(obs), **changes})


@pytest.mark.parametrize("scheme", schemes())
def test_bad_input_is_refused_in_one_sentence(scheme):
    E, H, obs = case()
    HE, carry = E @ H.T, start(30)
    _, later = run(scheme, E, H, alter(obs, time=5.0))
    infinite = obs.y.copy()
    infinite[0] = np.inf
    calls = {
        "do not fit": lambda: scheme.analyse(carry, HE[:, :-1], obs, KEY),
        "29 members": lambda: scheme.analyse(carry, HE[:-1], obs, KEY),
        "status": lambda: scheme.analyse(carry, HE, obs, KEY, np.zeros(3)),
        "after one at 5": lambda: scheme.analyse(later, HE, alter(obs, time=4.0, ids=["new"]), KEY),
        "infinite": lambda: scheme.analyse(carry, HE, alter(obs, y=infinite), KEY),
        "time": lambda: scheme.analyse(carry, HE, alter(obs, time=np.nan), KEY),
        "ids": lambda: scheme.analyse(carry, HE, alter(obs, ids=["a", "b"]), KEY),
        "no spread": lambda: start(1),
        "30 members": lambda: scheme.analyse(carry, HE, obs, KEY)[0].apply(E[:5]),
    }
    for words, call in calls.items():
        with pytest.raises(BadInput, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", schemes())
def test_all_or_all_but_one_members_failed(scheme):
    E, H, obs = case()
    for alive in (0, 1):
        status = np.ones(30, dtype=int)
        status[:alive] = 0
        with pytest.raises(RunFailed, match="failed"):
            scheme.analyse(start(30), E @ H.T, obs, KEY, status)


def test_inflation_does_what_it_says_in_its_order():
    E, H, obs = case()
    plain, _ = run(ETKF(), E, H, obs)
    both, _ = run(ETKF(Inflation(rtps=0.3, factor=1.1)), E, H, obs)
    before, after = E.std(axis=0, ddof=1), plain.std(axis=0, ddof=1)
    np.testing.assert_allclose(both.std(axis=0, ddof=1), 1.1 * (0.7 * after + 0.3 * before), rtol=1e-12)
    np.testing.assert_allclose(both.mean(axis=0), plain.mean(axis=0), rtol=0, atol=1e-13)
    update, _ = ETKF(Inflation(rtps=0.3, factor=1.1)).analyse(start(30), E @ H.T, obs, KEY)
    assert np.array_equal(update.apply(E, inflate=False), plain)
    kept, _ = run(ETKF(Inflation(rtps=1.0)), E, H, obs)
    np.testing.assert_allclose(kept.std(axis=0, ddof=1), before, rtol=1e-12)
    for bad in ({"rtps": 1.2}, {"rtps": -0.1}, {"factor": 0.0}, {"factor": np.nan}):
        with pytest.raises(BadInput):
            Inflation(**bad)


def test_rotation_keeps_mean_and_covariance_and_moves_the_members():
    turn = mean_preserving_rotation(generator(1, "turn").standard_normal((29, 29)))
    np.testing.assert_allclose(turn @ turn.T, np.eye(30), atol=1e-13)
    np.testing.assert_allclose(turn @ np.ones(30), np.ones(30), atol=1e-13)
    assert np.abs(turn - np.eye(30)).max() > 0.1


def test_single_precision_stays_single():
    E, H, obs = case()
    update, _ = ETKF().analyse(start(30), E @ H.T, obs, KEY)
    out = update.apply(E.astype(np.float32))
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, update.apply(E), atol=1e-5)


@pytest.mark.parametrize("m, size", [(40, 20), (6, 60)])
def test_diagnostics_are_those_of_the_dense_formulas(m, size):
    mean, cov, H, obs = linear_case(5, m, 4, True)
    E = exact_ensemble(mean, cov, size, 5)
    for scheme in (ETKF(), ESMDA(4), RootESMDA(4)):
        carry = start(size)
        _, carry = scheme.analyse(carry, E @ H.T, obs, KEY)
        line = carry.history[0]
        P, R, v = H @ cov @ H.T, dense(obs.error), obs.y - H @ mean
        assert line["chi_square"] == pytest.approx(v @ np.linalg.solve(P + R, v), rel=1e-9)
        assert line["degrees_of_freedom_for_signal"] == pytest.approx(
            np.trace(np.linalg.solve(P + R, P)), rel=1e-9
        )
        white = np.linalg.solve(np.linalg.cholesky(R), np.linalg.solve(np.linalg.cholesky(R), P).T)
        values = np.linalg.eigvalsh((white + white.T) / 2)
        assert line["effective_size"] == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-8)
        assert line["spread"] == pytest.approx(np.sqrt(np.mean(np.diag(P))), rel=1e-12)
        assert line["innovation_rmse"] == pytest.approx(np.sqrt(np.mean(v**2)), rel=1e-12)
        assert line["observation_error"] == pytest.approx(np.sqrt(np.mean(np.diag(R))), rel=1e-12)
        assert sum(line["rank_histogram"]) == m
        assert json.loads(json.dumps(line)) == line


def test_where_spread_and_error_are_right_the_diagnostics_say_so():
    chi, ratio, ranks, m, size = [], [], np.zeros(10), 20, 100
    for seed in range(300):
        rng = generator(seed, "honest")
        H = rng.standard_normal((m, 4)) / 2
        E, truth = rng.standard_normal((size, 4)), rng.standard_normal(4)
        y = H @ truth + 0.5 * rng.standard_normal(m)
        obs = Observations(y, ObservationError(np.full(m, 0.5)), np.zeros((m, 0)), ["s"], 0.0)
        _, carry = ETKF().analyse(start(size), E @ H.T, obs, Key(seed))
        line = carry.history[0]
        chi.append(line["chi_square_over_m"])
        ratio.append((line["expected_rmse"] ** 2, line["innovation_rmse"] ** 2))
        ranks += line["rank_histogram"]
    assert np.mean(chi) == pytest.approx(1.0, abs=0.06)
    assert np.sqrt(np.divide(*np.sum(ratio, axis=0))) == pytest.approx(1.0, abs=0.08)
    assert ranks.sum() == 300 * m
    assert np.abs(ranks / ranks.sum() - 0.1).max() < 0.02


def test_every_scheme_repeats_its_numbers():
    E, H, obs = case()
    for scheme in schemes():
        assert np.array_equal(run(scheme, E, H, obs)[0], run(scheme, E, H, obs)[0])
    voxel = VoxelETKF(np.arange(M) % 4, np.r_[np.arange(4), -1])
    a, _ = voxel.analyse(start(30), E @ H.T, obs, KEY, shared=E[:, 4:])
    b, _ = voxel.analyse(start(30), E @ H.T, obs, KEY, shared=E[:, 4:])
    assert np.array_equal(a.apply(E), b.apply(E))


def test_the_oracle_itself_is_the_textbook_formula():
    mean, cov, H, obs = linear_case(4, 7, 8, True)
    x, P = kalman(mean, cov, H, obs.y, obs.error)
    gain = cov @ H.T @ np.linalg.inv(H @ cov @ H.T + dense(obs.error))
    np.testing.assert_allclose(x, mean + gain @ (obs.y - H @ mean), atol=1e-12)
    np.testing.assert_allclose(P, cov - gain @ H @ cov, atol=1e-12)
