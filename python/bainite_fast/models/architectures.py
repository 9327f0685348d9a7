"""Networks from their description in a package, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
