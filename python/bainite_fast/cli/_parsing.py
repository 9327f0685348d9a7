"""Arguments that need more than a conversion: sizes with units, shapes, pairs. Mistakes are usage errors (exit 2)."""

from __future__ import annotations

import math
import re
from typing import Any

import typer

from ..errors import InputError


def parse_bytes(text: str) -> int:
    """Read a memory size such as ``4GiB``, ``4GB``, ``4096MiB`` or plain bytes, as the library does.

    Raises
    ------
    typer.BadParameter
        If the text is not a positive size.
    """
    from ..segmentation import parse_memory

    try:
        return parse_memory(text)
    except InputError as error:
        raise typer.BadParameter(str(error)) from None


def parse_output(text: str) -> str:
    """Read where to write: a local path.

    Raises
    ------
    typer.BadParameter
        If the text is a URL.
    """
    if "://" in text or "::" in text:
        raise typer.BadParameter(f"{text} is a URL, and outputs go to local disks; give a path, and copy it afterwards")
    return text


def parse_step(text: str) -> tuple[str, tuple[Any, ...]]:
    """Read a step of EBSD clean-up such as ``nci:0.01,converge``: as typed, and as the library takes it.

    Raises
    ------
    typer.BadParameter
        If there is no such step, or it has another number of arguments.
    """
    name, colon, words = text.partition(":")
    name = name.strip().lower()
    values = [_number_or_word(word.strip()) for word in words.split(",")] if colon else []
    if "" in values or len(values) not in {"ci_standardisation": (0, 1), "nci": (1, 2), "noc": (2,)}.get(name, ()):
        raise typer.BadParameter(
            f"{text!r} is no step; write ci_standardisation[:DEG], nci:CI[,PASSES|converge] or noc:DEG,LEVEL, "
            "for example nci:0.01 or noc:5,2"
        )
    return text, (name, *values)


def _number_or_word(word: str) -> int | float | str:
    try:
        return int(word) if re.fullmatch(r"[+-]?\d+", word) else float(word)
    except ValueError:
        return word


MAP_KINDS = (
    "kam", "gos", "gam", "grod", "boundaries", "grains", "ipf-x", "ipf-y", "ipf-z", "iq", "ci", "band_contrast",
    "phase",
)  # fmt: skip
"""Those of `bainite_fast.ebsd.KINDS`, written out: help must not load them."""


def parse_map_kind(text: str) -> str:
    """Read a kind of EBSD map.

    Raises
    ------
    typer.BadParameter
        If there is no such kind.
    """
    if text not in MAP_KINDS:
        raise typer.BadParameter(f"no map is called {text!r}; use one of {', '.join(MAP_KINDS)}")
    return text


def parse_step_um(text: str) -> float:
    """Read the step of a grid in µm.

    Raises
    ------
    typer.BadParameter
        If the text is not a positive number.
    """
    step = _positive(text)
    if step is None:
        raise typer.BadParameter(f"{text!r} is no step; write a positive number of µm, such as 0.5")
    return step


def parse_um_per_px(text: str) -> float:
    """Read the size of a px in µm.

    Raises
    ------
    typer.BadParameter
        If the text is not a positive number.
    """
    um_per_px = _positive(text)
    if um_per_px is None:
        raise typer.BadParameter(f"{text!r} is no size of a px; write a positive number of µm/px, such as 0.1266")
    return um_per_px


