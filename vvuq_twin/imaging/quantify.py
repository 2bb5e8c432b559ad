"""A patient's scans to maps with standard errors: ADC, T1, perfusion, SUV, absorbed dose, sizes, response, features.

Whatever a visit has the images and facts for is computed; what it lacks is said in a note, what is wrong is an error.
Nothing is written before everything stands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.grid import Grid
from ..domain.patient import ImageRef, Patient, Visit, load_patient
from .boundary import edge_sd, perturb_boundary
from .dce import DceSeries, read_dce
from .diffusion import fit_adc
from .dynamic_pet import uptake_maps
from .extent import extent, lesions
from .noise import bright_part, voxel_noise
from .perfusion_maps import PerfusionMaps, QuantityMap, perfusion_maps
from .phenotype import phenotype
from .response import criterion, response
from .therapy import dose_maps
from .uptake import suv
from .vessel import blood_constants
from .visit import read_map, read_mask_on

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Options:
    """What a person may choose.

    Parameters
    ----------
    arterial : str
        Population input of dynamic series without a vessel mask (role ``organ_artery``).
    model : str
        Tracer model, by its name in :data:`tracer.MODELS`.
    nuclide : str
        For absorbed dose.
    seed : int
        For the boundary draws.
    """

    arterial: str = "parker"
    model: str = "extended_tofts"
    nuclide: str = "lutetium177"
    seed: int = 0


@dataclass
class VisitResult:
    """Maps and numbers of one visit; ``perfusion`` holds the curves behind a dynamic series' maps."""

    id: str
    day: float
    grids: dict[str, Grid] = field(default_factory=dict)
    maps: dict[str, QuantityMap] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    perfusion: PerfusionMaps | None = None
    anatomy: np.ndarray | None = None
    tumour: np.ndarray | None = None
    tumour_grid: Grid | None = None

    def add(self, name: str, grid: Grid, found: QuantityMap) -> None:
        """Keep a map under its name."""
        self.maps[name], self.grids[name] = found, grid


@dataclass(frozen=True)
class Quantified:
    """All visits, and what compares them."""

    patient: str
    visits: tuple[VisitResult, ...]
    responses: dict[str, list[dict[str, Any]]]
    notes: tuple[str, ...]


def quantify(source: Path, options: Options | None = None, progress: Progress | None = None) -> Quantified:
    """Quantify a patient folder, or a folder that holds one dynamic series with ``acquisition.json``.

    Raises
    ------
    BadInput
        If the folder cannot be read, or an image or a fact that is there cannot be used.
    """
    chosen, source = options or Options(), Path(source)
    if (source / "acquisition.json").exists() and not (source / "patient.yaml").exists():
        visit = VisitResult(source.name, 0.0)
        _series(visit, read_dce(source), chosen, None)
        return Quantified(source.name, (visit,), {}, ())
    patient = load_patient(source)
    visits = []
    for number, scanned in enumerate(patient.visits):
        if progress is not None:
            progress("quantify", number, len(patient.visits))
        visits.append(_visit(patient, scanned, chosen))
    notes: list[str] = []
    for name, grid, found, number_of in dose_maps(patient, chosen.nuclide, notes):
        visits[0].add(name, grid, found)
        visits[0].numbers |= number_of
    responses = _responses(visits, notes)
    if progress is not None:
        progress("quantify", len(patient.visits), len(patient.visits))
    if not any(v.maps or v.numbers for v in visits):
        raise BadInput(
            "no visit has anything to quantify", patient.field,
            "give dwi, vfa with dce, pet, spect or adc images, or tumour masks",
        )  # fmt: skip
    return Quantified(patient.id, tuple(visits), responses, tuple(notes))


def _visit(patient: Patient, visit: Visit, options: Options) -> VisitResult:
    out = VisitResult(visit.id, visit.day)
    if "dwi" in visit.images:
        _diffusion(out, visit.image("dwi"))
    if "dce" in visit.images:
        _dynamic(out, visit, options)
    if "pet" in visit.images:
        _emission(out, patient, visit.image("pet"))
    if "pet_dynamic" in visit.images:
        _frames(out, visit)
    if "tumour" in visit.images and not visit.image("tumour").empty:
        _tumour(out, visit, options)
    return out


