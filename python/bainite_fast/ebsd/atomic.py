"""Outputs that appear under their name only when they are whole."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from .._disk import beside_name, explain_os_errors, put
from ..errors import OutputError, OutputExistsError


class Replacement:
    """A file or folder that is written beside its place, and then put there.

    Parameters
    ----------
    path : Path
        Where it is to be.
    overwrite : bool
        Whether something may be there already.

    Raises
    ------
    OutputExistsError
        If something is there, and may not be replaced.
    OutputError
        If its folder does not exist.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        if path.exists() and not overwrite:
            raise OutputExistsError(f"{path} exists; choose another name, or overwrite=True")
        if not path.parent.is_dir():
            raise OutputError(f"the folder {path.parent} does not exist; make it first")
        self.path = path
        self.partial = beside_name(path)

    def commit(self) -> None:
        """Put what was written in its place."""
        with explain_os_errors(self.path.parent, self.path.name):
            put(self.partial, self.path)

    def discard(self) -> None:
        """Remove what was written."""
        if self.partial.is_dir():
            shutil.rmtree(self.partial, ignore_errors=True)
        else:
            self.partial.unlink(missing_ok=True)


def refuse_foreign(folder: Path, own: Collection[str]) -> None:
    """Refuse to replace a group that holds anything but its own arrays.

    Raises
    ------
    OutputExistsError
        If there is something else in it, such as pictures that somebody put there.
    """
    foreign = sorted(item.name for item in folder.iterdir() if item.name not in own) if folder.is_dir() else []
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise OutputExistsError(
            f"{folder} also holds {', '.join(foreign[:3])}{more}, which is no part of it: it is not replaced; choose "
            "another name, or move it away first"
        )
