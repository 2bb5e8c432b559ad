"""Sizes of shapes that are known, and the response criteria's own boundaries."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.imaging.extent import extent, lesions
from vvuq_twin.imaging.response import criterion, judge, response

GRID = Grid((80, 80, 20), (1.0, 1.0, 3.0))
I, J, K = (c * h for c, h in zip(np.indices(GRID.shape), GRID.spacing))


def _ellipsoid(centre, radii, angle=0.0):
    x, y, z = I - centre[0], J - centre[1], K - centre[2]
    u, v = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
    return (u / radii[0]) ** 2 + (v / radii[1]) ** 2 + (z / radii[2]) ** 2 <= 1


@pytest.mark.parametrize("angle", [0.0, 0.4, np.pi / 3])
def test_diameters_of_an_ellipsoid(angle: float) -> None:
    found = extent(_ellipsoid((40, 40, 30), (22, 13, 15), angle), GRID)
    assert found.longest == pytest.approx(44, abs=1.0)
    assert found.perpendicular == pytest.approx(26, abs=1.2)
    assert found.volume == pytest.approx(4 / 3 * np.pi * 22 * 13 * 15 * 1e-3, rel=0.03)
    assert found.slice == 10


def test_diameters_count_spacing_and_single_voxels() -> None:
    grid = Grid((10, 10, 3), (2.0, 0.5, 1.0))
    mask = np.zeros(grid.shape, bool)
    mask[3:6, 4, 1] = True
    found = extent(mask, grid)
    # from half a voxel before the first centre to half a voxel behind the last
    assert found.longest == pytest.approx(6.0)
    assert found.perpendicular == pytest.approx(0.5)
    assert found.volume == pytest.approx(3e-3)


def test_the_perpendicular_stays_inside_a_bent_lesion() -> None:
    # a C: the chord across its opening is not tissue
    ring = (
        (np.hypot(I - 40, J - 40) <= 30)
        & (np.hypot(I - 40, J - 40) >= 22)
        & ~((I > 40) & (np.abs(J - 40) < 15))
    )
    found = extent(ring & (K == 30), GRID)
    assert found.longest == pytest.approx(60, abs=1.5)
    # across the opening it would be 60; the longest piece of tissue at right angles is the top of the arc
    assert found.perpendicular == pytest.approx(41, abs=1.5)


def test_lesions_are_connected_parts_by_size() -> None:
    mask = _ellipsoid((20, 20, 30), (8, 8, 8)) | _ellipsoid((60, 60, 30), (12, 12, 12))
    mask[0, 0, 0] = True
    parts = lesions(mask, GRID)
    assert [int(p.sum()) for p in parts] == sorted((int(p.sum()) for p in parts), reverse=True)
    assert len(parts) == 3 and len(lesions(mask, GRID, least=0.1)) == 2


def test_recist_boundaries() -> None:
    rule = criterion("recist_1_1")
    categories = [r.category for r in judge([100, 70, 71, 84, 0, 3, 6], rule)]
    # 84 is 20 % and 14 mm above the nadir of 70; 3 mm after none is less than 5 mm, 6 mm is more
    assert categories == ["baseline", "PR", "SD", "PD", "CR", "PR", "PD"]
    # 20 % but less than 5 mm is not progression
    assert judge([20, 24], rule)[1].category == "SD"
    assert judge([20, 25], rule)[1].category == "PD"
    assert judge([50, 30, np.nan, 36], rule, [False, False, False, False])[2].category == "not evaluable"
    assert judge([50, 30], rule, [False, True])[1].category == "PD"
    assert judge([50, 30], rule, worse=[False, True])[1].category == "PD"
    changes = judge([50, 30, 40], rule)[2]
    assert changes.from_baseline == pytest.approx(-0.2) and changes.from_nadir == pytest.approx(1 / 3)


def test_rano_boundaries() -> None:
    rule = criterion("rano")
    assert [r.category for r in judge([400, 200, 201, 250, 249], rule)] == [
        "baseline",
        "PR",
        "SD",
        "PD",
        "SD",
    ]
    assert [r.category for r in judge([400, 0, 10], rule)] == ["baseline", "CR", "PD"]


def test_response_from_masks_follows_the_targets() -> None:
    one, two = _ellipsoid((25, 25, 30), (14, 10, 9)), _ellipsoid((58, 58, 30), (9, 8, 9))
    smaller = _ellipsoid((26, 25, 30), (9, 6, 6))
    elsewhere = _ellipsoid((20, 65, 30), (7, 7, 7))
    rule = criterion("recist_1_1")
    found = response([one | two, smaller, smaller | elsewhere, np.zeros(GRID.shape, bool)], GRID, rule)
    assert [r.category for r in found] == ["baseline", "PR", "PD", "CR"]
    assert found[2].new_lesion and not found[1].new_lesion
    assert found[0].total == pytest.approx(28 + 18, abs=2)
    assert response([one, smaller], GRID, criterion("rano"))[1].category == "PR"


def test_bad_input_is_one_sentence() -> None:
    with pytest.raises(BadInput, match="no lesion of the first visit is measurable"):
        response([_ellipsoid((40, 40, 30), (3, 3, 4))] * 2, GRID, criterion("rano"))
    with pytest.raises(BadInput, match="visit 2 is on another grid"):
        response(
            [_ellipsoid((40, 40, 30), (9, 9, 9)), np.ones((3, 3, 3), bool)], GRID, criterion("recist_1_1")
        )
    with pytest.raises(BadInput, match="mask is empty"):
        extent(np.zeros(GRID.shape, bool), GRID)
    with pytest.raises(BadInput, match="no measurable lesion"):
        judge([0.0, 3.0], criterion("rano"))
