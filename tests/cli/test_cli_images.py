"""import, align, look and export as a user meets them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command_line import Command

from vvuq_twin.virtual.phantom import make_phantom
from vvuq_twin.virtual.phantom_files import write_phantom_dicom


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    phantom = make_phantom(3, (6.0, 6.0, 8.0), size=0.6, days=(0.0, 20.0))
    return write_phantom_dicom(
        phantom, tmp_path_factory.mktemp("hospital") / "export", ["t1", "adc"], layout="enhanced"
    )


def test_from_an_export_to_pages_and_objects(cli: Command, export: Path, tmp_path: Path) -> None:
    patient = tmp_path / "p-1"
    shown = cli("import", export, "--out", patient, "--dry-run", "--quiet")
    assert shown.code == 0 and "visit-2" in shown.out and "1e-6 mm2/s" in shown.out and not patient.exists()
    assert cli("import", export, "--out", patient, "--quiet").code == 0
    checked = cli("check", patient)
    assert checked.code == 0, checked.out
    aligned = cli("align", patient, "--out", tmp_path / "aligned", "--quiet")
    assert aligned.code == 0 and "visit-2: rigid by t1, moved" in aligned.out
    pages = cli("look", tmp_path / "aligned", "--quiet")
    assert pages.code == 0 and (tmp_path / "aligned" / "look" / "visit-2.png").exists()
    out = cli("export", tmp_path / "aligned", "--out", tmp_path / "out", "--quiet")
    assert out.code == 0 and (tmp_path / "out" / "visit-2" / "vtk" / "tumour-surface.vtk").exists()


def test_a_bad_export_is_one_sentence(cli: Command, export: Path, tmp_path: Path) -> None:
    shutil.copytree(export, tmp_path / "in")
    file = next((tmp_path / "in").rglob("001.dcm"))
    file.write_bytes(file.read_bytes()[:-50])
    said = cli("import", tmp_path / "in", "--out", tmp_path / "p-1", "--quiet")
    assert (
        said.code == 2
        and said.err.count("\n") == 1
        and "cannot be read" in said.err
        and "Traceback" not in said.err
    )
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    file.write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 50)
    shown = cli("import", tmp_path / "in", "--out", tmp_path / "p-1", "--dry-run", "--quiet")
    assert shown.code == 2 and "error:" in shown.err and "001.dcm" in shown.err
    for command in ("align", "export"):
        refused = cli(command, tmp_path / "in", "--out", tmp_path / "x", "--quiet")
        assert refused.code == 2 and "patient.yaml" in refused.err and not (tmp_path / "x").exists()
    wrong = cli("align", tmp_path / "in", "--out", tmp_path / "x", "--kind", "rigit", "--quiet")
    assert wrong.code == 2 and "did you mean 'rigid'?" in wrong.err
