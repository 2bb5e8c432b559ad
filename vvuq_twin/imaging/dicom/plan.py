"""From a hospital's export to a plan: visits, what each series is, and what stands in the way."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...domain.errors import BadInput
from ...domain.grid import Grid
from .facts import moment
from .folder import Contents, Progress, read_folder
from .frames import Series
from .outlines import SEGMENTATION, STRUCTURES, Outline, read_outlines
from .propose import Proposal, propose
from .volumes import Stack, stacks

#: Series that are no volumes by nature; that they cannot be stacked is no fault.
_VIEWS = re.compile(r"localis|localiz|scout|survey|\bmip\b|projection|screen|3.?plane|topogram", re.I)


@dataclass(frozen=True)
class PlannedVisit:
    """One day's series and outlines.

    Parameters
    ----------
    id : str
    date : datetime.date
    day : int
        Days from the first visit.
    images : tuple of Proposal
        With a role: these go into the patient file.
    others : tuple of Proposal
        Without one.
    outlines : tuple of (Outline, Grid)
        With the grid they are drawn on.
    """

    id: str
    date: dt.date
    day: int
    images: tuple[Proposal, ...]
    others: tuple[Proposal, ...]
    outlines: tuple[tuple[Outline, Grid], ...]


@dataclass(frozen=True)
class Plan:
    """What an import would do.

    Parameters
    ----------
    visits : tuple of PlannedVisit
    faults : tuple of BadInput
        Any of these stops the import.
    notes : tuple of str
        What is left out, and why; no sentence quotes the scanner's free text.
    contents : Contents
    """

    visits: tuple[PlannedVisit, ...]
    faults: tuple[BadInput, ...]
    notes: tuple[str, ...]
    contents: Contents = field(repr=False)


def plan_import(folder: Path, progress: Progress | None = None) -> Plan:
    """Read the headers of an export and decide what each series is.

    Parameters
    ----------
    folder : Path
    progress : callable, optional

    Raises
    ------
    BadInput
        If there is no such folder or no DICOM image in it; everything else is among the plan's faults.
    """
    contents = read_folder(folder, progress)
    faults, notes = list(contents.damaged), []
    images = [s for s in contents.series if s.sop_class != SEGMENTATION]
    outlined = [f for s in contents.series if s.sop_class == SEGMENTATION for f in s.files]
    outlined += [path for path, sop in contents.objects if sop == STRUCTURES]
    patients = {s.patient for s in images}
    if len(patients) > 1:
        faults.append(
            BadInput(
                f"the folder holds images of {len(patients)} patients", str(folder), "import one at a time"
            )
        )
    by_day: dict[dt.date, list[Series]] = {}
    for series in images:
        date = _date(series)
        if date is None:
            faults.append(
                BadInput(
                    "its files have no date", f"series {series.number}", "export it again with its dates"
                )
            )
            continue
        by_day.setdefault(date, []).append(series)
    visits = []
    for number, date in enumerate(sorted(by_day)):
        found: list[Stack] = []
        for series in by_day[date]:
            try:
                found += stacks(series)
            except BadInput as fault:
                if _VIEWS.search(f"{series.description} {series.frames[0].kind}"):
                    notes.append(f"visit-{number + 1}, series {series.number} is left out: it is no volume.")
                else:
                    faults.append(BadInput(fault.problem, f"visit-{number + 1}, {fault.where}", fault.mend))
        used, others, said = _choose(f"visit-{number + 1}", propose(found))
        notes += said
        visits.append(PlannedVisit(f"visit-{number + 1}", date, (date - min(by_day)).days, used, others, ()))
    visits = _with_outlines(visits, outlined, faults, notes)
    rest = len([1 for _, sop in contents.objects if sop != STRUCTURES])
    if rest:
        notes.append(
            f"{rest} DICOM file{_s(rest)} without a grey image (reports, states, pictures) left out."
        )
    if contents.others:
        notes.append(f"{contents.others} file{_s(contents.others)} of other kinds left out.")
    return Plan(tuple(visits), tuple(faults), tuple(notes), contents)


def _s(count: int) -> str:
    return " is" if count == 1 else "s are"


def _date(series: Series) -> dt.date | None:
    """The day of the visit: the study's, and where it is missing the series' or the acquisition's."""
    for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        found = moment(series.first.get(keyword), "")
        if found is not None:
            return found.date()
    began = [f.began for f in series.frames if f.began is not None]
    return min(began).date() if began else None


