"""Sobol indices with bootstrap of many outputs against SALib, and a chaos expansion against chaospy.

SALib analyses one output at a time; its estimates are compared with ours (largest difference of first and total
indices). chaospy's regression is called once per output, for some of the outputs, and once with all of them; times
of the chaos expansions are per output, and the difference is the largest of the predictions at unseen points over
the largest standard deviation of an output.
"""

from __future__ import annotations

import common
import numpy as np

from vvuq_twin.domain.parameters import Normal, Parameter, ParameterSpace
from vvuq_twin.reduction.polynomials import basis, families, multi_indices
from vvuq_twin.sensitivity.chaos import fit_chaos
from vvuq_twin.sensitivity.sobol import sobol_design, sobol_indices

SMALL = {
    "outputs": 3, "base": 32, "resamples": 20, "field_size": 12, "looped": 3, "wide": 50, "factors": 3, "training": 60, "repeats": 1,
}  # fmt: skip


def field(theta: np.ndarray, size: int) -> np.ndarray:
    """A smooth nonlinear model, (rows, p) to (rows, size)."""
    s = np.linspace(0.05, 0.95, size)
    p = theta.shape[1]
    waves = np.sin(np.pi * np.outer(np.arange(1, p + 1), s)) / np.arange(1, p + 1)[:, None]
    return np.exp(0.3 * theta @ waves) + 0.2 * (theta[:, :1] * theta[:, 1:2]) * s


def measure(
    outputs: int = 95,
    base: int = 512,
    resamples: int = 200,
    field_size: int = 1000,
    looped: int = 10,
    wide: int = 10_000,
    factors: int = 8,
    training: int = 400,
    repeats: int = 3,
    degree: int = 3,
) -> list[common.Row]:
    space = ParameterSpace(tuple(Parameter(f"x{i}", "1", Normal(0.0, 1.0)) for i in range(factors)))
    return [
        _sobol(space, outputs, base, resamples, repeats),
        *_chaos(space, field_size, looped, training, degree, repeats),
        _wide(space, wide, training, degree, repeats),
    ]


def _sobol(space: ParameterSpace, outputs: int, base: int, resamples: int, repeats: int) -> common.Row:
    from SALib.analyze import sobol

    design = sobol_design(space, base, 1)
    y = field(design.theta, outputs)
    problem = space.problem()

    def ours() -> tuple[np.ndarray, np.ndarray]:
        found = sobol_indices(design, y, 1, resamples)
        return found.first, found.total

    def theirs() -> tuple[np.ndarray, np.ndarray]:
        found = [
            sobol.analyze(problem, np.ascontiguousarray(column), calc_second_order=False, num_resamples=resamples, seed=1)
            for column in y.T
        ]  # fmt: skip
        return np.stack([f["S1"] for f in found], axis=1), np.stack([f["ST"] for f in found], axis=1)

    difference = float(np.abs(np.stack(ours()) - np.stack(theirs())).max())
    mine, other, ratio = common.alternate(ours, theirs, repeats)
    what = (
        f"Sobol indices, {outputs} outputs, {space.size} factors, {base} base points, {resamples} resamples"
    )
    return common.Row(what, mine, "SALib", other, ratio, "25", difference, common.peak(ours))


def _chaos(
    space: ParameterSpace, size: int, looped: int, training: int, degree: int, repeats: int
) -> list[common.Row]:
    import chaospy

    z, unseen = space.gaussian_sample(training, 1, "train"), space.gaussian_sample(64, 1, "test")
    y = field(z, size)
    joint = chaospy.J(*(chaospy.Normal(0, 1) for _ in range(space.size)))
    polynomials = chaospy.generate_expansion(degree, joint, normed=True)  # not counted

    def ours() -> np.ndarray:
        return fit_chaos(space, z, y, degrees=(degree,), hyperbolic=(1.0,)).predict(unseen)

    def each() -> np.ndarray:
        models = [chaospy.fit_regression(polynomials, z.T, column) for column in y.T[:looped]]
        return np.stack([m(*unseen.T) for m in models], axis=1)

    def at_once() -> np.ndarray:
        return np.asarray(chaospy.fit_regression(polynomials, z.T, y)(*unseen.T)).T

    found, spread, memory, rows = ours(), y.std(axis=0).max(), common.peak(ours), []
    for peer, target, count, theirs in (
        ("chaospy, a call an output", "10", looped, each), ("chaospy, all outputs in one call", "", size, at_once),
    ):  # fmt: skip
        difference = float(np.abs(found[:, :count] - theirs()).max() / spread)
        mine, other, ratio = common.alternate(ours, theirs, repeats, (size, count))
        what = f"chaos fit and prediction, an output of {size}, degree {degree}, {training} runs"
        rows.append(common.Row(what, mine, peer, other, ratio, target, difference, memory))
    return rows


def _wide(space: ParameterSpace, size: int, training: int, degree: int, repeats: int) -> common.Row:
    z = space.gaussian_sample(training, 1, "train")
    y = field(z, size)
    indices = multi_indices(space.size, degree)
    kinds = families(space)

    def ours() -> np.ndarray:
        return fit_chaos(space, z, y, degrees=(degree,), hyperbolic=(1.0,)).coefficients

    def theirs() -> np.ndarray:
        return np.linalg.lstsq(basis(z, indices, kinds), y, rcond=None)[0]

    difference = float(np.abs(ours() - theirs()).max() / y.std(axis=0).max())
    mine, other, ratio = common.alternate(ours, theirs, repeats)
    what = f"chaos fit with leave-one-out errors, {size} outputs, degree {degree}, {training} runs"
    target = "memory below 1024 MiB"
    return common.Row(
        what, mine, "numpy lstsq, coefficients only", other, ratio, target, difference, common.peak(ours)
    )


if __name__ == "__main__":
    common.show(measure())
