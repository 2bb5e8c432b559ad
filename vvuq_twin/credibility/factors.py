"""The credibility factors of ASME V&V 40-2018, as data.

The thirteen names and their hierarchy follow Table 5-1 of the standard as it is reproduced in public
secondary sources (see ``REFERENCES``); the standard's own text was not at hand. The questions are this
project's paraphrase, not the standard's wording.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Factor:
    """One credibility factor.

    Parameters
    ----------
    key : str
        What ``Evidence.factor`` holds ("numerical_code_verification").
    name : str
        As the standard calls it.
    activity : str
        "Verification", "Validation" or "Applicability".
    group : str
        The second level: "Code", "Calculation", "Computational model", "Comparator", "Assessment",
        or "" for applicability, which has none.
    question : str
        What a reviewer wants to know.
    """

    key: str
    name: str
    activity: str
    group: str
    question: str


def _make(activity: str, group: str, *rows: tuple[str, str]) -> tuple[Factor, ...]:
    keyed = ((name.lower().replace(" ", "_"), name, question) for name, question in rows)
    return tuple(Factor(key, name, activity, group, question) for key, name, question in keyed)


FACTORS: tuple[Factor, ...] = (
    *_make(
        "Verification",
        "Code",
        (
            "Software quality assurance",
            "Is the software the one intended, repeatable, and free of known faults that matter here?",
        ),
        (
            "Numerical code verification",
            "Does the code solve its equations, with the order of accuracy it should have?",
        ),
    ),
    *_make(
        "Verification",
        "Calculation",
        ("Discretization error", "How large is the error of grid and time step in this calculation?"),
        (
            "Numerical solver error",
            "How large is the error of reduction, iteration and convergence settings?",
        ),
        ("Use error", "Could the input have been wrong, or the output misread, and who checked?"),
    ),
    *_make(
        "Validation",
        "Computational model",
        ("Model form", "Are the mechanisms the right ones, and what do the missing ones cost?"),
        ("Model inputs", "Which inputs matter, how uncertain are they, and was that carried through?"),
    ),
    *_make(
        "Validation",
        "Comparator",
        ("Test samples", "How many patients, which, and how well measured?"),
        ("Test conditions", "Under which scans, schedules and treatments was the model tested?"),
    ),
    *_make(
        "Validation",
        "Assessment",
        ("Equivalency of input parameters", "Did model and comparator have the same inputs?"),
        ("Output comparison", "How well do forecast and observation agree, with both uncertainties counted?"),
    ),
    *_make(
        "Applicability",
        "",
        ("Relevance of the quantities of interest", "Is what was validated what the decision rests on?"),
        (
            "Relevance of the validation activities to the COU",
            "How near is the validation to the context of use (COU)?",
        ),
    ),
)
"""All thirteen factors, in the order of the standard."""

BY_KEY: dict[str, Factor] = {f.key: f for f in FACTORS}

SHORT_KEYS: dict[str, str] = {
    "relevance_of_the_qois": "relevance_of_the_quantities_of_interest",
    "relevance_of_quantities_of_interest": "relevance_of_the_quantities_of_interest",
    "relevance_of_validation_activities": "relevance_of_the_validation_activities_to_the_cou",
    "relevance_of_the_validation_activities": "relevance_of_the_validation_activities_to_the_cou",
    "model_input": "model_inputs",
    "discretisation_error": "discretization_error",
}
"""Other spellings that are taken for a factor's key."""


def find(key: str) -> Factor | None:
    """The factor of a key, in any capitals or spelling of ``SHORT_KEYS``; None if there is none."""
    plain = key.strip().lower().replace(" ", "_").replace("-", "_")
    return BY_KEY.get(SHORT_KEYS.get(plain, plain))


@dataclass(frozen=True)
class Reference:
    """A source the report cites, and whether it was read."""

    key: str
    text: str
    url: str
    read: str


REFERENCES: tuple[Reference, ...] = (
    Reference(
        "vv40",
        "ASME V&V 40-2018. Assessing Credibility of Computational Modeling through Verification and "
        "Validation: Application to Medical Devices. The American Society of Mechanical Engineers, 2018.",
        "https://webstore.ansi.org/standards/asme/asme402018",
        "Abstract read; the factor names and their hierarchy checked against public reproductions of "
        "Table 5-1. The text of the standard itself was not read.",
    ),
    Reference(
        "galappaththige2022",
        "Galappaththige S, Gray RA, Costa CM, Niederer S, Pathmanathan P. Credibility assessment of "
        "patient-specific computational modeling using patient-specific cardiac modeling as an exemplar. "
        "PLoS Comput Biol 2022; 18(10): e1010541.",
        "https://doi.org/10.1371/journal.pcbi.1010541",
        "Abstract and tables 1 and 6 read: V&V 40 carried over to patient-specific models.",
    ),
    Reference(
        "fda2023",
        "U.S. Food and Drug Administration. Assessing the Credibility of Computational Modeling and "
        "Simulation in Medical Device Submissions: Guidance for Industry and Food and Drug Administration "
        "Staff. November 17, 2023. Docket FDA-2021-D-0980.",
        "https://www.fda.gov/regulatory-information/search-fda-guidance-documents/"
        "assessing-credibility-computational-modeling-and-simulation-medical-device-submissions",
        "Title page and landing page read, and a public summary of its categories of evidence.",
    ),
)
