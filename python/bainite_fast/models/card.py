"""The card of a model: what it is for, what it has seen, how it was trained and what it reached. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .catalog import PackageConfig, Score, parameter_count

_NETWORKS = {"unet": "U-Net (Ronneberger et al., 2015)", "vgg16_unet": "U-Net with VGG16 encoder"}


def model_card(config: PackageConfig) -> str:
    """Return a model's card as Markdown.

    Parameters
    ----------
    config : PackageConfig
        Of the package: its ``training["data"]`` (words or a mapping), ``recipe`` and ``scores`` become sections; there
        is none of scores where there are none. Of data and recipe that are not known it says so.
    """
    sections = [f"# {config.name}", *([config.description] if config.description else [])]
    if config.synthetic_only:
        sections.append(
            "**It has seen no real steel.** Every picture it was trained and scored on is synthetic: the scores say "
            "that the software works, and nothing about real micrographs."
        )
    sections += ["## What it takes and gives", _contract(config), "## Data", _data(config)]
    if config.scores:
        sections += ["## Scores", _table(("score", "value", "interval", "measured on"), score_rows(config.scores))]
    sections += ["## Recipe", _recipe(config), "## Limits", _limits(config)]
    return "\n\n".join(sections) + "\n"


def score_rows(scores: Sequence[Score]) -> list[tuple[str, str, str, str]]:
    """Return (metric and class, value, interval, data) of each score, in words."""
    return [
        (
            f"{score.metric}{'' if score.class_name is None else f' of {score.class_name}'}",
            f"{score.value:.4g}",
            "" if score.low is None else f"{score.low:.4g} … {score.high:.4g} ({score.interval})",
            score.data,
        )
        for score in scores
    ]


def _contract(config: PackageConfig) -> str:
    network, channels = config.architecture, config.architecture.in_channels
    classes = ", ".join(f"{value} {x.name}" for value, x in enumerate(config.classes))
    scale = "not known" if config.um_per_px is None else f"{config.um_per_px:g} µm/px"
    inside = " (ImageNet's is applied inside the network)" if network.kind == "vgg16_unet" else ""
    depth = f"{network.depth} levels, " if network.kind == "unet" else ""
    lines = [
        f"Network: {_NETWORKS[network.kind]}, {depth}base {network.base}, {parameter_count(network):,} parameters",
        f"Classes: {classes}",
        f"Image: {channels} channel{'s' if channels > 1 else ''}, intensities 0…1, then (x − mean) / std with mean "
        f"{_numbers(config.mean)} and std {_numbers(config.std)}{inside}",
        f"Scale: {scale}",
        f"Tiles: on a grid of {config.stride} px, with {config.halo} px of context on every side",
    ]
    if config.temperature is not None:
        lines.append(f"Confidence: softmax(logits / {config.temperature:.4g}) of the winning class, calibrated")
    return _list(lines)


def _data(config: PackageConfig) -> str:
    data = config.training.get("data")
    if data is None:
        return "Not recorded."
    if not isinstance(data, Mapping):
        return str(data)
    return _list([f"{name}: {value}" for name, value in _flat(data) if value])


def _recipe(config: PackageConfig) -> str:
    if not config.recipe:
        return "Not recorded."
    named = [str(config.recipe[key]) for key in ("name", "description") if config.recipe.get(key)]
    settings = dict(_flat({key: value for key, value in config.recipe.items() if key not in ("name", "description")}))
    if (origin := config.training.get("origin")) and "network.weights" in settings:
        settings["network.weights"] = str(origin)  # what was fine-tuned need not be what the recipe names
    head = f"Recipe {': '.join(named)}\n\n" if named else ""
    return head + _table(("setting", "value"), [(name, value or "none") for name, value in settings.items()])


def _limits(config: PackageConfig) -> str:
    seen = "synthetic pictures only" if config.synthetic_only else "the data named above only"
    scale = "" if config.um_per_px is None else f", magnification (mosaics are brought to {config.um_per_px:g} µm/px)"
    return (
        f"The model knows {seen}. On another steel grade, etching, microscope or detector{scale} its answers "
        "may be wrong while its confidence is high: score it on annotated images of your own first."
    )


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{x:g}" for x in values)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted name, value) of nested settings."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)) and any(isinstance(one, Mapping) for one in value):
            yield from _flat({str(k): one for k, one in enumerate(value)}, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            yield f"{prefix}{name}", ", ".join(map(str, value))
        else:
            yield f"{prefix}{name}", "" if value is None else str(value)


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(x) for x in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
