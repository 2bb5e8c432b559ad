"""A hash of values that does not depend on the process, on sharing of objects or on insertion order."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
from pydantic import BaseModel


def fingerprint(*values: Any) -> str:
    """SHA-256 (hexadecimal) of the content of ``values``.

    Understands arrays, numbers, strings, containers, dataclasses, pydantic models, functions (by module and name),
    ``functools.partial`` and anything with a ``__fingerprint__()`` method that returns a string.

    Raises
    ------
    TypeError
        If a value is of another kind: a hash of its address would change from run to run.
    """
    digest = hashlib.sha256()
    for value in values:
        _feed(digest, value)
    return digest.hexdigest()


def function_name(function: Any) -> str:
    """Module and name of a function, or of the class of a callable object."""
    if isinstance(function, functools.partial):
        return function_name(function.func)
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def _feed(digest: Any, value: Any) -> None:
    def tag(kind: str, text: str = "") -> None:
        digest.update(f"{kind}:{len(text)}:{text};".encode())

    if hasattr(value, "__fingerprint__") and not isinstance(value, type):
        tag("own", value.__fingerprint__())
    elif value is None or isinstance(value, bool | int | float | complex | str):
        tag(type(value).__name__, repr(value))
    elif isinstance(value, bytes):
        tag("bytes", hashlib.sha256(value).hexdigest())
    elif isinstance(value, np.ndarray) and value.dtype != object:
        tag("array", f"{value.dtype.str}{value.shape}")
        digest.update(hashlib.sha256(np.ascontiguousarray(value).tobytes()).digest())
    elif isinstance(value, np.generic):
        _feed(digest, np.asarray(value))
    elif isinstance(value, PurePath):
        tag("path", str(value))
    elif isinstance(value, Mapping):
        tag("mapping", str(len(value)))
        for key in sorted(value, key=repr):
            _feed(digest, key)
            _feed(digest, value[key])
    elif isinstance(value, list | tuple):
        tag("sequence", str(len(value)))
        for item in value:
            _feed(digest, item)
    elif isinstance(value, set | frozenset):
        _feed(digest, sorted(fingerprint(item) for item in value))
    elif isinstance(value, functools.partial):
        tag("partial")
        for item in (value.func, value.args, value.keywords):
            _feed(digest, item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        tag("dataclass", function_name(type(value)))
        _feed(digest, {f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    elif isinstance(value, BaseModel):
        tag("model", function_name(type(value)))
        _feed(digest, {name: getattr(value, name) for name in type(value).model_fields})
    elif callable(value) and hasattr(value, "__qualname__"):
        tag("function", function_name(value))
    else:
        raise TypeError(f"a value of type {type(value).__name__} cannot be fingerprinted")