def fact(ref: ImageRef, name: str, example: str) -> Any:
    """An acquisition fact that is needed.

    Raises
    ------
    BadInput
        If the image does not declare it.
    """
    if name not in ref.acquisition:
        raise BadInput(
            f"the {ref.role.name} image does not say its {name}",
            ref.field,
            f"add acquisition.{name}: {example}",
        )
    return ref.acquisition[name]


def _numbers(ref: ImageRef, name: str, example: str) -> np.ndarray:
    try:
        return np.asarray(fact(ref, name, example), dtype=float)
    except (TypeError, ValueError) as error:
        raise BadInput(f"acquisition.{name} is not numbers", ref.field, f"write it like {example}") from error


def _diffusion(out: VisitResult, ref: ImageRef) -> None:
    array, grid, _ = read_map(ref)
    b = np.atleast_1d(_numbers(ref, "b_values_s_per_mm2", "[0, 800]"))
    if array.ndim != 4 or len(array) != len(b):
        raise BadInput(
            f"the dwi image holds {len(array) if array.ndim == 4 else 1} volumes for {b.size} b-values", ref.field,
            "give one volume a b-value, in one file",
        )  # fmt: skip
    body = bright_part(array[np.argmin(b)])
    noise = voxel_noise(array[np.argmax(b)], body, grid.spacing).sd
    found = fit_adc(np.where(body, array, np.nan), b, noise)
    out.add("adc", grid, QuantityMap(found.adc, found.adc_se, "mm2/s"))
    negative = int(found.negative.sum())
    out.numbers["adc"] = {
        "b_values_s_per_mm2": b.tolist(), "noise": noise, "median_mm2_per_s": float(np.nanmedian(found.adc)),
        "error_median_mm2_per_s": float(np.nanmedian(found.adc_se)), "negative_voxels": negative,
    }  # fmt: skip
    if negative:
        out.notes.append(f"{negative} voxels have a signal that rises with b; their ADC is missing.")


def _dynamic(out: VisitResult, visit: Visit, options: Options) -> None:
    ref = visit.image("dce")
    signal, grid, _ = read_map(ref)
    if "vfa" not in visit.images:
        out.notes.append("There is no vfa set: without T1 the dynamic series gives no concentration.")
        return
    if "tumour" not in visit.images:
        out.notes.append("There is no tumour mask: the dynamic series is not fitted.")
        return
    angles = visit.image("vfa")
    images, own, _ = read_map(angles)
    if not own.same_as(grid):
        raise BadInput(
            "the vfa images are not on the grid of the dynamic series", angles.field, "resample them to it"
        )
    flips = np.deg2rad(np.atleast_1d(_numbers(angles, "flip_angles_deg", "[2, 10, 20]")))
    times = np.atleast_1d(_numbers(ref, "frame_times_s", "[0, 5, 10]"))
    if signal.ndim != 4 or len(times) != len(signal):
        raise BadInput(
            f"{times.size} times came for {len(signal)} frames", ref.field, "give one time a frame"
        )
    series = DceSeries(
        signal, times, grid, _repetition(ref), float(np.deg2rad(_numbers(ref, "flip_angle_deg", "20"))),
        float(_numbers(ref, "relaxivity_per_mM_per_s", "4.5")), int(_numbers(ref, "baseline_frames", "6")), images,
        flips, _repetition(angles), read_mask_on(visit.image("tumour"), grid),
    )  # fmt: skip
    if not 1 <= series.baseline < len(times):
        raise BadInput(
            "the baseline frames are none or all", ref.field, "give how many come before the agent"
        )
    artery = read_mask_on(visit.image("organ_artery"), grid) if "organ_artery" in visit.images else None
    _series(out, series, options, None if artery is None else (artery, _blood(ref)))


