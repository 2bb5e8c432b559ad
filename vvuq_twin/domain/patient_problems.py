"""What can be wrong with a patient file, before an image is opened: one sentence each."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .errors import BadInput
from .roles import role
from .schema import DrugFile, PatientFile, RadiationFile, TreatmentFile, When
from .units import factor
from .yamlfile import faults
from .yamllines import Lined, read_lined

FILE_NAME = "patient.yaml"

# keys, without case, spaces or dashes, that would say who the patient is
_PERSONAL = frozenset(
    """
    name patientname firstname lastname surname forename givenname familyname initials birthdate
    dateofbirth dob birthday patientbirthdate address patientaddress postcode zip zipcode phone
    telephone mobile email mrn medicalrecordnumber hospitalnumber patientid otherpatientids
    nhsnumber ssn socialsecuritynumber insurance insurancenumber accessionnumber physician
    referringphysician referringphysicianname operatorname operatorsname performingphysicianname
    institution institutionname institutionaddress hospital patienttelephonenumbers
    """.split()  # noqa: SIM905
)


def personal(key: Any) -> bool:
    """Whether a key would hold something that identifies a person."""
    return re.sub(r"[^a-z]", "", str(key).lower()) in _PERSONAL


def read_patient_file(folder: Path) -> tuple[PatientFile | None, Lined, list[BadInput]]:
    """The file, its lines, and every fault of it.

    Raises
    ------
    BadInput
        If there is no such folder or file, or it is not YAML.
    """
    folder = Path(folder)
    if not folder.exists():
        raise BadInput("the patient folder does not exist", str(folder), "check the path")
    if not folder.is_dir():
        raise BadInput(
            "this is a file, not a patient folder", str(folder), f"name the folder that holds {FILE_NAME}"
        )
    path = folder / FILE_NAME
    if not path.exists():
        raise BadInput(
            f"there is no {FILE_NAME} in this folder", str(folder), "write one (see docs/patient.md)"
        )
    lined = read_lined(path)
    found = list(_personal_keys(lined))
    named = {(e.where, e.problem) for e in found}
    try:
        spec = PatientFile.model_validate(lined.data)
    except ValidationError as error:
        items = error.errors()
        unknown = [tuple(item["loc"]) for item in items if item["type"] == "extra_forbidden"]
        for item, fault in zip(items, faults(PatientFile, error, "")):
            loc = tuple(item["loc"])
            if item["type"] == "extra_forbidden" and personal(loc[-1]):
                continue  # said already
            beside = [str(u[-1]) for u in unknown if u[:-1] == loc[:-1]]
            if item["type"] == "missing" and get_close_matches(str(loc[-1]), beside):
                continue  # it is there, misspelt
            found.append(_sentence(item, fault, lined.where(loc)))
        return None, lined, _ordered(found)
    found += [fault for fault in _meaning(spec, lined) if (fault.where, fault.problem) not in named]
    return spec, lined, _ordered(found)


def _ordered(found: list[BadInput]) -> list[BadInput]:
    def line(error: BadInput) -> int:
        match = re.search(r", line (\d+)", error.where)
        return int(match.group(1)) if match else 0

    return sorted(found, key=line)


def _sentence(item: Any, fault: BadInput, where: str) -> BadInput:
    """Pydantic's commonest faults in plainer words."""
    kind, given, context = item["type"], item.get("input"), item.get("ctx", {})
    field = str(item["loc"][-1]) if item["loc"] else "file"
    if kind == "greater_than_equal" and context.get("ge") == 0:
        return BadInput(f"the {field} is negative ({given})", where, "give a value of at least 0")
    if kind == "greater_than":
        return BadInput(f"the {field} must be above {context['gt']:g} (given: {given})", where, "correct it")
    if kind == "finite_number":
        return BadInput(f"the {field} is not a finite number (given: {given})", where, "correct or remove it")
    if kind in ("float_type", "float_parsing", "int_type", "int_parsing"):
        return BadInput(
            f"the {field} is not a number (given: {given!r})", where, "give a number without its unit"
        )
    if kind == "string_type":
        return BadInput(f"the {field} is not text (given: {given!r})", where, "put it in quotes")
    if kind == "string_pattern_mismatch" and field == "time":
        return BadInput(f"'{given}' is not a clock time", where, "write it as HH:MM")
    if kind == "string_pattern_mismatch":
        return BadInput(
            f"'{given}' cannot be used as {field}",
            where,
            "use letters, digits, dots and dashes, without spaces",
        )
    if kind == "literal_error":
        return BadInput(f"'{given}' is not known here", where, f"use {context['expected']}")
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return BadInput("the treatment does not say what it is", where, "add kind: drug or kind: radiation")
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        return BadInput(
            f"keys and values are expected here (given: {given!r})", where, "indent 'key: value' lines"
        )
    if kind == "list_type":
        return BadInput("a list is expected here", where, "start each entry with a dash")
    if kind == "too_short":
        return BadInput("the list is empty", where, "add an entry or remove the key")
    if kind.startswith("date"):
        return BadInput(f"'{given}' is not a date", where, "write it as YYYY-MM-DD")
    return BadInput(fault.problem, where, fault.mend)


def _personal_keys(lined: Lined) -> Iterator[BadInput]:
    """Keys that identify a person, anywhere in the file but for the names of markers."""
    for place in lined.lines:
        if place and isinstance(place[-1], str) and personal(place[-1]) and place[:-1] not in (("markers",),):
            yield BadInput(
                f"'{place[-1]}' would say who the patient is", lined.where(place),
                "remove it: a patient folder names nobody, and id is a pseudonym",
            )  # fmt: skip


