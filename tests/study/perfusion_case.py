"""A small dynamic series with known kinetics, noise and breathing, as a folder; and a study file for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import yaml
from scipy import ndimage

from vvuq_twin.domain.grid import Grid
from vvuq_twin.imaging.contrast import signal_of
from vvuq_twin.imaging.t1 import spoiled_gradient_echo
from vvuq_twin.imaging.write import write_image
from vvuq_twin.kinetics.aif import plasma
from vvuq_twin.kinetics.tofts import extended_tofts

GRID = Grid((18, 16, 4), (3.0, 3.0, 4.0))
FRAMES, BASELINE, SEEN = 44, 6, 32
FLIPS = (2.0, 10.0, 20.0)


def truth(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Times (s), concentrations (F, ...), T1 (s) and the tumour."""
    t = 5.0 * np.arange(FRAMES)
    fine = np.arange(0, t[-1] + 0.1, 0.5) / 60.0
    cp = plasma(fine, onset=33.0 / 60, scale=0.7)
    x, y, z = GRID.points(np.ones(GRID.shape, bool)).T.reshape(3, *GRID.shape)
    bump = np.exp(-((x - 24) ** 2 + (y - 22) ** 2 + (z - 6) ** 2) / 150)
    ve = 0.25 + 0.3 * bump
    curves = extended_tofts(cp, fine, ((0.1 + 0.2 * bump) * ve).ravel(), ve.ravel(), 0.03)
    c = curves[:, :: round(5.0 / 0.5)].T.reshape(FRAMES, *GRID.shape)
    c[:, -7:] = 0.0  # a part of the body without tracer, by which breathing is measured
    return t, c, np.full(GRID.shape, 0.9), bump > 0.6


def write_case(folder: Path, seed: int = 5, later: float = 0.0) -> Path:
    """Write the folder, breathing along y; ``later`` is added to the signal of the frames that are not to be assimilated."""
    rng = np.random.default_rng(seed)
    t, c, t1, tumour = truth(rng)
    x, y, _ = np.indices(GRID.shape)
    m0 = 2500.0 + 500 * np.sin(x / 3.0) * np.cos(y / 4.0)
    base = spoiled_gradient_echo(m0, 1 / t1, np.deg2rad(20), 0.004)
    signal = signal_of(c, base, t1, np.deg2rad(20), 0.004, 3.4)
    common = 1.0 + 0.01 * rng.standard_normal(FRAMES)[:, None, None, None]
    breath = 3.0 * np.sin(2.4 * np.arange(FRAMES)) + 1.0 * rng.standard_normal(FRAMES)
    moved = [
        ndimage.shift(s, [0.0, b / GRID.spacing[1], 0.0], order=3, mode="nearest")
        for s, b in zip(signal, breath)
    ]
    signal = np.abs(np.array(moved) * common + 5.0 * rng.standard_normal(signal.shape))
    signal[SEEN:] += later
    folder.mkdir(parents=True, exist_ok=True)
    write_image(folder / "dce.nii.gz", signal, GRID)
    for i, a in enumerate(FLIPS):
        write_image(folder / f"v{i}.nii.gz", spoiled_gradient_echo(m0, 1 / t1, np.deg2rad(a), 0.004), GRID)
    write_image(folder / "mask.nii.gz", tumour, GRID)
    data = {
        "dce": {
            "file": "dce.nii.gz", "repetition_time_s": 0.004, "flip_angle_deg": 20.0,
            "frame_times_s": t.tolist(), "baseline_frames": BASELINE,
        },
        "vfa": [{"file": f"v{i}.nii.gz", "flip_angle_deg": a} for i, a in enumerate(FLIPS)],
        "vfa_repetition_time_s": 0.004, "contrast": {"relaxivity_r1_per_mM_per_s": 3.4}, "mask": "mask.nii.gz",
    }  # fmt: skip
    (folder / "acquisition.json").write_text(json.dumps(data))
    return folder


def study_text(**changes: object) -> str:
    """The shipped study file with a small ensemble and the case's frame numbers."""
    path = Path(__file__).resolve().parents[2] / "studies" / "tumour_perfusion" / "study.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    data["assimilate"], data["origins"], data["last"] = SEEN, [24, 28], 8
    data["registration"] |= {"reference_frames": 20, "rounds": 1, "cells": [1, 1, 0], "residual": 10.0}
    data["filter"] |= {"members": 32, "noise_relative": 0.1}
    data["voxel_prior"]["kep"]["median_per_min"] = 0.2
    data["arterial_input"]["onset"] = {"normal": {"mean": 34.0, "sd": 3.0}}
    data["candidates"] = [
        {"variance": v, "memory_s": 300.0, "response": 0.3, "trust": [0.0, 1.0]} for v in (0.05, 1.0)
    ]
    data["choose_every"] = 4
    data |= changes
    return yaml.safe_dump(data)
