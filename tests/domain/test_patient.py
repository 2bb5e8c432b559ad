"""Patient files: what loads, and every fault as one sentence with file, line and field."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.patient import DrugDose, Fraction, Patient, load_patient, problems
from vvuq_twin.domain.schema import json_schema

GOOD = """\
id: p-001
source: made for a test
body:
  surface: {value: 1.8, unit: m2}
brain: {file: brain.nii.gz}
tissue:
  file: tissue.nii.gz
  labels: {1: grey, 2: white}
visits:
  - date: 2024-02-28
    images:
      adc: {file: a1.nii.gz, unit: 1e-6 mm2/s, acquisition: {b_values_s_per_mm2: [0, 1000]}}
      tumour: {file: t1.nii.gz}
  - id: mid
    date: 2024-03-01
    time: 10:30
    images:
      adc: {file: a2.nii.gz, unit: mm2/s, missing: nan}
treatments:
  - {kind: radiation, dose: 200, unit: cGy, days: [3, 4], time: "08:00", repeat: {every: 7, count: 2}}
  - kind: drug
    agent: temozolomide
    amount: 75
    unit: mg/m2
    route: oral
    date: 2024-03-02
    repeat: {every: 1, count: 3}
  - {kind: drug, agent: gadolinium, amount: 0.1, unit: mmol/kg, route: intravenous, day: 0, duration: {value: 36, unit: min}}
plasma:
  - agent: temozolomide
    unit: mg/L
    samples:
      - {day: 3, time: 06:00, concentration: 4.2}
      - {day: 3, concentration: 0}
markers:
  psa: {unit: ng/mL, values: [{day: 30, value: 4}, {day: 0, value: 6.5}]}
