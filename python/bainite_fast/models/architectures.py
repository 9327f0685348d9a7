"""Networks from their description in a package, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from ..errors import ModelError
from .catalog import ArchitectureConfig, UNetConfig, VGG16UNetConfig
from .unet import UNet
from .vgg16_unet import VGG16UNet

_NETWORKS: dict[type[UNetConfig] | type[VGG16UNetConfig], type[nn.Module]] = {
    UNetConfig: UNet,
    VGG16UNetConfig: VGG16UNet,
}


def build(config: UNetConfig | VGG16UNetConfig | Mapping[str, Any]) -> nn.Module:
    """Return a fresh network of an architecture.

    Parameters
    ----------
    config : UNetConfig, VGG16UNetConfig or mapping
        The ``architecture`` of a package's configuration: ``kind`` (``"unet"``, the default, or ``"vgg16_unet"``) and
        the arguments of that network.

    Returns
    -------
    UNet or VGG16UNet
        Random weights, in training mode.

    Raises
    ------
    ModelError
        If the kind or an argument is unknown or out of range.
    """
    if isinstance(config, Mapping):
        try:
            config = TypeAdapter(ArchitectureConfig).validate_python(dict(config))
        except ValidationError as error:
            what = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
            raise ModelError(f"no network is described by {dict(config)} ({what})") from error
    return _NETWORKS[type(config)](**config.model_dump(exclude={"kind"}))


def architecture(module: nn.Module) -> UNetConfig | VGG16UNetConfig:
    """Return the description that :func:`build` makes a network of the same architecture from.

    Raises
    ------
    ModelError
        If the network is none that a package can hold.
    """
    for config, kind in _NETWORKS.items():
        if type(module) is kind:
            names = [name for name in config.model_fields if name != "kind"]
            return config.model_validate({name: getattr(module, name) for name in names})
    kinds = " or ".join(kind.__name__ for kind in _NETWORKS.values())
    raise ModelError(
        f"a package holds a bainite_fast {kinds}, and got {type(module).__name__}; pass other networks to segment() "
        "as they are, or save them with torch.jit.trace(...).save(path)"
    )


def load_weights(network: nn.Module, weights: Mapping[str, torch.Tensor], *, source: str, assign: bool = False) -> None:
    """Give a network the weights of a file.

    Parameters
    ----------
    network : torch.nn.Module
        Changed in place, and only if all weights fit.
    weights : mapping of str to torch.Tensor
        By the names of ``network.state_dict()``.
    source : str
        Where they come from, for errors.
    assign : bool
        Take the tensors themselves instead of copying their values.

    Raises
    ------
    ModelError
        If a name or shape is another: the error names the first ones, and the network that such weights belong to where
        it is one of ours.
    """
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in weights]
    strange = [name for name in weights if name not in wanted]
    shaped = [name for name in wanted if name in weights and wanted[name].shape != weights[name].shape]
    if not (missing or strange or shaped):
        network.load_state_dict(dict(weights), assign=assign)
        return
    wrong = [f"{verb} {_few(names)}" for verb, names in (("lack", missing), ("hold", strange)) if names]
    wrong += [f"{x} is {list(weights[x].shape)} and must be {list(wanted[x].shape)}" for x in shaped[:2]]
    found = recognize(weights)
    whose = "" if found is None else f"; they are those of a {_words(found)}"
    fits = _words(_architecture_or_name(network))
    raise ModelError(f"{source}: the weights do not fit the architecture {fits}: they {'; '.join(wrong)}{whose}")


def recognize(weights: Mapping[str, torch.Tensor]) -> UNetConfig | VGG16UNetConfig | None:
    """Return the architecture that weights by its names belong to, or None where it is none that a package can hold."""
    shapes = {name: tuple(x.shape) for name, x in weights.items()}
    head = shapes.get("head.weight", ())
    first = shapes.get("down1convr1.conv.weight", ())
    try:
        if len(first) == len(head) == 4:
            depth = sum(name.startswith("down") and name.endswith("convr1.conv.weight") for name in shapes)
            return UNetConfig(in_channels=first[1], classes=head[0], base=first[0], depth=depth, kernel=first[2])
        first = shapes.get("features.0.weight", ())
        if len(first) == len(head) == 4 and "up4convr1.conv.weight" in shapes:
            return VGG16UNetConfig(classes=head[0], base=first[0])  # gray and RGB have the same weights
    except ValidationError:
        return None
    return None


def _architecture_or_name(network: nn.Module) -> UNetConfig | VGG16UNetConfig | str:
    return architecture(network) if type(network) in _NETWORKS.values() else type(network).__name__


def _words(config: UNetConfig | VGG16UNetConfig | str) -> str:
    if isinstance(config, str):
        return config
    arguments = ", ".join(f"{name}={value}" for name, value in config.model_dump(exclude={"kind"}).items())
    return f"{_NETWORKS[type(config)].__name__}({arguments})"


def _few(names: list[str]) -> str:
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
