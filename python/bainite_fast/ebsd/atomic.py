"""Outputs that appear under their name only when they are whole."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from ..errors import OutputError, OutputExistsError
from ..io.shards import explain_os_errors


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
        self.partial = path.with_name(f".{path.name}.partial-{uuid.uuid4().hex[:12]}")

    def commit(self) -> None:
        """Put what was written in its place."""
        with explain_os_errors(self.path.parent, self.path.name):
            if self.path.is_dir() and not self.path.is_symlink():
                # A folder cannot be replaced in one step: the old one leaves first, and goes when the new one stands.
                old = self.path.with_name(f".{self.path.name}.old-{uuid.uuid4().hex[:12]}")
                self.path.replace(old)
                self.partial.replace(self.path)
                shutil.rmtree(old)
            else:
                self.partial.replace(self.path)

    def discard(self) -> None:
        """Remove what was written."""
        if self.partial.is_dir():
            shutil.rmtree(self.partial, ignore_errors=True)
        else:
            self.partial.unlink(missing_ok=True)
