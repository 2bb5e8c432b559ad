"""What the report's template needs, from what the run left: sections, rows, links."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..domain.evidence import Evidence
from .assess import Assessment, assess, counts, model_risk, unplaced
from .factors import REFERENCES, find
from .headline import number_rows
from .numbers import MISSING, moment, number
from .read import Item, RunRecord, relative
from .words import anchor, compact, observed, readable, value


@dataclass(frozen=True)
class Section:
    """A section of the report and the names under which a run may file something in it."""

    key: str
    title: str
    names: tuple[str, ...]
    lead: str


SECTIONS: tuple[Section, ...] = (
    Section("forecast", "Forecast", ("forecasts",), "What the twin predicts, with its uncertainty."),
    Section(
        "scores", "Scores beside baselines", ("baselines",), "How the forecast does on what was held out."
    ),
    Section("verification", "Verification", ("reduction",), "Are the equations solved, and how exactly?"),
    Section(
        "sensitivity", "Sensitivity", ("sobol",), "Which uncertain inputs drive the quantities of interest."
    ),
    Section(
        "calibration", "Calibration", ("posterior",), "The posterior, and whether its sampler can be trusted."
    ),
    Section(
        "assimilation",
        "Assimilation",
        ("analysis",),
        "Cycle by cycle: fit, spread over error, what was learned.",
    ),
    Section(
        "budget",
        "Uncertainty budget",
        ("uncertainty", "uncertainty budget"),
        "Where the forecast's spread comes from.",
    ),
    Section("validation", "Validation", (), "Model against observation that it has not seen."),
    Section("limitations", "Limitations", ("limits",), "What this report does not show."),
    Section("credibility", "Credibility factors", ("factors",), "All thirteen factors of ASME V&V 40-2018."),
    Section("further", "Further results", (), "What the run filed under other headings."),
    Section(
        "provenance",
        "Provenance",
        ("inputs", "environment"),
        "What ran, on what, and the chain of its journal.",
    ),
    Section("references", "References", (), ""),
    Section("evidence", "Evidence records", (), "Every check of this run, as recorded."),
)

FRONT = ("front", "summary", "patient", "question", "headline", "overview", "imaging")
"""Section names whose paragraphs, tables and figures stand on the first page."""


def section_of(name: str) -> str:
    """The key of the section a run's item belongs to ("front" for the first page)."""
    plain = name.strip().lower().replace("_", " ")
    if plain in FRONT:
        return "front"
    for section in SECTIONS:
        if plain in (section.key, section.title.lower(), *section.names):
            return section.key
    return "further"


def context(record: RunRecord) -> dict[str, Any]:
    """All names the template uses."""
    assessments = assess(record.evidence)
    ids = {e.id: anchor("evidence", e.id) for e in record.evidence}
    scores, headline = number_rows(record)
    figures, tables, placed = _place(record, ids)
    study = record.study
    stated = study.get("use")
    use: dict[str, Any] = stated if isinstance(stated, dict) else {}
    risk = model_risk(str(use.get("model_influence", "")), str(use.get("decision_consequence", "")))
    journal = record.journal
    verification, validation, applicability = (
        _by_activity(record, assessments, a) for a in ("Verification", "Validation", "Applicability")
    )
    body: dict[str, bool] = {
        "scores": bool(scores),
        "verification": bool(verification),
        "validation": bool(validation),
        "limitations": True,
        "credibility": True,
        "provenance": True,
        "references": True,
        "evidence": True,
    }
    related = _related(record)
    sections = [
        {
            "key": s.key,
            "title": s.title,
            "lead": s.lead,
            "items": placed.get(s.key, []),
            "own": body.get(s.key, False) or bool(related.get(s.key)),
            "related": related.get(s.key, []),
        }
        for s in SECTIONS
        if s.key != "further" or placed.get("further")
    ]
    for i, section in enumerate(sections, start=2):
        section["number"] = i
    return {
        "title": str(study.get("title") or "Untitled study"),
        "kind": str(study.get("kind") or ""),
        "use": {
            k: use.get(k) for k in ("question", "context_of_use", "model_influence", "decision_consequence")
        },
        "stated_limitations": _listed(use.get("limitations")),
        "risk": risk,
        "data": str(study.get("data") or record.settings.get("data") or ""),
        "virtual": bool(study.get("virtual")) and not record.inputs,
        "problems": record.problems,
        "counts": counts(record.evidence),
        "failed": [_row(record, e) for e in record.evidence if e.status == "failed"],
        "scores": scores,
        "headline": headline,
        "front": placed.get("front", []),
        "sections": sections,
        "contents": [{"key": "front", "number": 1, "title": "Summary"}, *sections],
        "figures": figures,
        "tables": tables,
        "verification": verification,
        "validation": validation,
        "applicability": applicability,
        "hierarchy": _hierarchy(record, assessments),
        "not_assessed": [a.factor.name for a in assessments if a.status in ("not assessed", "planned")],
        "unplaced": [_row(record, e) for e in unplaced(record.evidence)],
        "records": [_record(record, e) for e in record.evidence],
        "environment": _environment(record.environment),
        "inputs": sorted((str(k), v if isinstance(v, str) else compact(v)) for k, v in record.inputs.items()),
        "settings": sorted(
            (str(k), "not set" if v is None else compact(v)) for k, v in record.settings.items()
        ),
        "seeds": _seeds(record),
        "journal": journal,
        "journal_rows": [_entry(e) for e in journal.entries],
        "started": moment(journal.entries[0].get("time")) if journal.entries else "",
        "ended": moment(journal.entries[-1].get("time")) if journal.entries else "",
        "study_text": record.study_text,
        "references": [asdict(r) for r in REFERENCES],
        "ids": ids,
    }


