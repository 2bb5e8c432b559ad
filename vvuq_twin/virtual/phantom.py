"""A phantom: a virtual patient of any size whose anatomy, tumour and motion are known on a grid finer than its scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..domain.errors import BadInput, RunFailed
from ..domain.grid import Grid
from ..domain.keys import generator
from ..imaging.resample import voxel_to_world
from ..physics.faces import assemble
from ..physics.growth import GrowthParameters, advance
from ..physics.timeline import timeline
from .anatomy import Head, make_head, phantom_library, tissue_labels
from .fields import smooth_noise


@dataclass(frozen=True)
class PhantomVisit:
    """What is true on one day.

    Parameters
    ----------
    id : str
    day : float
    motion : ndarray, shape (4, 4)
        Takes points of the first visit's position to where they lie now, mm (LPS).
    labels : ndarray of uint8, shape ``fine.shape``
        Tissue on the fine grid, in the first visit's position.
    cellularity : ndarray, shape ``fine.shape``, float32
    fractions : ndarray, shape (L, *grid.shape), float32
        How much of each of the scanner's voxels each tissue fills, as the head lies on that day.
    tumour_cellularity : ndarray, shape grid.shape
        Mean over the living tumour in each of the scanner's voxels; 0 without any.
    tumour_ktrans : ndarray, shape grid.shape
        The same of Ktrans, 1/min.
    volume_cm3, necrosis_cm3 : float
        Of the tumour with its necrosis, and of the necrosis alone, on the fine grid.
    """

    id: str
    day: float
    motion: np.ndarray
    labels: np.ndarray
    cellularity: np.ndarray
    fractions: np.ndarray
    tumour_cellularity: np.ndarray
    tumour_ktrans: np.ndarray
    volume_cm3: float
    necrosis_cm3: float

    def mask(self, *tissues: str) -> np.ndarray:
        """Voxels of the scanner that these tissues fill by half or more."""
        names = list(tissue_labels())
        return np.asarray(sum(self.fractions[names.index(t)] for t in tissues) >= 0.5)


@dataclass(frozen=True)
class Phantom:
    """A phantom with its truth.

    Parameters
    ----------
    seed : int
    grid : Grid
        The scanner's.
    fine : Grid
        The truth's.
    visits : tuple of PhantomVisit
    """

    seed: int
    grid: Grid
    fine: Grid
    visits: tuple[PhantomVisit, ...]


def make_phantom(
    seed: int, spacing: Sequence[float] = (2.0, 2.0, 4.0), *, size: float = 1.0, days: Sequence[float] = (0.0, 30.0, 60.0),
    refine: int = 2, tumour_cm3: float = 20.0, motion: bool = True,
) -> Phantom:  # fmt: skip
    """Make a phantom.

    Parameters
    ----------
    seed : int
        Key of everything.
    spacing : sequence of float
        The scanner's voxels, mm.
    size : float
        Of the head, as a part of an adult's.
    days : sequence of float
        Of the visits, increasing.
    refine : int
        The truth's voxels are cubes this many times smaller than the scanner's smallest side.
    tumour_cm3 : float
        Visible tumour at the first visit for an adult's head; it scales with the cube of ``size``.
    motion : bool
        Whether the head lies elsewhere at later visits.

    Returns
    -------
    Phantom

    Raises
    ------
    BadInput
        If days do not increase, the truth is not finer than the scans, or the voxels are too coarse for the head.

    Notes
    -----
    The tumour grows by reaction and diffusion in grey and white matter on the fine grid; where it has been dense and
    deep for long it is necrotic. Vessels are tissue of their own and are not displaced. The scanner's voxels hold what
    ``refine``^3 or more points in each find in the fine grid, as the head lies on that day.
    """
    steps = np.diff(np.asarray(days, dtype=float))
    if refine < 2 or len(days) == 0 or (steps <= 0).any():
        raise BadInput("a phantom needs increasing days and a truth at least twice as fine", "phantom")
    head = make_head(min(spacing) / refine, seed, size)
    grid = _scanner_grid(head, spacing)
    cells, site = _grow(head, seed, np.asarray(days, dtype=float), tumour_cm3 * size**3)
    ktrans = _ktrans(head, seed)
    visits = []
    for n, (day, cellularity) in enumerate(zip(days, cells)):
        labels = _with_tumour(head, cellularity, seed)
        moved = _motion(seed, n, size, site) if motion and n else np.eye(4)
        fractions, inside, rate = _scanned(labels, cellularity, ktrans, head.grid, grid, moved, refine)
        names = tissue_labels()
        cm3 = head.grid.voxel_volume / 1000.0
        dead = float((labels == names["necrosis"]).sum()) * cm3
        whole = dead + float((labels == names["tumour"]).sum()) * cm3
        visits.append(
            PhantomVisit(f"visit-{n + 1}", float(day), moved, labels, cellularity.astype(np.float32), fractions, inside, rate, whole, dead)
        )  # fmt: skip
    return Phantom(seed, grid, head.grid, tuple(visits))


def _scanner_grid(head: Head, spacing: Sequence[float]) -> Grid:
    x, y, z = (float(s) for s in spacing)
    extent = np.array(head.grid.shape) * np.array(head.grid.spacing)
    i, j, k = (int(np.ceil(e / s)) for e, s in zip(extent, (x, y, z)))
    u, v, w = (-(n - 1) / 2 * s for n, s in zip((i, j, k), (x, y, z)))
    return Grid((i, j, k), (x, y, z), (u, v, w))


def _grow(head: Head, seed: int, days: np.ndarray, target_cm3: float) -> tuple[np.ndarray, np.ndarray]:
    """Cellularity at the visits on the fine grid, shape (V, *fine.shape), and where the tumour began, mm."""
    numbers, brain, size = phantom_library()["growth"], head.brain, head.size
    draw = generator(seed, "phantom site")
    side = 1.0 if draw.random() < 0.5 else -1.0
    site = size * (np.array([side * 34.0, 0.0, 8.0]) + draw.uniform(-1, 1, 3) * np.array([4.0, 18.0, 8.0]))
    reach = size * 46.0
    box = []
    for n, h, o, s in zip(head.grid.shape, head.grid.spacing, head.grid.origin, site):
        low, high = int(np.clip((s - reach - o) / h, 0, n)), int(np.clip((s + reach - o) / h, 1, n))
        box.append(slice(low, high))
    where = (box[0], box[1], box[2])
    shape = tuple(b.stop - b.start for b in box)
    corner = [o + b.start * h for o, b, h in zip(head.grid.origin, box, head.grid.spacing)]
    local = Grid((shape[0], shape[1], shape[2]), head.grid.spacing, (corner[0], corner[1], corner[2]))
    tissue = brain.tissue[where]
    faces = assemble(local, tissue > 0, tissue, {"grey": 1, "white": 2})
    spread = numbers["diffusivity_mm2_per_day"]
    growth = GrowthParameters.of(
        np.array([size**2 * spread[name] for name in faces.names]), float(numbers["rate_per_day"])
    )
    points = local.points(faces.mask) + np.array(local.origin)
    radius = size * numbers["seed_radius_mm"]
    state = 0.6 * np.exp(-((points - site) ** 2).sum(axis=1) / (2 * radius**2))
    wanted = target_cm3 * 1000.0 / local.voxel_volume
    for _ in range(200):
        states, _ = advance(faces, state, growth, timeline(0.0, [4.0], dt_max=2.0))
        state = states[0, -1]
        if (state >= numbers["detection"]).sum() >= wanted:
            break
    else:
        raise RunFailed(f"the phantom's tumour {seed} did not reach {target_cm3:g} cm3")
    out = np.zeros((len(days), *head.grid.shape), dtype=np.float32)
    later = (days - days[0])[1:]
    states = np.concatenate([state[None, None], np.zeros((1, 0, len(state)))], axis=1)
    if len(later):
        more, status = advance(faces, state, growth, timeline(0.0, later.tolist(), dt_max=2.0))
        if status[0] != 0:
            raise RunFailed(f"the truth of phantom {seed} is not finite")
        states = np.concatenate([state[None, None], more], axis=1)
    for n in range(len(days)):
        out[n][where] = faces.scatter(states[0, n])
    return out, site


def _ktrans(head: Head, seed: int) -> np.ndarray:
    """Patchy Ktrans of the tumour wherever it may come to lie, 1/min."""
    library = phantom_library()
    patch = smooth_noise(
        head.grid, head.size * library["growth"]["ktrans_length_mm"], seed, "phantom perfusion"
    )
    median = library["tissues"]["tumour"]["ktrans"]
    return np.asarray(median * np.exp(library["growth"]["ktrans_sd_log"] * patch), dtype=np.float32)


def _with_tumour(head: Head, cellularity: np.ndarray, seed: int) -> np.ndarray:
    """Tissue labels with the visible tumour, and its necrotic core where it is deeper than a living rim."""
    library, names = phantom_library(), tissue_labels()
    visible = cellularity >= library["growth"]["detection"]
    labels = head.labels.copy()
    if not visible.any():
        return labels
    labels[visible] = names["tumour"]
    wide = ndimage.binary_closing(visible, iterations=2)
    depth = ndimage.distance_transform_edt(wide, sampling=head.grid.spacing)
    rough = smooth_noise(head.grid, 6.0 * head.size, seed, "necrosis")
    rim = head.size * library["anatomy"]["rim_mm"] * (1.0 + 0.2 * rough)
    labels[visible & (depth > rim) & (cellularity > 0.5)] = names["necrosis"]
    return labels


def _motion(seed: int, visit: int, size: float, about: np.ndarray) -> np.ndarray:
    """A rigid motion about the head's middle, in the order of a patient laid down again."""
    numbers = phantom_library()["motion"]
    draw = generator(seed, "phantom motion", visit)
    turn = np.deg2rad(numbers["turn_deg"]) * draw.standard_normal(3)
    angle = float(np.linalg.norm(turn))
    axis = turn / angle
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    matrix[:3, 3] = size * numbers["shift_mm"] * draw.standard_normal(3)
    return matrix


