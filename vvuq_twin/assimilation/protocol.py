"""What every scheme takes and gives: the carry, the key, and the checks made before any algebra."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from ..domain.errors import BadInput, RunFailed
from ..domain.keys import Label, generator, member_normals
from ..domain.observations import Observations
from .censored import equivalent
from .roots import Signal
from .series import alarms
from .update import GlobalUpdate, Update
from .whitening import whiten, whiten_parts


@dataclass(frozen=True)
class Key:
    """Names the random draws of an assimilation: a seed and any labels (patient, purpose)."""

    seed: int
    labels: tuple[Label, ...] = ()

    def normals(self, purpose: str, members: np.ndarray, size: int, *more: Label) -> np.ndarray:
        """Standard normals, one independently keyed row per member number, shape (len(members), size)."""
        return member_normals(self.seed, purpose, [int(i) for i in members], size, *self.labels, *more)

    def generator(self, purpose: str, *more: Label) -> np.random.Generator:
        """A generator named by purpose and labels."""
        return generator(self.seed, purpose, *self.labels, *more)


@dataclass(frozen=True)
class Carry:
    """What a scheme keeps from one analysis to the next.

    Parameters
    ----------
    members : ndarray of int, shape (N,)
        Numbers of the members that are alive, as they were counted at the start.
    seen : frozenset of str
        Ids of the scans that were assimilated: each counts once.
    time : float
        Of the last analysis.
    cycle : int
        Analyses finished.
    step : int
        Iteration inside an analysis, for iterative schemes.
    total : GlobalUpdate, optional
        Iterative schemes: all steps of this analysis in one, from the prior ensemble.
    inflation : ndarray, shape (1,) or (T,), optional
        Adaptive inflation of the prior's covariance, one value or one for each tile.
    spent : float
        Adaptive iterative schemes: share of the observations' information used so far in this analysis.
    dropped : tuple of (int, str)
        Members lost so far, by number, with the reason.
    history : tuple of dict
        What each analysis found (see ``diagnostics``), ready for JSON.
    """

    members: np.ndarray
    seen: frozenset[str] = frozenset()
    time: float = -np.inf
    cycle: int = 0
    step: int = 0
    total: GlobalUpdate | None = None
    inflation: np.ndarray | None = None
    spent: float = 0.0
    dropped: tuple[tuple[int, str], ...] = ()
    history: tuple[dict[str, Any], ...] = ()


def start(size: int) -> Carry:
    """The carry of a new ensemble of ``size`` members.

    Raises
    ------
    BadInput
        If there are fewer than two members.
    """
    if size < 2:
        raise BadInput(
            f"an ensemble of {size} has no spread", "ensemble size", "use at least two members, better 50"
        )
    return Carry(np.arange(size))


class Scheme(Protocol):
    """An analysis.

    Notes
    -----
    ``steps`` is how often the model is run for one set of observations, at most: call ``analyse`` until
    ``carry.step`` is zero again, each time with the predictions of the ensemble as the last update left it.
    """

    @property
    def steps(self) -> int: ...

    def analyse(
        self,
        carry: Carry,
        HE: np.ndarray,
        observations: Observations,
        key: Key,
        status: np.ndarray | None = None,
    ) -> tuple[Update, Carry]:
        """One analysis (or one step of it).

        Parameters
        ----------
        carry : Carry
            From ``start(N)`` or the last call.
        HE : ndarray, shape (N, m)
            Observations predicted by each member.
        observations : Observations
            NaN is a missing pixel; ids already seen count once.
        key : Key
        status : ndarray of int, shape (N,), optional
            Not zero where the model failed.

        Returns
        -------
        update : Update
        carry : Carry

        Raises
        ------
        BadInput
            If shapes do not fit, there is one member only, or time runs backwards.
        RunFailed
            If fewer than two members are left.
        """


@dataclass(frozen=True)
class Problem:
    """Checked input of an analysis: living members and present, new observations only.

    Parameters
    ----------
    rows : ndarray of int, shape (K,)
        Members of E that are used.
    scaled : ndarray, shape (K, m)
        Anomalies of the predicted observations over sqrt(K - 1) and over the independent error's deviation.
    innovation : ndarray, shape (m,)
        Observed minus the mean predicted.
    observations : Observations
        Those that count.
    kept : ndarray of int, shape (m,)
        Their places in what came in.
    carry : Carry
        With the losses entered.
    note : dict
        What was left out, for the history.
    size : int
        Rows of E, members that failed included.
    given : Observations
        As they came in.
    """

    rows: np.ndarray
    scaled: np.ndarray
    innovation: np.ndarray
    observations: Observations
    kept: np.ndarray
    carry: Carry
    note: Mapping[str, Any]
    size: int
    given: Observations

    @property
    def numbers(self) -> np.ndarray:
        """Numbers of the members, as counted at the start."""
        return self.carry.members

    @property
    def anomalies(self) -> np.ndarray:
        """Of the predicted observations, divided by sqrt(K - 1), shape (K, m)."""
        return np.asarray(self.scaled * self.observations.error.voxel)

    @cached_property
    def variance(self) -> np.ndarray:
        """Of the predictions, divided by K - 1, shape (m,)."""
        own = np.einsum("ij,ij->j", self.scaled, self.scaled)
        return np.asarray(own * np.square(self.observations.error.voxel))

    @property
    def predictions(self) -> np.ndarray:
        """Anomalies in units of the observation, shape (K, m)."""
        return np.asarray(self.scaled * (self.observations.error.voxel * np.sqrt(len(self.rows) - 1)))

    def signal(self) -> Signal:
        """What the observations say, in units of their joint error."""
        error = self.observations.error
        white = whiten_parts(self.scaled, error.factor / error.voxel[:, None])
        return Signal.of(white, whiten(error, self.innovation))


def prepare(
    carry: Carry,
    HE: np.ndarray,
    observations: Observations,
    status: np.ndarray | None,
    joint: bool = True,
) -> Problem:
    """Check and clean the input of an analysis.

    Missing pixels and repeated scans leave the observations; members with a status that is not zero or
    a prediction that is not finite leave the ensemble. A scan seen before may come again at any time.
    Censored values become the Gaussian observations that stand for them (see ``censored``), jointly or, for
    local schemes, each by itself. Nothing is dropped without a line in the note.
    """
    HE = np.asarray(HE, dtype=float)
    size, m = len(carry.members), len(observations.y)
    _fits(size, HE, observations, status)
    hidden = observations.censored
    present = np.isfinite(observations.y) | hidden
    repeated = _repeated(observations, carry.seen)
    kept = np.flatnonzero(present & ~repeated)
    if len(kept) and observations.time < carry.time:
        raise BadInput(
            f"a scan at time {observations.time:g} came after one at {carry.time:g}",
            "observations",
            "sort the scans by time, or start again from the earlier state",
        )
    used = observations if len(kept) == m else observations.take(kept)
    HE = np.ascontiguousarray(HE if len(kept) == m else HE[:, kept])

    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is dropped below
        mean = HE.mean(axis=0)
    rows, lost = _living(carry.members, HE, mean, status)
    if len(rows) < 2:
        raise RunFailed(f"{size - len(rows)} of {size} members failed, and no ensemble is left to analyse")
    if len(rows) < size:
        HE = HE[rows]
        mean = HE.mean(axis=0)
    # in units of the error at once: what is N x m is walked through as seldom as can be
    unit = 1.0 / (np.sqrt(len(rows) - 1) * used.error.voxel)
    scaled = HE - mean
    scaled *= unit
    if hidden.any():
        given = used.error.voxel
        used = equivalent(used, mean, scaled * given, joint)
        scaled *= given / used.error.voxel
    note = {
        "cycle": carry.cycle,
        "step": carry.step,
        "time": float(observations.time),
        "members": len(rows),
        "dropped_members": [number for number, _ in lost],
        "observations": len(kept),
        "missing": int((~present).sum()),
        **({"censored": int(hidden[kept].sum())} if hidden.any() else {}),
        "repeated": int((present & repeated).sum()),
    }
    carry = replace(carry, members=carry.members[rows], dropped=carry.dropped + tuple(lost))
    return Problem(rows, scaled, used.y - mean, used, kept, carry, note, size, observations)


def _living(
    members: np.ndarray, HE: np.ndarray, mean: np.ndarray, status: np.ndarray | None
) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """Rows of HE (N, m), with this mean, that can be used, and the numbers of the other members with the reason."""
    size = len(members)
    broken = np.zeros(size, dtype=bool) if status is None else np.asarray(status) != 0
    if np.isfinite(mean).all():  # then every prediction is: no need to look at each
        wild = np.zeros(size, dtype=bool)
    else:
        wild = ~np.isfinite(HE).all(axis=1)
    out = broken | wild
    if not out.any():
        return np.arange(size), []
    lost = np.flatnonzero(out)
    return np.flatnonzero(~out), [
        (int(members[i]), "the model failed" if broken[i] else "not finite") for i in lost
    ]


def _fits(size: int, HE: np.ndarray, observations: Observations, status: np.ndarray | None) -> None:
    """Refuse predictions, observations and a status that do not fit ``size`` members or each other."""
    m = len(observations.y)
    if HE.ndim != 2 or HE.shape[1] != m:
        raise BadInput(
            f"predictions of shape {HE.shape} do not fit {m} observations",
            "assimilation",
            "give (members, m)",
        )
    if HE.shape[0] != size:
        raise BadInput(f"predictions of {HE.shape[0]} members came for an ensemble of {size}", "assimilation")
    if size < 2:
        raise BadInput(f"an ensemble of {size} has no spread", "assimilation", "use at least two members")
    if len(observations.error.voxel) != m or len(observations.coords) != m:
        raise BadInput(
            f"the error or the coordinates do not have the observations' length ({m})", "observations"
        )
    if len(observations.ids) not in (1, m):
        raise BadInput(
            f"{len(observations.ids)} ids came with {m} observations", "observations", "give one, or one each"
        )
    if np.isinf(observations.y).any():
        raise BadInput("an observed value is infinite", "observations", "mark missing pixels with NaN")
    if observations.interval is not None:
        limits = np.asarray(observations.interval)
        if limits.shape != (m, 2) or (limits[:, 0] >= limits[:, 1]).any():
            raise BadInput(
                "the bounds of censored values are not m pairs, the lower before the upper", "observations"
            )
    if not np.isfinite(observations.time):
        raise BadInput("the time of the observations is not finite", "observations")
    if status is not None and np.shape(status) != (size,):
        raise BadInput(f"a status of shape {np.shape(status)} came for {size} members", "assimilation")


def _repeated(observations: Observations, seen: frozenset[str]) -> np.ndarray:
    """Which observations belong to a scan that was assimilated before."""
    ids = list(observations.ids)
    if len(ids) == 1:
        return np.full(len(observations.y), ids[0] in seen)
    return np.array([i in seen for i in ids], dtype=bool)


def finish(problem: Problem, found: Mapping[str, Any], total: GlobalUpdate | None = None) -> Carry:
    """The carry after a finished analysis: ids entered, time and cycle moved on."""
    carry, obs = problem.carry, problem.observations
    line = {**problem.note, **found}
    alarm = alarms((*carry.history, line), len(carry.members) + len(carry.dropped))
    if alarm:
        line["alarm"] = alarm
    return replace(
        carry,
        seen=carry.seen | frozenset(obs.ids if len(obs.y) else ()),
        time=max(carry.time, float(obs.time)),
        cycle=carry.cycle + 1,
        step=0,
        spent=0.0,
        total=total,
        history=(*carry.history, line),
    )


def unchanged(problem: Problem, steps: int = 1) -> tuple[GlobalUpdate, Carry]:
    """The answer where no observation counts: members that failed are dropped, nothing else happens."""
    update, carry = GlobalUpdate(problem.rows, problem.size), problem.carry
    if carry.step + 1 < steps:
        return update, replace(carry, step=carry.step + 1)
    return update, finish(problem, {})


class Analysis(ABC):
    """Base of the schemes: check the input, and leave everything as it is where nothing was observed.

    A subclass gives ``solve``.
    """

    @property
    def steps(self) -> int:
        """See :class:`Scheme`."""
        return 1

    @property
    def joint(self) -> bool:
        """Whether censored values of a scan shape each other (see ``censored``)."""
        return True

    def analyse(
        self,
        carry: Carry,
        HE: np.ndarray,
        observations: Observations,
        key: Key,
        status: np.ndarray | None = None,
    ) -> tuple[Update, Carry]:
        """See :class:`Scheme`."""
        p = prepare(carry, HE, observations, status, self.joint)
        return self.solve(p, key) if len(p.kept) else unchanged(p, self.steps)

    @abstractmethod
    def solve(self, p: Problem, key: Key) -> tuple[Update, Carry]:
        """The update and the carry of a checked problem with observations in it."""
