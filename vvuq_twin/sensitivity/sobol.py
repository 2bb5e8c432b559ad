"""Sobol indices: design by SALib, estimators of Saltelli et al. for many outputs and resamples at once.

The estimators are those of SALib (first order after Saltelli et al. 2010, doi:10.1016/j.cpc.2009.09.018,
table 2 b; total order after Jansen, f; second order after Saltelli 2002). All are ratios of means
over the base points, so a bootstrap is a product with a matrix of resampling counts: one product
serves all resamples, factors and outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import special

from ..domain.errors import BadInput, RunFailed
from ..domain.keys import generator, integer
from ..domain.parameters import ParameterSpace
from .groups import Groups, dependent, grouped

_EDGE = 1e-12
_STILL = 1e-13  # a relative spread below this is round-off


@dataclass(frozen=True)
class SobolDesign:
    """The points at which a model is to be evaluated.

    Parameters
    ----------
    names : tuple of str
        Factors: groups, or parameters that are in none.
    membership : ndarray of int, shape (p,)
        Factor of each parameter.
    base : int
        Base points; a block of ``D + 2`` rows (``2 D + 2`` with second order) belongs to each.
    second : bool
    z : ndarray, shape (rows, p)
        Whitened Gaussian scores.
    theta : ndarray, shape (rows, p)
        Parameter values.
    dependent : bool
        Whether factors are correlated; then the indices are those of the whitened scores in their order.
    """

    names: tuple[str, ...]
    membership: np.ndarray
    base: int
    second: bool
    z: np.ndarray
    theta: np.ndarray
    dependent: bool = False

    @property
    def block(self) -> int:
        """Rows per base point."""
        return (2 if self.second else 1) * len(self.names) + 2

    @property
    def independent(self) -> np.ndarray:
        """Rows that are draws of the prior in their own right: first and last of each base point."""
        return np.add.outer(np.arange(self.base) * self.block, [0, self.block - 1]).ravel()


def sobol_design(
    space: ParameterSpace,
    base: int,
    seed: int,
    groups: Groups | None = None,
    second: bool = False,
    purpose: str = "sobol",
) -> SobolDesign:
    """Saltelli's cross-sampled design from a scrambled Sobol sequence (SALib), mapped to the priors.

    Parameters
    ----------
    space : ParameterSpace
    base : int
        Base points, a power of two; the model is run ``base * (D + 2)`` times.
    seed : int
    groups : mapping, optional
        See :func:`vvuq_twin.sensitivity.groups.grouped`.
    second : bool
        Whether second-order indices are wanted.
    purpose : str
        Names the draw.

    Raises
    ------
    BadInput
        If ``base`` is not a power of two, or the groups do not fit.
    """
    if base < 2 or base & (base - 1):
        raise BadInput(
            f"the number of base points ({base}) is not a power of two", "sensitivity", "use 256 or 512"
        )
    names, membership = grouped(space, groups)
    if len(names) < 2:
        raise BadInput("a sensitivity analysis needs at least two factors", "sensitivity groups")
    from SALib.sample import sobol

    problem = {**space.problem(), "groups": [names[k] for k in membership]}
    unit = sobol.sample(problem, base, calc_second_order=second, seed=integer(seed, purpose, "design"))
    z = special.ndtri(np.clip(unit, _EDGE, 1 - _EDGE))
    theta = np.asarray(space.from_gaussian(z))
    return SobolDesign(names, membership, base, second, z, theta, dependent(space, membership))


@dataclass(frozen=True)
class SobolIndices:
    """First, total and perhaps second order indices with bootstrap intervals.

    Parameters
    ----------
    names : tuple of str
        Factors, D of them.
    outputs : tuple of str
        Names of the outputs, or numbers as text.
    first, total : ndarray, shape (D, *out)
        0 where the output does not vary (``variance`` is 0 there).
    first_half, total_half : ndarray, shape (D, *out)
        Half-widths of the bootstrap interval.
    mean, variance : ndarray, shape (*out,)
        Of the output over the design.
    second, second_half : ndarray, shape (D, D, *out), or None
        Upper triangle; NaN elsewhere.
    base, dropped : int
        Base points, and how many of them were left out because a member had failed.
    confidence : float
    dependent : bool
    """

    names: tuple[str, ...]
    outputs: tuple[str, ...]
    first: np.ndarray
    total: np.ndarray
    first_half: np.ndarray
    total_half: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    base: int
    dropped: int
    confidence: float
    second: np.ndarray | None = None
    second_half: np.ndarray | None = None
    dependent: bool = False
    notes: tuple[str, ...] = field(default=())

    def ranking(self, output: int = 0) -> list[str]:
        """Factors by falling total index, for an output by its number in C order."""
        column = self.total.reshape(len(self.names), -1)[:, output]
        return [self.names[i] for i in np.argsort(-column, kind="stable")]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        parts = {
            "first": self.first,
            "first_half": self.first_half,
            "total": self.total,
            "total_half": self.total_half,
        }
        if self.second is not None and self.second_half is not None:
            parts |= {"second": self.second, "second_half": self.second_half}
        return {
            "method": "Sobol (Saltelli 2010, Jansen)",
            "factors": list(self.names),
            "outputs": list(self.outputs),
            **{k: plain(v) for k, v in parts.items()},
            "mean": self.mean.tolist(),
            "variance": self.variance.tolist(),
            "base_points": self.base,
            "dropped_base_points": self.dropped,
            "confidence": self.confidence,
            "dependent_factors": self.dependent,
            "notes": list(self.notes),
        }


def plain(values: np.ndarray) -> Any:
    """Nested lists with None for what is undefined (JSON has no NaN)."""
    found = values.astype(object)
    found[~np.isfinite(values)] = None
    return found.tolist()


def sobol_indices(
    design: SobolDesign,
    y: np.ndarray,
    seed: int,
    resamples: int = 200,
    confidence: float = 0.95,
    outputs: tuple[str, ...] | None = None,
    status: np.ndarray | None = None,
    chunk: int = 256,
) -> SobolIndices:
    """Estimate the indices of any number of outputs from the model's values on a design.

    Parameters
    ----------
    design : SobolDesign
    y : ndarray, shape (rows, *out)
        Model output at each row of the design.
    seed : int
        Keys the bootstrap.
    resamples : int
        Bootstrap resamples of the base points; 0 for none (half-widths NaN).
    confidence : float
        Level of the intervals (normal, from the bootstrap's standard deviation).
    outputs : tuple of str, optional
        Names of the outputs in C order.
    status : ndarray, shape (rows,), optional
        A base point with a member whose status is not 0, or whose value is not finite, is left out.
    chunk : int
        Outputs worked on at once: memory is some ``(rows + resamples * D) * chunk`` numbers.

    Raises
    ------
    BadInput
        If the shapes do not fit or the level is not inside (0, 1).
    RunFailed
        If more than half of the base points had to be left out.
    """
    y = np.asarray(y, dtype=float)
    if len(y) != len(design.theta):
        raise BadInput(f"the design has {len(design.theta)} rows, the model gave {len(y)}", "sensitivity")
    if not 0 < confidence < 1:
        raise BadInput(f"the confidence level ({confidence}) is not between 0 and 1", "sensitivity")
    shape, d, n = y.shape[1:], len(design.names), design.base
    cube = y.reshape(n, design.block, -1)
    good = np.isfinite(cube).all(axis=(1, 2))
    if status is not None:
        good &= (np.asarray(status).reshape(n, design.block) == 0).all(axis=1)
    dropped = int(n - good.sum())
    if dropped > n // 2:
        raise RunFailed(f"the sensitivity analysis lost {dropped} of {n} base points to failed members")
    cube, n = cube[good], n - dropped
    drawn = (
        generator(seed, "sobol", "bootstrap").integers(n, size=(resamples, n))
        if resamples
        else np.zeros((0, n), int)
    )
    counts = np.stack([np.bincount(row, minlength=n) for row in drawn]) / n if resamples else np.zeros((0, n))
    weights = np.concatenate([np.full((1, n), 1.0 / n), counts])  # the estimate itself is the first row
    z = float(special.ndtri(0.5 + confidence / 2))
    m = cube.shape[2]
    out = {k: np.zeros((d, m)) for k in ("first", "total", "first_half", "total_half")}
    pairs = [(j, k) for j in range(d) for k in range(j + 1, d)] if design.second else []
    second, second_half = np.full((d, d, m), np.nan), np.full((d, d, m), np.nan)
    for begin in range(0, m, chunk):
        rows = slice(begin, begin + chunk)
        part = cube[:, :, rows]
        centre, spread = part.mean(axis=(0, 1)), part.std(axis=(0, 1))
        still = spread <= _STILL * np.abs(centre)
        part = np.where(still, 0.0, (part - centre) / np.where(still, 1.0, spread))
        part = np.ascontiguousarray(part.transpose(1, 0, 2))  # a slab per role: A, AB_1 ... B
        a, b = part[0], part[-1]
        variance = weights @ (a**2 + b**2) / 2 - (weights @ (a + b) / 2) ** 2
        flat = variance <= np.finfo(float).eps

        def ratio(
            numerator: np.ndarray, variance: np.ndarray = variance, flat: np.ndarray = flat
        ) -> np.ndarray:
            return np.where(flat, 0.0, numerator / np.where(flat, 1.0, variance))

        firsts = []
        for j in range(d):
            ab = part[1 + j]
            first = ratio(weights @ (b * (ab - a)))
            total = ratio(0.5 * (weights @ (a - ab) ** 2))
            firsts.append(first)
            for name, value in (("first", first), ("total", total)):
                out[name][j, rows] = value[0]
                out[name + "_half"][j, rows] = _half(value, z)
        for j, k in pairs:
            closed = ratio(weights @ (part[1 + d + j] * part[1 + k] - a * b))
            value = closed - firsts[j] - firsts[k]
            second[j, k, rows], second_half[j, k, rows] = value[0], _half(value, z)
    names = outputs if outputs is not None else tuple(str(i) for i in range(m))
    if len(names) != m:
        raise BadInput(f"there are {m} outputs and {len(names)} names", "sensitivity")
    means = cube.mean(axis=(0, 1))
    variances = cube.var(axis=(0, 1))
    variances[np.sqrt(variances) <= _STILL * np.abs(means)] = 0.0
    notes = []
    if design.dependent:
        notes.append(
            "Factors are correlated: the indices are those of the whitened scores in the order given."
        )
    if dropped:
        notes.append(f"{dropped} of {design.base} base points left out because a member failed.")
    return SobolIndices(
        design.names,
        tuple(names),
        **{k: v.reshape(d, *shape) for k, v in out.items()},
        mean=means.reshape(shape),
        variance=variances.reshape(shape),
        base=design.base,
        dropped=dropped,
        confidence=confidence,
        second=second.reshape(d, d, *shape) if design.second else None,
        second_half=second_half.reshape(d, d, *shape) if design.second else None,
        dependent=design.dependent,
        notes=tuple(notes),
    )


def _half(values: np.ndarray, z: float) -> np.ndarray:
    """Half-width from the resamples (all rows but the first)."""
    return z * values[1:].std(axis=0, ddof=1) if len(values) > 2 else np.full(values.shape[1:], np.nan)
