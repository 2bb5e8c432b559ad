"""An export becomes a patient folder: maps with units, masks, and DICOM copies that name nobody."""

from __future__ import annotations

import datetime as dt
import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ...domain.errors import BadInput
from ...domain.files import require_empty, whole_folder, write_text, write_with
from ..write import write_image
from .deidentify import deidentify
from .folder import Progress
from .pixels import values
from .plan import Plan, PlannedVisit, plan_import
from .propose import Proposal

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")


def import_dicom(folder: Path, out: Path, progress: Progress | None = None) -> Plan:
    """Read a DICOM export and write a patient folder from it, whole or not at all.

    Parameters
    ----------
    folder : Path
        Searched with all folders below it.
    out : Path
        The patient folder; its name becomes the patient's pseudonym.
    progress : callable, optional
        Called with a label, steps done, steps in all.

    Returns
    -------
    Plan
        What was done.

    Raises
    ------
    BadInput
        The first fault of the export (a mixed or incomplete series, a damaged file, two patients, an outline of
        another visit), a folder that is not empty, or a name that says who the patient is.
    """
    out = Path(out)
    pseudonym = require_free(out)
    plan = plan_import(folder, progress)
    if plan.faults:
        more = len(plan.faults) - 1
        first = plan.faults[0]
        mend = first.mend + (f" ({more} more with --dry-run)" if more else "")
        raise BadInput(first.problem, first.where, mend)
    _names_nobody(plan, pseudonym, out)
    if not any(v.images for v in plan.visits):
        raise BadInput(
            "no series has a role that the package knows", str(folder), "see the reasons with --dry-run"
        )
    with whole_folder(out) as part:
        _write(plan, part, pseudonym, progress)
    return plan


def require_free(out: Path) -> str:
    """The pseudonym that a new patient folder's name gives.

    Raises
    ------
    BadInput
        If the folder is there and not empty, or its name is no pseudonym.
    """
    require_empty(out)
    pseudonym = out.resolve().name
    if not _NAME.match(pseudonym):
        raise BadInput(
            f"'{pseudonym}' cannot be a patient's pseudonym", str(out),
            "name the folder with letters, digits, dots and dashes, without spaces",
        )  # fmt: skip
    return pseudonym


def _names_nobody(plan: Plan, pseudonym: str, out: Path) -> None:
    """Refuse a pseudonym that holds a part of the patient's name or number."""
    own = {w.lower() for s in plan.contents.series for w in re.split(r"[|^ =,]+", s.patient) if len(w) > 2}
    if any(word in pseudonym.lower() for word in own):
        raise BadInput(
            "the folder's name holds a part of the patient's name or number, and would become the pseudonym",
            str(out), "choose a name that says nothing",
        )  # fmt: skip


def _write(plan: Plan, folder: Path, pseudonym: str, progress: Progress | None) -> None:
    import yaml

    total = sum(len(v.images) + len(v.others) for v in plan.visits)
    done = 0
    visits, record = [], []
    mass: float | None = None
    for visit in plan.visits:
        images: dict[str, Any] = {}
        for proposal in (*visit.images, *visit.others):
            if progress is not None:
                progress("write images", done, total)
            done += 1
            copy = _copies(proposal, folder, visit, pseudonym, plan.visits[0].date)
            entry: dict[str, Any] = {
                "visit": visit.id, "series": [s.number for s in proposal.stack.series],
                "component": proposal.stack.component, "dicom": copy, "role": proposal.role, "unit": proposal.unit,
                "acquisition": proposal.acquisition,
            }  # fmt: skip
            if proposal in visit.images:
                images[proposal.role] = _image(proposal, folder, visit)
            else:
                entry["not_used"] = proposal.why
            record.append(entry)
            if mass is None and proposal.role.startswith(("pet", "spect")):
                mass = proposal.stack.series[0].first.number("PatientWeight")
        for outline, grid in visit.outlines:
            mask = outline.draw(grid)
            file = f"{visit.id}/{outline.role}.nii.gz"
            write_image(folder / file, mask, grid, description=f"{outline.role} mask")
            images[outline.role] = {"file": file}
            if not mask.any():
                images[outline.role]["empty"] = True
        visits.append({"id": visit.id, "day": visit.day, "images": images})
    if progress is not None:
        progress("write images", total, total)
    patient: dict[str, Any] = {"id": pseudonym, "source": "imported from DICOM by vvuq_twin"}
    if mass:
        patient["body"] = {"mass": {"value": mass, "unit": "kg"}}
    patient["visits"] = visits
    write_text(folder / "import.json", json.dumps({"images": record, "notes": plan.notes}, indent=1) + "\n")
    text = yaml.safe_dump(patient, sort_keys=False, default_flow_style=None, width=100)
    write_text(folder / "patient.yaml", text)


def _image(proposal: Proposal, folder: Path, visit: PlannedVisit) -> dict[str, Any]:
    """Write an image with a role; its entry of the patient file."""
    array = values(proposal.stack, signal=proposal.signal, real=proposal.real)
    if proposal.factor != 1.0:
        array = array * proposal.factor
    file = f"{visit.id}/{proposal.role}.nii.gz"
    times = proposal.acquisition.get("frame_times_s") or [0.0, 1.0]
    write_image(
        folder / file, array, proposal.stack.grid, step=float(np.median(np.diff(times))),
        description=f"{proposal.role}, {proposal.unit}",
    )  # fmt: skip
    entry: dict[str, Any] = {"file": file, "unit": proposal.unit}
    if proposal.acquisition:
        entry["acquisition"] = proposal.acquisition
    if array.dtype.kind == "f" and np.isnan(array).any():
        entry["missing"] = "nan"
    return entry


def _copies(
    proposal: Proposal, folder: Path, visit: PlannedVisit, pseudonym: str, first: dt.date
) -> str | None:
    """De-identified copies of a stack's files; None where the pixels themselves may name somebody."""
    import pydicom

    stack = proposal.stack
    if proposal.why.startswith(("text is burned", "it is a screen capture")):
        return None
    name = f"{visit.id}/dicom/series-{stack.series[0].number}" + (
        f"-{re.sub(r'[^a-z0-9]', '', stack.component.lower())}" if stack.component else ""
    )
    place = folder / name
    while place.exists():  # two series of a study under one number
        name += "-b"
        place = folder / name
    facts = {f.path: f.facts for v in stack.volumes for f in v if f.number == 0}
    for number, path in enumerate(dict.fromkeys(f.path for v in stack.volumes for f in v)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            clean = deidentify(pydicom.dcmread(path), pseudonym, first)
            b = facts.get(path, {}).get("b_value_s_per_mm2")
            if b is not None and "PerFrameFunctionalGroupsSequence" not in clean:
                clean.DiffusionBValue = b  # it may have been known from a private place alone
            write_with(place / f"{number + 1:05d}.dcm", lambda p, c=clean: c.save_as(p))  # type: ignore[misc]
    return name
