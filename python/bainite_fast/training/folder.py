"""The folder of a run: one writer, never overwritten by accident, whole or visibly unfinished."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .._disk import left_by, lock, write_text
from ..errors import JournalError, OutputError, OutputExistsError, OutputLockedError
from .checkpoint import LAST, read_place
from .differences import recipe_changes
from .result import CHECKPOINTS, CURVE, METRICS, MODEL, RECIPE, RUN

FORMAT = 1
LOCK = ".lock"
_NAN_BATCH = "nan_batch"
_OURS = (CHECKPOINTS, CURVE, METRICS, MODEL, RECIPE, RUN, _NAN_BATCH, "tensorboard", LOCK)


def check_folder(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that a run may not write to, before anything else is done.

    A run that was stopped before it kept a step is in nobody's way: there is nothing to lose.

    Raises
    ------
    OutputExistsError
        If there is a run, and neither resuming nor overwriting is asked for; or files that are no run's.
    """
    if out.exists() and not out.is_dir():
        raise OutputExistsError(f"{out} is a file; give a folder to make")
    names = {path.name for path in out.iterdir() if not _is_scrap(path)} if out.exists() else set()
    if not names - {LOCK}:
        return
    foreign = sorted(names - set(_OURS))
    if foreign or not (out / RUN).exists():
        raise OutputExistsError(
            f"{out} holds files that are no training run's ({', '.join(foreign[:3]) or 'no ' + RUN}); give another "
            "folder"
        )
    if not (resume or overwrite):
        done = _record(out).get("result") is not None
        if not done and steps_kept(out) == 0 and not (out / _NAN_BATCH).exists():
            return
        raise OutputExistsError(
            f"{out} holds {'a finished' if done else 'an unfinished'} training run; "
            f"{'' if done else 'pass resume=True to go on with it, '}pass overwrite=True to throw it away, or give "
            "another folder"
        )


def check_source(out: Path, source: Path | None) -> None:
    """Refuse to throw a folder away that holds what the next run in it starts from.

    Raises
    ------
    OutputExistsError
        If it does.
    """
    if source is not None and source.resolve().is_relative_to(out.resolve()):
        raise OutputExistsError(
            f"the first weights come from {source}, which overwrite=True would throw away with {out}; give another "
            "folder, or move the model out of it first"
        )


def open_record(out: Path, record: Mapping[str, Any], *, overwrite: bool) -> Mapping[str, Any]:
    """Begin a run, or find the one to go on with, and return its record.

    Raises
    ------
    JournalError
        If the folder's run is another one.
    """
    try:
        for scrap in filter(_is_scrap, out.iterdir()):
            _remove(scrap)
        if overwrite:
            for name in set(_OURS) - {LOCK}:
                _remove(out / name)
        if (out / RUN).exists():
            found = _record(out)
            if differing := _differing(found["fingerprint"], record["fingerprint"]):
                further = f", {out / MODEL} as the initial model" if (out / MODEL).exists() else ""
                raise JournalError(
                    f"the run in {out} was begun with {differing}; resume it with what it was begun with, "
                    f"give another folder{further}, or pass overwrite=True to throw it away"
                )
            return found
        write_record(out, record)
        return record
    except OSError as error:
        raise OutputError(f"{out} cannot be written ({error})") from error


def _is_scrap(path: Path) -> bool:
    """Say whether this is a half-written file of a run that was killed while it wrote."""
    return left_by(path.name) in _OURS


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _differing(begun: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Return in words what a run was begun with that is another now; "" where nothing is."""
    told = []
    for key in wanted:
        if key == "recipe":
            if changes := recipe_changes(begun.get(key), wanted[key]):
                told.append(f"another recipe ({changes})")
        elif begun.get(key) != wanted[key]:
            text = f"another {key} ({begun.get(key)}, not {wanted[key]})" if key == "device" else f"other {key}"
            told.append("another split" if key == "split" else text)
    return " and ".join(told)


def write_record(out: Path, record: Mapping[str, Any]) -> None:
    """Write ``run.json``, whole."""
    write_text(out / RUN, json.dumps(record, indent=2) + "\n")


def steps_kept(out: Path) -> int:
    """Return after how many steps the unfinished run in a folder goes on; 0 where it begins anew.

    Raises
    ------
    JournalError
        If its checkpoint is damaged.
    """
    last = out / CHECKPOINTS / LAST
    return int(read_place(last)["place"]["step"]) if last.exists() else 0


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep other runs out of the folder, which is made, while the context is open.

    Raises
    ------
    OutputLockedError
        If another process trains there.
    OutputError
        If the folder cannot be made, or its file system has no locks.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / LOCK).open("w", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{out} cannot be written ({error})") from error
    with file:
        if not lock(file.fileno(), out):
            raise OutputLockedError(f"another process trains in {out}; wait for it, or give another folder")
        yield


def _record(out: Path) -> Mapping[str, Any]:
    try:
        record: dict[str, Any] = json.loads((out / RUN).read_text(encoding="utf-8"))
        if record["format"] != FORMAT or not isinstance(record["fingerprint"], dict):
            raise KeyError("format")
        return record
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JournalError(
            f"{out / RUN} is not the record of a training run of this version ({error}); pass overwrite=True to throw "
            "the run away, or give another folder"
        ) from error
