"""The README: its first example runs and forecasts, its links and commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from vvuq_twin.cli.app import app

TOP = Path(__file__).resolve().parents[1]
TEXT = (TOP / "README.md").read_text(encoding="utf-8")


def test_first_example_forecasts_the_held_out_visits(monkeypatch, capsys) -> None:
    """It runs as it stands from the top of the repository; intervals are ordered and the truth is not far off."""
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    assert len(blocks) == 1
    monkeypatch.chdir(TOP)
    names: dict[str, object] = {"__name__": "example"}
    exec(compile(blocks[0], "README.md", "exec"), names)
    out = capsys.readouterr().out
    number = r"(\d+(?:\.\d+)?)"
    rows = re.findall(
        rf"day {number}: {number} cm3 \(90 % interval {number} to {number}\), truth {number}", out
    )
    assert [r[0] for r in rows] == ["116", "144", "172"]
    for row in rows:
        _, middle, low, high, truth = (float(x) for x in row)
        assert low < middle < high
        assert abs(middle - truth) < 2 * (high - low)
    worst = re.search(rf"unseen parameters {number} %", out)
    assert worst is not None and 0 < float(worst[1]) < 5


def test_links_lead_somewhere() -> None:
    links = {x.split("#")[0] for x in re.findall(r"\]\(([^)\s]+)\)", TEXT) if "://" not in x}
    assert links
    assert {x for x in links if not (TOP / x).exists()} == set()


def test_commands_and_their_options_exist() -> None:
    """Every ``vvuq-twin`` line of the README parses as far as its names go."""
    commands = get_command(app).commands
    lines = re.findall(r"^ +vvuq-twin (\w+)(.*)$", TEXT, re.M)
    assert {name for name, _ in lines} == set(commands)
    for name, rest in lines:
        known = {o for p in commands[name].params for o in p.opts}
        assert set(re.findall(r"--[a-z]+", rest.split("#")[0])) <= known


@pytest.mark.parametrize("target", ["demo", "test", "quick"])
def test_make_targets_exist(target: str) -> None:
    assert f"make {target}" in TEXT
    assert re.search(rf"^{target}:", (TOP / "Makefile").read_text(), re.M)


def test_every_study_is_in_the_table() -> None:
    studies = {p.name for p in (TOP / "studies").iterdir() if p.is_dir()}
    assert set(re.findall(r"\]\(studies/(\w+)/README\.md\)", TEXT)) == studies


def test_every_room_is_in_the_house() -> None:
    house = TEXT.split("## The house")[1].split("## ")[0]
    rooms = {p.parent.name for p in (TOP / "vvuq_twin").glob("*/__init__.py")}
    assert rooms <= set(re.findall(r"`(\w+)`", house))
