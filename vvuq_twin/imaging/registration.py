"""Registration of the frames of a dynamic series: few smooth displacement modes, changing contrast.

Breathing moves the organs of the trunk through the slices while the contrast agent changes their brightness.
A frame ``M`` is brought to the reference position by a displacement ``u(x)`` built from few cubic B-splines
and compared with a linear combination of *reference components* ``B_q`` (images in the reference position,
learned from the frames seen: Melbourne et al. 2007, "progressive principal component registration"),
so that contrast change is explained by the components and motion by the displacement:

    minimise over p, a   sum_x w(x) [M(x + u_p(x)) - sum_q a_q B_q(x)]^2 / s^2 + p^T P p

by Gauss-Newton with a backtracking step. ``P`` is the precision of a Gaussian prior of the displacement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import linalg, ndimage

from ..domain.errors import BadInput


def bspline(x: np.ndarray) -> np.ndarray:
    """The cardinal cubic B-spline (de Boor), support (-2, 2)."""
    a = np.abs(x)
    inner = 2.0 / 3.0 - a**2 + 0.5 * a**3
    outer = np.clip(2.0 - a, 0.0, None) ** 3 / 6.0
    return np.where(a < 1.0, inner, outer)


def _axis_basis(n: int, cells: int) -> np.ndarray:
    """Cubic B-splines over ``n`` voxels with ``cells`` knot intervals, shape (cells + 3, n); 0 cells: a constant."""
    if cells == 0:
        return np.ones((1, n))
    x = np.linspace(0.0, cells, n)
    return bspline(x[None, :] - np.arange(-1, cells + 2)[:, None])


@dataclass(frozen=True)
class DisplacementSpace:
    """Smooth displacement fields with a Gaussian prior.

    Parameters
    ----------
    weights : ndarray, shape (K, n)
        Spline functions at the n voxels (C order); they sum to one everywhere.
    precision : ndarray, shape (K, K)
        Prior precision of one component's coefficients in mm^-2.
    shape : tuple of int
        Voxels along each axis.
    spacing : tuple of float
        mm.
    """

    weights: np.ndarray
    precision: np.ndarray
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]

    @classmethod
    def build(
        cls,
        shape: tuple[int, int, int],
        spacing: tuple[float, float, float],
        cells: tuple[int, int, int],
        amplitude: float,
        roughness: float,
    ) -> DisplacementSpace:
        """Tensor-product splines with a prior.

        Parameters
        ----------
        shape, spacing
            The grid.
        cells : tuple of int
            Knot intervals along each axis; 0 makes the displacement constant along that axis.
        amplitude : float
            Prior standard deviation of a coefficient in mm.
        roughness : float
            Prior standard deviation in mm of the difference of neighbouring coefficients.

        Raises
        ------
        BadInput
            If a prior width is not positive or a number of cells is negative.
        """
        if amplitude <= 0 or roughness <= 0:
            raise BadInput("the prior widths of the displacement must be positive", "registration")
        if min(cells) < 0:
            raise BadInput("the number of spline cells is negative", "registration.cells", "give 0 or more")
        axes = [_axis_basis(n, c) for n, c in zip(shape, cells)]
        weights = np.einsum("ax,by,cz->abcxyz", *axes).reshape(int(np.prod([len(a) for a in axes])), -1)
        counts = [len(a) for a in axes]
        precision = np.eye(len(weights)) / amplitude**2
        for axis, count in enumerate(counts):
            difference = np.diff(np.eye(count), axis=0)
            parts = [np.eye(c) for c in counts]
            parts[axis] = difference.T @ difference
            precision += np.kron(np.kron(parts[0], parts[1]), parts[2]) / roughness**2
        return cls(weights, precision, shape, spacing)

    @property
    def size(self) -> int:
        """Coefficients per component."""
        return len(self.weights)

    def field(self, coefficients: np.ndarray) -> np.ndarray:
        """Displacement in mm, shape (3, ni, nj, nk), from coefficients of shape (3, K)."""
        return np.asarray(coefficients @ self.weights).reshape(3, *self.shape)


@dataclass(frozen=True)
class Registered:
    """One frame brought to the reference position.

    Parameters
    ----------
    coefficients : ndarray, shape (3, K)
        Of the displacement, mm.
    amplitudes : ndarray, shape (q,)
        Of the reference components.
    before, after : float
        Weighted RMS residual against the best combination of components without and with displacement.
    iterations : int
    """

    coefficients: np.ndarray
    amplitudes: np.ndarray
    before: float
    after: float
    iterations: int


def warp(
    image: np.ndarray,
    displacement: np.ndarray,
    spacing: tuple[float, float, float],
    order: Literal[0, 1, 3] = 1,
) -> np.ndarray:
    """``image(x + u(x))``; NaN where that lies outside the image.

    Parameters
    ----------
    image : ndarray, shape (ni, nj, nk)
    displacement : ndarray, shape (3, ni, nj, nk)
        mm along the array axes.
    spacing : tuple of float
        mm.
    order : {0, 1, 3}
        Spline order of the interpolation.

    Notes
    -----
    Up to half a voxel beyond the outermost centres is still inside those voxels and is continued constantly.
    """
    where = _positions(displacement, spacing)
    limit = np.asarray(image.shape)[:, None, None, None] - 1.0
    outside = ((where < -0.5 - 1e-9) | (where > limit + 0.5 + 1e-9)).any(axis=0)
    out = ndimage.map_coordinates(image, np.clip(where, 0.0, limit), order=order, mode="nearest")
    return np.where(outside, np.nan, out)


def _positions(displacement: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    index = np.indices(displacement.shape[1:], dtype=float)
    return index + displacement / np.asarray(spacing)[:, None, None, None]


def register(
    frame: np.ndarray,
    components: np.ndarray,
    space: DisplacementSpace,
    weight: np.ndarray,
    noise: float,
    iterations: int = 12,
    tolerance: float = 0.02,
) -> Registered:
    """Bring one frame to the position of the components.

    Parameters
    ----------
    frame : ndarray, shape (ni, nj, nk)
    components : ndarray, shape (q, ni, nj, nk)
        Reference images, the same for every frame; nothing of other frames enters.
    space : DisplacementSpace
    weight : ndarray, shape (ni, nj, nk)
        Weights of the voxels, zero outside the body.
    noise : float
        Residual standard deviation in units of the image, which sets the weight of the prior.
    iterations : int
        Most Gauss-Newton steps.
    tolerance : float
        Stop when the largest coefficient moved less than this, mm.

    Raises
    ------
    BadInput
        If the frame is not finite or the weights are all zero.
    """
    if not np.isfinite(frame).all():
        raise BadInput("a frame has NaN or infinite voxels", "registration", "mend the image")
    rows = np.flatnonzero(weight.ravel() > 0)
    if not len(rows):
        raise BadInput("no voxel has weight", "registration", "check the body threshold")
    W = np.ascontiguousarray(space.weights[:, rows])
    w = weight.ravel()[rows] / noise**2
    B = components.reshape(len(components), -1)[:, rows]
    gradients = np.stack(np.gradient(frame, *space.spacing))
    K = space.size
    base = np.stack(np.unravel_index(rows, space.shape)).astype(float)
    scale = np.asarray(space.spacing)[:, None]
    limit = np.asarray(space.shape)[:, None] - 1.0

    def sample(image: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        where = base + (p @ W) / scale
        inside = ((where >= -0.5) & (where <= limit + 0.5)).all(axis=0)
        return ndimage.map_coordinates(image, np.clip(where, 0, limit), order=1, mode="nearest"), inside

    def project(values: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Best amplitudes, residual and mean weighted square for the warped values."""
        Bw = B * used
        a = linalg.solve(Bw @ B.T + 1e-9 * np.trace(Bw @ B.T) * np.eye(len(B)), Bw @ values, assume_a="pos")
        r = values - a @ B
        return a, r, float((used * r**2).sum() / used.sum())

    def cost(p: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, np.ndarray, float]:
        values, inside = sample(frame, p)
        used = w * inside
        a, r, square = project(values, used)
        # the mean over the voxels in view stands for all, so that moving out of view wins nothing
        return (
            square * float(w.sum()) + float(np.einsum("ak,kl,al", p, space.precision, p)),
            a,
            r,
            used,
            square,
        )

    p = np.zeros((3, K))
    J, a, r, used, square = cost(p)
    first = square
    done = 0
    while done < iterations:
        done += 1
        g = np.stack([sample(gradients[c], p)[0] for c in range(3)])
        rise = float(w.sum() / used.sum())
        H = np.zeros((3 * K + len(a), 3 * K + len(a)))
        rhs = np.zeros(3 * K + len(a))
        for c in range(3):
            for d in range(c, 3):
                block = (W * (used * g[c] * g[d])) @ W.T * rise
                H[c * K : (c + 1) * K, d * K : (d + 1) * K] = block
                H[d * K : (d + 1) * K, c * K : (c + 1) * K] = block.T
            H[c * K : (c + 1) * K, c * K : (c + 1) * K] += space.precision
            cross = -(W * (used * g[c])) @ B.T * rise
            H[c * K : (c + 1) * K, 3 * K :] = cross
            H[3 * K :, c * K : (c + 1) * K] = cross.T
            rhs[c * K : (c + 1) * K] = -(W @ (used * g[c] * r)) * rise - space.precision @ p[c]
        H[3 * K :, 3 * K :] = (B * used) @ B.T * rise
        rhs[3 * K :] = (B * used) @ r * rise
        H[3 * K :, 3 * K :] += 1e-9 * np.trace(H[3 * K :, 3 * K :]) * np.eye(len(a))
        step = linalg.solve(H, rhs, assume_a="pos")[: 3 * K].reshape(3, K)
        factor = 1.0
        for _ in range(5):
            trial = cost(p + factor * step)
            if trial[0] < J:
                break
            factor *= 0.5
        else:
            break
        p = p + factor * step
        moved = float(np.abs(factor * step).max())
        J, a, r, used, square = trial
        if moved < tolerance:
            break
    return Registered(p, a, float(np.sqrt(first)), float(np.sqrt(square)), done)
