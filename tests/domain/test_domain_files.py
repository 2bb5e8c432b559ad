"""Folders that are whole or absent, and YAML that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from vvuq_twin.domain.errors import BadInput, CannotWrite
from vvuq_twin.domain.files import require_empty, whole_folder, write_text
from vvuq_twin.domain.yamlfile import read_yaml


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "deep" / "out") as part:
        write_text(part / "a" / "one.txt", "1")
        assert not (tmp_path / "deep" / "out").exists()
    assert (tmp_path / "deep" / "out" / "a" / "one.txt").read_text() == "1"
    assert names(tmp_path / "deep") == ["out"]


def test_a_folder_that_stands_is_replaced_only_by_a_finished_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_text(out / "old.txt", "old")
    with pytest.raises(ZeroDivisionError), whole_folder(out) as part:
        write_text(part / "new.txt", "new")
        raise ZeroDivisionError
    assert names(tmp_path) == ["out"] and names(out) == ["old.txt"]
    with whole_folder(out) as part:
        write_text(part / "new.txt", "new")
    assert names(tmp_path) == ["out"] and names(out) == ["new.txt"]


def test_a_refused_write_names_the_folder_asked_for(tmp_path: Path) -> None:
    with pytest.raises(CannotWrite, match="disk is full") as refused, whole_folder(tmp_path / "out") as part:
        raise CannotWrite("the disk is full", str(part / "a.txt"), "free some space")
    assert refused.value.where == str(tmp_path / "out") and names(tmp_path) == []
    write_text(tmp_path / "file", "x")
    with pytest.raises(CannotWrite, match="a file stands"), whole_folder(tmp_path / "file" / "out"):
        pass


def test_only_a_new_or_empty_folder_is_free(tmp_path: Path) -> None:
    require_empty(tmp_path)
    require_empty(tmp_path / "new")
    write_text(tmp_path / "file", "x")
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(BadInput, match="not empty"):
            require_empty(taken)


@pytest.mark.parametrize("text", ["day: 2024-13-45\n", "a: [1\n", "a: " + "[" * 5000])
def test_yaml_that_cannot_be_read_is_bad_input(tmp_path: Path, text: str) -> None:
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(BadInput, match="not valid YAML"):
        read_yaml(tmp_path / "study.yaml")
