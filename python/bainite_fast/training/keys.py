"""The names of a recipe's values, and which of them a misspelt one was probably meant to be. Imports no torch."""

from __future__ import annotations

import difflib
import functools
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from .recipe import Recipe

_CLOSE = 0.6  # of difflib's ratio


@functools.cache
def known_keys() -> tuple[str, ...]:
    """Return the dotted names of all values that a recipe can have."""
    return tuple(dict.fromkeys(_keys(Recipe, "")))


def _keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = list(_models(field.annotation))
        if not inner:
            yield prefix + name
        for one in inner:
            if one is not model:
                yield from _keys(one, f"{prefix}{name}.")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that an annotation allows, lists of them left out: their values have numbers in their names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif typing.get_origin(annotation) is not tuple:
        for one in typing.get_args(annotation):
            yield from _models(one)


def nearest_key(name: str) -> str | None:
    """Return the known key that looks most like a name: as a whole, by its last part, or by initials (lr); or None."""
    keys, last = known_keys(), name.rpartition(".")[2].lower()
    ends = [key.rpartition(".")[2] for key in keys]
    initials = ["".join(word[0] for word in end.split("_")) if "_" in end else None for end in ends]
    for wanted, names in ((last, ends), (last, initials)):
        if wanted in names:
            return keys[names.index(wanted)]
    scored = [
        (max(_likeness(name.lower(), key), _likeness(last, end)), key) for key, end in zip(keys, ends, strict=True)
    ]
    score, key = max(scored, key=lambda pair: pair[0])
    return key if score >= _CLOSE else None


def _likeness(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()