def _meaning(spec: PatientFile, lined: Lined) -> Iterator[BadInput]:
    """Faults that the structure alone does not show."""
    yield from _times(spec, lined)
    yield from _images(spec, lined)
    yield from _treatments(spec, lined)
    for i, plasma in enumerate(spec.plasma):
        yield from _unit(plasma.unit, ("ng/mL", "nmol/L", "Bq/mL"), lined.where(("plasma", i, "unit")))
    for name, marker in spec.markers.items():
        yield from _unit(marker.unit, (), lined.where(("markers", name, "unit")))
    if spec.body is not None:
        for key, size, unit in (("mass", spec.body.mass, "kg"), ("surface", spec.body.surface, "m2")):
            if size is not None:
                yield from _unit(size.unit, (unit,), lined.where(("body", key, "unit")))


def _unit(unit: str, like: tuple[str, ...], where: str) -> Iterator[BadInput]:
    """Refuse a unit that is not known, or converts to none of ``like``."""
    try:
        factor(unit, unit, where)
    except BadInput as error:
        yield BadInput(
            error.problem,
            where,
            f"give it in a unit like '{like[0]}'" if like else "write it as ng/mL or 1e9/L",
        )
        return
    for wanted in like:
        try:
            factor(unit, wanted, where)
            return
        except BadInput:
            continue
    if like:
        yield BadInput(
            f"the unit '{unit}' does not fit here", where, "give it in a unit like " + ", ".join(like)
        )


def _times(spec: PatientFile, lined: Lined) -> Iterator[BadInput]:
    zero = spec.day_zero or spec.visits[0].date
    timed: list[tuple[When, tuple[Any, ...]]] = [(v, ("visits", i)) for i, v in enumerate(spec.visits)]
    timed += [(t, ("treatments", i)) for i, t in enumerate(spec.treatments)]
    timed += [
        (s, ("plasma", i, "samples", j)) for i, p in enumerate(spec.plasma) for j, s in enumerate(p.samples)
    ]
    timed += [
        (v, ("markers", n, "values", j)) for n, m in spec.markers.items() for j, v in enumerate(m.values)
    ]
    good = True
    for when, loc in timed:
        fault = _one_time(when, zero, lined.where(loc))
        if fault is not None:
            good = False
            yield fault
    seen: dict[str, int] = {}
    for i, visit in enumerate(spec.visits):
        name = visit.id or f"visit-{i + 1}"
        if name in seen:
            yield BadInput(
                f"the visit id '{name}' is used twice", lined.where(("visits", i, "id")), "rename one of them"
            )
        seen[name] = i
    if not good:
        return
    days = [v.on(zero) for v in spec.visits]
    for i in range(1, len(days)):
        field = "date" if spec.visits[i].date is not None else "day"
        if days[i] == days[i - 1]:
            yield BadInput(
                f"visits {i} and {i + 1} are on the same day ({days[i]:g})",
                lined.where(("visits", i, field)),
                "put their images in one visit, or give the clock times",
            )  # fmt: skip
        elif days[i] < days[i - 1]:
            yield BadInput(
                f"the visits are out of order: day {days[i]:g} comes after day {days[i - 1]:g}",
                lined.where(("visits", i, field)), "sort the visits by time or correct the day",
            )  # fmt: skip


def _one_time(when: When, zero: dt.date | None, where: str) -> BadInput | None:
    given = [k for k in ("day", "date", "days") if getattr(when, k, None) is not None]
    if len(given) != 1:
        options = "day, date or days" if isinstance(when, TreatmentFile) else "day or date"
        said = "both " + " and ".join(given) + " are given" if given else "it has no day"
        return BadInput(said, where, f"give one of {options}")
    if given == ["date"] and zero is None:
        return BadInput(
            "a date is given, but no date of day 0", where, "add day_zero, or a date to the first visit"
        )
    return None


def _images(spec: PatientFile, lined: Lined) -> Iterator[BadInput]:
    files: list[tuple[str, tuple[Any, ...]]] = []
    for i, visit in enumerate(spec.visits):
        for name, image in visit.images.items():
            loc = ("visits", i, "images", name)
            files.append((image.file, (*loc, "file")))
            try:
                kind = role(name, lined.where(loc))
                kind.check_unit(image.unit, lined.where((*loc, "unit")))
            except BadInput as error:
                yield error
    for key in ("brain", "organ", "tissue"):
        part = getattr(spec, key)
        if part is not None:
            files.append((part.file, (key, "file")))
    for file, loc in files:
        if not (lined.path.parent / file).exists():
            yield BadInput(
                f"the image file '{file}' does not exist", lined.where(loc), "check the name and the folder"
            )
    if spec.tissue is not None:
        names = list(spec.tissue.labels.values())
        for name in {n for n in names if names.count(n) > 1}:
            yield BadInput(
                f"two labels are called '{name}'", lined.where(("tissue", "labels")), "rename one of them"
            )


def _treatments(spec: PatientFile, lined: Lined) -> Iterator[BadInput]:
    amounts = ("mg", "umol", "MBq", "mL", "mg/m2", "umol/m2", "MBq/m2", "mg/kg", "umol/kg", "MBq/kg")
    for i, treatment in enumerate(spec.treatments):
        where = lined.where(("treatments", i, "unit"))
        if isinstance(treatment, RadiationFile):
            yield from _unit(treatment.unit, ("Gy",), where)
        elif isinstance(treatment, DrugFile):
            yield from _unit(treatment.unit, amounts, where)
            if treatment.duration is not None:
                yield from _unit(
                    treatment.duration.unit, ("min",), lined.where(("treatments", i, "duration", "unit"))
                )
