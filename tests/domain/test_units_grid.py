"""Units as they are written in scanner files, and the geometry of grids."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.domain.units import convert, factor


@pytest.mark.parametrize(
    ("unit", "to", "expected"),
    [
        ("mm2/s", "mm^2/s", 1.0),
        ("1e-6 mm2/s", "mm2/s", 1e-6),
        ("um2/ms", "mm2/s", 1e-3),
        ("µm²/ms", "mm2/s", 1e-3),
        ("min-1", "1/s", 1 / 60),
        ("mL/min/cm3", "1/min", 1.0),
        ("kBq/mL", "Bq/mL", 1e3),
        ("cGy", "Gy", 0.01),
        ("1e9/L", "1/mL", 1e6),
        ("percent", "1", 0.01),
        ("cmH2O", "mmHg", 0.735559),
        ("mM", "umol/L", 1e3),
        ("day", "s", 86400.0),
    ],
)
def test_units_convert(unit: str, to: str, expected: float) -> None:
    assert factor(unit, to) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("unit", "said"), [("mg", "cannot be converted to 'mm2/s'"), ("mm2/foo", "is not known")]
)
def test_units_that_do_not_fit_are_refused(unit: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        convert(np.ones(3), unit, "mm2/s", "patient.yaml: adc")
    assert "give it in a unit like 'mm2/s'" in str(caught.value)


def test_a_scale_with_an_offset_has_no_factor() -> None:
    with pytest.raises(BadInput):
        factor("degC", "kelvin")


def test_arrays_and_numbers_convert_alike() -> None:
    np.testing.assert_allclose(convert(np.array([1.0, 2.0]), "cm", "mm"), [10.0, 20.0])
    assert convert(3.0, "cm", "mm") == pytest.approx(30.0) and convert(3.0, "cm", "cm") == 3.0


def test_a_grid_knows_its_size_and_points() -> None:
    grid = Grid((2, 3, 4), (1.0, 2.0, 0.5), (9.0, 9.0, 9.0))
    assert grid.size == 24 and grid.voxel_volume == 1.0
    mask = np.zeros(grid.shape, bool)
    mask[1, 2, 3] = mask[0, 1, 0] = True
    np.testing.assert_array_equal(grid.points(mask), [[0.0, 2.0, 0.0], [1.0, 4.0, 1.5]])
    x, y, z = grid.centres()
    np.testing.assert_array_equal(z, [0.0, 0.5, 1.0, 1.5])
    assert len(x) == 2 and y[-1] == 4.0


def test_grids_are_the_same_within_a_tolerance() -> None:
    grid = Grid((2, 3, 4), (1.0, 2.0, 0.5))
    assert grid.same_as(Grid((2, 3, 4), (1.0, 2.0, 0.5), (5e-4, 0.0, 0.0)))
    assert not grid.same_as(Grid((2, 3, 4), (1.0, 2.0, 0.5), (5e-3, 0.0, 0.0)))
    assert not grid.same_as(Grid((2, 3, 4), (1.0, 2.01, 0.5)))
    assert not grid.same_as(Grid((2, 3, 5), (1.0, 2.0, 0.5)))
    assert not grid.same_as(Grid((2, 3, 4), (1.0, 2.0, 0.5), direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1)))
