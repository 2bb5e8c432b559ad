"""An iterative ensemble smoother: Gauss-Newton in the ensemble's subspace."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..domain.errors import BadInput
from .diagnostics import found
from .protocol import Analysis, Carry, Key, Problem, finish
from .roots import Signal
from .update import GlobalUpdate, Update
from .whitening import whiten


@dataclass(frozen=True)
class IES(Analysis):
    """Iterative ensemble smoother (Bocquet & Sakov 2014; Raanes, Stordal & Evensen 2019), square-root form.

    Parameters
    ----------
    steps : int
        The most iterations; fewer where the weights have settled.
    length : float
        Part of each Gauss-Newton step that is taken, in 0..1; smaller for strongly nonlinear models.
    tolerance : float
        Settled is where a step moves the mean by less than this many prior standard deviations (root mean
        square over the members' directions).

    Raises
    ------
    BadInput
        If there is no step, or the length is not in 0..1.

    Notes
    -----
    Members are ``x_0 + (1 w^T + T) A_0`` with A_0 the prior's anomalies. The sensitivity of the predictions
    in that subspace is the regression of their anomalies on T, ``Y_0 = T^+ Y``; with ``S = Y_0 W^T / sqrt(N-1)``

        ``w <- w + length (I + S S^T)^-1 (S d / sqrt(N - 1) - w)``,   ``T <- (I + S S^T)^(-1/2)``.

    All members move together and perturbations play no part; one whole step is the ETKF, and in the
    linear-Gaussian case every later step stays there. The cost function is that of the mean: nothing is
    approximated but the gradient, which the ensemble gives as a finite difference of its own width.
    """

    steps: int = 10
    length: float = 1.0
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise BadInput(f"{self.steps} steps are not enough", "iterative smoother", "use at least one")
        if not 0 < self.length <= 1:
            raise BadInput(f"the step length ({self.length:g}) is not in 0..1", "iterative smoother")

    def solve(self, p: Problem, key: Key) -> tuple[Update, Carry]:
        """See :class:`~vvuq_twin.assimilation.protocol.Analysis`."""
        carry, size = p.carry, p.size
        before = carry.total if carry.step > 0 and carry.total is not None else None
        if before is None:
            rows, prior = np.eye(len(p.rows)), GlobalUpdate(p.rows, size)
        else:
            # where members are lost, those that are left are taken for the whole prior
            rows, prior = (
                before.matrix()[np.ix_(p.rows, p.rows)],
                GlobalUpdate(before.members[p.rows], before.size),
            )
        n = len(rows)
        rows = rows - rows.mean(axis=1, keepdims=True)  # anomalies of the prior have no mean
        w = rows.mean(axis=0)
        back = np.linalg.pinv(rows - w)
        Y = back @ p.predictions / np.sqrt(n - 1.0)
        signal = Signal.of(whiten(p.observations.error, Y), whiten(p.observations.error, p.innovation))
        step = signal.weights() / np.sqrt(n - 1.0) - _solve(signal, w)
        after = w + self.length * step
        new = after + _dense(signal)
        moved = float(np.sqrt(np.sum((self.length * step) ** 2) * (n - 1.0) / n))
        line = {"cost": signal.square + (n - 1.0) * float(w @ w), "moved": moved}
        if before is None:
            line = {**line, **found(p, signal, key)}
            line["fitted"] = line["degrees_of_freedom_for_signal"]
        change = (new - new.mean(axis=1, keepdims=True) - w) @ back
        update = GlobalUpdate(p.rows, size, dense=change)
        total = replace(prior, dense=new)
        if carry.step + 1 == self.steps or moved < self.tolerance:
            return update, finish(p, line, total)
        return update, replace(
            p.carry, step=carry.step + 1, total=total, history=p.carry.history + ({**p.note, **line},)
        )


def _solve(signal: Signal, w: np.ndarray) -> np.ndarray:
    """``(I + S S^T)^-1 w``."""
    inverse = signal.function(-signal.values / (1.0 + signal.values))
    if "dense" in inverse:
        return np.asarray(inverse["dense"] @ w)
    return np.asarray(w + inverse["left"] @ (inverse["right"] @ w))


def _dense(signal: Signal) -> np.ndarray:
    root = signal.root()
    return root["dense"] if "dense" in root else np.eye(signal.members) + root["left"] @ root["right"]
