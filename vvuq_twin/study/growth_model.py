"""The reduced growth model of a study: trained and validated in batches, then run by workers."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..domain.files import write_bytes
from ..ensemble.context import Context
from ..ensemble.run import run_batches
from ..reduction.case import GrowthCase
from ..reduction.estimate import Probe
from ..reduction.growth import ReducedGrowth
from ..reduction.propagate import DIVERGED, OK
from ..reduction.store import identity
from ..reduction.training import Trained, Training, train
from ..twin.growth import GuardedGrowthTwin
from ..twin.observe import Burden, ReducedFields
from .growth_spec import ReductionSpec
from .growth_twin import Runner

Progress = Callable[[str, int, int], None]
#: Mean cellularity of the visible tumour that no field between 0 and 1 has; ripples of a basis are a hundredth.
OVERFULL = 1.05


class StudyModel(NamedTuple):
    """What workers need to run members.

    Parameters
    ----------
    case : GrowthCase
    reduced : ReducedGrowth
    probe : Probe
    tolerance : float
        Estimated error above which a member is run at full order.
    """

    case: GrowthCase
    reduced: ReducedGrowth
    probe: Probe
    tolerance: float

    @property
    def twin(self) -> GuardedGrowthTwin:
        """The forward model of the study."""
        return GuardedGrowthTwin(self.case, self.reduced, self.probe, self.tolerance)


def reduce_growth(
    case: GrowthCase,
    spec: ReductionSpec,
    seed: int,
    client: Any,
    progress: Progress,
    wanted: np.ndarray | None = None,
) -> Trained:
    """Train the reduced model of a patient, for members ``wanted`` (M, p) too, and measure its error on draws of the
    prior it has not seen."""
    stage = iter(range(1, 100))

    def mapped(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        tasks = list(items)
        label = f"reduced model, stage {next(stage)}"
        progress(label, 0, len(tasks))
        if client is None:
            out = []
            for i, task in enumerate(tasks, start=1):
                out.append(function(task))
                progress(label, i, len(tasks))
            return out
        from dask.distributed import as_completed

        shared = client.scatter(function, broadcast=True, hash=False)
        futures = [client.submit(_call, shared, task, pure=False, retries=1) for task in tasks]
        for i, _ in enumerate(as_completed(futures, loop=client.loop), start=1):
            progress(label, i, len(tasks))
        return list(client.gather(futures))

    return train(case, seed, how(spec), mapped, wanted)


def how(spec: ReductionSpec) -> Training:
    """The training's settings."""
    return Training(
        n_train=spec.training, n_greedy=spec.greedy, turns=spec.turns, n_valid=spec.validation, tolerance=spec.energy,
        max_rank=spec.modes, points=spec.points, longest=spec.step_days, target=spec.tolerance, rounds=spec.rounds,
        batch=4,
    )  # fmt: skip


def _call(function: Callable[[Any], Any], task: Any) -> Any:
    return function(task)


def save_model(path: Path, model: StudyModel) -> Path:
    """Keep what the workers need; a run's own scratch, not an exchange format."""
    return write_bytes(path, pickle.dumps(tuple(model), protocol=5))


def load_model(path: str) -> StudyModel:
    """What :func:`save_model` wrote."""
    with open(path, "rb") as source:
        return StudyModel(*pickle.load(source))


def model_context(path: Path) -> Context:
    """The model as a context of batches, identified by what it is: a model trained again, equal in all but the
    time it took, finds the batches of the first."""
    where = str(Path(path).resolve())
    return Context(load_model, (where,), identity(load_model(where).reduced))


def trajectory(z: np.ndarray, members: np.ndarray, model: StudyModel) -> dict[str, np.ndarray]:
    """Batch function: coefficients at the visits, (batch, V, size), the status, which order ran each member (``full``)
    and its error, estimated for the reduced order and what is left out of the full one's (``error``)."""
    found = model.twin.guarded(np.asarray(model.case.space.from_gaussian(z)))
    return {
        "coefficients": found.coefficients, "status": found.status.astype(np.int32), "full": found.full,
        "error": np.minimum(found.error, np.finfo(float).max),
    }  # fmt: skip


def quantities_task(z: np.ndarray, members: np.ndarray, model: StudyModel) -> dict[str, np.ndarray]:
    """Batch function: visible cellularity and volume at the visits, voxels, (batch, 2, V), and the status; by the
    reduced order alone. A member whose tumour holds more cells than its voxels can has gone astray: it counts as diverged,
    or one in thousands would make up a third of a variance."""
    case, reduced = model.case, model.reduced
    coefficients, status = reduced.run(case, np.asarray(case.space.from_gaussian(z)))
    flat = coefficients.reshape(-1, coefficients.shape[2])
    seen = Burden(case.n_detect, 1000.0)(ReducedFields(reduced, flat))
    out = seen.reshape(len(z), -1, 2).transpose(0, 2, 1)
    overfull = (out[:, 0] > OVERFULL * out[:, 1]).any(axis=1)
    return {
        "quantities": out,
        "status": np.where(overfull & (status == OK), DIVERGED, status).astype(np.int32),
    }


def runner(store: Path, model: Context, batch: int, client: Any, progress: Progress) -> Runner:
    """A runner that keeps every ensemble in ``store`` and goes on where it stopped."""

    def run(z: np.ndarray, label: str) -> tuple[np.ndarray, np.ndarray]:
        ensemble = run_batches(
            trajectory, z, store / label, batch, client, label,
            lambda done, total: progress(f"ensemble {label}", done, total), model,
        )  # fmt: skip
        return np.nan_to_num(ensemble["coefficients"][:]), ensemble.status

    return run
