"""The files of a model package: read from folder or zip, written whole or not at all. Imports no torch."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .._disk import beside
from ..errors import ModelError, OutputExistsError
from .catalog import CARD, CONFIG, PACKAGE_FILES, PackageConfig, parse_config

_TEXT_LIMIT = 2**20  # bytes of the configuration, and of the card


def read_description(path: str | os.PathLike[str]) -> tuple[PackageConfig, str]:
    """Return the configuration and the card (Markdown, empty if there is none) of a package; weights are not read.

    Raises
    ------
    ModelError
        If it is no package, or its configuration is wrong.
    """
    source = Path(path)
    with PackageReader(source) as files:
        config = parse_config(files.read(CONFIG, _TEXT_LIMIT), str(source))
        card = files.read(CARD, _TEXT_LIMIT).decode(errors="replace") if files.has(CARD) else ""
    return config, card


# What Python's zipfile raises on damaged archives, besides its own error.
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, ValueError, EOFError, RuntimeError, OverflowError)


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip; whatever is wrong with it, or with what is read of it meanwhile, is one error.

    Raises
    ------
    zipfile.BadZipFile
        If it is damaged, or needs what Python cannot do.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _DAMAGE as error:
        if isinstance(error, ModelError):
            raise
        raise zipfile.BadZipFile(str(error) or type(error).__name__) from error


class PackageReader:
    """Reads the known files of a folder or zip into memory; nothing is extracted, so no name can lead outside."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.zip: zipfile.ZipFile | None = None
        self.names: dict[str, str] = {}
        self._open = ExitStack()

    def __enter__(self) -> PackageReader:
        if self.source.is_dir():
            return self
        try:
            self.zip = self._open.enter_context(open_zip(self.source))
        except (zipfile.BadZipFile, OSError) as error:
            raise ModelError(f"{self.source} is neither a folder nor a readable zip ({error})") from error
        members = [x for x in self.zip.namelist() if not x.endswith("/")]
        tops = {x.partition("/")[0] for x in members}
        prefix = "" if CONFIG in members or len(tops) != 1 else f"{tops.pop()}/"
        self.names = {x.removeprefix(prefix): x for x in members if x.startswith(prefix)}
        unknown = sorted(set(self.names) - set(PACKAGE_FILES))
        if unknown:
            self._open.close()
            raise ModelError(
                f"{self.source} holds {', '.join(unknown[:3])}, which no model package holds; a package is "
                f"{', '.join(PACKAGE_FILES)}"
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def has(self, name: str) -> bool:
        """Say whether there is a file of that name."""
        return (self.source / name).is_file() if self.zip is None else name in self.names

    def read(self, name: str, limit: int) -> bytes:
        """Return the content of a file of at most `limit` bytes."""
        try:
            if self.zip is None:
                file = self.source / name
                self._check(name, file.stat().st_size, limit)
                return file.read_bytes()
            info = self.zip.getinfo(self.names[name])
            self._check(name, info.file_size, limit)
            return self.zip.read(info)
        except (FileNotFoundError, KeyError) as error:
            raise ModelError(
                f"{self.source} lacks {name}: a model package holds {', '.join(PACKAGE_FILES)}; get a whole copy"
            ) from error
        except (OSError, *_DAMAGE) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(f"{self.source}: {name} cannot be read ({error}); get a fresh copy") from error

    def _check(self, name: str, size: int, limit: int) -> None:
        if size > limit:
            raise ModelError(f"{self.source}: {name} has {size} bytes, far more than its model needs ({limit} at most)")


def check_target(
    target: Path, *, overwrite: bool, members: Collection[str] = (), source: str | os.PathLike[str] = ""
) -> None:
    """Refuse to write where something is that must not be replaced.

    Parameters
    ----------
    target : Path
        A folder or, if it ends in ``.zip`` or has no `members`, a file.
    overwrite : bool
        Whether a file may give way to a file, and a folder to a folder.
    members : collection of str
        Names of the files that such a folder may hold; the first one tells it from others.
    source : str or path
        What the target is made from, and must not replace.

    Raises
    ------
    OutputExistsError
        If something is at the target and `overwrite` is false, or it is of another kind, holds anything else, or is the
        source.
    """
    if not target.exists():
        return
    if not overwrite:
        raise OutputExistsError(f"{target} exists; choose another path or pass overwrite=True")
    cure = "it is not replaced; choose another path, or move it away first"
    if source and Path(source).exists() and target.samefile(source):
        raise OutputExistsError(f"{target} is the model itself: {cure}")
    if not members or target.suffix == ".zip":
        if not target.is_file():
            raise OutputExistsError(f"{target} is a folder, where a file is to be written: {cure}")
        return
    if not target.is_dir():
        raise OutputExistsError(f"{target} is a file, where a folder is to be written: {cure}")
    held = {x.name for x in target.iterdir()}
    foreign = sorted(held - set(members))
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise OutputExistsError(f"{target} holds {', '.join(foreign[:3])}{more}, which such a model does not: {cure}")
    if held and next(iter(members)) not in held:
        raise OutputExistsError(f"{target} is a folder without {next(iter(members))}, and so no such model: {cure}")


def write_package(target: Path, files: Mapping[str, bytes]) -> None:
    """Write folder or zip beside the target and rename it there, so that it appears whole or not at all."""
    place_files(target, {name: files[name] for name in PACKAGE_FILES})


def place_files(target: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder, or a zip where the target ends in ``.zip``, beside the target and rename it there.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with beside(target) as scratch:
        if target.suffix == ".zip":
            with zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in files.items():
                    archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        else:
            scratch.mkdir()
            for name, content in files.items():
                (scratch / name).write_bytes(content)


def place_file(target: Path, content: bytes) -> None:
    """Write a file beside the target and rename it there.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with beside(target) as scratch:
        scratch.write_bytes(content)
