"""The page as a reader gets it: whole, offline, escaped, linked, and honest about what is broken."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from vvuq_twin.credibility import FACTORS, report
from vvuq_twin.credibility.page import render
from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.evidence import Evidence
from vvuq_twin.domain.runfolder import Number, RunFolder

MakeRun = Callable[[], RunFolder]


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    void = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1:]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += " " + data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.tags if t == tag]

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


@pytest.fixture(scope="module")
def page(finished: Path) -> Page:
    return Page(render(finished))


def test_every_tag_is_closed_and_every_id_is_unique(page: Page) -> None:
    assert page.open == []
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_every_anchor_link_leads_somewhere(page: Page) -> None:
    ids = {a["id"] for _, a in page.tags if "id" in a}
    links = [a["href"] for a in page.all("a") if (a["href"] or "").startswith("#")]
    assert len(links) > 30
    assert [x for x in links if x and x[1:] not in ids] == []


def test_every_relative_link_is_a_file_of_the_run(page: Page, finished: Path) -> None:
    hrefs = {str(a["href"]) for a in page.all("a")}
    files = {x for x in hrefs if not x.startswith(("#", "https:"))}
    assert {"evidence/growth.logistic.json", "figures/totals.png", "tables/sobol.json"} <= files
    assert [f for f in files if not (finished / f).exists()] == []


def test_nothing_is_loaded_from_elsewhere(finished: Path, page: Page) -> None:
    assert page.all("link") == [] and page.all("iframe") == []
    assert all("src" not in a for a in page.all("script"))
    sources = [str(a["src"]) for a in page.all("img")]
    assert sources and all(s.startswith("data:image/png;base64,") for s in sources)
    text = render(finished)
    assert "url(" not in text and "@import" not in text
    policy = next(a for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in str(policy["content"])


def test_pictures_have_words_and_headers_have_scope(page: Page) -> None:
    assert all(a.get("alt") for a in page.all("img"))
    assert all(a.get("scope") in ("col", "row", "rowgroup") for a in page.all("th"))
    assert page.all("html")[0]["lang"] == "en"


def test_all_thirteen_factors_stand_in_the_table(page: Page) -> None:
    ids = {a.get("id") for a in page.all("tr")}
    assert {f"factor-{f.key}" for f in FACTORS} <= ids
    assert all(f.name in page.words for f in FACTORS)
    empty = page.words.split("No evidence stands behind these credibility factors: ")[1].split(".")[0]
    assert empty == (
        "Software quality assurance; Use error; Test samples; Equivalency of input parameters; "
        "Relevance of the quantities of interest; Relevance of the validation activities to the COU"
    )


def test_every_piece_of_evidence_has_a_record_and_a_link_to_it(page: Page, finished: Path) -> None:
    links = [str(a["href"]) for a in page.all("a")]
    for item in RunFolder.existing(finished).all_evidence():
        assert f"evidence-{item.id}" in {a.get("id") for a in page.all("details")}
        # from its table of checks (claim) and from the table of factors (id)
        assert links.count(f"#evidence-{item.id}") >= 2
        assert item.claim in page.words and item.acceptance in page.words


def test_front_page_says_question_risk_numbers_and_failures(page: Page) -> None:
    front = page.words.split("Forecast What the twin predicts")[0]
    assert "What will the total tumour cellularity of this patient be" in front
    assert "Model influence low Decision consequence high Model risk medium" in front
    assert "Total cellularity at visit 7 31.87 cm³ 27.1 to 37.0 90 %" in front
    assert "1 check failed. A mechanism missing from the twin" in front
    assert "6 passed 1 failed 1 planned 0 not assessed 1 not applicable" in front


def test_scores_stand_beside_their_baselines(page: Page) -> None:
    assert "Scores Unit forecast persistence no assimilation" in page.words
    assert "1.12 0.40 to 1.90 3.4 2.20 to 4.70 2.71" in page.words
    assert "Coverage of 90 % intervals 0.67 not available none" in page.words


def test_whose_number_it_is_stands_beside_it_and_groups_are_tables(make_run: MakeRun) -> None:
    run = make_run()
    rows = [
        Number("error", 0.004, "1", group="reduction", of="reduced model", description="worst error"),
        Number("crps_1", 1.0, "mm", group="task one", description="CRPS"),
        Number("crps_1", 2.0, "mm", group="task one", of="baseline: last value"),
        Number("crps_2", 1.5, "mm", group="task one", description="CRPS"),
        Number("crps_1", 3.0, "mm", group="task two", description="CRPS"),
        Number("crps_1", 4.0, "mm", group="task two", of="baseline: mean"),
    ]
    (run.path / "summary.json").write_text(json.dumps([vars(n) for n in rows]))
    words = Page(render(run.path)).words
    assert "reduction Worst error (reduced model) 0.004" in words
    assert "task one CRPS crps_1 1 mm last value 2 CRPS crps_2 1.5 mm task two CRPS 3 mm mean 4" in words
    assert "Task one Unit forecast last value CRPS crps_1 mm 1 2 Task two" in words
    assert "Task two Unit forecast mean CRPS mm 3 4" in words


def test_a_long_list_of_scores_is_cut_on_the_first_page_only(make_run: MakeRun) -> None:
    run = make_run()
    rows = [Number(f"s{i}", i, "mm", of=of) for i in range(20) for of in ("forecast", "baseline: mean")]
    (run.path / "summary.json").write_text(json.dumps([vars(n) for n in rows]))
    words = Page(render(run.path)).words
    assert "S13 13 mm mean 13 6 more under Scores beside baselines" in words
    assert "S19 mm 19 19" in words


def test_a_section_without_content_is_not_assessed(page: Page) -> None:
    assert "Calibration The posterior, and whether its sampler can be trusted. Not assessed" in page.words


def test_provenance_names_seeds_hashes_and_the_verified_chain(page: Page, finished: Path) -> None:
    environment = json.loads((finished / "environment.json").read_text())
    assert "chain verified" in page.words and "broken" not in page.words
    assert "20260101" in page.words and "ab" * 32 in page.words
    assert f"numpy {environment['versions']['numpy']}" in page.words


def _hashes(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file() and p.name != "report.html"
    }


def test_report_repeats_and_changes_nothing_else(make_run: MakeRun) -> None:
    run = make_run()
    with open(run.path / "journal.jsonl", "a") as out:
        out.write('{"cut off')
    before = _hashes(run.path)
    first = report(run.path).read_bytes()
    assert report(run.path).read_bytes() == first
    assert _hashes(run.path) == before


def test_text_of_the_run_cannot_become_markup(make_run: MakeRun) -> None:
    run = make_run()
    bad = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'"
    run.evidence(
        Evidence(bad, "model_form", bad, bad, {bad: bad}, "passed", (), {bad: bad}),
        Evidence("second", bad, bad, bad, {}, "passed"),
    )
    run.summary(Number("crps", 1.0, bad, None, None, bad, bad, bad))
    run.table("bad", [(bad, bad)], [[bad]], title=bad, caption=bad, section=bad)
    run.text("bad", "limitations", bad)
    study = json.dumps({"title": bad, "kind": bad, "use": {"question": bad, "limitations": [bad]}})
    (run.path / "study.yaml").write_text(study)
    page = Page(render(run.path))
    assert len(page.all("script")) == 1
    assert all(str(a["src"]).startswith("data:") and "onerror" not in a for a in page.all("img"))
    assert page.words.count("<script>alert(1)</script>") > 12


def _tamper(run: Path, old: str, new: str) -> None:
    path = run / "journal.jsonl"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_changed_journal_is_shown_in_red(make_run: MakeRun) -> None:
    run = make_run()
    lines = (run.path / "journal.jsonl").read_text().splitlines()
    changed = next(i for i, line in enumerate(lines, start=1) if '"failed"' in line)
    _tamper(run.path, '"failed"', '"passed"')
    text = render(run.path)
    assert f"chain is broken at line {changed + 1}" in text
    assert re.search(r'<div class="alert bad" role="alert"><strong>The journal', text)
    assert "chain verified" not in text


def test_evidence_whose_status_was_edited_is_found_by_the_journal(make_run: MakeRun) -> None:
    run = make_run()
    path = run.path / "evidence" / "model.form.json"
    path.write_text(path.read_text().replace('"failed"', '"passed"'))
    assert (
        "The journal says 'failed' of the evidence 'model.form', its file says 'passed'."
        in Page(render(run.path)).text
    )


def _drop(file: str) -> Callable[[Path], None]:
    return lambda run: (run / file).unlink()


def _put(file: str, content: bytes) -> Callable[[Path], None]:
    return lambda run: (run / file).write_bytes(content) and None


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (_drop("summary.json"), "summary.json is missing."),
        (_put("summary.json", b'[{"value": 1}]'), "summary.json holds rows without a name"),
        (_put("summary.json", b"{"), "summary.json is not valid JSON."),
        (_drop("study.yaml"), "study.yaml is missing"),
        (_put("study.yaml", b"a: [1"), "study.yaml is not valid YAML."),
        (_put("study.yaml", b"- 1"), "study.yaml does not hold a mapping of keys."),
        (_drop("environment.json"), "environment.json is missing."),
        (_put("inputs.json", b"[]"), "inputs.json does not hold a mapping."),
        (_put("inputs.json", b"\xff\xfe"), "inputs.json cannot be read."),
        (_put("evidence/grid.gci.json", b'{"id": 3}'), "evidence/grid.gci.json is not a record of evidence."),
        (_put("figures/totals.png", b"GIF89a"), "figures/totals.png is not a whole PNG picture."),
        (_drop("figures/totals.png"), "figures/totals.png is missing or cannot be read."),
        (_drop("figures/totals.json"), "figures/totals.png has no description beside it."),
        (_put("tables/sobol.json", b'{"columns": [{"name": "a"}], "rows": [[1, 2]]}'), "is not a table"),
        (_put("text/patient.json", b"{}"), "text/patient.json holds no paragraph."),
        (_drop("journal.jsonl"), "journal.jsonl is missing"),
        (_put("journal.jsonl", b"\xff\n"), "journal.jsonl is not text with one JSON object a line."),
        (_put("journal.jsonl", b"[]\n"), "chain is broken at line 1"),
    ],
)
def test_what_is_missing_or_broken_is_said(
    make_run: MakeRun, damage: Callable[[Path], None], sentence: str
) -> None:
    run = make_run()
    assert sentence not in Page(render(run.path)).words
    damage(run.path)
    page = Page(render(run.path))
    assert sentence in page.words
    assert page.open == []


def test_a_picture_cut_short_is_said(make_run: MakeRun) -> None:
    run = make_run()
    path = run.path / "figures" / "totals.png"
    path.write_bytes(path.read_bytes()[:-200])
    assert "figures/totals.png is not a whole PNG picture." in Page(render(run.path)).words


def test_an_artefact_outside_the_run_folder_is_not_linked(make_run: MakeRun) -> None:
    run = make_run()
    (run.path.parent / "secret.txt").write_text("x")
    names = ("../secret.txt", str(run.path.parent / "secret.txt"), "javascript:alert(1)", "gone.png")
    run.evidence(Evidence("bad.artefact", "use_error", "c", "a", {}, "passed", names))
    page = Page(render(run.path))
    assert not {str(a["href"]) for a in page.all("a")} & set(names)
    assert page.words.count("which is not in the run folder") == len(names)


def test_a_long_suite_is_folded_in_natural_order_with_failures_first(make_run: MakeRun) -> None:
    run = make_run()
    run.evidence(
        *(
            Evidence(f"suite.{i}", "use_error", f"Claim {i}", "a", {}, "failed" if i == 11 else "passed")
            for i in range(12)
        )
    )
    text = render(run.path)
    row = text[text.index('<tr id="factor-use_error">') :].split("</tr>")[0]
    assert re.findall(r"<code>suite\.(\d+)", row) == [str(i) for i in (11, *range(11))]
    assert "<summary>6 more</summary>" in row


def test_what_the_acceptance_asks_for_is_observed_first(make_run: MakeRun) -> None:
    run = make_run()
    result = {"a_levels": 4, "b_seconds": 2.5, "c_cells": 64, "observed_order": 1.97}
    run.evidence(Evidence("x", "use_error", "It converges", "order within 0.1 of 2", result, "passed"))
    seen = "order within 0.1 of 2 observed order 1.97 a levels 4 b seconds 2.5 and 1 more"
    assert seen in Page(render(run.path)).words


def test_a_virtual_comparator_is_named_as_such(make_run: MakeRun) -> None:
    run = make_run()
    sentence = "The comparator is a virtual patient."
    assert sentence not in Page(render(run.path)).words
    with open(run.path / "study.yaml", "a") as out:
        out.write("virtual: {seed: 1}\n")
    assert sentence not in Page(render(run.path)).words  # a patient's files were read
    (run.path / "inputs.json").write_text("{}")
    assert sentence in Page(render(run.path)).words


def test_an_unknown_factor_is_shown_apart(make_run: MakeRun) -> None:
    run = make_run()
    run.evidence(Evidence("odd", "charm", "It is charming", "someone smiles", {}, "passed"))
    assert (
        "Evidence under a factor that the standard does not have: It is charming ( charm )"
        in Page(render(run.path)).words
    )


NASTY: tuple[Any, ...] = (None, 3, -1e999, 10**400, "x", [], [None, [2]], {"a": {"b": 1}})


@pytest.mark.parametrize(
    "file",
    ["summary.json", "tables/sobol.json", "figures/totals.json", "text/patient.json", "environment.json",
     "evidence/growth.mms.space.json", "identity.json", "inputs.json", "study.yaml"],
)  # fmt: skip
def test_no_value_in_a_file_breaks_the_page(make_run: MakeRun, file: str) -> None:
    run = make_run()
    path = run.path / file
    if file == "study.yaml":
        import yaml

        whole: Any = yaml.safe_load(path.read_text())
    else:
        whole = json.loads(path.read_text())
    if file == "summary.json":
        whole = whole[-2:]
    for nasty in NASTY:
        for changed in [nasty, *_with(whole, nasty)]:
            path.write_text(json.dumps(changed))
            assert "</html>" in render(run.path)


def _with(whole: Any, nasty: Any) -> list[Any]:
    """The value with each of its parts (two levels deep) replaced."""
    found = []
    keys = list(whole) if isinstance(whole, dict) else range(len(whole))
    for key in keys:
        changed = json.loads(json.dumps(whole))
        changed[key] = nasty
        found.append(changed)
        inner = whole[key]
        if isinstance(inner, dict | list):
            for part in list(inner) if isinstance(inner, dict) else range(len(inner)):
                changed = json.loads(json.dumps(whole))
                changed[key][part] = nasty
                found.append(changed)
    return found


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_what_is_not_a_run_folder_is_bad_input(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"not a run folder.*name the folder of a run"):
        report(tmp_path / name)
    assert not (tmp_path / name / "report.html").exists()


def test_the_example_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = Path(__file__).parents[2] / "docs" / "credibility.md"
    (example,) = re.findall(r"```python\n(.*?)```", docs.read_text(), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, str(docs), "exec"), {})
    page = Page((tmp_path / "example_run" / "report.html").read_text())
    assert "Tumour volume on day 90 44.2 cm³ 38.0 to 51.0 90 %" in page.words
    assert "Without diffusion each voxel follows the logistic closed form" in page.words