def _listed(stated: Any) -> list[str]:
    """A list of sentences from a list, or from one sentence."""
    if isinstance(stated, list):
        return [compact(x) for x in stated]
    return [compact(stated)] if stated else []


def _row(record: RunRecord, e: Evidence) -> dict[str, Any]:
    factor = find(e.factor)
    return {
        "id": e.id,
        "anchor": anchor("evidence", e.id),
        "factor": factor.name if factor else e.factor,
        "claim": e.claim,
        "acceptance": e.acceptance,
        "observed": observed(e.result, str(e.acceptance)),
        "status": e.status,
        "file": record.evidence_files[e.id],
    }


def _record(record: RunRecord, e: Evidence) -> dict[str, Any]:
    factor = find(e.factor)
    artefacts = [{"name": a, "href": relative(record.path, a)} for a in e.artefacts]
    return _row(record, e) | {
        "factor_anchor": anchor("factor", factor.key) if factor else "",
        "result": [(readable(str(k)), value(v)) for k, v in e.result.items()],
        "raw": json.dumps(e.result, indent=1, sort_keys=True, ensure_ascii=False, default=str),
        "artefacts": artefacts,
        "provenance": [(readable(str(k)), value(v)) for k, v in e.provenance.items()],
    }


def _related(record: RunRecord) -> dict[str, list[dict[str, Any]]]:
    """Evidence by the section that the first part of its id names ("sensitivity.sobol")."""
    found: dict[str, list[dict[str, Any]]] = {}
    for e in record.evidence:
        key = section_of(e.id.split(".")[0])
        if key in ("forecast", "scores", "sensitivity", "calibration", "assimilation", "budget"):
            found.setdefault(key, []).append(_row(record, e))
    return found


def _by_activity(record: RunRecord, found: Iterable[Assessment], activity: str) -> list[dict[str, Any]]:
    """Evidence of one activity, factor by factor."""
    return [
        {"factor": a.factor, "rows": [_row(record, e) for e in a.evidence]}
        for a in found
        if a.factor.activity == activity and a.evidence
    ]


def _hierarchy(record: RunRecord, found: Sequence[Assessment]) -> list[dict[str, Any]]:
    """The thirteen factors as rows of one table; ``activity`` and ``group`` span the rows they head."""
    rows = []
    for i, a in enumerate(found):
        f, before = a.factor, found[i - 1].factor if i else None
        rows_of = [_row(record, e) for e in sorted(a.evidence, key=lambda e: e.status != "failed")]
        new = before is None or before.activity != f.activity
        rows.append(
            {
                "activity": f.activity if new else None,
                "activity_span": sum(x.factor.activity == f.activity for x in found),
                "group": f.group if new or (before and before.group != f.group) else None,
                "group_span": sum(
                    (x.factor.activity, x.factor.group) == (f.activity, f.group) for x in found
                ),
                "factor": f,
                "anchor": anchor("factor", f.key),
                "status": a.status,
                "evidence": rows_of[:6],
                "rest": rows_of[6:],
            }
        )
    return rows