def _blood(ref: ImageRef) -> float:
    """T1 of blood (s) at the scanner's field; at 1.5 T where the patient folder does not say."""
    if "field_strength_T" not in ref.acquisition:
        return blood_constants()[0]
    field = float(_numbers(ref, "field_strength_T", "1.5"))
    try:
        # scanners state 1.494 T or 2.89 T
        return blood_constants(
            next((f"{x:g} T" for x in (1.5, 3.0) if abs(field - x) < 0.2), f"{field:g} T")
        )[0]
    except BadInput as error:
        raise BadInput(
            error.problem,
            f"{ref.field}.field_strength_T",
            "leave the artery's mask out, or add it to blood.yaml",
        ) from error


def _repetition(ref: ImageRef) -> float:
    if "repetition_time_s" in ref.acquisition:
        return float(_numbers(ref, "repetition_time_s", "0.004"))
    return float(_numbers(ref, "repetition_time_ms", "4.0")) * 1e-3


def _series(
    out: VisitResult, series: DceSeries, options: Options, artery: tuple[np.ndarray, float] | None
) -> None:
    """Tracer maps; ``artery`` is a vessel's mask with the T1 of its blood (s)."""
    from ..domain.errors import near
    from ..kinetics.tracer import MODELS

    if options.model not in MODELS:
        raise BadInput(
            f"the tracer model '{options.model}' is not known", "--model", near(options.model, MODELS)
        )
    found = perfusion_maps(
        series, model=MODELS[options.model], arterial=options.arterial,
        vessel=None if artery is None else artery[0], t1_blood=None if artery is None else artery[1],
    )  # fmt: skip
    for name, one in found.maps.items():
        out.add(name, series.grid, one)
    out.numbers["perfusion"] = {
        "model": found.region.model.name,
        "arterial_input": found.input_name,
        **found.numbers,
    }
    out.perfusion, out.tumour = found, series.tumour
    out.anatomy = series.signal[: series.baseline].mean(axis=0)
    if found.numbers["impossible_voxels"]:
        out.notes.append(
            f"{found.numbers['impossible_voxels']:.0f} tumour voxels have a volume fraction above one, set to missing."
        )
    if found.numbers["saturated_voxels"]:
        out.notes.append(
            f"{found.numbers['saturated_voxels']:.0f} tumour voxels have saturated frames, left out."
        )


def _emission(out: VisitResult, patient: Patient, ref: ImageRef) -> None:
    array, grid, unit = read_map(ref)
    if unit == "SUV":
        out.notes.append("The pet image is in SUV already.")
        return
    if "injected_activity_Bq" not in ref.acquisition or patient.body_mass is None:
        out.notes.append(
            "The pet image has no SUV: acquisition.injected_activity_Bq or the body's mass is missing."
        )
        return
    half_life = ref.acquisition.get("half_life_s")
    values = suv(
        array, float(_numbers(ref, "injected_activity_Bq", "370e6")), patient.body_mass,
        half_life=None if half_life is None else float(half_life),
        since_injection=float(ref.acquisition.get("injection_to_reference_s") or 0.0),
    )  # fmt: skip
    body = bright_part(array, 0.05, 99.5)
    noise = voxel_noise(values, body, grid.spacing).sd
    out.add("suv", grid, QuantityMap(values, np.full(values.shape, noise), "g/mL"))
    out.numbers["suv"] = {"maximum": float(np.nanmax(values)), "voxel_noise": noise}


def _frames(out: VisitResult, visit: Visit) -> None:
    ref = visit.image("pet_dynamic")
    if "organ_artery" not in visit.images:
        out.notes.append(
            "There is no organ_artery mask: the dynamic PET series has no input and is not fitted."
        )
        return
    array, grid, _ = read_map(ref)
    starts, durations = (
        np.atleast_1d(_numbers(ref, name, "[0, 10, 20]")) for name in ("frame_times_s", "frame_durations_s")
    )
    if array.ndim != 4:
        raise BadInput("the pet_dynamic image holds one volume", ref.field, "give the series")
    tumour = read_mask_on(visit.image("tumour"), grid) if "tumour" in visit.images else None
    artery = read_mask_on(visit.image("organ_artery"), grid)
    maps, _, numbers = uptake_maps(array, starts, durations, artery, tumour)
    for name, one in maps.items():
        out.add(name, grid, one)
    out.numbers["uptake"] = numbers
    out.notes.append("Plasma is taken as whole blood, and the first frame's start as the injection.")


