"""Ensemble smoother with multiple data assimilation (Emerick & Reynolds 2013)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..domain.errors import BadInput
from ..domain.observations import Observations
from .diagnostics import found
from .etkf import square_root
from .protocol import Carry, Key, Problem, finish, prepare, unchanged
from .roots import Spectrum
from .update import GlobalUpdate, Inflation
from .whitening import whiten


def coefficients(steps: int, ratio: float = 1.0) -> np.ndarray:
    """Factors of the observation error, ``sum 1/alpha = 1``.

    Parameters
    ----------
    steps : int
    ratio : float
        Of each factor to the one before: 1 gives all equal to ``steps``; below 1 they fall, so that the
        first steps, far from the answer, are the smallest (Rafiee & Reynolds 2017).

    Returns
    -------
    ndarray, shape (steps,)

    Raises
    ------
    BadInput
        If there is no step or the ratio is not positive.

    Examples
    --------
    >>> coefficients(3, 0.5).tolist()
    [7.0, 3.5, 1.75]
    """
    if steps < 1:
        raise BadInput(f"{steps} steps are not enough", "ES-MDA steps", "use at least one, usually four")
    if not (np.isfinite(ratio) and ratio > 0):
        raise BadInput(f"the ratio of the coefficients ({ratio:g}) is not positive", "ES-MDA ratio")
    shape = float(ratio) ** np.arange(steps)
    return np.asarray(shape * np.sum(1.0 / shape))


@dataclass(frozen=True)
class ESMDA:
    """ES-MDA in member space, with perturbed observations.

    Parameters
    ----------
    steps : int
        How often the same observations are used, each time with the error covariance times alpha.
    ratio : float
        See :func:`coefficients`.

    Notes
    -----
    A step is ``E <- E + B S^T (I + S S^T)^-1 A / sqrt(N - 1)`` with ``S = Y W^T / sqrt(alpha (N - 1))``
    and ``B = (y + sqrt(alpha) eps - HE) W^T / sqrt(alpha)``, ``W^T W = R^-1``: the usual gain written
    for members. The perturbations have R's own correlation (``ObservationError.perturbations``); their
    mean over members is taken out, so that the mean is updated without sampling error in the linear
    case. ``carry.total`` holds all steps as one transform of the prior ensemble, for blocks that were
    not carried along.
    """

    steps: int = 4
    ratio: float = 1.0

    def __post_init__(self) -> None:
        coefficients(self.steps, self.ratio)

    def analyse(
        self,
        carry: Carry,
        HE: np.ndarray,
        observations: Observations,
        key: Key,
        status: np.ndarray | None = None,
    ) -> tuple[GlobalUpdate, Carry]:
        """See :class:`~vvuq_twin.assimilation.protocol.Scheme`; to be called ``steps`` times."""
        p = prepare(carry, HE, observations, status)
        if len(p.kept) == 0:
            return unchanged(p, len(carry.members), self.steps)
        alpha = float(coefficients(self.steps, self.ratio)[carry.step])
        error, k = p.observations.error, len(p.rows)
        y = whiten(error, p.anomalies)
        d = whiten(error, p.innovation)
        size = len(error.voxel) + error.factor.shape[1]
        eps = error.perturbations(key.normals("perturbations", p.numbers, size, carry.cycle, carry.step))
        eps = (eps - eps.mean(axis=0)) * np.sqrt(k / (k - 1.0))
        spectrum = Spectrum(y / np.sqrt(alpha))
        b = (d - y * np.sqrt(k - 1)) / np.sqrt(alpha) + whiten(error, eps)
        if spectrum.thin:
            update = GlobalUpdate(
                p.rows, len(carry.members), left=b, right=spectrum.thin_gain() / np.sqrt(k - 1)
            )
        else:
            update = GlobalUpdate(
                p.rows, len(carry.members), dense=np.eye(k) + spectrum.gain_rows(b) / np.sqrt(k - 1)
            )
        return update, _next(p, update, self.steps, alpha, spectrum, d, key)


@dataclass(frozen=True)
class RootESMDA:
    """ES-MDA whose steps are symmetric square roots, each with the error times alpha: no sampling noise.

    Parameters
    ----------
    steps : int
    ratio : float
        See :func:`coefficients`.

    Notes
    -----
    In the linear-Gaussian case any number of steps equals one ETKF analysis, member by member: the
    transforms of all steps are functions of the same matrix.
    """

    steps: int = 4
    ratio: float = 1.0

    def __post_init__(self) -> None:
        coefficients(self.steps, self.ratio)

    def analyse(
        self,
        carry: Carry,
        HE: np.ndarray,
        observations: Observations,
        key: Key,
        status: np.ndarray | None = None,
    ) -> tuple[GlobalUpdate, Carry]:
        """See :class:`~vvuq_twin.assimilation.protocol.Scheme`; to be called ``steps`` times."""
        p = prepare(carry, HE, observations, status)
        if len(p.kept) == 0:
            return unchanged(p, len(carry.members), self.steps)
        alpha = float(coefficients(self.steps, self.ratio)[carry.step])
        spectrum = Spectrum(whiten(p.observations.error, p.anomalies) / np.sqrt(alpha))
        d = whiten(p.observations.error, p.innovation)
        update = square_root(spectrum, d / np.sqrt(alpha), p.rows, len(carry.members), Inflation())
        return update, _next(p, update, self.steps, alpha, spectrum, d, key)


def _next(
    p: Problem, update: GlobalUpdate, steps: int, alpha: float, spectrum: Spectrum, d: np.ndarray, key: Key
) -> Carry:
    """The carry after a step: the joined transform, and after the last step the observation's ids."""
    before = p.carry.total if p.carry.step > 0 else None
    total = update if before is None else before.then(update)
    line = {"alpha": alpha, **found(p, spectrum, d, key, alpha)}
    if p.carry.step + 1 == steps:
        return finish(p, line, total)
    return replace(
        p.carry, step=p.carry.step + 1, total=total, history=p.carry.history + ({**p.note, **line},)
    )
