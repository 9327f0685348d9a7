"""What the values of masks mean: class indices, 0 and 255, or colours."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BainiteWarning, InputError
from .large import bands, distinct
from .pictures import is_gray

IGNORE = 255
"""Value of mask pixels whose class is not known: they count neither in losses nor in scores."""

Value = int | str | tuple[int, int, int]
MaskValues = Mapping[Value, int] | Mapping[int, int] | Mapping[str, int] | Mapping[tuple[int, int, int], int]

MOST_GUESSED = 32
"""Classes; more gray values or colours than that are no classes unless someone says so."""
_REMEDY = "say what the values mean with mask_values={value: class, …}"
_JPEG = "JPEG and smooth edges change values: save masks as PNG or TIFF, drawn without anti-aliasing"


class UnknownValuesError(InputError):
    """Masks hold values that are no classes.

    Attributes
    ----------
    held : str
        The values, in words.
    """

    def __init__(self, held: str, remedy: str) -> None:
        super().__init__(f"masks hold {held}{remedy}. {_JPEG}")
        self.held = held


@dataclass(frozen=True, slots=True)
class ValueMap:
    """From what stands in a mask to classes.

    Attributes
    ----------
    codes : ndarray, int64, ascending
        Gray values, or colours as red · 65536 + green · 256 + blue.
    classes : ndarray, uint8
        Class of each code, `IGNORE` where it is not known.
    n_classes : int
        Number of classes.
    colour : bool
        Whether the codes are colours.
    """

    codes: NDArray[np.int64]
    classes: NDArray[np.uint8]
    n_classes: int
    colour: bool

    def to_dict(self) -> dict[str, int]:
        """Return the class of each value, JSON-able; {} where gray values are the classes themselves."""
        if not self.colour and (self.codes == self.classes).all():
            return {}
        return {_show(int(c), self.colour): int(k) for c, k in zip(self.codes, self.classes, strict=True)}

    def apply(self, mask: NDArray[Any], name: str) -> NDArray[np.uint8]:
        """Return the classes of a mask [H, W] or [H, W, 3], uint8 [H, W].

        Raises
        ------
        InputError
            If the mask holds a value without a class.
        """
        return np.concatenate(list(self.parts(mask, name)))

    def parts(self, mask: NDArray[Any], name: str) -> Iterator[NDArray[np.uint8]]:
        """Yield the classes of a mask in bands of rows; errors as :meth:`apply`, after the last."""
        strange = []
        for band in bands(mask):
            coded = code(band, self.colour)
            place = np.minimum(np.searchsorted(self.codes, coded), len(self.codes) - 1)
            strange.append(coded[self.codes[place] != coded])
            yield self.classes[place]
        if found := np.concatenate(strange).tolist():
            values = sorted(set(found))
            shown = ", ".join(_show(v, self.colour) for v in values[:6])
            raise InputError(
                f"the mask of {name} holds {shown}{' …' if len(values) > 6 else ''} without a class, at "
                f"{len(found)} pixels; {_REMEDY}. {_JPEG}"
            )


def choose_values(
    masks: list[NDArray[Any]], names: list[str], n_classes: int | None, given: MaskValues | None
) -> ValueMap:
    """Decide what the values of masks mean.

    Parameters
    ----------
    masks : list of ndarray [H, W] or [H, W, 3]
        As they are stored.
    names : list of str
        Of the images, for messages.
    n_classes : int, optional
        Number of classes, where the caller says it.
    given : mapping, optional
        The caller's meaning.

    Raises
    ------
    InputError
        If the values are neither indices of the classes, nor 0 and 255, nor a few colours, or some masks hold indices
        and others colours.

    Warns
    -----
    BainiteWarning
        If colours are taken for classes in their order: it says which is which. If some masks hold 0 and 255 alone, and
        others class indices: which.
    """
    colour = any(mask.ndim == 3 and not is_gray(mask) for mask in masks)
    if given is not None:
        return _given(given, n_classes, colour)
    per_mask = [_codes_of(mask, colour) for mask in masks]
    found = np.unique(np.concatenate(per_mask))
    if colour:
        _check_one_kind(masks, names)
        return _colours(found, n_classes)
    if n_classes in (None, 2) and set(found.tolist()) in ({255}, {0, 255}):
        return _map({0: 0, 255: 1}, 2, False)
    labels = found[found != IGNORE]
    most = n_classes if n_classes is not None else MOST_GUESSED
    outside = labels[(labels < 0) | (labels >= most)]
    if outside.size:
        which = next(n for n, values in zip(names, per_mask, strict=True) if np.isin(outside, values).any())
        shown = ", ".join(str(int(v)) for v in outside[:6]) + (" …" if outside.size > 6 else "")
        raise UnknownValuesError(
            f"the values {shown} (first in {which})",
            f", which are neither class indices 0 … {most - 1} nor 0 and 255; raise classes, or {_REMEDY}",
        )
    count = n_classes if n_classes is not None else max(int(labels.max(initial=1)) + 1, 2)
    if count == 2 and 1 in labels:
        _tell_of_white(per_mask, names)
    return _map({**{i: i for i in range(count)}, IGNORE: IGNORE}, count, False)


def _tell_of_white(per_mask: list[NDArray[np.int64]], names: list[str]) -> None:
    white = [name for name, values in zip(names, per_mask, strict=True) if values.tolist() == [0, IGNORE]]
    if white:
        shown = ", ".join(white[:5]) + (f" and {len(white) - 5} more" if len(white) > 5 else "")
        warnings.warn(
            f"the masks of {shown} hold 0 and {IGNORE} alone, and others hold 1: their {IGNORE} is taken for unknown. "
            f"If it is class 1 there, say so: mask_values={{0: 0, 1: 1, {IGNORE}: 1}}",
            BainiteWarning,
            stacklevel=6,
        )


def code(mask: NDArray[Any], colour: bool) -> NDArray[np.int64]:
    """Return one int64 per pixel [H, W]: the gray value, or red · 65536 + green · 256 + blue.

    Raises
    ------
    InputError
        If the mask holds fractions, or colours of more than 8 bits.
    """
    if mask.dtype.kind == "f" and not np.array_equal(mask, np.rint(mask)):
        raise InputError("a mask holds fractions; whole numbers are needed, one for each class")
    if mask.dtype.kind not in "uif":
        raise InputError(f"a mask has dtype {mask.dtype}; integers are needed, one for each class")
    if mask.ndim == 2:
        gray = mask.astype(np.int64)
        return gray * 0x010101 if colour else gray
    if mask.dtype != np.uint8:
        raise InputError(f"a mask has colours of dtype {mask.dtype}; uint8 is needed")
    if not colour:
        return mask[..., 0].astype(np.int64)
    parts = mask.astype(np.int64)
    return parts[..., 0] << 16 | parts[..., 1] << 8 | parts[..., 2]


def _check_one_kind(masks: list[NDArray[Any]], names: list[str]) -> None:
    """Refuse indices among masks of colours; black and white have the same meaning in both."""
    for mask, name in zip(masks, names, strict=True):
        if mask.ndim == 2 and set(_codes_of(mask, False).tolist()) - {0, 255}:
            other = next(n for n, one in zip(names, masks, strict=True) if one.ndim == 3 and not is_gray(one))
            raise InputError(f"the mask of {other} is coloured and that of {name} holds gray values; {_REMEDY}")


def names_colours(given: MaskValues | None) -> bool:
    """Say whether a caller's meaning of mask values speaks of colours."""
    return given is not None and any(_parse(value)[1] for value in given)


