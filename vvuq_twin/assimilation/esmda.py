"""The stochastic filter, and smoothers that use the same observations several times with a larger error."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from .correlation import ColumnUpdate
from .diagnostics import found
from .onestep import OneStep
from .protocol import Analysis, Carry, Key, Problem, finish
from .roots import Signal, with_mean
from .update import GlobalUpdate, Update
from .whitening import whiten_parts


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


def draws(p: Problem, key: Key) -> np.ndarray:
    """Each member's draw of the observations' error, in units of that error, shape (K, m).

    Notes
    -----
    The draws are those of R's own correlation (``ObservationError.perturbations``), whitened.
    """
    error = p.observations.error
    m, columns = error.factor.shape
    eps = key.normals("perturbations", p.numbers, m + columns, p.carry.cycle, p.carry.step)
    if columns:
        g = error.factor / error.voxel[:, None]
        eps = whiten_parts(eps[:, :m] + eps[:, m:] @ g.T, g)
    return eps


@dataclass(frozen=True)
class EnKF(OneStep):
    """Stochastic ensemble Kalman filter: each member meets its own draw of the observations.

    Parameters
    ----------
    inflation, adaptive
        See :class:`~vvuq_twin.assimilation.onestep.OneStep`.

    Notes
    -----
    Burgers, van Leeuwen & Evensen (1998), Mon. Wea. Rev. 126:1719; the perturbations as in
    ES-MDA.
    """

    def transform(self, signal: Signal, problem: Problem, key: Key) -> tuple[dict[str, Any], dict[str, Any]]:
        """See :class:`~vvuq_twin.assimilation.onestep.OneStep`."""
        return signal.met(draws(problem, key)), {}


@dataclass(frozen=True)
class _Tempered(Analysis):
    """What smoothers with a larger error in each of several steps share."""

    steps: int = 4
    ratio: float = 1.0
    adaptive: bool = False

    def __post_init__(self) -> None:
        coefficients(self.steps, self.ratio)

    def solve(self, p: Problem, key: Key) -> tuple[Update, Carry]:
        """See :class:`~vvuq_twin.assimilation.protocol.Analysis`."""
        signal = p.signal()
        alpha = self._alpha(p, signal)
        update = self.move(p, signal, alpha, key)
        line = {"fitted": self.fitted(p, signal, alpha), **found(p, signal, key)}
        return update, self._next(p, update, alpha, line)

    @abstractmethod
    def move(self, p: Problem, signal: Signal, alpha: float, key: Key) -> Update:
        """One step, the error covariance multiplied by ``alpha``."""

    @abstractmethod
    def fitted(self, p: Problem, signal: Signal, alpha: float) -> float:
        """Degrees of freedom for signal that this step's gain is fitted with, beyond those of earlier steps."""

    def _alpha(self, p: Problem, signal: Signal) -> float:
        """The factor of this step's observation error."""
        if not self.adaptive:
            return float(coefficients(self.steps, self.ratio)[p.carry.step])
        left = 1.0 - p.carry.spent
        if p.carry.step + 1 == self.steps:
            return 1.0 / left
        half, m = 0.5 * signal.misfits(), signal.count
        share = max(m / (2.0 * float(np.mean(half))), float(np.sqrt(m / (2.0 * np.var(half, ddof=1)))))
        return 1.0 / min(share, left)

    def _next(self, p: Problem, update: Update, alpha: float, line: dict[str, Any]) -> Carry:
        """The carry after a step: the joined transform, and after the last step the observation's ids."""
        total = update if isinstance(update, GlobalUpdate) else None
        if p.carry.step > 0 and total is not None:
            total = None if p.carry.total is None else p.carry.total.then(total)
        line, spent = {"alpha": alpha, **line}, p.carry.spent + 1.0 / alpha
        if spent > 1.0 - 1e-9:
            return finish(p, line, total)
        return replace(
            p.carry, step=p.carry.step + 1, spent=spent, total=total,
            history=p.carry.history + ({**p.note, **line},),
        )  # fmt: skip


@dataclass(frozen=True)
class ESMDA(_Tempered):
    """Ensemble smoother with multiple data assimilation (Emerick & Reynolds 2013), perturbed observations.

    Parameters
    ----------
    steps : int
        How often the same observations are used, each time with the error covariance times alpha; the most
        there may be if the coefficients are adaptive.
    ratio : float
        See :func:`coefficients`.
    adaptive : bool
        Choose each alpha by the misfit as it is: ``1/alpha = max(m / (2 <phi>), sqrt(m / (2 var phi)))`` with
        phi half the members' squared misfit in units of the error, until the sum is one (Iglesias & Yang
        2021, Inverse Problems 37:025008). The last step allowed takes what is left.

    Notes
    -----
    A step is ``E <- E + B S^T (I + S S^T)^-1 A / sqrt(N - 1)`` with ``S = Y W^T / sqrt(alpha (N - 1))``
    and ``B = (y + sqrt(alpha) eps - HE) W^T / sqrt(alpha)``, ``W^T W = R^-1``: the usual gain written
    for members. ``carry.total`` holds all steps as one transform of the prior ensemble, for blocks that
    were not carried along.
    """

    def move(self, p: Problem, signal: Signal, alpha: float, key: Key) -> Update:
        """Each member meets its own draw of the observations, the error's deviation times sqrt(alpha)."""
        return GlobalUpdate(p.rows, p.size, **signal.scaled(1.0, np.sqrt(alpha)).met(draws(p, key)))

    def fitted(self, p: Problem, signal: Signal, alpha: float) -> float:
        """Each step's own: the perturbations have made another ensemble of it, whose chance correlations are new."""
        return float((signal.values / (signal.values + alpha)).sum())


@dataclass(frozen=True)
class RootESMDA(_Tempered):
    """ES-MDA whose steps are symmetric square roots, each with the error times alpha: no sampling noise.

    Parameters
    ----------
    steps, ratio, adaptive
        See :class:`ESMDA`.
    columns : bool
        An analysis for each column from the observations it is correlated with beyond chance, for
        parameters that have no place (:mod:`~vvuq_twin.assimilation.correlation`). There is no one transform
        then, and no ``carry.total``.

    Notes
    -----
    In the linear-Gaussian case any number of steps equals one ETKF analysis, member by member: the
    transforms of all steps are functions of the same matrix.
    """

    columns: bool = False

    def move(self, p: Problem, signal: Signal, alpha: float, key: Key) -> Update:
        """A symmetric square root, or one for each column."""
        if self.columns:
            return ColumnUpdate.of(p, p.size, alpha)
        part = signal.scaled(1.0, np.sqrt(alpha))
        return GlobalUpdate(p.rows, p.size, **with_mean(part.members, part.weights(), part.root()))

    def fitted(self, p: Problem, signal: Signal, alpha: float) -> float:
        """Those of the whole analysis in the first step: all steps are one transform of the same ensemble."""
        return 0.0 if p.carry.step > 0 else float((signal.values / (signal.values + 1.0)).sum())
