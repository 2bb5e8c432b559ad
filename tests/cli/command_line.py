"""What the tests of the command line share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

STUDY = Path(__file__).with_name("growth_small.yaml")


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str


Command = Callable[..., Said]


@dataclass
class Process:
    """``vvuq-twin`` in a process of its own."""

    arguments: tuple[str, ...]
    folder: Path

    def start(self) -> subprocess.Popen[str]:
        code = "from vvuq_twin.cli import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", code, *self.arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder, start_new_session=True,
        )  # fmt: skip

    def run(self) -> Said:
        process = self.start()
        out, err = process.communicate()
        return Said(process.returncode, out, err)
