"""From a study file to a finished run folder: one entry for every kind of study."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from ..domain.errors import BadInput, CannotWrite
from ..domain.files import sha256
from ..domain.runfolder import RunFolder
from .schema import StudySpec, read_study

#: What studies keep of what they computed; a folder that has one of these is never taken away.
_RESULTS = ("results.zarr", "summary.json", "work/twin.pickle", "folds", "fields", "tables")

#: Called as ``progress(label, done, total)``; the command line shows a bar with the time left.
Progress = Callable[[str, int, int], None]


def silent(label: str, done: int, total: int) -> None:
    """A progress callback that shows nothing."""


@dataclass(frozen=True)
class Options:
    """What the command line may change about a run.

    Parameters
    ----------
    data : Path, optional
        The patient folder or table to run on instead of the study's own.
    workers : int
        Dask workers (processes of one thread); the numbers do not depend on it.
    cluster : str, optional
        Address of a Dask scheduler to use instead of an embedded cluster.
    assimilate : int, optional
        Number of visits to assimilate instead of the study's.
    """

    data: Path | None = None
    workers: int = 2
    cluster: str | None = None
    assimilate: int | None = None
    progress: Progress = field(default=silent, compare=False)


def run_study(study: Path, out: Path | None = None, options: Options | None = None) -> RunFolder:
    """Run a study file and write its run folder with the report.

    Parameters
    ----------
    study : Path
        The study file, or a folder that holds ``study.yaml``.
    out : Path, optional
        The run folder; ``runs/<name of the study's folder>`` by default. An interrupted run of the same
        study goes on where it stopped.
    options : Options, optional

    Returns
    -------
    RunFolder

    Raises
    ------
    BadInput
        If the study file, the data or the folder cannot be used.
    RunFailed
        If the computation could not be finished.
    """
    options = options or Options()
    study = Path(study)
    path = study / "study.yaml" if study.is_dir() else study
    spec, text = read_study(path)
    if options.workers < 1:
        raise BadInput(f"{options.workers} workers cannot do the work", "--workers", "give 1 or more")
    _applies(spec, options)
    data = find_data(spec, options.data, path)
    inputs = (
        {p.name if data and data.is_file() else str(p.relative_to(data)): sha256(p) for p in _files(data)}
        if data
        else {}
    )
    if isinstance(getattr(spec, "study", None), str):
        # a cohort takes its model, priors and errors from another study file: that is an input too
        inputs[spec.study] = sha256(path.parent / spec.study)  # type: ignore[attr-defined]
    folder = Path(out or Path("runs") / path.resolve().parent.name)
    fresh = not (folder / "identity.json").exists()
    run = RunFolder.open(folder, text, inputs, {"assimilate": options.assimilate})
    run.log.info("study %s (%s), %d workers", path.name, spec.kind, options.workers)
    try:
        import scipy.linalg  # noqa: F401 its BLAS has to be there to be limited

        # a sum over another number of threads has other last digits: the numbers must not hang on the machine
        with threadpool_limits(1):
            _kinds(path.parent)[spec.kind](spec, data, run, options)
    except CannotWrite:
        raise
    except BadInput:
        # refused before anything was computed: the mended input must find the place free
        if fresh and not any((folder / name).exists() for name in _RESULTS):
            run.discard()
        raise
    run.journal.append("study finished")
    write_report(run.path)
    return run


def write_report(folder: Path) -> Path:
    """(Re)make the report from what a run left.

    Raises
    ------
    BadInput
        If the folder is not a run folder.
    """
    RunFolder.existing(folder)
    from ..credibility import report

    return report(Path(folder))


def find_data(spec: StudySpec, given: Path | None, study: Path) -> Path | None:
    """Where a study's data are: ``--data``, or the study's ``data`` beside it or in ``$VVUQ_TWIN_DATA``.

    Raises
    ------
    BadInput
        If the data are named but are nowhere.
    """
    if given is not None:
        if not given.exists():
            raise BadInput("the data do not exist", str(given), "check the path given with --data")
        return given
    if spec.data is None:
        if spec.kind in ("perfusion", "lesions"):
            raise BadInput(
                "this key is missing",
                f"{study.name}: data",
                "add it, or name the place of the data with --data",
            )
        return None
    places = [study.parent / spec.data]
    if "VVUQ_TWIN_DATA" in os.environ:
        places.append(Path(os.environ["VVUQ_TWIN_DATA"]) / spec.data)
    for place in places:
        if place.exists():
            return place
    raise BadInput(
        f"the data '{spec.data}' are neither beside the study file nor in the folder VVUQ_TWIN_DATA names",
        f"{study.name}: data", "name their place with --data",
    )  # fmt: skip


def _applies(spec: StudySpec, options: Options) -> None:
    """Refuse options that this kind of study would not listen to."""
    if spec.kind != "growth" and options.assimilate is not None:
        raise BadInput(
            f"a study of kind {spec.kind} assimilates what its file says", "--assimilate", "leave it out"
        )
    if spec.kind in ("cohort", "filters") and options.data is not None:
        raise BadInput(
            f"a study of kind {spec.kind} makes its own virtual patients", "--data", "leave it out"
        )
    if options.assimilate is not None and options.assimilate < 1:
        raise BadInput(f"{options.assimilate} visits cannot be assimilated", "--assimilate", "give 1 or more")


def _files(data: Path) -> list[Path]:
    if data.is_file():
        return [data]
    return sorted(p for p in data.rglob("*") if p.is_file() and not p.name.startswith("."))


def _kinds(folder: Path) -> Mapping[str, Callable[[Any, Path | None, RunFolder, Options], Any]]:
    def growth(spec: Any, data: Path | None, run: RunFolder, options: Options) -> None:
        from .growth import growth_study

        growth_study(spec, data, run, options)

    def cohort(spec: Any, data: Path | None, run: RunFolder, options: Options) -> None:
        from .cohort import cohort as study

        study(spec, data, run, options, folder)

    def filters(spec: Any, data: Path | None, run: RunFolder, options: Options) -> None:
        from .filters import filters as study

        study(spec, data, run, options, folder)

    def perfusion(spec: Any, data: Path | None, run: RunFolder, options: Options) -> None:
        from .perfusion import perfusion as study

        assert data is not None
        study(spec, data, run, options.progress)

    def lesions(spec: Any, data: Path | None, run: RunFolder, options: Options) -> None:
        from .lesions import lesions as study

        assert data is not None
        study(spec, data, run, options.progress)

    return {
        "growth": growth,
        "cohort": cohort,
        "filters": filters,
        "perfusion": perfusion,
        "lesions": lesions,
    }
