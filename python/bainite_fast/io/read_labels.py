"""Reading finished label images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from ..errors import InputError, MosaicError, MosaicNotFoundError
from ._zarr import open_array
from .files import read_group
from .labels import CONFIDENCE
from .ome_metadata import Multiscale, ome_attributes, read_multiscale


@dataclass(frozen=True, slots=True)
class LabelClass:
    """One class of a label image: its value, name and colour (red, green, blue)."""

    value: int
    name: str
    colour: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class LabelImage:
    """A finished label image.

    Parameters
    ----------
    path : pathlib.Path
        The label group.
    name : str
        Its name.
    levels : tuple of zarr.Array
        The pyramid, full resolution first; [y, x] integers.
    classes : tuple of LabelClass
        By value.
    um_per_px : float or None
        Size of a pixel.
    provenance : dict
        What made the labels; empty for labels of other programs.
    confidence : zarr.Array or None
        uint8, 255 is certain.
    """

    path: Path
    name: str
    levels: tuple[Any, ...]
    classes: tuple[LabelClass, ...]
    um_per_px: float | None
    provenance: dict[str, Any]
    confidence: Any = None

    @property
    def labels(self) -> zarr.Array[Any]:
        """The labels at full resolution."""
        return self.levels[0]  # type: ignore[no-any-return]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.labels.shape[0]), int(self.labels.shape[1])

    def read(self, y0: int, y1: int, x0: int, x1: int, *, level: int = 0) -> NDArray[Any]:
        """Return the labels of a region of a level of the pyramid.

        Raises
        ------
        MosaicError
            If a chunk is damaged; `place` names it.
        """
        try:
            return np.asarray(self.levels[level][y0:y1, x0:x1])
        # As for mosaics: codecs raise whatever their library raises, and all of it means a damaged chunk.
        except Exception as error:
            place = f"{self.path}, level {level}, pixels [{y0}:{y1}, {x0}:{x1}]"
            raise MosaicError(f"cannot read {place}: {type(error).__name__}: {error}", place=place) from error

    def __repr__(self) -> str:
        height, width = self.shape
        names = ", ".join(one.name for one in self.classes) or "no names"
        return f"<LabelImage {self.name}: {height} × {width} px, {len(self.levels)} levels, {names}>"


def image_group(path: Path) -> Path:
    """Return the group whose image `open_mosaic` reads at a local OME-Zarr: the path, or the one image inside.

    bioformats2raw writes the images of a file as groups 0, 1, … of a group that is no image itself.
    """
    ome = _ome(path)
    if ome is None or (path / "labels").is_dir() or ome.get("multiscales"):
        return path
    inside = [one for one in path.iterdir() if one.is_dir() and _is_image(_ome(one) or {})]
    return inside[0] if len(inside) == 1 else path


def _is_image(ome: dict[str, Any]) -> bool:
    return bool(ome.get("multiscales")) and "image-label" not in ome


def _ome(folder: Path) -> dict[str, Any] | None:
    """Return the OME attributes of a group, None of anything else."""
    try:
        group = read_group(folder)
    except MosaicError:  # an array
        return None
    return None if group is None else ome_attributes(group[0])[0]


def label_names(group: Path) -> tuple[str, ...]:
    """Return the names of the finished labels of a local OME-Zarr group, or of the one image inside."""
    found = read_group(image_group(group) / "labels")
    names = () if found is None else ome_attributes(found[0])[0].get("labels", ())
    if not isinstance(names, (list, tuple)):
        raise _broken(group / "labels", f"labels is {names!r}, and not a list of names")
    return tuple(str(name) for name in names)


def read_labels(source: str | Path, name: str | None = None) -> LabelImage:
    """Open a finished label image.

    Parameters
    ----------
    source : path
        The label group (``…/labels/<name>``) or the OME-Zarr group that holds it.
    name : str, optional
        Which labels of an OME-Zarr group; may be left out where there is one.

    Returns
    -------
    LabelImage
        Arrays, classes, pixel size and provenance.

    Raises
    ------
    MosaicNotFoundError
        If there is no such group or no such labels.
    MosaicError
        If the labels are damaged.
    InputError
        If there are several labels and none is named, or another is named than `source` is.
    """
    path = Path(source)
    group = read_group(path) if path.is_dir() else None
    if group is None:
        raise MosaicNotFoundError(f"{path} is no OME-Zarr group; give the group, or its labels/<name>")
    if "image-label" not in ome_attributes(group[0])[0]:
        path = image_group(path)
        path = path / "labels" / _choose(path, name)
        group = read_group(path)
        if group is None:
            raise MosaicError(f"{path} is listed and is not there", place=str(path))
    elif name not in (None, path.resolve().name):
        raise InputError(
            f"{path} is a label image itself, and not {name!r}; give the group that holds both, or no name"
        )
    return _open(path, group[0])


def _choose(path: Path, name: str | None) -> str:
    names = label_names(path)
    if name is not None:
        if name in names:
            return name
        unfinished = (path / "labels" / f"{name}.partial").is_dir()
        hint = (
            "they are unfinished: run the segmentation again to complete them" if unfinished else f"has {list(names)}"
        )
        raise MosaicNotFoundError(f"{path} has no labels {name!r}; {hint}")
    if len(names) == 1:
        return names[0]
    if not names:
        raise MosaicNotFoundError(f"{path} has no finished labels")
    raise InputError(f"{path} has the labels {list(names)}; choose one (name=<labels>)")


def _open(path: Path, attributes: dict[str, Any]) -> LabelImage:
    ome, version = ome_attributes(attributes)
    multiscale = read_multiscale(ome, version, str(path))
    if multiscale is None or multiscale.axes[-2:] != ("y", "x") or len(multiscale.axes) != 2:
        raise MosaicError(f"{path} is no label image of the axes (y, x)", place=str(path))
    levels = tuple(_level(path, one) for one in multiscale.paths)
    provenance = attributes.get("bainite_fast")
    return LabelImage(
        path=path,
        name=path.name,
        levels=levels,
        classes=_classes(ome.get("image-label") or {}, path),
        um_per_px=_um(multiscale, path),
        provenance=dict(provenance) if isinstance(provenance, Mapping) else {},
        confidence=_level(path, f"{CONFIDENCE}/0") if (path / CONFIDENCE).is_dir() else None,
    )


def _um(multiscale: Multiscale, path: Path) -> float | None:
    return multiscale.um_per_px(0, str(path))


def _level(path: Path, name: str) -> Any:
    place = f"{path}/{name}"
    try:
        array, _ = open_array(LocalStore(path, read_only=True), name)
    except FileNotFoundError as error:
        raise MosaicError(f"{path} lacks a level that its metadata names ({error})", place=place) from error
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "iu":
        raise MosaicError(f"{place} is {array.dtype} of shape {array.shape}, and no labels (y, x)", place=place)
    return array


def _classes(block: Mapping[str, Any], path: Path) -> tuple[LabelClass, ...]:
    try:
        names = {int(one["label-value"]): one.get("class") for one in block.get("properties") or ()}
        colours = {int(one["label-value"]): one.get("rgba") for one in block.get("colors") or ()}
        classes = []
        for value in sorted({*names, *colours}):
            red, green, blue = (int(part) for part in (colours.get(value) or (128, 128, 128))[:3])
            if not all(0 <= part <= 255 for part in (red, green, blue)):
                raise ValueError(f"a colour of {(red, green, blue)}")
            name = names.get(value)
            classes.append(LabelClass(value, str(value) if name is None else str(name), (red, green, blue)))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _broken(path, f"image-label: {error!r}") from error
    return tuple(classes)


def _broken(path: Path, what: str) -> MosaicError:
    return MosaicError(f"{path} has labels metadata that breaks the OME-Zarr specification ({what})", place=str(path))
