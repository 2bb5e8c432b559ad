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
    axes : tuple of ndarray
        Spline functions along each axis, shapes (Kx, ni), (Ky, nj), (Kz, nk); each sums to one everywhere.
    precision : ndarray, shape (K, K)
        Prior precision of one component's coefficients in mm^-2, K = Kx Ky Kz in C order.
    spacing : tuple of float
        mm.

    Notes
    -----
    Sums over voxels of products of spline functions are contracted axis by axis: about n operations, not n K^2.
    """

    axes: tuple[np.ndarray, np.ndarray, np.ndarray]
    precision: np.ndarray
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
        x, y, z = (_axis_basis(n, c) for n, c in zip(shape, cells))
        counts = [len(x), len(y), len(z)]
        precision = np.eye(int(np.prod(counts))) / amplitude**2
        for axis, count in enumerate(counts):
            difference = np.diff(np.eye(count), axis=0)
            parts = [np.eye(c) for c in counts]
            parts[axis] = difference.T @ difference
            precision += np.kron(np.kron(parts[0], parts[1]), parts[2]) / roughness**2
        return cls((x, y, z), precision, spacing)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along each axis."""
        x, y, z = self.axes
        return x.shape[1], y.shape[1], z.shape[1]

    @property
    def size(self) -> int:
        """Coefficients per component."""
        return int(np.prod([len(a) for a in self.axes]))

    def field(self, coefficients: np.ndarray) -> np.ndarray:
        """Displacement in mm, shape (3, ni, nj, nk), from coefficients of shape (3, K)."""
        c = coefficients.reshape(-1, *(len(a) for a in self.axes))
        for axis, a in enumerate(self.axes):
            c = np.moveaxis(np.tensordot(c, a, axes=(axis + 1, 0)), -1, axis + 1)
        return np.asarray(c)

    def moments(self, image: np.ndarray) -> np.ndarray:
        """``sum_x w_k(x) image(x)``, shape (K,)."""
        x, y, z = self.axes
        return np.asarray(np.tensordot(x, np.tensordot(y, image @ z.T, axes=(1, 1)), axes=(1, 1)).ravel())

    def products(self, image: np.ndarray) -> np.ndarray:
        """``sum_x w_k(x) w_l(x) image(x)``, shape (K, K)."""
        x, y, z = self.axes
        pairs = [(a[:, None] * a[None]).reshape(-1, a.shape[1]) for a in (x, y, z)]
        out = np.tensordot(pairs[0], np.tensordot(pairs[1], image @ pairs[2].T, axes=(1, 1)), axes=(1, 1))
        k = [len(a) for a in (x, y, z)]
        out = out.reshape(k[0], k[0], k[1], k[1], k[2], k[2]).transpose(0, 2, 4, 1, 3, 5)
        return np.asarray(out.reshape(self.size, self.size))


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
    smoothing: float = 0.0,
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
    smoothing : float
        Standard deviation in mm of a Gaussian by which frame and components are smoothed before they are
        compared. Interpolation between voxels averages noise, so that unsmoothed frames are drawn to half-voxel
        shifts that lower the residual without aligning anything.

    Raises
    ------
    BadInput
        If the frame is not finite or the weights are all zero.
    """
    if not np.isfinite(frame).all():
        raise BadInput("a frame has NaN or infinite voxels", "registration", "mend the image")
    if smoothing > 0:
        widths = [smoothing / h for h in space.spacing]
        frame = ndimage.gaussian_filter(frame, widths, mode="nearest")
        components = np.stack([ndimage.gaussian_filter(b, widths, mode="nearest") for b in components])
    if not (weight > 0).any():
        raise BadInput("no voxel has weight", "registration", "check the body threshold")
    rows = np.flatnonzero(weight.ravel() > 0)
    w = weight.ravel()[rows] / noise**2
    B = components.reshape(len(components), -1)[:, rows]
    gradients = np.stack(np.gradient(frame, *space.spacing))
    K, q = space.size, len(B)
    base = np.stack(np.unravel_index(rows, space.shape)).astype(float)
    scale = np.asarray(space.spacing)[:, None]
    limit = np.asarray(space.shape)[:, None] - 1.0
    grid = np.zeros(space.shape)

    def image(values: np.ndarray) -> np.ndarray:
        grid.ravel()[rows] = values
        return grid

    def places(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        where = base + space.field(p).reshape(3, -1)[:, rows] / scale
        inside = ((where >= -0.5) & (where <= limit + 0.5)).all(axis=0)
        return np.clip(where, 0, limit), inside

    def sample(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
        return np.asarray(ndimage.map_coordinates(picture, where, order=1, mode="nearest"))

    def cost(p: np.ndarray) -> _Point:
        """With the amplitudes that are best for p; the mean over voxels in view stands for all voxels, so that
        moving out of view wins nothing."""
        where, inside = places(p)
        values, used = sample(frame, where), w * inside
        if not used.any():
            return _Point(p, np.inf, np.zeros(q), values, used, where, np.inf)
        Bw = B * used
        gram = Bw @ B.T
        a = linalg.solve(gram + 1e-9 * np.trace(gram) * np.eye(q), Bw @ values, assume_a="pos")
        r = values - a @ B
        square = float((used * r**2).sum() / used.sum())
        prior = float(np.einsum("ak,kl,al", p, space.precision, p))
        return _Point(p, square * float(w.sum()) + prior, a, r, used, where, square)

    now = cost(np.zeros((3, K)))
    first = now.square
    done = 0
    while done < iterations:
        done += 1
        g = np.stack([sample(gradients[c], now.where) for c in range(3)])
        used = now.used * float(w.sum() / now.used.sum())
        H = np.zeros((3 * K + q, 3 * K + q))
        rhs = np.zeros(3 * K + q)
        for c in range(3):
            mine = slice(c * K, (c + 1) * K)
            for d in range(c, 3):
                block = space.products(image(used * g[c] * g[d]))
                H[mine, d * K : (d + 1) * K] = block
                H[d * K : (d + 1) * K, mine] = block.T
            H[mine, mine] += space.precision
            cross = -np.stack([space.moments(image(used * g[c] * b)) for b in B], axis=1)
            H[mine, 3 * K :] = cross
            H[3 * K :, mine] = cross.T
            rhs[mine] = -space.moments(image(used * g[c] * now.residual)) - space.precision @ now.p[c]
        corner = (B * used) @ B.T
        H[3 * K :, 3 * K :] = corner + 1e-9 * np.trace(corner) * np.eye(q)
        rhs[3 * K :] = (B * used) @ now.residual
        step = linalg.solve(H, rhs, assume_a="pos")[: 3 * K].reshape(3, K)
        for halving in range(5):
            trial = cost(now.p + 0.5**halving * step)
            if trial.cost < now.cost:
                break
        else:
            break
        moved = float(np.abs(trial.p - now.p).max())
        now = trial
        if moved < tolerance:
            break
    return Registered(now.p, now.amplitudes, float(np.sqrt(first)), float(np.sqrt(now.square)), done)


@dataclass(frozen=True)
class _Point:
    """A displacement with what it gives: cost, amplitudes, residual, weights in view, places, mean square."""

    p: np.ndarray
    cost: float
    amplitudes: np.ndarray
    residual: np.ndarray
    used: np.ndarray
    where: np.ndarray
    square: float
