"""DICOM's basic application level confidentiality profile, with dates that keep only their distances.

PS3.15 Table E.1-1 (library/dicom_confidentiality.csv), and of its options "retain longitudinal temporal
information with modified dates" for the few times that quantification needs: whole days are taken off them, so
that the first visit is on the first of January 2000. The time of day stays.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import re
from functools import cache
from importlib import resources
from typing import Any

from .facts import moment, stamp

DAY_ZERO = dt.date(2000, 1, 1)
#: Pairs of date and time that are shifted together, and moments that stand alone.
_PAIRS = (("StudyDate", "StudyTime"), ("SeriesDate", "SeriesTime"), ("AcquisitionDate", "AcquisitionTime"),
          ("ContentDate", "ContentTime"))  # fmt: skip
_MOMENTS = ("AcquisitionDateTime", "FrameAcquisitionDateTime", "FrameReferenceDateTime",
            "RadiopharmaceuticalStartDateTime")  # fmt: skip
_CLOCKS = ("RadiopharmaceuticalStartTime",)
#: What an attribute that must have a value gets.
_DUMMIES = {
    "DA": "20000101",
    "TM": "000000",
    "DT": "20000101000000",
    "PN": "removed",
    "AS": "000Y",
    "CS": "REMOVED",
    "UI": "",
}
_NUMBERS = frozenset(("DS", "IS", "FL", "FD", "SS", "US", "SL", "UL", "SV", "UV"))


@cache
def profile() -> dict[int | str, str]:
    """Action of the basic profile by tag; groups that repeat and private attributes by name.

    Returns
    -------
    dict
        Keys are tags as integers, ``"50xx"`` (curves), ``"60xx3000"``, ``"60xx4000"`` (overlays) and ``"odd"``.
    """
    text = (
        resources.files("vvuq_twin").joinpath("library/dicom_confidentiality.csv").read_text(encoding="utf-8")
    )
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    found: dict[int | str, str] = {}
    for row in rows:
        tag = row["tag"].lower()
        if tag == "odd":
            found[tag] = row["action"]
        elif "x" in tag:
            found["50xx" if tag.startswith("50") else tag] = row["action"]
        else:
            found[int(tag, 16)] = row["action"]
    return found


def new_uid(uid: str) -> str:
    """The UID that stands for another everywhere: the same for the same, whichever file it is in."""
    digest = hashlib.sha256(f"vvuq_twin {uid.strip()}".encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15], 'big')}"


def deidentify(dataset: Any, pseudonym: str, first: dt.date) -> Any:
    """Make a dataset say nothing of who the patient is, in place.

    Parameters
    ----------
    dataset : pydicom.Dataset
        With its file meta information; it is changed.
    pseudonym : str
        Becomes the patient's name and ID.
    first : date
        Of the first visit.

    Returns
    -------
    pydicom.Dataset
        The same one. Private attributes are gone, with vendors' facts that have no standard place; UIDs of the standard itself
        (SOP classes, transfer syntaxes, coding schemes) are kept.
    """
    clean = dataset
    _clean(clean, first)
    clean.PatientName = pseudonym
    clean.PatientID = pseudonym
    clean.PatientBirthDate = ""
    clean.PatientSex = ""
    clean.PatientIdentityRemoved = "YES"
    clean.LongitudinalTemporalInformationModified = "MODIFIED"
    clean.DeidentificationMethodCodeSequence = [
        _code("113100", "Basic Application Confidentiality Profile"),
        _code("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    ]
    meta = getattr(clean, "file_meta", None)
    if meta is not None:
        for keyword in list(meta.dir()):
            if keyword.startswith(("SourceApplicationEntity", "SendingApplication", "ReceivingApplication",
                                   "Private", "SourcePresentation", "SendingPresentation", "ReceivingPresentation")):  # fmt: skip
                delattr(meta, keyword)
        meta.MediaStorageSOPInstanceUID = clean.SOPInstanceUID
    clean.preamble = b"\0" * 128
    return clean


def _code(value: str, meaning: str) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def _clean(dataset: Any, first: dt.date) -> None:
    """Apply the profile to a dataset and the items of its sequences, in place."""
    shifted = _shifted(dataset, first)
    for element in list(dataset):
        tag = element.tag
        if shifted.get(element.keyword):
            element.value = shifted[element.keyword]
            continue
        action = _action(tag)
        if action.startswith("X") and action in ("X", "X/Z", "X/D", "X/Z/D"):
            # an attribute that an object must have stays, empty or with a dummy
            if action == "X" or element.VR == "SQ":
                del dataset[tag]
            else:
                _blank(element, dummy="D" in action)
        elif action in ("Z", "D", "Z/D", "C"):
            _blank(element, dummy="D" in action)
        elif element.VR == "UI":
            _replace_uids(element, everything=action.startswith("U"))
        if tag in dataset and element.VR == "SQ":
            for item in element.value:
                _clean(item, first)


def _action(tag: Any) -> str:
    table = profile()
    if tag.group % 2:
        return table["odd"]
    if tag.group & 0xFF00 == 0x5000:
        return table["50xx"]
    if tag.group & 0xFF00 == 0x6000 and tag.element in (0x3000, 0x4000):
        return table[f"60xx{tag.element:04x}"]
    return table.get(int(tag), "")


def _blank(element: Any, dummy: bool) -> None:
    """Take away a value: nothing, or something of its kind that says nothing."""
    if element.VR == "SQ":
        element.value = []
    elif not dummy:
        element.value = None
    elif element.VR in _NUMBERS:
        element.value = 0
    elif element.VR in ("OB", "OW", "OF", "OD", "OL", "OV", "UN"):
        element.value = b"\0\0"
    else:
        element.value = _DUMMIES.get(element.VR, "removed")


def _replace_uids(element: Any, everything: bool) -> None:
    """New UIDs for instances; the standard's own (classes, syntaxes, registries) mean the same for everybody."""
    from pydicom.uid import UID

    def one(uid: Any) -> str:
        text = str(uid)
        return text if not text or text.startswith("1.2.840.10008.") else new_uid(text)

    value = element.value
    many = not isinstance(value, str) and hasattr(value, "__iter__")
    if everything or any(not str(v).startswith("1.2.840.10008.") for v in (value if many else [value])):
        element.value = [UID(one(v)) for v in value] if many else UID(one(value or ""))


def _shifted(dataset: Any, first: dt.date) -> dict[str, str]:
    """New values of the dates and times that are kept, as distances from the first visit; "" if unreadable."""
    out: dict[str, str] = {}
    for date, time in _PAIRS:
        for keyword in (date, time):
            if keyword in dataset:
                out[keyword] = ""
        now = moment(dataset.get(date), "")
        if now is not None:
            out[date] = (now + (DAY_ZERO - first)).strftime("%Y%m%d")
        if time in dataset:
            out[time] = _of_day(dataset.get(time))
    for keyword in _MOMENTS:
        if keyword in dataset:
            moved_at = stamp(dataset.get(keyword))
            out[keyword] = (
                "" if moved_at is None else (moved_at + (DAY_ZERO - first)).strftime("%Y%m%d%H%M%S.%f")
            )
    for keyword in _CLOCKS:
        if keyword in dataset:
            out[keyword] = _of_day(dataset.get(keyword))
    return out


def _of_day(time: Any) -> str:
    """A clock time if it is one, or nothing."""
    text = str(time or "").strip()
    return text if re.fullmatch(r"\d{2,6}(\.\d{1,6})?", text) else ""
