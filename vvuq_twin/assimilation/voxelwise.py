"""Many independent voxels with shared parameters: locally what belongs to a voxel, globally what is shared.

The voxels of a dynamic series have parameters of their own (transfer constant, volume fractions) and share
others (the arterial input, a gain). Given the shared ones the voxels are independent, so the exact analysis
of the linear-Gaussian case falls into two steps:

1. the shared values, and one coefficient per scan-level column of the error, from all observations, each
   voxel's own variation counted as error of that voxel;
2. each voxel from its own observations, given the shared values, member by member.

A global transform of all observations would instead see, with N members, sampled correlations of size
1/sqrt(N) between every voxel and the shared values, and with ten thousand voxels collapse on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.observations import Observations
from .diagnostics import ranks, spread_and_error
from .inflation import Inflation
from .protocol import Carry, Key, Problem, finish, prepare, unchanged
from .update import GlobalUpdate, pieces, tiles_of
from .whitening import root_coefficient


@dataclass(frozen=True)
class VoxelUpdate:
    """Shared scores moved for all columns, and a thin transform of its own for each voxel's columns.

    Parameters
    ----------
    members : ndarray of int, shape (K,)
    size : int
        Rows of E before.
    before, after : ndarray, shape (K, q)
        Shared scores with unit sample covariance before the analysis, and the same members' after it.
    left, right : ndarray, shape (J, K, V)
        A voxel's residual e becomes ``e + sum_j left_j (right_j^T e)``.
    voxel_of : ndarray of int, shape (n,)
        Voxel of each column of the state, -1 for a shared one.
    inflation : Inflation
    """

    members: np.ndarray
    size: int
    before: np.ndarray
    after: np.ndarray
    left: np.ndarray
    right: np.ndarray
    voxel_of: np.ndarray
    inflation: Inflation = field(default_factory=Inflation)

    def apply(
        self,
        block: np.ndarray,
        columns: np.ndarray | None = None,
        inflate: bool = True,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """See :class:`~vvuq_twin.assimilation.update.Update`."""
        voxels = tiles_of(self.voxel_of, block, columns)
        k = len(self.members)

        def work(tile: np.ndarray, where: slice) -> np.ndarray:
            mean = tile.mean(axis=0)
            tile -= mean
            along = self.before.T @ tile / (k - 1.0)
            own = tile - self.before @ along
            new = mean + self.after @ along + own
            local = np.full(tile.shape[1], -1)
            local[: where.stop - where.start] = voxels[where]
            has = np.flatnonzero(local >= 0)
            for left, right in zip(self.left, self.right):
                new[:, has] += left[:, local[has]] * (right[:, local[has]] * own[:, has]).sum(axis=0)
            return self.inflation.apply(tile, new) if inflate and self.inflation.active else new

        return pieces(block, self.members, self.size, k, work, out=out)


@dataclass(frozen=True)
class VoxelETKF:
    """Deterministic analysis of independent voxels that share parameters and scan-level errors.

    Parameters
    ----------
    observation_voxel : ndarray of int, shape (m,)
        Voxel of each observation.
    state_voxel : ndarray of int, shape (n,)
        Voxel of each column of the state, -1 for shared columns.
    inflation : Inflation
    shrink : bool
        Correct the regression of predictions on shared values for its sampling noise (below).

    Notes
    -----
    With u the shared values' scores (unit sample covariance) and b one standard normal for each low-rank
    column F of the error (scan level and representation alike), each whitened prediction is
    ``h = B u + r``, r the voxel's own part with sample covariance C, and the innovation
    ``d = B u + F b + r + noise``. Step 1: precision ``I + sum_v G^T (C + I)^-1 G``, ``G = [B, F]``.
    Step 2: the voxel's residual is moved by the symmetric square root and by the gain times
    ``d - G (u, b)_member``, so that its members keep the right correlation with the shared values and,
    through b, with the other voxels: totals over voxels have the right spread. A scan's coefficient b
    counts for that scan alone; an error that lasts is a shared parameter of the model.

    B is regressed on K members and carries noise of variance C/(K - 1) in each entry, which over V voxels
    adds up to a false precision of up to V/K. ``shrink`` estimates that sum, takes it out of each direction
    of u (``s = max(0, 1 - noise/total)``), and adds what is left of it to the posterior variance.

    Assumes that voxels vary independently given the shared values; where they do not, the shared values
    come out too sure. Cost O(K m (q + J)); nothing K x K per voxel.
    """

    observation_voxel: np.ndarray
    state_voxel: np.ndarray
    inflation: Inflation = field(default_factory=Inflation)
    shrink: bool = True

    @property
    def steps(self) -> int:
        return 1

    def analyse(
        self,
        carry: Carry,
        HE: np.ndarray,
        observations: Observations,
        key: Key,
        status: np.ndarray | None = None,
        shared: np.ndarray | None = None,
    ) -> tuple[VoxelUpdate | GlobalUpdate, Carry]:
        """See :class:`~vvuq_twin.assimilation.protocol.Scheme`.

        ``shared`` holds the members' shared values, (N, p); without them only the scan-level
        coefficients are global.
        """
        p = prepare(carry, HE, observations, status)
        size = len(carry.members)
        if len(self.observation_voxel) != len(observations.y):
            raise BadInput(
                f"{len(observations.y)} observations came for {len(self.observation_voxel)} voxel numbers",
                "assimilation",
            )
        if shared is not None and (np.ndim(shared) != 2 or len(shared) != size):
            raise BadInput(
                f"shared values of shape {np.shape(shared)} came for {size} members", "assimilation"
            )
        if len(p.kept) == 0:
            return unchanged(p)
        error, k = p.observations.error, len(p.rows)
        u = scores(np.zeros((k, 0)) if shared is None else np.asarray(shared, dtype=float)[p.rows])
        q, s = u.shape[1], error.factor.shape[1]
        if q + s + 2 > k:
            raise BadInput(
                f"{k} members cannot tell {q} shared values and {s} scan-level errors apart",
                "assimilation",
                "use a larger ensemble",
            )
        b = fresh_scores(key.normals("scan level", p.numbers, s, carry.cycle), u)
        y, d = p.scaled * np.sqrt(k - 1.0), p.innovation / error.voxel

        B = y.T @ u / (k - 1.0)
        F = error.factor / error.voxel[:, None]
        place = _by_voxel(self.observation_voxel[p.kept])
        own = place.take((y - u @ B.T).T)
        weight = _inverse(own @ np.swapaxes(own, 1, 2) / (k - 1.0))
        noise = np.zeros((q, q))
        if self.shrink and q:
            B, noise = _shrunk(B, own, weight, place, k)
            own = place.take((y - u @ B.T).T)
            weight = _inverse(own @ np.swapaxes(own, 1, 2) / (k - 1.0))
        G = np.concatenate([B, F], axis=1)
        Gv, dv = place.take(G), place.take(d[:, None])
        precision = np.eye(q + s) + np.einsum("vja,vji,vib->ab", Gv, weight, Gv, optimize=True)
        score = np.einsum("vja,vji,vi->a", Gv, weight, dv[..., 0], optimize=True)
        inverse = np.linalg.inv(precision)
        mu = inverse @ score
        cov = inverse + inverse[:, :q] @ noise @ inverse[:q]
        joint = mu + np.concatenate([u, b], axis=1) @ _root(cov)

        left, right = _local_factors(own, place.take((d - joint @ G.T).T), k)
        voxels = int(max(self.state_voxel.max(initial=-1), self.observation_voxel.max(initial=-1))) + 1
        update = VoxelUpdate(
            p.rows, size, u, joint[:, :q], place.spread(left, voxels), place.spread(right, voxels),
            self.state_voxel, self.inflation,
        )  # fmt: skip
        chi2 = float(np.einsum("vi,vij,vj->", dv[..., 0], weight, dv[..., 0], optimize=True) - score @ mu)
        signal = _signal(Gv, weight, inverse, s)
        return update, finish(p, _note(p, chi2, signal, cov[:q, :q], key))


def _note(p: Problem, chi2: float, signal: float, shared: np.ndarray, key: Key) -> Mapping[str, Any]:
    """The cycle's diagnostics, by the names of ``diagnostics.found``."""
    error = p.observations.error
    return {
        **spread_and_error(p.variance, p.innovation, error, len(p.rows)),
        "chi_square": chi2,
        "chi_square_over_m": chi2 / len(p.innovation),
        "degrees_of_freedom_for_signal": signal,
        "shared_variance_left": float(np.trace(shared) / len(shared)) if len(shared) else None,
        **ranks(p, key),
    }


