"""Where each vendor keeps the facts of an acquisition, and how they become one set of names and units.

Standard places come first, then the private ones of Siemens, GE, Philips and United Imaging. Private places
are those of the vendors' DICOM conformance statements [R].
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

#: Private places as (group, offset in the block, creator).
_PHILIPS = "Philips MR Imaging DD 001"
_B_VALUES = (
    (0x0019, 0x0C, "SIEMENS MR HEADER"),
    (0x2001, 0x03, "Philips Imaging DD 001"),
    (0x0043, 0x39, "GEMS_PARM_01"),
    (0x0065, 0x09, "Image Private Header"),
)
# GE adds this to the b-value of images made with some protocols
_GE_OFFSET = 1_000_000_000


Place = tuple[Any, dict[tuple[int, str], int]]


def place(dataset: Any) -> Place:
    """A dataset with its private blocks: (group, creator) to the block's number."""
    found = {}
    for tag in dataset.keys():  # noqa: SIM118 - a dataset's own iteration decodes every value
        if tag.group % 2 and 0x10 <= tag.element <= 0xFF:
            found[tag.group, str(dataset[tag].value).strip()] = tag.element
    return dataset, found


class Header:
    """A dataset seen from one of its frames: per-frame groups first, then shared ones, then the top.

    Parameters
    ----------
    dataset : pydicom.Dataset
    frame : int
        Counted from 0; 0 where there are no frames.
    common : list of Place, optional
        Of :func:`common_places`, where many frames share them.
    """

    def __init__(self, dataset: Any, frame: int = 0, common: list[Place] | None = None) -> None:
        self.dataset = dataset
        own = dataset.get("PerFrameFunctionalGroupsSequence")
        mine = [own[frame], *_items(own[frame])] if own is not None and frame < len(own) else []
        self.places = [*(place(d) for d in mine), *(common if common is not None else common_places(dataset))]

    def get(self, keyword: str) -> Any:
        """The value of a standard attribute; None where it is absent or empty."""
        for dataset, _ in self.places:
            element = dataset.get(keyword)
            if (
                element is not None
                and element != ""
                and not (hasattr(element, "__len__") and not len(element))
            ):
                return element
        return None

    def number(self, keyword: str) -> float | None:
        """A single finite number."""
        return as_number(self.get(keyword))

    def private(self, group: int, offset: int, creator: str) -> Any:
        """The value of a private attribute by its creator; None where it is absent."""
        for dataset, blocks in self.places:
            block = blocks.get((group, creator))
            if block is None or (group, (block << 8) + offset) not in dataset:
                continue
            value = dataset[group, (block << 8) + offset].value
            if value not in (None, "", b""):
                return value
        return None


def common_places(dataset: Any) -> list[Place]:
    """What all frames share: the shared functional groups of a multi-frame object, and the dataset itself."""
    shared = dataset.get("SharedFunctionalGroupsSequence")
    groups = [shared[0], *_items(shared[0])] if shared else []
    return [place(d) for d in (*groups, dataset)]


def _items(group: Any) -> Iterator[Any]:
    """Every item of every sequence of a functional group, depth first, private ones included."""
    for element in group:
        if element.VR == "SQ":
            for item in element.value:
                yield item
                yield from _items(item)


def as_number(value: Any) -> float | None:
    """The first number of a value in any of DICOM's spellings; None if there is none or it is not finite."""
    if isinstance(value, bytes):  # a private value whose type was lost on the way
        text = value.strip(b" \0")
        if text and not text.strip(b"0123456789+-.eE\\ "):
            value = text.decode("ascii").split("\\")[0]
        elif len(value) in (4, 8):
            value = struct.unpack("<d" if len(value) == 8 else "<f", value)[0]
    if not isinstance(value, str | int | float) and hasattr(value, "__len__"):
        value = value[0] if len(value) else None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if abs(found) < float("inf") else None


