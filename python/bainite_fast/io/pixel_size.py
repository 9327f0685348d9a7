"""The size of a pixel in µm, from everything that microscopes and programs write into TIFF files."""

from __future__ import annotations

import math
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from typing import Any

from ..errors import BainiteWarning, InputError, MosaicError
from .ome_metadata import square_pixel

_UM = {
    "m": 1e6,
    "meter": 1e6,
    "metre": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "millimeter": 1e3,
    "um": 1.0,
    "µm": 1.0,
    "μm": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "pm": 1e-6,
    "å": 1e-4,
    "angstrom": 1e-4,
    "inch": 25400.0,
    "in": 25400.0,
    "°m": 1.0,  # how a Latin-1 µm comes out of some Zeiss files
}

SCALE_TOLERANCE = 0.02  # within which two scales are the same
_PLAUSIBLE = (1e-5, 5.0)  # µm per px, from atomic resolution to the weakest objective


def check_pixel_size(um_per_px: float | None) -> None:
    """Refuse a size of a pixel that is not positive, and doubt one that no microscope has.

    Raises
    ------
    InputError
        If it is zero, negative, infinite or NaN.

    Warns
    -----
    BainiteWarning
        If it is below 10⁻⁵ or above 5 µm: the unit may be another.
    """
    if um_per_px is None:
        return
    if not (math.isfinite(um_per_px) and um_per_px > 0):
        raise InputError(f"um_per_px={um_per_px!r} is no size of a pixel; give a positive number of µm")
    least, most = _PLAUSIBLE
    if not least <= um_per_px <= most:
        warnings.warn(
            f"a pixel of {um_per_px:.6g} µm is {'smaller' if um_per_px < least else 'larger'} than that of any "
            "micrograph; were other units meant? (1000 nm are 1 µm)",
            BainiteWarning,
            stacklevel=4,
        )


_TIFF_UNITS = {2: 25400.0, 3: 10000.0}  # µm of an inch and of a cm, by ResolutionUnit

# Resolutions that programs write when they know none: screen and printing defaults, in dots per inch.
_DEFAULT_DPI = (1.0, 72.0, 90.0, 96.0, 100.0, 120.0, 144.0, 150.0, 200.0, 240.0, 300.0, 350.0, 400.0, 600.0)


def unit_in_um(unit: str | None) -> float | None:
    r"""Return how many µm a unit of length is; None for pixels and unknown units.

    ImageJ writes µm as ``\u00B5m``, ``um`` or ``micron``.
    """
    if not unit:
        return None
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), str(unit)).strip()
    return _UM.get(text.lower())


def tiff_pixel_size(tiff: Any, place: str) -> tuple[float, str] | None:
    """Return (µm per pixel, where it was found) of an open ``tifffile.TiffFile``.

    Looked for in this order, from the explicit to the general: OME-XML, ImageJ, Zeiss SEM, FEI/Thermo, resolution tags.

    Parameters
    ----------
    tiff : tifffile.TiffFile
        The open file.
    place : str
        Name of the file, for messages.

    Raises
    ------
    MosaicError
        If pixels are more than 1 % longer one way than the other.
    """
    for source, look in (
        ("OME-TIFF PhysicalSizeX", _ome),
        ("ImageJ resolution and unit", _imagej),
        ("Zeiss SEM tag", _zeiss),
        ("FEI/Thermo tag", _fei),
        ("TIFF XResolution", _resolution),
    ):
        size = look(tiff)
        if size is not None:
            square = square_pixel(size[0], size[1], place)
            if square is not None:
                return square, source
    return None


def _ome(tiff: Any) -> tuple[float, float] | None:
    if not tiff.is_ome or not tiff.ome_metadata:
        return None
    try:
        root = ElementTree.fromstring(tiff.ome_metadata)  # noqa: S314  (a local file that the user opens)
    except ElementTree.ParseError as error:
        raise MosaicError(f"{tiff.filename} has OME-XML that cannot be parsed ({error})") from error
    for element in root.iter():
        if element.tag.rpartition("}")[2] == "Pixels":
            sizes = []
            for axis in ("Y", "X"):
                given = axis if element.get(f"PhysicalSize{axis}") else "X"
                value = element.get(f"PhysicalSize{given}")
                factor = unit_in_um(element.get(f"PhysicalSize{given}Unit") or "µm")
                if value is None or factor is None:
                    return None
                try:
                    sizes.append(float(value) * factor)
                except ValueError as error:
                    raise MosaicError(
                        f"{tiff.filename} has OME-XML with PhysicalSize{given}={value!r}, which is no number"
                    ) from error
            return sizes[0], sizes[1]
    return None


