"""The example of docs/ensemble.md runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def test_the_example_of_the_page_runs(tmp_path):
    page = Path(__file__).resolve().parents[2] / "docs" / "ensemble.md"
    script = tmp_path / "example.py"
    script.write_text("\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.S)))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and done.stdout
