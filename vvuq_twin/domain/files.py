"""Writing so that a file is whole or absent, and hashes of what was read."""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path

from .errors import BadInput


def cannot_write(path: Path, error: OSError) -> BadInput:
    """The sentence for a write that the system refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BadInput("the disk is full", str(path), "free some space or choose another folder with --out")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return BadInput("no permission to write here", str(path), "choose another folder with --out")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return BadInput(
            "a file stands where a folder is needed", str(path), "choose another folder with --out"
        )
    return BadInput(f"cannot be written ({error.strerror})", str(path), "choose another folder with --out")


def write_with(path: Path, writer: Callable[[Path], None]) -> Path:
    """Let ``writer`` fill a temporary file beside ``path`` (same ending), then move it into place.

    Raises
    ------
    BadInput
        If the folder cannot be written or the disk is full; nothing half-written is left.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        name = path.parent / f".part-{uuid.uuid4().hex}{''.join(path.suffixes)}"
        # with the permissions any new file gets; mkstemp's are for its owner alone
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        temporary = name
        writer(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return path


def write_bytes(path: Path, data: bytes) -> Path:
    """Write bytes atomically."""
    return write_with(path, lambda p: _put(p, data))


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text atomically."""
    return write_bytes(path, text.encode())


def _put(path: Path, data: bytes) -> None:
    with open(path, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
