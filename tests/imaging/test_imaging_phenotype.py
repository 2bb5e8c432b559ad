"""The IBSI's digital phantom and its reference values, and shapes whose features are known.

Phantom: IBSI-1 digital phantom (A. Zwanenburg; data_sets of the IBSI, CC BY 4.0). Values: IBSI reference manual,
chapter 3, as printed ("dig. phantom"); tolerances as printed, else half of the last printed digit.
"""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.imaging.phenotype import phenotype
from vvuq_twin.imaging.shape import shape_features
from vvuq_twin.imaging.texture import DIRECTIONS, discretise, first_order, glcm_features, histogram_features

GRID = Grid((5, 4, 4), (2.0, 2.0, 2.0))
LEVELS = np.array(
    [
        [[1, 1, 1, 1], [1, 1, 1, 1], [4, 1, 1, 1], [4, 4, 1, 1]],
        [[4, 4, 4, 4], [4, 1, 1, 1], [1, 1, 1, 1], [4, 4, 1, 1]],
        [[4, 4, 4, 4], [6, 6, 1, 1], [6, 3, 9, 1], [6, 6, 6, 6]],
        [[1, 1, 1, 1], [1, 1, 1, 1], [4, 1, 1, 1], [4, 1, 1, 1]],
        [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]],
    ]
)
MASK = np.ones((5, 4, 4), bool)
MASK[0, 2, 1] = MASK[2, 2, 2] = MASK[3, 0, 2] = MASK[3, 0, 3] = MASK[4, 0, 2] = MASK[4, 0, 3] = False

SHAPE = {
    "volume_mesh_mm3": (556, 4), "volume_voxels_mm3": (592, 4), "surface_area_mm2": (388, 3),
    "surface_to_volume_per_mm": (0.698, 0.004), "compactness_1": (0.0411, 0.0003), "compactness_2": (0.599, 0.004),
    "spherical_disproportion": (1.19, 0.01), "sphericity": (0.843, 0.005), "asphericity": (0.186, 0.001),
    "centre_of_mass_shift_mm": (0.672, 0.004), "maximum_3d_diameter_mm": (13.1, 0.1), "major_axis_mm": (11.4, 0.1),
    "minor_axis_mm": (9.31, 0.06), "least_axis_mm": (8.54, 0.05), "elongation": (0.816, 0.005),
    "flatness": (0.749, 0.005), "volume_density_box": (0.869, 0.005), "area_density_box": (0.866, 0.005),
    "volume_density_hull": (0.961, 0.006), "area_density_hull": (1.03, 0.01), "integrated_intensity": (1200, 10),
}  # fmt: skip
FIRST = {
    "mean": 2.15, "variance": 3.05, "skewness": 1.08, "excess_kurtosis": -0.355, "median": 1, "minimum": 1,
    "percentile_10": 1, "percentile_90": 4, "maximum": 6, "interquartile_range": 3, "range": 5,
    "mean_absolute_deviation": 1.55, "robust_mean_absolute_deviation": 1.11, "median_absolute_deviation": 1.15,
    "coefficient_of_variation": 0.812, "quartile_coefficient_of_dispersion": 0.6, "energy": 567,
    "root_mean_square": 2.77, "entropy": 1.27, "uniformity": 0.512,
}  # fmt: skip
#: 3D averaged, 3D merged.
GLCM = {
    "joint_maximum": (0.503, 0.509), "joint_average": (2.14, 2.15), "joint_variance": (3.1, 3.13),
    "joint_entropy": (2.4, 2.57), "difference_average": (1.43, 1.38), "difference_variance": (3.06, 3.21),
    "difference_entropy": (1.56, 1.64), "sum_average": (4.29, 4.3), "sum_variance": (7.07, 7.41),
    "sum_entropy": (1.92, 2.11), "angular_second_moment": (0.303, 0.291), "contrast": (5.32, 5.12),
    "dissimilarity": (1.43, 1.38), "inverse_difference": (0.677, 0.688),
    "normalised_inverse_difference": (0.851, 0.856), "inverse_difference_moment": (0.618, 0.631),
    "normalised_inverse_difference_moment": (0.898, 0.902), "inverse_variance": (0.0604, 0.0574),
    "correlation": (0.157, 0.183), "autocorrelation": (5.06, 5.19), "cluster_tendency": (7.07, 7.41),
    "cluster_shade": (16.6, 17.4), "cluster_prominence": (145, 147), "information_correlation_1": (-0.157, -0.0288),
    "information_correlation_2": (0.52, 0.269),
}  # fmt: skip


