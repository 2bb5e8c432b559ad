"""A reduced model as one zipped Zarr group: arrays as arrays, what holds them as a tree of names."""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.files import write_with

#: Changed when the tree's form changes.
FORMAT = 5
AGAIN = "delete it, so that the model is trained again"


def write(path: Path, value: Any, mark: str) -> Path:
    """Write dataclasses, named tuples, containers, arrays and plain values; private fields are left out.

    Parameters
    ----------
    path : Path
    value : object
    mark : str
        Hash of what it was built from.

    Raises
    ------
    BadInput
        If the folder cannot be written or the disk is full.
    TypeError
        If something in it is of another kind.
    """
    arrays: dict[int, tuple[str, Any]] = {}
    tree = _pack(value, arrays)

    def fill(target: Path) -> None:
        import zarr

        with zarr.storage.ZipStore(target, mode="w") as store:
            group = zarr.create_group(store, attributes={"format": FORMAT, "mark": mark, "tree": tree})
            for name, array in arrays.values():
                group.create_array(name, data=np.asarray(array, order="C"), compressors=None)

    return write_with(Path(path), fill)


def read(path: Path, expected: str, kinds: Mapping[str, type]) -> Any:
    """What :func:`write` wrote.

    Parameters
    ----------
    path : Path
    expected : str
        The mark it must have.
    kinds : mapping of str to type
        Dataclasses and named tuples that may be in it, by name.

    Raises
    ------
    BadInput
        If the file is missing, unreadable, of another format, or built from something else.
    """
    import zarr

    path = Path(path)
    if not path.is_file():
        raise BadInput("the reduced model is missing", str(path), "train it")
    try:
        with zarr.storage.ZipStore(path, mode="r") as store:
            group = zarr.open_group(store, mode="r")
            plain: dict[str, Any] = dict(group.attrs)
            if plain["format"] != FORMAT:
                raise BadInput(
                    f"the reduced model has format {plain['format']}, not {FORMAT}", str(path), AGAIN
                )
            if plain["mark"] != expected:
                raise BadInput(
                    "the reduced model was built from another patient, prior or setting", str(path), AGAIN
                )
            arrays = {name: np.asarray(array[...]) for name, array in group.arrays()}
        return _unpack(plain["tree"], arrays, kinds)
    except BadInput:
        raise
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput("the reduced model cannot be read", str(path), AGAIN) from error


def _pack(value: Any, arrays: dict[int, tuple[str, Any]]) -> Any:
    """A tree of JSON; arrays are put aside by identity, so that one that is shared is written once."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {"mapping": {str(k): _pack(v, arrays) for k, v in value.items()}}
    if dataclasses.is_dataclass(value) or hasattr(value, "_fields"):
        names = value._fields if hasattr(value, "_fields") else [f.name for f in dataclasses.fields(value)]  # type: ignore[arg-type]
        fields = {k: _pack(getattr(value, k), arrays) for k in names if not k.startswith("_")}
        return {"kind": type(value).__name__, "fields": fields}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_pack(v, arrays) for v in value]}
    if hasattr(value, "__array__"):
        # the array is kept beside its name: its identity must not pass to another meanwhile
        name, _ = arrays.setdefault(id(value), (f"array_{len(arrays)}", value))
        return {"array": name}
    raise TypeError(f"a value of type {type(value).__name__} cannot be stored")


def _unpack(tree: Any, arrays: Mapping[str, np.ndarray], kinds: Mapping[str, type]) -> Any:
    if not isinstance(tree, dict):
        return tree
    if "array" in tree:
        return arrays[tree["array"]]
    if "mapping" in tree:
        return {k: _unpack(v, arrays, kinds) for k, v in tree["mapping"].items()}
    if "kind" in tree:
        return kinds[tree["kind"]](**{k: _unpack(v, arrays, kinds) for k, v in tree["fields"].items()})
    if "list" in tree:
        return [_unpack(v, arrays, kinds) for v in tree["list"]]
    return tuple(_unpack(v, arrays, kinds) for v in tree["tuple"])
