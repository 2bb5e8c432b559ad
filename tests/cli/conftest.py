"""The command line as a user meets it: arguments in, exit code and words out."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Command, Process, Said


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run ``vvuq-twin`` in this process."""
    from vvuq_twin.cli import main

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.setenv(name, "1")

    def call(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["vvuq-twin", *(str(a) for a in arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        shown = capsys.readouterr()
        return Said(int(left.value.code or 0), shown.out, shown.err)

    return call


@pytest.fixture(scope="session")
def process(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Process]:
    """``process(*arguments)``: a command that can be run, watched and killed."""
    return lambda *arguments: Process(tuple(str(a) for a in arguments), tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def small_patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual patient's folder, not to be changed."""
    from vvuq_twin.virtual.folder import write_patient
    from vvuq_twin.virtual.glioma import make_patient

    return write_patient(make_patient(7, 8.0, 2), tmp_path_factory.mktemp("small") / "patient")


@pytest.fixture
def patient(small_patient: Path, tmp_path: Path) -> Path:
    """A copy of the virtual patient's folder, to be broken."""
    return Path(shutil.copytree(small_patient, tmp_path / "patient"))
