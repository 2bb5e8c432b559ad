"""The pages of the documentation hang together."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def _links(page: Path) -> set[str]:
    """Relative links of a page, without their anchors; code blocks are left out."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return {x.split("#")[0] for x in found if not re.match(r"[a-z]+:|#", x)}


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = {f"{p.name}: {x}" for p in DOCS.glob("*.md") for x in _links(p) if not (DOCS / x).exists()}
    assert broken == set()


def test_every_page_is_in_the_index() -> None:
    pages = {p.name for p in DOCS.glob("*.md")} - {"index.md"}
    assert pages - _links(DOCS / "index.md") == set()