def moment(date: Any, time: Any) -> dt.datetime | None:
    """A date and a clock time (DA, TM) as one moment; a missing clock time is midnight."""
    date, time = str(date or "").strip(), str(time or "").strip().replace(":", "")
    try:
        day = dt.datetime.strptime(date.replace(".", "")[:8], "%Y%m%d")
    except ValueError:
        return None
    return day + clock(time)


def clock(time: str) -> dt.timedelta:
    """A clock time (TM) since midnight; what cannot be read counts as nothing."""
    whole, _, part = time.strip().replace(":", "").partition(".")
    try:
        parts = [int(whole[i : i + 2]) for i in (0, 2, 4) if whole[i : i + 2]]
        fraction = float(f"0.{part}") if part else 0.0
    except ValueError:
        return dt.timedelta()
    hours, minutes, seconds = [*parts, 0, 0, 0][:3]
    return dt.timedelta(hours=hours, minutes=minutes, seconds=seconds + fraction)


def stamp(value: Any) -> dt.datetime | None:
    """A DICOM date-time (DT); its offset from UTC is left out, as that of all of a study's times is."""
    text = str(value or "").strip()
    for sign in ("+", "-"):
        text = text.split(sign)[0]
    return moment(text[:8], text[8:]) if len(text) >= 8 else None


def b_value(header: Header) -> float | None:
    """The diffusion weighting in s/mm2."""
    found = header.number("DiffusionBValue")
    if found is not None:
        return found
    if str(header.get("DiffusionDirectionality") or "") == "NONE":
        return 0.0
    for place in _B_VALUES:
        value = as_number(header.private(*place))
        if value is not None:
            return value - _GE_OFFSET if value >= _GE_OFFSET else value
    csa = header.private(0x0029, 0x10, "SIEMENS CSA HEADER")
    return as_number(csa_value(csa, "B_value")) if isinstance(csa, bytes) else None


def csa_value(data: bytes, name: str) -> str | None:
    """The first value of an entry of Siemens' CSA header, version 2 ("SV10"); None where it is absent."""
    if data[:4] != b"SV10":
        return None
    at = 16
    try:
        for _ in range(struct.unpack_from("<i", data, 8)[0]):
            entry = data[at : at + 64].split(b"\0")[0].decode("ascii", "ignore")
            count = struct.unpack_from("<i", data, at + 76)[0]
            at += 84
            values = []
            for _ in range(count):
                length = struct.unpack_from("<i", data, at)[0]
                at += 16
                values.append(data[at : at + length].split(b"\0")[0].decode("ascii", "ignore").strip())
                at += (length + 3) // 4 * 4
            if entry == name:
                return next((v for v in values if v), None)
    except (struct.error, IndexError):
        return None
    return None


def scale_slope(header: Header) -> float | None:
    """Philips' scale slope: the signal is the shown value over (rescale slope x scale slope)."""
    found = as_number(header.private(0x2005, 0x0E, _PHILIPS))
    return found if found else None


def diffusion_direction(header: Header) -> tuple[float, ...] | None:
    """The gradient's direction of a diffusion-weighted image."""
    value = header.get("DiffusionGradientOrientation")
    if value is None:
        value = header.private(0x0019, 0x0E, "SIEMENS MR HEADER")
    if value is None or not hasattr(value, "__len__") or len(value) != 3 or isinstance(value, bytes):
        return None
    return tuple(round(float(v), 4) for v in value)


def times(header: Header) -> dict[str, float]:
    """Every candidate for the time of a frame, in seconds from some common start, by its place."""
    found: dict[str, float] = {}

    def put(name: str, value: float | None, scale: float = 1.0) -> None:
        if value is not None:
            found[name] = value * scale

    def since(value: dt.datetime | None) -> float | None:
        return None if value is None else (value - dt.datetime(1970, 1, 1)).total_seconds()

    put("frame time", since(stamp(header.get("FrameAcquisitionDateTime"))))
    put("temporal offset", header.number("TemporalPositionTimeOffset"))
    put("dynamic scan begin", as_number(header.private(0x2005, 0xA0, _PHILIPS)))
    put("acquisition time", since(_acquired(header)))
    put("frame reference time", header.number("FrameReferenceTime"), 1e-3)
    put("trigger time", header.number("TriggerTime"), 1e-3)
    step = header.number("TemporalResolution")
    index = header.number("TemporalPositionIdentifier") or header.number("TemporalPositionIndex")
    if index is not None:
        put("temporal position" if step else "temporal index", index, step / 1e3 if step else 1.0)
    put("content time", since(moment(header.get("ContentDate"), header.get("ContentTime"))))
    return found


