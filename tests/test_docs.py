"""The pages' examples run, and their tables say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel
from typer.main import get_command

from vvuq_twin.cli.app import app
from vvuq_twin.domain.runfolder import Number, RunFolder
from vvuq_twin.study.growth_spec import GrowthSpec

TOP = Path(__file__).resolve().parents[1]
DOCS = TOP / "docs"

#: Pages run here; each other page with an example has its own test beside its room's.
HERE = (
    "assimilation", "growth", "how-to-agent", "how-to-model", "how-to-segmenter", "how-to-study",
    "kinetics", "lesions", "physics", "quantify", "reduction", "study", "twin", "verification", "virtual",
)  # fmt: skip

#: A page whose example goes on where another page's ends.
AFTER = {"twin": "reduction"}


def _text(page: str) -> str:
    return (DOCS / f"{page}.md").read_text(encoding="utf-8")


def _blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", _text(page), re.S)


@pytest.mark.parametrize("page", HERE)
def test_examples_run_in_order(page: str, tmp_path: Path, monkeypatch, capsys) -> None:
    """All python blocks of a page in one namespace, in an empty folder with what the page says is there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").symlink_to(TOP / "studies")
    for name, page_with in (("study.yaml", "study"), ("agent.yaml", "how-to-agent")):
        (tmp_path / name).write_text(_blocks(page_with, "yaml")[0])
    run = RunFolder.open(tmp_path / "runs" / "virtual_glioma", "kind: growth\n", {}, {})
    run.summary(Number("crps_volume", 1.25, "cm3", group="scores"))
    own = _blocks(page, "python")
    assert own
    blocks = (_blocks(AFTER[page], "python") if page in AFTER else []) + own
    names: dict[str, object] = {"__name__": "example"}
    for block in blocks:
        exec(compile(block, f"docs/{page}.md", "exec", dont_inherit=True), names)
    printed = capsys.readouterr().out
    assert printed or not any("print(" in block for block in own)


def test_every_page_with_an_example_is_run_by_some_test() -> None:
    pages = {p.stem for p in DOCS.glob("*.md") if "```python" in p.read_text(encoding="utf-8")}
    tests = "\n".join(p.read_text(encoding="utf-8") for p in (TOP / "tests").glob("*/test_*.py"))
    elsewhere = {p for p in pages if f"{p}.md" in tests or f'"{p}"' in tests}
    assert pages - elsewhere - set(HERE) == set()


def _settings(model: type[BaseModel], prefix: str = "") -> dict[str, object]:
    """Dotted keys with their defaults, parts of the file opened up."""
    out: dict[str, object] = {}
    for name, field in model.model_fields.items():
        inner = [
            t for t in (field.annotation, *getattr(field.annotation, "__args__", ())) if isinstance(t, type)
        ]
        part = next((t for t in inner if issubclass(t, BaseModel)), None)
        if part is not None and "dict" not in str(field.annotation):
            out |= _settings(part, f"{prefix}{name}.")
        else:
            out[prefix + name] = field.default
    return out


def test_table_of_growth_settings_is_that_of_the_code() -> None:
    common = {"kind", "title", "seed", "data", "parameters"}
    code = {
        k: v for k, v in _settings(GrowthSpec).items()
        if k not in common and not k.startswith(("use.", "virtual."))
    }  # fmt: skip
    rows = re.findall(r"^\| `([\w.]+)` \| `([^`]*)` \|", _text("growth"), re.M)
    assert {k: yaml.safe_load(v) for k, v in rows} == code


def test_command_line_page_names_every_command_and_option() -> None:
    page = _text("cli")
    for name, command in get_command(app).commands.items():
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        options = {o for p in command.params for o in p.opts if o.startswith("--")} - {"--help"}
        assert set(re.findall(r"--[a-z-]+", section)) >= options
        assert set(re.findall(r"^\| `(--[a-z-]+)", section, re.M)) == options


def test_pages_name_files_that_exist() -> None:
    """Paths of the package, tests and studies in backticks are there."""
    missing = set()
    for page in DOCS.glob("*.md"):
        for path in re.findall(
            r"`((?:vvuq_twin|tests|studies)/[\w./*-]+)`", page.read_text(encoding="utf-8")
        ):
            if "<" not in path and not list(TOP.glob(path.rstrip("/"))):
                missing.add(f"{page.name}: {path}")
    assert missing - {"how-to-study.md: studies/my_study"} == set()


def test_anchors_between_pages_lead_to_a_heading() -> None:
    broken = set()
    for page in DOCS.glob("*.md"):
        for target, anchor in re.findall(
            r"\]\(([\w-]*(?:\.md)?)#([\w-]+)\)", page.read_text(encoding="utf-8")
        ):
            other = (DOCS / target if target else page).read_text(encoding="utf-8")
            heads = re.findall(r"^#+ (.+)$", other, re.M)
            slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in heads}
            if anchor not in slugs:
                broken.add(f"{page.name}: {target}#{anchor}")
    assert broken == set()
