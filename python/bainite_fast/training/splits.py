"""Folds and fixed splits of annotated images. Imports no torch."""

from __future__ import annotations

import csv
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .. import kernels
from .._disk import write_text
from ..errors import BainiteWarning, InputError
from .dataset import IGNORE, Dataset
from .matching import plain_name, read_names
from .tiles import TileSet, micrograph_of
from .words import counted

__all__ = ["Fold", "Split", "k_fold", "read_split", "write_split"]

By = Literal["micrograph", "tile"]
PARTS = ("train", "validation", "test")
_ALIASES = {
    "train": "train", "training": "train", "validation": "validation", "validate": "validation", "val": "validation",
    "valid": "validation", "test": "test", "testing": "test",
}  # fmt: skip
_READS = (
    'a split is a JSON file {"train": […], "validation": […], "test": […]} or {"0": […], "1": […]} (what each fold '
    "tests on), where a list may be the name of a text file; a CSV of name,split; or a text file with the names of the "
    "training images"
)


@dataclass(frozen=True, slots=True)
class Fold:
    """One division of a data set into a part to train on and a part to test on: indices, ascending."""

    number: int
    train: tuple[int, ...]
    test: tuple[int, ...]


def k_fold(
    data: Dataset, folds: int = 5, *, by: By = "micrograph", stratified: bool = False, seed: int = 0
) -> tuple[Fold, ...]:
    """Divide a data set into folds, each of which is tested on once.

    Parameters
    ----------
    data : Dataset
        Images, or tiles.
    folds : int
        How many, at least 2.
    by : {"micrograph", "tile"}
        ``"micrograph"``: all tiles of an image are in one fold, so that no fold is tested on what it has seen.
        ``"tile"``: tiles are dealt at random, as in the paper; neighbours then stand on both sides.
    stratified : bool
        Deal so that the class fractions of the folds are close to each other, not purely at random.
    seed : int
        Of the dealing.

    Returns
    -------
    tuple of Fold
        Test parts are disjoint, cover everything, and differ by at most one unit (image or tile) in size.

    Raises
    ------
    InputError
        If there are fewer images, or tiles, than folds, or tiles are to be dealt and there are none.
    """
    if by not in ("micrograph", "tile"):
        raise InputError(f'by={by!r} is not understood; use "micrograph" or "tile"')
    if by == "tile" and not isinstance(data, TileSet):
        raise InputError("folds by tile need tiles; cut the data set with tile_dataset (recipe: data.tile) first")
    units = list(dict.fromkeys(micrograph_of(data))) if by == "micrograph" else list(data.names)
    if folds < 2 or len(units) < folds:
        what = "micrograph" if by == "micrograph" else "tile"
        raise InputError(
            f"{folds} folds are asked for, of {counted(len(units), what)}; at least 2 folds, and one {what} for "
            "each, are needed: ask for fewer folds, or annotate more"
        )
    place = {unit: i for i, unit in enumerate(units)}
    member = np.array([place[name] for name in (micrograph_of(data) if by == "micrograph" else data.names)])
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(units))
    fold_of = np.empty(len(units), np.int64)
    if stratified:
        fold_of[order] = _balanced(_unit_counts(data, member, len(units))[order], folds)
    else:
        fold_of[order] = np.arange(len(units)) % folds
    return _folds(fold_of[member], folds)


def _folds(fold_of: NDArray[np.int64], folds: int) -> tuple[Fold, ...]:
    return tuple(
        Fold(
            k,
            tuple(int(i) for i in np.flatnonzero(fold_of != k)),
            tuple(int(i) for i in np.flatnonzero(fold_of == k)),
        )
        for k in range(folds)
    )


def _unit_counts(data: Dataset, member: NDArray[np.int64], units: int) -> NDArray[np.float64]:
    counts = np.zeros((units, data.n_classes))
    for i, unit in enumerate(member):
        mask = data.mask(i)
        counts[unit] += kernels.class_counts(mask[mask != IGNORE], data.n_classes)
    return counts


