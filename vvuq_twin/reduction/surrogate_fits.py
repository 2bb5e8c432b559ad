"""Two regressions of many outputs on whitened scores, with their leave-one-out errors: polynomials and Gaussian processes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from scipy import linalg

from ..domain.errors import BadInput, RunFailed
from ..domain.keys import integer
from ..domain.parameters import ParameterSpace
from .polynomials import basis, decompose, families, multi_indices


class Fit(Protocol):
    """A fitted regression of q outputs.

    ``left_out`` (n, q) is prediction less truth of each training row by a fit without it, ``left_out_spread``
    (n, q) the standard deviation that fit would have claimed there.
    """

    @property
    def left_out(self) -> np.ndarray: ...

    @property
    def left_out_spread(self) -> np.ndarray: ...

    def predict(self, z: np.ndarray) -> np.ndarray:
        """Outputs (N, q) at scores (N, p)."""

    def spread(self, z: np.ndarray) -> np.ndarray:
        """Standard deviations (N, q) of the prediction's error, up to a factor."""

    def describe(self) -> dict[str, Any]:
        """Plain numbers for a report."""


class Fitter(Protocol):
    """Makes a :class:`Fit` from scores (n, p) and outputs (n, q)."""

    def __call__(self, space: ParameterSpace, z: np.ndarray, y: np.ndarray) -> Fit: ...


@dataclass(frozen=True)
class PolynomialFit:
    """Least squares on orthonormal polynomials.

    Parameters
    ----------
    kinds : tuple of str
    indices : ndarray of int, shape (P, p)
    coefficients : ndarray, shape (P, q)
    triangle : ndarray, shape (P, P)
        R of the basis matrix; the leverage of a new point is ``|R^-T psi|^2``.
    rms : ndarray, shape (q,)
        Root mean square of the leave-one-out residuals, scaled to leverage 0.
    left_out, left_out_spread : ndarray, shape (n, q)
    """

    kinds: tuple[str, ...]
    indices: np.ndarray
    coefficients: np.ndarray
    triangle: np.ndarray
    rms: np.ndarray
    left_out: np.ndarray = field(repr=False)
    left_out_spread: np.ndarray = field(repr=False)

    def predict(self, z: np.ndarray) -> np.ndarray:
        """Outputs (N, q)."""
        return basis(z, self.indices, self.kinds) @ self.coefficients

    def spread(self, z: np.ndarray) -> np.ndarray:
        """``rms sqrt(1 + leverage)``, (N, q): it grows where there were few runs."""
        psi = basis(z, self.indices, self.kinds)
        leverage = (linalg.solve_triangular(self.triangle, psi.T, trans="T") ** 2).sum(axis=0)
        return np.sqrt(1.0 + leverage)[:, None] * self.rms

    def describe(self) -> dict[str, Any]:
        """Terms and highest degree."""
        return {
            "method": "polynomial chaos",
            "terms": len(self.indices),
            "degree": int(self.indices.sum(axis=1).max()),
        }


@dataclass(frozen=True)
class Polynomials:
    """Fits polynomial chaos, one QR for all outputs; degree and truncation by the leave-one-out error.

    Parameters
    ----------
    degrees, hyperbolic : tuple
        Candidates (Blatman & Sudret 2011); those with more than ``n / oversampling`` terms are not tried.
    oversampling : float
    """

    degrees: tuple[int, ...] = (1, 2, 3, 4, 5)
    hyperbolic: tuple[float, ...] = (0.4, 0.5, 0.75, 1.0)
    oversampling: float = 1.5

    def __call__(self, space: ParameterSpace, z: np.ndarray, y: np.ndarray) -> PolynomialFit:
        """See :class:`Fitter`.

        Raises
        ------
        BadInput
            If there are too few runs for a linear expansion.
        RunFailed
            If no candidate's coefficients are determined by the runs.
        """
        allowed = int(len(z) / self.oversampling)
        if space.size + 1 > allowed:
            raise BadInput(
                f"{len(z)} good runs are too few for polynomials in {space.size} parameters", "surrogate",
                f"use at least {int(np.ceil(self.oversampling * (space.size + 1)))}",
            )  # fmt: skip
        kinds = families(space)
        best: tuple[float, PolynomialFit] | None = None
        round_off = 1e-24 * float((y**2).sum())
        tried: set[bytes] = set()
        for degree in self.degrees:
            for q in self.hyperbolic:
                indices = multi_indices(space.size, degree, q)
                if len(indices) > allowed or indices.tobytes() in tried:
                    continue
                tried.add(indices.tobytes())
                parts = decompose(basis(z, indices, kinds))
                if parts is None:
                    continue
                orthogonal, triangle, leverage = parts
                projected = orthogonal.T @ y
                left = -(y - orthogonal @ projected) / (1.0 - leverage)[:, None]
                # a left-out point has leverage h / (1 - h) in the fit without it
                rms = np.sqrt((left**2 * (1.0 - leverage)[:, None]).mean(axis=0))
                score = float((left**2).sum())
                # more terms have to earn their keep
                if best is None or score < 0.99 * best[0] - round_off:
                    coefficients = linalg.solve_triangular(triangle, projected)
                    claimed = rms / np.sqrt(1.0 - leverage)[:, None]
                    best = score, PolynomialFit(kinds, indices, coefficients, triangle, rms, left, claimed)
        if best is None:
            raise RunFailed("the training runs of the surrogate do not determine a polynomial")
        return best[1]


