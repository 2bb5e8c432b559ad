"""First-order and grey-level co-occurrence features after the IBSI (IBSI 1, Zwanenburg et al. 2020).

First-order features are of the intensities themselves; entropy, uniformity and co-occurrence of discretised ones,
with a fixed bin size from a fixed start (recommended where the intensities have a unit) or a fixed number of bins.
Co-occurrence is in three dimensions over the 13 directions to neighbouring voxels, symmetric.
"""

from __future__ import annotations

from typing import Literal

import numba
import numpy as np

from ..domain.errors import BadInput


def first_order(values: np.ndarray) -> dict[str, float]:
    """Statistics of the intensities in a region, shape (n,); missing ones are left out.

    Raises
    ------
    BadInput
        If there is no value.
    """
    x = np.asarray(values, dtype=float).ravel()
    x = x[np.isfinite(x)]
    if not x.size:
        raise BadInput(
            "the image holds no value in the mask", "first-order features", "give the image of this mask"
        )
    mean, variance = x.mean(), x.var()
    p10, p25, median, p75, p90 = np.percentile(x, [10, 25, 50, 75, 90])
    robust = x[(x >= p10) & (x <= p90)]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {
            "mean": mean,
            "variance": variance,
            "skewness": ((x - mean) ** 3).mean() / variance**1.5 if variance > 0 else 0.0,
            "excess_kurtosis": ((x - mean) ** 4).mean() / variance**2 - 3.0 if variance > 0 else 0.0,
            "median": median,
            "minimum": x.min(),
            "percentile_10": p10,
            "percentile_90": p90,
            "maximum": x.max(),
            "interquartile_range": p75 - p25,
            "range": np.ptp(x),
            "mean_absolute_deviation": np.abs(x - mean).mean(),
            "robust_mean_absolute_deviation": np.abs(robust - robust.mean()).mean(),
            "median_absolute_deviation": np.abs(x - median).mean(),
            "coefficient_of_variation": np.sqrt(variance) / mean if mean != 0 else np.nan,
            "quartile_coefficient_of_dispersion": (p75 - p25) / (p75 + p25) if p75 + p25 != 0 else np.nan,
            "energy": (x**2).sum(),
            "root_mean_square": np.sqrt((x**2).mean()),
        }
    return {k: float(v) for k, v in found.items()}


def discretise(
    image: np.ndarray,
    mask: np.ndarray,
    *,
    bin_size: float | None = None,
    start: float | None = None,
    bins: int | None = None,
) -> np.ndarray:
    """Grey levels from 1 in the mask, 0 outside it and where the image is missing.

    Parameters
    ----------
    image, mask : ndarray, same shape
    bin_size : float, optional
        Width of a level in the image's unit; levels are counted from ``start``.
    start : float, optional
        Lower end of level 1; the least value in the mask if absent.
    bins : int, optional
        In place of ``bin_size``: that many levels between the least and the greatest value.

    Raises
    ------
    BadInput
        If not exactly one of ``bin_size`` and ``bins`` is given, or values lie below ``start``.
    """
    if (bin_size is None) == (bins is None) or (bin_size or bins or 0) <= 0:
        raise BadInput(
            "grey levels need a bin size or a number of bins, positive", "texture", "give one of the two"
        )
    inside = mask & np.isfinite(image)
    if not inside.any():
        raise BadInput("the image holds no value in the mask", "texture", "give the image of this mask")
    values = image[inside].astype(float)
    low = float(values.min()) if start is None or bins is not None else start
    if values.min() < low:
        raise BadInput(
            f"values as low as {values.min():.3g} lie below the start {low:.3g}", "texture", "lower the start"
        )
    levels = np.zeros(image.shape, dtype=np.int64)
    if bins is not None:
        width = float(np.ptp(values))
        scaled = (
            np.floor(bins * (values - low) / width).astype(np.int64) + 1
            if width > 0
            else np.ones(len(values), int)
        )
        levels[inside] = np.minimum(scaled, bins)
    else:
        assert bin_size is not None
        levels[inside] = np.floor((values - low) / bin_size).astype(np.int64) + 1
    return levels


def histogram_features(levels: np.ndarray) -> dict[str, float]:
    """Entropy (bits) and uniformity of the discretised intensities."""
    p = np.bincount(levels[levels > 0])[1:] / (levels > 0).sum()
    return {"entropy": float(_entropy(p)), "uniformity": float((p**2).sum())}


DIRECTIONS = np.array(
    [(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1) if (k, j, i) > (0, 0, 0)]
)


