"""Recipes on disk: those of the package, and a user's own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from .._disk import write_text
from ..errors import InputError, OutputExistsError
from .keys import nearest_key
from .recipe import Recipe

FOLDER = Path(__file__).with_name("recipes")
_FIRST = ("vanilla", "vgg16")


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes in the package: the paper's two approaches, then the rows of its tables."""
    names = {path.stem for path in FOLDER.glob("*.yaml")}
    return (*_FIRST, *sorted(names - set(_FIRST), key=lambda name: (len(name.rstrip("abcv")), name)))


def read_recipe(
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe, *, changes: Mapping[str, Any] | None = None
) -> Recipe:
    """Return a recipe from its name, a YAML file, or plain values, with some of them changed.

    Parameters
    ----------
    recipe : str, path, mapping or Recipe
        A name of :func:`recipe_names`, the path of a YAML file, or the values.
    changes : mapping of str to value, optional
        By dotted name, for example ``{"loss.alpha": 2.0, "data.crop": 128}``. A section whose `kind` changes starts
        from that kind's defaults, and from what other changes set in it, before or after.

    Raises
    ------
    InputError
        If there is no such recipe, it is not YAML, a key is unknown, or a value is out of range.
    """
    if isinstance(recipe, Recipe):
        values, source = recipe.to_dict(), f"recipe {recipe.name}"
    elif isinstance(recipe, Mapping):
        values, source = _copied(recipe), "the recipe"
    else:
        values, source = _read(os.fspath(recipe))
    done: list[str] = []
    for name, value in (changes or {}).items():
        _change(values, name, value, done)
        done.append(name)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise InputError(
            f"{describe(error, source, changes or {})}; `bainite-fast recipes --copy vanilla FILE` gives a whole one"
        ) from error


def recipe_text(recipe: Recipe) -> str:
    """Return a recipe as YAML, every default written out."""
    text: str = yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True, width=100)
    return text


