"""Finer voxels of the same domain."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.physics.faces import assemble
from vvuq_twin.physics.refine import refine


@pytest.fixture(scope="module")
def faces():
    rng = np.random.default_rng(4)
    grid = Grid((6, 5, 4), (2.0, 2.0, 3.0))
    labels = np.where(np.arange(6)[:, None, None] < 3, 7, 9) * np.ones(grid.shape, int)
    return assemble(grid, rng.random(grid.shape) < 0.8, labels, {"white": 7, "grey": 9})


def test_volume_tissue_and_place_are_kept(faces):
    fine = refine(faces, np.ones(faces.n, bool), 3)
    assert fine.faces.n == 27 * faces.n
    assert fine.faces.n * fine.faces.grid.voxel_volume == pytest.approx(faces.n * faces.grid.voxel_volume)
    np.testing.assert_array_equal(np.bincount(fine.parent), np.full(faces.n, 27))
    np.testing.assert_array_equal(fine.faces.label, faces.label[fine.parent])
    coarse = faces.grid.points(faces.mask) + 0.5 * np.array(faces.grid.spacing)
    mine = fine.faces.grid.points(fine.faces.mask) + 0.5 * np.array(fine.faces.grid.spacing)
    shift = (mine - coarse[fine.parent]).mean(axis=0)
    assert (np.abs(mine - coarse[fine.parent] - shift) <= np.array([2 / 3, 2 / 3, 1.0]) + 1e-9).all()


def test_a_part_and_a_flat_grid(faces):
    keep = faces.label == 1
    part = refine(faces, keep, 1)
    np.testing.assert_array_equal(part.parent, np.flatnonzero(keep))
    flat = assemble(
        Grid((4, 4, 1), (1.0, 1.0, 1.0)), np.ones((4, 4, 1), bool), np.ones((4, 4, 1), int), {"a": 1}
    )
    assert refine(flat, np.ones(16, bool), 2).faces.grid.shape == (8, 8, 1)


def test_bad_input(faces):
    with pytest.raises(BadInput, match="no cell is kept"):
        refine(faces, np.zeros(faces.n, bool), 2)
    with pytest.raises(BadInput, match="not a positive whole number"):
        refine(faces, np.ones(faces.n, bool), 0)