def scores(values: np.ndarray) -> np.ndarray:
    """Centred combinations of the columns with unit sample covariance, shape (K, rank)."""
    centred = values - values.mean(axis=0)
    if centred.size == 0:
        return centred[:, :0]
    sd = centred.std(axis=0)
    left, size, _ = np.linalg.svd(centred / np.where(sd > 0, sd, 1.0), full_matrices=False)
    return np.asarray(left[:, size > 1e-8 * max(size[0], 1e-300)] * np.sqrt(len(values) - 1.0))


def fresh_scores(normals: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Draws made exactly centred, of unit sample covariance and uncorrelated with ``u``."""
    x = normals - normals.mean(axis=0)
    x = x - u @ (u.T @ x) / (len(u) - 1.0)
    q, r = np.linalg.qr(x)
    return np.asarray(q * np.sign(np.diag(r)) * np.sqrt(len(x) - 1.0))


@dataclass(frozen=True)
class _ByVoxel:
    """Observations grouped by voxel: ``index`` (V', J) into the observations, padded with m."""

    voxels: np.ndarray
    index: np.ndarray

    def take(self, rows: np.ndarray) -> np.ndarray:
        """(m, c) to (V', J, c), zeros where a voxel has fewer observations."""
        padded = np.concatenate([rows, np.zeros((1, rows.shape[1]))])
        return np.asarray(padded[self.index])

    def spread(self, factors: np.ndarray, count: int) -> np.ndarray:
        """(V', J, K) to (J, K, V), zeros for voxels without observations."""
        out = np.zeros((factors.shape[1], factors.shape[2], count))
        out[:, :, self.voxels] = np.moveaxis(factors, 0, 2)
        return out


def _by_voxel(voxel: np.ndarray) -> _ByVoxel:
    voxels, group, count = np.unique(voxel, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    position = np.arange(len(voxel)) - np.repeat(np.cumsum(count) - count, count)
    index = np.full((len(voxels), int(count.max())), len(voxel))
    index[group[order], position] = order
    return _ByVoxel(voxels, index)


def _inverse(cov: np.ndarray) -> np.ndarray:
    """``(C + I)^-1`` for each voxel, shape (V, J, J)."""
    return np.asarray(np.linalg.inv(cov + np.eye(cov.shape[-1])))


def _signal(Gv: np.ndarray, weight: np.ndarray, inverse: np.ndarray, scan: int) -> float:
    """Trace of the influence matrix ``HPH^T V^-1`` with ``V = C + I + G G^T``, the scan's part being error.

    ``V^-1 = W - W G (I + G^T W G)^-1 G^T W`` with W = (C + I)^-1, so nothing m x m is formed.
    """
    WG = weight @ Gv
    GWG = np.einsum("vja,vjb->ab", Gv, WG)
    trace = float((1.0 - np.einsum("vjj->vj", weight)).sum())
    trace += float(np.sum(inverse * np.einsum("vja,vjb->ab", WG, WG)))
    FWG = GWG[GWG.shape[0] - scan :]
    return trace - float(np.trace(FWG[:, GWG.shape[0] - scan :]) - np.sum((FWG @ inverse) * FWG))


def _root(cov: np.ndarray) -> np.ndarray:
    """Symmetric square root."""
    values, vectors = np.linalg.eigh(cov)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)


def _shrunk(
    B: np.ndarray, own: np.ndarray, weight: np.ndarray, place: _ByVoxel, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The regression without the directions that are sampling noise, and the noise left in the score."""
    Bv = place.take(B)
    total = np.einsum("vja,vji,vib->ab", Bv, weight, Bv, optimize=True)
    q = len(total)
    # trace of W C, voxel by voxel: C over (K - 1 - q) is the sampling covariance of an entry of B
    noise = float(np.einsum("vij,vjk,vik->", weight, own, own, optimize=True)) / (k - 1.0) / (k - 1.0 - q)
    values, vectors = np.linalg.eigh(total)
    keep = np.maximum(0.0, 1.0 - noise / np.maximum(values, 1e-300))
    project = (vectors * keep) @ vectors.T
    return B @ project, (vectors * (keep**2 * noise)) @ vectors.T


def _local_factors(own: np.ndarray, delta: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Left and right factors (V', J, K) of each voxel's transform ``I + sum_j left_j right_j^T``.

    With ``S = own / sqrt(K - 1)``: the square root ``I + S c(S^T S) S^T`` and the gain
    ``delta (I + S^T S)^-1 S^T / sqrt(K - 1)``, delta the member's own innovation.
    """
    S = own / np.sqrt(k - 1.0)
    gram = S @ np.swapaxes(S, 1, 2)
    if gram.shape[-1] == 1:
        root, gain = root_coefficient(gram), 1.0 / (1.0 + gram)
        return root * S + gain * delta / np.sqrt(k - 1.0), S
    values, vectors = np.linalg.eigh(gram)
    values, back = np.maximum(values, 0.0)[:, None, :], np.swapaxes(vectors, 1, 2)
    root = (vectors * root_coefficient(values)) @ back
    gain = (vectors / (1.0 + values)) @ back
    return root @ S + gain @ delta / np.sqrt(k - 1.0), S
