"""Local analyses: the taper, the tiles, and voxels that share parameters."""

import numpy as np
import pytest
from linear_gaussian import dense, exact_ensemble, kalman, linear_case

from vvuq_twin.assimilation import ETKF, LETKF, Inflation, Key, Tiles, VoxelETKF, gaspari_cohn, start
from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.keys import generator
from vvuq_twin.domain.observations import ObservationError, Observations

KEY = Key(5)


def test_taper_has_the_published_values_and_support():
    half = np.sqrt(10 / 3)
    # eq. 4.10 at z = 1/2, 1 and 3/2, by hand: 263/384, 5/24 and 19/1152
    z = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
    np.testing.assert_allclose(
        gaspari_cohn(2.0 * half * z, 2.0), [1, 263 / 384, 5 / 24, 19 / 1152, 0, 0], atol=1e-14
    )
    near = gaspari_cohn(np.array([0.01]), 1.0)
    assert 1 - near[0] == pytest.approx(0.5 * 0.01**2, rel=2e-2)


def test_taper_is_a_correlation():
    points = np.arange(60.0)
    matrix = gaspari_cohn(points[:, None] - points[None, :], 4.0)
    assert np.linalg.eigvalsh(matrix).min() > -1e-12


def line(n):
    """Voxel positions along a line, 1 mm apart."""
    return np.column_stack([np.arange(float(n)), np.zeros((n, 2))])


def placed(obs, coords):
    return Observations(obs.y, obs.error, coords, obs.ids, obs.time)


@pytest.mark.parametrize("m, size", [(12, 30), (60, 20)])
def test_a_taper_without_end_gives_the_global_analysis(m, size):
    mean, cov, H, obs = linear_case(6, m, 1, True)
    obs = placed(obs, line(m))
    E = exact_ensemble(mean, cov, size, 2)
    scheme = LETKF(Tiles.of(line(4), 0.0, shared=2), 1e9)
    local, _ = scheme.analyse(start(size), E @ H.T, obs, KEY)
    whole, _ = ETKF().analyse(start(size), E @ H.T, obs, KEY)
    np.testing.assert_allclose(local.apply(E), whole.apply(E), rtol=0, atol=1e-11)


@pytest.mark.parametrize("correlated", [False, True])
def test_each_tile_is_the_kalman_filter_with_its_tapered_error(correlated):
    mean, cov, H, obs = linear_case(5, 20, 3, correlated)
    obs, E = placed(obs, line(20)), exact_ensemble(mean, cov, 30, 4)
    tiles = Tiles.of(line(5) * 4.0, 0.0)
    update, _ = LETKF(tiles, 1.5).analyse(start(30), E @ H.T, obs, KEY)
    out = update.apply(E)
    for i, centre in enumerate(tiles.centres):
        taper = gaspari_cohn(np.linalg.norm(obs.coords - centre, axis=1), 1.5)
        rows = np.flatnonzero(taper > 0)
        assert 0 < len(rows) < 20
        part = obs.error.take(rows)
        faded = ObservationError(part.voxel / np.sqrt(taper[rows]), part.scan, part.representation)
        x, P = kalman(mean, cov, H[rows], obs.y[rows], faded)
        np.testing.assert_allclose(out[:, i].mean(), x[i], rtol=0, atol=1e-11)
        np.testing.assert_allclose(out[:, i].var(ddof=1), P[i, i], rtol=0, atol=1e-11)


def test_a_tile_out_of_reach_is_left_alone_and_shared_columns_are_not():
    mean, cov, H, obs = linear_case(5, 8, 6, False)
    E = exact_ensemble(mean, cov, 30, 7)
    points = line(4)
    points[3, 0] = 500.0
    update, _ = LETKF(Tiles.of(points, 0.0, shared=1), 2.0).analyse(
        start(30), E @ H.T, placed(obs, line(8)), KEY
    )
    out = update.apply(E)
    np.testing.assert_allclose(out[:, 3], E[:, 3], rtol=0, atol=1e-13)
    whole, _ = ETKF().analyse(start(30), E @ H.T, obs, KEY)
    np.testing.assert_allclose(out[:, 4], whole.apply(E)[:, 4], rtol=0, atol=1e-12)


def test_tiles_cover_every_voxel_once_and_repeat_over_fields():
    points = np.argwhere(np.ones((7, 5, 3))) * 2.0
    tiles = Tiles.of(points, 4.0, fields=2, shared=3)
    assert len(tiles.tile_of) == 2 * len(points) + 3
    assert (tiles.tile_of[-3:] == -1).all()
    assert len(tiles.centres) == 4 * 3 * 2
    distance = np.abs(points - tiles.centres[tiles.tile_of[: len(points)]]).max()
    assert distance <= 2.0


