"""What a folder was begun with, against what it is to go on with: read as this version reads it, and told by name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from .recipe import Recipe
from .recipe_files import describe
from .space import SearchSpace

_SHOWN = 4
NAMING = ("name", "description")
"""Values of a recipe that do not change what is trained."""


def recipe_changes(recorded: Any, wanted: Mapping[str, Any], *, ignore: Iterable[str] = NAMING) -> str:
    """Return how a recipe differs from the one that was recorded, "" where both train the same.

    Parameters
    ----------
    recorded : mapping
        As an earlier run, perhaps of an earlier version, wrote it: a key that it lacks has that key's default.
    wanted : mapping
        :meth:`Recipe.to_dict`, perhaps without some keys.
    ignore : iterable of str
        Keys of the first level that do not count.
    """
    try:
        full = Recipe.model_validate(recorded).to_dict()
    except ValidationError as error:
        return f"its recipe is not one of this version: {describe(error)}"
    left_out = set(ignore)
    return _told({k: v for k, v in full.items() if k not in left_out}, wanted, left_out)


def space_changes(recorded: Any, wanted: Mapping[str, Any]) -> str:
    """Return how a search space differs from the one that was recorded, "" where both search the same.

    Parameters
    ----------
    recorded : mapping
        As an earlier search wrote it; what it lacks is the default.
    wanted : mapping
        ``SearchSpace.model_dump(mode="json")``; the number of trials does not count.
    """
    try:
        full = SearchSpace.model_validate(recorded).model_dump(mode="json")
    except ValidationError as error:
        return f"its space is not one of this version: {describe(error)}"
    return _told({k: v for k, v in full.items() if k != "trials"}, wanted, {"trials"})


def _told(old: Mapping[str, Any], new: Mapping[str, Any], ignore: set[str]) -> str:
    """Return the values that differ: ``batch was 4 and is 2``, by dotted name."""
    before, now = _flat(old), _flat({k: v for k, v in new.items() if k not in ignore})
    names = [name for name in (*before, *(n for n in now if n not in before)) if _differ(name, before, now)]
    parts = [f"{name} was {_shown(name, before)} and is {_shown(name, now)}" for name in names]
    more = f" and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
    return ", ".join(parts[:_SHOWN]) + more


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inner = _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {}
        flat |= inner or {f"{prefix}{key}": value}
    return flat


def _differ(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    return (name in before) != (name in now) or _plain(before[name]) != _plain(now[name])


def _shown(name: str, values: Mapping[str, Any]) -> str:
    return json.dumps(_plain(values[name]), ensure_ascii=False) if name in values else "not there"


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))  # tuples and lists are one
