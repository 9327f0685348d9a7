"""Where a label image goes, and how it lies there."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr
from zarr.storage import LocalStore

from .._disk import explain_os_errors, left_by
from ..errors import InputError, MosaicError, OutputError, OutputExistsError
from ._zarr import is_url, open_array
from .files import check_group_name, consolidate, exclusive_update, is_consolidated, read_group, write_group
from .mosaic import Mosaic
from .ome_metadata import group_attributes, ome_attributes
from .shards import ArrayLayout

OME_VERSIONS = ("0.4", "0.5")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_GROUP = {"zarr.json", ".zattrs", ".zgroup"}
_SMALLEST_LOCAL_BLOCK = 256
_SMALLEST_LEVEL = 512  # no level is added below one whose longer side is this short
CONFIDENCE = "confidence"


@dataclass(frozen=True, slots=True)
class LabelLevel:
    """One level of a label pyramid.

    Parameters
    ----------
    shape : tuple of int
        Height and width.
    factor : float
        Downsampling relative to level 0.
    halvings : int or None
        How often the level before is halved by the mode of 2 × 2; None means that the nearest pixel of level 0 is
        taken, for pyramids that are no powers of two.
    block : int
        Edge of the blocks (shards) of this level.
    local : bool
        Whether a block of level 0 gives a whole block here, so that it is written with it.
    """

    shape: tuple[int, int]
    factor: float
    halvings: int | None
    block: int
    local: bool


@dataclass(frozen=True, slots=True)
class LabelLayout:
    """How labels lie on disk.

    Parameters
    ----------
    shape : tuple of int
        Height and width of level 0.
    block, chunk : int
        Edge of a block, which is what one task writes (a shard), and of the chunks in it.
    levels : tuple of LabelLevel
        The pyramid, level 0 first; as `LabelTarget.levels` gives it.
    ome_version : {"0.4", "0.5"}
        0.5 is Zarr v3 with shards, 0.4 Zarr v2 with a file per chunk.
    um_per_px : float or None
        Size of a pixel of level 0.
    classes : tuple of (str, (int, int, int))
        Name and colour of every label value, from 0.
    confidence : bool
        Whether a uint8 confidence image goes beside the labels.
    """

    shape: tuple[int, int]
    block: int
    chunk: int
    levels: tuple[LabelLevel, ...]
    ome_version: str
    um_per_px: float | None
    classes: tuple[tuple[str, tuple[int, int, int]], ...]
    confidence: bool = False

    def __post_init__(self) -> None:
        if self.ome_version not in OME_VERSIONS:
            raise InputError(f"ome_version is {self.ome_version!r}; use one of {OME_VERSIONS}")
        if self.block < 1 or self.chunk < 1 or self.block % self.chunk:
            raise InputError(f"block {self.block} is not a multiple of chunk {self.chunk}")
        if not self.levels or self.levels[0].shape != tuple(self.shape):
            raise InputError("the first level of a label pyramid has the shape of the labels")
        if not 1 <= len(self.classes) <= 256:
            raise InputError(f"{len(self.classes)} classes do not fit uint8 labels; 1 to 256 do")

    def array(self, level: int, folder: str = "") -> ArrayLayout:
        """Return the array of a level, of the labels or of the folder "confidence"."""
        one = self.levels[level]
        chunk = math.gcd(self.chunk, one.block)
        path = f"{folder}/{level}" if folder else str(level)
        return ArrayLayout(path, one.shape, (one.block,) * 2, (chunk,) * 2, "uint8", self.ome_version)

    def to_json(self) -> dict[str, Any]:
        """Return the layout as JSON-able values."""
        return {
            "shape": list(self.shape),
            "block": self.block,
            "chunk": self.chunk,
            "levels": [[list(one.shape), one.factor, one.halvings, one.block, one.local] for one in self.levels],
            "ome_version": self.ome_version,
            "um_per_px": self.um_per_px,
            "classes": [[name, list(colour)] for name, colour in self.classes],
            "confidence": self.confidence,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> LabelLayout:
        """Return the layout that `to_json` wrote."""
        levels = tuple(
            LabelLevel((shape[0], shape[1]), factor, halvings, block, local)
            for shape, factor, halvings, block, local in value["levels"]
        )
        classes = tuple((str(name), (int(c[0]), int(c[1]), int(c[2]))) for name, c in value["classes"])
        shape = (int(value["shape"][0]), int(value["shape"][1]))
        return cls(
            shape, value["block"], value["chunk"], levels, value["ome_version"], value["um_per_px"], classes,
            value["confidence"],
        )  # fmt: skip


def plan_levels(
    shape: tuple[int, int],
    block: int,
    *,
    factors: Sequence[float] = (),
    shapes: Sequence[tuple[int, int]] = (),
    count: int | None = None,
) -> tuple[LabelLevel, ...]:
    """Return the levels of a label pyramid.

    Parameters
    ----------
    shape : tuple of int
        Height and width of level 0.
    block : int
        Edge of a block of level 0.
    factors, shapes : sequence
        Pyramid of the image to follow, level 0 first; halving where they end.
    count : int, optional
        Number of levels; default until the longer side is at most 512 px.
    """
    levels = [LabelLevel(shape, 1.0, 0, block, True)]
    exact = shape  # what halving with rounding up gives
    while len(levels) < count if count is not None else max(levels[-1].shape) > _SMALLEST_LEVEL:
        index, last = len(levels), levels[-1]
        factor = float(factors[index]) if index < len(factors) else last.factor * 2
        # Scales are written by programs that round: 1.9998 is two.
        halvings = round(math.log2(factor / last.factor)) if factor > last.factor else 0
        regular = halvings > 0 and math.isclose(factor, last.factor * 2**halvings, rel_tol=1e-2)
        if regular and last.halvings is not None:
            factor = last.factor * 2**halvings
            exact = (-(-exact[0] // 2**halvings), -(-exact[1] // 2**halvings))
        wanted = shapes[index] if index < len(shapes) else _shrunk(shape, factor)
        fits = (
            regular and last.halvings is not None and all(0 <= a - b <= 1 for a, b in zip(exact, wanted, strict=True))
        )
        small = block // round(factor) if fits else 0
        local = bool(fits and last.local and small >= _SMALLEST_LOCAL_BLOCK and block % round(factor) == 0)
        levels.append(LabelLevel(wanted, factor, halvings if fits else None, small if local else block, local))
        exact = wanted if fits else exact
    return tuple(levels)


def _shrunk(shape: tuple[int, int], factor: float) -> tuple[int, int]:
    return max(1, math.ceil(shape[0] / factor)), max(1, math.ceil(shape[1] / factor))


@dataclass(frozen=True, slots=True)
class LabelTarget:
    """A place for one label image inside an OME-Zarr group on a local disk.

    Parameters
    ----------
    container : pathlib.Path
        The OME-Zarr group.
    name : str
        Name of the labels.
    ome_version : {"0.4", "0.5"}
        Version of the container.
    mosaic : Mosaic
        What is labelled.
    overwrite : bool
        Whether a finished result may be replaced (once the new one is complete).
    """

    container: Path
    name: str
    ome_version: str
    mosaic: Mosaic
    overwrite: bool = False

    @property
    def path(self) -> Path:
        """The label group, once it is finished."""
        return self.container / "labels" / self.name

    @property
    def partial_dir(self) -> Path:
        """The label group while it is written, with its journal and lock."""
        return self.container / "labels" / f"{self.name}.partial"

    @classmethod
    def resolve(
        cls,
        mosaic: Mosaic,
        out: str | Path | None = None,
        *,
        name: str = "phases",
        ome_version: str | None = None,
        overwrite: bool = False,
        repair: bool = True,
    ) -> LabelTarget:
        """Decide where the labels of a mosaic go; nothing new is written.

        Parameters
        ----------
        mosaic : Mosaic
            What is labelled.
        out : path, optional
            OME-Zarr group to write into or to create. Default: the mosaic's own group where it is a local OME-Zarr
            image, else `<stem>.ome.zarr` beside the file, or in the working folder for arrays and URLs.
        name : str
            Name of the labels: letters, digits, ".", "_", "-".
        ome_version : {"0.4", "0.5"}, optional
            Default: that of the group, 0.5 for a new one.
        overwrite : bool
            Whether a finished result of this name may be replaced.
        repair : bool
            Whether a result that was complete when its writer was killed between moving it into place and listing it in
            the group is listed now.

        Raises
        ------
        InputError
            If the name or version is not possible, or the group belongs to another image.
        OutputError
            If `out` is a URL, the name of a picture, or no OME-Zarr group.
        OutputExistsError
            If there are labels of this name and `overwrite` is False.
        """
        if not _NAME.fullmatch(name) or name.endswith((".partial", ".replaced")):
            raise InputError(f"{name!r} cannot name labels; use letters, digits, '.', '_' and '-', such as 'phases'")
        if ome_version not in (None, *OME_VERSIONS):
            raise InputError(f"ome_version is {ome_version!r}; use one of {OME_VERSIONS}")
        container = _container(mosaic, out)
        version = _container_version(container, ome_version, mosaic)
        target = cls(container, name, version, mosaic, overwrite)
        if repair:
            target._list_if_unlisted()
        target.check_free()
        return target

    def check_free(self) -> None:
        """Refuse a place where finished labels are, unless they may be replaced.

        Raises
        ------
        OutputExistsError
            With the remedy.
        """
        if self.path.exists() and not self.overwrite:
            what = f"{self.path} exists{self._made_from()}"
            raise OutputExistsError(f"{what}; choose another name or out, or overwrite it (overwrite=True)")

    def _made_from(self) -> str:
        """Say of which image the labels there are, where they say so and it is not this one."""
        with contextlib.suppress(MosaicError):
            group = read_group(self.path)
            said = {} if group is None else group[0].get("bainite_fast")
            source = said.get("input", {}).get("path") if isinstance(said, dict) else None
            if source and source != self.mosaic.fingerprint().get("path"):
                return f", with the labels of {source}"
        return ""

    def levels(self, shape: tuple[int, int], block: int) -> tuple[LabelLevel, ...]:
        """Return the pyramid for labels of this shape: as many levels as the image has, at its factors."""
        spec = self.mosaic.spec
        if _is_own_group(self.container, self.mosaic):
            shapes = spec.level_shapes if spec.level_shapes and spec.level_shapes[0] == shape else ()
            return plan_levels(shape, block, factors=spec.level_factors, shapes=shapes, count=spec.pyramid_levels)
        existing = read_group(self.container)
        ome = {} if existing is None else ome_attributes(existing[0])[0]
        if has_own_image(ome):
            return plan_levels(shape, block, count=len(ome["multiscales"][0]["datasets"]))
        return plan_levels(shape, block)

    def make_partial(self) -> None:
        """Create the container if it is new, and the folder of the unfinished labels."""
        with explain_os_errors(self.partial_dir, "the output"):
            self.container.mkdir(parents=True, exist_ok=True)
            with exclusive_update(self.container):
                if read_group(self.container) is None:
                    write_group(self.container, group_attributes({}, self.ome_version), self.ome_version)
                if read_group(self.container / "labels") is None:
                    empty = group_attributes({"labels": []}, self.ome_version)
                    write_group(self.container / "labels", empty, self.ome_version)
            # Last: a folder that holds anything else than the groups is taken for somebody's.
            self.partial_dir.mkdir(parents=True, exist_ok=True)

    def open_result(self) -> tuple[zarr.Array[Any], zarr.Array[Any] | None]:
        """Return the finished labels at full resolution, and the confidence where there is one."""
        labels = open_array(LocalStore(self.path, read_only=True), "0")[0]
        if not (self.path / CONFIDENCE).is_dir():
            return labels, None
        return labels, open_array(LocalStore(self.path, read_only=True), f"{CONFIDENCE}/0")[0]

    # -- the lists of the container ------------------------------------------------------------------------------------
    def list_labels(self) -> None:
        """Enter the finished labels into the group of labels and, without an image, into the root."""
        with exclusive_update(self.container):
            finished = read_group(self.path)
            assert finished is not None  # noqa: S101  (called for labels whose metadata is written)
            entry = ome_attributes(finished[0])[0]["multiscales"][0]
            root = read_group(self.container)
            attributes = {} if root is None else root[0]
            ome = dict(ome_attributes(attributes)[0])
            if not has_own_image(ome):
                prefix = f"labels/{self.name}/"
                kept = [one for one in ome.get("multiscales", []) if one.get("name") != self.name]
                data = [{**one, "path": prefix + one["path"]} for one in entry["datasets"]]
                self._replace_ome(
                    self.container,
                    attributes,
                    {**ome, "multiscales": [*kept, {**entry, "name": self.name, "datasets": data}]},
                )
            # Last: labels that are not in this list are entered again, into both.
            labels = read_group(self.container / "labels")
            attributes = {} if labels is None else labels[0]
            ome = dict(ome_attributes(attributes)[0])
            names = [one for one in ome.get("labels", []) if one != self.name]
            self._replace_ome(self.container / "labels", attributes, {**ome, "labels": [*names, self.name]})
            if is_consolidated(self.container):
                consolidate(self.container)

    def _replace_ome(self, folder: Path, attributes: dict[str, Any], ome: dict[str, Any]) -> None:
        if self.ome_version == "0.5":
            write_group(folder, {**attributes, **group_attributes(ome, "0.5")}, "0.5")
        else:
            write_group(folder, {**attributes, **ome}, "0.4")

    def _list_if_unlisted(self) -> None:
        labels = read_group(self.container / "labels") if self.path.is_dir() else None
        finished = read_group(self.path) if labels is not None else None
        if labels is None or finished is None:
            return
        ours = finished[0].get("bainite_fast")
        if self.name not in ome_attributes(labels[0])[0].get("labels", []) and isinstance(ours, dict):
            with contextlib.suppress(OutputError):  # on a read-only disk the result can be read all the same
                self.list_labels()


def has_own_image(ome: dict[str, Any]) -> bool:
    """Return whether a group's multiscales are an image, and not just the labels inside it."""
    entries = ome.get("multiscales") or []
    try:
        return bool(entries) and not str(entries[0]["datasets"][0]["path"]).startswith("labels/")
    except (KeyError, IndexError, TypeError):
        return True  # whoever opens it says how it is broken