@numba.njit(cache=True)
def _count(levels: np.ndarray, directions: np.ndarray, out: np.ndarray) -> None:
    ni, nj, nk = levels.shape
    for d in range(directions.shape[0]):
        a, b, c = directions[d]
        for i in range(max(0, -a), ni - max(0, a)):
            for j in range(max(0, -b), nj - max(0, b)):
                for k in range(max(0, -c), nk - max(0, c)):
                    x, y = levels[i, j, k], levels[i + a, j + b, k + c]
                    if x > 0 and y > 0:
                        out[d, x - 1, y - 1] += 1.0
                        out[d, y - 1, x - 1] += 1.0


def co_occurrence(levels: np.ndarray) -> np.ndarray:
    """Symmetric counts of neighbouring levels, shape (13, g, g): one matrix a direction."""
    g = int(levels.max())
    out = np.zeros((len(DIRECTIONS), g, g))
    _count(np.ascontiguousarray(levels), DIRECTIONS, out)
    return out


def glcm_features(
    levels: np.ndarray, aggregate: Literal["averaged", "merged"] = "averaged"
) -> dict[str, float]:
    """The 25 co-occurrence features in three dimensions.

    Parameters
    ----------
    levels : ndarray of int, shape (i, j, k)
        From :func:`discretise`.
    aggregate : {"averaged", "merged"}
        Features of each direction averaged (IBSI: 3D, averaged), or features of the sum of all matrices (3D, merged).

    Raises
    ------
    BadInput
        If no two neighbouring voxels have a level.
    """
    counts = co_occurrence(levels)
    if aggregate == "merged":
        counts = counts.sum(axis=0, keepdims=True)
    total = counts.sum(axis=(1, 2))
    if not (total > 0).any():
        raise BadInput("no two neighbouring voxels lie in the mask", "texture", "use a larger mask")
    each = [_matrix_features(c / n) for c, n in zip(counts, total) if n > 0]
    return {name: float(np.mean([f[name] for f in each])) for name in each[0]}


def _entropy(p: np.ndarray) -> float:
    q = p[p > 0]
    return float(-(q * np.log2(q)).sum())


def _matrix_features(p: np.ndarray) -> dict[str, float]:
    g = len(p)
    i, j = np.indices((g, g)) + 1.0
    level = np.arange(1, g + 1.0)
    row = p.sum(axis=1)
    apart = np.bincount(np.abs(i - j).astype(int).ravel(), p.ravel(), g)
    added = np.bincount((i + j).astype(int).ravel(), p.ravel(), 2 * g + 1)
    k, s = np.arange(g), np.arange(2 * g + 1.0)
    mu = float((row * level).sum())
    variance = float((row * (level - mu) ** 2).sum())
    difference, total = float((k * apart).sum()), float((s * added).sum())
    joint, single = _entropy(p), _entropy(row)
    outer = np.outer(row, row)
    there = outer > 0
    cross = float(-(p[there] * np.log2(outer[there])).sum())
    independent = float(-(outer[there] * np.log2(outer[there])).sum())
    auto = float((i * j * p).sum())
    cluster = i + j - 2.0 * mu
    off = k[1:]
    return {
        "joint_maximum": float(p.max()),
        "joint_average": mu,
        "joint_variance": variance,
        "joint_entropy": joint,
        "difference_average": difference,
        "difference_variance": float(((k - difference) ** 2 * apart).sum()),
        "difference_entropy": _entropy(apart),
        "sum_average": total,
        "sum_variance": float(((s - total) ** 2 * added).sum()),
        "sum_entropy": _entropy(added),
        "angular_second_moment": float((p**2).sum()),
        "contrast": float((k**2 * apart).sum()),
        "dissimilarity": difference,
        "inverse_difference": float((apart / (1.0 + k)).sum()),
        "normalised_inverse_difference": float((apart / (1.0 + k / g)).sum()),
        "inverse_difference_moment": float((apart / (1.0 + k**2)).sum()),
        "normalised_inverse_difference_moment": float((apart / (1.0 + k**2 / g**2)).sum()),
        "inverse_variance": float((apart[1:] / off**2).sum()),
        "correlation": (auto - mu**2) / variance if variance > 0 else 1.0,
        "autocorrelation": auto,
        "cluster_tendency": float((cluster**2 * p).sum()),
        "cluster_shade": float((cluster**3 * p).sum()),
        "cluster_prominence": float((cluster**4 * p).sum()),
        "information_correlation_1": (joint - cross) / single if single > 0 else 0.0,
        "information_correlation_2": float(np.sqrt(max(1.0 - np.exp(-2.0 * (independent - joint)), 0.0))),
    }
