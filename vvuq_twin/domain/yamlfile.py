"""YAML files into pydantic models, every fault one sentence with the file and the field."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from .errors import BadInput, near


def yaml_text(path: Path) -> str:
    """The text of a YAML file.

    Raises
    ------
    BadInput
        If the file is missing, is a folder, or cannot be read as UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BadInput("the file does not exist", str(path), "check the path") from error
    except IsADirectoryError as error:
        raise BadInput("this is a folder, not a file", str(path), "name the YAML file in it") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            "the file cannot be read", str(path), "check its permissions and that it is UTF-8"
        ) from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises
    ------
    BadInput
        If the file is missing, unreadable, not YAML, or not a mapping.
    """
    path = Path(path)
    text = yaml_text(path)
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date such as 2024-13-45 is a ValueError
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise BadInput(
            f"the file is not valid YAML{line}", str(path), "mend the indentation or quotes there"
        ) from error
    if not isinstance(data, dict):
        raise BadInput("the file does not hold a mapping of keys", str(path), "start with 'key: value' lines")
    return data


def validate[M: BaseModel](model: type[M], data: Any, where: str) -> M:
    """Validate ``data``; the first fault becomes a :class:`BadInput`.

    An unknown key comes before the others: it is usually the misspelt name of one that is then missing.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        unknown = [item["type"] == "extra_forbidden" for item in error.errors()]
        raise faults(model, error, where)[unknown.index(True) if any(unknown) else 0] from None


def faults(model: type[BaseModel], error: ValidationError, where: str) -> list[BadInput]:
    """All faults of a validation as :class:`BadInput`, in its order, unknown keys with the nearest known one."""
    found = []
    for item in error.errors():
        place = _place(item["loc"])
        kind = item["type"]
        if kind == "extra_forbidden":
            known = _keys_at(model, item["loc"][:-1])
            found.append(
                BadInput(
                    f"the key '{item['loc'][-1]}' is not known",
                    f"{where}: {place}",
                    near(str(item["loc"][-1]), known),
                )
            )
        elif kind == "missing":
            found.append(BadInput("this key is missing", f"{where}: {place}", "add it"))
        else:
            cause = item.get("ctx", {}).get("error")
            message = str(cause) if cause is not None else item["msg"]
            shown = item.get("input")
            given = f" (given: {shown!r})" if isinstance(shown, str | int | float | bool | type(None)) else ""
            found.append(BadInput(message[:1].lower() + message[1:].rstrip(".") + given, f"{where}: {place}"))
    return found


def _place(loc: Iterable[Any]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text or "top level"


def _keys_at(model: Any, loc: tuple[Any, ...]) -> list[str]:
    """Names of the fields of the model that stands at ``loc``, as far as annotations tell."""
    from typing import get_args

    def models(annotation: Any) -> list[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return [annotation]
        return [m for a in get_args(annotation) for m in models(a)]

    here = [model]
    for part in loc:
        if isinstance(part, int):
            continue
        nxt = [m for h in here if part in h.model_fields for m in models(h.model_fields[part].annotation)]
        here = nxt or here
    return sorted({f.alias or n for h in here for n, f in h.model_fields.items()})
