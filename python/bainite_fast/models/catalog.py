"""The package format's ``config.json``, and the models in the box. Imports no torch, so that lists are quick."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from .._version import __version__
from ..errors import ModelError

DEFAULT_MODEL = "lath-bainite-synthetic"
BUNDLED = Path(__file__).with_name("bundled")

CONFIG, WEIGHTS, CARD = "config.json", "weights.safetensors", "card.md"
TEST_INPUT, TEST_OUTPUT = "test_input.npy", "test_output.npy"
DATA_FILES = (WEIGHTS, TEST_INPUT, TEST_OUTPUT)
PACKAGE_FILES = (CONFIG, *DATA_FILES, CARD)

Byte = Annotated[int, Field(ge=0, le=255)]
Positive = Annotated[int, Field(gt=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, ser_json_inf_nan="constants")


class UNetConfig(_Strict):
    """Arguments of :class:`bainite_fast.models.unet.UNet`."""

    kind: Literal["unet"] = "unet"
    in_channels: Annotated[int, Field(gt=0, le=64)] = 1
    classes: Annotated[int, Field(gt=0, le=256)] = 2
    base: Annotated[int, Field(gt=0, le=1024)] = 64
    depth: Annotated[int, Field(gt=0, le=8)] = 4
    kernel: Annotated[int, Field(gt=0, le=31)] = 3


class VGG16UNetConfig(_Strict):
    """Arguments of :class:`bainite_fast.models.vgg16_unet.VGG16UNet`."""

    kind: Literal["vgg16_unet"] = "vgg16_unet"
    in_channels: Literal[1, 3] = 1
    classes: Annotated[int, Field(gt=0, le=256)] = 2
    base: Annotated[int, Field(gt=0, le=1024)] = 64


def _kind(value: Any) -> Any:
    return value.get("kind", "unet") if isinstance(value, dict) else getattr(value, "kind", None)


ArchitectureConfig = Annotated[
    Annotated[UNetConfig, Tag("unet")] | Annotated[VGG16UNetConfig, Tag("vgg16_unet")], Discriminator(_kind)
]
"""What network a package holds, told by its ``kind``."""


class ClassConfig(_Strict):
    """One label value: its name and colour."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    color: tuple[Byte, Byte, Byte]


class Score(_Strict):
    """A number that a model reached.

    Attributes
    ----------
    metric : str
        What was measured: ``"IoU"``, ``"mean IoU"``, ``"accuracy"``, ``"F1"``, ``"phase-fraction error"`` …
    value : float
        The number, as a share (0…1) where it is one.
    class_name : str or None
        The class that it belongs to.
    data : str
        What it was measured on: ``"UHCS test4A"``, ``"5 folds by micrograph"`` …
    low, high : float or None
        An interval round `value`.
    interval : str
        What that interval is: ``"95 % t-interval over 5 folds"``, ``"± standard deviation of 3 seeds"`` …
    """

    metric: Annotated[str, Field(min_length=1, max_length=200)]
    value: float
    class_name: str | None = None
    data: str = ""
    low: float | None = None
    high: float | None = None
    interval: str = ""

    @model_validator(mode="after")
    def _ordered(self) -> Score:
        if (self.low is None) != (self.high is None) or (self.low is not None) != bool(self.interval):
            raise ValueError("low, high and interval (what they are) come together or not at all")
        if self.low is not None and self.high is not None and not self.low <= self.value <= self.high:
            raise ValueError(f"{self.value} does not lie in its interval {self.low} … {self.high}")
        return self


_NEWEST = 2  # format_version
_SINCE_2 = ("recipe", "scores", "temperature")  # written only where they are set: older packages keep their digest


class PackageConfig(_Strict):
    """``config.json`` of a model package; unknown keys are an error.

    Version 2 adds ``recipe``, ``scores``, ``temperature`` and the VGG16 U-Net. A package is written in the oldest
    version that can hold it.
    """

    format: Literal["bainite-fast-model"] = "bainite-fast-model"
    format_version: Literal[1, 2] = 1
    name: Annotated[str, Field(min_length=1, max_length=200)]
    description: str = ""
    architecture: ArchitectureConfig
    classes: Annotated[tuple[ClassConfig, ...], Field(min_length=2, max_length=256)]
    um_per_px: Annotated[float, Field(gt=0)] | None = None
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]
    stride: Positive
    halo: Annotated[int, Field(ge=0)]
    radius: Annotated[int, Field(ge=0)]
    synthetic_only: bool = False
    training: dict[str, Any] = Field(default_factory=dict)
    recipe: dict[str, Any] | None = None
    scores: tuple[Score, ...] = ()
    temperature: Annotated[float, Field(ge=0.01, le=100)] | None = None
    files: dict[str, str]

    @field_validator("files")
    @classmethod
    def _files(cls, files: dict[str, str]) -> dict[str, str]:
        if set(files) != set(DATA_FILES) or not all(re.fullmatch("[0-9a-f]{64}", x) for x in files.values()):
            raise ValueError(f"needs the sha256 of exactly {', '.join(DATA_FILES)}")
        return files

    @model_validator(mode="after")
    def _agree(self) -> PackageConfig:
        channels, logits = self.architecture.in_channels, self.architecture.classes
        if len(self.mean) != channels or len(self.std) != channels:
            raise ValueError(f"mean and std need one value for each of the {channels} channel(s)")
        if len(self.classes) != max(2, logits):
            raise ValueError(f"{len(self.classes)} classes are named, and the network has {logits} output channel(s)")
        if len({x.name for x in self.classes}) != len(self.classes):
            raise ValueError("two classes have the same name")
        if self.halo % self.stride:
            raise ValueError(f"the halo {self.halo} is not a multiple of the stride {self.stride}")
        stride, radius = network_reach(self.architecture)
        if self.stride % stride or self.halo < radius:
            raise ValueError(
                f"stride {self.stride} and halo {self.halo} px are not the network's, which looks {radius} px far on a "
                f"grid of {stride} px: its tiles would differ from the whole image"
            )
        newer = [name for name in _SINCE_2 if getattr(self, name) not in (None, ())]
        newer += [] if self.architecture.kind == "unet" else [f"architecture.kind {self.architecture.kind!r}"]
        if self.format_version == 1 and newer:
            raise ValueError(f"{', '.join(newer)} need format_version 2")
        return self