def _codes_of(mask: NDArray[Any], colour: bool) -> NDArray[np.int64]:
    """Return the codes that a mask holds, ascending."""
    if mask.ndim == 2 and mask.dtype.kind == "u" and not colour:
        parts = [distinct(band) for band in bands(mask)]
    else:
        parts = [distinct(code(band, colour)) for band in bands(mask)]
    return np.unique(np.concatenate(parts)).astype(np.int64)


def _show(value: int, colour: bool) -> str:
    return f"#{value:06x}" if colour else str(value)


def _map(meaning: Mapping[int, int], n_classes: int, colour: bool) -> ValueMap:
    codes = np.array(sorted(meaning), np.int64)
    return ValueMap(codes, np.array([meaning[int(c)] for c in codes], np.uint8), n_classes, colour)


def _colours(found: NDArray[np.int64], n_classes: int | None) -> ValueMap:
    most = n_classes if n_classes is not None else MOST_GUESSED
    if len(found) > most:
        shown = ", ".join(_show(int(v), True) for v in found[:6])
        raise UnknownValuesError(
            f"{len(found)} colours ({shown}{' …' if len(found) > 6 else ''})",
            f", and classes are at most {most}; {_REMEDY}",
        )
    meaning = {int(code): label for label, code in enumerate(found)}
    said = ", ".join(f"{_show(code, True)} is class {label}" for code, label in meaning.items())
    warnings.warn(
        f"masks are coloured, and their colours are classes in the order of (red, green, blue): {said}. Say so if "
        "they mean something else: mask_values={value: class, …}",
        BainiteWarning,
        stacklevel=5,
    )
    return _map(meaning, n_classes or max(len(found), 2), True)


def _given(given: MaskValues, n_classes: int | None, colour: bool) -> ValueMap:
    meaning: dict[int, int] = {}
    for value, label in dict(given).items():
        number, is_colour = _parse(value)
        if colour and not is_colour:
            number *= 0x010101
        if is_colour and not colour:
            red, green, blue = number >> 16, number >> 8 & 255, number & 255
            if not red == green == blue:
                continue  # a colour that no mask can hold, as all are gray
            number = red
        if int(label) != label or not (0 <= label < (n_classes or IGNORE) or label == IGNORE):
            raise InputError(
                f"mask_values gives {value!r} the class {label}; classes are 0 … {(n_classes or IGNORE) - 1}, and "
                f"{IGNORE} is for pixels whose class is not known"
            )
        if meaning.setdefault(number, int(label)) != label:
            raise InputError(f"mask_values gives {value!r} the class {label} and {meaning[number]}; choose one")
    labels = set(meaning.values()) - {IGNORE}
    if not labels:
        raise InputError(f"mask_values={dict(given)} names no class; {_REMEDY}")
    return _map(meaning, n_classes or max(max(labels) + 1, 2), colour)


def _parse(value: Value) -> tuple[int, bool]:
    """Return a value as a number, and whether it is a colour."""
    if isinstance(value, str):
        if match := re.fullmatch(r"#([0-9a-fA-F]{6})", value.strip()):
            return int(match[1], 16), True
        if re.fullmatch(r"\d+", value.strip()):
            return int(value), False
    elif isinstance(value, (tuple, list)):
        if len(value) == 3 and all(0 <= int(part) <= 255 for part in value):
            return int(value[0]) << 16 | int(value[1]) << 8 | int(value[2]), True
    elif int(value) == value and value >= 0:
        return int(value), False
    raise InputError(
        f"mask_values has the value {value!r}; a gray value, a colour (red, green, blue) of 0 … 255, or '#rrggbb' is "
        "needed"
    )