def _half_digit(value: float) -> float:
    text = f"{abs(value):g}"
    return 0.5 * 10.0 ** -len(text.partition(".")[2]) * (1 + 1e-9)


def test_ibsi_shape() -> None:
    found = shape_features(MASK, GRID, LEVELS)
    assert set(found) == set(SHAPE)
    off = {k: (found[k], v) for k, (v, tolerance) in SHAPE.items() if not abs(found[k] - v) <= tolerance}
    assert off == {}


def test_ibsi_first_order() -> None:
    levels = discretise(LEVELS, MASK, bin_size=1.0, start=1.0)
    found = first_order(LEVELS[MASK]) | histogram_features(levels)
    assert set(found) == set(FIRST)
    assert {k: found[k] for k, v in FIRST.items() if not abs(found[k] - v) <= _half_digit(v)} == {}


@pytest.mark.parametrize(("column", "aggregate"), [(0, "averaged"), (1, "merged")])
def test_ibsi_co_occurrence(column: int, aggregate: str) -> None:
    levels = np.where(MASK, LEVELS, 0)
    assert len(DIRECTIONS) == 13
    found = glcm_features(levels, aggregate)
    assert set(found) == set(GLCM)
    # three digits are printed, trailing zeros are not: 4.3 may be 4.30, 2.4 may be 2.40
    printed = {k: v[column] for k, v in GLCM.items()}
    off = {k: (found[k], v) for k, v in printed.items() if not abs(found[k] - v) <= _half_digit(v)}
    assert off == {}


def test_discretisation() -> None:
    assert (discretise(LEVELS, MASK, bin_size=1.0, start=1.0) == np.where(MASK, LEVELS, 0)).all()
    assert (discretise(LEVELS, MASK, bins=6) == np.where(MASK, LEVELS, 0)).all()
    missing = LEVELS.astype(float)
    missing[1, 1, 1] = np.nan
    assert discretise(missing, MASK, bins=6)[1, 1, 1] == 0
    with pytest.raises(BadInput, match="below the start"):
        discretise(LEVELS, MASK, bin_size=1.0, start=2.0)
    with pytest.raises(BadInput, match="bin size or a number"):
        discretise(LEVELS, MASK)


def test_a_sphere_is_round_on_any_spacing() -> None:
    for spacing in ((1.0, 1.0, 1.0), (1.0, 1.0, 2.0)):
        grid = Grid(tuple(round(60 / h) for h in spacing), spacing)
        x = np.stack([c * h - 30 for c, h in zip(np.indices(grid.shape), spacing)])
        found = shape_features((x**2).sum(axis=0) <= 22**2, grid)
        assert found["volume_mesh_mm3"] == pytest.approx(4 / 3 * np.pi * 22**3, rel=0.02)
        # the mesh of a binary mask is stepped: its area is some percent too large whatever the resolution
        assert 0.88 < found["sphericity"] < 0.97
        # the axis of a uniform ball by its second moments: 4 R / sqrt(5)
        assert found["major_axis_mm"] == pytest.approx(4 * 22 / np.sqrt(5), rel=0.01)
        assert found["elongation"] > 0.97


def test_the_table_of_a_visit() -> None:
    rng = np.random.default_rng(0)
    image = rng.uniform(0.5e-3, 2e-3, MASK.shape)
    found = phenotype(MASK, GRID, {"adc": image}, {"adc": 1e-4})
    assert {k.split(".")[0] for k in found} == {"shape", "adc"}
    assert found["adc.mean"] == pytest.approx(image[MASK].mean())
    assert np.isfinite(list(found.values())).all()
    with pytest.raises(BadInput, match="no bin size is given for adc"):
        phenotype(MASK, GRID, {"adc": image}, {})
    with pytest.raises(BadInput, match="mask is empty"):
        phenotype(np.zeros_like(MASK), GRID, {}, {})
