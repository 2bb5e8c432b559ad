"""The lesion study: a population prior from training patients, each patient's scans assimilated in turn.

Cross-validated over patients: forecasts of every patient come from a population that never saw them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ..calibration.population import folds
from ..domain.errors import BadInput
from ..domain.files import sha256
from ..domain.keys import generator
from ..domain.runfolder import RunFolder
from ..twin.lesion import LesionPopulation, hyperpriors
from .lesion_folds import FoldForecasts, FoldSettings, forecast_fold, join, learn
from .lesion_report import report
from .lesion_scores import ScoredForecasts, score
from .lesion_table import LesionTable, read_lesions
from .schema import StudySpec

Count = Annotated[int, Field(ge=1)]


class LesionSpec(StudySpec):
    """Settings of a lesion study.

    Parameters
    ----------
    detection_mm : float
        Smallest diameter that counts as measured; scores are censored there.
    irregular_days : tuple of str
        Patients whose rows are known to be out of order or repeated (``read_lesions``).
    folds : int
        Of the cross-validation over patients.
    first, last, last_needs : int
        Scans assimilated before the first forecast; the last ``last`` scans of series of at least
        ``last_needs`` are the second task.
    iterations, members, volatility_nodes, still_nodes, bootstrap : int
    set_aside : int, optional
        Seed of the half of the patients that was not looked at while the model was designed; its scores are
        reported apart.
    """

    kind: Literal["lesions"]
    detection_mm: Annotated[float, Field(gt=0)]
    irregular_days: tuple[str, ...] = ()
    folds: Annotated[int, Field(ge=2)] = 5
    first: Annotated[int, Field(ge=2)] = 3
    last: Annotated[int, Field(ge=1, le=4)] = 2
    last_needs: Annotated[int, Field(ge=3)] = 6
    iterations: Count = 40
    members: Annotated[int, Field(ge=50)] = 200
    volatility_nodes: Count = 5
    still_nodes: Count = 3
    bootstrap: Annotated[int, Field(ge=200)] = 4000
    set_aside: int | None = None

    def settings(self) -> FoldSettings:
        """What a fold needs to know."""
        return FoldSettings(
            self.detection_mm, self.first, self.last, self.last_needs, self.iterations, self.members,
            (self.volatility_nodes, self.still_nodes),
        )  # fmt: skip


@dataclass(frozen=True)
class FoldPopulation:
    """A fold's population, as kept in the run folder."""

    theta: tuple[float, ...]
    z: tuple[float, ...]
    log_likelihood: float
    iterations: int
    evaluations: int
    converged: bool


@dataclass(frozen=True)
class LesionResults:
    """What the study found.

    Parameters
    ----------
    table : LesionTable
    fold : ndarray of int, shape (P,)
    populations : tuple of FoldPopulation
        One per fold.
    scored : ScoredForecasts
    """

    table: LesionTable
    fold: np.ndarray
    populations: tuple[FoldPopulation, ...]
    scored: ScoredForecasts


def lesions(
    spec: LesionSpec, data: Path, run: RunFolder, progress: Callable[[str, int, int], None]
) -> LesionResults:
    """Run the study and fill its run folder.

    Parameters
    ----------
    spec : LesionSpec
    data : Path
        The table (CSV), or the folder that holds it.
    run : RunFolder
        An interrupted run's folds are not fitted again.
    progress : callable
        ``progress(label, done, total)``.

    Raises
    ------
    BadInput
        If the table cannot be used, or holds too few patients for the folds and tasks.
    """
    table = read_lesions(data, spec.irregular_days)
    _enough(table, spec)
    run.log.info("%d patients, %d scans", len(table), int(table.visits.sum()))
    run.journal.append(
        "table read", patients=len(table), scans=int(table.visits.sum()), mended=list(table.mended)
    )
    fold = folds(len(table), spec.folds, spec.seed, "lesions/folds")
    settings = spec.settings()
    steps = spec.folds * (spec.iterations + 1)
    parts: list[FoldForecasts] = []
    populations: list[FoldPopulation] = []
    for k in range(spec.folds):
        training, test = table.take(fold != k), table.take(fold == k)
        before = k * (spec.iterations + 1)

        def tick(iteration: int, before: int = before) -> None:
            progress("Folds", before + iteration, steps)

        population = _population(run, k, training, settings, tick)
        parts.append(
            forecast_fold(LesionPopulation.from_vector(np.array(population.theta)), training, test, settings)
        )
        populations.append(population)
        run.journal.append("fold done", fold=k + 1, patients=len(test), converged=population.converged)
        progress("Folds", before + spec.iterations + 1, steps)
    results = LesionResults(table, fold, tuple(populations), score(join(parts), spec.seed))
    report(spec, results, run)
    return results


def set_aside(table: LesionTable, seed: int) -> frozenset[str]:
    """The half of the patients that a study sets aside, by the order of their names and a seed."""
    order = generator(seed, "lesions", "development").permutation(len(table))
    return frozenset(table.patient[i] for i in order[(len(table) + 1) // 2 :])


def _enough(table: LesionTable, spec: LesionSpec) -> None:
    for needed, task in ((spec.first + 1, "one scan ahead"), (spec.last_needs, "the last scans")):
        found = int((table.visits >= needed).sum())
        if found < 2 * spec.folds:
            raise BadInput(
                f"only {found} patients have {needed} scans or more, too few for {spec.folds} folds of {task}",
                "lesion table", "give more patients or fewer folds",
            )  # fmt: skip
    if spec.last_needs <= spec.last:
        raise BadInput(
            "the series are not longer than what is forecast", "last_needs", "make it larger than last"
        )


def _population(
    run: RunFolder, k: int, training: LesionTable, settings: FoldSettings, tick: Callable[[int], None]
) -> FoldPopulation:
    """A fold's population: from the run folder if this code has fitted it before, else fitted and kept."""
    name = f"fold_{k + 1}"
    path = run.path / "folds" / f"{name}.json"
    if path.exists():
        kept = json.loads(path.read_text())
        if kept["code"] == _code():
            theta, z = (tuple(float(v) for v in kept[n]) for n in ("theta", "z"))
            return FoldPopulation(
                theta, z, float(kept["log_likelihood"]), int(kept["iterations"]), int(kept["evaluations"]),
                bool(kept["converged"]),
            )  # fmt: skip
    fit = learn(training, settings, tick)
    population = FoldPopulation(
        tuple(fit.theta.tolist()), tuple(fit.z.tolist()), fit.log_likelihood, fit.iterations, fit.evaluations,
        fit.converged,
    )  # fmt: skip
    run.data(f"folds/{name}", asdict(population) | {"code": _code(), "names": list(hyperpriors().names)})
    return population


def _code() -> str:
    """Hash of the code that a fold's population depends on."""
    here = Path(__file__).parent
    files = ("../twin/lesion.py", "../assimilation/mixture.py", "../calibration/population.py", "lesion_filter.py",
             "lesion_folds.py", "lesion_table.py")  # fmt: skip
    return "".join(sha256(here / f)[:12] for f in files)
