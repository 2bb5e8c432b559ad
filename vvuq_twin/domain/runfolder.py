"""The folder a run leaves: what was run, on what, with which numbers, evidence and pictures."""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BadInput
from .evidence import Evidence, _plain, read_evidence
from .files import cannot_write, sha256, write_text, write_with
from .journal import Journal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DISTRIBUTIONS = (
    "vvuq_twin", "numpy", "scipy", "numba", "jax", "xarray", "zarr", "dask", "distributed", "SALib",
    "chaospy", "pymc", "arviz", "SimpleITK", "filterpy", "pydantic", "matplotlib",
)  # fmt: skip


@dataclass(frozen=True)
class Number:
    """One number of the report's first page, for scripts to read.

    Parameters
    ----------
    name : str
        Stable name ("crps_total_cellularity").
    value : float
    unit : str
    interval : tuple of float, optional
        Lower and upper bound at ``level``.
    level : float, optional
        Probability of the interval.
    group : str
        What it belongs to ("forecast", "validation", "reduction", ...).
    of : str
        Whose number it is: "forecast", or "baseline: persistence".
    description : str
    """

    name: str
    value: float
    unit: str
    interval: tuple[float, float] | None = None
    level: float | None = None
    group: str = ""
    of: str = "forecast"
    description: str = ""


