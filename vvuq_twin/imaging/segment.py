"""Masks from images: thresholds, region growing, confidence connected and level sets (SimpleITK), and plug-ins.

The user's own masks come first: these are for what nobody has outlined. Every function takes an image on its grid and
returns a mask on it; each is a proposal that a person should look at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from ..domain.errors import BadInput
from ..domain.grid import Grid

#: What a plug-in is: the images of a visit by role and their grid, to a mask on that grid.
Segmenter = Callable[[Mapping[str, np.ndarray], Grid], np.ndarray]
Index = tuple[int, int, int]


def _sitk(image: np.ndarray, grid: Grid) -> Any:
    """A SimpleITK image (float32) with the grid's spacing; missing voxels become the least value."""
    import SimpleITK as sitk

    if image.shape != grid.shape:
        raise BadInput(
            f"the image has {image.shape} voxels, its grid {grid.shape}", "segmentation", "use its own grid"
        )
    there = np.isfinite(image)
    if not there.any():
        raise BadInput("the image holds no value", "segmentation", "give another image")
    out = sitk.GetImageFromArray(
        np.where(there, image, image[there].min()).astype(np.float32).transpose(2, 1, 0)
    )
    out.SetSpacing([float(s) for s in grid.spacing])
    return out


def _mask(image: Any) -> np.ndarray:
    import SimpleITK as sitk

    return np.asarray(sitk.GetArrayFromImage(image).transpose(2, 1, 0) > 0)


def _seeds(seeds: Sequence[Index], grid: Grid) -> list[list[int]]:
    """Seeds as whole-number voxel indices inside the grid."""
    out = [[int(c) for c in s] for s in seeds]
    for s in out:
        if len(s) != 3 or not all(0 <= c < n for c, n in zip(s, grid.shape)):
            raise BadInput(
                f"the seed {tuple(s)} is not in the image of {grid.shape} voxels", "segmentation", "move it"
            )
    if not out:
        raise BadInput("there is no seed", "segmentation", "name a voxel inside the lesion")
    return out


def threshold(image: np.ndarray, grid: Grid, low: float, high: float = np.inf) -> np.ndarray:
    """Voxels between two values, both included."""
    import SimpleITK as sitk

    top = min(float(high), float(np.finfo(np.float32).max))
    return _mask(sitk.BinaryThreshold(_sitk(image, grid), float(low), top, 1, 0)) & np.isfinite(image)


def otsu(image: np.ndarray, grid: Grid, within: np.ndarray | None = None) -> np.ndarray:
    """Voxels above the threshold that splits the histogram best (Otsu 1979), of a region if given."""
    import SimpleITK as sitk

    filter_ = sitk.OtsuThresholdImageFilter()
    filter_.SetInsideValue(0)
    filter_.SetOutsideValue(1)
    if within is None:
        return _mask(filter_.Execute(_sitk(image, grid)))
    region = sitk.GetImageFromArray(within.astype(np.uint8).transpose(2, 1, 0))
    region.SetSpacing([float(s) for s in grid.spacing])
    filter_.SetMaskValue(1)
    filter_.MaskOutputOff()
    return _mask(filter_.Execute(_sitk(image, grid), region)) & within


def region_growing(
    image: np.ndarray, grid: Grid, seeds: Sequence[Index], low: float, high: float = np.inf
) -> np.ndarray:
    """Voxels between two values that are connected to a seed through such voxels."""
    import SimpleITK as sitk

    top = min(float(high), float(np.finfo(np.float32).max))
    found = sitk.ConnectedThreshold(_sitk(image, grid), _seeds(seeds, grid), lower=float(low), upper=top)
    return _some(_mask(found), "no seed lies between the thresholds")


def confidence_connected(
    image: np.ndarray,
    grid: Grid,
    seeds: Sequence[Index],
    multiplier: float = 2.5,
    rounds: int = 4,
    radius: int = 1,
) -> np.ndarray:
    """Region growing whose limits are the region's own mean and spread, found anew ``rounds`` times.

    Parameters
    ----------
    multiplier : float
        Standard deviations that a voxel may be away from the mean.
    rounds : int
    radius : int
        Voxels around each seed that the first mean is taken over.
    """
    import SimpleITK as sitk

    found = sitk.ConfidenceConnected(
        _sitk(image, grid), _seeds(seeds, grid), numberOfIterations=rounds, multiplier=multiplier,
        initialNeighborhoodRadius=radius, replaceValue=1,
    )  # fmt: skip
    return _some(_mask(found), "nothing is connected to the seeds")