def _balanced(counts: NDArray[np.float64], folds: int) -> NDArray[np.int64]:
    """Deal units with class counts [n, K] to folds of equal size, each to where the class totals need it most."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    unusual = np.abs(share - share.mean(axis=0)).sum(axis=1)
    room = np.full(folds, len(counts) // folds)
    room[: len(counts) % folds] += 1
    sums, dealt = np.zeros((folds, counts.shape[1])), np.zeros(folds)
    chosen = np.empty(len(counts), np.int64)
    for unit in np.argsort(-unusual, kind="stable"):
        wanted = share.mean(axis=0) * (dealt + 1)[:, None]
        cost = np.abs(sums + share[unit] - wanted).sum(axis=1) - np.abs(sums - share.mean(axis=0) * dealt[:, None]).sum(
            axis=1
        )
        cost[room == 0] = np.inf
        best = int(np.lexsort((np.arange(folds), dealt, cost.round(9)))[0])
        chosen[unit], sums[best] = best, sums[best] + share[unit]
        room[best] -= 1
        dealt[best] += 1
    return chosen


@dataclass(frozen=True, slots=True)
class Split:
    """A fixed split: names of micrographs by part, or by the number of the fold that tests on them.

    Attributes
    ----------
    parts : dict of str to tuple of str
        Keys are ``"train"``, ``"validation"``, ``"test"``; or ``"0"``, ``"1"`` …: the test part of each fold.
    source : str
        Where it came from.
    """

    parts: dict[str, tuple[str, ...]]
    source: str = "split"

    @property
    def is_folds(self) -> bool:
        """Whether it lists folds."""
        return not set(self.parts) <= set(PARTS)

    def indices(self, data: Dataset) -> dict[str, tuple[int, ...]]:
        """Return which items of a data set belong to each part; tiles belong where their micrograph does.

        A name that the data set lacks is looked for by its last number: ``micrograph75`` is ``uhcs0075``.

        Raises
        ------
        InputError
            If a name is not in the data set, or one micrograph is in two parts.

        Warns
        -----
        BainiteWarning
            If some names were found by their last number, and others as they are: which is which.
        """
        origin = micrograph_of(data)
        known = list(dict.fromkeys(origin))
        found: dict[str, tuple[int, ...]] = {}
        owner: dict[str, str] = {}
        guessed: dict[str, str] = {}
        for part, names in self.parts.items():
            places = {name: _find(name, known, self.source) for name in names}
            guessed |= {name: place for name, place in places.items() if plain_name(name) != plain_name(place)}
            mine = set(places.values())
            for name in sorted(mine):
                if owner.setdefault(name, part) != part:
                    raise InputError(
                        f"{self.source}: {name} is in {owner[name]} and in {part}; a micrograph must be in one part "
                        "alone, or the test would be on what was trained on"
                    )
            found[part] = tuple(i for i, name in enumerate(origin) if name in mine)
        if len(guessed) < sum(map(len, self.parts.values())):
            _tell_guesses(guessed, self.source)
        return found

    def folds(self, data: Dataset) -> tuple[Fold, ...]:
        """Return the folds of a data set: those listed, or one that trains on "train" and tests on "test".

        Raises
        ------
        InputError
            As :meth:`indices`, or if there is nothing to test on.
        """
        found = self.indices(data)
        if not self.is_folds:
            test = found.get("test") or found.get("validation")
            if not test or not found.get("train"):
                raise InputError(f"{self.source} lists {', '.join(self.parts)}; train and test are needed for a fold")
            return (Fold(0, found["train"], test),)
        fold_of = np.full(len(data), -1, np.int64)
        for k, indices in enumerate(found.values()):
            fold_of[list(indices)] = k
        listed = fold_of >= 0
        return tuple(
            Fold(
                k,
                tuple(int(i) for i in np.flatnonzero(listed & (fold_of != k))),
                tuple(int(i) for i in np.flatnonzero(fold_of == k)),
            )
            for k in range(len(found))
        )


def read_split(source: str | Path | Mapping[str, str | Path | Sequence[str]]) -> Split:
    """Read a fixed split.

    Parameters
    ----------
    source : path or mapping
        JSON ``{"train": […], "validation": […], "test": […]}`` or ``{"0": […], …}``, the micrographs that each fold
        tests on; a list may be the name of a text file beside it, with one name a line. CSV with the columns ``name``
        and ``split``. A text file with one name a line: what to train on. Or a mapping of the form of the JSON.
        Suffixes of names are overlooked.

    Raises
    ------
    InputError
        If it cannot be read, or has another form.
    """
    if isinstance(source, Mapping):
        return _split(source, Path(), "the split")
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8-sig")  # Excel begins its UTF-8 with a mark
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the split {path} cannot be read ({error}); {_READS}") from error
    if path.suffix.lower() == ".json":
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"{path} is not JSON ({error}); {_READS}") from error
        if isinstance(content, list):
            content = {str(k): part for k, part in enumerate(content)}
        if not isinstance(content, dict):
            raise InputError(f"{path} holds a {type(content).__name__}; {_READS}")
        return _split(content, path.parent, str(path))
    if path.suffix.lower() == ".csv":
        return _split(_from_csv(text, path), path.parent, str(path))
    return Split({"train": tuple(read_names(path))}, str(path))


def _split(content: Mapping[str, Any], folder: Path, source: str) -> Split:
    parts: dict[str, tuple[str, ...]] = {}
    for key, value in content.items():
        part = _ALIASES.get(str(key).lower(), str(key))
        names = folder / value if isinstance(value, (str, Path)) else value
        if not isinstance(names, (Path, list, tuple)) or part in parts:
            raise InputError(f"{source}: {key} is {type(value).__name__}, or comes twice; {_READS}")
        parts[part] = tuple(read_names(names if isinstance(names, Path) else [str(name) for name in names]))
    named = set(parts) & set(PARTS)
    if (
        not parts
        or (named and named != set(parts))
        or (not named and not all(re.fullmatch(r"\d+", key) for key in parts))
    ):
        raise InputError(f"{source} has the parts {', '.join(parts) or 'none'}; {_READS}")
    if not named:
        if len(parts) < 2:
            raise InputError(f"{source} lists one fold; at least 2 are needed")
        parts = {key: parts[key] for key in sorted(parts, key=int)}
    return Split(parts, source)


def _from_csv(text: str, path: Path) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {}
    for row in csv.DictReader(text.splitlines()):
        if not row.get("name") or not row.get("split"):
            raise InputError(f"{path} lacks the columns name and split; {_READS}")
        parts.setdefault(str(row["split"]).strip(), []).append(str(row["name"]).strip())
    return parts


def _tell_guesses(guessed: Mapping[str, str], source: str) -> None:
    if guessed:
        shown = ", ".join(f"{name} as {place}" for name, place in [*guessed.items()][:5])
        more = f" and {len(guessed) - 5} more" if len(guessed) > 5 else ""
        warnings.warn(
            f"{source} lists names that the data set does not hold, among others that it does, taken by their last "
            f"number: {shown}{more}; check that they are the same micrographs",
            BainiteWarning,
            stacklevel=3,
        )


def _number(name: str) -> int | None:
    digits = re.findall(r"\d+", name)
    return int(digits[-1]) if digits else None


def _find(name: str, known: Sequence[str], source: str) -> str:
    wanted = plain_name(name)
    if wanted in known:
        return wanted
    called = [one for one in known if plain_name(one) == wanted]  # arrays may be named after files
    number = _number(wanted)
    alike = called or [one for one in known if number is not None and _number(one) == number]
    if len(alike) == 1:
        return alike[0]
    shown = ", ".join(known[:6]) + (" …" if len(known) > 6 else "")
    why = f"{len(alike)} have its {'name' if called else 'number'}" if alike else f"it holds {shown}"
    raise InputError(f"{source} lists {name}, which the data set does not hold ({why}); check the names")


def write_split(path: str | Path, data: Dataset, folds: Sequence[Fold]) -> None:
    """Write folds as JSON that :func:`read_split` reads: by number, the names that each tests on.

    Parameters
    ----------
    path : path
        Written whole or not at all; replaced where it exists.
    data : Dataset
        What the folds divide.
    folds : sequence of Fold
        From :func:`k_fold` by micrograph.
    """
    origin = micrograph_of(data)
    content = {str(fold.number): sorted({origin[i] for i in fold.test}) for fold in folds}
    write_text(Path(path), json.dumps(content, indent=2) + "\n")