def _place(record: RunRecord, ids: dict[str, str]) -> tuple[int, int, dict[str, list[dict[str, Any]]]]:
    """Items by section, figures and tables numbered in the order in which they stand on the page."""
    by_key: dict[str, list[Item]] = {}
    for item in record.items:
        by_key.setdefault(section_of(item.section), []).append(item)
    placed: dict[str, list[dict[str, Any]]] = {}
    count = {"figure": 0, "table": 0, "text": 0}
    for key in ("front", *(s.key for s in SECTIONS)):
        for item in by_key.get(key, []):
            count[item.kind] += 1
            row = asdict(item) | {"number": count[item.kind], "anchor": anchor(item.kind, item.name)}
            if item.kind == "text":
                row["paragraphs"] = [p.strip() for p in re.split(r"\n\s*\n", item.content) if p.strip()]
            if item.kind == "table":
                row |= _table(item.content, ids)
            placed.setdefault(key, []).append(row)
    return count["figure"], count["table"], placed


def _table(content: dict[str, Any], ids: dict[str, str]) -> dict[str, Any]:
    columns = [{"name": str(c["name"]), "unit": c.get("unit") or ""} for c in content["columns"]]
    rows = [[_cell(v, ids) for v in row] for row in content["rows"]]
    for i, column in enumerate(columns):
        kinds = {row[i]["kind"] for row in rows} - {"empty"}
        column["numeric"] = i > 0 and "number" in kinds and kinds <= {"number", "missing", "word"}
    return {"columns": columns, "rows": rows, "long": len(rows) > 40, "dense": len(columns) > 8}


def _cell(v: Any, ids: dict[str, str]) -> dict[str, Any]:
    """A cell: number, missing value, link to evidence, verdict or text."""
    if v is None or (isinstance(v, str) and not v.strip()):
        return {"kind": "empty", "text": ""}
    if isinstance(v, int | float) and not isinstance(v, bool):
        text = number(v)
        return {"kind": "missing" if text == MISSING else "number", "text": text}
    if isinstance(v, str):
        if v in ids:
            return {"kind": "evidence", "text": v, "anchor": ids[v]}
        if v in ("passed", "failed", "planned", "not assessed", "not applicable", "in part"):
            return {"kind": "status", "text": v}
        return {"kind": "word" if v in ("none", "not quantified", "n/a", "-", "–") else "text", "text": v}
    return {"kind": "text", "text": value(v)}


def _environment(found: dict[str, Any]) -> dict[str, Any]:
    versions = found.get("versions")
    plain = [(readable(str(k)), value(v)) for k, v in found.items() if k != "versions"]
    plain = [(k, re.sub("-dirty$", " with uncommitted changes", v)) for k, v in plain]
    named = sorted(versions.items()) if isinstance(versions, dict) else []
    return {"facts": plain, "versions": [(str(k), str(v)) for k, v in named]}


def _seeds(record: RunRecord) -> list[tuple[str, str]]:
    """Every seed that the study, the settings and the evidence name."""
    found = [("study file", compact(record.study["seed"]))] if "seed" in record.study else []
    if "seed" in record.settings:
        found.append(("command line", compact(record.settings["seed"])))
    found += [(e.id, compact(e.provenance["seed"])) for e in record.evidence if "seed" in e.provenance]
    return found


def _entry(entry: dict[str, Any]) -> dict[str, str]:
    facts = entry.get("facts")
    text = (
        "; ".join(f"{k}: {compact(v, 90)}" for k, v in facts.items())
        if isinstance(facts, dict)
        else compact(facts)
    )
    return {
        "time": moment(entry.get("time")),
        "event": str(entry.get("event", "")),
        "facts": compact(text, 300),
    }
