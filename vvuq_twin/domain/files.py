"""Writing so that a file is whole or absent, and hashes of what was read."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import BadInput, CannotWrite


def cannot_write(path: Path, error: OSError) -> CannotWrite:
    """The sentence for a write that the system refused."""
    elsewhere = "choose another folder with --out"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CannotWrite("the disk is full", str(path), f"free some space or {elsewhere}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return CannotWrite("no permission to write here", str(path), elsewhere)
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return CannotWrite("a file stands where a folder is needed", str(path), elsewhere)
    return CannotWrite(f"cannot be written ({error.strerror or error})", str(path), elsewhere)


def cannot_read(path: Path, error: OSError) -> BadInput:
    """The sentence for a read that the system refused."""
    return BadInput(
        f"this cannot be read ({error.strerror or error})", str(path), "check its permissions and the disk"
    )


def write_with(path: Path, writer: Callable[[Path], None]) -> Path:
    """Let ``writer`` fill a temporary file beside ``path`` (same ending), then move it into place.

    Raises
    ------
    BadInput
        If the folder cannot be written or the disk is full; nothing half-written is left.
    """
    path = Path(path)
    temporary: Path | None = None
    if path.exists() and not path.is_file():
        # moving a file onto a device or a folder would replace it, or fail
        raise CannotWrite("this is not an ordinary file", str(path), "name another file")
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


def require_empty(out: Path) -> None:
    """Refuse an output folder that is not new or empty.

    Raises
    ------
    BadInput
        If the folder holds something, is a file, or cannot be read.
    """
    try:
        taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    except OSError as error:
        raise cannot_read(out, error) from error
    if taken:
        raise BadInput("the folder is there already and is not empty", str(out), "choose another with --out")


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of ``out`` when the block ends; after an error nothing is left of it.

    A folder that stands at ``out`` is replaced: check first that it may be (:func:`require_empty`).

    Raises
    ------
    BadInput
        If the folder cannot be written or the disk is full.
    """
    out = Path(out).resolve()
    mark = uuid.uuid4().hex
    part, old = out.parent / f".part-{mark}", out.parent / f".part-{mark}-old"
    try:
        part.mkdir(parents=True)
        yield part
        if out.exists():
            os.rename(out, old)
        os.rename(part, out)
    except CannotWrite as error:  # names a file of the folder that nobody will find
        raise CannotWrite(error.problem, str(out), error.mend) from error
    except OSError as error:
        raise cannot_write(out, error) from error
    finally:
        if old.exists() and not out.exists():  # stopped between the two
            os.rename(old, out)
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


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
    """SHA-256 of a file, hexadecimal.

    Raises
    ------
    BadInput
        If it cannot be read.
    """
    try:
        with open(path, "rb") as source:
            return hashlib.file_digest(source, "sha256").hexdigest()
    except OSError as error:
        raise cannot_read(path, error) from error