def shared_voxels(voxels, per_voxel, channels, seed, scan=0.0):
    """A linear-Gaussian problem: two shared values, voxels independent given them."""
    rng = generator(seed, "shared voxels")
    n = 2 + voxels * per_voxel
    couple = np.zeros((n, n))
    couple[:2, :2] = [[1.0, 0.0], [0.4, 0.8]]
    H, m = np.zeros((voxels * channels, n)), voxels * channels
    H[:, :2] = rng.standard_normal((m, 2))
    for v in range(voxels):
        own, seen = slice(2 + v * per_voxel, 2 + (v + 1) * per_voxel), slice(v * channels, (v + 1) * channels)
        couple[own, own] = 0.8 * np.eye(per_voxel) + 0.3 * rng.standard_normal((per_voxel, per_voxel))
        couple[own, :2] = 0.3 * rng.standard_normal((per_voxel, 2))
        H[seen, own] = rng.standard_normal((channels, per_voxel))
    cov, mean = couple @ couple.T, rng.standard_normal(n)
    factor = scan * np.ones((m, 1)) if scan else np.zeros((m, 0))
    error = ObservationError(0.4 + 0.3 * rng.uniform(size=m), factor)
    truth = mean + couple @ rng.standard_normal(n)
    y = H @ truth + error.perturbations(rng.standard_normal((1, m + factor.shape[1])))[0]
    scheme_maps = (
        np.repeat(np.arange(voxels), channels),
        np.r_[-1, -1, np.repeat(np.arange(voxels), per_voxel)],
    )
    return mean, cov, H, Observations(y, error, np.zeros((m, 0)), ["scan"], 0.0), scheme_maps, truth


@pytest.mark.parametrize("per_voxel, channels", [(1, 1), (2, 1), (2, 3)])
def test_voxels_with_shared_values_are_the_joint_kalman_filter(per_voxel, channels):
    mean, cov, H, obs, maps, _ = shared_voxels(6, per_voxel, channels, 1)
    E = exact_ensemble(mean, cov, 60, 2)
    update, carry = VoxelETKF(*maps, shrink=False).analyse(start(60), E @ H.T, obs, KEY, shared=E[:, :2])
    out = update.apply(E)
    x, P = kalman(mean, cov, H, obs.y, obs.error)
    np.testing.assert_allclose(out.mean(axis=0), x, rtol=0, atol=1e-11)
    np.testing.assert_allclose(np.cov(out.T), P, rtol=0, atol=1e-11)
    innovation = obs.y - H @ mean
    chi2 = innovation @ np.linalg.solve(H @ cov @ H.T + dense(obs.error), innovation)
    assert carry.history[0]["chi_square"] == pytest.approx(chi2, rel=1e-10)
    influence = np.trace(np.linalg.solve(H @ cov @ H.T + dense(obs.error), H @ cov @ H.T))
    assert carry.history[0]["degrees_of_freedom_for_signal"] == pytest.approx(influence, rel=1e-10)


def test_scan_level_error_is_inferred_once_and_stays_in_every_voxel():
    mean, cov, H, obs, maps, _ = shared_voxels(6, 1, 1, 3, scan=0.9)
    E = exact_ensemble(mean, cov, 400, 4)
    x, P = kalman(mean, cov, H, obs.y, obs.error)
    found = []
    for seed in range(20):
        update, _ = VoxelETKF(*maps, shrink=False).analyse(
            start(400), E @ H.T, obs, Key(seed), shared=E[:, :2]
        )
        out = update.apply(E)
        np.testing.assert_allclose(out.mean(axis=0), x, rtol=0, atol=1e-11)
        found.append(np.cov(out.T))
    # the draws of the scan's coefficient meet the voxels' members by chance: zero in the mean
    np.testing.assert_allclose(np.mean(found, axis=0), P, rtol=0, atol=0.02)
    _, Q = kalman(mean, cov, H, obs.y, ObservationError(obs.error.voxel))
    total, wrong = P[2:, 2:].sum(), Q[2:, 2:].sum()
    assert np.mean([c[2:, 2:].sum() for c in found]) == pytest.approx(total, rel=0.05)
    assert wrong < 0.85 * total


def test_a_thousand_voxels_do_not_collapse_the_shared_values():
    """Sixty members: a global transform claims far too much about the shared values, this one does not."""
    voxels, size, ours, whole = 1000, 60, [], []
    maps = np.arange(voxels), np.r_[-1, -1, np.arange(voxels)]
    for seed in range(60):
        rng = generator(seed, "thousand voxels")
        B, error = 0.03 * rng.standard_normal((voxels, 2)), ObservationError(np.full(voxels, 0.5))
        draws = rng.standard_normal((size + 1, 2 + voxels))  # the last is the truth
        HE = draws[:, :2] @ B.T + draws[:, 2:]
        y = HE[-1] + 0.5 * rng.standard_normal(voxels)
        obs = Observations(y, error, np.zeros((voxels, 0)), ["scan"], 0.0)
        E, truth = draws[:-1], draws[-1, :2]
        local, _ = VoxelETKF(*maps).analyse(start(size), HE[:-1], obs, Key(seed), shared=E[:, :2])
        glob, _ = ETKF().analyse(start(size), HE[:-1], obs, Key(seed))
        for keep, update in ((ours, local), (whole, glob)):
            out = update.apply(E[:, :2], np.arange(2))
            keep.append((out.mean(axis=0) - truth) / out.std(axis=0, ddof=1))
    inside = [np.mean(np.abs(np.array(z)) < 1.645) for z in (ours, whole)]
    assert 0.78 < inside[0] <= 1.0
    assert inside[1] < 0.4


