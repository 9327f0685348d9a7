"""Batch normalisation folded into the convolution before it: fewer passes over memory, the same answer."""

from __future__ import annotations

import copy

import torch
from torch import fx, nn

from .graphs import is_plain, symbolic_trace


def fold_batch_norm(module: nn.Module) -> tuple[nn.Module, int]:
    """Return a copy with every batch norm that alone follows a convolution folded into it, and how many were folded.

    ``Conv2d`` and ungrouped ``ConvTranspose2d`` take in a ``BatchNorm2d`` with running statistics when nothing else
    uses the convolution, its output or the norm. Everything else stays as it is; so does a network whose ``forward``
    cannot be traced symbolically (0 are folded then, and the TorchScript compiler folds what it can).

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode; it is not changed.
    """
    module = copy.deepcopy(module).eval()
    try:
        graph = symbolic_trace(module)
    except Exception:  # control flow on values or sizes: whatever a foreign forward does with fx's proxies
        return module, 0
    modules = dict(graph.named_modules())
    calls = [node for node in graph.graph.nodes if node.op == "call_module"]
    targets = [modules[str(node.target)] for node in calls]
    folded = 0
    for node in calls:
        before = node.args[0] if node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        norm, conv = modules[str(node.target)], modules[str(before.target)]
        if type(norm) is not nn.BatchNorm2d or sum(x is norm or x is conv for x in targets) != 2:
            continue
        if not _foldable(conv, norm):
            continue
        _fold_pair(conv, norm)
        node.replace_all_uses_with(before)
        graph.graph.erase_node(node)
        folded += 1
    graph.graph.lint()
    graph.recompile()
    return graph.eval(), folded


def _foldable(conv: nn.Module, norm: nn.BatchNorm2d) -> bool:
    if norm.running_mean is None or norm.running_var is None or not is_plain(conv) or not is_plain(norm):
        return False
    return type(conv) is nn.Conv2d or (type(conv) is nn.ConvTranspose2d and conv.groups == 1)


def _fold_pair(conv: nn.Conv2d | nn.ConvTranspose2d, norm: nn.BatchNorm2d) -> None:
    """Scale the kernel by gamma / sqrt(variance + eps) and move the rest into the bias, in float64."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch norm without running statistics cannot be folded")
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    bias = -norm.running_mean.double() * scale
    if norm.bias is not None:
        bias = bias + norm.bias.detach().double()
    if conv.bias is not None:
        bias = bias + conv.bias.detach().double() * scale
    along = (1, -1, 1, 1) if isinstance(conv, nn.ConvTranspose2d) else (-1, 1, 1, 1)
    weight = conv.weight.detach().double() * scale.reshape(along)
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=False)


def worst_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the largest difference of two logits, relative to the largest of `b` or to 1."""
    return float((a.float() - b.float()).abs().max()) / max(1.0, float(b.float().abs().max()))
