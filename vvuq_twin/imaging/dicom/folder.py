"""Which series lie in a folder, and which of its files are no part of any."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...domain.errors import BadInput
from ...domain.files import cannot_read
from .frames import Series, frames_of, series_of

Progress = Callable[[str, int, int], None]


@dataclass
class Contents:
    """What a folder holds.

    Parameters
    ----------
    series : list of Series
        By study and number.
    objects : list of Path
        DICOM files that are no grey images: structured reports, outlines, presentation states, colour images.
    damaged : list of BadInput
        Files that say they are DICOM and cannot be read.
    others : int
        Files of other kinds.
    """

    series: list[Series] = field(default_factory=list)
    objects: list[tuple[Path, str]] = field(default_factory=list)
    damaged: list[BadInput] = field(default_factory=list)
    others: int = 0


def read_header(path: Path) -> Any:
    """A file's dataset without its pixels; None if it is not a DICOM file.

    Raises
    ------
    BadInput
        If it begins as one and cannot be read.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values are looked at where they are used
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
            dataset.get("SeriesInstanceUID")
    except InvalidDicomError:
        return None
    except OSError as error:
        raise cannot_read(path, error) from error
    except Exception as error:  # pydicom raises many kinds for a damaged file
        raise _damaged(path) from error
    if "SOPClassUID" not in dataset:
        if "DirectoryRecordSequence" in dataset or dataset.get("FileSetID") is not None:
            return None
        raise _damaged(path)
    return dataset


def _damaged(path: Path) -> BadInput:
    return BadInput(
        "the DICOM file cannot be read", str(path),
        "it is damaged or cut short: export it again, or take its series out of the folder",
    )  # fmt: skip


def read_folder(folder: Path, progress: Progress | None = None) -> Contents:
    """Sort the DICOM files below a folder into series. Pixels are not read.

    Parameters
    ----------
    folder : Path
    progress : callable, optional
        Called with a label, files done, files in all.

    Raises
    ------
    BadInput
        If there is no such folder, or no DICOM file in it.
    """
    folder = Path(folder)
    if not folder.exists():
        raise BadInput("the DICOM folder does not exist", str(folder), "check the path")
    if not folder.is_dir():
        raise BadInput("this is a file, not a folder", str(folder), "name the folder that holds the files")
    paths = sorted(Path(top) / name for top, _, names in os.walk(folder) for name in names)
    found = read_files(paths, progress)
    if not found.series and not found.damaged:
        what = f"{len(paths)} files, none of them a DICOM image" if paths else "no file"
        raise BadInput(f"the folder holds {what}", str(folder), "name the folder of a DICOM export")
    return found


def read_files(paths: Sequence[Path], progress: Progress | None = None) -> Contents:
    """Sort files into series by their headers; what is no DICOM image is counted, what is damaged is kept apart."""
    found = Contents()
    by_uid: dict[str, Series] = {}
    for done, path in enumerate(paths):
        if progress is not None and done % 50 == 0:
            progress("read headers", done, len(paths))
        try:
            dataset = read_header(path)
        except BadInput as error:
            found.damaged.append(error)
            continue
        if dataset is None or str(dataset.get("SOPClassUID")) == "1.2.840.10008.1.3.10":  # a DICOMDIR
            found.others += 1
            continue
        try:
            frames = frames_of(dataset, path)
        except BadInput:
            found.objects.append((path, str(dataset.SOPClassUID)))
            continue
        except Exception as error:  # a value of the wrong kind deep in a header
            found.damaged.append(_damaged(path))
            found.damaged[-1].__cause__ = error
            continue
        series = by_uid.setdefault(str(dataset.get("SeriesInstanceUID") or path), series_of(dataset))
        series.frames += frames
        series.files.append(path)
    if progress is not None:
        progress("read headers", len(paths), len(paths))
    found.series = sorted(by_uid.values(), key=lambda s: (s.study, s.number, s.uid))
    return found