def _imagej(tiff: Any) -> tuple[float, float] | None:
    metadata = tiff.imagej_metadata
    factor = unit_in_um(metadata.get("unit")) if metadata else None
    if factor is None:
        return None
    density = _density(tiff)
    # ImageJ hands on what the file that it opened says in inches or cm; other units were set by hand.
    if density is None or (factor in _TIFF_UNITS.values() and _is_default(density, factor)):
        return None
    return factor / density[0], factor / density[1]


def _zeiss(tiff: Any) -> tuple[float, float] | None:
    metadata = tiff.sem_metadata
    if not metadata:
        return None
    # The image's own pixel size comes first: "Pixel Size" is that of the scan, and they differ in a scaled picture.
    for key in ("ap_image_pixel_size", "ap_pixel_size"):
        entry = metadata.get(key)
        if isinstance(entry, (tuple, list)) and len(entry) >= 3:
            factor = unit_in_um(str(entry[2]))
            if factor is not None and isinstance(entry[1], (int, float)):
                return float(entry[1]) * factor, float(entry[1]) * factor
    # Older files: the fourth of the unnamed values is the size in metres, if it can be that of a microscope.
    unnamed = metadata.get("", ())
    if len(unnamed) > 3 and isinstance(unnamed[3], float) and 1e-12 < unnamed[3] < 1e-3:
        return unnamed[3] * 1e6, unnamed[3] * 1e6
    return None


def _fei(tiff: Any) -> tuple[float, float] | None:
    metadata = tiff.fei_metadata
    if not metadata:
        return None
    sections = [metadata.get(name) for name in ("Scan", "EScan", "IScan", "EBeam", "Image")]
    for section in [*sections, *metadata.values()]:
        if isinstance(section, Mapping):
            width, height = section.get("PixelWidth"), section.get("PixelHeight")
            if isinstance(width, (int, float)) and width > 0:
                height = height if isinstance(height, (int, float)) and height > 0 else width
                return float(height) * 1e6, float(width) * 1e6  # metres
    return None


def _resolution(tiff: Any) -> tuple[float, float] | None:
    tag = tiff.pages.first.tags.get("ResolutionUnit")
    unit = 2 if tag is None else int(tag.value)
    um = _TIFF_UNITS.get(unit)
    density = _density(tiff)
    if um is None or density is None:
        return None
    return None if _is_default(density, um) else (um / density[0], um / density[1])


def _is_default(density: tuple[float, float], um: float) -> bool:
    """Return whether so many pixels in a unit of so many µm are what screens and printers have."""
    dpi = [value * 25400.0 / um for value in density]
    return any(math.isclose(value, default, rel_tol=5e-3) for value in dpi for default in _DEFAULT_DPI)


def _density(tiff: Any) -> tuple[float, float] | None:
    """Return (y, x) pixels per resolution unit."""
    tags = tiff.pages.first.tags
    values = []
    for name in ("YResolution", "XResolution"):
        tag = tags.get(name) or tags.get("XResolution")
        if tag is None:
            return None
        value = tag.value
        numerator, denominator = value if isinstance(value, (tuple, list)) else (value, 1)
        if not numerator or not denominator:
            return None
        values.append(numerator / denominator)
    return values[0], values[1]


def fei_bar_rows(tiff: Any, height: int) -> int | None:
    """Return the rows of the data bar that an FEI/Thermo file says it has; None where it does not say."""
    metadata = tiff.fei_metadata
    if not metadata:
        return None
    private = metadata.get("PrivateFei") or metadata.get("PrivateFEI") or {}
    rows = private.get("DatabarHeight") if isinstance(private, Mapping) else None
    if isinstance(rows, int) and 0 <= rows < height // 2:
        return rows
    image = metadata.get("Image") or {}
    scanned = image.get("ResolutionY") if isinstance(image, Mapping) else None
    if isinstance(scanned, int) and height // 2 < scanned <= height:
        return height - scanned
    return None
