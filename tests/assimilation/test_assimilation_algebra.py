"""The short cuts of the algebra give what the formulas written out give, to round-off."""

from dataclasses import replace

import numpy as np
import pytest
from linear_gaussian import dense, linear_case

from vvuq_twin.assimilation import ESMDA, LETKF, Adaptive, EnKF, Inflation, Key, Tiles, gaspari_cohn, start
from vvuq_twin.assimilation.letkf import transforms
from vvuq_twin.assimilation.local_kernels import apply_transforms
from vvuq_twin.assimilation.roots import mean_preserving_rotation
from vvuq_twin.domain.keys import generator
from vvuq_twin.domain.observations import ObservationError, Observations

KEY = Key(3)


def inverse_root(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors / np.sqrt(values)) @ vectors.T


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1.0, 300.0])
@pytest.mark.parametrize("k, m", [(12, 1), (12, 8), (12, 12), (12, 40), (2, 8), (3, 1), (70, 64), (70, 200)])
def test_a_transform_that_is_not_formed_acts_as_one_that_is(k, m, scale):
    rng = generator(1, "not formed", k, m)
    tiles, many = 5, 3 * m
    y = scale * rng.standard_normal((many + 1, k)) / np.sqrt(k - 1.0)
    d = rng.standard_normal(many + 1)
    y[-1], d[-1] = 0.0, 0.0
    index = rng.integers(0, many + 1, (tiles, m))
    taper = np.where(rng.uniform(size=(tiles, m)) < 0.2, 0.0, rng.uniform(size=(tiles, m)))
    index[1] = many  # a tile that sees nothing
    prior = rng.uniform(1.0, 1.4, tiles)
    starts = np.array([0, 2, 4, 4, 7, 8])  # one tile has no column
    columns = 5.0 + rng.standard_normal((8, k))

    root = np.sqrt(taper)[..., None]
    S, seen = np.swapaxes(y[index] * root, 1, 2), d[index] * root[..., 0]
    X = prior[:, None, None] * transforms(prior[:, None, None] * S, seen)
    expected = np.empty_like(columns)
    for t in range(tiles):
        for c in range(starts[t], starts[t + 1]):
            mean = columns[c].mean()
            expected[c] = mean + X[t] @ (columns[c] - mean)
    apply_transforms(y, d, index, taper, prior, starts, columns)
    largest = 1.4**2 * np.linalg.norm(S, 2, axis=(1, 2)).max() ** 2  # a Gram matrix loses its digits
    np.testing.assert_allclose(columns, expected, rtol=0, atol=1e-12 + 1e-14 * largest)


@pytest.mark.parametrize("edge", [0.0, 25.0])  # tiles of one column, and of more columns than members
@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize(
    "size, radius", [(40, 1.0), (15, 1.9), (9, 3.0)]
)  # fewer, as many, more observations
def test_local_analyses_are_their_formula(size, radius, correlated, edge):
    rng = generator(2, "local formula", size, correlated)
    n = 60
    points = np.column_stack([np.arange(float(n)), np.zeros((n, 2))])
    points[50:, 1] = 400.0  # nothing is observed there
    E = 2.0 + rng.standard_normal((size, n))
    E[:, 1:] += E[:, :-1]
    factor = 0.5 * rng.standard_normal((50, 2)) if correlated else np.zeros((50, 0))
    error = ObservationError(0.4 + 0.3 * rng.uniform(size=50), factor)
    y = E[0, :50] + 0.5 * rng.standard_normal(50)
    y[[3, 4, 5, 20]] = np.nan
    y[30:45] = np.nan  # tiles in the middle of it have no observation in reach, or one
    observed = Observations(y, error, points[:50], ["scan"], 0.0)
    tiles = Tiles.of(points, edge)
    scheme = LETKF(tiles, radius, Inflation(0.3, 1.1), rotate=True, adaptive=Adaptive(0.5))
    update, carry = scheme.analyse(start(size), E[:, :50], observed, KEY)
    assert update.narrow == (edge == 0.0 or size >= 20)
    out = update.apply(E)

    rows = np.flatnonzero(np.isfinite(y))
    turn = mean_preserving_rotation(KEY.generator("rotation", 0).standard_normal((size - 1, size - 1)))
    for i, centre in enumerate(tiles.centres):
        columns = np.flatnonzero(tiles.tile_of == i)
        taper = gaspari_cohn(np.linalg.norm(points[rows] - centre, axis=1), radius)
        near = rows[taper > 0]
        prior = E[:, columns] - E[:, columns].mean(axis=0)
        by = np.sqrt(carry.inflation[i])
        anomalies, moved = by * prior, np.zeros(len(columns))
        if len(near):
            part = error.take(near)
            R = dense(replace(part, voxel=part.voxel / np.sqrt(taper[taper > 0])))
            Y = by * (E[:, near] - E[:, near].mean(axis=0)) / np.sqrt(size - 1.0)
            precision = Y @ np.linalg.solve(R, Y.T) + np.eye(size)
            weights = np.linalg.solve(precision, Y @ np.linalg.solve(R, y[near] - E[:, near].mean(axis=0)))
            moved = weights @ anomalies / np.sqrt(size - 1.0)
            anomalies = inverse_root(precision) @ anomalies
        expected = turn @ anomalies + E[:, columns].mean(axis=0) + moved
        np.testing.assert_allclose(
            out[:, columns], scheme.inflation.apply(prior, expected), rtol=0, atol=2e-11
        )


@pytest.mark.parametrize("scheme, alpha", [(ESMDA(1), 1.0), (ESMDA(3), 3.0), (EnKF(), 1.0)])
@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("m", [5, 9, 14, 15, 19, 20, 21, 60])
def test_perturbed_observations_are_their_formula(m, correlated, scheme, alpha):
    size = 20
    _, _, H, observed = linear_case(6, m, 4, correlated)
    E = generator(5, "perturbed formula").standard_normal((size, 6))
    HE, error = E @ H.T, observed.error
    update, _ = scheme.analyse(start(size), HE, observed, KEY)
    columns = m + error.factor.shape[1]
    eps = error.perturbations(KEY.normals("perturbations", np.arange(size), columns, 0, 0))
    eps = (eps - eps.mean(axis=0)) * np.sqrt(alpha * size / (size - 1.0))
    Y, A = HE - HE.mean(axis=0), E - E.mean(axis=0)
    gain = np.linalg.solve(Y.T @ Y / (size - 1.0) + alpha * dense(error), Y.T @ A / (size - 1.0))
    np.testing.assert_allclose(update.apply(E), E + (observed.y + eps - HE) @ gain, rtol=0, atol=1e-11)
