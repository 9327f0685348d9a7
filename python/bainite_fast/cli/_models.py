"""``bainite-fast models``: what is in the box."""

from __future__ import annotations

from typing import Any

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


def describe(name: str, model: dict[str, Any]) -> str:
    """Return one model as lines for a reader."""
    scale = "any" if model["um_per_px"] is None else f"{model['um_per_px']:g} µm/px"
    seen = "synthetic mosaics only; it has seen no real steel" if model["synthetic_only"] else "real micrographs"
    rows = [
        ("about", model["description"]),
        ("classes", ", ".join(f"{index} {label}" for index, label in enumerate(model["classes"]))),
        ("trained on", seen),
        ("scale", scale),
        ("channels", str(model["channels"])),
        ("stride, halo", f"{model['stride']} px, {model['halo']} px"),
        ("size", f"{model['parameters']:,} parameters, {model['bytes'] / 1e6:.2f} MB"),
        ("path", model["path"]),
    ]
    return f"{name}{' (default)' if model['default'] else ''}\n{table(rows, indent='  ')}"