@dataclass(frozen=True)
class RunFolder:
    """A run folder, opened for one study.

    Make one with :meth:`open`. Everything is written atomically; the folder may be opened again by the
    same study to go on where it stopped, and by no other.
    """

    path: Path
    _numbers: list[Number] = field(default_factory=list, repr=False)

    @classmethod
    def open(
        cls, path: Path, study: str, inputs: Mapping[str, str], settings: Mapping[str, Any]
    ) -> RunFolder:
        """Create the folder, or open it again if it belongs to the same study, inputs and settings.

        Parameters
        ----------
        path : Path
        study : str
            Text of the study file as run.
        inputs : mapping of str to str
            Input name to SHA-256.
        settings : mapping
            What the command line changed and what decides the numbers (not the number of workers).

        Raises
        ------
        BadInput
            If the folder belongs to another study, is not a run folder, or cannot be written.
        """
        path = Path(path)
        identity = {"study": study, "inputs": dict(inputs), "settings": dict(settings)}
        marker = path / "identity.json"
        try:
            if path.exists() and not path.is_dir():
                raise BadInput("this is a file, not a folder", str(path), "choose another folder with --out")
            again = marker.exists()
            if again:
                then = _identity(marker)
                now = json.loads(json.dumps(identity, default=_plain))
                if then != now:
                    changed = ", ".join(k for k in now if then.get(k) != now[k])
                    raise BadInput(
                        f"this run folder belongs to another study ({changed} differ)", str(path),
                        "choose another folder with --out, or delete this one",
                    )  # fmt: skip
            elif path.exists() and any(not p.name.startswith(".part-") for p in path.iterdir()):
                raise BadInput(
                    "the folder is not empty and is not a run folder", str(path), "choose another with --out"
                )
            path.mkdir(parents=True, exist_ok=True)
            if not os.access(path, os.W_OK):
                raise PermissionError(13, "no permission")
        except OSError as error:
            raise cannot_write(path, error) from error
        run = cls(path)
        # what a process that was killed had begun to write
        for part in list(path.rglob(".part-*")):
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)
        # the marker first: whatever stops the next lines, the folder is known as this study's
        write_text(marker, json.dumps(identity, indent=1, sort_keys=True, default=_plain) + "\n")
        write_text(path / "study.yaml", study)
        write_text(path / "inputs.json", json.dumps(dict(inputs), indent=1, sort_keys=True) + "\n")
        write_text(path / "environment.json", json.dumps(environment(), indent=1, sort_keys=True) + "\n")
        event = "run resumed" if run.journal.entries() else "run started"
        run.journal.append(event, inputs=dict(inputs), settings=dict(settings))
        return run

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """A finished or interrupted run, for reading.

        Raises
        ------
        BadInput
            If the folder does not exist or holds no run.
        """
        path = Path(path)
        if not (path / "identity.json").exists():
            raise BadInput(
                "this is not a run folder (identity.json is missing)", str(path), "name the folder of a run"
            )
        return cls(path)

    def discard(self) -> None:
        """Empty the folder and remove it; for a run that was refused before anything was computed."""
        for handler in list(self.log.handlers):
            self.log.removeHandler(handler)
            handler.close()
        shutil.rmtree(self.path, ignore_errors=True)

    @cached_property
    def journal(self) -> Journal:
        return Journal(self.path / "journal.jsonl")

    @cached_property
    def log(self) -> logging.Logger:
        """A logger that writes to ``log.txt``."""
        logger = logging.getLogger(f"vvuq_twin.run.{abs(hash(str(self.path)))}")
        logger.setLevel(logging.INFO)
        logger.propagate = False
        if not logger.handlers:
            handler = logging.FileHandler(self.path / "log.txt", encoding="utf-8")
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            logger.addHandler(handler)
        return logger

    def evidence(self, *items: Evidence) -> None:
        """Write evidence; a failed check is written like any other."""
        for item in items:
            item.write(self.path / "evidence")
            self.journal.append("evidence", id=item.id, status=item.status)

    def all_evidence(self) -> list[Evidence]:
        return read_evidence(self.path / "evidence")

    def summary(self, *numbers: Number) -> None:
        """Add numbers (the same name and ``of`` replace) and write ``summary.json``."""
        for number in numbers:
            self._numbers[:] = [n for n in self._numbers if (n.name, n.of) != (number.name, number.of)] + [
                number
            ]
        rows = [asdict(n) for n in self._numbers]
        write_text(self.path / "summary.json", json.dumps(rows, indent=1, default=_plain) + "\n")

    def figure(
        self,
        name: str,
        figure: Figure,
        *,
        title: str,
        caption: str,
        section: str,
        order: int = 0,
        alt: str = "",
    ) -> None:
        """Save ``figures/<name>.png`` and its sidecar ``figures/<name>.json``; the figure is closed."""
        path = self.path / "figures" / f"{name}.png"
        write_with(
            path,
            lambda p: figure.savefig(p, dpi=130, bbox_inches="tight", metadata={"Software": "vvuq_twin"}),
        )
        figure.clear()
        side = {"title": title, "caption": caption, "section": section, "order": order, "alt": alt or title}
        write_text(path.with_suffix(".json"), json.dumps(side, indent=1) + "\n")

    def table(
        self, name: str, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Any]],
        *, title: str, caption: str, section: str, order: int = 0,
    ) -> None:  # fmt: skip
        """Write ``tables/<name>.json``; ``columns`` are (name, unit)."""
        data = {
            "title": title, "caption": caption, "section": section, "order": order,
            "columns": [{"name": n, "unit": u} for n, u in columns], "rows": [list(r) for r in rows],
        }  # fmt: skip
        write_text(self.path / "tables" / f"{name}.json", json.dumps(data, indent=1, default=_plain) + "\n")

    def text(self, name: str, section: str, paragraph: str, order: int = 0) -> None:
        """Write a paragraph for a section of the report, ``text/<name>.json``."""
        data = {"section": section, "order": order, "paragraph": paragraph}
        write_text(self.path / "text" / f"{name}.json", json.dumps(data, indent=1) + "\n")

    def data(self, name: str, value: Any) -> Path:
        """Write plain data as JSON, ``<name>.json``."""
        return write_text(self.path / f"{name}.json", json.dumps(value, indent=1, default=_plain) + "\n")


def _identity(marker: Path) -> dict[str, Any]:
    """What a run folder belongs to."""
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BadInput(
            "the record of what this run folder belongs to cannot be read", str(marker),
            "choose another folder with --out, or delete this one",
        )  # fmt: skip
    return found


def environment() -> dict[str, Any]:
    """Versions, platform, hash of the lock file and git commit, as far as they can be known."""
    versions = {}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    top = Path(__file__).resolve().parents[2]
    lock = top / "requirements.lock"
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "versions": versions,
        "lock_sha256": sha256(lock) if lock.exists() else None,
        "git_commit": _git_commit(top),
    }


def _git_commit(top: Path) -> str | None:
    if not (top / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(top), "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
