"""Settings of a growth study: units of priors, refusals in one sentence with the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.yamlfile import validate
from vvuq_twin.study.growth_spec import GrowthSpec, UncertainSpec
from vvuq_twin.study.schema import read_study, spec_class

SMALL = Path(__file__).parents[1] / "cli" / "growth_small.yaml"
STUDIES = Path(__file__).parents[2] / "studies"

PRIORS: list[tuple[dict[str, dict[str, float]], str]] = [
    ({"lognormal": {"median": 0.001, "sd_log": 0.3}}, "lognormal"),
    ({"uniform": {"low": 0.0, "high": 0.002}}, "uniform"),
    ({"loguniform": {"low": 0.0005, "high": 0.002}}, "loguniform"),
    ({"normal": {"mean": 0.001, "sd": 0.0001}}, "normal"),
    ({"logitnormal": {"low": 0.0005, "high": 0.002, "location": 0.3, "scale": 0.8}}, "logitnormal"),
]


@pytest.mark.parametrize(("prior", "name"), PRIORS, ids=[n for _, n in PRIORS])
def test_a_prior_is_converted_to_the_models_unit(prior: dict[str, dict[str, float]], name: str) -> None:
    """The same normal score gives 24 times as much per day as per hour, whatever the distribution."""
    scores = np.linspace(-2.5, 2.5, 21)
    per_hour = UncertainSpec(unit="1/hour", prior=prior, source="x").parameter("k")
    per_day = UncertainSpec(unit="1/day", prior=prior, source="x").parameter("k")
    assert per_hour.unit == "1/day"
    np.testing.assert_allclose(
        per_hour.prior.from_gaussian(scores),
        24.0 * np.asarray(per_day.prior.from_gaussian(scores)),
        rtol=1e-12,
    )


def test_a_diffusivity_may_be_given_in_any_unit_of_diffusivity() -> None:
    spec = UncertainSpec(unit="cm2/day", prior={"lognormal": {"median": 0.0015, "sd_log": 0.5}}, source="x")
    assert float(spec.parameter("D_white").prior.from_gaussian(np.zeros(1))[0]) == pytest.approx(0.15)


def test_the_studies_of_the_repository_are_valid() -> None:
    spec, text = read_study(STUDIES / "virtual_glioma" / "study.yaml")
    assert isinstance(spec, GrowthSpec) and spec.virtual is not None and text.startswith("#")
    assert spec.assimilation.visits == 4
    assert {p.name for p in spec.space().parameters} == set(spec.parameters)


def _faulty(change: Any) -> BadInput:
    data = yaml.safe_load(SMALL.read_text())
    change(data)
    with pytest.raises(BadInput) as caught:
        validate(GrowthSpec, data, "study.yaml")
    return caught.value


@pytest.mark.parametrize(
    ("change", "where", "words"),
    [
        (lambda d: d.update(sed=d.pop("seed")), "study.yaml: sed", "did you mean 'seed'"),
        (
            lambda d: d["reduction"].update(mode=d["reduction"].pop("modes")),
            "study.yaml: reduction.mode",
            "'modes'",
        ),
        (lambda d: d["parameters"]["k"].pop("source"), "study.yaml: parameters.k.source", "missing"),
        (lambda d: d["model"].update(detection=1.5), "study.yaml: model.detection", "less than 1"),
        (lambda d: d["model"].update(saturation=-1), "study.yaml: model.saturation", "0"),
        (lambda d: d["model"].update(initial_modes=2), "study.yaml: model.initial_modes", "3"),
        (lambda d: d.update(calibration={"draws": 5}), "study.yaml: calibration.draws", "20"),
        (lambda d: d["virtual"].update(refine=1), "study.yaml: virtual.refine", "2"),
        (
            lambda d: d["multifidelity"].update(budget=12),
            "study.yaml: multifidelity",
            "does not pay for the pilot",
        ),
        (lambda d: d["multifidelity"].update(pilot=4), "study.yaml: multifidelity.pilot", "8"),
        (lambda d: d["parameters"]["k"].update(unit="Gy"), "study.yaml: parameters", "1/day"),
        (lambda d: d["parameters"]["k"].update(prior={}), "study.yaml: parameters.k.prior", "exactly one"),
    ],
)
def test_a_fault_names_its_field(change: Any, where: str, words: str) -> None:
    error = _faulty(change)
    assert error.where.startswith(where) and words in str(error) and "\n" not in str(error)


def test_an_unknown_kind_suggests_the_near_one() -> None:
    with pytest.raises(BadInput, match="did you mean 'lesions'"):
        spec_class("lesion", "study.yaml: kind")
    for kind in ("growth", "cohort", "perfusion", "lesions"):
        assert "kind" in spec_class(kind, "study.yaml: kind").model_fields