def _is_own_group(container: Path, mosaic: Mosaic) -> bool:
    group = mosaic.source_group
    return group is not None and container.resolve() == group.resolve()


def _container(mosaic: Mosaic, out: str | Path | None) -> Path:
    if out is None:
        if mosaic.source_group is not None:
            return mosaic.source_group
        location = mosaic.describe().get("location")
        folder = Path.cwd() if location is None or is_url(location) else Path(location).parent
        return folder / f"{mosaic.name}.ome.zarr"
    if is_url(out):
        raise OutputError(
            f"{out}: labels are written to local disks only; give a folder as out, and copy it afterwards"
        )
    if not str(out):
        raise InputError("out is empty; give the OME-Zarr folder to write, such as mosaic.ome.zarr")
    check_group_name(Path(out))
    return Path(out)


def _container_version(container: Path, asked: str | None, mosaic: Mosaic) -> str:
    if not container.exists():
        return asked or "0.5"
    if not container.is_dir():
        raise OutputError(
            f"{container} is a file; labels go into an OME-Zarr folder, such as {container.stem}.ome.zarr"
        )
    try:
        group = read_group(container)
    except MosaicError as error:
        raise OutputError(f"{container} cannot take labels: {error}") from error
    if group is None:
        if any(not {left_by(entry.name), entry.name} & _GROUP for entry in container.iterdir()):
            raise OutputError(f"{container} is a folder that is no Zarr group; give another out")
        return asked or "0.5"
    attributes, by_format = group
    ome, version = ome_attributes(attributes)
    version = version or by_format
    if version not in OME_VERSIONS:
        raise OutputError(f"{container} is OME-Zarr {version}; labels are written into 0.4 and 0.5. Give another out")
    if asked not in (None, version):
        raise InputError(f"{container} is OME-Zarr {version} and takes labels of that version only, not {asked}")
    if not _is_own_group(container, mosaic) and has_own_image(ome):
        _check_same_image(container, ome, mosaic)
    return version


def _check_same_image(container: Path, ome: dict[str, Any], mosaic: Mosaic) -> None:
    try:
        path = ome["multiscales"][0]["datasets"][0]["path"]
        array, _ = open_array(LocalStore(container, read_only=True), path)
    except (KeyError, IndexError, TypeError, FileNotFoundError, MosaicError) as error:
        raise OutputError(f"{container} holds a broken image ({error!r}), beside which no labels go") from error
    if tuple(array.shape[-2:]) != mosaic.shape:
        raise InputError(
            f"{container} holds an image of {array.shape[-2]} × {array.shape[-1]} px and the mosaic has "
            f"{mosaic.shape[0]} × {mosaic.shape[1]}; labels go beside their own image. Give another out"
        )
