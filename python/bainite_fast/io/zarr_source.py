"""Mosaics stored as Zarr: OME-Zarr images, their levels, bare arrays; local, zipped or remote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from ..errors import InputError, MosaicError, MosaicNotFoundError
from ._zarr import is_url, open_array, open_store, read_node
from .axes import AxisPlan, Channel, Plane, guess_axes, plan_axes
from .mosaic import Mosaic, MosaicSpec, convert_pixels, grid_cells, output_dtype
from .ome_metadata import Multiscale, channel_names, is_colour, ome_attributes, read_multiscale


class ZarrMosaic(Mosaic):
    """An OME-Zarr 0.4 or 0.5 image, one level of it, or a bare Zarr v2 or v3 array.

    Parameters
    ----------
    location : str or pathlib.Path
        Folder, zip file or fsspec URL of the group or array.
    plane, channel, level, storage_options
        See `open_mosaic`.
    """

    def __init__(
        self,
        location: str | Path,
        *,
        plane: Plane = None,
        channel: Channel = None,
        level: int = 0,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._location = str(location)
        self._options = dict(storage_options or {})
        store, root = open_store(location, storage_options=storage_options)
        found = _find(store, root, self._location, level)
        self._path = found.path
        self._array, self._pipeline = open_array(store, found.path)
        self._plan, spec = _plan(self._array, found, plane, channel, self._location)
        self._axes = found.axes(self._array)
        self._choice = {"plane": _jsonable(plane), "channel": _jsonable(channel), "level": found.level}
        super().__init__(spec)

    # -- reading -------------------------------------------------------------------------------------------------------
    def _read_region(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        array = self._open()
        try:
            block = np.asarray(array[self._plan.selection(y0, y1, x0, x1)])
        except MemoryError:
            raise
        # Codecs raise whatever their library raises (RuntimeError, zlib.error, struct.error, …): all mean the same.
        except Exception as error:
            raise self._unreadable(array, (y0, y1, x0, x1), error) from error
        self._check_still_there()
        try:
            return convert_pixels(self._plan.arrange(block), self.dtype)
        except MosaicError as error:
            raise MosaicError(f"{self._name_place((y0, y1, x0, x1))}: {error}", place=error.place) from error

    def _unreadable(self, array: Any, region: tuple[int, int, int, int], error: Exception) -> MosaicError:
        """Find the first chunk of the region that fails, and name it."""
        cell = self.chunk_shape or self.shape
        for part in grid_cells(region, cell):
            try:
                array[self._plan.selection(*part)]
            except Exception as cause:  # noqa: PERF203  (as above: any failure of a codec or a store)
                region, error = part, cause
                break
        place = self._name_place(region)
        return MosaicError(
            f"cannot read {place}: {type(error).__name__}: {error}. The chunk is damaged or cannot be reached; "
            "restore it from a copy, or write the mosaic again",
            place=place,
        )

    def _name_place(self, region: tuple[int, int, int, int]) -> str:
        y0, y1, x0, x1 = region
        cell = self.chunk_shape or self.shape
        array = f", array {self._path!r}" if self._path else ""
        return f"{self._location}{array}, chunk {(y0 // cell[0], x0 // cell[1])}, pixels [{y0}:{y1}, {x0}:{x1}]"

    def _check_still_there(self) -> None:
        # A chunk that is absent means "fill value": a disk that is gone would read as a black image without this.
        store = self._array.store
        if isinstance(store, LocalStore):
            folder = Path(store.root) / self._path
            if not ((folder / "zarr.json").exists() or (folder / ".zarray").exists()):
                raise MosaicError(f"{folder} has vanished while it was being read", place=str(folder))

    # -- identity ------------------------------------------------------------------------------------------------------
    def fingerprint(self) -> dict[str, Any]:
        """Return location, metadata and, for local files, the times of the metadata."""
        identity: dict[str, Any] = {
            "kind": "zarr",
            "location": self._location if is_url(self._location) else str(Path(self._location).resolve()),
            "array": self._path,
            "shape": list(self.shape),
            "stored_shape": list(self._array.shape),
            "dtype": str(self._array.dtype),
            "channels": self.channels,
            **self._choice,
        }
        local = Path(self._location)
        if not is_url(self._location):
            folder = local / self._path
            files = [local] if local.is_file() else [folder / "zarr.json", folder / ".zarray"]
            stats = [file.stat() for file in files if file.exists()]
            identity["size"] = [stat.st_size for stat in stats]
            identity["mtime_ns"] = [stat.st_mtime_ns for stat in stats]
        return identity

    def describe(self) -> dict[str, Any]:
        """Return the description with what is stored: axes, chunks, shards, pipeline."""
        array = self._array
        shards = getattr(array, "shards", None)
        return {
            **super().describe(),
            "location": self._location,
            "array": self._path,
            "axes": list(self._axes),
            "stored_shape": list(array.shape),
            "stored_dtype": str(array.dtype),
            "chunks": list(array.chunks),
            "shards": None if shards is None else list(shards),
            "zarr_format": int(array.metadata.zarr_format),
            "codec_pipeline": self._pipeline,
            "pyramid_levels": self.spec.pyramid_levels,
        }

    # -- life ----------------------------------------------------------------------------------------------------------
    def _open(self) -> Any:
        if self._array is None:
            store, _ = open_store(self._location, storage_options=self._options)
            self._array, self._pipeline = open_array(store, self._path)
        return self._array

    def __getstate__(self) -> dict[str, Any]:
        # Where it arrives, another folder may be the current one.
        location = self._location if is_url(self._location) else str(Path(self._location).absolute())
        return {**self.__dict__, "_array": None, "_location": location}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


class _Found:
    """A Zarr array and the OME metadata above it."""

    def __init__(
        self,
        path: str,
        *,
        level: int = 0,
        ome: Mapping[str, Any] | None = None,
        multiscale: Multiscale | None = None,
        group: Path | None = None,
        shapes: tuple[tuple[int, ...], ...] = (),
        ours: Mapping[str, Any] | None = None,
    ) -> None:
        self.ours = ours or {}
        self.path = path
        self.level = level
        self.ome = ome or {}
        self.multiscale = multiscale
        self.group = group
        self.shapes = shapes

    def axes(self, array: Any) -> tuple[str, ...]:
        """Return the axis names: of the multiscales, else of the array, else guessed."""
        if self.multiscale is not None:
            return self.multiscale.axes
        names = getattr(array.metadata, "dimension_names", None) or array.attrs.asdict().get("_ARRAY_DIMENSIONS")
        if names and all(isinstance(name, str) for name in names) and len(names) == array.ndim:
            lower = tuple(str(name).lower() for name in names)
            if "y" in lower and "x" in lower:
                return lower
        return guess_axes(array.shape, np.dtype(array.dtype))


def _find(store: Any, root: str, location: str, level: int) -> _Found:
    node = read_node(store, root, location)
    if node is None:
        raise MosaicNotFoundError(f"{location} holds no Zarr group or array")
    if isinstance(node, zarr.Array):
        if level != 0:
            raise InputError(f"level={level} is asked for, but {location} is one array; open its group instead")
        return _find_above(store, root, location)
    ome, version = ome_attributes(node.attrs.asdict())
    if "image-label" in ome:
        raise InputError(f"{location} is a label image, not a micrograph; read it with bainite_fast.io.read_labels")
    multiscale = read_multiscale(ome, version, location)
    if multiscale is None:
        return _find_below(store, root, node, location, level)
    return _level(store, root, location, ome, multiscale, level)


def _level(store: Any, root: str, location: str, ome: Mapping[str, Any], multiscale: Multiscale, level: int) -> _Found:
    count = len(multiscale.paths)
    if not 0 <= level < count:
        raise InputError(f"level {level} is not in {location}; use 0 to {count - 1}")
    if any(path.startswith("labels/") for path in multiscale.paths):
        raise InputError(
            f"{location} holds labels only, no image of its own; read them with bainite_fast.io.read_labels"
        )
    shapes = []
    for path in multiscale.paths:
        array = read_node(store, _join(root, path), location)
        if not isinstance(array, zarr.Array) or array.ndim != len(multiscale.axes):
            raise MosaicError(
                f"{location} names the level {path!r} of axes {multiscale.axes}, and there is no such array",
                place=f"{location}/{path}",
            )
        shapes.append(tuple(array.shape))
    group = None
    if isinstance(store, LocalStore):
        group = Path(store.root) / root
    node = read_node(store, root, location)
    ours = node.attrs.asdict().get("bainite_fast") if node is not None else None
    return _Found(
        _join(root, multiscale.paths[level]),
        level=level,
        ome=ome,
        multiscale=multiscale,
        group=group,
        shapes=tuple(shapes),
        ours=ours if isinstance(ours, Mapping) else None,
    )


def _find_above(store: Any, root: str, location: str) -> _Found:
    """Look for multiscales metadata in the folder that a local level array lies in."""
    if not isinstance(store, LocalStore):
        return _Found(root)
    folder = (Path(store.root) / root).resolve()
    for parent in list(folder.parents)[:2]:
        above = read_node(LocalStore(parent, read_only=True), "", str(parent))
        if not isinstance(above, zarr.Group):
            continue
        ome, version = ome_attributes(above.attrs.asdict())
        if not ome.get("multiscales"):
            continue
        multiscale = read_multiscale(ome, version, str(parent))
        inside = folder.relative_to(parent).as_posix()
        if multiscale is None or inside not in multiscale.paths:
            continue
        if "image-label" in ome:
            raise InputError(f"{location} is a level of a label image; read it with bainite_fast.io.read_labels")
        level = multiscale.paths.index(inside)
        found = _level(LocalStore(parent, read_only=True), "", str(parent), ome, multiscale, level)
        found.path = root
        return found
    return _Found(root)


def _find_below(store: Any, root: str, node: zarr.Group, location: str, level: int) -> _Found:
    """Choose the one image inside a group without multiscales, or say what there is."""
    if not store.supports_listing:
        raise MosaicError(f"{location} is a Zarr group without multiscales metadata; give an image group or an array")
    members = dict(node.members())
    images = [name for name, member in members.items() if isinstance(member, zarr.Group) and _is_image(member)]
    if len(images) == 1:
        inner, version = ome_attributes(members[images[0]].attrs.asdict())
        path = _join(root, images[0])
        multiscale = read_multiscale(inner, version, f"{location}/{images[0]}")
        assert multiscale is not None  # noqa: S101  (what _is_image has just seen)
        return _level(store, path, f"{location}/{images[0]}", inner, multiscale, level)
    if "ebsd" in node.attrs:
        raise MosaicError(f"{location} is an EBSD scan, and no image: read it with bainite_fast.ebsd.read()")
    names = ", ".join(repr(name) for name in sorted(members)) or "nothing"
    raise MosaicError(
        f"{location} is a Zarr group without multiscales metadata that holds {names}; "
        f"give the path of one image or array, such as {location}/{min(members, default='0')}",
        place=location,
    )


def _is_image(group: zarr.Group) -> bool:
    ome, _ = ome_attributes(group.attrs.asdict())
    return bool(ome.get("multiscales")) and "image-label" not in ome


def _join(root: str, path: str) -> str:
    return f"{root}/{path}".strip("/")


def _plan(array: Any, found: _Found, plane: Plane, channel: Channel, location: str) -> tuple[AxisPlan, MosaicSpec]:
    stored = np.dtype(array.dtype)
    dtype = output_dtype(stored, location)
    axes = found.axes(array)
    size = array.shape[axes.index("c")] if "c" in axes else 1
    # Channels of an image are colours where its metadata says so; those of a bare array (…, 3) always mean it.
    colour = is_colour(found.ome, size, stored) if found.multiscale else axes[-1] == "c" and size >= 3
    plan = plan_axes(
        axes,
        array.shape,
        plane=plane,
        channel=channel,
        channel_names=channel_names(found.ome),
        colour=colour,
        name=location,
    )
    grain = getattr(array, "shards", None) or array.chunks
    shapes = tuple((shape[plan.y], shape[plan.x]) for shape in found.shapes[found.level :])
    um_per_px = None if found.multiscale is None else found.multiscale.um_per_px(found.level, location)
    name = Path(location.rstrip("/").rpartition("/")[2] or location).name
    for suffix in (".zip", ".zarr", ".ome"):
        name = name.removesuffix(suffix)
    spec = MosaicSpec(
        shape=(array.shape[plan.y], array.shape[plan.x]),
        dtype=dtype,
        name=name or "mosaic",
        channels=plan.count,
        rgb=plan.rgb,
        um_per_px=um_per_px,
        unit_source=None if um_per_px is None else "OME-Zarr scale",
        chunk_shape=(grain[plan.y], grain[plan.x]),
        offset=(0.0, 0.0) if found.multiscale is None else found.multiscale.offset(found.level),
        pixel=1.0 if found.multiscale is None else found.multiscale.pixel(found.level),
        source_group=found.group,
        ome_version=None if found.multiscale is None else found.multiscale.version,
        level_shapes=shapes,
        level_factors=_factors(found, plan),
        pyramid_levels=max(1, len(found.shapes)),
        synthetic=bool(found.ours.get("synthetic", False)),
    )
    return plan, spec


def _factors(found: _Found, plan: AxisPlan) -> tuple[float, ...]:
    """Return the downsampling factors of the levels from the opened one on, by their scales."""
    if found.multiscale is None:
        return ()
    scales = [scale[plan.y] for scale in found.multiscale.scales[found.level :]]
    return tuple(scale / scales[0] if scales[0] > 0 else float("nan") for scale in scales)


def _jsonable(choice: Any) -> Any:
    if isinstance(choice, Mapping):
        return {str(key): int(value) for key, value in choice.items()}
    if choice is None or isinstance(choice, (int, str)):
        return choice
    return list(choice)
