"""What a package is, from its configuration and card alone: nothing of it is run. Imports no torch."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .catalog import CONFIG, DEFAULT_MODEL, PackageConfig, bundled_names, bundled_path, config_bytes, parameter_count
from .package_files import open_zip, read_description

RDF = "rdf.yaml"
"""What describes a bioimage.io model, in a zip or a folder."""
FOREIGN = {
    "torchscript": "a TorchScript network",
    "pt2": "a network exported by torch.export",
    "onnx": "a network in ONNX",
    "bioimageio": "a bioimage.io model",
    "pickle": "a pickle, such as torch.save writes",
    "safetensors": "weights in safetensors alone",
}
"""Kinds of `foreign_model`, in words."""


def is_package(source: str | os.PathLike[str]) -> bool:
    """Say whether something is a model package (folder or zip) or, where no file is called so, a model in the box."""
    path = Path(source)
    if path.is_dir():
        return (path / CONFIG).is_file()
    if path.is_file():
        try:
            with open_zip(path) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, OSError):
            return False
        return any(name == CONFIG or name.partition("/")[2] == CONFIG for name in names)
    return os.fspath(source) in bundled_names()


def foreign_model(source: str | os.PathLike[str]) -> str | None:
    """Say which kind of `FOREIGN` a model that is no package seems to be; None for what seems to be no model."""
    path = Path(source)
    if path.is_dir():
        return "bioimageio" if (path / RDF).is_file() else None
    try:
        if zipfile.is_zipfile(path):
            with open_zip(path) as archive:
                return _foreign_zip(archive.namelist())
        with path.open("rb") as file:
            head = file.read(2)
    except (zipfile.BadZipFile, OSError):
        return None
    if head[:1] == b"\x80" and head[1:] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    suffix = path.suffix.lower()
    return suffix[1:] if suffix in (".onnx", ".safetensors") else None


def _foreign_zip(names: list[str]) -> str | None:
    leaves = {name.partition("/")[2] for name in names}
    if any(leaf.startswith("code/") for leaf in leaves) and leaves & {"constants.pkl", "data.pkl"}:
        return "torchscript"
    if "models/model.json" in leaves:
        return "pt2"
    if RDF in names or RDF in leaves:
        return "bioimageio"
    return "pickle" if "data.pkl" in leaves else None


def describe_package(source: str | os.PathLike[str]) -> dict[str, Any]:
    """Return all that a package says of itself.

    Parameters
    ----------
    source : str or path
        Folder, zip, or name of a model in the box.

    Returns
    -------
    dict
        JSON-able: what :func:`available` gives of a model in the box, and ``name``, ``sha256``, ``format_version``,
        ``colors``, ``mean``, ``std``, ``radius`` (px), ``temperature``, ``scores``, ``recipe``, ``training`` and
        ``card`` (Markdown).

    Raises
    ------
    ModelError
        If it is no package, or its configuration is wrong. The weights are not read: :func:`load` tests those.
    """
    path = Path(source)
    if not path.exists() and os.fspath(source) in bundled_names():
        path = bundled_path(os.fspath(source))
    config, card = read_description(path)
    return {
        "name": config.name,
        **summarize_package(config, path),
        "sha256": hashlib.sha256(config_bytes(config)).hexdigest(),
        "format_version": config.format_version,
        "colors": [list(x.color) for x in config.classes],
        "mean": list(config.mean),
        "std": list(config.std),
        "radius": config.radius,
        "temperature": 1.0 if config.temperature is None else config.temperature,
        "scores": [x.model_dump() for x in config.scores],
        "recipe": config.recipe,
        "training": config.training,
        "card": card,
    }


def available() -> dict[str, dict[str, Any]]:
    """Return what each model in the box is, without importing torch.

    Returns
    -------
    dict of str to dict
        By name: ``description``, ``trained_on`` (in words, "" where it is not known), ``classes`` (names),
        ``um_per_px``, ``kind`` (of network), ``channels``, ``parameters``, ``bytes`` (size of the package), ``stride``,
        ``halo`` (px), ``synthetic_only``, ``default`` and ``path``.
    """
    folders = {name: bundled_path(name) for name in bundled_names()}
    return {name: summarize_package(read_description(folder)[0], folder) for name, folder in folders.items()}


def summarize_package(config: PackageConfig, path: Path) -> dict[str, Any]:
    """Return what :func:`available` says of one package."""
    files = [x for x in path.iterdir() if x.is_file()] if path.is_dir() else [path]
    return {
        "description": config.description,
        "trained_on": _trained_on(config),
        "classes": [x.name for x in config.classes],
        "um_per_px": config.um_per_px,
        "kind": config.architecture.kind,
        "channels": config.architecture.in_channels,
        "parameters": parameter_count(config.architecture),
        "bytes": sum(x.stat().st_size for x in files),
        "stride": config.stride,
        "halo": config.halo,
        "synthetic_only": config.synthetic_only,
        "default": DEFAULT_MODEL in bundled_names() and path == bundled_path(DEFAULT_MODEL),
        "path": str(path),
    }


def _trained_on(config: PackageConfig) -> str:
    """Return in a line what a model was trained on, as far as its package says it."""
    if config.synthetic_only:
        return "synthetic pictures only; it has seen no real steel"
    data = config.training.get("data")
    if isinstance(data, Mapping):
        images = data.get("training images")
        count = f", {len(images):,} of them" if isinstance(images, (list, tuple)) else ""
        origin = str(config.training.get("origin") or "")
        start = f"; it starts from {origin}" if origin.startswith("the package ") else ""
        return f"{data['source']}{count}{start}" if data.get("source") else ""
    return str(data or "").partition(". ")[0]
