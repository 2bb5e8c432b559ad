"""A surrogate of field outputs: POD coefficients of all visits as functions of the parameters, with its error.

For models that do not reduce well: nothing but runs is asked of the model. The coefficients of all visits of a run are
one vector; its principal scores over the training runs are regressed on the whitened parameters
(:mod:`~vvuq_twin.reduction.surrogate_fits`). The leave-one-out residuals of the regression, with what basis and scores
leave out, are the cross-validated error. Two forms are tried and the better one by that error is kept: the coefficients as
they are, and the logarithm of their norm beside their direction, for fields whose size spans decades. The factor that puts the claimed spread above it is found by split conformal
prediction, as for the Galerkin models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.parameters import ParameterSpace
from .estimate import conformal_factor
from .pod import rank_for
from .surrogate_fits import Fit, Fitter
from .surrogate_runs import TrainingRuns

OK, OUTSIDE, NOT_FINITE, NOT_OWN = 0, 1, 2, 3
STATUS = {
    OK: "good",
    OUTSIDE: "a parameter is outside the range the surrogate was trained on",
    NOT_FINITE: "a parameter is not finite",
    NOT_OWN: "the state is not one the surrogate can go on from",
}


@dataclass(frozen=True)
class FieldSurrogate:
    """Fields at V visits as functions of the parameters.

    Parameters
    ----------
    space : ParameterSpace
    times : ndarray, shape (V,)
        Days.
    size_full : int
        Voxels n.
    rows : ndarray of int, shape (n_rows,)
        Voxels on which the basis lives.
    vectors : ndarray, shape (n_rows, r)
        Orthonormal.
    centre : ndarray, shape (V, d)
        Mean coefficients (d = r), or mean logarithm of the norm and mean direction (d = r + 1).
    modes : ndarray, shape (q, V, d)
        Orthonormal principal directions of these numbers of all visits.
    fit : Fit
        Of the q scores.
    low, high : ndarray, shape (p,)
        Trained range of each whitened score.
    rest : ndarray, shape (V,)
        Root mean square of what basis and scores leave out of a training field (relative, with logarithms).
    limit : float or None
        Largest norm of a field; None where the coefficients are regressed as they are.
    errors : dict
        Cross-validated: ``median``, ``percentile_99``, ``worst`` relative L2 error of the worst visit over ``members``
        training runs, ``by_visit`` (median), ``factor`` and ``level`` of the estimate, ``tightness``, ``failed``
        training runs left out, and the fit's own description.
    """

    space: ParameterSpace
    times: np.ndarray
    size_full: int
    rows: np.ndarray
    vectors: np.ndarray
    centre: np.ndarray
    modes: np.ndarray
    fit: Fit
    low: np.ndarray
    high: np.ndarray
    rest: np.ndarray
    limit: float | None
    errors: dict[str, Any]

    @property
    def rank(self) -> int:
        """Basis vectors r."""
        return int(self.vectors.shape[1])

    def reconstruct(self, coefficients: np.ndarray) -> np.ndarray:
        """Fields (N, n) of coefficients (N, r)."""
        out = np.zeros((len(coefficients), self.size_full))
        out[:, self.rows] = coefficients @ self.vectors.T
        return out

    def check(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whitened scores (N, p), cut off at the trained range, and a code of :data:`STATUS` (N,)."""
        theta = np.asarray(theta, dtype=float)
        finite = np.isfinite(theta).all(axis=1)
        middle = np.asarray(self.space.from_gaussian(0.5 * (self.low + self.high)))
        with np.errstate(all="ignore"):
            z = self.space.to_gaussian(np.where(finite[:, None], theta, middle))
        slack = 1e-9 * (self.high - self.low)
        inside = ((z >= self.low - slack) & (z <= self.high + slack)).all(axis=1)
        status = np.where(~finite, NOT_FINITE, np.where(inside, OK, OUTSIDE))
        return np.clip(np.nan_to_num(z), self.low, self.high), status

    def predict(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients (N, V, r) at parameters (N, p), and the status (N,).

        A member outside the trained range is flagged and has the values at the range's edge.
        """
        z, status = self.check(theta)
        return _restore(
            self.centre + np.einsum("nq,qvd->nvd", self.fit.predict(z), self.modes), self.limit
        ), status

    def outside(self, theta: np.ndarray) -> str:
        """One sentence on which parameters of which members are outside the trained range, or ""."""
        z = self.space.to_gaussian(np.asarray(theta, dtype=float))
        slack = 1e-9 * (self.high - self.low)
        beyond = ~((z >= self.low - slack) & (z <= self.high + slack))
        if not beyond.any():
            return ""
        names = [self.space.names[j] for j in np.flatnonzero(beyond.any(axis=0))]
        count = int(beyond.any(axis=1).sum())
        return f"{count} of {len(z)} members are outside the range the surrogate was trained on, in {', '.join(names)}"

    def error_estimate(self, theta: np.ndarray) -> np.ndarray:
        """Estimated relative L2 error of the field of each member at each visit, shape (N, V).

        Statistical: above the true worst-visit error with the probability ``errors["level"]`` for parameters
        like the training's, by cross-validation; infinite outside the trained range, where nothing is known.
        """
        z, status = self.check(theta)
        scores = self.fit.predict(z)
        raw = _indicator(self.modes, self.centre, self.rest, self.limit, scores, self.fit.spread(z))
        return np.where((status == OK)[:, None], float(self.errors["factor"]) * raw, np.inf)


def _represent(coefficients: np.ndarray, limit: float | None) -> np.ndarray:
    """What is regressed, (N, V, d), of coefficients (N, V, r)."""
    if limit is None:
        return coefficients
    size = np.linalg.norm(coefficients, axis=2, keepdims=True)
    return np.concatenate([np.log(size), coefficients / size], axis=2)


def _restore(numbers: np.ndarray, limit: float | None) -> np.ndarray:
    """The inverse of :func:`_represent`; a norm above the limit is cut off."""
    if limit is None:
        return numbers
    return np.exp(np.minimum(numbers[:, :, :1], np.log(limit))) * numbers[:, :, 1:]


def _indicator(
    modes: np.ndarray, centre: np.ndarray, rest: np.ndarray, limit: float | None, scores: np.ndarray, spread: np.ndarray
) -> np.ndarray:  # fmt: skip
    """Claimed error over the field's norm, (N, V), before calibration."""
    claimed = np.sqrt(spread**2 @ (modes**2).sum(axis=2) + rest**2)
    if limit is not None:  # an error of the logarithm is a relative one, and of the direction too
        return claimed
    size = np.linalg.norm(centre + np.einsum("nq,qvd->nvd", scores, modes), axis=2)
    return claimed / np.maximum(size, 1e-300)


def fit_surrogate(
    space: ParameterSpace,
    runs: TrainingRuns,
    times: np.ndarray,
    size_full: int,
    fitter: Fitter,
    energy: float = 1e-4,
    most: int = 24,
) -> FieldSurrogate:
    """Regress the training runs' coefficients on their parameters.

    Parameters
    ----------
    space : ParameterSpace
    runs : TrainingRuns
    times : ndarray, shape (V,)
    size_full : int
    fitter : Fitter
        :class:`~vvuq_twin.reduction.surrogate_fits.Polynomials` or
        :class:`~vvuq_twin.reduction.surrogate_fits.GaussianProcesses`.
    energy : float
        Relative energy of the coefficients' variation that the scores may leave out.
    most : int
        Most scores.

    Raises
    ------
    BadInput
        If there are too few good runs.
    """
    n, visits, _ = runs.coefficients.shape
    if visits != len(times):
        raise BadInput(f"the runs have {visits} visits, there are {len(times)} times", "surrogate")
    if n < 4:
        raise BadInput(f"{n} good training runs are too few", "surrogate", "run more")
    size = np.linalg.norm(runs.coefficients, axis=2)
    limits: list[float | None] = [None]
    if size.min() > 1e-6 * size.max():  # a field that vanishes has no logarithm
        limits.append(3.0 * float(size.max()))
    tried = [_fit(space, runs, times, size_full, fitter, energy, most, limit) for limit in limits]
    return min(tried, key=lambda s: s.errors["median"])


def _fit(
    space: ParameterSpace, runs: TrainingRuns, times: np.ndarray, size_full: int, fitter: Fitter, energy: float, most: int,
    limit: float | None,
) -> FieldSurrogate:  # fmt: skip
    """One of the two forms."""
    n, visits, _ = runs.coefficients.shape
    numbers = _represent(runs.coefficients, limit)
    centre = numbers.mean(axis=0)
    centred = (numbers - centre).reshape(n, -1)
    _, sigma, right = np.linalg.svd(centred, full_matrices=False)
    q = max(1, min(rank_for(sigma, energy, most), n - 1))
    modes = right[:q].reshape(q, visits, -1)
    scores = centred @ right[:q].T
    fit = fitter(space, runs.z, scores)
    norm = np.maximum(runs.norm, 1e-300)
    # what the fit without a run makes of it
    without = _restore(centre + np.einsum("nq,qvd->nvd", scores + fit.left_out, modes), limit)
    relative = np.hypot(np.linalg.norm(without - runs.coefficients, axis=2), runs.missing) / norm
    beyond = ((centred - scores @ right[:q]).reshape(n, visits, -1) ** 2).sum(axis=2)
    rest = np.sqrt((beyond + (runs.missing / (1.0 if limit is None else norm)) ** 2).mean(axis=0))
    claimed = _indicator(modes, centre, rest, limit, scores + fit.left_out, fit.left_out_spread)
    worst, raw = relative.max(axis=1), np.maximum(claimed.max(axis=1), 1e-300)
    factor, level = conformal_factor(worst / raw)
    errors = {
        "median": float(np.median(worst)),
        "percentile_99": float(np.quantile(worst, 0.99, method="higher")),
        "worst": float(worst.max()),
        "by_visit": np.median(relative, axis=0).tolist(),
        "members": n,
        "factor": factor,
        "level": level,
        "tightness": float(np.median(factor * raw / np.maximum(worst, 1e-300))),
        "failed": runs.failed,
        "scores": q,
        "logarithm": limit is not None,
        **fit.describe(),
    }
    return FieldSurrogate(
        space, np.asarray(times, dtype=float), size_full, runs.rows, runs.basis.vectors, centre, modes, fit,
        runs.z.min(axis=0), runs.z.max(axis=0), rest, limit, errors,
    )  # fmt: skip
