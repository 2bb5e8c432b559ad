"""The patient file shown in the documentation is a good one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vvuq_twin.domain.patient import load_patient, problems

PAGE = Path(__file__).resolve().parents[2] / "docs" / "patient.md"


def test_the_example_of_the_page_loads(tmp_path: Path) -> None:
    found = re.search(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert found is not None
    text = found.group(1)
    for name in re.findall(r"file: ([\w/.-]+)", text):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "patient.yaml").write_text(text)
    assert problems(tmp_path) == []
    patient = load_patient(tmp_path)
    assert len(patient.fractions) == 30 and sum(f.dose for f in patient.fractions) == 60
    assert {f.day % 7 for f in patient.fractions} == {0.0, 1.0, 2.0, 3.0, 4.0}
    assert len(patient.doses) == 42 and patient.amount(patient.doses[0], "mg") == pytest.approx(138.75)
    assert patient.visits[1].day == pytest.approx(35 + 14.5 / 24)