def _scanned(
    labels: np.ndarray, cellularity: np.ndarray, ktrans: np.ndarray, fine: Grid, grid: Grid, motion: np.ndarray,
    refine: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """What the scanner's voxels hold: fractions of tissues, and the tumour's mean cellularity and Ktrans."""
    names = tissue_labels()
    parts = [max(refine, round(h / f)) for h, f in zip(grid.spacing, fine.spacing)]
    back = np.linalg.inv(voxel_to_world(fine)) @ np.linalg.inv(motion) @ voxel_to_world(grid)
    fractions = np.zeros((len(names), *grid.shape), dtype=np.float32)
    sums = np.zeros((2, *grid.shape))
    axes = [np.arange(n, dtype=float) for n in grid.shape]
    for offset in np.ndindex(*parts):
        at = [a + (o + 0.5) / p - 0.5 for a, o, p in zip(axes, offset, parts)]
        index, inside = [], np.ones(grid.shape, dtype=bool)
        for d in range(3):
            where = (
                back[d, 0] * at[0][:, None, None] + back[d, 1] * at[1][None, :, None]
                + back[d, 2] * at[2][None, None, :] + back[d, 3]
            )  # fmt: skip
            nearest = np.rint(where).astype(np.int32)
            inside &= (nearest >= 0) & (nearest < fine.shape[d])
            index.append(np.clip(nearest, 0, fine.shape[d] - 1))
        here = (index[0], index[1], index[2])
        found = np.where(inside, labels[here], names["air"])
        for n, label in enumerate(names.values()):
            fractions[n] += found == label
        living = found == names["tumour"]
        sums[0] += np.where(living, cellularity[here], 0.0)
        sums[1] += np.where(living, ktrans[here], 0.0)
    living_parts = fractions[list(names).index("tumour")]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(living_parts > 0, sums / living_parts, 0.0)
    return fractions / float(np.prod(parts)), means[0], means[1]
