"""What filters of one step share: check, whiten, inflate, transform, record."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .diagnostics import found
from .inflation import Adaptive, Inflation
from .protocol import Analysis, Carry, Key, Problem, finish
from .roots import Signal
from .update import GlobalUpdate, Update


@dataclass(frozen=True)
class OneStep(Analysis):
    """Base of the global filters: a subclass gives ``transform``.

    Parameters
    ----------
    inflation : Inflation
        Applied after the transform.
    adaptive : Adaptive, optional
        Inflation of the prior, estimated from the innovations; it is kept in ``carry.inflation``.
    """

    inflation: Inflation = field(default_factory=Inflation)
    adaptive: Adaptive | None = None

    @abstractmethod
    def transform(self, signal: Signal, problem: Problem, key: Key) -> tuple[dict[str, Any], dict[str, Any]]:
        """The fields of the ``GlobalUpdate`` that say what X is, and lines for the history."""

    def solve(self, p: Problem, key: Key) -> tuple[Update, Carry]:
        """See :class:`~vvuq_twin.assimilation.protocol.Analysis`."""
        signal = p.signal()
        return self.conclude(p, signal, key, found(p, signal, key))

    def conclude(
        self, p: Problem, signal: Signal, key: Key, line: dict[str, Any]
    ) -> tuple[GlobalUpdate, Carry]:
        """The update and the carry of a problem whose signal is known."""
        carry, prior = p.carry, 1.0
        if self.adaptive is not None:
            before = np.ones(1) if carry.inflation is None else carry.inflation
            after = self.adaptive.estimate(
                before, np.array([signal.square]), np.array([signal.values.sum()]), np.array([signal.count])
            )
            carry, prior = replace(carry, inflation=after), float(np.sqrt(after[0]))
            line = {**line, "adaptive_inflation": float(after[0])}
        change, more = self.transform(signal.scaled(prior), p, key)
        change["prior"] = prior * change.get("prior", 1.0)
        update = GlobalUpdate(p.rows, p.size, inflation=self.inflation, **change)
        return update, finish(replace(p, carry=carry), {**line, **more})