"""

FILES = ("brain", "tissue", "a1", "t1", "a2")


def _folder(folder: Path, text: str = GOOD) -> Path:
    for name in FILES:
        (folder / f"{name}.nii.gz").touch()
    (folder / "patient.yaml").write_text(text)
    return folder


def _line(text: str, part: str) -> int:
    return next(i for i, line in enumerate(text.splitlines(), 1) if part in line)


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    assert problems(_folder(tmp_path)) == []
    return load_patient(tmp_path)


def test_visits_have_days_from_the_first_date(patient: Patient) -> None:
    first, second = patient.visits
    assert (first.id, first.day, first.date) == ("visit-1", 0.0, dt.date(2024, 2, 28))
    assert second.id == "mid" and second.day == pytest.approx(2 + 10.5 / 24)  # over a leap day, 10:30
    adc = first.image("adc")
    assert adc.unit == "1e-6 mm2/s" and adc.path == patient.folder / "a1.nii.gz"
    assert adc.acquisition == {"b_values_s_per_mm2": [0, 1000]}
    assert first.image("tumour").unit == "1" and second.image("adc").missing and not adc.missing
    assert patient.visit("mid") is second
    with pytest.raises(BadInput, match=r"visit mid has no tumour image \(it has adc\); add images.tumour"):
        second.image("tumour")
    with pytest.raises(BadInput, match="no visit 'last'; use one of: visit-1, mid"):
        patient.visit("last")


def test_treatments_are_expanded_sorted_and_converted(patient: Patient) -> None:
    third = 8 / 24
    assert [(round(f.day, 9), f.dose) for f in patient.fractions] == [
        (round(d + third, 9), 2.0) for d in (3, 4, 10, 11)
    ]
    tmz = [d for d in patient.doses if d.agent == "temozolomide"]
    assert [d.day for d in tmz] == [3.0, 4.0, 5.0]
    assert patient.doses[0].agent == "gadolinium" and patient.doses[0].duration == pytest.approx(36 / 1440)
    days = [event.day for event in patient.treatments]
    assert days == sorted(days) and len(days) == 8
    assert {type(e) for e in patient.treatments} == {DrugDose, Fraction}


def test_doses_per_body_size_need_the_size(patient: Patient) -> None:
    gadolinium, tmz = patient.doses[0], patient.doses[1]
    assert patient.amount(tmz, "mg") == pytest.approx(75 * 1.8)
    assert patient.amount(tmz, "g/m2") == pytest.approx(0.075)
    with pytest.raises(BadInput, match=r"per body mass .* not given; add body"):
        patient.amount(gadolinium, "mmol")
    with pytest.raises(BadInput, match="cannot be converted"):
        patient.amount(tmz, "MBq")


def test_samples_markers_and_labels(patient: Patient) -> None:
    assert [(s.day, s.concentration, s.unit, s.of) for s in patient.samples] == [
        (3.0, 0.0, "mg/L", "plasma"),
        (3.25, 4.2, "mg/L", "plasma"),
    ]
    assert [(m.name, m.day, m.value) for m in patient.markers] == [("psa", 0.0, 6.5), ("psa", 30.0, 4.0)]
    assert patient.tissue is not None and dict(patient.tissue.labels) == {1: "grey", 2: "white"}
    assert patient.brain is not None and patient.brain.role.kind == "mask" and patient.organ is None


def test_day_zero_can_be_another_date(tmp_path: Path) -> None:
    patient = load_patient(_folder(tmp_path, "day_zero: 2024-02-20\n" + GOOD))
    assert patient.visits[0].day == 8.0


# (old text, new text, the line's text that is blamed, what is said)
FAULTS: list[tuple[str, str, str, str]] = [
    (
        "adc: {file: a1",
        "acd: {file: a1",
        "acd:",
        r"visits\[0\].images.acd: the image role 'acd' .*mean 'adc'\?$",
    ),
    (
        "acquisition: {b",
        "aquisition: {b",
        "aquisition",
        r"'aquisition' is not known; did you mean 'acquisition'\?$",
    ),
    ("source:", "sourse:", "sourse", r", sourse: the key 'sourse' is not known; did you mean 'source'\?$"),
    (
        "amount: 75",
        "amont: 75",
        "amont",
        r"treatments\[1\].amont: the key 'amont' is not known; did you mean 'amount'",
    ),
    ("source:", "name:", "name:", r", name: 'name' would say who the patient is; remove it: .* pseudonym\.$"),
    ("source:", "Date-of-Birth:", "Birth", r"'Date-of-Birth' would say who the patient is"),
    (
        "{b_values_s",
        "{PatientName: x, b_values_s",
        "PatientName",
        r"acquisition.PatientName: .* who the patient is",
    ),
    ("id: p-001", "id: Jane Doe", "id: J", r", id: 'Jane Doe' cannot be used as id; use letters"),
    (
        "unit: mm2/s, missing: nan",
        "missing: nan",
        "a2.nii",
        r"visits\[1\].images.adc.unit: .* not declared; add .*mm2/s\.$",
    ),
    ("unit: mm2/s,", "unit: mm/s,", "a2.nii", r"the unit 'mm/s' cannot be converted to 'mm2/s'"),
    ("unit: mm2/s,", "unit: mm2/ss,", "a2.nii", r"the unit 'mm2/ss' is not known"),
    (
        "t1.nii.gz}",
        "t1.nii.gz, unit: mm}",
        "t1.nii",
        r"a mask image has no unit, but 'mm' is declared; leave it out",
    ),
    (
        "file: a2",
        "file: b2",
        "b2.nii",
        r"visits\[1\].images.adc.file: the image file 'b2.nii.gz' does not exist",
    ),
    (
        "brain: {file: brain",
        "brain: {file: skull",
        "skull",
        r", brain.file: the image file 'skull.nii.gz' does not",
    ),
    ("2: white", "2: grey", "labels:", r"tissue.labels: two labels are called 'grey'"),
    ("{1: grey", "{0: grey", "labels", r"tissue.labels.0"),
    (
        "date: 2024-03-01",
        "date: 2024-02-27",
        "02-27",
        r"visits\[1\].date: the visits are out of order: day -0.5625 comes",
    ),
    (
        "date: 2024-03-01\n    time: 10:30",
        "date: 2024-02-28",
        "    date: 2024-02-28",
        r"visits 1 and 2 are on the same day",
    ),
    ("id: mid", "id: visit-1", "id: visit-1", r"visits\[1\].id: the visit id 'visit-1' is used twice"),
    ("id: mid", "day: 2", "- day: 2", r"visits\[1\]: both day and date are given; give one of day or date"),
    (
        "    date: 2024-03-02\n",
        "",
        "kind: drug",
        r"treatments\[1\]: it has no day; give one of day, date or days",
    ),
    ("date: 2024-03-01", "date: 2024-13-01", "13-01", r"visits\[1\].date: '2024-13-01' is not a date"),
    (
        "time: 10:30",
        "time: 25:30",
        "25:30",
        r"visits\[1\].time: '25:30' is not a clock time; write it as HH:MM",
    ),
    ("amount: 75", "amount: -75", "-75", r"treatments\[1\].amount: the amount is negative \(-75\)"),
    ("dose: 200", "dose: -2", "-2", r"treatments\[0\].dose: the dose is negative \(-2\)"),
    ("dose: 200", "dose: .nan", ".nan", r"treatments\[0\].dose: the dose is not a finite number"),
    (
        "dose: 200",
        "dose: 2 Gy",
        "2 Gy",
        r"treatments\[0\].dose: the dose is not a number \(given: '2 Gy'\); .*unit",
    ),
    (
        "cGy",
        "mg",
        "mg, days",
        r"treatments\[0\].unit: the unit 'mg' does not fit here; give it in a unit like Gy",
    ),
    ("unit: mg/m2", "unit: Gy", "unit: Gy", r"treatments\[1\].unit: the unit 'Gy' does not fit here"),
    (
        "route: oral",
        "route: orally",
        "orally",
        r"treatments\[1\].route: 'orally' is not known here; use 'oral'",
    ),
    (
        "kind: drug\n",
        "kind: pill\n",
        "kind: pill",
        r"treatments\[1\]: the treatment does not say what it is; add kind",
    ),
    ("every: 7", "every: 0", "every: 0", r"repeat.every: the every must be above 0 \(given: 0\)"),
    ("unit: mg/L", "unit: h", "unit: h", r"plasma\[0\].unit: the unit 'h' does not fit here"),
    (
        "concentration: 4.2",
        "concentration: -4.2",
        "-4.2",
        r"plasma\[0\].samples\[0\].concentration: .* negative",
    ),
    ("{unit: ng/mL", "{unit: ngs/mL", "ngs", r"markers.psa.unit: the unit 'ngs/mL' is not known"),
    (
        "value: 1.8, unit: m2",
        "value: 1.8, unit: kg",
        "1.8",
        r"body.surface.unit: the unit 'kg' does not fit here",
    ),
    ("id: p-001", "id: p-001\nid: p-002", "p-002", r"the key 'id' stands twice; remove one of them"),
]


@pytest.mark.parametrize(("old", "new", "blamed", "said"), FAULTS, ids=[f[1].strip()[:30] for f in FAULTS])
def test_each_fault_is_one_sentence_with_its_line(
    tmp_path: Path, old: str, new: str, blamed: str, said: str
) -> None:
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    _folder(tmp_path, text)
    with pytest.raises(BadInput, match=said) as caught:
        load_patient(tmp_path)
    message = str(caught.value)
    lines = [i for i, line in enumerate(text.splitlines(), 1) if blamed in line]
    assert any(message.startswith(f"{tmp_path / 'patient.yaml'}, line {i}") for i in lines), message
    assert "\n" not in message and message[-1] in ".?" and not message.endswith("..")
    assert [str(p) for p in problems(tmp_path)] == [message]  # one fault, one sentence


def test_dates_need_the_date_of_day_zero(tmp_path: Path) -> None:
    found = problems(_folder(tmp_path, GOOD.replace("date: 2024-02-28", "day: 0")))
    assert len(found) == 2  # the second visit and a dose
    assert all("a date is given, but no date of day 0; add day_zero" in str(p) for p in found)
    assert (
        problems(_folder(tmp_path, "day_zero: 2024-02-28\n" + GOOD.replace("date: 2024-02-28", "day: 0")))
        == []
    )


def test_all_faults_are_found_in_the_order_of_their_lines(tmp_path: Path) -> None:
    text = (
        GOOD.replace("amount: 75", "amount: -75").replace("dose: 200", "dose: -1").replace("source", "sorce")
    )
    lines = [int(str(p).split("line ")[1].split(",")[0]) for p in problems(_folder(tmp_path, text))]
    assert lines == [_line(text, "sorce"), _line(text, "dose: -1"), _line(text, "amount: -75")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no patient.yaml in this folder"),
        ("visits: [\n", "not valid YAML"),
        ("a: b: c\n", r"line 1, column 5: the file is not valid YAML"),
        ("- 1\n", "does not hold a mapping"),
        ("", "does not hold a mapping"),
        ("id: p\n", "visits: this key is missing"),
        ("id: p\nvisits: []\n", "the list is empty"),
        ("id: p\nvisits: 3\n", "a list is expected"),
        ("id: p\nvisits: [3]\n", r"visits\[0\]: keys and values are expected here \(given: 3\)"),
    ],
)
def test_a_file_that_is_hardly_one(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "patient.yaml").write_text(text)
    with pytest.raises(BadInput, match=said):
        load_patient(tmp_path)
    assert len(problems(tmp_path)) == 1


def test_a_folder_that_is_not_there_or_not_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        load_patient(tmp_path / "gone")
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="a file, not a patient folder"):
        load_patient(tmp_path / "file")
    (tmp_path / "patient.yaml").write_bytes(b"id: \xff\xfe")
    with pytest.raises(BadInput, match="cannot be read"):
        load_patient(tmp_path)


def test_the_published_schema_is_up_to_date() -> None:
    published = Path(__file__).resolve().parents[2] / "docs" / "patient.schema.json"
    assert published.read_text(encoding="utf-8") == json_schema(), (
        "write json_schema() to docs/patient.schema.json"
    )


def test_the_schema_knows_every_field_and_closes_every_part() -> None:
    import json

    schema: dict[str, Any] = json.loads(json_schema())
    parts = [schema, *schema["$defs"].values()]
    assert all(p.get("additionalProperties") is False for p in parts if p.get("type") == "object")
    assert {"visits", "treatments", "plasma", "markers", "tissue", "brain"} <= schema["properties"].keys()
    assert "adc" in schema["$defs"]["VisitFile"]["properties"]["images"]["propertyNames"]["anyOf"][0]["enum"]
