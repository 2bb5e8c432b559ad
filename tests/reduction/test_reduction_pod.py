"""POD against the singular value decomposition, in one and two levels."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.reduction.pod import compress, gram, orthonormal, pod, rank_for


@pytest.fixture
def snapshots() -> np.ndarray:
    rng = np.random.default_rng(0)
    u = np.linalg.qr(rng.standard_normal((40, 40)))[0]
    v = np.linalg.qr(rng.standard_normal((500, 40)))[0]
    return (u * 0.5 ** np.arange(40)) @ v.T


def test_pod_is_the_truncated_svd(snapshots: np.ndarray) -> None:
    basis = pod(snapshots, 1e-3)
    _, sigma, right = np.linalg.svd(snapshots, full_matrices=False)
    r = basis.rank
    np.testing.assert_allclose(basis.singular_values[:r], sigma[:r], rtol=1e-8)
    np.testing.assert_allclose(basis.vectors.T @ basis.vectors, np.eye(r), atol=1e-13)
    np.testing.assert_allclose(np.abs(basis.vectors.T @ right[:r].T), np.eye(r), atol=1e-6)
    left_out = snapshots - snapshots @ basis.vectors @ basis.vectors.T
    assert np.linalg.norm(left_out) <= 1e-3 * np.linalg.norm(snapshots)
    assert np.linalg.norm(left_out) / np.linalg.norm(snapshots) == pytest.approx(basis.tail, rel=1e-5)


def test_signs_do_not_depend_on_the_snapshots_signs(snapshots: np.ndarray) -> None:
    a, b = pod(snapshots, max_rank=5), pod(-snapshots, max_rank=5)
    np.testing.assert_allclose(a.vectors, b.vectors, atol=1e-12)


def test_two_levels_agree_with_one(snapshots: np.ndarray) -> None:
    parts = np.concatenate([compress(p, 1e-9)[0] for p in np.array_split(snapshots, 4)])
    one, two = pod(snapshots, max_rank=10), pod(parts, max_rank=10)
    np.testing.assert_allclose(one.vectors, two.vectors, atol=1e-9)


def test_compressed_rows_give_the_snapshots_back(snapshots: np.ndarray) -> None:
    rows, mix = compress(snapshots, 1e-6)
    assert len(rows) < len(snapshots)
    assert np.linalg.norm(mix @ rows - snapshots) < 2e-6 * np.linalg.norm(snapshots)


def test_a_share_of_the_voxels_finds_nearly_the_same_space(snapshots: np.ndarray) -> None:
    whole, part = pod(snapshots, max_rank=5), pod(snapshots, max_rank=5, voxels=150)
    left = [np.linalg.norm(snapshots - snapshots @ b.vectors @ b.vectors.T) for b in (whole, part)]
    assert left[1] < 1.5 * left[0]
    np.testing.assert_allclose(part.vectors.T @ part.vectors, np.eye(5), atol=1e-13)


def test_the_gram_matrix_does_not_depend_on_the_block(snapshots: np.ndarray) -> None:
    np.testing.assert_allclose(gram(snapshots, 7), snapshots @ snapshots.T, atol=1e-14)


def test_ranks_at_the_edges() -> None:
    assert rank_for(np.array([2.0, 1.0]), 0.0) == 2
    assert rank_for(np.array([2.0, 1.0]), 0.5) == 1
    assert rank_for(np.array([1.0, 1e-9]), 0.0) == 1
    assert rank_for(np.zeros(3), 0.1) == 0
    assert pod(np.zeros((3, 10))).rank == 0


@pytest.mark.parametrize("dependence", [1e-3, 1e-11])
def test_orthonormal_columns_are_householders_also_where_columns_nearly_depend(dependence: float) -> None:
    columns = np.random.default_rng(1).standard_normal((300, 6))
    columns[:, 5] = columns[:, 0] + dependence * columns[:, 5]
    wanted, upper = np.linalg.qr(columns)
    found = orthonormal(columns)
    np.testing.assert_allclose(found.T @ found, np.eye(6), atol=1e-14)
    np.testing.assert_allclose(found, wanted * np.sign(np.diag(upper)), atol=1e-15 / dependence + 1e-13)
