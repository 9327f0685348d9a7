"""Files and folders that appear whole or not at all, and are still there after a loss of power."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from .errors import BainiteError, OutputError

_MANY = 64  # files and folders, from which on all that a file system holds is synced at once: ten times as fast
_BESIDE = re.compile(r"\.(.+?)(?:\.[0-9a-f]{8})?\.(?:partial|old)")  # the number came later than the rest


@contextlib.contextmanager
def beside(target: Path) -> Iterator[Path]:
    """Give a path beside `target`: the file or folder that is made there takes the target's place at the end.

    Where the context ends with an error, what was made is deleted, and what was at the target is still there. A file
    never replaces a folder, nor a folder a file.

    Parameters
    ----------
    target : Path
        A file or folder, there or not; its folder is made where it does not exist.

    Raises
    ------
    OutputError
        If the disk is full or cannot be written.
    """
    made = beside_name(target)
    try:
        with explain_os_errors(target.parent, target.name):
            target.parent.mkdir(parents=True, exist_ok=True)
            yield made
            put(made, target)
    finally:
        with contextlib.suppress(OSError):
            _delete(made)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises
    ------
    OutputError
        As :func:`beside`.
    """
    with beside(path) as made:
        made.write_text(text, encoding="utf-8")


def left_by(name: str) -> str | None:
    """Return which output a killed process was making under a name of :func:`beside`; None for any other name."""
    match = _BESIDE.fullmatch(name)
    return match and match[1]


def beside_name(target: Path, kind: str = "partial") -> Path:
    """Return a new name beside a target, for what is to take its place, or for what leaves it."""
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.{kind}")


def put(made: Path, target: Path) -> None:
    """Bring a file or folder to disk, then move it to its place on the same file system; what was there goes last."""
    sync_tree(made)
    if made.is_dir() and target.is_dir():
        # A folder cannot be replaced in one step: the old one leaves first, and goes when the new one stands.
        old = beside_name(target, "old")
        target.rename(old)
        try:
            made.rename(target)
        except OSError:
            old.rename(target)
            raise
        sync_folder(target.parent)
        _delete(old)
        return
    made.replace(target)  # the system refuses to put a file in a folder's place, or a folder in a file's
    sync_folder(target.parent)


def lock(handle: int, place: Path, *, wait: bool = False) -> bool:
    """Take the lock of an open file or folder, until it is closed; say whether it could be taken.

    Parameters
    ----------
    handle : int
        Of the open file.
    place : Path
        Named in the error.
    wait : bool
        Whether to wait until others let go of it.

    Raises
    ------
    OutputError
        If the file system has no locks: two runs could then write one output.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            raise
        raise OutputError(
            f"{place} is on a file system that locks no files ({error.strerror}), and without a lock two runs could "
            "write one output; write to another disk, and copy the result"
        ) from error
    return True


def sync_tree(path: Path) -> None:
    """Bring a file, or all that a folder holds, to disk: a name must never be there without what it names."""
    if not path.is_dir():
        _sync(path)
        return
    everything = [Path(folder, name) for folder, folders, files in os.walk(path) for name in (*files, *folders)]
    if len(everything) > _MANY and _sync_file_system(path):
        return
    for one in everything:
        sync_folder(one) if one.is_dir() else _sync(one)
    sync_folder(path)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to disk, where its file system can."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems sync files alone
            raise


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_file_system(folder: Path) -> bool:
    """Bring to disk what the file system of a folder has in memory; say whether this system can."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):
        return False
    handle = os.open(folder, os.O_RDONLY)
    try:
        if libc.syncfs(handle) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(handle)
    return True


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def explain_os_errors(place: Path, what: str) -> Iterator[None]:
    """Turn failures of the file system into an OutputError that names the place and the cure."""
    try:
        yield
    except OSError as error:
        if isinstance(error, BainiteError):
            raise
        raise _output_error(place, what, error.errno, error.strerror or str(error)) from error


def _output_error(place: Path, what: str, number: int | None, text: str) -> OutputError:
    free, cure = "", "Choose another place"
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        with contextlib.suppress(OSError):
            existing = next(folder for folder in (place, *place.parents) if folder.exists())
            free = f"; {shutil.disk_usage(existing).free / 2**30:.2f} GiB are free there"
        cure = "Make room, then run the same again"
    elif number in (errno.EACCES, errno.EPERM, errno.EROFS):
        cure = "Permit writing there, or choose another place, then run the same again"
    error = OutputError(f"cannot write {what} of {place}: {text}{free}. {cure}")
    error.errno = number
    return error
