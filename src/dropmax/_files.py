"""Files and folders that are written whole or not at all."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dropmax import _check
from dropmax.errors import DropmaxOSError

PARTIAL = ".partial"
"""How the name ends of a file that is not whole yet."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within, a file or folder is written; where that fails the error names it, and the reason.

    Raises:
        DropmaxOSError: If the disk is full, or it may not be written.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "disk full" if full else error.strerror or type(error).__name__
        remedy = "free some space, then run it again" if full else "choose another place"
        got = _check.Verbatim(f"{reason} at {path}")
        _check.fail("path", "be written", got, remedy, error=DropmaxOSError)


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """The path beside a file's at which to write it; in the end it is put into the file's place.

    Raises:
        DropmaxOSError: If it cannot be written; what stood there before still does.
    """
    partial = file.with_name(file.name + PARTIAL)
    with writing(file):
        try:
            partial.unlink(missing_ok=True)  # what a stranger may have linked to another file
            yield partial
            with partial.open("r+b") as stream:
                os.fsync(stream.fileno())
            partial.replace(file)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def write_whole(file: Path, data: str | bytes) -> None:
    """Write a file whole or not at all, onto the disk.

    Raises:
        DropmaxOSError: If it cannot be written; what stood there before still does.
    """
    with whole(file) as partial:
        partial.write_bytes(data.encode() if isinstance(data, str) else data)


def make_folder(folder: Path) -> Path:
    """Make a folder, and those around it, where it is not there yet.

    Raises:
        DropmaxOSError: If it cannot be made.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def holds_something(folder: Path) -> bool:
    """Whether a folder is there and not empty; what a kill left of `whole` does not count.

    Raises:
        DropmaxOSError: If it may not be looked into.
    """
    with writing(folder):
        return folder.is_dir() and any(file.suffix != PARTIAL for file in folder.iterdir())


def identity(name: str) -> str:
    """A hash of what a model is known by: the files of a folder, wherever it lies, or a name."""
    folder = Path(name).expanduser()
    digest = hashlib.sha256()
    if not folder.is_dir():
        digest.update(name.encode())
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(folder)}:{file.stat().st_size}:".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()
