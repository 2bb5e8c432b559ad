"""What the values of an image's voxels say: missing, infinite, negative, or in another unit than declared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from ..domain.errors import BadInput
from ..domain.patient import ImageRef
from ..domain.units import convert

Found = tuple[Literal["error", "warning", "note"], BadInput]

# a median further than this factor outside the plausible range is an error, not a doubt
_FAR = 30.0


def voxel_findings(ref: ImageRef, array: np.ndarray, unit: str, tumour: np.ndarray | None) -> Iterator[Found]:
    """Faults of an image's values.

    Parameters
    ----------
    ref : ImageRef
    array : ndarray, shape (i, j, k) or (t, i, j, k)
        In ``unit``.
    unit : str
    tumour : ndarray of bool, shape (i, j, k), optional
        Where values matter most; without it, everywhere.

    Yields
    ------
    (level, BadInput)
    """
    name = ref.role.name
    if (ref.role.kind == "series") != (array.ndim == 4) and ref.role.kind in ("map", "series"):
        problem = (
            "is one volume, not a series" if ref.role.kind == "series" else "is a series, not one volume"
        )
        yield "error", BadInput(f"the {name} image {problem}", ref.field, "give the right file")
        return
    if ref.role.kind == "series":
        yield from _frames(ref, array)
    inside = np.ones(array.shape[-3:], dtype=bool) if tumour is None else tumour
    scope = "" if tumour is None else " in the tumour"
    infinite = int(np.isinf(array).sum())
    if infinite:
        yield (
            "error",
            BadInput(
                f"{_count(infinite)} of the {name} image hold an infinite value",
                ref.field,
                "mend the map or set them to NaN",
            ),
        )
    nan = np.isnan(array) if array.ndim == 3 else np.isnan(array).any(axis=0)
    within = int((nan & inside).sum())
    if within and not ref.missing:
        yield "error", BadInput(
            f"{_count(within)} of the {name} image{scope} hold NaN", ref.field,
            "mend the map, or add missing: nan if they mark missing values",
        )  # fmt: skip
    elif within:
        share = within / int(inside.sum())
        level: Literal["error", "warning"] = "error" if share > 0.5 else "warning"
        yield level, BadInput(
            f"{_count(within)} ({100 * share:.1f} %) of the {name} image{scope} are missing", ref.field,
            "they are left out" if share <= 0.5 else "half of the values are needed",
        )  # fmt: skip
    beyond = int(nan.sum()) - within
    if beyond:
        yield "note", BadInput(f"{_count(beyond)} of the {name} image outside the tumour hold NaN", ref.field)
    if ref.role.kind == "map" and unit == ref.role.unit:
        yield from _values(ref, array, inside if tumour is not None else None)


def _values(ref: ImageRef, array: np.ndarray, tumour: np.ndarray | None) -> Iterator[Found]:
    """Signs and sizes of a map in its role's unit."""
    name, role = ref.role.name, ref.role
    values = array[tumour] if tumour is not None else array[array != 0]
    values = values[np.isfinite(values)]
    if values.size == 0:
        yield "error", BadInput(f"the {name} image holds no value", ref.field, "give the right file")
        return
    scope = " in the tumour" if tumour is not None else ""
    if role.least is not None:
        below = int((values < role.least).sum())
        if below:
            yield "error", BadInput(
                f"{_count(below)} of the {name} image{scope} are below {role.least:g} {role.unit} "
                f"(lowest {values.min():.3g})", ref.field,
                "mend the map, or set them to NaN and add missing: nan",
            )  # fmt: skip
        if tumour is not None:
            everywhere = int((array < role.least).sum()) - below
            if everywhere:
                yield "warning", BadInput(
                    f"{_count(everywhere)} of the {name} image outside the tumour are below {role.least:g}",
                    ref.field, "look at the map there",
                )  # fmt: skip
    if role.plausible is None or role.unit is None:
        return
    middle = float(np.median(values))
    low, high = role.plausible
    if low <= middle <= high:
        return
    far = middle > high * _FAR or (middle < low / _FAR and low > 0)
    declared = float(convert(1.0, role.unit, ref.unit)) * middle
    hint = next((f"{s} {role.unit}" for s in ("1e-6", "1e-3") if low <= float(s) * declared <= high), None)
    mend = (
        f"check the declared unit (could it be '{hint}'?)" if hint else "check the declared unit and the file"
    )
    yield ("error" if far else "warning"), BadInput(
        f"the median{scope} of the {name} image is {declared:.3g} {ref.unit}, which is implausible "
        f"(expected {low:g} to {high:g} {role.unit})", ref.field,
        mend,
    )  # fmt: skip


def _frames(ref: ImageRef, array: np.ndarray) -> Iterator[Found]:
    times = ref.acquisition.get("frame_times_s")
    if times is None:
        yield (
            "warning",
            BadInput(
                f"the times of the {ref.role.name} frames are not given",
                ref.field,
                "add acquisition.frame_times_s",
            ),
        )
        return
    good = isinstance(times, list) and len(times) == len(array)
    if not good or not all(isinstance(t, int | float) for t in times) or (np.diff(times) <= 0).any():
        yield (
            "error",
            BadInput(
                f"acquisition.frame_times_s must hold {len(array)} increasing times, one a frame",
                ref.field,
                "correct it",
            ),
        )


def _count(n: int) -> str:
    return f"{n} voxel" if n == 1 else f"{n} voxels"
