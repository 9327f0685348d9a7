"""What the rewritings of a symbolically traced network ask of its nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import fx, nn

from .vgg16_unet import ImageNetInput

_RELU_FUNCTIONS = (torch.relu, torch.relu_, torch.nn.functional.relu)


class _Tracer(fx.Tracer):
    """Keeps what the rewritings know as one layer whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) is ImageNetInput or super().is_leaf_module(m, module_qualified_name)


def symbolic_trace(module: nn.Module) -> fx.GraphModule:
    """Return the graph of a network's layers; raises as ``torch.fx.symbolic_trace`` does."""
    tracer = _Tracer()
    graph = tracer.trace(module)
    return fx.GraphModule(tracer.root, graph, type(module).__name__)


def only_user(node: fx.Node, wanted: Callable[[fx.Node], bool]) -> fx.Node | None:
    """Return the one user of a node if it is what is wanted."""
    user = next(iter(node.users)) if len(node.users) == 1 else None
    return user if user is not None and wanted(user) else None


def is_plain(module: nn.Module) -> bool:
    """Say whether a layer does what its type says with weights of its own: no hook computes them or changes anything.

    ``torch.nn.utils.weight_norm`` and ``spectral_norm`` are such hooks.
    """
    hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    return not hooks and (getattr(module, "weight", None) is None or "weight" in module._parameters)


def is_relu(node: fx.Node, modules: dict[str, Any]) -> bool:
    """Say whether a node is a ReLU."""
    if node.op == "call_module":
        return type(modules[str(node.target)]) is nn.ReLU
    if node.op == "call_method":
        return node.target in ("relu", "relu_")
    return node.op == "call_function" and node.target in _RELU_FUNCTIONS


def is_halving(node: fx.Node, modules: dict[str, Any]) -> bool:
    """Say whether a node is a 2×2 maximum pooling of stride 2."""
    pool = modules.get(str(node.target)) if node.op == "call_module" else None
    return (
        type(pool) is nn.MaxPool2d
        and pool.kernel_size in (2, (2, 2))
        and pool.stride in (2, (2, 2))
        and pool.padding in (0, (0, 0))
        and pool.dilation in (1, (1, 1))
        and not pool.ceil_mode
        and not pool.return_indices
    )


def joined(node: fx.Node) -> list[fx.Node]:
    """Return what a concatenation along the channels joins, or the node itself."""
    if node.op != "call_function" or node.target is not torch.cat:
        return [node]
    arguments = dict(zip(("tensors", "dim"), node.args, strict=False)) | dict(node.kwargs)
    parts = arguments["tensors"]
    if arguments.get("dim", 0) not in (1, -3) or not isinstance(parts, (list, tuple)):
        return [node]
    return [x for part in parts for x in joined(cast(fx.Node, part))]