def test_missing_pixels_and_voxels_without_observation():
    mean, cov, H, obs, maps, _ = shared_voxels(5, 2, 2, 8)
    E = exact_ensemble(mean, cov, 60, 9)
    y = obs.y.copy()
    y[[0, 1, 5]] = np.nan  # the first voxel sees nothing, the third has one channel
    gap = Observations(y, obs.error, obs.coords, obs.ids, obs.time)
    update, carry = VoxelETKF(*maps, shrink=False).analyse(start(60), E @ H.T, gap, KEY, shared=E[:, :2])
    keep = np.isfinite(y)
    x, P = kalman(mean, cov, H[keep], y[keep], obs.error.take(np.flatnonzero(keep)))
    out = update.apply(E)
    np.testing.assert_allclose(out.mean(axis=0), x, rtol=0, atol=1e-11)
    np.testing.assert_allclose(np.cov(out.T), P, rtol=0, atol=1e-11)
    assert carry.history[0]["missing"] == 3


@pytest.mark.parametrize("inflation", [Inflation(), Inflation(rtps=0.4, factor=1.05)])
@pytest.mark.parametrize("kind", ["voxel", "tiles", "wide tiles", "global", "thin"])
def test_applied_in_blocks_is_bit_equal_to_applied_whole(kind, inflation):
    rng = generator(1, "blocks", kind)
    n, size = 5300, 37
    E = 5.0 + rng.standard_normal((size, n))
    m = 4 if kind == "thin" else 200
    H = rng.standard_normal((m, n)) * (rng.uniform(size=(m, n)) < 0.01)
    coords = np.column_stack([rng.uniform(0, 5300, m), np.zeros((m, 2))])
    obs = Observations(rng.standard_normal(m), ObservationError(np.ones(m), np.ones(m)), coords, ["a"], 0.0)
    if kind == "voxel":
        maps = rng.integers(0, 400, m), np.r_[rng.integers(0, 400, n - 3), [-1] * 3]
        update, _ = VoxelETKF(*maps, inflation).analyse(start(size), E @ H.T, obs, KEY, shared=E[:, -3:])
    elif "tiles" in kind:
        edge = 300.0 if "wide" in kind else 12.0
        scheme = LETKF(Tiles.of(line(n - 3), edge, shared=3), 20.0, inflation)
        update, _ = scheme.analyse(start(size), E @ H.T, obs, KEY)
    else:
        update, _ = ETKF(inflation).analyse(start(size), E @ H.T, obs, KEY)
    whole = update.apply(E)
    for _ in range(5):
        columns = np.sort(rng.choice(n, int(rng.integers(1, n)), replace=False))
        assert np.array_equal(update.apply(E[:, columns], columns), whole[:, columns])
        single = columns[:1]
        assert np.array_equal(update.apply(E[:, single], single), whole[:, single])


def test_bad_input_is_refused():
    mean, cov, H, obs = linear_case(5, 8, 6, False)
    E = exact_ensemble(mean, cov, 30, 7)
    local = LETKF(Tiles.of(line(5), 0.0), 2.0)
    with pytest.raises(BadInput, match="coordinates"):
        local.analyse(start(30), E @ H.T, obs, KEY)
    with pytest.raises(BadInput, match="column numbers"):
        update, _ = local.analyse(start(30), E @ H.T, placed(obs, line(8)), KEY)
        update.apply(E[:, :2])
    with pytest.raises(BadInput, match="radius"):
        gaspari_cohn(np.zeros(2), 0.0)
    with pytest.raises(BadInput, match="negative"):
        Tiles.of(line(3), -1.0)
    voxel = VoxelETKF(np.zeros(8, dtype=int), np.zeros(5, dtype=int))
    with pytest.raises(BadInput, match="larger ensemble"):
        voxel.analyse(start(30), E @ H.T, obs, KEY, shared=generator(1, "x").standard_normal((30, 29)))
    with pytest.raises(BadInput, match="voxel numbers"):
        VoxelETKF(np.zeros(3, dtype=int), np.zeros(5, dtype=int)).analyse(start(30), E @ H.T, obs, KEY)
