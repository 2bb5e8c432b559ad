"""Which parameters of a growth twin its scans can tell and its forecast needs, and what fewer would do (on request)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..domain.evidence import Evidence
from ..domain.parameters import ParameterSpace
from ..domain.runfolder import RunFolder
from ..reduction.backend import jnp
from ..sensitivity.information import Information, gradients, information
from ..sensitivity.subspace import active_subspace
from ..twin.growth import ReducedGrowthTwin
from .growth_calibration import block_readout
from .growth_forecast import QUANTITIES
from .growth_problem import GrowthProblem
from .growth_spec import GrowthSpec
from .growth_twin import Assimilated, assimilate, visible
from .workflow import Options

Step = Callable[[np.ndarray, str], tuple[np.ndarray, np.ndarray]]


def parameter_reduction(
    run: RunFolder, spec: GrowthSpec, problem: GrowthProblem, twin: ReducedGrowthTwin, result: Assimilated,
    assimilated: int, step: Step, options: Options,
) -> None:  # fmt: skip
    """Fisher information of the assimilated scans and gradients of the held-out visits' total cellularity at members of
    the posterior; parameters that can be fixed or merged; the analysis done again with them fixed and merged."""
    s = spec.parameter_reduction
    visits = problem.series.visits
    later = list(range(assimilated, len(visits))) or [len(visits) - 1]
    if s is None or assimilated < 2:
        return
    read, observations = block_readout(problem, twin.model, assimilated)
    total = twin.model.operators.total * (problem.series.grid.voxel_volume / 1000.0)
    quantities = tuple(f"total cellularity at {visits[v].id}" for v in later)

    def both(z: Any) -> Any:
        theta = problem.space.from_gaussian(z[None, :], jnp)
        coefficients, _ = twin.model.run(problem.case, theta, jnp)
        return jnp.concatenate([read(theta[0], coefficients[0]), coefficients[0, jnp.asarray(later)] @ total])

    m = len(observations.y)
    _, slopes = gradients(
        both, result.posterior[: s.draws], lambda done, n: options.progress("gradients", done, n)
    )
    found = information(problem.space, slopes[:, :m], observations.error, slopes[:, m:], quantities)
    fixed, effect = found.fixable(s.tolerance)
    directions, merged = found.merged(s.tolerance)
    scaled = found.goal / np.sqrt(np.maximum(found.prior_variance, 1e-300))[:, None]
    active = active_subspace(scaled, spec.seed)

    kept = np.diag([0.0 if n in fixed else 1.0 for n in problem.space.names])
    centre = result.posterior.mean(axis=0)
    whole = _forecast(problem, twin, result.posterior_run, later)
    rows = []
    measured: dict[str, tuple[float, float]] = {}
    for label, onto, linear in (
        (f"{len(fixed)} of {problem.space.size} parameters fixed", kept, effect),
        (f"merged into {directions.shape[1]}", directions @ directions.T, merged),
    ):
        again = _again(problem, twin, step, onto, centre, assimilated, "fixed" if onto is kept else "merged")
        spread, shift = _compare(whole, _forecast(problem, twin, again.posterior_run, later))
        for q, quantity in enumerate(QUANTITIES):
            for i, v in enumerate(later):
                both_linear = (linear.spread[i], linear.shift[i]) if q == 0 else (None, None)
                name = quantity.replace("_", " ")
                rows.append([label, name, visits[v].id, *both_linear, spread[q, i], shift[q, i]])
        measured[label] = float(np.abs(1 - spread).max()), float(np.abs(shift).max())
    _tell(run, found, fixed, rows, s.draws)
    values, vectors = found.spectrum
    run.data(
        "parameter_reduction",
        {
            "parameters": list(problem.space.names), "quantities": list(quantities), "eigenvalues": values.tolist(),
            "eigenvectors": vectors.T.tolist(), "learned": found.learned.tolist(), "share": found.share.tolist(),
            "fixed": list(fixed), "directions": directions.T.tolist(),
            "active_subspace": {
                "eigenvalues": active.values.tolist(), "low": active.low.tolist(), "high": active.high.tolist(),
                "dimension": active.dimension(),
            },
            "measured_change_of_spread_and_mean": {k: list(v) for k, v in measured.items()},
        },
    )  # fmt: skip
    for (label, pair), how in zip(measured.items(), ("fixed", "merged")):
        run.evidence(
            Evidence(
                f"sensitivity.parameters_{how}", "model_inputs",
                f"The parameters proposed to be {how} can be, without moving the forecast.",
                f"spread and mean of both quantities at every held-out visit, analysed again, move by at most {2 * s.tolerance:g} "
                "(of the spread): twice what was asked of the linearised effect",
                {"what": label, "largest change of spread": pair[0], "largest shift of a mean": pair[1],
                 "stiff directions (eigenvalue above 1)": int((values > 1).sum()),
                 "sloppy directions (below 0.1)": int((values < 0.1).sum())},
                "passed" if all(change <= 2 * s.tolerance for change in pair) else "failed",
            )
        )  # fmt: skip


@dataclass(frozen=True)
class _Fewer(ParameterSpace):
    """A space whose whitened scores are projected first: what is projected away stays at the centre."""

    onto: np.ndarray | None = None
    centre: np.ndarray | float = 0.0

    def project(self, z: Any) -> Any:
        """Scores (N, p) that differ from the centre in the kept directions only."""
        return z if self.onto is None else self.centre + (z - self.centre) @ self.onto

    def from_gaussian(self, z: Any, xp: Any = np) -> Any:
        return super().from_gaussian(self.project(z), xp)


def _again(
    problem: GrowthProblem, twin: ReducedGrowthTwin, step: Step, onto: np.ndarray, centre: np.ndarray, assimilated: int,
    label: str,
) -> Assimilated:  # fmt: skip
    """The whole analysis with projected scores, from the same draws."""
    space = _Fewer(problem.space.parameters, problem.space.correlation, onto, centre)
    fewer = replace(problem, case=replace(problem.case, space=space))

    def run(z: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
        return step(space.project(z), f"parameters {label} {name}")

    return assimilate(fewer, twin, run, assimilated, problem.spec.seed)


def _forecast(
    problem: GrowthProblem, twin: ReducedGrowthTwin, coefficients: np.ndarray, later: list[int]
) -> np.ndarray:
    """Both quantities of the members at the later visits, (2, N, visits)."""
    return np.stack([np.array(visible(problem, twin, coefficients[:, v])) for v in later], axis=2)


def _compare(whole: np.ndarray, fewer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ratio of standard deviations, and shift of the means in them, (2, visits)."""
    sd = np.maximum(whole.std(axis=1, ddof=1), 1e-300)
    return fewer.std(axis=1, ddof=1) / sd, (fewer.mean(axis=1) - whole.mean(axis=1)) / sd