@dataclass(frozen=True)
class GaussianFit:
    """One Gaussian process per output (scikit-learn).

    Parameters
    ----------
    processes : tuple of sklearn.gaussian_process.GaussianProcessRegressor
    scale : ndarray, shape (q,)
        Outputs are divided by it.
    left_out, left_out_spread : ndarray, shape (n, q)
        At the kernel's parameters found with all rows.
    """

    processes: tuple[Any, ...]
    scale: np.ndarray
    left_out: np.ndarray = field(repr=False)
    left_out_spread: np.ndarray = field(repr=False)

    def predict(self, z: np.ndarray) -> np.ndarray:
        """Posterior means (N, q)."""
        return np.stack([p.predict(z) for p in self.processes], axis=1) * self.scale

    def spread(self, z: np.ndarray) -> np.ndarray:
        """Posterior standard deviations (N, q), noise included."""
        return np.stack([p.predict(z, return_std=True)[1] for p in self.processes], axis=1) * self.scale

    def describe(self) -> dict[str, Any]:
        """The fitted kernels."""
        return {"method": "Gaussian process", "kernels": [str(p.kernel_) for p in self.processes]}


@dataclass(frozen=True)
class GaussianProcesses:
    """Fits one Gaussian process per output: linear trend, smooth part with a length per parameter, noise.

    Parameters
    ----------
    kernel : sklearn kernel, optional
        Another one; give hyperparameters as "fixed" to have them taken as they are.
    seed : int

    Notes
    -----
    Leave-one-out residuals and variances in closed form: ``-[K^-1 y]_i / [K^-1]_ii`` and ``1 / [K^-1]_ii``
    (Rasmussen & Williams 2006, eq. 5.12).
    """

    kernel: Any = None
    seed: int = 1

    def __call__(self, space: ParameterSpace, z: np.ndarray, y: np.ndarray) -> GaussianFit:
        """See :class:`Fitter`.

        Raises
        ------
        BadInput
            If there are fewer than ten runs.
        """
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor

        if len(z) < 10:
            raise BadInput(
                f"{len(z)} good runs are too few for a Gaussian process", "surrogate", "use 30 or more"
            )
        scale = np.where(y.std(axis=0) > 0, y.std(axis=0), 1.0)
        kernel = _kernel(space.size) if self.kernel is None else self.kernel
        processes, left, spread = [], [], []
        for j, column in enumerate((y / scale).T):
            one = GaussianProcessRegressor(kernel, random_state=integer(self.seed, "surrogate", j))
            with warnings.catch_warnings():
                # a length at its bound says that the parameter does not matter
                warnings.simplefilter("ignore", ConvergenceWarning)
                one.fit(z, column)
            inverse = linalg.cho_solve((one.L_, True), np.eye(len(z)))
            d = np.diag(inverse)
            left.append(-(inverse @ column) / d)
            spread.append(1.0 / np.sqrt(d))
            processes.append(one)
        return GaussianFit(
            tuple(processes), scale, np.stack(left, axis=1) * scale, np.stack(spread, axis=1) * scale
        )


def _kernel(size: int) -> Any:
    """The default: ``a z.z' + b exp(-sum (z - z')^2 / 2 l^2) + noise``."""
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

    lengths = RBF(np.full(size, 5.0), (0.5, 100.0))
    linear = ConstantKernel(0.1, (1e-6, 1e3)) * DotProduct(1.0, "fixed")
    return linear + ConstantKernel(1.0, (1e-4, 1e4)) * lengths + WhiteKernel(1e-4, (1e-10, 1.0))
