"""The reduced order with the full order behind it: members whose estimated error is too large run on all voxels.

A linear basis meets its limit at fronts it has not been shown: a few members in a hundred, and the error estimate knows
which. They are run at full order, and kept as coefficients of the longer basis (``ReducedGrowth.represent``), so that
whoever reads fields sees one kind of value. What that leaves out of them is measured, not estimated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .case import GrowthCase
from .estimate import Probe, Scale
from .growth import ReducedGrowth, stepped
from .propagate import NOT_FINITE, OK
from .training import NOTHING
from .validation import days_since_start, least_norm, left_out, run_indicated


@dataclass(frozen=True)
class Guarded:
    """Members of an ensemble, each by the order that is accurate for it.

    Parameters
    ----------
    coefficients : ndarray, shape (N, V, size + further)
        The further ones are zero but for members run at full order.
    status : ndarray of int, shape (N,)
        0 good; a code of the reduced order where neither could run the member.
    full : ndarray of bool, shape (N,)
        Run at full order.
    error : ndarray, shape (N,)
        Relative L2 error inside the tumour at the worst visit: estimated for the reduced order; for the full
        order what its coefficients leave out, its steps' own error apart.
    """

    coefficients: np.ndarray
    status: np.ndarray
    full: np.ndarray
    error: np.ndarray


def run_guarded(
    reduced: ReducedGrowth, probe: Probe, case: GrowthCase, theta: np.ndarray, tolerance: float
) -> Guarded:
    """Run members (N, p) by the reduced order, and again by the full order where that is not good enough.

    Parameters
    ----------
    reduced : ReducedGrowth
        Validated: ``errors["guard"]`` is the calibrated estimate.
    probe : Probe
    case : GrowthCase
    theta : ndarray, shape (N, p)
    tolerance : float
        Estimated relative error above which a member is run at full order; members that the reduced order
        could not run are too. At most ``GRAVE`` times the validation's.

    Returns
    -------
    Guarded
    """
    theta = np.asarray(theta, dtype=float)
    moved, status, indicated = run_indicated(reduced, probe, case, theta)
    out = np.zeros((*moved.shape[:2], reduced.vectors.shape[1]))
    out[:, :, : reduced.size] = moved
    scale = Scale(**reduced.errors["guard"])
    error = scale(indicated, days_since_start(case)).max(axis=1)
    full = (status != OK) | ~(error <= tolerance)
    # as exact as training: the time steps' own error (3e-4 on steps of three days) is far below the tolerance
    steps, least = stepped(case, reduced.longest), least_norm(case)
    values = steps.values(theta)
    for i in np.flatnonzero(full).tolist():
        one = values.of(i)
        first = case.initial(one.initial)
        states, code = steps.solve(first, one, negligible=NOTHING)
        if code[0] != OK:
            status[i] = NOT_FINITE if status[i] == OK else status[i]
            error[i] = np.inf
            continue
        status[i] = OK
        out[i] = reduced.represent(states[0])
        error[i] = left_out(reduced, case, states[0], first[0], least)[0].max()
    return Guarded(out, status, full, error)
