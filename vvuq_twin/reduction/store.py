"""A reduced growth model on disk: one zipped Zarr group with the hash of what it was built from."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.files import write_with
from .estimate import Probe
from .galerkin import GrowthOperators
from .growth import ReducedGrowth

FORMAT = 4


def identity(reduced: ReducedGrowth) -> str:
    """Hash of everything that the model computes with; what it cost to train is no part of it."""
    digest = hashlib.sha256(reduced.fingerprint.encode())
    for array in (reduced.rows, reduced.vectors, *reduced.operators):
        digest.update(np.ascontiguousarray(array).tobytes())
    plain = (
        reduced.rank,
        reduced.limit,
        reduced.longest,
        reduced.substeps,
        reduced.saturation,
        reduced.size_full,
        reduced.errors,
    )
    digest.update(json.dumps(plain, sort_keys=True).encode())
    return digest.hexdigest()


def save(path: Path, reduced: ReducedGrowth, probe: Probe) -> Path:
    """Write the model and its probe atomically.

    Raises
    ------
    BadInput
        If the folder cannot be written or the disk is full.
    """
    plain = {
        "format": FORMAT,
        "rank": reduced.rank,
        "limit": reduced.limit,
        "longest": reduced.longest,
        "substeps": reduced.substeps,
        "saturation": reduced.saturation,
        "size_full": reduced.size_full,
        "fingerprint": reduced.fingerprint,
        "errors": reduced.errors,
        "timings": reduced.timings,
    }
    arrays = {f"operators_{k}": np.asarray(v) for k, v in reduced.operators._asdict().items()}
    arrays |= {f"probe_{k}": np.asarray(v) for k, v in probe._asdict().items()}
    arrays |= {k: getattr(reduced, k) for k in ("rows", "vectors", "singular_values")}

    def write(target: Path) -> None:
        import zarr

        with zarr.storage.ZipStore(target, mode="w") as store:
            group = zarr.create_group(store, attributes=plain)
            for name, array in arrays.items():
                group.create_array(name, data=np.ascontiguousarray(array), compressors=None)

    return write_with(Path(path), write)


def load(path: Path, expected: str) -> tuple[ReducedGrowth, Probe]:
    """Read a model built from what ``expected`` is the fingerprint of.

    Parameters
    ----------
    path : Path
    expected : str
        :meth:`~vvuq_twin.reduction.training.Training.fingerprint` of the case and the training's settings.

    Raises
    ------
    BadInput
        If the file is missing, unreadable, of another format, or built from something else.
    """
    import zarr

    path = Path(path)
    again = "delete it, so that the model is trained again"
    if not path.is_file():
        raise BadInput("the reduced model is missing", str(path), "train it")
    try:
        with zarr.storage.ZipStore(path, mode="r") as store:
            group = zarr.open_group(store, mode="r")
            data = {k: np.asarray(array[...]) for k, array in group.arrays()}
            plain: dict[str, Any] = dict(group.attrs)
        operators = GrowthOperators(**{k: data[f"operators_{k}"] for k in GrowthOperators._fields})
        probe = Probe(**{k: data[f"probe_{k}"] for k in Probe._fields})
        if plain["format"] != FORMAT:
            raise BadInput(f"the reduced model has format {plain['format']}, not {FORMAT}", str(path), again)
        reduced = ReducedGrowth(
            rank=int(plain["rank"]),
            rows=data["rows"],
            vectors=data["vectors"],
            operators=operators,
            limit=float(plain["limit"]),
            longest=float(plain["longest"]),
            substeps=int(plain["substeps"]),
            saturation=float(plain["saturation"]),
            size_full=int(plain["size_full"]),
            singular_values=data["singular_values"],
            fingerprint=str(plain["fingerprint"]),
            errors=plain["errors"],
            timings=plain["timings"],
        )
    except BadInput:
        raise
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput("the reduced model cannot be read", str(path), again) from error
    if reduced.fingerprint != expected:
        raise BadInput("the reduced model was built from another patient, prior or setting", str(path), again)
    return reduced, probe
