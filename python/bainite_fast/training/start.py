"""The network that a run starts from: fresh, from ImageNet, or from a package."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import BainiteWarning, InputError, ModelError
from ..io.pixel_size import SCALE_TOLERANCE
from ..models import Contract, LoadedModel, load
from ..models.architectures import architecture, build
from .batches import Intensities
from .checks import default_names
from .dataset import ArrayDataset, Dataset
from .recipe import NetworkRecipe, Recipe

Init = str | os.PathLike[str] | LoadedModel | None


@dataclass(frozen=True, slots=True)
class Start:
    """Where a run starts.

    Attributes
    ----------
    network : torch.nn.Module
        On the CPU, in training mode.
    mean, std : tuple of float
        Per channel; the network takes (intensity − mean) / std.
    origin : str
        Where the weights come from, in words.
    digest : str
        sha256 of the package, or "".
    synthetic : bool or None
        Whether a package that it starts from has seen synthetic images only; None without a package.
    """

    network: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: str
    digest: str = ""
    synthetic: bool | None = None


def named_after(data: Dataset, recipe: Recipe, init: Init) -> Dataset:
    """Return a data set whose classes nobody named with the names of the package that a run starts from.

    Warns
    -----
    BainiteWarning
        If the data have the package's classes in another order, or another scale.
    """
    source = init if init is not None else _package_path(recipe.network.weights)
    if source is None:
        return data
    contract = load(source).contract
    unnamed = data.class_names == default_names(data.n_classes)
    if unnamed and isinstance(data, ArrayDataset) and len(contract.classes) == data.n_classes:
        data = replace(data, class_names=contract.classes)
    _warn_of_meaning(data, recipe, contract)
    return data


def _warn_of_meaning(data: Dataset, recipe: Recipe, contract: Contract) -> None:
    """Say so where classes or pixels of the data mean something else than those of the package to start from."""
    if data.class_names != contract.classes and sorted(data.class_names) == sorted(contract.classes):
        warnings.warn(
            f"the classes of the data are {', '.join(data.class_names)}, and those of {contract.name!r} in another "
            f"order: {', '.join(contract.classes)}; its last layer begins with them mixed up. Give the classes in its "
            "order",
            BainiteWarning,
            stacklevel=5,
        )
    own, its = data.um_per_px, contract.um_per_px
    if own is not None and its is not None and abs(own / recipe.data.scale / its - 1) > SCALE_TOLERANCE:
        warnings.warn(
            f"the images have {own / recipe.data.scale:.4g} µm/px and {contract.name!r} was trained at {its:.4g}; "
            f"data.scale: {own / its:.4g} brings them to its scale",
            BainiteWarning,
            stacklevel=5,
        )


def start_network(recipe: Recipe, init: Init, *, channels: int, classes: int, intensities: Intensities) -> Start:
    """Return the network of a recipe with its first weights.

    Parameters
    ----------
    recipe : Recipe
        Architecture, weights, seed and normalisation.
    init : path, LoadedModel or None
        A package to start from, in place of the recipe's ``network.weights``.
    channels, classes : int
        Of the data.
    intensities : Intensities
        Of the training images.

    Raises
    ------
    ModelError
        If a package or file of weights is of another architecture.
    InputError
        If a single logit is asked for more than two classes.
    """
    wanted = recipe.network
    check_outputs(wanted, classes)
    described = _described(wanted, channels, 1 if wanted.outputs == "single" else classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = build(described)
    source = init if init is not None else _package_path(wanted.weights)
    if source is not None:
        return _from_package(network, load(source), recipe)
    mean, std = _normalisation(recipe, intensities, channels)
    return Start(network, mean, std, _read_encoder(network, wanted.weights))


def file_of_weights(recipe: Recipe, init: Init) -> Path | None:
    """Return the file or folder that a run's first weights come from, or None where they come from none."""
    source = recipe.network.weights if init is None else init
    return None if isinstance(source, LoadedModel) or not Path(source).exists() else Path(source)


def check_outputs(recipe: NetworkRecipe, classes: int) -> None:
    """Refuse a single logit for more than two classes.

    Raises
    ------
    InputError
        If that is what is asked for.
    """
    if recipe.outputs == "single" and classes != 2:
        raise InputError(
            f'network.outputs "single" tells two classes apart, and the data have {classes}; use per_class'
        )


def _described(recipe: NetworkRecipe, channels: int, outputs: int) -> dict[str, Any]:
    described: dict[str, Any] = {"kind": recipe.kind, "in_channels": channels, "classes": outputs, "base": recipe.base}
    return described if recipe.kind == "vgg16_unet" else {**described, "depth": recipe.depth, "kernel": recipe.kernel}


def _package_path(weights: str) -> str | None:
    """Return the package that ``network.weights`` names, or None if it is something else."""
    if weights in ("random", "imagenet"):
        return None
    from ..models.catalog import CONFIG, bundled_names

    path = Path(weights)
    is_file_of_weights = path.is_file() and path.suffix not in (".zip",)
    if weights in bundled_names() or (path / CONFIG).exists() or (path.exists() and not is_file_of_weights):
        return weights
    if not path.exists():
        raise ModelError(
            f"network.weights names {weights!r}, which does not exist; use random, imagenet, a model package, or a "
            "file with VGG16 weights"
        )
    return None


def _read_encoder(network: nn.Module, weights: str) -> str:
    if weights == "random":
        return "random weights"
    from ..models import VGG16UNet, load_imagenet

    if not isinstance(network, VGG16UNet):
        raise ModelError(f"{weights} holds VGG16 weights, and the recipe's network is another; set kind: vgg16_unet")
    load_imagenet(network, None if weights == "imagenet" else Path(weights))
    return "VGG16 encoder from ImageNet" if weights == "imagenet" else f"VGG16 encoder from {Path(weights).name}"


def _normalisation(
    recipe: Recipe, intensities: Intensities, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    choice = recipe.normalize
    if choice == "auto":
        choice = "none" if recipe.network.kind == "vgg16_unet" else "data"
    if choice == "data":
        return intensities.mean, intensities.std
    mean, std = (0.0, 1.0) if isinstance(choice, str) else choice
    return (float(mean),) * channels, (float(std),) * channels


def _from_package(network: nn.Module, loaded: LoadedModel, recipe: Recipe) -> Start:
    """Fill a network with a package's weights; a head with another number of classes stays as it was drawn."""
    mine, given = architecture(network).model_dump(), architecture(loaded.module).model_dump()
    classes = mine.pop("classes"), given.pop("classes")
    if mine != given:
        differing = ", ".join(
            f"{key} {given.get(key)!r} in the package and {mine.get(key)!r} in the recipe or the data"
            for key in sorted(mine.keys() | given.keys())
            if mine.get(key) != given.get(key)
        )
        raise ModelError(
            f"the package {loaded.contract.name!r} is of another architecture: {differing}; change the recipe's "
            "network to the package's, or start from another package"
        )
    state = loaded.module.state_dict()
    if classes[0] != classes[1]:
        state = {key: value for key, value in state.items() if not key.startswith("head.")}
        warnings.warn(
            f"the package {loaded.contract.name!r} has {classes[1]} outputs and {classes[0]} are needed: its last "
            "layer is made anew, everything before it is kept",
            BainiteWarning,
            stacklevel=4,
        )
    network.load_state_dict({**network.state_dict(), **state})
    return Start(
        network,
        loaded.contract.mean,
        loaded.contract.std,
        f"the package {loaded.contract.name}",
        loaded.contract.sha256,
        loaded.contract.synthetic_only,
    )
