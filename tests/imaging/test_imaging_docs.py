"""The example of docs/imaging.md runs and says what it should."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "imaging.md"


def test_the_example_of_the_page_runs(tmp_path: Path) -> None:
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert found is not None
    run = subprocess.run(
        [sys.executable, "-c", found.group(1)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    noise, columns = run.stdout.splitlines()
    assert float(noise.split()[1]) == pytest.approx(4e-5, rel=0.1)
    assert columns.startswith("33 correlated columns")
    assert [p.name for p in tmp_path.iterdir()] == ["cellularity.nii.gz"]
