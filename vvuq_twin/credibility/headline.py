"""The numbers of a run for the first page, and beside their baselines."""

from __future__ import annotations

import re
from typing import Any

from .read import RunRecord
from .words import anchor, readable

_MAIN = ("", "forecast", "scores")


def number_rows(record: RunRecord) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Tables of scores for their section, and the forecast's numbers by group for the first page.

    A score is a number that a baseline has too, or that the forecast and something else share by name; each
    group of scores is a table with a column for the forecast and for each of the others.
    """
    shown_by: dict[str, str] = {}
    for e in record.evidence:
        for name in e.result:
            shown_by.setdefault(str(name), anchor("evidence", e.id))
    by_name: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in ({"value": None, "interval": None, "level": None} | r for r in record.numbers):
        key = (readable(str(row.get("group") or "")), str(row["name"]))
        by_name.setdefault(key, {})[str(row.get("of") or "forecast")] = row
    groups: dict[str, list[dict[str, Any]]] = {}
    for (group, name), held in by_name.items():
        first = held.get("forecast") or next(iter(held.values()))
        label = str(first.get("description") or readable(name))
        entry = {
            "name": name,
            "label": label[:1].upper() + label[1:],
            "unit": first.get("unit"),
            "held": held,
            "whose": "",
        }
        groups.setdefault(group, []).append(entry | {"evidence": shown_by.get(name)})
    for rows in groups.values():
        labels = [row["label"] for row in rows]
        for row in rows:
            row["code"] = row["name"] if labels.count(row["label"]) > 1 else ""
    compared = {g: [r for r in rows if _compared(r["held"])] for g, rows in groups.items()}
    scores = [_score_table(group, rows) for group, rows in compared.items() if rows]
    first_page = sorted(groups, key=lambda g: _MAIN.index(g) if g in _MAIN else len(_MAIN))
    return scores, [{"group": g, **_headline(groups[g], 14 if g in _MAIN else 4)} for g in first_page]


def _compared(held: dict[str, Any]) -> bool:
    return any(of.startswith("baseline") for of in held) or ("forecast" in held and len(held) > 1)


def _headline(rows: list[dict[str, Any]], most: int) -> dict[str, Any]:
    """Rows of the first page, baselines in a cell; of the scores only the first ``most``."""
    shown: list[dict[str, Any]] = []
    more = 0
    for row in rows:
        held = row["held"]
        beside = [(_whose(of), r["value"]) for of, r in held.items() if of != "forecast"]
        if not _compared(held):
            for of, number_ in held.items():
                whose = "" if of == "forecast" or of in row["label"].lower() else of
                shown.append(number_ | row | {"whose": whose, "beside": []})
        elif "forecast" in held and sum(bool(r["beside"]) for r in shown) < most:
            shown.append(held["forecast"] | row | {"beside": beside})
        else:
            more += 1
    return {"rows": shown, "more": more}


def _whose(of: str) -> str:
    return re.sub(r"^baseline:\s*", "", of)


def _score_table(group: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows of scores by whose they are, the forecast first."""
    columns = ["forecast"]
    for row in rows:
        columns += [of for of in row["held"] if of not in columns]
    return {
        "group": group,
        "columns": [_whose(c) for c in columns],
        "rows": [row | {"cells": [row["held"].get(c) for c in columns]} for row in rows],
    }
