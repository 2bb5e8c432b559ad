"""The perfusion study's goals, as evidence: ratios to the mean of the last frames, limits in the tumour, coverage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..domain.evidence import Evidence
from ..domain.runfolder import Number, RunFolder
from .perfusion import GIVEN, GIVEN_MEAN, LAST_MEAN, POINT_MEAN, TWIN
from .perfusion_scores import Scores, interval_over_frames

if TYPE_CHECKING:
    from .perfusion import PerfusionResults
    from .perfusion_spec import PerfusionSpec

#: The twin's two forecasts, and what their checks are called.
TWINS = {TWIN: "", GIVEN: ".given"}
REGIONS = {"enhancing": "all enhancing voxels", "tumour": "tumour"}

#: Goals fixed before frames 41 and later were looked at: name, region, what, upper (or lower, upper) bound.
_RATIOS = (("rmse", "square", 0.95), ("crps", "crps", 0.94))
_LEVELS = ((50, 45.0, 57.0), (90, 86.0, 94.0))
_LIMITS = (("rmse", 0.235), ("crps", 0.120))


def ratio(
    spec: PerfusionSpec, a: Scores, b: Scores, what: str, name: str
) -> tuple[float, tuple[float, float]]:
    """Score of a over that of b, with the interval over frames; ``what`` is "square" or "crps"."""
    root = what == "square"

    def statistic(v: list[float]) -> float:
        r = v[0] / v[1]
        return float(np.sqrt(r)) if root else r

    x, y = getattr(a, what), getattr(b, what)
    value = statistic([float(x.sum()), float(y.sum())])
    return value, interval_over_frames((x, y), statistic, spec.seed, f"ratio/{what}/{name}")


def goals(spec: PerfusionSpec, results: PerfusionResults, run: RunFolder) -> None:
    """The goals, as evidence, for the blind forecast and for the one given the breathing state."""
    for name in results.found:
        for method in TWINS:
            _ratios(spec, results, run, name, method)
            _coverages(results, run, name, method)
    for method, suffix in TWINS.items():
        tumour = results.found["registered"].scores["tumour", method]
        for what, limit in _LIMITS:
            value = tumour.rmse if what == "rmse" else tumour.mean_crps
            run.evidence(
                Evidence(
                    f"forecast.perfusion.tumour.{what}{suffix}", "output_comparison",
                    f"{_title(method)}: its {what.upper()} in the registered tumour is small.",
                    f"at most {limit:g} mM", {f"{what}_mM": value}, "passed" if value <= limit else "failed",
                    ("tables/perfusion_registered.json",),
                )
            )  # fmt: skip
    run.evidence(
        Evidence(
            "validation.perfusion.samples", "test_samples",
            "Nothing was chosen by the frames that were forecast.",
            "choices and error laws use frames assimilated only",
            {"frames_assimilated": spec.assimilate, "frames_forecast": results.series.frames - spec.assimilate,
             "rolling_origins": list(spec.origins), "patients": 1,
             "voxels_enhancing": int(results.curves.enhancing.sum()),
             "tumour_voxels_measured": int(results.curves.tumour.sum()),
             "tumour_voxels_outlined": int(results.series.tumour.sum())},
            "passed",
        )
    )  # fmt: skip


def _title(method: str) -> str:
    return "The blind forecast" if method == TWIN else "The forecast given each frame's breathing state"


def _ratios(spec: PerfusionSpec, results: PerfusionResults, run: RunFolder, name: str, method: str) -> None:
    """Scores over all enhancing voxels against the mean of the last frames."""
    scores, suffix = results.found[name].scores, TWINS[method]
    twin, base = scores["enhancing", method], scores["enhancing", LAST_MEAN]
    for what, values, limit in _RATIOS:
        value, interval = ratio(spec, twin, base, values, f"{name}{suffix}")
        run.summary(
            Number(
                f"{what}_ratio_enhancing_{name}", value, "1", interval, 0.95,
                "forecast" if name == "registered" else "raw", method,
                f"{what.upper()} over that of the mean of the last {spec.last} frames, {name} frames",
            )
        )  # fmt: skip
        result: dict[str, Any] = {"ratio": value, "lower_95": interval[0], "upper_95": interval[1]}
        if what == "crps":
            result["ratio_to_the_mean_without_interval"] = (
                twin.mean_crps / scores["enhancing", POINT_MEAN].mean_crps
            )
        if method == GIVEN:
            result["ratio_to_the_mean_given_the_same"] = ratio(
                spec, twin, scores["enhancing", GIVEN_MEAN], values, f"{name}{suffix}/given mean"
            )[0]
        run.evidence(
            Evidence(
                f"forecast.perfusion.{what}.{name}{suffix}", "output_comparison",
                f"{_title(method)}: over all enhancing voxels its {what.upper()} is below that of the mean of the last "
                f"{spec.last} frames ({name} frames).",
                f"ratio at most {limit:g}"
                + (", against the mean with its own calibrated intervals" if what == "crps" else ""),
                result, "passed" if value <= limit else "failed", (f"tables/perfusion_{name}.json",),
                {"seed": spec.seed},
            )
        )  # fmt: skip


def _coverages(results: PerfusionResults, run: RunFolder, name: str, method: str) -> None:
    for region in REGIONS:
        s = results.found[name].scores[region, method]
        for level, low, high in _LEVELS:
            value = s.coverage(level)
            run.evidence(
                Evidence(
                    f"forecast.perfusion.coverage{level}.{region}.{name}{TWINS[method]}", "output_comparison",
                    f"{_title(method)}: {level} % intervals cover as they say ({REGIONS[region]}, {name} frames).",
                    f"{low:g} to {high:g} % of the held-out values", {"coverage_percent": value},
                    "passed" if low <= value <= high else "failed", ("figures/perfusion_coverage.png",),
                )
            )  # fmt: skip
