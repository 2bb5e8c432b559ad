"""The values of a stack.

Stored values come first, and each frame's own scale after: ITK applies the first frame's scale to all frames of
a multi-frame object and takes a series' number type from its first file. Native and run-length pixels are
unpacked by pydicom, compressed ones by SimpleITK's codecs.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ...domain.errors import BadInput
from .frames import Frame
from .volumes import Stack

_UNPACKED = (
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.5",
)  # fmt: skip
_PIXEL_MODULE = (
    "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "NumberOfFrames", "PixelData",
)  # fmt: skip


def stored_values(path: Path) -> np.ndarray:
    """What a file stores, shape (frames, rows, columns), before any scale.

    Raises
    ------
    BadInput
        If the pixels are missing, cut short or damaged.
    """
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path)
            syntax = str(dataset.file_meta.TransferSyntaxUID)
            array = dataset.pixel_array if syntax in _UNPACKED else _by_codec(dataset)
    except Exception as error:  # pydicom and ITK raise many kinds for a damaged file
        raise BadInput(
            "the pixels of the DICOM file cannot be read", str(path),
            "it is damaged or cut short: export it again, or take its series out of the folder",
        ) from error  # fmt: skip
    return array.reshape(-1, *array.shape[-2:])


def _by_codec(dataset: Any) -> np.ndarray:
    """Compressed pixels by SimpleITK, from a copy that says nothing of scale or place."""
    import SimpleITK as sitk
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    many = int(dataset.get("NumberOfFrames") or 1) > 1
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7" + (".3" if many else ""))
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    with tempfile.TemporaryDirectory() as folder:
        copy = FileDataset(folder, {}, file_meta=meta, preamble=b"\0" * 128)
        copy.SOPClassUID, copy.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        for keyword in _PIXEL_MODULE:
            if keyword in dataset:
                copy[keyword] = dataset[keyword]
        name = str(Path(folder) / "pixels.dcm")
        copy.save_as(name, enforce_file_format=True)
        return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(name)))


def values(stack: Stack, *, signal: bool = False, real: bool = False) -> np.ndarray:
    """The values of a stack's voxels.

    Parameters
    ----------
    stack : Stack
    signal : bool
        Undo Philips' scaling to the screen, so that signals of different series and frames compare:
        ``signal = shown / (rescale slope x scale slope)``.
    real : bool
        Real-world values, in the unit that every frame declares, in place of the shown ones.

    Returns
    -------
    ndarray, shape (i, j, k), or (t, i, j, k) for more than one volume
        int32 where whole numbers are stored and every scale is one, float64 otherwise.

    Raises
    ------
    BadInput
        If a file's pixels cannot be read.
    """
    out = np.empty((len(stack.volumes), *stack.grid.shape))
    whole = True
    by_file: dict[Path, list[tuple[int, int, Frame]]] = {}
    for t, volume in enumerate(stack.volumes):
        for k, frame in enumerate(volume):
            by_file.setdefault(frame.path, []).append((t, k, frame))
    for path, members in by_file.items():
        stored = stored_values(path)
        for t, k, frame in members:
            if frame.number >= len(stored) or stored.shape[1:] != frame.shape[::-1]:
                raise BadInput(
                    "the pixels of the DICOM file do not fit its header", str(path), "export it again"
                )
            slope, intercept = _scale(frame, signal, real)
            whole &= stored.dtype.kind in "iu" and slope == 1.0 and float(intercept).is_integer()
            out[t, :, :, k] = slope * stored[frame.number].T.astype(np.float64) + intercept
    if whole:
        out = out.astype(np.int32)
    return out[0] if len(stack.volumes) == 1 else out


def _scale(frame: Frame, signal: bool, real: bool) -> tuple[float, float]:
    if real and frame.real is not None:
        return frame.real[:2]
    if signal and frame.scale_slope:
        return 1.0 / frame.scale_slope, frame.intercept / (frame.slope * frame.scale_slope)
    return frame.slope, frame.intercept
