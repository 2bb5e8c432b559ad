"""Writing what was quantified: maps with their errors as NIfTI, numbers as JSON, a picture of a dynamic series."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.files import whole_folder, write_text
from .quantify import Quantified, VisitResult
from .write import write_image


def write_quantified(found: Quantified, folder: Path) -> Path:
    """Write a folder: ``quantify.json`` and, for each visit, ``<map>.nii.gz`` with ``<map>_se.nii.gz``.

    The folder appears whole or not at all.

    Raises
    ------
    BadInput
        If the folder is there already and is not one of these, or cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise BadInput("this is a file, not a folder", str(folder), "name a new folder with --out")
    if folder.exists() and not (folder / "quantify.json").is_file() and any(folder.iterdir()):
        raise BadInput(
            "the folder holds something else", str(folder), "name an empty or a new folder with --out"
        )
    with whole_folder(folder) as staging:
        table: dict[str, Any] = {
            "patient": found.patient,
            "visits": [],
            "response": found.responses,
            "notes": list(found.notes),
        }
        for visit in found.visits:
            table["visits"].append(_visit(visit, staging / visit.id))
        write_text(staging / "quantify.json", json.dumps(_plain(table), indent=1) + "\n")
    return folder


def _visit(visit: VisitResult, folder: Path) -> dict[str, Any]:
    images = {}
    for name, one in visit.maps.items():
        grid = visit.grids[name]
        entry: dict[str, Any] = {"unit": one.unit}
        for part, values in (("file", one.values), ("error", one.error)):
            if np.isfinite(values).any():
                file = f"{name}{'_se' if part == 'error' else ''}.nii.gz"
                write_image(folder / file, values.astype(float), grid, description=f"{name}, {one.unit}")
                entry[part] = f"{visit.id}/{file}"
        images[name] = entry
    if visit.perfusion is not None:
        folder.mkdir(parents=True, exist_ok=True)
        _picture(visit, folder / "perfusion.png")
    return {"id": visit.id, "day": visit.day, "maps": images, **visit.numbers, "notes": visit.notes}


def _plain(value: Any) -> Any:
    """For JSON: NaN and infinity as null, NumPy's numbers as Python's."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def _picture(visit: VisitResult, path: Path) -> None:
    """Parameters over the anatomy with their errors below, in the tumour's largest slice; curve, fit and input."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found, tumour, anatomy = visit.perfusion, visit.tumour, visit.anatomy
    assert found is not None and tumour is not None and anatomy is not None
    k = int(tumour.sum(axis=(0, 1)).argmax())
    names = list(found.region.model.parameters)
    grid = visit.grids[names[0]]
    sx, sy, _ = grid.spacing
    extent = (0.0, grid.shape[0] * sx, grid.shape[1] * sy, 0.0)
    x, y = (np.arange(grid.shape[0]) + 0.5) * sx, (np.arange(grid.shape[1]) + 0.5) * sy
    figure = Figure(figsize=(4.4 * max(len(names), 2), 10.5), layout="constrained")
    FigureCanvasAgg(figure)
    spec = figure.add_gridspec(3, max(len(names), 2))
    for column, name in enumerate(names):
        one = found.maps[name]
        for row, (values, title) in enumerate(((one.values, name), (one.error, f"standard error of {name}"))):
            axis = figure.add_subplot(spec[row, column])
            inside = values[tumour & np.isfinite(values)]
            top = float(np.percentile(inside, 95)) * 1.3 if inside.size else 1.0
            top = min(top, 1.0) if one.unit == "1" else top
            axis.imshow(anatomy[:, :, k].T, cmap="gray", extent=extent)
            shown = axis.imshow(
                values[:, :, k].T, cmap="viridis", extent=extent, vmin=0.0, vmax=top, alpha=0.85
            )
            axis.contour(x, y, tumour[:, :, k].T, levels=[0.5], colors="#ff5050", linewidths=1.2)
            figure.colorbar(shown, ax=axis, label=f"{title} ({one.unit})", extend="max", shrink=0.85)
            axis.set_xlabel("x (mm)")
            axis.set_ylabel("y (mm)")
    half = (max(len(names), 2) + 1) // 2
    left, right = figure.add_subplot(spec[2, :half]), figure.add_subplot(spec[2, half:])
    left.plot(found.times, found.mean_curve, ".", color="0.25", label="tumour, mean")
    left.plot(found.times, found.mean_fit, color="#1f6f8b", label=f"{found.region.model.name}")
    left.set_ylabel("concentration (mM)")
    left.legend(frameon=False)
    right.plot(found.input_times, found.plasma, color="#b03030", label=f"plasma, {found.input_name}, delayed")
    right.set_ylabel("concentration (mM)")
    right.set_xlim(0, found.times[-1])
    right.legend(frameon=False)
    for axis in (left, right):
        axis.set_xlabel("time (min)")
    numbers = found.numbers
    figure.suptitle(
        f"residual {numbers['residual_rms_mM']:.2f} mM a voxel, {numbers['residual_rms_mean_curve_mM']:.2f} mM the mean "
        f"curve; noise before the agent {numbers['noise_baseline_mM']:.2f} mM"
    )
    figure.savefig(path, dpi=90)