def copy_recipe(name: str, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a recipe, every default written out, to a file to edit; the copy is called as the file is.

    Two edited copies are told apart by their names in tables, plots and cards. What a copy was made of stands in its
    description.

    Raises
    ------
    InputError
        If there is no such recipe.
    OutputExistsError
        If the file exists and `overwrite` is false.
    """
    target = Path(path)
    recipe = read_recipe(name)
    if target.exists() and not overwrite:
        raise OutputExistsError(f"{target} exists; choose another file or pass overwrite=True")
    target.parent.mkdir(parents=True, exist_ok=True)
    copy = recipe.model_copy(update={"name": target.stem, "description": _derived(recipe)})
    write_text(target, recipe_text(read_recipe(copy)))
    return target


def _derived(recipe: Recipe) -> str:
    return f"copy of {recipe.name}{f' ({recipe.description})' if recipe.description else ''}"


def parse_changes(assignments: Iterable[str]) -> dict[str, Any]:
    """Read ``name=value`` texts, the values as YAML, as :func:`read_recipe` takes them.

    Raises
    ------
    InputError
        If one has no ``=`` or its value is not YAML.
    """
    changes: dict[str, Any] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"{text!r} sets nothing; write NAME=VALUE, for example loss.alpha=2")
        try:
            changes[name.strip()] = number_or(yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise InputError(f"the value in {text!r} cannot be read ({' '.join(str(error).split())})") from error
    return changes


def number_or(value: Any) -> Any:
    """Return a float for a text such as ``1e-3``, which YAML 1.1 takes for a word; anything else as it is."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _read(text: str) -> tuple[dict[str, Any], str]:
    packaged = FOLDER / f"{text}.yaml"
    path = packaged if text in recipe_names() else Path(text)
    if not path.is_file():
        raise InputError(f"there is no recipe {text!r}: not a file, and in the package: {', '.join(recipe_names())}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is not a recipe in YAML ({' '.join(str(error).split())})") from error
    if values is None:
        raise InputError(f"{path} is empty; a recipe is a mapping of names to values")
    if not isinstance(values, dict):
        raise InputError(f"{path} holds a {type(values).__name__}; a recipe is a mapping of names to values")
    return _copied(values), f"recipe {text}" if path is packaged else str(path)


def _copied(values: Any) -> Any:
    """Return nested mappings as dicts of their own, numbers such as 1e-3 as numbers."""
    if isinstance(values, Mapping):
        return {str(key): _copied(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_copied(value) for value in values]
    return values


def _change(values: dict[str, Any], name: str, value: Any, done: list[str]) -> None:
    """Set a value by its dotted name; where it is another kind, of what is beside it only the changes done stay."""
    *sections, key = name.split(".")
    place: Any = values
    for section in sections:
        if isinstance(place, list) and section.isdigit() and int(section) < len(place):
            place = place[int(section)]
            continue
        if not isinstance(place, dict) or section not in place:
            place = _missing(place, section, name)
            continue
        if place[section] is None:
            place[section] = {}
        place = place[section]
    if not isinstance(place, dict):
        raise InputError(f"the recipe has no {name!r}: {sections[-1]!r} holds one value, not several")
    if key == "kind" and sections and place.get("kind", _default_kind(sections)) != value:
        front = name.removesuffix("kind")
        for other in [one for one in place if not any(f"{n}.".startswith(f"{front}{one}.") for n in done)]:
            del place[other]
    place[key] = value


def _default_kind(sections: list[str]) -> Any:
    """Return the kind of a section that does not say its kind."""
    place: Any = Recipe()
    for section in sections:
        place = getattr(place, section, None)
    return getattr(place, "kind", None)


def _missing(place: Any, section: str, name: str) -> Any:
    if not isinstance(place, dict):
        raise InputError(f"the recipe has no {name!r}; see `bainite-fast recipes --copy vanilla FILE` for its names")
    # A section that a short recipe leaves to its defaults; an unknown one is refused with the rest.
    place[section] = {}
    return place[section]


def describe(error: ValidationError, source: str = "", changes: Mapping[str, Any] | None = None) -> str:
    """Return what pydantic found, in one line.

    Parameters
    ----------
    error : ValidationError
        What it found.
    source : str
        Where the values come from, which is said before those that come from there.
    changes : mapping
        Values that were set over those of the source, by dotted name.
    """
    parts = []
    for item in error.errors(include_url=False):
        loc = [str(x) for x in item["loc"]]
        unknown = item["type"] == "extra_forbidden"
        place, setting = ".".join(loc) or "recipe", _setting_at(loc, changes or {}, section=unknown)
        what = item["msg"].removeprefix("Value error, ")
        if unknown:
            what = _no_such_key(loc, setting if setting and loc[-1] in setting.split(".") else place)
        if setting is None:
            parts.append(f"{source}{': ' if source else ''}{place}: {what}")
        else:
            inside = "" if loc[-1] in setting.split(".") else f"{loc[-1]}: "
            parts.append(f"the setting {setting} = {(changes or {})[setting]}: {inside}{what}")
    return "; ".join(parts)


def _no_such_key(loc: list[str], name: str) -> str:
    likely = nearest_key(name)
    if likely is None:
        return "there is no such key"
    if likely.split(".")[0] == loc[0] and likely.split(".")[-1] == loc[-1]:
        return f"this kind of {loc[0]} has no such key"  # such as label_smoothing of the Dice loss
    return f"there is no such key (did you mean {likely}?)"


def _setting_at(loc: list[str], changes: Mapping[str, Any], *, section: bool) -> str | None:
    """Return which of some changes brought the value at a place, or a whole section of it; or None.

    A place names the kind of a loss too, and a change does not.
    """
    for name in changes:
        parts = name.split(".")
        ends = parts if section else parts[-1:]
        if loc and parts[0] == loc[0] and (loc[-1] in ends or loc[: len(parts)] == parts):
            return name
    return None
