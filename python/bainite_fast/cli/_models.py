"""``bainite-fast models``: what is in the box."""

from __future__ import annotations

from typing import Any

from ._card import readable
from ._console import emit, emit_json, table
from ._options import Json


def models(
    as_json: Json = False,
) -> None:
    """List the models in the box: classes, scale, size, and what they were trained on.

    Any other model is given to `segment --model` as a package folder or zip, or as a TorchScript file.
    """
    from ..models import available

    found = available()
    listed = "\n\n".join(describe(name, model) for name, model in found.items())
    emit_json(found) if as_json else emit(listed or "none: this installation lacks its bundled models; reinstall it")


NETWORKS = {"unet": "U-Net", "vgg16_unet": "U-Net with VGG16 encoder"}


def describe(name: str, model: dict[str, Any]) -> str:
    """Return one model as lines for a reader."""
    return f"{name}{' (default)' if model['default'] else ''}\n{table(_rows(model), indent='  ')}"


def _rows(model: dict[str, Any]) -> list[tuple[str, str]]:
    scale = "any" if model["um_per_px"] is None else f"{model['um_per_px']:g} µm/px"
    known = [("about", model["description"]), ("trained on", model["trained_on"])]
    recipe = {key: str(value) for key, value in (model.get("recipe") or {}).items() if key in ("name", "description")}
    known.append(("recipe", ": ".join(text for text in (recipe.get("name"), recipe.get("description")) if text)))
    return [
        *((name, text) for name, text in known if text),
        ("classes", ", ".join(f"{index} {label}" for index, label in enumerate(model["classes"]))),
        ("scale", scale),
        ("network", NETWORKS[model["kind"]]),
        ("channels", str(model["channels"])),
        ("stride, halo", f"{model['stride']} px, {model['halo']} px"),
        ("size", f"{model['parameters']:,} parameters, {model['bytes'] / 1e6:.2f} MB"),
        ("path", model["path"]),
    ]


def show_model(source: str, *, as_json: bool) -> None:
    """Print what a package says of itself: what it takes and gives, its scores, and its card."""
    from ..models import Score, describe_package
    from ..models.card import score_rows

    found = describe_package(source)
    if as_json:
        emit_json(found)
        return
    numbers = {key: ", ".join(f"{x:g}" for x in found[key]) for key in ("mean", "std")}
    rows = [
        ("kind", "model package"),
        ("name", found["name"]),
        *_rows(found),
        ("input", f"intensities 0…1, less {numbers['mean']}, divided by {numbers['std']}"),
        ("confidence", f"softmax of logits / {found['temperature']:g}"),
        ("sha256", found["sha256"]),
    ]
    if "## Scores" not in found["card"]:
        scores = score_rows([Score.model_validate(x) for x in found["scores"]])
        rows += [(f"score {k}", "  ".join(x for x in row if x)) for k, row in enumerate(scores, start=1)]
    emit(f"{table(rows)}\n\n{readable(found['card'])}".rstrip())
