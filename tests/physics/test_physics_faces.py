"""The assembler: numbering, groups, conductances, sparse terms."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.physics.faces import assemble, harmonic

NAMES = {"white": 1, "grey": 2}


def brute_force(grid, mask, labels, d):
    """div(D grad) as a dense matrix from the definition, cell by cell."""
    cells = [tuple(c) for c in np.argwhere(mask)]
    number = {c: i for i, c in enumerate(cells)}
    a = np.zeros((len(cells), len(cells)))
    for cell, i in number.items():
        for axis in range(3):
            for step in (-1, 1):
                other = list(cell)
                other[axis] += step
                j = number.get(tuple(other))
                if j is None:
                    continue
                p, q = d[labels[cell]], d[labels[tuple(other)]]
                g = 2 * p * q / (p + q) / grid.spacing[axis] ** 2
                a[i, j] += g
                a[i, i] -= g
    return a


def test_operator_is_the_definition():
    rng = np.random.default_rng(3)
    grid = Grid((5, 4, 6), (1.0, 1.5, 2.0))
    mask, labels = rng.random(grid.shape) < 0.7, rng.integers(1, 3, grid.shape)
    faces = assemble(grid, mask, labels, NAMES)
    expected = brute_force(grid, mask, labels, {1: 0.3, 2: 0.05})
    np.testing.assert_allclose(faces.operator(np.array([0.3, 0.05])).toarray(), expected, rtol=0, atol=1e-15)


def test_order_is_that_of_the_mask():
    rng = np.random.default_rng(4)
    grid = Grid((7, 5, 20), (1.0, 1.0, 1.0))
    mask = rng.random(grid.shape) < 0.4
    faces = assemble(grid, mask, np.ones(grid.shape, int), NAMES)
    field = rng.random(grid.shape)
    flat = faces.gather(field)
    np.testing.assert_array_equal(flat, field[mask])
    np.testing.assert_array_equal(faces.scatter(flat)[mask], flat)
    assert faces.scatter(flat)[~mask].sum() == 0
    np.testing.assert_array_equal(faces.boxed(flat).ravel()[faces.place], flat)


def test_rows_cover_every_active_cell_and_stay_inside():
    rng = np.random.default_rng(5)
    for depth in (3, 16, 37):
        grid = Grid((6, 5, depth), (1.0, 1.0, 1.0))
        faces = assemble(grid, rng.random(grid.shape) < 0.3, np.ones(grid.shape, int), NAMES)
        covered = np.zeros(faces.box, bool)
        for i, j, a, b in faces.rows:
            assert 1 <= a < b <= faces.box[2] - 1
            covered[i, j, a:b] = True
        assert covered.ravel()[faces.place].all()


def test_conductance_is_harmonic_and_batched():
    groups = ((0, 0), (0, 1), (1, 1))
    got = harmonic(np.array([[0.4, 0.1], [0.0, 0.0], [0.2, 0.0]]), groups)
    np.testing.assert_allclose(got, [[0.4, 0.16, 0.1], [0, 0, 0], [0.2, 0, 0]])


def test_terms_are_affine_in_the_conductances():
    rng = np.random.default_rng(6)
    grid = Grid((5, 5, 5), (1.0, 1.0, 1.0))
    labels = rng.integers(1, 3, grid.shape)
    faces = assemble(grid, np.ones(grid.shape, bool), labels, NAMES)
    assert faces.groups == ((0, 0), (0, 1), (1, 1))
    c = faces.conductance(np.array([0.7, 0.2]))
    total = sum(ci * a for ci, a in zip(c, faces.sparse_terms()))
    np.testing.assert_allclose(
        total.toarray(), brute_force(grid, faces.mask, labels, {1: 0.7, 2: 0.2}), atol=1e-15
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": np.zeros((3, 3, 3), bool)}, "mask of the organ is empty"),
        ({"labels": np.full((3, 3, 3), 7)}, "label 7 in the mask has no tissue name"),
        ({"mask": np.ones((2, 3, 3), bool)}, "not on the grid"),
        ({"grid": Grid((3, 3, 3), (1.0, 0.0, 1.0))}, "spacing is not positive"),
    ],
)
def test_bad_input(change, message):
    good = {
        "grid": Grid((3, 3, 3), (1.0, 1.0, 1.0)),
        "mask": np.ones((3, 3, 3), bool),
        "labels": np.ones((3, 3, 3), int),
    }
    with pytest.raises(BadInput, match=message):
        assemble(**{**good, **change}, names=NAMES)
