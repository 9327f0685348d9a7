"""The journal of a run: what was decided, and which blocks are done. A killed run continues from it.

The file is one JSON object a line: a header, then a line per finished block, appended after the block's shards are in
place. A line is written by one call, so a kill can tear only the last line, which is then dropped.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from .._disk import explain_os_errors, lock
from ..errors import JournalError, OutputError, OutputLockedError

FORMAT = 1


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """One finished block.

    Attributes
    ----------
    by, bx : int
        Row and column of the block.
    counts : tuple of int
        Pixels of each class.
    digest : str
        SHA-256 of the mosaic pixels of the block, hexadecimal.
    shards : tuple
        (path, bytes) of every file written, relative to the output; bytes is None where an empty shard has no file.
    """

    by: int
    bx: int
    counts: tuple[int, ...]
    digest: str
    shards: tuple[tuple[str, int | None], ...]

    def to_line(self) -> bytes:
        """Return the record as one line of the journal."""
        value = {
            "block": [self.by, self.bx],
            "counts": self.counts,
            "digest": self.digest,
            "shards": self.shards,
        }
        return json.dumps(value, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> BlockRecord:
        """Return the record that a line holds."""
        by, bx = value["block"]
        shards = tuple((str(path), None if size is None else int(size)) for path, size in value["shards"])
        return cls(int(by), int(bx), tuple(int(n) for n in value["counts"]), str(value["digest"]), shards)


@dataclass(slots=True)
class Journal:
    """An append-only list of finished blocks under a header that says what the run is.

    Attributes
    ----------
    path : Path
        The file.
    header : dict
        Identity and plan of the run.
    done : dict
        Finished blocks by (row, column).
    decided : dict
        What was decided while blocks ran and holds for the rest of them, such as a smaller batch.
    torn : int
        Bytes of an unfinished line at the end.
    """

    path: Path
    header: dict[str, Any]
    done: dict[tuple[int, int], BlockRecord] = field(default_factory=dict)
    decided: dict[str, Any] = field(default_factory=dict)
    torn: int = 0

    @classmethod
    def create(cls, path: Path, header: dict[str, Any]) -> Journal:
        """Start a journal; the header is on disk before any shard is."""
        journal = cls(path, {"format": FORMAT, **header})
        scratch = path.with_suffix(".new")
        try:
            with scratch.open("wb") as file:
                file.write(json.dumps(journal.header).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(path)
        except OSError as error:
            raise OutputError(f"cannot write the journal {path}: {error.strerror or error}") from error
        return journal

    @classmethod
    def load(cls, path: Path) -> Journal:
        """Read a journal, without a last line that a kill has torn, or that its writer is at; nothing is written.

        Raises
        ------
        JournalError
            If the file is not a journal of this format, or is damaged before its last line.
        """
        lines = path.read_bytes().split(b"\n")
        torn = lines.pop()
        try:
            header, *values = (json.loads(line) for line in lines)
            records = [BlockRecord.from_dict(value) for value in values if "decided" not in value]
            decided = {key: x for value in values if "decided" in value for key, x in value["decided"].items()}
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise JournalError(f"the journal {path} is damaged ({error}); start again with resume=False") from error
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise JournalError(
                f"the journal {path} is not of format {FORMAT}, which this version of bainite_fast reads; "
                "finish it with the version that began it, or start again with resume=False"
            )
        return cls(path, header, {(record.by, record.bx): record for record in records}, decided, len(torn))

    def take_up(self) -> None:
        """Cut off the torn line, so that the next one can be appended. Only who holds the lock may do it."""
        if self.torn:
            with self.path.open("r+b") as file:
                file.truncate(self.path.stat().st_size - self.torn)
            self.torn = 0

    def append(self, record: BlockRecord) -> None:
        """Add a finished block.

        Raises
        ------
        OutputError
            If the line cannot be written whole; the journal then ends with its last good line.
        """
        self._write(record.to_line(), f"block ({record.by}, {record.bx})")
        self.done[record.by, record.bx] = record

    def decide(self, **decided: Any) -> None:
        """Add what was decided for the rest of the run; nothing where it is decided already.

        Raises
        ------
        OutputError
            As :meth:`append`.
        """
        if all(self.decided.get(key) == value for key, value in decided.items()):
            return
        self._write(json.dumps({"decided": decided}, separators=(",", ":")).encode() + b"\n", f"{decided}")
        self.decided.update(decided)

    def _write(self, line: bytes, what: str) -> None:
        try:
            with self.path.open("ab", buffering=0) as file:
                end = file.tell()
                written = file.write(line)
                if written != len(line):
                    file.truncate(end)
                    raise OSError(f"only {written} of {len(line)} bytes were written")
        except OSError as error:
            raise OutputError(
                f"cannot add {what} to the journal {self.path}: {error.strerror or error}; "
                "what is finished is kept: free some space and run the same command again"
            ) from error

    def check(self, identity: dict[str, Any]) -> None:
        """Refuse to go on with a journal of another run.

        Parameters
        ----------
        identity : dict
            What decides the bytes of the output, as JSON-able values.

        Raises
        ------
        JournalError
            Naming every entry that differs.
        """
        mine = json.loads(json.dumps(identity))
        theirs = self.header.get("identity", {})
        differing = list(_differences(theirs, mine))
        if differing:
            raise JournalError(
                f"the unfinished output at {self.path.parent} belongs to another run: {'; '.join(differing)}. "
                "Run it again as it was begun, or start again with resume=False"
            )


def _differences(theirs: Any, mine: Any, name: str = "") -> Iterator[str]:
    if isinstance(theirs, dict) and isinstance(mine, dict):
        for key in sorted(theirs.keys() | mine.keys()):
            yield from _differences(theirs.get(key), mine.get(key), f"{name}.{key}" if name else key)
    elif theirs != mine:
        yield f"{name} was {_short(theirs)}, is {_short(mine)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


@contextmanager
def exclusive(path: Path, what: Path) -> Iterator[None]:
    """Hold the lock of an output for as long as the context lasts; a killed process lets go of it.

    Parameters
    ----------
    path : Path
        The lock file; its folder exists.
    what : Path
        The output, named in the error.

    Raises
    ------
    OutputLockedError
        If another process holds the lock, or has just finished the output.
    OutputError
        If the file system has no locks.
    """
    gone = f"another process has just finished {what}, or begun it anew; look what is there before you run this again"
    try:
        opened = path.open("a+")
    except FileNotFoundError as error:
        raise OutputLockedError(gone) from error
    with opened as file:
        _take(file, what)
        # The folder of a finished output has got another name, and the lock in it guards nothing any more.
        if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
            raise OutputLockedError(gone)
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def refuse_if_held(path: Path, what: Path) -> None:
    """Refuse an output that another process is writing now, as :func:`exclusive` does, and write nothing."""
    if path.exists():
        with explain_os_errors(what, "the output"), path.open("r+") as file:  # on NFS a lock needs leave to write
            _take(file, what)


def _take(file: TextIO, what: Path) -> None:
    if not lock(file.fileno(), what):
        file.seek(0)
        holder = file.read().strip() or "another process"
        raise OutputLockedError(
            f"{what} is being written by {holder}; wait for it, stop it, or choose another out= or name="
        )
