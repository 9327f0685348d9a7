"""OME-Zarr metadata, 0.4 and 0.5: reading multiscales, writing images and labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import MosaicError

# Factors to µm of the unit names that OME-Zarr allows for space (UDUNITS-2 names), as far as microscopes use them.
UM_PER_UNIT = {
    "angstrom": 1e-4,
    "picometer": 1e-6,
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "decimeter": 1e5,
    "meter": 1e6,
    "inch": 25400.0,
}
ANISOTROPY_LIMIT = 0.01


@dataclass(frozen=True, slots=True)
class Multiscale:
    """One multiscales entry.

    Parameters
    ----------
    version : str
        "0.4" or "0.5".
    axes : tuple of str
        Axis names, lower case.
    units : tuple of (str or None)
        Unit of every axis.
    paths : tuple of str
        Path of every level, relative to the group.
    scales : tuple of tuple of float
        Scale of every level and axis, the common transformation included.
    translations : tuple of tuple of float
        Where pixel 0 of every level lies on every axis, likewise.
    name : str or None
        Name of the image.
    """

    version: str
    axes: tuple[str, ...]
    units: tuple[str | None, ...]
    paths: tuple[str, ...]
    scales: tuple[tuple[float, ...], ...]
    translations: tuple[tuple[float, ...], ...]
    name: str | None = None

    def offset(self, level: int) -> tuple[float, float]:
        """Return (y, x) of pixel (0, 0) of a level, in pixels of that level."""
        y, x = (
            self.translations[level][axis] / self.scales[level][axis] if self.scales[level][axis] > 0 else 0.0
            for axis in (self.axes.index("y"), self.axes.index("x"))
        )
        return (y, x) if math.isfinite(y) and math.isfinite(x) else (0.0, 0.0)

    def pixel(self, level: int) -> float:
        """Return the edge of a pixel of a level on the scale of the file, whatever its unit is; 1 where it has none."""
        y, x = (self.scales[level][self.axes.index(axis)] for axis in ("y", "x"))
        same = math.isfinite(y) and y > 0 and abs(y - x) <= ANISOTROPY_LIMIT * y
        return (y + x) / 2 if same else 1.0

    def um_per_px(self, level: int, place: str) -> float | None:
        """Return the size of a pixel of a level in µm; None where the file gives no unit.

        Raises
        ------
        MosaicError
            If pixels are more than 1 % longer one way than the other.
        """
        sizes = []
        for axis in ("y", "x"):
            position = self.axes.index(axis)
            unit = self.units[position]
            if unit is None or unit not in UM_PER_UNIT:
                return None
            sizes.append(self.scales[level][position] * UM_PER_UNIT[unit])
        return square_pixel(sizes[0], sizes[1], place)


def square_pixel(y: float, x: float, place: str) -> float | None:
    """Return the mean edge of a pixel in µm, None where the sizes are not positive numbers.

    Raises
    ------
    MosaicError
        If height and width differ by more than 1 %.
    """
    if not (math.isfinite(y) and math.isfinite(x) and y > 0 and x > 0):
        return None
    if abs(y - x) > ANISOTROPY_LIMIT * max(y, x):
        raise MosaicError(
            f"{place} has pixels of {y:.6g} × {x:.6g} µm (height × width); square pixels within 1 % are needed. "
            "Resample the image, or correct its pixel size",
            place=place,
        )
    return (y + x) / 2


def ome_attributes(attributes: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Return the OME part of a group's attributes and the version it was written in."""
    if isinstance(attributes.get("ome"), Mapping):
        ome = dict(attributes["ome"])
        return ome, str(ome.get("version", "0.5"))
    multiscales = attributes.get("multiscales")
    if isinstance(multiscales, Sequence) and multiscales and isinstance(multiscales[0], Mapping):
        return dict(attributes), str(multiscales[0].get("version", "0.4"))
    return dict(attributes), None


def read_multiscale(ome: Mapping[str, Any], version: str | None, place: str) -> Multiscale | None:
    """Return the first multiscales entry of a group's OME attributes; None where there is none.

    Raises
    ------
    MosaicError
        If the metadata breaks the specification, or is of a version that is not read (0.4 and 0.5 are).
    """
    entries = ome.get("multiscales")
    if not entries:
        return None
    if version not in ("0.4", "0.5"):
        raise MosaicError(
            f"{place} is OME-Zarr {version}; versions 0.4 and 0.5 are read. Convert it, or open a level's array",
            place=place,
        )
    try:
        entry = entries[0]
        axes = tuple(str(axis["name"]).lower() for axis in entry["axes"])
        units = tuple(axis.get("unit") for axis in entry["axes"])
        common = entry.get("coordinateTransformations", ())
        placed = [_place([*data["coordinateTransformations"], *common], len(axes)) for data in entry["datasets"]]
        paths = tuple(str(data["path"]) for data in entry["datasets"])
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise MosaicError(
            f"{place} has multiscales metadata that breaks the OME-Zarr specification ({error!r})", place=place
        ) from error
    if not paths:
        raise MosaicError(f"{place} has multiscales metadata without datasets", place=place)
    scales, translations = tuple(scale for scale, _ in placed), tuple(translation for _, translation in placed)
    return Multiscale(version, axes, units, paths, scales, translations, entry.get("name"))


