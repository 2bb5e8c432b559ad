"""From a study file to a run folder: where the data are, what is refused before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from vvuq_twin.domain.errors import BadInput, CannotWrite, RunFailed
from vvuq_twin.domain.runfolder import RunFolder
from vvuq_twin.study import workflow
from vvuq_twin.study.schema import StudySpec, read_study
from vvuq_twin.study.workflow import Options, find_data, run_study, write_report

SMALL = Path(__file__).parents[1] / "cli" / "growth_small.yaml"
STUDIES = Path(__file__).parents[2] / "studies"


def _spec(data: str | None) -> StudySpec:
    return read_study(SMALL)[0].model_copy(update={"data": data})


def test_data_are_beside_the_study_or_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VVUQ_TWIN_DATA", raising=False)
    study = tmp_path / "study" / "study.yaml"
    (tmp_path / "store" / "patient").mkdir(parents=True)
    (tmp_path / "given").mkdir()
    assert find_data(_spec(None), None, study) is None
    assert find_data(_spec("patient"), tmp_path / "given", study) == tmp_path / "given"
    with pytest.raises(BadInput, match=r"study\.yaml: data: the data 'patient' are neither .*--data"):
        find_data(_spec("patient"), None, study)
    with pytest.raises(BadInput, match="the data do not exist"):
        find_data(_spec(None), tmp_path / "none", study)
    monkeypatch.setenv("VVUQ_TWIN_DATA", str(tmp_path / "store"))
    assert find_data(_spec("patient"), None, study) == tmp_path / "store" / "patient"
    (tmp_path / "study" / "patient").mkdir(parents=True)
    assert find_data(_spec("patient"), None, study) == tmp_path / "study" / "patient"


def test_options_that_a_study_would_not_listen_to_are_refused(tmp_path: Path) -> None:
    for study in ("lesion_series/study.yaml", "virtual_glioma/cohort.yaml"):
        with pytest.raises(BadInput, match="--assimilate"):
            run_study(STUDIES / study, tmp_path / "run", Options(assimilate=2))
    with pytest.raises(BadInput, match="--data: a study of kind cohort makes its own"):
        run_study(STUDIES / "virtual_glioma" / "cohort.yaml", tmp_path / "run", Options(data=tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "stays"),
    [
        (BadInput("it is wrong"), False),
        (CannotWrite("the disk is full"), True),
        (RunFailed("it broke"), True),
    ],
)
def test_only_a_refused_run_leaves_no_folder(
    error: Exception, stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(workflow, "_kinds", lambda _: {"growth": refuse})
    with pytest.raises(type(error)):
        run_study(SMALL, tmp_path / "run", Options())
    assert (tmp_path / "run").exists() == stays


def test_a_refusal_never_takes_what_was_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(spec: StudySpec, data: Path | None, run: RunFolder, options: Options) -> None:
        (run.path / "results.zarr").mkdir(exist_ok=True)
        raise BadInput("too late")

    monkeypatch.setattr(workflow, "_kinds", lambda _: {"growth": late})
    for _ in range(2):
        with pytest.raises(BadInput, match="too late"):
            run_study(SMALL, tmp_path / "run", Options())
        assert (tmp_path / "run" / "results.zarr").is_dir()

    def early(*_: object) -> None:
        raise BadInput("refused")

    # a folder of an earlier run stays, even one in which nothing was finished
    (tmp_path / "run" / "results.zarr").rmdir()
    monkeypatch.setattr(workflow, "_kinds", lambda _: {"growth": early})
    with pytest.raises(BadInput, match="refused"):
        run_study(SMALL, tmp_path / "run", Options())
    assert (tmp_path / "run" / "identity.json").exists()


def test_the_run_folder_is_named_after_the_studys_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_study").mkdir()
    (tmp_path / "my_study" / "study.yaml").write_text(SMALL.read_text())
    monkeypatch.setattr(workflow, "_kinds", lambda _: {"growth": lambda *_: None})
    monkeypatch.chdir(tmp_path / "my_study")
    done = run_study(Path("study.yaml"))
    assert done.path == Path("runs/my_study") and (tmp_path / "my_study/runs/my_study/report.html").exists()
    assert [e["event"] for e in done.journal.entries()] == ["run started", "study finished"]
    assert write_report(done.path) == Path("runs/my_study/report.html")
    with pytest.raises(BadInput, match="not a run folder"):
        write_report(tmp_path)


def test_inputs_are_known_by_their_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    (data / "deep").mkdir(parents=True)
    (data / "deep" / "a.txt").write_text("a")
    (data / ".hidden").write_text("not an input")
    monkeypatch.setattr(workflow, "_kinds", lambda _: {"growth": lambda *_: None})
    run_study(SMALL, tmp_path / "run", Options(data=data))
    run_study(SMALL, tmp_path / "run", Options(data=data, workers=1))  # the number of workers is no setting
    (data / "deep" / "a.txt").write_text("b")
    with pytest.raises(BadInput, match=r"\(inputs differ\)"):
        run_study(SMALL, tmp_path / "run", Options(data=data))