def level_set(
    image: np.ndarray,
    grid: Grid,
    start: np.ndarray,
    *,
    smoothing: float = 1.0,
    propagation: float = 1.0,
    curvature: float = 0.5,
    advection: float = 1.0,
    iterations: int = 400,
) -> np.ndarray:
    """Geodesic active contour (Caselles et al. 1997): an outline that moves out from ``start`` and stops at edges.

    Parameters
    ----------
    image : ndarray, shape ``grid.shape``
    grid : Grid
    start : ndarray of bool, same shape
        Inside the lesion.
    smoothing : float
        Standard deviation of the Gaussian under which the gradient is taken, mm; a voxel at least.
    propagation, curvature, advection : float
        Weights of outward motion (negative: inward), of smoothness, and of attraction by edges.
    iterations : int

    Raises
    ------
    BadInput
        If the start is empty or nothing is left.
    """
    import SimpleITK as sitk

    if start.shape != grid.shape or not start.any():
        raise BadInput(
            "the level set's start is empty or off the grid",
            "segmentation",
            "start from a mask in the lesion",
        )
    source = _sitk(image, grid)
    slope = sitk.GradientMagnitudeRecursiveGaussian(source, max(smoothing, min(grid.spacing)))
    steep = _array(slope)
    # speed one where the image is flat, zero at edges: a sigmoid between what is usual inside and a strong edge
    quiet, strong = np.percentile(steep[start], 50), np.percentile(steep, 98)
    if not strong > quiet:
        raise BadInput(
            "the image has no edge around the start", "segmentation", "choose another image or start"
        )
    middle, width = (quiet + strong) / 2.0, (strong - quiet) / 6.0
    speed = sitk.Sigmoid(slope, -float(width), float(middle), 1.0, 0.0)
    inside = sitk.GetImageFromArray(start.astype(np.uint8).transpose(2, 1, 0))
    inside.CopyInformation(source)
    distance = sitk.SignedMaurerDistanceMap(
        inside, insideIsPositive=False, squaredDistance=False, useImageSpacing=True
    )
    flow = sitk.GeodesicActiveContourLevelSetImageFilter()
    flow.SetPropagationScaling(propagation)
    flow.SetCurvatureScaling(curvature)
    flow.SetAdvectionScaling(advection)
    flow.SetMaximumRMSError(1e-4)
    flow.SetNumberOfIterations(iterations)
    found = flow.Execute(sitk.Cast(distance, sitk.sitkFloat32), sitk.Cast(speed, sitk.sitkFloat32))
    return _some(_array(found) < 0, "the level set vanished")


def _array(image: Any) -> np.ndarray:
    import SimpleITK as sitk

    return np.asarray(sitk.GetArrayFromImage(image).transpose(2, 1, 0))


def _some(mask: np.ndarray, problem: str) -> np.ndarray:
    if not mask.any():
        raise BadInput(problem, "segmentation", "move the seeds or widen the limits")
    return mask


def clean(mask: np.ndarray, grid: Grid, least: float = 0.0, closing: float = 0.0) -> np.ndarray:
    """The largest connected part, its holes filled, gaps up to ``closing`` mm closed; empty below ``least`` mL."""
    out = np.asarray(mask, dtype=bool)
    if closing > 0 and out.any():
        reach = int(np.ceil(closing / min(grid.spacing))) + 1
        padded = np.pad(out, reach)
        near = ndimage.distance_transform_edt(~padded, sampling=grid.spacing) <= closing
        closed = ndimage.distance_transform_edt(near, sampling=grid.spacing) > closing
        out = closed[reach:-reach, reach:-reach, reach:-reach] | out
    labels, count = ndimage.label(out)
    if count:
        out = labels == int(np.argmax(np.bincount(labels.ravel())[1:])) + 1
        out = ndimage.binary_fill_holes(out)
    return out if out.sum() * grid.voxel_volume * 1e-3 >= least else np.zeros_like(out)


@dataclass(frozen=True)
class Segmentation:
    """A mask and where it comes from: "given" by the user, or the name of what made it."""

    mask: np.ndarray
    origin: str


def segment(
    images: Mapping[str, np.ndarray], grid: Grid, segmenter: Segmenter, given: np.ndarray | None = None
) -> Segmentation:
    """The user's mask if there is one, else what a plug-in makes of the images.

    Parameters
    ----------
    images : mapping of str to ndarray, shape ``grid.shape``
        Of one visit, by role.
    grid : Grid
    segmenter : callable
        Takes the images and the grid, returns a mask (booleans, or probabilities of which 0.5 and more count).
    given : ndarray of bool, optional

    Raises
    ------
    BadInput
        If the plug-in returns something that is no mask on the grid.
    """
    if given is not None:
        if given.shape != grid.shape:
            raise BadInput("the given mask is on another grid", "segmentation", "resample it to the images")
        return Segmentation(np.asarray(given, dtype=bool), "given")
    name = getattr(segmenter, "__name__", type(segmenter).__name__)
    found = np.asarray(segmenter(images, grid))
    if found.shape != grid.shape or not np.isfinite(found.astype(float)).all():
        raise BadInput(
            f"the segmenter '{name}' returned {found.shape} values for {grid.shape} voxels, or missing ones",
            "segmentation", "let it return one finite value a voxel",
        )  # fmt: skip
    return Segmentation(found if found.dtype == bool else found >= 0.5, name)
