"""Pictures of a patient: for each visit one page with three planes through the tumour, masks and maps over anatomy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.files import write_with
from ..domain.grid import Grid
from ..domain.patient import Patient, Visit, load_patient
from .alignment import foreground
from .read import read_mask
from .resample import resample
from .visit import read_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Progress = Callable[[str, int, int], None]
#: Anatomy to draw maps on, the best first.
_ANATOMY = ("t1_post", "t1", "flair", "t2", "ct", "dwi", "vfa", "dce", "adc")
#: Outlines by role; organs share the last.
_COLOURS = {"tumour": "#ff3030", "necrosis": "#ffd000", "brain": "#30d0ff", "organ": "#30d0ff"}
#: Axes of each plane in patient space (LPS): the one across, the one along, the one up; names and the letters at the edges.
_PLANES = (("axial", 2, 0, 1, "RLAP"), ("coronal", 1, 0, 2, "RLSI"), ("sagittal", 0, 1, 2, "APSI"))


def look_at(folder: Path, out: Path | None = None, progress: Progress | None = None) -> list[Path]:
    """Write one page of pictures a visit.

    Parameters
    ----------
    folder : Path
        A patient folder.
    out : Path, optional
        Where ``<visit>.png`` go; by default ``look/`` in the patient folder.
    progress : callable, optional

    Returns
    -------
    list of Path

    Raises
    ------
    BadInput
        If the patient or an image cannot be read, or the pictures cannot be written.

    Notes
    -----
    Everything is drawn on axes along the patient's, in mm: right is on the left of axial and coronal planes, as in
    radiology. Maps are drawn where they count, within the organ or the body, over the visit's anatomy.
    """
    patient = load_patient(Path(folder))
    out = Path(folder) / "look" if out is None else Path(out)
    written = []
    for n, visit in enumerate(patient.visits):
        if progress is not None:
            progress("look", n, len(patient.visits))
        if not visit.images:
            continue
        figure = _page(patient, visit)
        path = out / f"{visit.id}.png"
        written.append(
            write_with(path, lambda p, f=figure: f.savefig(p, dpi=110, metadata={"Software": "vvuq_twin"}))  # type: ignore[misc]
        )
        figure.clear()
    if progress is not None:
        progress("look", len(patient.visits), len(patient.visits))
    if not written:
        raise BadInput("no visit has an image to look at", patient.field, "add images")
    return written


def _page(patient: Patient, visit: Visit) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    images: dict[str, tuple[np.ndarray, Grid, str]] = {}
    masks: dict[str, np.ndarray] = {}
    for name, ref in visit.images.items():
        if ref.role.needs_unit:
            images[name] = read_map(ref)
        elif ref.role.kind == "mask":
            mask, grid = read_mask(ref.path, ref.field)
            masks[name] = _upright(mask, grid, _frame(visit))
    for whole in (patient.brain, patient.organ):
        if whole is not None and whole.role.name not in masks:
            mask, grid = read_mask(whole.path, whole.field)
            masks[whole.role.name] = _upright(mask, grid, _frame(visit))
    frame = _frame(visit)
    ready = {name: (_upright(_still(a), g, frame), unit) for name, (a, g, unit) in images.items()}
    back = next((ready[n][0] for n in _ANATOMY if n in ready), None)
    at = _middle(masks, back, frame)
    rows = list(ready) or ["masks"]
    extents = np.array(frame.shape) * frame.spacing
    width = [float(extents[along]) for _, _, along, _, _ in _PLANES]
    height = max(float(extents[up]) for _, _, _, up, _ in _PLANES)
    scale = 8.5 / sum(width)
    figure = Figure(figsize=(10.5, 0.9 + len(rows) * (height * scale + 0.45)), facecolor="white")
    FigureCanvasAgg(figure)
    places = figure.add_gridspec(
        len(rows), 4, width_ratios=[*width, 0.035 * sum(width)], left=0.05, right=0.9, wspace=0.06, hspace=0.16,
        top=1 - 0.7 / figure.get_figheight(), bottom=0.25 / figure.get_figheight(),
    )  # fmt: skip
    shown = ", ".join(f"{m}" for m in masks if masks[m].any())
    title = f"{patient.id}, {visit.id}, day {visit.day:g}" + (f"    outlines: {shown}" if shown else "")
    figure.suptitle(title, fontsize=11, y=1 - 0.18 / figure.get_figheight())
    for row, name in enumerate(rows):
        axes = [figure.add_subplot(places[row, c]) for c in range(3)]
        picture = ready.get(name)
        drawn: Any = None
        for ax, plane in zip(axes, _PLANES):
            drawn = _draw(ax, plane, at, frame, name, picture, back, masks)
        axes[0].set_ylabel(_title(name, images.get(name)), fontsize=9)
        if picture is not None and drawn is not None:
            bar = figure.colorbar(drawn, cax=figure.add_subplot(places[row, 3]))
            bar.set_label(f"{name}, {picture[1]}" if picture[1] != "1" else name, fontsize=8)
            bar.ax.tick_params(labelsize=7)
    return figure


def _title(name: str, image: tuple[np.ndarray, Grid, str] | None) -> str:
    if image is not None and image[0].ndim == 4:
        return f"{name} (mean of {len(image[0])})"
    return name


def _still(array: np.ndarray) -> np.ndarray:
    """A series as its mean over time."""
    return np.asarray(array.mean(axis=0) if array.ndim == 4 else array, dtype=float)


def _frame(visit: Visit) -> Grid:
    """A grid along the patient's axes that holds the visit's first image, at its finest spacing."""
    from .read import read_image
    from .resample import voxel_to_world

    names = [n for n in _ANATOMY if n in visit.images] or list(visit.images)
    grid = read_image(visit.images[names[0]].path, visit.images[names[0]].field)[1]
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(grid.shape)) - 0.5
    world = corners @ voxel_to_world(grid)[:3, :3].T + grid.origin
    low, high = world.min(axis=0), world.max(axis=0)
    step = max(min(grid.spacing), float((high - low).max()) / 400)
    i, j, k = (max(1, int(np.ceil((h - lo) / step - 1e-6))) for lo, h in zip(low, high))
    x, y, z = (float(v) for v in low + step / 2)
    return Grid((i, j, k), (step, step, step), (x, y, z))


def _upright(array: np.ndarray, own: Grid, frame: Grid) -> np.ndarray:
    if array.dtype.kind == "b":
        return resample(array, own, frame, "nearest", 0).astype(bool)
    return resample(array, own, frame, "linear")


def _middle(masks: dict[str, np.ndarray], back: np.ndarray | None, frame: Grid) -> tuple[int, int, int]:
    """Where the planes cross: the tumour's voxel nearest to its middle, or the middle of what there is."""
    for mask in (masks.get("tumour"), *masks.values()):
        if mask is not None and mask.any():
            index = np.argwhere(mask)
            i, j, k = index[np.argmin(((index - index.mean(axis=0)) ** 2).sum(axis=1))]
            return int(i), int(j), int(k)
    if back is not None and np.isfinite(back).any():
        i, j, k = np.argwhere(foreground(back)).mean(axis=0).round().astype(int)
        return int(i), int(j), int(k)
    a, b, c = (n // 2 for n in frame.shape)
    return a, b, c


def _draw(
    ax: Axes, plane: tuple[str, int, int, int, str], at: tuple[int, int, int], frame: Grid, name: str,
    picture: tuple[np.ndarray, str] | None, back: np.ndarray | None, masks: dict[str, np.ndarray],
) -> Any:  # fmt: skip
    """One plane of one image; returns what its colour bar describes."""
    title, across, along, up, letters = plane
    size = np.array(frame.shape) * frame.spacing[0]
    # row 0 is drawn at the top: the front of axial planes, the head of the others
    extent = (0.0, float(size[along]), 0.0, float(size[up]))

    def cut(volume: np.ndarray) -> np.ndarray:
        flat = np.take(volume, at[across], axis=across).T
        return flat[::-1] if up == 2 else flat

    anatomy = name in ("t1", "t1_post", "t2", "flair", "ct", "dwi", "vfa", "dce")
    ax.set_facecolor("black")
    drawn = None
    if back is not None and not anatomy:
        low, high = _range(back)
        ax.imshow(cut(back), cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="nearest")
    if picture is not None:
        values = picture[0]
        low, high = _range(values, within=None if anatomy else _where(masks, values))
        if anatomy:
            drawn = ax.imshow(
                cut(values), cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="nearest"
            )
        else:
            inside = _where(masks, values)
            over = np.where(inside, values, np.nan)
            drawn = ax.imshow(
                cut(over), cmap="viridis", vmin=low, vmax=high, extent=extent, interpolation="nearest"
            )
    for mask, region in masks.items():
        flat = cut(region)
        if flat.any() and not flat.all():
            ax.contour(
                flat.astype(float), levels=[0.5], colors=[_COLOURS.get(mask, "#60ff60")], linewidths=0.9,
                extent=extent, origin="upper",
            )  # fmt: skip
    for text, (x, y) in zip(letters, ((0.02, 0.5), (0.98, 0.5), (0.5, 0.96), (0.5, 0.04))):
        ax.text(x, y, text, transform=ax.transAxes, color="#c0c0c0", fontsize=7, ha="center", va="center")
    place = frame.origin[across] + at[across] * frame.spacing[0]
    side = ("LR", "PA", "SI")[across][int(place < 0)]
    ax.set_title(f"{title}, {side} {abs(place):.0f} mm", fontsize=8, pad=2)
    ax.set_xticks([])
    ax.set_yticks([])
    return drawn


def _where(masks: dict[str, np.ndarray], values: np.ndarray) -> np.ndarray:
    """Where a map counts: the organ's mask with the tumour's, or wherever it is not zero."""
    organ = next((masks[n] for n in ("brain", "organ") if n in masks and masks[n].any()), None)
    here = np.isfinite(values)
    if organ is None:
        return here & (values != 0)
    return here & (organ | masks.get("tumour", organ))


def _range(values: np.ndarray, within: np.ndarray | None = None) -> tuple[float, float]:
    """From the first to the 99.5th percentile of what is shown."""
    shown = values[np.isfinite(values) if within is None else within]
    if shown.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(shown, (1.0, 99.5)))
    return (low, high) if high > low else (low, low + 1.0)