def _tumour(out: VisitResult, visit: Visit, options: Options) -> None:
    from .read import read_mask

    ref = visit.image("tumour")
    mask, grid = read_mask(ref.path, ref.field)
    out.tumour, out.tumour_grid = mask, grid
    images = {k: m.values for k, m in out.maps.items() if out.grids[k].same_as(grid)}
    if "adc" in visit.images and "adc" not in images:
        array, own, _ = read_map(visit.image("adc"))
        if own.same_as(grid):
            images["adc"] = array
    h = float(np.mean(grid.spacing))
    sd, source = h / 2.0, "half a voxel"
    if "adc" in images:
        noise = voxel_noise(images["adc"], np.isfinite(images["adc"]), grid.spacing).sd
        sd, source = (
            edge_sd(images["adc"], mask, grid, noise),
            "noise over the gradient of the ADC at the outline",
        )
    drawn = perturb_boundary(mask, grid, min(sd, 2.0 * h), 10.0, seed=options.seed)
    largest = extent(lesions(mask, grid)[0], grid)
    out.numbers["tumour"] = {
        "volume_mL": float(mask.sum()) * grid.voxel_volume * 1e-3, "volume_sd_mL": drawn.sd,
        "boundary_sd_mm": min(sd, 2.0 * h), "boundary_sd_from": source, "longest_mm": largest.longest,
        "perpendicular_mm": largest.perpendicular, "lesions": len(lesions(mask, grid)),
    }  # fmt: skip
    bins = _bins()
    textured = {k: v for k, v in images.items() if k in bins and np.isfinite(v[mask]).sum() > 1}
    out.numbers["features"] = phenotype(mask, grid, textured, bins)
    for name, found in out.maps.items():
        if out.grids[name].same_as(grid) and np.isfinite(found.values[mask]).any():
            out.numbers.setdefault("in_tumour", {})[name] = {
                "mean": float(np.nanmean(found.values[mask])), "sd": float(np.nanstd(found.values[mask])),
                "unit": found.unit,
            }  # fmt: skip


def _bins() -> dict[str, float]:
    from importlib import resources

    import yaml

    text = resources.files("vvuq_twin").joinpath("library/texture_bins.yaml").read_text(encoding="utf-8")
    return {k: float(v["value"]) for k, v in yaml.safe_load(text).items()}


def _responses(visits: list[VisitResult], notes: list[str]) -> dict[str, list[dict[str, Any]]]:
    """RECIST 1.1 and RANO of the visits whose tumour masks share the first one's grid."""
    outlined = [v for v in visits if v.tumour_grid is not None]
    if len(outlined) < 2:
        return {}
    grid = outlined[0].tumour_grid
    assert grid is not None
    if not all(v.tumour_grid is not None and v.tumour_grid.same_as(grid) for v in outlined):
        notes.append("The tumour masks of the visits are on different grids: no response is judged.")
        return {}
    out = {}
    rules: tuple[Any, ...] = ("recist_1_1", "rano")
    for name in rules:
        try:
            judged = response([v.tumour for v in outlined if v.tumour is not None], grid, criterion(name))
        except BadInput as error:
            notes.append(f"No response after {name}: {error.problem}.")
            continue
        out[name] = [
            {"visit": v.id, "category": r.category, "sum": r.total, "from_baseline": r.from_baseline,
             "from_nadir": r.from_nadir, "new_lesion": r.new_lesion}
            for v, r in zip(outlined, judged)
        ]  # fmt: skip
    return out
