"""What a search varies, and how: strict, in YAML. No torch and no optuna here."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .._disk import write_text
from ..errors import InputError, OutputExistsError
from .recipe import Recipe
from .recipe_files import describe, read_recipe

FOLDER = Path(__file__).with_name("spaces")
Value = bool | int | float | str | None
_EXAMPLES = 64  # of a range
_TRIED = 512  # combinations of examples that a recipe must be able to take
_GOLDEN = 0.618  # of a range: where no round number lies


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Range(_Strict):
    """Numbers from `low` to `high`, both included.

    Attributes
    ----------
    low, high : float
        Ends.
    log : bool
        Evenly on a logarithmic scale.
    step : float, optional
        Distance of the values; a grid needs one.
    integer : bool
        Whole numbers only.
    """

    low: float
    high: float
    log: bool = False
    step: Annotated[float, Field(gt=0)] | None = None
    integer: bool = False

    @model_validator(mode="after")
    def _agree(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs a positive low and no step")
        if self.integer and any(x is not None and x != int(x) for x in (self.low, self.high, self.step)):
            raise ValueError("integer needs whole numbers for low, high and step")
        return self

    def values(self, name: str) -> list[Value]:
        """Return what a grid takes of it.

        Raises
        ------
        InputError
            If it has no step.
        """
        step = self.step or (1 if self.integer else None)
        if step is None:
            raise InputError(f"a grid needs a step or choices for {name}, and a range without one has no end of values")
        count = int(np.floor((self.high - self.low) / step + 1e-9)) + 1
        found = [self.low + i * step for i in range(count)]
        return [int(x) for x in found] if self.integer else [float(f"{x:.12g}") for x in found]

    def suggest(self, trial: Any, name: str) -> Value:
        """Return the value that a trial of optuna is to try."""
        if self.integer:
            step = int(self.step) if self.step else 1
            return int(trial.suggest_int(name, int(self.low), int(self.high), step=step, log=self.log))
        return float(trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log))

    def examples(self) -> tuple[Value, ...]:
        """Return the smallest value, the largest, and some of those between that a trial may be given."""
        step = self.step or (1 if self.integer else None)
        if step is None:
            return self.low, float(f"{self.low + _GOLDEN * (self.high - self.low):.12g}"), self.high
        steps = np.unique(np.linspace(0, np.floor((self.high - self.low) / step + 1e-9), _EXAMPLES).round())
        found = [float(f"{self.low + float(i) * step:.12g}") for i in steps]
        return tuple(int(x) for x in found) if self.integer else tuple(found)


class Choices(_Strict):
    """One of several values."""

    choices: Annotated[tuple[Value, ...], Field(min_length=1)]

    def values(self, name: str) -> list[Value]:
        """Return what a grid takes of it."""
        return list(self.choices)

    def suggest(self, trial: Any, name: str) -> Value:
        """Return the value that a trial of optuna is to try."""
        value: Value = trial.suggest_categorical(name, list(self.choices))
        return value

    def examples(self) -> tuple[Value, ...]:
        """Return all values."""
        return self.choices


class SearchSpace(_Strict):
    """A search.

    Attributes
    ----------
    sampler : {"tpe", "random", "grid"}
        Tree-structured Parzen estimator of Bergstra et al. (2011); at random; or every combination.
    trials : int
        How many at most; a grid has as many as there are combinations.
    seed : int
        Of the sampler.
    prune : bool
        Give a trial up whose score at an epoch is below the median of the earlier trials there.
    space : mapping of str to Range or Choices
        By dotted name of the recipe's value.
    """

    sampler: Literal["tpe", "random", "grid"] = "tpe"
    trials: Annotated[int, Field(gt=0)] = 40
    seed: Annotated[int, Field(ge=0)] = 0
    prune: bool = True
    space: Annotated[dict[str, Range | Choices], Field(min_length=1)]

    def combinations(self) -> list[dict[str, Value]]:
        """Return every combination of a grid.

        Raises
        ------
        InputError
            If a range has no step.
        """
        values = [one.values(name) for name, one in self.space.items()]
        return [dict(zip(self.space, chosen, strict=True)) for chosen in itertools.product(*values)]

    def check(self, recipe: Recipe) -> None:
        """Refuse a space that the recipe cannot take, before anything is trained.

        Raises
        ------
        InputError
            If a name is unknown, a value out of bounds, of another type or at odds with one of another name; or if a
            range of a grid has no step.
        """
        for values in self._examples():
            try:
                read_recipe(recipe, changes=values)
            except InputError as error:
                shown = ", ".join(f"{name} = {value}" for name, value in values.items())
                raise InputError(f"the search may try {shown}, and {error}") from None
        if self.sampler == "grid":
            self.combinations()

    def _examples(self) -> Iterator[dict[str, Value]]:
        """Yield combinations of values: of all examples where they are few, else some at random."""
        found = [one.examples() for one in self.space.values()]
        if math.prod(map(len, found)) <= _TRIED:
            yield from (dict(zip(self.space, chosen, strict=True)) for chosen in itertools.product(*found))
            return
        draw = np.random.default_rng(0)
        for _ in range(_TRIED):
            yield {name: one[int(draw.integers(len(one)))] for name, one in zip(self.space, found, strict=True)}

    @property
    def total(self) -> int:
        """Number of trials."""
        return min(self.trials, len(self.combinations())) if self.sampler == "grid" else self.trials


def read_space(
    space: str | os.PathLike[str] | Mapping[str, Any] | SearchSpace, *, changes: Mapping[str, Any] | None = None
) -> SearchSpace:
    """Return a search space from ``"default"``, a YAML file or plain values, with `changes` of its first level.

    Raises
    ------
    InputError
        If there is none, or something in it is not right.
    """
    if isinstance(space, SearchSpace):
        values, source = space.model_dump(), "the search space"
    elif isinstance(space, Mapping):
        values, source = dict(space), "the search space"
    else:
        source = os.fspath(space)
        packaged = FOLDER / f"{source}.yaml"
        path = packaged if packaged.is_file() else Path(source)
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"there is no search space {source!r}: neither a file, nor `default`") from None
        except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
            raise InputError(f"{source} is not a search space in YAML ({' '.join(str(error).split())})") from error
        if values is None:
            raise InputError(f"{source} is empty; a search space is a mapping with `space`")
        if not isinstance(values, dict):
            raise InputError(f"{source} holds a {type(values).__name__}; a search space is a mapping with `space`")
    try:
        return SearchSpace.model_validate({**values, **(changes or {})})
    except ValidationError as error:
        raise InputError(f"{source}: {describe(error)}") from error


def copy_space(path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write the default search space to a file to edit.

    Raises
    ------
    OutputExistsError
        If the file exists and `overwrite` is false.
    """
    target = Path(path)
    if target.exists() and not overwrite:
        raise OutputExistsError(f"{target} exists; choose another file or pass overwrite=True")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, (FOLDER / "default.yaml").read_text(encoding="utf-8"))
    return target