def _place(transformations: Sequence[Mapping[str, Any]], ndim: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return scale and translation of transformations that are applied one after another."""
    scale, translation = [1.0] * ndim, [0.0] * ndim
    for transformation in transformations:
        kind = transformation.get("type")
        if kind not in ("scale", "translation"):
            continue
        values = [float(value) for value in transformation[kind]]
        if len(values) != ndim:
            raise ValueError(f"a {kind} of {len(values)} values for {ndim} axes")
        if kind == "scale":
            scale = [a * b for a, b in zip(scale, values, strict=True)]
            translation = [a * b for a, b in zip(translation, values, strict=True)]
        else:
            translation = [a + b for a, b in zip(translation, values, strict=True)]
    return tuple(scale), tuple(translation)


def channel_names(ome: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the labels of the channels that the `omero` block gives."""
    channels = _omero_channels(ome)
    return tuple(str(channel.get("label", index)) for index, channel in enumerate(channels))


def is_colour(ome: Mapping[str, Any], channels: int, dtype: Any) -> bool:
    """Return whether channels are red, green and blue.

    They are when `omero` colours them so, in this order; or when there are three of uint8 and no `omero` block says
    anything about them (which is how colour pictures are usually converted).
    """
    declared = _omero_channels(ome)
    if not declared:
        return channels == 3 and str(dtype) == "uint8"
    colours = [str(channel.get("color", "")).upper() for channel in declared]
    return channels == 3 and colours == ["FF0000", "00FF00", "0000FF"]


def _omero_channels(ome: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    omero = ome.get("omero")
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    return [channel for channel in channels or () if isinstance(channel, Mapping)]


# -- writing -----------------------------------------------------------------------------------------------------------
def write_multiscale(
    name: str,
    paths: Sequence[str],
    factors: Sequence[float],
    *,
    um_per_px: float | None,
    version: str,
    kind: str,
    metadata: Mapping[str, Any],
    colour: bool = False,
    origin: tuple[float, float] = (0, 0),
    pixel: float = 1.0,
) -> dict[str, Any]:
    """Return one multiscales entry.

    Parameters
    ----------
    name : str
        Name of the image.
    paths, factors : sequence
        Path and downsampling factor of every level.
    um_per_px : float or None
        Size of a pixel of level 0.
    version : {"0.4", "0.5"}
        OME-Zarr version.
    kind : str
        Downsampling method, such as "mode" or "mean".
    metadata : mapping
        Details of the method.
    colour : bool
        Whether there is a leading channel axis.
    origin : tuple of float
        Row and column at which this one begins, in pixels of level 0.
    pixel : float
        Edge of a pixel of level 0 on a scale without unit, where `um_per_px` does not say it.

    Returns
    -------
    dict
        The entry. The centre of pixel (0, 0) of a level of factor f lies (f − 1)/2 pixels of level 0 inside: that half
        a pixel is the translation.
    """
    unit = {} if um_per_px is None else {"unit": "micrometer"}
    pixel = pixel if um_per_px is None else float(um_per_px)
    lead = [1.0] if colour else []
    none = [0.0] if colour else []
    datasets = [
        {
            "path": path,
            "coordinateTransformations": [
                {"type": "scale", "scale": [*lead, pixel * factor, pixel * factor]},
                {
                    "type": "translation",
                    "translation": [*none, *(pixel * (start + (factor - 1) / 2) for start in origin)],
                },
            ],
        }
        for path, factor in zip(paths, factors, strict=True)
    ]
    axes = [*([{"name": "c", "type": "channel"}] if colour else [])]
    axes += [{"name": axis, "type": "space", **unit} for axis in ("y", "x")]
    entry = {"name": name, "axes": axes, "datasets": datasets, "type": kind, "metadata": dict(metadata)}
    return {"version": "0.4", **entry} if version == "0.4" else entry


def group_attributes(ome: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Wrap OME attributes as a group of this version stores them."""
    return {"ome": {"version": "0.5", **ome}} if version == "0.5" else dict(ome)


def rgb_omero(dtype_max: float) -> dict[str, Any]:
    """Return the `omero` block that says: three channels, red, green and blue."""
    window = {"min": 0, "max": dtype_max, "start": 0, "end": dtype_max}
    channels = [
        {"label": label, "color": colour, "active": True, "window": dict(window)}
        for label, colour in (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"))
    ]
    return {"channels": channels, "rdefs": {"model": "color"}}


def image_label(values: Sequence[tuple[int, str, tuple[int, int, int]]], version: str) -> dict[str, Any]:
    """Return the `image-label` block: a colour and a name for the same set of values, and the image they belong to."""
    block = {
        "colors": [{"label-value": value, "rgba": [*colour, 255]} for value, _, colour in values],
        "properties": [{"label-value": value, "class": name} for value, name, _ in values],
        "source": {"image": "../../"},
    }
    return {"version": "0.4", **block} if version == "0.4" else block
