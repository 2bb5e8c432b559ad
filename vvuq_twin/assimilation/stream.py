"""An analysis of more observations than fit in memory, summed block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.observations import Observations
from .diagnostics import of_signal, ranks
from .esmda import EnKF
from .onestep import OneStep
from .protocol import Carry, Key, Problem, prepare, unchanged
from .roots import Signal
from .small import FilterpyEnKF, FilterpyKalman
from .update import Update

Blocks = Callable[[], Iterable[tuple[np.ndarray, Observations]]]


def analyse_stream(
    scheme: OneStep, carry: Carry, blocks: Blocks, key: Key, status: np.ndarray | None = None
) -> tuple[Update, Carry]:
    """One analysis of observations that come in blocks.

    Parameters
    ----------
    scheme : ETKF, ESTKF, DEnKF or EnKFN
        Schemes whose transform follows from ``S S^T`` and ``S d``, sums over observations. The others need the
        observations themselves.
    carry : Carry
    blocks : callable
        Gives the blocks anew: pairs of predictions (N, b) and their observations. Low-rank columns of the error
        run through all blocks: column j of each is the same error. A member that fails in a later block has the
        blocks read once more.
    key : Key
    status : ndarray of int, shape (N,), optional

    Returns
    -------
    update : GlobalUpdate
    carry : Carry
        The history's line has the diagnostics of an ordinary analysis but Desroziers'.

    Raises
    ------
    BadInput
        If the scheme needs all observations at once, there is no block, or blocks differ in their columns.

    Notes
    -----
    With ``(I + G G^T)^-1 = I - G M G^T``, ``M = (I + G^T G)^-1``, the whitened sums are
    ``S S^T - (S G) M (S G)^T`` and so on: memory is one block and N^2 numbers.
    """
    if not isinstance(scheme, OneStep) or isinstance(scheme, EnKF | FilterpyKalman | FilterpyEnKF):
        raise BadInput(
            f"{type(scheme).__name__} needs all observations at once", "assimilation", "use the ETKF"
        )
    size = len(carry.members)
    lost = np.zeros(size, dtype=int) if status is None else np.asarray(status)
    while True:
        found = _sums(carry, blocks, key, lost)
        if not isinstance(found, np.ndarray):
            break
        lost = found
    if found is None:
        raise BadInput("there is no block of observations", "assimilation")
    p, sums, note, ids = found
    if not sums:
        return unchanged(replace(p, note=note))
    inner = np.linalg.inv(np.eye(len(sums["gg"])) + sums["gg"])
    signal = Signal.summed(
        sums["ss"] - sums["sg"] @ inner @ sums["sg"].T,
        sums["sd"] - sums["sg"] @ (inner @ sums["gd"]),
        float(sums["dd"] - sums["gd"] @ inner @ sums["gd"]),
        int(sums["count"]),
    )
    m, k = sums["count"], len(p.rows)
    expected = float(np.sqrt(sums["variance"] / m * (k + 1.0) / k + sums["noise"] / m))
    rmse = float(np.sqrt(sums["square"] / m))
    line: dict[str, Any] = {
        "spread": float(np.sqrt(sums["variance"] / m)),
        "observation_error": float(np.sqrt(sums["noise"] / m)),
        "innovation_rmse": rmse,
        "innovation_mean": float(sums["sum"] / m),
        "expected_rmse": expected,
        "spread_over_error": expected / rmse if rmse > 0 else float("inf"),
        **of_signal(signal),
        "rank_histogram": [int(c) for c in sums["ranks"]],
        "crps": float(sums["crps"] / m),
    }
    update, after = scheme.conclude(replace(p, note=note), signal, key, line)
    return update, replace(after, seen=after.seen | ids)


def _sums(
    carry: Carry, blocks: Blocks, key: Key, status: np.ndarray
) -> tuple[Problem, dict[str, Any], dict[str, Any], frozenset[str]] | np.ndarray | None:
    """Sums over all blocks; the status with what was found in it where another member failed."""
    sums: dict[str, Any] = {}
    note: dict[str, Any] = {}
    ids: set[str] = set()
    last: Problem | None = None
    for HE, observations in blocks():
        p = prepare(carry, HE, observations, status)
        failed = np.ones(len(status), dtype=int)
        failed[p.rows] = 0
        if ((failed != 0) & (status == 0)).any():
            return np.asarray(np.where(status != 0, status, failed))
        last = p
        for name, value in p.note.items():
            adds = name in ("observations", "missing", "repeated", "censored")
            note[name] = note.get(name, 0) + value if adds else value
        if not len(p.kept):
            continue
        ids |= set(p.observations.ids)
        error, d = p.observations.error, p.innovation / p.observations.error.voxel
        S, g = p.scaled, error.factor / error.voxel[:, None]
        ranked = ranks(p, key)
        block = {
            "ss": S @ S.T, "sd": S @ d, "dd": d @ d, "sg": S @ g, "gd": d @ g, "gg": g.T @ g, "count": len(d),
            "variance": p.variance.sum(), "noise": error.variance().sum(), "square": (p.innovation**2).sum(),
            "sum": p.innovation.sum(), "ranks": np.array(ranked["rank_histogram"]), "crps": len(d) * ranked["crps"],
        }  # fmt: skip
        if sums and sums["gg"].shape != block["gg"].shape:
            raise BadInput("blocks of observations differ in the columns of their error", "assimilation")
        sums = {name: sums[name] + value for name, value in block.items()} if sums else block
    return None if last is None else (last, sums, note, frozenset(ids))
