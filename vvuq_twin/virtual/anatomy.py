"""A head of any size: brain, fluid, skull and scalp, and a tree of vessels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from scipy import ndimage

from ..domain.errors import BadInput
from ..domain.grid import Grid
from ..domain.keys import generator
from .brain import CSF, Brain, make_brain


@cache
def phantom_library() -> dict[str, Any]:
    """``library/phantom.yaml``."""
    import yaml

    text = resources.files("vvuq_twin.library").joinpath("phantom.yaml").read_text(encoding="utf-8")
    data: dict[str, Any] = yaml.safe_load(text)
    return data


def tissue_labels() -> dict[str, int]:
    """Label of every tissue by its name."""
    return {name: int(t["label"]) for name, t in phantom_library()["tissues"].items()}


@dataclass(frozen=True)
class Head:
    """A head on a fine grid.

    Parameters
    ----------
    grid : Grid
        Cubes; its middle is the origin.
    labels : ndarray of uint8
        Without a tumour.
    size : float
        Of an adult's.
    """

    grid: Grid
    labels: np.ndarray
    size: float

    @property
    def brain(self) -> Brain:
        """Grey and white matter as the growth model's domain."""
        return Brain(self.grid, np.where(np.isin(self.labels, (1, 2)), self.labels, CSF))


def make_head(spacing: float, seed: int, size: float = 1.0) -> Head:
    """Draw a head.

    Parameters
    ----------
    spacing : float
        Voxel size, mm.
    seed : int
        Key of the patient: size, folds and vessels vary with it.
    size : float
        Every length as a part of an adult's.

    Raises
    ------
    BadInput
        If the voxels are too coarse for a head of this size.
    """
    if not 0 < spacing <= 8.0 * size:
        raise BadInput(
            f"voxels of {spacing:g} mm are too coarse for a head of {size:g} times an adult's", "phantom",
            f"use at most {8.0 * size:g} mm",
        )  # fmt: skip
    numbers, names = phantom_library()["anatomy"], tissue_labels()
    h = spacing / size  # the brain is drawn at an adult's size
    brain = make_brain(h, seed)
    margin = round((numbers["skull_mm"] + numbers["scalp_mm"] + 2.0) / h) + 1
    tissue = np.pad(brain.tissue, margin)
    grid = _centred(tissue.shape, h)
    # the envelope of the brain, with sulci, fissure and ventricles in it
    inside = _closed(tissue > CSF, grid, 9.0)
    outside = ndimage.distance_transform_edt(~inside, sampling=grid.spacing)
    labels = np.full(tissue.shape, names["air"], dtype=np.uint8)
    labels[outside <= numbers["skull_mm"] + numbers["scalp_mm"]] = names["scalp"]
    labels[outside <= numbers["skull_mm"]] = names["skull"]
    labels[inside] = names["fluid"]
    labels[tissue == 1], labels[tissue == 2] = names["grey"], names["white"]
    vessels = _vessels(grid, seed, numbers)
    labels[vessels & inside] = names["vessel"]
    return Head(replace(grid, spacing=(spacing,) * 3, origin=_scaled(grid.origin, size)), labels, size)


def _centred(shape: tuple[int, ...], spacing: float) -> Grid:
    a, b, c = shape
    x, y, z = (-(n - 1) / 2 * spacing for n in shape)
    return Grid((a, b, c), (spacing,) * 3, (x, y, z))


def _scaled(origin: tuple[float, float, float], size: float) -> tuple[float, float, float]:
    x, y, z = origin
    return x * size, y * size, z * size


def _closed(mask: np.ndarray, grid: Grid, radius: float) -> np.ndarray:
    """Closed by a ball: dilated and eroded by distance, holes filled."""
    wide = np.pad(mask, round(radius / grid.spacing[0]) + 1)
    grown = ndimage.distance_transform_edt(~wide, sampling=grid.spacing) <= radius
    shrunk = (
        ndimage.distance_transform_edt(np.pad(grown, 1), sampling=grid.spacing)[1:-1, 1:-1, 1:-1] > radius
    )
    cut = round(radius / grid.spacing[0]) + 1
    closed = ndimage.binary_fill_holes(shrunk | wide)
    return np.asarray(closed[cut:-cut, cut:-cut, cut:-cut])


def _vessels(grid: Grid, seed: int, numbers: Mapping[str, Any]) -> np.ndarray:
    """A venous sinus along the midline's top, and two arteries that branch outward from the base."""
    mask = np.zeros(grid.shape, dtype=bool)
    half = np.array(grid.shape) / 2 * grid.spacing[0] - numbers["skull_mm"] - numbers["scalp_mm"] - 4.0
    radius = float(numbers["vessel_radius_mm"])
    angle = np.linspace(0.15 * np.pi, 0.95 * np.pi, 60)
    sinus = np.stack([np.zeros(60), half[1] * np.cos(angle), half[2] * np.sin(angle)], axis=1) * 0.97
    _tube(mask, grid, sinus, np.full(60, radius))
    draw = generator(seed, "vessels")
    for side in (-1.0, 1.0):
        stack = [(np.array([side * 8.0, -5.0, -0.75 * half[2]]), np.array([side, -0.1, 0.5]), radius, 0)]
        while stack:
            at, along, thick, generation = stack.pop()
            length = 34.0 * 0.8**generation
            points = [at]
            for _ in range(8):
                along = along + 0.22 * draw.standard_normal(3)
                along = along / np.linalg.norm(along)
                points.append(points[-1] + along * length / 8)
            _tube(mask, grid, np.array(points), np.linspace(thick, 0.85 * thick, 9))
            if generation < numbers["vessel_generations"] - 1:
                for _ in range(2):
                    turned = along + 0.75 * draw.standard_normal(3)
                    stack.append((points[-1], turned / np.linalg.norm(turned), 0.78 * thick, generation + 1))
    return mask


def _tube(mask: np.ndarray, grid: Grid, points: np.ndarray, radii: np.ndarray) -> None:
    """Mark the voxels within the radii of a path, at least the voxels that it passes; in place."""
    h = grid.spacing[0]
    for a, b, r in zip(points[:-1], points[1:], radii):
        r = max(r, 0.6 * h)
        count = max(2, int(np.ceil(2 * np.linalg.norm(b - a) / h)))
        path = a + np.linspace(0, 1, count)[:, None] * (b - a)
        index = (path - np.array(grid.origin)) / h
        low = np.clip(np.floor(index.min(axis=0) - r / h).astype(int), 0, grid.shape)
        high = np.clip(np.ceil(index.max(axis=0) + r / h).astype(int) + 1, 0, grid.shape)
        if (high <= low).any():
            continue
        box = tuple(slice(int(x), int(y)) for x, y in zip(low, high))
        centres = np.stack(np.meshgrid(*(np.arange(s.start, s.stop) for s in box), indexing="ij"), axis=-1)
        near = ((centres[..., None, :] - index) ** 2).sum(axis=-1).min(axis=-1)
        mask[box] |= near <= (r / h) ** 2