def _tell(
    run: RunFolder, found: Information, fixed: tuple[str, ...], effects: list[list[Any]], draws: int
) -> None:
    learned, share = found.learned, found.share.max(axis=1)
    values, _ = found.spectrum
    order = np.argsort(-share, kind="stable")
    rows = [
        [found.space.names[i], learned[i], share[i], "yes" if found.space.names[i] in fixed else "no"]
        for i in order
    ]
    run.table(
        "information", [("parameter", ""), ("learned", ""), ("share of the forecast", ""), ("can be fixed", "")], rows,
        title="What the scans tell and the forecast needs", section="sensitivity", order=5,
        caption=f"Linearised at {draws} members of the posterior, in whitened scores. Learned: share of the prior variance that "
        "the assimilated scans remove. Share of the forecast: of the variance of the total cellularity (largest over the held-out "
        "visits), what would go if the parameter became known as well. Information's eigenvalues span "
        f"{np.log10(max(values[0], 1e-12)) - np.log10(max(values[-1], 1e-12)):.0f} decades (cut off at 1e-12), "
        f"{int((values > 1).sum())} of {len(values)} above 1, where the scans say more than the prior.",
    )  # fmt: skip
    run.table(
        "fewer_parameters",
        [("parameters", ""), ("quantity", ""), ("visit", ""), ("spread, linearised", ""), ("shift, linearised", ""),
         ("spread, analysed again", ""), ("shift, analysed again", "")],
        effects, title="What fewer parameters do to the forecast", section="sensitivity", order=6,
        caption="Fixed at the posterior mean, or all moved by a few merged ones through it. Spread: standard deviation over that with all "
        "parameters. Shift: of the mean, in standard deviations; linearised it is the root mean square over data the model could "
        "have produced, analysed again it is what the smoother makes of these scans. The linearisation sees the ADC inside the "
        "outlines only, and total cellularity over all voxels.",
    )  # fmt: skip
