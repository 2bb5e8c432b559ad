"""Twin of a dynamic series: one shared, uncertain arterial input; plasma-to-tissue exchange in every voxel.

Each voxel has Ktrans, ve and vp of its own (extended Tofts: well-mixed plasma and interstitium, no tracer passes
from voxel to voxel), the plasma curve is one for all. Parameters live in a Gaussian space of scores; time runs
in seconds outside, minutes inside the kinetics. The state is the tracer in the interstitium per unit Ktrans,
advanced exactly for a plasma curve that is linear between nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from ..domain.errors import BadInput
from ..domain.parameters import ParameterSpace
from ..kinetics.aif import plasma
from ..kinetics.convolution import exchange_step

SHARED = ("onset", "scale", "decay", "dispersion")
VOXEL = ("ve", "kep", "vp")


@dataclass(frozen=True)
class Softened:
    """A value that is almost linear in its Gaussian score where it is large, and never negative.

    ``value = bend * log(1 + exp((location + spread * z) / bend))``. A linear filter moves the plateau of a
    curve best when the plateau is linear in what it moves; the bend keeps it positive.
    """

    location: float
    spread: float
    bend: float

    def __call__(self, z: np.ndarray) -> np.ndarray:
        return np.asarray(self.bend * np.logaddexp(0.0, (self.location + self.spread * z) / self.bend))


@dataclass(frozen=True)
class VoxelPrior:
    """Prior of a voxel's parameters.

    Parameters
    ----------
    ve, vp : Softened
        Volume fractions as they appear (an arterial input that was not measured scales both).
    kep_median : float
        1/min.
    kep_sd_log : float
    """

    ve: Softened
    vp: Softened
    kep_median: float
    kep_sd_log: float

    def values(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ktrans (1/min), kep (1/min) and vp from scores of shape (N, 3, n) in the order of ``VOXEL``."""
        kep = self.kep_median * np.exp(self.kep_sd_log * z[:, 1])
        return self.ve(z[:, 0]) * kep, kep, self.vp(z[:, 2])


@dataclass(frozen=True)
class TracerState:
    """N members of n voxels at a node.

    Parameters
    ----------
    tissue : ndarray, shape (N, n)
        ``integral exp(-kep (t - s)) Cp(s) ds``, mM min.
    node : int
        How far the time has run.
    status : ndarray of int, shape (N,)
        0 good, 1 where a curve is not finite (its values are zeros).
    """

    tissue: np.ndarray
    node: int
    status: np.ndarray


@numba.njit(cache=True)
def _advance(
    tissue: np.ndarray, kep: np.ndarray, cp: np.ndarray, nodes: np.ndarray, first: int, last: int
) -> None:
    for i in range(tissue.shape[0]):
        for j in range(first, last):
            if cp[i, j] != 0.0 or cp[i, j + 1] != 0.0:
                exchange_step(tissue[i], kep[i], cp[i, j], cp[i, j + 1], nodes[j + 1] - nodes[j])


@dataclass(frozen=True)
class TracerModel:
    """The exchange model on the voxels of a dynamic series.

    Parameters
    ----------
    times : ndarray, shape (F,)
        Of the frames, s.
    shared : ParameterSpace
        Of the arterial input: onset (s), scale (1), decay (1/min), dispersion (1).
    voxel : VoxelPrior
    fine : tuple of float
        From when to when (s) and how finely (s) the first pass is resolved between frames.
    """

    times: np.ndarray
    shared: ParameterSpace
    voxel: VoxelPrior
    fine: tuple[float, float, float]

    def __post_init__(self) -> None:
        if self.shared.names != SHARED:
            raise BadInput(
                f"the arterial input has the parameters {', '.join(SHARED)}", "arterial_input", "give these"
            )

    @property
    def nodes(self) -> np.ndarray:
        """Times in s at which the plasma curve is sampled: the frames, and finer in the first pass."""
        start, stop, step = self.fine
        between = np.arange(start, stop, step)
        gap = np.abs(between[:, None] - self.times[None, :]).min(axis=1)
        return np.unique(np.concatenate([self.times, between[gap > 0.05 * step]]))

    def input(self, scores: np.ndarray) -> np.ndarray:
        """Plasma concentration at the nodes, mM, from shared scores (N, 4); shape (N, nodes)."""
        onset, scale, decay, dispersion = np.moveaxis(self.shared.from_gaussian(scores), -1, 0)
        return plasma(self.nodes / 60.0, onset / 60.0, scale, decay, dispersion)

    def initial(self, members: int, voxels: int) -> TracerState:
        """Before the contrast agent: nothing in the tissue."""
        return TracerState(np.zeros((members, voxels)), 0, np.zeros(members, dtype=int))

    def propagate(
        self, state: TracerState, shared: np.ndarray, voxel: np.ndarray, frame: int
    ) -> tuple[TracerState, np.ndarray]:
        """Run to a frame (counted from 0) with the scores given; exact between nodes.

        Parameters
        ----------
        state : TracerState
        shared : ndarray, shape (N, 4)
        voxel : ndarray, shape (N, 3, n)
        frame : int

        Returns
        -------
        state : TracerState
        status : ndarray of int, shape (N,)
        """
        nodes = self.nodes
        last = int(np.searchsorted(nodes, self.times[frame]))
        if last < state.node:
            raise BadInput(
                "the tracer model cannot run backwards", "tracer", "start again from the first frame"
            )
        _, kep, _ = self.voxel.values(voxel)
        tissue = state.tissue.copy()
        _advance(tissue, np.ascontiguousarray(kep), self.input(shared), nodes / 60.0, state.node, last)
        bad = ~np.isfinite(tissue).all(axis=1)
        tissue[bad] = 0.0
        status = np.where(bad, 1, state.status)
        return TracerState(tissue, last, status), status

    def observe(self, state: TracerState, shared: np.ndarray, voxel: np.ndarray) -> np.ndarray:
        """Concentration in the voxels at the state's time, mM, shape (N, n)."""
        ktrans, _, vp = self.voxel.values(voxel)
        return vp * self.input(shared)[:, state.node, None] + ktrans * state.tissue

    def at(self, shared: np.ndarray, voxel: np.ndarray, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Concentration (N, n) at a frame, run from the start, and the status (N,)."""
        state, status = self.propagate(self.initial(len(shared), voxel.shape[2]), shared, voxel, frame)
        return self.observe(state, shared, voxel), status