def _choose(
    visit: str, proposals: list[Proposal]
) -> tuple[tuple[Proposal, ...], tuple[Proposal, ...], list[str]]:
    """One image a role: that with the finest voxels; those without a role or a unit go with the rest."""
    used: dict[str, Proposal] = {}
    others: list[Proposal] = []
    notes = []
    for p in sorted(proposals, key=lambda p: (p.stack.grid.voxel_volume, p.stack.series[0].number)):
        name = f"{visit}, {p.stack.name}"
        if not p.role:
            others.append(p)
            notes.append(f"{name} has no role: {p.why}.")
        elif p.unit is None:
            others.append(replace(p, why="the unit of its values is not declared in its files"))
            notes.append(
                f"{name} looks like {p.role}, but its files do not declare the unit of their values; name it in "
                "patient.yaml with its unit."
            )
        elif p.role in used:
            others.append(replace(p, why=f"another {p.role} of the visit has finer voxels"))
            notes.append(f"{name} is not used: {used[p.role].stack.name} is the visit's {p.role}.")
        else:
            used[p.role] = p
    order = sorted(used.values(), key=lambda p: p.stack.series[0].number)
    return tuple(order), tuple(sorted(others, key=lambda p: p.stack.series[0].number)), notes


def _with_outlines(
    visits: list[PlannedVisit], paths: list[Path], faults: list[BadInput], notes: list[str]
) -> list[PlannedVisit]:
    """Outlines given to the visit on whose images they were drawn."""
    out = list(visits)
    for path in paths:
        try:
            outlines = read_outlines(path)
        except BadInput as fault:
            faults.append(fault)
            continue
        for outline in outlines:
            _give(outline, out, path, faults, notes)
    return out


def _give(
    outline: Outline, visits: list[PlannedVisit], path: Path, faults: list[BadInput], notes: list[str]
) -> None:
    def drawn_on(p: Proposal) -> bool:
        return any(s.uid in outline.refers for s in p.stack.series)

    def same_study(p: Proposal) -> bool:
        return any(s.study == outline.study for s in p.stack.series)

    for test in (drawn_on, same_study):
        for n, visit in enumerate(visits):
            there = [p for p in (*visit.images, *visit.others) if test(p)]
            if not there:
                continue
            name = f"{visit.id}, series {outline.number}"
            if not outline.role:
                notes.append(f"{name}: an outline is left out, since its label names nothing that is known.")
                return
            if any(o.role == outline.role for o, _ in visit.outlines):
                notes.append(f"{name}: a second {outline.role} outline is left out.")
                return
            # masks lie on the visit's ADC map, or on the images they were drawn on
            adc = [p for p in visit.images if p.role == "adc"]
            grid = (adc or [p for p in visit.images if p in there] or list(visit.images) or there)[
                0
            ].stack.grid
            try:
                outline.draw(there[0].stack.grid)
            except BadInput as fault:
                faults.append(fault)
                return
            visits[n] = replace(
                visit, outlines=(*visit.outlines, (_onto(outline, there[0].stack.grid), grid))
            )
            return
    faults.append(
        BadInput(
            "the outlines belong to no image in the folder",
            str(path),
            "export the images they were drawn on, or take them out of the folder",
        )
    )


def _onto(outline: Outline, own: Grid) -> Outline:
    """An outline drawn on its own images first, then sampled where it is wanted."""
    from ..resample import resample

    def draw(grid: Grid) -> np.ndarray:
        mask = outline.draw(own)
        return mask if grid.same_as(own) else resample(mask, own, grid, "nearest", 0).astype(bool)

    return replace(outline, draw=draw)
