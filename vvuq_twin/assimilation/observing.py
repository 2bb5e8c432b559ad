"""Before an analysis: observations screened for gross outliers, thinned, or averaged over cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.observations import ObservationError, Observations
from .protocol import Carry

#: Outliers that are named one by one in the log.
NAMED = 50


def screen(
    carry: Carry, HE: np.ndarray, observations: Observations, limit: float = 5.0, most: float = 0.1
) -> tuple[Observations, Carry]:
    """Take gross outliers out, and write down which.

    Parameters
    ----------
    carry : Carry
    HE : ndarray, shape (N, m)
        Predictions; members that failed (not finite) are left aside.
    observations : Observations
    limit : float
        Departures beyond this many standard deviations of spread and error together are outliers.
    most : float
        If more than this part of the scan's values are outliers, the ensemble or the error is wrong and not the
        scan: then nothing is taken out.

    Returns
    -------
    observations : Observations
        With NaN for the outliers.
    carry : Carry
        With a line in its history: ``screened``, the number ``outliers``, the ``worst`` of them (place, scan,
        value, expected, deviations), ``refused`` where there were too many.

    Raises
    ------
    BadInput
        If the limit is not positive.
    """
    if not limit > 0:
        raise BadInput(f"the limit for outliers ({limit:g}) is not positive", "quality control")
    good = HE[np.isfinite(HE).all(axis=1)]
    if len(good) < 2:
        return observations, carry
    mean, variance = good.mean(axis=0), good.var(axis=0, ddof=1)
    off = np.abs(observations.y - mean) / np.sqrt(variance + observations.error.variance())
    wrong = np.flatnonzero(off > limit)  # NaN is not
    refused = len(wrong) > most * max(int(np.isfinite(observations.y).sum()), 1)
    ids = observations.ids
    worst = wrong[np.argsort(-off[wrong], kind="stable")][:NAMED]
    line: dict[str, Any] = {
        "cycle": carry.cycle,
        "screened": True,
        "outliers": len(wrong),
        "refused": refused,
        "worst": [
            {
                "place": int(i), "scan": ids[int(i)] if len(ids) == len(off) else ids[0],
                "value": float(observations.y[i]), "expected": float(mean[i]), "deviations": float(off[i]),
            }
            for i in worst
        ],
    }  # fmt: skip
    carry = replace(carry, history=(*carry.history, line))
    if refused or not len(wrong):
        return observations, carry
    y = observations.y.copy()
    y[wrong] = np.nan
    return replace(observations, y=y), carry


def _cells(observations: Observations, edge: float) -> np.ndarray:
    """Cell of each observation that is present, by cubes of side ``edge`` mm; -1 for the others."""
    if not (np.isfinite(edge) and edge > 0):
        raise BadInput(f"the side of the cells ({edge:g} mm) is not positive", "observations")
    if observations.coords.shape[1] == 0:
        raise BadInput(
            "observations without positions cannot be thinned", "observations", "give coords in mm"
        )
    out = np.full(len(observations.y), -1)
    rows = np.flatnonzero(np.isfinite(observations.y))
    cells = np.floor(observations.coords[rows] / edge + 1e-9).astype(int)
    out[rows] = np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1)
    return out


def thinned(observations: Observations, edge: float) -> np.ndarray:
    """Rows of a thinner set: in each cube of side ``edge`` mm the value nearest to the cube's centre.

    What is censored or missing is not taken.
    """
    cell = _cells(observations, edge)
    centre = (np.floor(observations.coords / edge + 1e-9) + 0.5) * edge
    away = ((observations.coords - centre) ** 2).sum(axis=1)
    order = np.lexsort((away, cell))
    first = np.flatnonzero(np.diff(cell[order], prepend=-2) != 0)
    rows = order[first]
    return np.sort(rows[cell[rows] >= 0])


@dataclass(frozen=True)
class SuperObs:
    """Averages over cells of observations, weighted by their precision.

    Parameters
    ----------
    observations : Observations
        The averages, their places, and the error that averages have: the independent part shrinks with the
        number of values, the correlated columns are averaged and do not.
    cell : ndarray of int, shape (m,)
        Cell of each original value, -1 where it was missing.
    weight : ndarray, shape (m,)
    """

    observations: Observations
    cell: np.ndarray
    weight: np.ndarray

    def predict(self, HE: np.ndarray) -> np.ndarray:
        """Predictions (N, m) averaged alike, shape (N, cells)."""
        return _averages(np.asarray(HE, dtype=float), self.cell, self.weight)


def _averages(x: np.ndarray, cell: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted means over cells of the last axis."""
    rows = np.flatnonzero(cell >= 0)
    rows = rows[np.argsort(cell[rows], kind="stable")]
    start = np.flatnonzero(np.diff(cell[rows], prepend=-1))
    return np.asarray(np.add.reduceat(x[..., rows] * weight[rows], start, axis=-1))


def superobs(observations: Observations, edge: float) -> SuperObs:
    """Average the values in each cube of side ``edge`` mm."""
    cell = _cells(observations, edge)
    precision = np.where(cell >= 0, 1.0 / observations.error.voxel**2, 0.0)
    total = np.bincount(cell[cell >= 0], weights=precision[cell >= 0])
    weight = np.where(cell >= 0, precision / total[np.maximum(cell, 0)], 0.0)

    def averaged(x: np.ndarray) -> np.ndarray:
        return _averages(x.T, cell, weight).T

    error = ObservationError(
        1.0 / np.sqrt(total), averaged(observations.error.scan), averaged(observations.error.representation)
    )
    ids = list(observations.ids)
    if len(ids) == len(observations.y):
        # the scan of each cell's first value; cells of two scans are not mixed
        first = np.unique(np.where(cell >= 0, cell, total.size), return_index=True)[1][: total.size]
        ids = [ids[int(i)] for i in first]
    y = averaged(np.where(cell >= 0, observations.y, 0.0))
    return SuperObs(
        Observations(y, error, averaged(observations.coords), ids, observations.time), cell, weight
    )
