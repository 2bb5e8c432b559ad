"""From evidence to status, risk and budget."""

from __future__ import annotations

import math

import pytest

from vvuq_twin.credibility import FACTORS, BudgetLine, assess, budget_table, model_risk
from vvuq_twin.credibility.assess import counts, joint, unplaced
from vvuq_twin.credibility.factors import find
from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.evidence import Evidence, Status


def _of(*statuses: Status, factor: str = "model_form") -> list[Evidence]:
    return [Evidence(str(i), factor, "c", "a", {}, s) for i, s in enumerate(statuses)]


def test_the_factors_are_the_thirteen_of_the_standard() -> None:
    assert [f.name for f in FACTORS] == [
        "Software quality assurance", "Numerical code verification", "Discretization error",
        "Numerical solver error", "Use error", "Model form", "Model inputs", "Test samples",
        "Test conditions",
        "Equivalency of input parameters", "Output comparison", "Relevance of the quantities of interest",
        "Relevance of the validation activities to the COU",
    ]  # fmt: skip
    assert len({f.key for f in FACTORS}) == 13
    assert find("Numerical-Code Verification") is find("numerical_code_verification") is FACTORS[1]
    assert find("relevance_of_the_QOIs") is FACTORS[11]
    assert find("charm") is None


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((), "not assessed"),
        (("passed", "passed"), "passed"),
        (("passed", "not applicable"), "passed"),
        (("passed", "planned"), "in part"),
        (("passed", "not assessed"), "in part"),
        (("passed", "planned", "failed"), "failed"),
        (("failed", "not applicable"), "failed"),
        (("planned", "not assessed"), "planned"),
        (("not applicable",), "not applicable"),
        (("not applicable", "not assessed"), "not assessed"),
    ],
)
def test_joint_status(statuses: tuple[Status, ...], expected: str) -> None:
    assert joint(_of(*statuses)) == expected


def test_assessment_places_each_piece_once() -> None:
    evidence = _of("passed", "failed") + _of("passed", factor="use_error") + _of("planned", factor="charm")
    found = assess(evidence)
    assert [a.factor for a in found] == list(FACTORS)
    assert {a.factor.key: (a.status, len(a.evidence)) for a in found if a.evidence} == {
        "model_form": ("failed", 2),
        "use_error": ("passed", 1),
    }
    assert [e.factor for e in unplaced(evidence)] == ["charm"]
    assert counts(evidence) == {
        "passed": 2, "failed": 1, "planned": 1, "not assessed": 0, "not applicable": 0,
    }  # fmt: skip


def test_model_risk_rises_with_either() -> None:
    scale = ["low", "low to medium", "medium", "medium to high", "high"]
    levels = ["low", "medium", "high"]
    got = [[scale.index(str(model_risk(i, c))) for c in levels] for i in levels]
    assert got == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert model_risk("huge", "low") is None and model_risk("", "") is None


def test_budget_adds_up_to_the_total() -> None:
    lines = [BudgetLine("a", 3.0, "x", "e1"), BudgetLine("b", 4.0, "y"), BudgetLine("c", None, "not done")]
    alone = budget_table("volume", "cm3", lines)["rows"]
    assert alone[-1][1] == pytest.approx(5.0) and alone[2][1] == "not quantified"
    assert [r[2] for r in alone[:2]] == pytest.approx([36.0, 64.0])
    rows = budget_table("volume", "cm3", lines, total_sd=math.sqrt(50.0))["rows"]
    assert rows[3][:2] == ["interactions and others", pytest.approx(5.0)]
    assert sum(r[2] for r in rows[:-1] if isinstance(r[2], float)) == pytest.approx(100.0)
    twice = budget_table("volume", "cm3", lines, total_sd=4.0)["rows"]
    assert twice[3][0] == "counted in two lines" and twice[3][2] == pytest.approx(100 * (16 - 25) / 16)


def test_shares_of_dependent_sources_are_taken_as_given() -> None:
    lines = [
        BudgetLine("a", 9.0, "x", share=0.7),
        BudgetLine("b", 9.0, "y", share=0.2),
        BudgetLine("c", 1.0, "z"),
    ]
    rows = budget_table("volume", "cm3", lines, total_sd=5.0)["rows"]
    assert [r[2] for r in rows] == pytest.approx([70.0, 20.0, 4.0, 6.0, 100.0])
    assert rows[3][:2] == ["interactions and others", pytest.approx(math.sqrt(1.5))]


@pytest.mark.parametrize("lines", [[BudgetLine("a", -1.0, "")], [BudgetLine("a", math.nan, "")],
                                   [BudgetLine("a", None, "")], []])  # fmt: skip
def test_a_budget_without_sense_is_refused(lines: list[BudgetLine]) -> None:
    with pytest.raises(BadInput, match="uncertainty budget of volume"):
        budget_table("volume", "cm3", lines)