def _positive(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def parse_scale(text: str) -> str | float:
    """Read ``auto``, ``as-is`` or the mosaic's scale in µm/px.

    Raises
    ------
    typer.BadParameter
        If the text is none of them.
    """
    if text in ("auto", "as-is"):
        return text
    um_per_px = _positive(text)
    if um_per_px is None:
        raise typer.BadParameter(f"{text!r} is neither auto, as-is nor a positive number of µm/px, such as 0.1266")
    return um_per_px


def parse_shape(text: str) -> tuple[int, int]:
    """Read an image shape in pixels, ``H,W``: height (rows) first; ``HxW`` is taken too.

    Raises
    ------
    typer.BadParameter
        If the text is not two positive whole numbers.
    """
    match = re.fullmatch(r"\s*(\d+)\s*[,xX×]\s*(\d+)\s*", text)
    if match is None or int(match[1]) < 1 or int(match[2]) < 1:
        raise typer.BadParameter(
            f"{text!r} is not a shape; write height,width in pixels, both at least 1, for example 4096,6144"
        )
    return int(match[1]), int(match[2])


def parse_normalize(text: str) -> tuple[float, float]:
    """Read ``MEAN,STD``, the intensity statistics that the network was trained with, on the 0…1 scale.

    Raises
    ------
    typer.BadParameter
        If the text is not two finite numbers, the second above 0.
    """
    try:
        mean, std = (float(part) for part in text.split(","))
    except ValueError:
        mean = std = math.nan
    if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        raise typer.BadParameter(
            f"{text!r} is not MEAN,STD; write two numbers on the 0…1 intensity scale, std above 0, for example 0.45,0.2"
        )
    return mean, std


def parse_device(text: str) -> str:
    """Read ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises
    ------
    typer.BadParameter
        If the text is none of them.
    """
    if re.fullmatch(r"auto|cpu|cuda(:\d+)?", text) is None:
        raise typer.BadParameter(f"{text!r} is no device; write auto, cpu, cuda or cuda:0")
    return text


def parse_crop_bar(text: str) -> str | int:
    """Read ``auto`` or the number of rows that the annotation bar of an SEM picture takes at the bottom.

    Raises
    ------
    typer.BadParameter
        If the text is neither.
    """
    if text.lower() == "auto":
        return "auto"
    if text.strip().isdigit() and int(text) > 0:
        return int(text)
    raise typer.BadParameter(
        f"{text!r} is neither 'auto' nor a number of pixel rows; write --crop-bar auto or --crop-bar 44"
    )


def parse_plane(text: str) -> int | dict[str, int]:
    """Read the plane of a stack: ``N``, or ``AXIS=N`` for every stack axis with commas between, such as ``z=3,t=0``.

    Raises
    ------
    typer.BadParameter
        If the text is neither, or names an axis twice.
    """
    if re.fullmatch(r"\s*[0-9]+\s*", text):
        return int(text)
    plane: dict[str, int] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*([^\W\d_]\w*)\s*=\s*([0-9]+)\s*", part)
        if match is None or match[1].lower() in plane:
            raise typer.BadParameter(
                f"{text!r} is no plane; write its number, counted from 0, or one for each stack axis, for example "
                "z=3,t=0"
            )
        plane[match[1].lower()] = int(match[2])
    return plane


def parse_channel(text: str) -> int | str | list[int | str]:
    """Read a channel, by number or name, several of them with commas between, or ``rgb``.

    Raises
    ------
    typer.BadParameter
        If one is empty.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise typer.BadParameter(f"{text!r} is no channel; write its number, counted from 0, its name, or rgb")
    chosen: list[int | str] = [int(part) if part.isdigit() else part for part in parts]
    return chosen if len(chosen) > 1 else chosen[0]


def parse_classes(text: str) -> int | tuple[str, ...]:
    """Read a number of classes, or their names from label 0 with commas between.

    Raises
    ------
    typer.BadParameter
        If it is a number below 2, or there are fewer than two names or an empty one.
    """
    if text.strip().isdigit():
        if int(text) < 2:
            raise typer.BadParameter(f"{text} classes cannot be told apart; give at least 2, the background is one")
        return int(text)
    names = tuple(part.strip() for part in text.split(","))
    if len(names) < 2 or not all(names):
        raise typer.BadParameter(f"{text!r} is neither a number of classes nor names such as matrix,bainite")
    return names


def parse_mask_values(texts: list[str] | None) -> dict[str, int] | None:
    """Read ``VALUE=CLASS`` texts.

    Raises
    ------
    InputError
        If one is of another form.
    """
    if not texts:
        return None
    meaning: dict[str, int] = {}
    for text in texts:
        value, equals, label = text.partition("=")
        if not equals or not label.strip().isdigit() or not value.strip():
            raise InputError(f"{text!r} is not VALUE=CLASS; write for example 255=1, or '#ff0000=2'")
        if meaning.setdefault(value.strip(), int(label)) != int(label):
            raise InputError(f"{text!r} contradicts {value.strip()}={meaning[value.strip()]}; choose one")
    return meaning


def parse_numbers(text: str | None, kind: type, example: str = "64,128") -> list[Any] | None:
    """Read positive numbers with commas between.

    Raises
    ------
    typer.BadParameter
        If one is none.
    """
    if text is None:
        return None
    try:
        numbers = [kind(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(math.isfinite(number) and number > 0 for number in numbers):
        raise typer.BadParameter(f"{text!r} is refused; write positive numbers with commas between, such as {example}")
    return numbers
