"""How large a lesion is: volume, longest diameter, and the longest one at right angles to it.

Diameters are taken in the slices of the image (its third axis), on the outline half-way between voxels inside and
outside, as a caliper on the picture would be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, spatial

from ..domain.errors import BadInput
from ..domain.grid import Grid


@dataclass(frozen=True)
class Extent:
    """Size of one lesion.

    Parameters
    ----------
    volume : float
        mL: voxels times their volume.
    longest, perpendicular : float
        Longest diameter in any slice and the longest chord at right angles to it in that slice, mm.
    slice : int
        In which slice.
    ends : ndarray, shape (2, 2)
        The longest diameter's ends, mm along the first two axes.
    """

    volume: float
    longest: float
    perpendicular: float
    slice: int
    ends: np.ndarray

    @property
    def product(self) -> float:
        """Of the two diameters, mm2."""
        return self.longest * self.perpendicular


def extent(mask: np.ndarray, grid: Grid) -> Extent:
    """Measure a mask as one lesion.

    Raises
    ------
    BadInput
        If the mask is empty or not on the grid.
    """
    if mask.shape != grid.shape:
        raise BadInput(
            f"the mask has {mask.shape} voxels, its grid {grid.shape}", "lesion size", "use its own grid"
        )
    if not mask.any():
        raise BadInput("the mask is empty", "lesion size", "a lesion that is gone has no size")
    best: tuple[float, int, np.ndarray, list[np.ndarray]] | None = None
    for k in np.flatnonzero(mask.any(axis=(0, 1))).tolist():
        outlines = _outlines(mask[:, :, k], grid.spacing[:2])
        points = np.concatenate(outlines)
        hull = points[spatial.ConvexHull(points).vertices]
        apart = spatial.distance.cdist(hull, hull)
        i, j = np.unravel_index(int(apart.argmax()), apart.shape)
        if best is None or apart[i, j] > best[0]:
            best = float(apart[i, j]), k, hull[[i, j]], outlines
    assert best is not None
    longest, k, ends, outlines = best
    return Extent(
        float(mask.sum()) * grid.voxel_volume * 1e-3, longest, _perpendicular(outlines, ends), k, ends
    )


def _outlines(plane: np.ndarray, spacing: tuple[float, ...]) -> list[np.ndarray]:
    """Closed outlines of a slice in mm, half-way between voxels."""
    from skimage.measure import find_contours

    padded = np.pad(plane.astype(float), 1)
    return [(c - 1.0) * np.array(spacing) for c in find_contours(padded, 0.5)]


def _perpendicular(outlines: list[np.ndarray], ends: np.ndarray) -> float:
    """Longest chord inside the outlines at right angles to a diameter; holes and gaps end a chord."""
    along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    across = np.array([-along[1], along[0]])
    edges = [(c[:-1] @ along, c[1:] @ along, c[:-1] @ across, c[1:] @ across) for c in outlines]
    u0, u1, v0, v1 = (np.concatenate(part) for part in zip(*edges))
    knots = np.unique(np.concatenate([u0, u1]))
    # a chord's length is linear between corners: look just beside each of them
    tiny = 1e-7 * (knots[-1] - knots[0])
    longest = 0.0
    for u in np.concatenate([knots - tiny, knots + tiny]):
        crossing = (u0 < u) != (u1 < u)
        v = np.sort(v0[crossing] + (u - u0[crossing]) / (u1[crossing] - u0[crossing]) * (v1 - v0)[crossing])
        if len(v) >= 2:
            longest = max(longest, float((v[1::2] - v[::2]).max()))
    return longest


def lesions(mask: np.ndarray, grid: Grid, least: float = 0.0) -> list[np.ndarray]:
    """Connected parts of a mask (26 neighbours), largest volume first, those below ``least`` mL left out."""
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel())[1:] if count else np.zeros(0)
    order = np.argsort(-sizes, kind="stable")
    return [labels == i + 1 for i in order if sizes[i] * grid.voxel_volume * 1e-3 >= least]
