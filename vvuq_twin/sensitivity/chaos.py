"""Polynomial chaos: one fit for all outputs, its leave-one-out error, indices from its coefficients.

The polynomials are chaospy's orthonormal families in one variable: Hermite in a parameter's whitened
Gaussian score, or Legendre in its probability where the prior is (log-)uniform. Products over a
hyperbolic set of multi-indices (Blatman & Sudret 2011, doi:10.1016/j.jcp.2010.12.021) make the basis;
one QR decomposition serves every output, so a field of 1e4 values costs one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg

from ..domain.errors import BadInput, RunFailed
from ..domain.parameters import ParameterSpace
from ..reduction.polynomials import basis, decompose, families, multi_indices
from .groups import Groups, dependent, grouped


@dataclass(frozen=True)
class ChaosIndices:
    """Sobol indices of an expansion (exact for the expansion).

    Parameters
    ----------
    names : tuple of str
    outputs : tuple of str
    first, total : ndarray, shape (D, *out)
    mean, variance : ndarray, shape (*out,)
    error : ndarray, shape (*out,)
        Leave-one-out error of the expansion as a fraction of the variance of the output.
    dependent : bool
    """

    names: tuple[str, ...]
    outputs: tuple[str, ...]
    first: np.ndarray
    total: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    error: np.ndarray
    dependent: bool = False

    def ranking(self, output: int = 0) -> list[str]:
        """Factors by falling total index."""
        column = self.total.reshape(len(self.names), -1)[:, output]
        return [self.names[i] for i in np.argsort(-column, kind="stable")]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return {
            "method": "polynomial chaos",
            "factors": list(self.names),
            "outputs": list(self.outputs),
            **{k: getattr(self, k).tolist() for k in ("first", "total", "mean", "variance")},
            "leave_one_out_error": self.error.tolist(),
            "dependent_factors": self.dependent,
        }


@dataclass(frozen=True)
class Chaos:
    """A polynomial chaos expansion of a model.

    Parameters
    ----------
    space : ParameterSpace
    indices : ndarray of int, shape (P, p)
    coefficients : ndarray, shape (P, *out)
    error : ndarray, shape (*out,)
        Leave-one-out mean squared error over the variance of the output (0 where it does not vary).
    training : int
        Rows it was fitted to.
    degree : int
    hyperbolic : float
    outputs : tuple of str
    kinds : tuple of str
    """

    space: ParameterSpace
    indices: np.ndarray
    coefficients: np.ndarray
    error: np.ndarray
    training: int
    degree: int
    hyperbolic: float
    outputs: tuple[str, ...]
    kinds: tuple[str, ...]

    def predict(self, z: np.ndarray) -> np.ndarray:
        """Values at whitened scores, shape (n, p) to (n, *out)."""
        flat = self.coefficients.reshape(len(self.indices), -1)
        return (basis(z, self.indices, self.kinds) @ flat).reshape(len(z), *self.coefficients.shape[1:])

    def __call__(self, theta: np.ndarray) -> np.ndarray:
        """Values at parameter values, shape (n, p) to (n, *out)."""
        return self.predict(self.space.to_gaussian(theta))

    @property
    def mean(self) -> np.ndarray:
        """Mean of each output, shape (*out,)."""
        return self.coefficients[0]

    @property
    def variance(self) -> np.ndarray:
        """Variance of each output, shape (*out,)."""
        return (self.coefficients[1:] ** 2).sum(axis=0)

    def sobol(self, groups: Groups | None = None) -> ChaosIndices:
        """First and total indices of factors (Sudret 2008, doi:10.1016/j.ress.2007.04.002)."""
        names, membership = grouped(self.space, groups)
        active = np.stack([(self.indices[:, membership == k] > 0).any(axis=1) for k in range(len(names))])
        alone = active & (active.sum(axis=0) == 1)
        squared = self.coefficients.reshape(len(self.indices), -1) ** 2
        shape = self.coefficients.shape[1:]
        variance = squared[1:].sum(axis=0)
        flat = variance <= np.finfo(float).eps * np.maximum(squared[0], np.finfo(float).tiny)

        def share(which: np.ndarray) -> np.ndarray:
            return np.where(flat, 0.0, (which @ squared) / np.where(flat, 1.0, variance)).reshape(
                len(names), *shape
            )

        return ChaosIndices(
            names,
            self.outputs,
            share(alone.astype(float)),
            share(active.astype(float)),
            self.mean,
            self.variance,
            self.error,
            dependent(self.space, membership),
        )

    def to_dict(self) -> dict[str, Any]:
        """What was fitted and how well, for JSON."""
        return {
            "terms": len(self.indices),
            "degree": self.degree,
            "hyperbolic": self.hyperbolic,
            "training": self.training,
            "families": sorted(set(self.kinds)),
            "outputs": list(self.outputs),
            "leave_one_out_error": self.error.tolist(),
        }


def fit_chaos(
    space: ParameterSpace,
    z: np.ndarray,
    y: np.ndarray,
    degrees: Sequence[int] = (1, 2, 3, 4, 5),
    hyperbolic: Sequence[float] = (0.5, 0.75, 1.0),
    outputs: tuple[str, ...] | None = None,
    status: np.ndarray | None = None,
    oversampling: float = 2.0,
) -> Chaos:
    """Fit an expansion, choosing degree and truncation by the mean leave-one-out error over outputs.

    Parameters
    ----------
    space : ParameterSpace
    z : ndarray, shape (n, p)
        Whitened scores of the training rows (``space.gaussian_sample``).
    y : ndarray, shape (n, *out)
        Model output.
    degrees, hyperbolic : sequences
        Candidates; only those with at most ``n / oversampling`` terms are tried.
    outputs : tuple of str, optional
    status : ndarray, shape (n,), optional
        Rows whose status is not 0, or whose value is not finite, are left out.
    oversampling : float
        Least number of rows per term.

    Raises
    ------
    BadInput
        If the shapes do not fit or there are too few rows for a linear expansion.
    RunFailed
        If no candidate gives a well-conditioned fit.

    Notes
    -----
    With ``Q R`` the decomposition of the basis matrix, the coefficients are ``R^-1 Q^T y``, the leverages
    the squared row norms of ``Q``, and the leave-one-out residuals ``r_i / (1 - h_i)``: one
    decomposition for all outputs (Blatman & Sudret 2011).
    """
    z, y = np.asarray(z, dtype=float), np.asarray(y, dtype=float)
    if z.ndim != 2 or z.shape[1] != space.size or len(z) != len(y):
        raise BadInput(
            f"{z.shape} scores and {y.shape} outputs do not fit {space.size} parameters", "chaos expansion"
        )
    good = np.isfinite(y.reshape(len(y), -1)).all(axis=1)
    if status is not None:
        good &= np.asarray(status) == 0
    z, flat, shape = z[good], y[good].reshape(int(good.sum()), -1), y.shape[1:]
    if outputs is not None and len(outputs) != flat.shape[1]:
        raise BadInput(f"there are {flat.shape[1]} outputs and {len(outputs)} names", "chaos expansion")
    n, kinds = len(z), families(space)
    allowed = int(n / oversampling)
    if space.size + 1 > allowed:
        raise BadInput(
            f"{n} good runs are too few for a chaos expansion in {space.size} parameters",
            "sensitivity",
            f"use at least {int(np.ceil(oversampling * (space.size + 1)))}",
        )
    best: tuple[float, np.ndarray, np.ndarray, np.ndarray, int, float] | None = None
    tried: set[bytes] = set()
    for degree in sorted(set(degrees)):
        for q in sorted(set(hyperbolic)):
            indices = multi_indices(space.size, degree, q)
            if len(indices) > allowed or indices.tobytes() in tried:
                continue
            tried.add(indices.tobytes())
            fitted = _least_squares(basis(z, indices, kinds), flat)
            if fitted is None:
                continue
            coefficients, error = fitted
            score = float(error.mean())
            if best is None or score < best[0]:
                best = (score, indices, coefficients, error, degree, q)
    if best is None:
        raise RunFailed(
            "no chaos expansion could be fitted: the training runs do not determine its coefficients"
        )
    _, indices, coefficients, error, degree, q = best
    names = outputs if outputs is not None else tuple(str(i) for i in range(flat.shape[1]))
    return Chaos(
        space,
        indices,
        coefficients.reshape(-1, *shape),
        error.reshape(shape),
        n,
        degree,
        q,
        tuple(names),
        kinds,
    )


def _least_squares(psi: np.ndarray, y: np.ndarray, chunk: int = 1024) -> tuple[np.ndarray, np.ndarray] | None:
    """Coefficients and relative leave-one-out error of every column of ``y``; None if ill-conditioned."""
    parts = decompose(psi)
    if parts is None:
        return None
    q, r, leverage = parts
    coefficients = np.empty((psi.shape[1], y.shape[1]))
    error = np.empty(y.shape[1])
    for begin in range(0, y.shape[1], chunk):
        part = y[:, begin : begin + chunk]
        projected = q.T @ part
        coefficients[:, begin : begin + chunk] = linalg.solve_triangular(r, projected)
        left = (part - q @ projected) / (1.0 - leverage)[:, None]
        variance = part.var(axis=0, ddof=1)
        still = variance <= np.finfo(float).eps * np.maximum((part**2).mean(axis=0), np.finfo(float).tiny)
        error[begin : begin + chunk] = np.where(
            still, 0.0, (left**2).mean(axis=0) / np.where(still, 1.0, variance)
        )
    return coefficients, error
