"""One piece of evidence: a claim, what would make it acceptable, and what was found."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from .files import write_text

Status = Literal["planned", "passed", "failed", "not assessed", "not applicable"]


@dataclass(frozen=True)
class Evidence:
    """A claim and its proof.

    Parameters
    ----------
    id : str
        Stable name, lower case with dots ("growth.mms.space").
    factor : str
        The credibility factor it speaks to (a key of ``vvuq_twin.credibility.factors``),
        for example "numerical_code_verification".
    claim : str
        What is claimed, one sentence.
    acceptance : str
        What had to hold, fixed before the result ("observed order 2 within 0.1").
    result : dict
        What was observed: numbers with names that carry their unit.
    status : {"planned", "passed", "failed", "not assessed", "not applicable"}
        A failed check stays in the record.
    artefacts : tuple of str
        Files in the run folder that show it.
    provenance : dict
        Where it comes from: command, seed, versions, sources.
    """

    id: str
    factor: str
    claim: str
    acceptance: str
    result: dict[str, Any] = field(default_factory=dict)
    status: Status = "not assessed"
    artefacts: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Write ``<id>.json`` atomically into ``folder``."""
        path = Path(folder) / (re.sub(r"[^A-Za-z0-9._-]", "_", self.id) + ".json")
        write_text(path, json.dumps(asdict(self), indent=1, sort_keys=True, default=_plain) + "\n")
        return path


def _plain(value: Any) -> Any:
    """NumPy scalars and arrays as plain Python, for JSON."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def read_evidence(folder: Path) -> list[Evidence]:
    """All evidence of a folder, ordered by id."""
    found = []
    for path in sorted(Path(folder).glob("*.json")):
        data = json.loads(path.read_text())
        data["artefacts"] = tuple(data["artefacts"])
        found.append(Evidence(**data))
    return found


def verdict(evidence: Iterable[Evidence]) -> Status:
    """The joint status: failed if any failed, else passed if any passed, else not assessed."""
    seen = {e.status for e in evidence}
    if "failed" in seen:
        return "failed"
    return "passed" if "passed" in seen else "not assessed"