def _acquired(header: Header) -> dt.datetime | None:
    own = stamp(header.get("AcquisitionDateTime"))
    if own is not None:
        return own
    date = header.get("AcquisitionDate") or header.get("SeriesDate") or header.get("StudyDate")
    return moment(date, header.get("AcquisitionTime")) if header.get("AcquisitionTime") else None


def started(header: Header) -> dt.datetime | None:
    """When the series was acquired, as well as the header tells."""
    pairs: tuple[Callable[[], dt.datetime | None], ...] = (
        lambda: stamp(header.get("FrameAcquisitionDateTime")),
        lambda: _acquired(header),
        lambda: moment(header.get("SeriesDate"), header.get("SeriesTime")),
        lambda: moment(header.get("ContentDate"), header.get("ContentTime")),
        lambda: moment(header.get("StudyDate"), header.get("StudyTime")),
    )
    return next((found for pair in pairs if (found := pair()) is not None), None)


@dataclass(frozen=True)
class Activity:
    """What the quantification of an emission scan needs.

    Parameters
    ----------
    injected : float or None
        Bq at the time of injection.
    half_life : float or None
        s.
    delay : float or None
        From injection to the time that the values are corrected to (the scan's start or the injection), s.
    correction : str
        START, ADMIN or NONE.
    tracer, nuclide : str
        By their codes' meanings.
    """

    injected: float | None
    half_life: float | None
    delay: float | None
    correction: str
    tracer: str
    nuclide: str


def activity(header: Header, first_frame: dt.datetime | None) -> Activity | None:
    """Injection and decay of a PET or SPECT scan; None where the header says nothing of a tracer.

    Parameters
    ----------
    header : Header
        Of the first frame.
    first_frame : datetime, optional
        When the first frame began.

    Notes
    -----
    The reference time of a decay correction to START is the series' start unless a later reconstruction
    changed it; GE keeps the true one in a private place (QIBA's rule for SUV).
    """
    sequence = header.get("RadiopharmaceuticalInformationSequence")
    if not sequence:
        return None
    item = sequence[0]
    correction = str(header.get("DecayCorrection") or "NONE").upper()
    dose = as_number(item.get("RadionuclideTotalDose"))
    series = moment(header.get("SeriesDate"), header.get("SeriesTime"))
    scan = stamp(header.private(0x0009, 0x0D, "GEMS_PETD_01")) or series or first_frame
    if first_frame is not None and scan is not None and scan > first_frame:
        scan = first_frame
    injected = stamp(item.get("RadiopharmaceuticalStartDateTime"))
    if injected is None and item.get("RadiopharmaceuticalStartTime") and scan is not None:
        injected = dt.datetime.combine(scan.date(), dt.time()) + clock(str(item.RadiopharmaceuticalStartTime))
        if injected > scan:  # injected before midnight
            injected -= dt.timedelta(days=1)
    delay = None
    if correction == "ADMIN":
        delay = 0.0
    elif scan is not None and injected is not None:
        delay = (scan - injected).total_seconds()
    return Activity(
        dose if dose else None, as_number(item.get("RadionuclideHalfLife")), delay, correction,
        _meaning(item, "RadiopharmaceuticalCodeSequence"), _meaning(item, "RadionuclideCodeSequence"),
    )  # fmt: skip


def _meaning(item: Any, keyword: str) -> str:
    codes = item.get(keyword)
    return str(codes[0].get("CodeMeaning", "")) if codes else ""
