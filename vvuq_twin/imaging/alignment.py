"""Registration of one visit's image to another's, with its error: rigid, affine or deformable, by SimpleITK.

A transform takes points of the fixed image to points of the moving one. It is found several times, from starts
drawn around the images' centres and each with its own random sample of voxels; every second start of a linear
stage registers the fixed image to the moving one, since interpolation, which blurs only the image that is moved,
errs the other way then. Starts that ended in another optimum are dropped, the mean of the rest is the transform,
and their spread is its error. Every draw is keyed and each registration runs on one thread: the same images give
the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from ..domain.errors import BadInput
from ..domain.grid import Grid
from ..domain.keys import generator, integer
from .itk import from_itk, to_itk
from .resample import voxel_to_world

Kind = Literal["rigid", "affine", "deformable"]

#: Voxel sizes of the pyramid, mm; 0 is the image as it is.
_LEVELS = (6.0, 3.0, 0.0)
_POINTS = 40_000
#: Spread of the starts: rotation in degrees, translation in mm.
_TURN, _SHIFT = 4.0, 6.0
#: A start that ends farther than this from the middle one found another optimum (in mean voxel sizes).
_AGREE = 1.0
#: Distance of the deformation's control points, mm.
_CONTROL = 50.0


@dataclass(frozen=True)
class Alignment:
    """How a moving image lies on a fixed one.

    Parameters
    ----------
    kind : {"rigid", "affine", "deformable"}
    transform : SimpleITK.Transform
        From points of the fixed image to points of the moving one, mm (LPS); the mean of the starts that agree.
    starts : tuple of SimpleITK.Transform
        One for each start that agrees.
    tried : int
        Starts in all.
    before, after : float
        Correlation of the images over the overlap, as they came and as they lie now.
    error_mm : float
        Root mean square over the region, and over starts, of a start's distance from the mean.
    moved_mm : float
        Mean displacement over the region.
    """

    kind: Kind
    transform: Any
    starts: tuple[Any, ...]
    tried: int
    before: float
    after: float
    error_mm: float
    moved_mm: float

    def displacement(self, points: np.ndarray) -> np.ndarray:
        """Where points go, less where they were, shape (n, 3), mm."""
        return moved(self.transform, points) - points

    def residual(self, fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
        """How far landmarks of the fixed image end from theirs in the moving one, shapes (n, 3) in mm to (n,)."""
        return np.asarray(np.linalg.norm(moved(self.transform, fixed) - moving, axis=1))

    def spread(self, points: np.ndarray) -> np.ndarray:
        """Standard deviation over starts of where a point goes, shape (n,), mm (all three directions together)."""
        ends = np.stack([moved(t, points) for t in self.starts])
        return np.asarray(np.sqrt((ends.var(axis=0, ddof=1)).sum(axis=1)))


def moved(transform: Any, points: np.ndarray) -> np.ndarray:
    """Points, shape (n, 3) in mm, through a transform."""
    return np.array([transform.TransformPoint([float(c) for c in p]) for p in points]).reshape(-1, 3)


def align(
    fixed: np.ndarray, fixed_grid: Grid, moving: np.ndarray, moving_grid: Grid, kind: Kind = "rigid", *,
    region: np.ndarray | None = None, same_contrast: bool = True, starts: int = 6, seed: int = 0,
) -> Alignment:  # fmt: skip
    """Register a moving image to a fixed one.

    Parameters
    ----------
    fixed, moving : ndarray, shape (i, j, k)
        NaN marks voxels without data; they are not compared.
    fixed_grid, moving_grid : Grid
    kind : {"rigid", "affine", "deformable"}
        Affine starts from the rigid result, deformable (cubic B-splines) from the affine one.
    region : ndarray of bool, optional
        Where the images are compared (fixed grid); by default where the fixed image is not background.
        For growth or shrinkage of a tumour to be left in the images, leave the tumour out of a region that is
        registered deformably.
    same_contrast : bool
        Compare by correlation; otherwise by mutual information (Mattes).
    starts : int
        At least 2; an even number balances the two directions.
    seed : int

    Returns
    -------
    Alignment

    Raises
    ------
    BadInput
        If an image is constant, they do not overlap, or fewer than half of the starts agree.
    """
    import SimpleITK as sitk

    if starts < 2:
        raise BadInput("the error of a registration needs at least 2 starts", "registration", "ask for more")
    where = region if region is not None else foreground(fixed)
    valid = np.isfinite(fixed) & where
    if not valid.any() or np.ptp(fixed[valid]) == 0 or np.nanmax(moving) == np.nanmin(moving):
        raise BadInput(
            "an image is empty or constant where it is to be registered", "registration", "check it"
        )
    first, second = to_itk(np.nan_to_num(fixed), fixed_grid), to_itk(np.nan_to_num(moving), moving_grid)
    images = _Pair(
        first,
        second,
        to_itk(valid, fixed_grid),
        to_itk(_solid(np.isfinite(moving)), moving_grid),
        same_contrast,
    )
    other = to_itk(foreground(moving) & np.isfinite(moving), moving_grid)
    back = _Pair(
        second, first, other, to_itk(_solid(np.isfinite(fixed)) & _wide(where), fixed_grid), same_contrast
    )
    points = _points(fixed_grid, valid)
    identity = sitk.Transform(3, sitk.sitkIdentity)
    before = images.correlation(identity)
    done: list[Any] = []
    base: Any = None
    for stage in ("rigid", "affine", "deformable")[: ("rigid", "affine", "deformable").index(kind) + 1]:
        found = [_one(images, back, stage, base, k, seed, points) for k in range(starts)]
        done = _agreeing(found, points, _AGREE * fixed_grid.voxel_volume ** (1 / 3))
        if 2 * len(done) < starts or len(done) < 2:
            raise BadInput(
                f"the registration is not sure: {len(done)} of {starts} starts agree", "registration",
                "give images that look alike, or a region in which they do",
            )  # fmt: skip
        base = _mean(done, base)
    ends = np.stack([moved(t, points) for t in done])
    centre = moved(base, points)
    spread = float(np.sqrt(((ends - centre) ** 2).sum(axis=-1).sum(axis=0).mean() / (len(done) - 1)))
    return Alignment(
        kind, base, tuple(done), starts, before, images.correlation(base), spread,
        float(np.linalg.norm(centre - points, axis=1).mean()),
    )  # fmt: skip


def _agreeing(found: Sequence[Any], points: np.ndarray, tolerance: float) -> list[Any]:
    """The transforms that end close to the one in the middle of them all."""
    ends = np.stack([moved(t, points) for t in found])
    apart = np.sqrt(((ends[:, None] - ends[None]) ** 2).sum(axis=-1).mean(axis=-1))
    middle = int(np.argmin(np.median(apart, axis=1)))
    return [t for t, d in zip(found, apart[middle]) if d <= tolerance]


def foreground(image: np.ndarray) -> np.ndarray:
    """Voxels above Otsu's threshold with holes filled slice by slice: the body, and not the air around it."""
    from skimage.filters import threshold_otsu

    finite = np.isfinite(image)
    if not finite.any() or np.ptp(image[finite]) == 0:
        return finite
    body = np.where(finite, image, -np.inf) > threshold_otsu(image[finite])
    return np.stack([ndimage.binary_fill_holes(body[:, :, k]) for k in range(body.shape[2])], axis=2)


