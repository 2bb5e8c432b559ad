"""Frames sorted into volumes: by place in the patient, then by what tells the volumes of a series apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...domain.errors import BadInput
from ...domain.grid import Grid
from .frames import Frame, Series

#: Words of the image type that name a component; frames that differ in them are different images.
_COMPONENTS = frozenset(
    """
    M P R I MAGNITUDE PHASE REAL IMAGINARY ADC EADC FA TRACEW TRACE W F IP OP WATER FAT IN_PHASE OPP_PHASE
    OUT_PHASE LOCALIZER MIP MPR SUBTRACT SUBTRACTION T1 T2 T2_STAR
    """.split()  # noqa: SIM905
)
#: Facts that tell the volumes of one series apart, and how finely they are compared.
_TELLING = {"b_value_s_per_mm2": 1.0, "flip_angle_deg": 0.01, "inversion_time_ms": 0.01, "echo_time_ms": 0.01}
#: Frames closer than this along the normal are at one place (mm).
_SAME = 0.02
#: How far slice distances may differ from their median, as a part of it.
_UNEVEN = 0.02


@dataclass(frozen=True)
class Stack:
    """Volumes on one grid.

    Parameters
    ----------
    series : tuple of Series
        Where the frames come from; more than one where a scanner spreads a set over series.
    grid : Grid
    volumes : tuple of tuple of Frame
        ``volumes[t][k]``.
    varies : str
        What tells the volumes apart: a fact's name, "time", or "" for one volume.
    component : str
        What the image type says ("M", "ADC", ...).
    """

    series: tuple[Series, ...]
    grid: Grid
    volumes: tuple[tuple[Frame, ...], ...]
    varies: str
    component: str

    @property
    def name(self) -> str:
        """For messages: the scanner's number only, since its free text may name a person."""
        first, last = self.series[0].number, self.series[-1].number
        return f"series {first}" if first == last else f"series {first} to {last}"

    @property
    def frame(self) -> Frame:
        """The first frame."""
        return self.volumes[0][0]

    def values(self, fact: str) -> list[float]:
        """A fact of each volume; empty where the files do not have it."""
        found = [volume[0].facts.get(fact) for volume in self.volumes]
        return [] if any(v is None for v in found) else [float(v) for v in found if v is not None]

    def times(self) -> list[float]:
        """Start of each volume in seconds after the first; empty if no true times are known."""
        clock = _clock(self.volumes)
        if not clock or clock == "temporal index" or len(self.volumes) < 2:
            return []
        starts = [min(f.times[clock] for f in volume) for volume in self.volumes]
        return [round(s - starts[0], 6) for s in starts]


def stacks(series: Series) -> list[Stack]:
    """Sort the frames of a series into stacks, one for each component of its images.

    Raises
    ------
    BadInput
        If places are missing, a slice is missing, the slices' distances differ, the gantry was tilted, sizes or
        directions are mixed, or nothing tells the images at one place apart.
    """
    where = f"series {series.number}"
    if any(f.origin is None or f.axes is None for f in series.frames):
        raise BadInput(
            "its images do not say where in the patient they are", where, "export the original series"
        )
    by_component: dict[str, list[Frame]] = defaultdict(list)
    for frame in series.frames:
        words = [w for w in frame.kind.upper().split("/")[2:] if w in _COMPONENTS]
        by_component["/".join(dict.fromkeys(words))].append(frame)
    return [_stack(series, frames, component, where) for component, frames in sorted(by_component.items())]


def _stack(series: Series, frames: list[Frame], component: str, where: str) -> Stack:
    first = frames[0]
    assert first.axes is not None
    for frame in frames:
        assert frame.axes is not None
        turned = not np.allclose(frame.axes, first.axes, atol=1e-3)
        if frame.shape != first.shape or not np.allclose(frame.spacing, first.spacing, rtol=1e-3) or turned:
            what = "directions" if turned else "sizes"
            raise BadInput(
                f"it mixes images of different {what} (a localiser, or several series under one number)", where,
                "export the series apart",
            )  # fmt: skip
    u, v = first.axes
    normal = np.cross(u, v)
    origins = np.array([f.origin for f in frames])
    along = origins @ normal
    order = np.argsort(along, kind="stable")
    places: list[list[Frame]] = []
    depth: list[float] = []
    for n in order:
        if not depth or along[n] - depth[-1] > _SAME:
            places.append([])
            depth.append(float(along[n]))
        places[-1].append(frames[n])
    _whole(places, np.array(depth), where)
    step = float(np.median(np.diff(depth))) if len(depth) > 1 else _thickness(series, first)
    offsets = origins - along[:, None] * normal
    if np.abs(offsets - offsets[order[0]]).max() > 0.05 * min(first.spacing):
        raise BadInput(
            "its slices are sheared against each other (a tilted gantry)", where, "resample it upright"
        )
    volumes, varies = _apart(places, where)
    direction = np.column_stack([u, v, normal])
    grid = Grid(
        (*first.shape, len(places)), (*first.spacing, step), _three(origins[order[0]]),
        tuple(float(x) for x in direction.ravel()),
    )  # fmt: skip
    return Stack((series,), grid, volumes, varies, component)


