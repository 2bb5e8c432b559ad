"""Nothing that identifies survives an import: every attribute of the profile's table, planted and looked for."""

from __future__ import annotations

import csv
import datetime as dt
import warnings
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_cases import GRID, facts, study, truth
from pydicom.datadict import dictionary_keyword, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from vvuq_twin.imaging.dicom.deidentify import deidentify, new_uid
from vvuq_twin.imaging.dicom.encode import Layout, write_series
from vvuq_twin.imaging.dicom.intake import import_dicom
from vvuq_twin.imaging.read import read_image

_DATE, _NUMBER = "19871123", 47113.0
#: What the export needs to be an export; they are replaced by the import all the same.
_OWN = {
    "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate", "SeriesDate",
    "AcquisitionDate", "ContentDate", "StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime",
    "AcquisitionDateTime", "FrameAcquisitionDateTime", "FrameReferenceDateTime", "RadiopharmaceuticalStartTime",
    "RadiopharmaceuticalStartDateTime",
}  # fmt: skip
_NUMERIC = {"DS", "IS", "FL", "FD", "SS", "US", "SL", "UL"}


def _table() -> list[tuple[str, str, str]]:
    text = resources.files("vvuq_twin").joinpath("library/dicom_confidentiality.csv").read_text()
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return [(r["tag"], r["action"], r["name"]) for r in rows]


def _planted() -> list[tuple[int, str, str]]:
    """Attributes of the table that a dataset can hold: tag, action, VR."""
    found = []
    for tag, action, _ in _table():
        if tag == "odd" or "X" in tag.upper() or tag.startswith(("0000", "0002", "0004", "FFFA", "FFFC")):
            continue
        try:
            found.append((int(tag, 16), action, dictionary_VR(int(tag, 16))))
        except KeyError:
            continue  # newer than the dictionary
    return found


def _secret(tag: int, vr: str) -> Any:
    if vr == "SQ":
        item = Dataset()
        item.PatientName, item.OperatorsName = "Secret^In", "Secret^Sequence"
        return [item]
    if vr in _NUMERIC:
        return int(_NUMBER)
    if vr in ("DA", "TM", "DT"):
        return {"DA": _DATE, "TM": "234559", "DT": _DATE + "234559"}[vr]
    if vr == "UI":
        return f"1.2.999.{tag}"
    if vr == "CS":
        return "SECRET"
    return b"Secret" if vr in ("OB", "OW", "UN") else "047Y" if vr == "AS" else "Secret"


def _plant(ds: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag, _, vr in _planted():
            if dictionary_keyword(tag) not in _OWN:
                ds.add_new(tag, vr.split()[0], _secret(tag, vr.split()[0]))
        ds.add_new(Tag(0x5000, 0x3000), "OW", b"Secret")  # a curve
        ds.add_new(Tag(0x6002, 0x3000), "OW", b"Secret")  # an overlay
        ds.add_new(Tag(0x6002, 0x4000), "LT", "Secret")
        ds.private_block(0x0029, "MAKER", create=True).add_new(0x10, "LO", "Secret")
        # deep inside a sequence that stays
        inner = Dataset()
        inner.PatientName, inner.ReferencedSOPInstanceUID = "Secret^Deep", "1.2.999.1"
        inner.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        ds.SourceImageSequence = [inner]


def _everything(ds: Any) -> Any:
    for element in ds:
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from _everything(item)


@pytest.mark.parametrize("layout", ["classic", "enhanced"])
def test_no_attribute_of_the_profile_survives(tmp_path: Path, layout: Layout) -> None:
    files = write_series(tmp_path / "in", truth()["t1"], GRID, study(), facts("t1"), layout)
    for file in files:
        ds = pydicom.dcmread(file)
        _plant(ds)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds.BurnedInAnnotation = "NO"
            ds.save_as(file)
    import_dicom(tmp_path / "in", tmp_path / "p-001")
    copies = sorted((tmp_path / "p-001").rglob("*.dcm"))
    assert len(copies) == len(files)
    looked = 0
    for before, after in zip(files, copies):
        old, new = pydicom.dcmread(before), pydicom.dcmread(after)
        for tag, action, vr in _planted():
            if tag not in new:
                continue
            looked += 1
            keyword, value = dictionary_keyword(tag), new[tag].value
            assert action != "X" or keyword in _OWN, keyword
            if keyword in ("PatientName", "PatientID"):
                assert str(value) == "p-001"
            elif action == "Z" and keyword not in _OWN:
                assert not value, keyword
            elif vr == "UI" and value:
                assert value == new_uid(str(old[tag].value)), keyword
            elif keyword in _OWN:
                assert value != old[tag].value or keyword.endswith("Time"), keyword
            else:
                assert value != old[tag].value, keyword
        for element in _everything(new):
            assert not element.tag.is_private and element.tag.group & 0xFF00 not in (0x5000, 0x6000)
            text = str(element.value)
            assert "secret" not in text.lower() and _DATE not in text and str(int(_NUMBER)) not in text, (
                element
            )
            assert "1.2.999." not in text and "2021" not in text[:4], element
        assert new.SourceImageSequence[0].ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.4"
        assert new.PatientIdentityRemoved == "YES" and new.preamble == b"\0" * 128
        assert [c.CodeValue for c in new.DeidentificationMethodCodeSequence] == ["113100", "113107"]
    assert looked > 50
    for path in (tmp_path / "p-001").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for word in (
                b"Secret",
                b"SECRET",
                b"Doe",
                b"Jonathan",
                b"4711",
                b"Elsewhere",
                b"19500203",
                b"20210506",
            ):
                assert word not in data, (path.name, word)
    # what is left is still the image
    array, grid = read_image(copies[0].parent)
    np.testing.assert_array_equal(array, truth()["t1"])
    assert grid.same_as(GRID, 1e-4)


def test_the_table_is_whole() -> None:
    actions = {tag: action for tag, action, _ in _table()}
    assert len(actions) == 621
    known = {"00100010": "Z", "00100020": "Z/D", "00100030": "Z", "00080080": "X/Z/D", "00200010": "Z", "00080018": "U",
             "00081030": "X", "00101000": "X", "odd": "X"}  # fmt: skip
    assert {tag: actions[tag] for tag in known} == known


def test_intervals_between_visits_and_identifiers_stay_consistent() -> None:
    first = dt.date(2021, 5, 6)
    copies = []
    for days in (0, 35):
        ds = Dataset()
        ds.StudyDate = (first + dt.timedelta(days)).strftime("%Y%m%d")
        ds.StudyTime, ds.FrameOfReferenceUID, ds.SOPInstanceUID = "093000", "1.2.3", f"1.2.4.{days}"
        ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        ds.RadiopharmaceuticalStartDateTime = ds.StudyDate + "083000"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds.add_new("AcquisitionTime", "TM", "by House")  # no time at all
        copies.append(deidentify(ds, "p", first))
    assert [c.StudyDate for c in copies] == ["20000101", "20000205"]
    assert copies[1].RadiopharmaceuticalStartDateTime.startswith("20000205083000")
    assert "House" not in str(copies[0]) and copies[0].StudyTime == "093000"
    assert copies[0].FrameOfReferenceUID == copies[1].FrameOfReferenceUID != "1.2.3"
    assert copies[0].SOPInstanceUID != copies[1].SOPInstanceUID
    assert copies[0].SOPClassUID == "1.2.840.10008.5.1.4.1.1.4"