def _solid(valid: np.ndarray) -> np.ndarray:
    """Voxels whose neighbours all have data, so that interpolation never mixes in a missing one."""
    if valid.all():
        return valid
    return np.asarray(ndimage.binary_erosion(valid, np.ones((3, 3, 3), dtype=bool), border_value=1))


def _wide(region: np.ndarray) -> np.ndarray:
    """A region with a margin, within which points of the other image may fall."""
    return np.asarray(ndimage.binary_dilation(region, iterations=3))


def _points(grid: Grid, region: np.ndarray, most: int = 3000) -> np.ndarray:
    """At most so many voxel centres of a region, evenly picked, in mm, shape (n, 3)."""
    index = np.argwhere(region)
    index = index[:: max(1, len(index) // most)]
    matrix = voxel_to_world(grid)
    return np.asarray(index @ matrix[:3, :3].T + matrix[:3, 3])


class _Pair:
    """Two images with their masks, at every level of the pyramid."""

    def __init__(self, fixed: Any, moving: Any, region: Any, valid: Any, same: bool) -> None:
        import SimpleITK as sitk

        self.same = same
        self.region, self.valid = region, valid
        self.levels = []
        for size in _LEVELS:
            f, m = _coarser(fixed, size), _coarser(moving, size)
            mask = sitk.Resample(region, f, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
            self.levels.append((f, m, mask, int(np.prod(f.GetSize()))))

    def method(self, level: int, points: int, seed: int) -> Any:
        import SimpleITK as sitk

        _, _, mask, size = self.levels[level]
        inside = int(sitk.GetArrayViewFromImage(mask).astype(bool).sum()) or 1
        method = sitk.ImageRegistrationMethod()
        method.SetNumberOfThreads(1)
        if self.same:
            method.SetMetricAsCorrelation()
        else:
            method.SetMetricAsMattesMutualInformation(48)
        method.SetMetricFixedMask(mask)
        method.SetMetricMovingMask(self.valid)
        method.SetMetricSamplingStrategy(method.RANDOM)
        # the share is of all voxels, and those outside the mask are then left out
        method.SetMetricSamplingPercentage(float(min(1.0, points * size / inside / size)), seed)
        method.SetInterpolator(sitk.sitkLinear)
        return method

    def correlation(self, transform: Any) -> float:
        """Of the images over the region and their overlap; NaN if they overlap nowhere."""
        import SimpleITK as sitk

        fixed, moving, mask, _ = self.levels[-1]
        lies = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, sitk.sitkLinear, np.nan))
        there = sitk.GetArrayFromImage(
            sitk.Resample(self.valid, fixed, transform, sitk.sitkNearestNeighbor, 0)
        )
        use = (sitk.GetArrayFromImage(mask) > 0) & np.isfinite(lies) & (there > 0)
        if use.sum() < 2:
            return float("nan")
        return float(np.corrcoef(sitk.GetArrayFromImage(fixed)[use], lies[use])[0, 1])


def _coarser(image: Any, size: float) -> Any:
    """Smoothed and thinned to voxels of about ``size`` mm, axis by axis; axes that are coarser already stay."""
    import SimpleITK as sitk

    factors = [max(1, round(size / s)) for s in image.GetSpacing()]
    factors = [min(f, max(1, n // 8)) for f, n in zip(factors, image.GetSize())]
    if max(factors) == 1:
        return image
    for axis, (factor, spacing) in enumerate(zip(factors, image.GetSpacing())):
        if factor > 1:
            image = sitk.RecursiveGaussian(
                image, 0.5 * factor * spacing, False, sitk.RecursiveGaussianImageFilter.ZeroOrder, axis
            )
    return sitk.Shrink(image, factors)


def _one(images: _Pair, back: _Pair, stage: str, base: Any, start: int, seed: int, points: np.ndarray) -> Any:
    """The transform that one start of one stage ends with."""
    import SimpleITK as sitk

    if stage == "deformable":
        return _deform(images, base, start, seed)
    backward = start % 2 == 1
    pair = back if backward else images
    centre = [float(c) for c in points.mean(axis=0)]
    transform: Any
    if stage == "rigid":
        transform = sitk.Euler3DTransform()
        transform.SetCenter(centre)
        if start:
            draw = generator(seed, "registration", stage, start)
            turn, shift = np.deg2rad(_TURN) * draw.standard_normal(3), _SHIFT * draw.standard_normal(3)
            transform.SetRotation(*(float(a) for a in turn))
            transform.SetTranslation([float(s) for s in shift])
    else:
        transform = sitk.AffineTransform(3)
        transform.SetCenter(centre)
        transform.SetMatrix(base.GetMatrix())
        transform.SetTranslation(base.GetTranslation())
        transform = _inverse(transform) if backward else transform
    for level in range(len(_LEVELS)) if stage == "rigid" else range(1, len(_LEVELS)):
        method = pair.method(level, _POINTS, integer(seed, "sample", stage, start, level))
        last = level == len(_LEVELS) - 1
        method.SetOptimizerAsRegularStepGradientDescent(
            1.0 if level == 0 else 0.3, 5e-4 if last else 1e-2, 100, relaxationFactor=0.6,
            gradientMagnitudeTolerance=1e-9,
        )  # fmt: skip
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetInitialTransform(transform, True)
        _execute(method, pair, level)
    return _inverse(transform) if backward else transform


def _inverse(transform: Any) -> Any:
    """The inverse of a linear transform, of the same type and about the same centre."""
    out = type(transform)(transform)
    matrix = np.linalg.inv(np.array(transform.GetMatrix()).reshape(3, 3))
    out.SetMatrix([float(v) for v in matrix.ravel()])
    out.SetTranslation([float(v) for v in -matrix @ np.array(transform.GetTranslation())])
    return out


def _execute(method: Any, images: _Pair, level: int) -> None:
    fixed, moving, _, _ = images.levels[level]
    try:
        method.Execute(fixed, moving)
    except RuntimeError as error:
        raise BadInput(
            "the images do not overlap where they are compared", "registration",
            "check that both are of this patient, with their positions",
        ) from error  # fmt: skip


def _deform(images: _Pair, base: Any, start: int, seed: int) -> Any:
    """B-splines on top of the affine transform; starts differ in their sample of voxels."""
    import SimpleITK as sitk

    fixed = images.levels[-1][0]
    extent = [n * s for n, s in zip(fixed.GetSize(), fixed.GetSpacing())]
    mesh = [max(1, round(e / _CONTROL)) for e in extent]
    spline = sitk.BSplineTransformInitializer(fixed, mesh, 3)
    for level in range(1, len(_LEVELS)):
        method = images.method(level, _POINTS // 3, integer(seed, "sample", "deformable", start, level))
        method.SetMovingInitialTransform(base)
        method.SetInitialTransform(spline, True)
        method.SetOptimizerAsLBFGSB(1e-5, 25, 8, 40, 1e7)
        _execute(method, images, level)
    both = sitk.CompositeTransform(3)
    both.AddTransform(base)
    both.AddTransform(spline)
    return both


def _mean(found: Sequence[Any], base: Any) -> Any:
    """The transform with the mean of the parameters; starts of a stage share its centre, base and grid."""
    import SimpleITK as sitk

    if found[0].GetName() == "CompositeTransform":
        spline = sitk.BSplineTransform(found[0].GetNthTransform(1))
        others = [t.GetNthTransform(1).GetParameters() for t in found]
        spline.SetParameters([float(p) for p in np.mean(others, axis=0)])
        both = sitk.CompositeTransform(3)
        both.AddTransform(base)
        both.AddTransform(spline)
        return both
    first = found[0]
    mean = type(first)(first)
    mean.SetParameters([float(p) for p in np.mean([t.GetParameters() for t in found], axis=0)])
    return mean


def lie_on(
    array: np.ndarray, own: Grid, target: Grid, transform: Any, *, nearest: bool = False
) -> np.ndarray:
    """A moving image sampled at the voxels of the fixed one through a transform (NaN, or 0, where it has no data).

    Parameters
    ----------
    array : ndarray, shape ``own.shape`` or (t, *own.shape)
    own, target : Grid
    transform : SimpleITK.Transform
    nearest : bool
        For labels: the nearest voxel's, 0 outside.

    Returns
    -------
    ndarray, shape ``target.shape`` or (t, *target.shape)
        float64; the array's own type for nearest.
    """
    import SimpleITK as sitk

    if array.ndim == 4:
        return np.stack([lie_on(v, own, target, transform, nearest=nearest) for v in array])
    like = to_itk(np.zeros(target.shape, dtype=bool), target)
    if nearest:
        found = from_itk(
            sitk.Resample(to_itk(array.astype(float), own), like, transform, sitk.sitkNearestNeighbor, 0.0)
        )
        return found.astype(array.dtype)
    image = to_itk(array, own)
    out = from_itk(sitk.Resample(image, like, transform, sitk.sitkLinear, np.nan, sitk.sitkFloat64))
    return np.asarray(out)