def _three(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z


def _thickness(series: Series, frame: Frame) -> float:
    found = series.first.number("SpacingBetweenSlices") or frame.thickness
    return abs(found) if found else 1.0


def _whole(places: Sequence[Sequence[Frame]], depth: np.ndarray, where: str) -> None:
    """Refuse gaps, uneven distances, and places with fewer images than others."""
    gaps = np.diff(depth)
    if len(gaps):
        step = float(np.median(gaps))
        bad = np.flatnonzero(np.abs(gaps - step) > max(_UNEVEN * step, _SAME))
        if len(bad):
            times = gaps[bad] / step
            if np.abs(times - np.round(times)).max() < 0.1 and (times > 1.5).all():
                missing = int(np.round(times - 1).sum())
                raise BadInput(
                    f"{missing} slice{'s are' if missing > 1 else ' is'} missing after slice {bad[0] + 1} of "
                    f"{len(depth) + missing}", where, "export the whole series again",
                )  # fmt: skip
            raise BadInput(
                f"its slices are not evenly spaced ({gaps.min():.3g} to {gaps.max():.3g} mm apart)", where,
                "resample it to even slices, or take it out of the folder",
            )  # fmt: skip
    counts = np.array([len(p) for p in places])
    if counts.min() != counts.max():
        short = int(np.argmin(counts))
        raise BadInput(
            f"slice {short + 1} has {counts[short]} images where others have {counts.max()}", where,
            "an image is missing or doubled: export the whole series again",
        )  # fmt: skip


def _apart(places: list[list[Frame]], where: str) -> tuple[tuple[tuple[Frame, ...], ...], str]:
    """Volumes from the images at each place, and what tells them apart."""
    count = len(places[0])
    if count == 1:
        return (tuple(p[0] for p in places),), ""
    varying = [name for name, step in _TELLING.items() if _varies(places, name, step)]
    if len(varying) > 1:
        raise BadInput("it mixes images that differ in " + " and ".join(varying), where, "export them apart")
    clock = _clock(places)
    name = varying[0] if varying else "time"
    if varying and name != "b_value_s_per_mm2":
        step = _TELLING[name]
        if any(len({round(f.facts[name] / step) for f in p}) != count for p in places):
            raise BadInput(f"it mixes images that differ in {name} and in time", where, "export them apart")
    if not varying and not clock:
        raise BadInput(
            f"{count} images lie at one place and nothing in their headers tells them apart", where,
            "export the original series",
        )  # fmt: skip

    def key(frame: Frame) -> tuple[Any, ...]:
        fact = round(frame.facts[name] / _TELLING[name]) if varying else 0
        return fact, frame.times.get(clock, 0.0), frame.direction or (), frame.instance, frame.number

    ordered = [sorted(place, key=key) for place in places]
    return tuple(zip(*ordered)), name


def _varies(places: Sequence[Sequence[Frame]], name: str, step: float) -> bool:
    """Whether every image has the fact and it differs among the images at one place."""
    return all(name in f.facts for p in places for f in p) and any(
        len({round(f.facts[name] / step) for f in p}) > 1 for p in places
    )


def _clock(groups: Sequence[Sequence[Frame]]) -> str:
    """The first candidate for a time that every frame has and that tells volumes apart."""
    by_place: Mapping[int, list[Frame]] = defaultdict(list)
    for group in groups:
        for frame in group:
            assert frame.origin is not None and frame.axes is not None
            by_place[round(float(frame.origin @ np.cross(*frame.axes)) / _SAME)].append(frame)
    first = next(iter(by_place.values()))
    for name in first[0].times:
        if all(
            all(name in f.times for f in place)
            and len({round(f.times[name], 4) for f in place}) == len(place)
            for place in by_place.values()
        ):
            return name
    return ""


def merge(parts: Sequence[Stack]) -> Stack:
    """Volumes that a scanner put into series of their own, as one stack, in order of flip angle or time.

    Raises
    ------
    BadInput
        If neither tells them apart.
    """
    places = [[stack.volumes[0][k] for stack in parts] for k in range(parts[0].grid.shape[2])]
    volumes, varies = _apart(places, f"{parts[0].name} to {parts[-1].series[0].number}")
    series = tuple(s for stack in parts for s in stack.series)
    return Stack(series, parts[0].grid, volumes, varies, parts[0].component)