def parse_config(data: bytes | str, source: str) -> PackageConfig:
    """Return the checked configuration of a package.

    Parameters
    ----------
    data : bytes or str
        Contents of ``config.json``.
    source : str
        Where they come from, for errors.

    Raises
    ------
    ModelError
        If it is not JSON, a key is unknown or missing, or a value is out of range.
    """
    try:
        return PackageConfig.model_validate_json(data)
    except ValidationError as error:
        _refuse_newer(data, source, error)
        what = "; ".join(f"{_place(e['loc'])}: {e['msg']}" for e in error.errors(include_url=False))
        raise ModelError(
            f"{source}: {CONFIG} does not describe a model package ({what}); "
            "write packages with bainite_fast.models.save_package"
        ) from error


def _refuse_newer(data: bytes | str, source: str, error: ValidationError) -> None:
    """Say it if a configuration is of a later version than this software reads."""
    try:
        version = json.loads(data)["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    if isinstance(version, int) and version > _NEWEST:
        raise ModelError(
            f"{source}: format_version {version}, and bainite_fast {__version__} reads 1 to {_NEWEST}: "
            "upgrade bainite_fast"
        ) from error


def _place(keys: tuple[int | str, ...]) -> str:
    """Return where in the file a key is; of ``architecture``, pydantic names the kind too."""
    if keys[:1] == ("architecture",):
        keys = ("architecture", *keys[2:]) if keys[1:] else ("architecture", "kind")
    return ".".join(map(str, keys)) or CONFIG


def config_bytes(config: PackageConfig) -> bytes:
    """Return the canonical ``config.json``: sorted keys, two spaces, one final newline."""
    content = config.model_dump(mode="json")
    for name in _SINCE_2:
        if content[name] in (None, []):
            del content[name]
    return (json.dumps(content, sort_keys=True, indent=2, allow_nan=False) + "\n").encode()


def bundled_path(name: str) -> Path:
    """Return the folder of a model in the box.

    Raises
    ------
    ModelError
        If there is none of that name.
    """
    names = bundled_names()
    if name not in names:
        raise ModelError(
            f"there is no model {name!r}: neither a file or folder of that name nor a model in the box "
            f"({', '.join(names) or 'the box is empty: this installation lacks its bundled models; reinstall it'})"
        )
    return BUNDLED / name


def bundled_names() -> tuple[str, ...]:
    """Return the names of the models in the box, the default first."""
    found = {x.parent.name for x in BUNDLED.glob(f"*/{CONFIG}")} if BUNDLED.is_dir() else set()
    return tuple(sorted(found, key=lambda name: (name != DEFAULT_MODEL, name)))


def network_reach(network: UNetConfig | VGG16UNetConfig) -> tuple[int, int]:
    """Return the stride and the radius of a network, px: what the probe measures, from its layers alone."""
    if not isinstance(network, UNetConfig):
        return 16, 141  # whatever its base
    pair, margin = 2 * (network.kernel // 2), 0
    for _ in range(network.depth):  # from the output down: what each level's margin is made from, on the coarser grid
        margin = -(-(margin + pair) // 2)
    margin += pair
    for _ in range(network.depth):
        margin = 2 * margin + pair
    return 2**network.depth, margin


def parameter_count(network: UNetConfig | VGG16UNetConfig) -> int:
    """Return the number of trained parameters of a network."""
    if isinstance(network, UNetConfig):
        return _unet_parameters(network)
    widths = [network.base << level for level in (0, 1, 2, 3, 3)]
    convolutions = (2, 2, 3, 3, 3)  # of VGG16's four levels and centre
    before, total = 3, 0
    for width, count in zip(widths, convolutions, strict=True):
        total += 9 * before * width + (count - 1) * 9 * width * width + count * width
        before = width
    up = sum(_pair_parameters(below + width, width, 3) for width, below in zip(widths, widths[1:], strict=False))
    return total + up + (network.base + 1) * network.classes


def _pair_parameters(before: int, after: int, kernel: int) -> int:
    """Return the parameters of two convolutions without bias and their batch norms."""
    return kernel * kernel * (before * after + after * after) + 4 * after


def _unet_parameters(unet: UNetConfig) -> int:
    widths = [unet.base << level for level in range(unet.depth + 1)]
    pairs = zip([unet.in_channels, *widths], widths, strict=False)
    down = sum(_pair_parameters(before, after, unet.kernel) for before, after in pairs)
    up = sum(8 * width * width + width + _pair_parameters(2 * width, width, unet.kernel) for width in widths[:-1])
    return down + up + (unet.base + 1) * unet.classes


def sanity_limit(network: UNetConfig | VGG16UNetConfig) -> int:
    """Return the largest plausible size of the weights in bytes: float32 weights, statistics and a generous header."""
    return math.ceil(4.2 * parameter_count(network)) + 2**20
