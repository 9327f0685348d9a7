"""What the studies of the paper have in common: their data, their budget, and the table that each of them leaves."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._disk import write_text
from ..errors import InputError, MosaicNotFoundError
from ..training.dataset import ArrayDataset, Classes, read_dataset
from ..training.pictures import CropBar
from ..training.splits import By
from ..training.tiles import TileSet, summarize, summary_table
from ..training.values import MaskValues

Cell = str | float | int


@dataclass(frozen=True, slots=True)
class Budget:
    """How much of a study is run, and how; the defaults are the whole of it.

    Attributes
    ----------
    epochs : int, optional
        In place of the recipes'.
    folds : int
        How many.
    seeds : int
        How often each fold is trained.
    subset : int, optional
        Only so many images of each folder, evenly spread over their names.
    by : {"micrograph", "tile"}
        How folds are dealt.
    changes : mapping
        Other values of every recipe, by dotted name.
    device : str
        Where to train.
    progress : callable, optional
        Called with lines of text.
    overwrite : bool
        Throw away what the study has left in its folder.
    """

    epochs: int | None = None
    folds: int = 5
    seeds: int = 1
    subset: int | None = None
    by: By = "micrograph"
    changes: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    progress: Callable[[str], None] | None = None
    overwrite: bool = False

    def say(self, text: str) -> None:
        """Tell the caller."""
        if self.progress is not None:
            self.progress(text)


@dataclass(frozen=True, slots=True, repr=False)
class StudyTable:
    """The result of a study: what it is, its rows, and where Markdown, CSV and plot lie.

    Attributes
    ----------
    name, caption : str
        Of the table.
    columns : tuple of str
        Of the rows.
    rows : tuple of tuples
        Text and numbers.
    out : Path
        Folder with ``<name>.md``, ``<name>.csv`` and ``<name>.png``.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    out: Path

    def column(self, name: str) -> tuple[Cell, ...]:
        """Return the cells of a column, top to bottom."""
        place = self.columns.index(name)
        return tuple(row[place] for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: a mapping for each row."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {"name": self.name, "caption": self.caption, "out": str(self.out), "rows": rows}

    def write(self) -> None:
        """Write ``<name>.md`` and ``<name>.csv``, each whole."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerows([self.columns, *self.rows])
        write_text(self.out / f"{self.name}.csv", text.getvalue())
        write_text(self.out / f"{self.name}.md", f"# {self.name}\n\n{self.caption}\n\n{self}\n")

    def __str__(self) -> str:
        cells = [self.columns, ("---",) * len(self.columns)]
        cells += [tuple(f"{x:.4f}" if isinstance(x, float) else str(x) for x in row) for row in self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in cells)

    def __repr__(self) -> str:
        return f"<StudyTable {self.name}: {len(self.rows)} rows in {self.out}>"


def read_study_data(
    folder: str | Path | None,
    option: str,
    *,
    subset: int | None = None,
    classes: Classes = None,
    mask_values: MaskValues | None = None,
    crop_bar: CropBar = "off",
    um_per_px: float | None = None,
    gray: bool | None = None,
) -> ArrayDataset:
    """Read the images and masks of a folder with ``images`` and ``masks`` in it.

    Parameters
    ----------
    folder : path or None
        The folder.
    option : str
        Which argument it came from, for messages.
    subset : int, optional
        Only so many images, evenly spread over their names.
    classes, mask_values, crop_bar, um_per_px, gray
        As for :func:`bainite_fast.training.dataset.read_dataset`.

    Raises
    ------
    InputError
        If the folder is not given or lacks one of the two, or the subset is larger than what it holds.
    """
    if folder is None:
        raise InputError(f"this study needs {option}=DIR, a folder with images/ and masks/ in it")
    path = Path(folder)
    if not (path / "images").is_dir() or not (path / "masks").is_dir():
        raise MosaicNotFoundError(f"{path} ({option}) needs the folders images and masks in it")
    data = read_dataset(
        path / "images",
        path / "masks",
        classes=classes,
        mask_values=mask_values,
        crop_bar=crop_bar,
        um_per_px=um_per_px,
        gray=gray,
    )
    if subset is None:
        return data
    if not 1 <= subset <= len(data):
        raise InputError(f"subset={subset} is refused; {path} holds {len(data)} images")
    return data.subset(round(i * len(data) / subset) for i in range(subset))


def write_tile_summary(path: Path, sets: Mapping[str, TileSet]) -> None:
    """Write what tiled sets hold (tiles, class fractions, physical size) as Markdown, whole; a row for each by name."""
    table = summary_table([summarize(tiles) for tiles in sets.values()]).splitlines()
    names = ["set", "---", *sets]
    write_text(path, "\n".join(f"| {name} {line}" for name, line in zip(names, table, strict=True)) + "\n")


def mean_std_cells(names: Sequence[str]) -> tuple[str, ...]:
    """Return column names for means and standard deviations: ``x``, ``x ±`` of each."""
    return tuple(cell for name in names for cell in (name, f"{name} ±"))
