"""YAML with line numbers: where each key stands, repeated keys refused, numbers as YAML 1.2 has them.

PyYAML follows YAML 1.1, where ``10:30`` is the number 630, ``no`` is false and ``1e-3`` is a string.
A dose at half past ten must not be one at minute 630, so this loader reads as YAML 1.2 does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .errors import BadInput
from .yamlfile import yaml_text

_INT = re.compile(r"^[-+]?(0|[1-9][0-9]*)$")
_FLOAT = re.compile(
    r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
)
_BOOL = re.compile(r"^(true|True|TRUE|false|False|FALSE)$")


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2's core schema; a date stays text."""


_REPLACED = {f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "timestamp")}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
for _first in "-+0123456789":  # an integer also matches the float pattern, so it is tried first
    _Loader.yaml_implicit_resolvers[_first].insert(0, ("tag:yaml.org,2002:int", _INT))
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", _BOOL, list("tTfF"))


@dataclass(frozen=True)
class Lined:
    """A YAML file's data, and the line of each of its parts.

    Parameters
    ----------
    path : Path
    data : dict
    lines : dict
        From the place of a part, a tuple of keys and indices, to its line (from 1).
    """

    path: Path
    data: dict[str, Any]
    lines: dict[tuple[Any, ...], int]

    def place(self, loc: Sequence[Any]) -> tuple[Any, ...]:
        """The part of ``loc`` that exists in the file; a union's tag, which is no key, is passed over."""
        found: tuple[Any, ...] = ()
        for part in loc:
            if (*found, part) in self.lines:
                found = (*found, part)
        return found

    def where(self, loc: Sequence[Any] = ()) -> str:
        """File, line and field, for a message: ``folder/patient.yaml, line 7, visits[0].day``.

        A field that is missing is given the line of what it is missing from.
        """
        place = self.place(loc)
        last = tuple(loc[-1:]) if loc and isinstance(loc[-1], str) and loc[-1] not in place[-1:] else ()
        field = ""
        for part in (*place, *last):
            field += f"[{part}]" if isinstance(part, int) else (f".{part}" if field else str(part))
        line = self.lines.get(place, 1)
        return f"{self.path}, line {line}" + (f", {field}" if field else "")


def read_lined(path: Path) -> Lined:
    """Read a YAML mapping with the line of every part.

    Raises
    ------
    BadInput
        If the file is missing, unreadable, not YAML, not a mapping, or has a key twice.
    """
    path = Path(path)
    text = yaml_text(path)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise BadInput(
                "the file does not hold a mapping of keys", str(path), "start with 'key: value' lines"
            )
        lines: dict[tuple[Any, ...], int] = {(): 1}
        for place, line in _walk(loader, node, ()):
            if place in lines:
                raise BadInput(
                    f"the key '{place[-1]}' stands twice", f"{path}, line {line}", "remove one of them"
                )
            lines[place] = line
        data = loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        at = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise BadInput(
            "the file is not valid YAML", f"{path}{at}", "mend the indentation or quotes there"
        ) from error
    return Lined(path, data, lines)


def _walk(loader: _Loader, node: yaml.Node, place: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], int]]:
    """Every part's place and line, depth first."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            part = loader.construct_object(key, deep=True)
            here = (*place, part if isinstance(part, str | int | float | bool) else str(part))
            yield here, key.start_mark.line + 1
            yield from _walk(loader, value, here)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            yield (*place, i), item.start_mark.line + 1
            yield from _walk(loader, item, (*place, i))
