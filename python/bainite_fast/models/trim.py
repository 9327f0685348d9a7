"""A network that stops computing what the halo alone would show: each layer keeps the margin that the core still needs.

A tile brings the halo of the whole network, and the first layers need it. Towards the output less and less of it
matters: after the last 3×3 convolution, nothing. Ronneberger et al. (2015) crop the skips of a U-Net for the same
reason; here any network whose layers are known is cropped, and its answer at the core stays the same.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from .fuse import ConvReLU2d, GrayConvReLU2d, JoinChannels, MaxPool2x2, middle
from .unet import check_size
from .vgg16_unet import ImageNetInput
from .winograd import WinogradConv2d, WinogradConv2dPool, pair_item


@dataclass(frozen=True)
class _Layer:
    """How a layer changes scale, how far beyond a pixel of its own it looks, and whether it interpolates linearly."""

    down: int = 1
    up: int = 1
    reach: int = 0
    linear: bool = False

    def needs(self, margin: int) -> int:
        """Return the margin of the input that the margin of the output is made from."""
        if self.linear:  # the centre of the outermost pixel lies between those of two of the input, half a pixel in
            return -(-(2 * margin - 1 + self.up) // (2 * self.up))
        return -(-margin * self.down // self.up) + self.reach


_POINTWISE = _Layer()
_POINTWISE_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Sigmoid,
    nn.Tanh, nn.BatchNorm2d, nn.Identity, nn.Dropout, nn.Dropout2d, ImageNetInput,
)  # fmt: skip
_POINTWISE_FUNCTIONS = (
    check_size, torch.relu, torch.relu_, functional.relu, torch.sigmoid, torch.add, torch.mul, torch.cat, operator.add,
    operator.iadd, operator.mul,
)  # fmt: skip
_POINTWISE_METHODS = ("relu", "relu_", "sigmoid", "add", "add_", "mul", "contiguous")


def trim(network: nn.Module, halo: int) -> tuple[nn.Module, int] | None:
    """Return a copy of a network for tiles that have the halo on every side, and the margin that it takes away.

    Parameters
    ----------
    network : torch.nn.Module
        Symbolically traced, one input [N, C, H, W], one output of the same height and width; it is not changed.
    halo : int
        Of the network, px at full resolution.

    Returns
    -------
    (torch.nn.Module, int) or None
        What returns [N, K, H - 2 · margin, W - 2 · margin], and margin in px, at most the halo. None where there is
        nothing to gain, or a layer is not known.
    """
    if not isinstance(network, fx.GraphModule):
        return None
    graph = fx.Graph()
    graph.output(graph.graph_copy(network.graph, {}))
    trimmed = fx.GraphModule(network, graph)  # the layers are shared
    modules = dict(trimmed.named_modules())
    layers = _layers(trimmed.graph, modules)
    if layers is None:
        return None
    needed = _needed(trimmed.graph, layers)
    available: dict[fx.Node, int] = {}
    crops = 0
    for node, layer in layers.items():
        if node.op == "placeholder":
            available[node] = halo
            continue
        inputs = node.all_input_nodes
        margin = min(available[x] for x in inputs)
        if layer.up > 1:
            margin = min(margin, layer.needs(needed[node]))
        for x in inputs:
            if available[x] > margin:
                _crop_input(node, x, available[x] - margin, modules)
                crops += 1
        if margin < layer.needs(needed[node]) or margin * layer.up % layer.down:
            return None  # the halo is less than the layers can see, or not on the grid of a pooling
        available[node] = margin * layer.up // layer.down
    if not crops:
        return None
    trimmed.graph.lint()
    trimmed.recompile()
    return trimmed.eval(), halo - available[next(reversed(available))]


def _crop_input(node: fx.Node, x: fx.Node, margin: int, modules: dict[str, nn.Module]) -> None:
    """Take a margin away from an input of a node, without a pass over memory where a Winograd convolution can do it."""
    if node.op == "call_module" and isinstance(modules[str(node.target)], (WinogradConv2d, JoinChannels)):
        return  # it takes the middle of the larger of its inputs
    if x.op == "call_module" and type(modules[str(x.target)]) is WinogradConv2d and len(x.users) == 1:
        x.update_kwarg("crop", margin)
        return
    with node.graph.inserting_before(node):
        node.replace_input_with(x, node.graph.call_function(middle, (x, margin)))


def _layers(graph: fx.Graph, modules: dict[str, nn.Module]) -> dict[fx.Node, _Layer] | None:
    """Return the layer of each node, but for the output, in order; None where one is not known."""
    layers: dict[fx.Node, _Layer] = {}
    for node in graph.nodes:
        if node.op == "output":
            return layers if isinstance(node.args[0], fx.Node) else None
        layer = _layer(node, modules)
        if layer is None:
            return None
        layers[node] = layer
    return None


def _layer(node: fx.Node, modules: dict[str, nn.Module]) -> _Layer | None:
    if node.op == "placeholder":
        return _POINTWISE
    if not node.all_input_nodes:
        return None
    if node.op == "call_method":
        return _POINTWISE if node.target in _POINTWISE_METHODS else None
    if node.op == "call_function":
        if node.target is torch.cat and (node.kwargs.get("dim") or (*node.args, 0, 0)[1]) not in (1, -3):
            return None
        if node.target is pair_item:
            return _Layer(down=2) if node.args[1] == 1 else _POINTWISE
        return _POINTWISE if node.target in _POINTWISE_FUNCTIONS else None
    return _module_layer(modules[str(node.target)]) if node.op == "call_module" else None


def _module_layer(module: nn.Module) -> _Layer | None:
    if type(module) in _POINTWISE_MODULES:
        return _POINTWISE
    known = _KNOWN.get(type(module))
    return None if known is None else known(module)


def _convolution(conv: nn.Conv2d) -> _Layer | None:
    reach = [d * (k - 1) // 2 for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    if conv.stride != (1, 1) or any(k % 2 == 0 for k in conv.kernel_size) or conv.padding not in ("same", tuple(reach)):
        return None
    return _Layer(reach=max(reach))


def _transposed(conv: nn.ConvTranspose2d) -> _Layer | None:
    factor = conv.stride[0]
    plain = (conv.padding, conv.output_padding, conv.dilation) == ((0, 0), (0, 0), (1, 1))
    return _Layer(up=factor) if plain and conv.kernel_size == conv.stride == (factor, factor) else None


def _pooling(pool: nn.MaxPool2d | nn.AvgPool2d) -> _Layer | None:
    kernel, stride, padding = (_pair(x) for x in (pool.kernel_size, pool.stride, pool.padding))
    if kernel != stride or kernel[0] != kernel[1] or padding != (0, 0) or pool.ceil_mode:
        return None
    if isinstance(pool, nn.MaxPool2d) and (_pair(pool.dilation) != (1, 1) or pool.return_indices):
        return None
    return _Layer(down=kernel[0])


def _upsampling(up: nn.Upsample) -> _Layer | None:
    if up.mode not in ("nearest", "bilinear") or up.align_corners or up.scale_factor is None:
        return None
    factors = {float(x) for x in (up.scale_factor if isinstance(up.scale_factor, tuple) else (up.scale_factor,))}
    factor = factors.pop()
    return None if factors or factor != int(factor) else _Layer(up=int(factor), linear=up.mode == "bilinear")


_KNOWN: dict[type, Callable[[Any], _Layer | None]] = {
    nn.Conv2d: _convolution,
    ConvReLU2d: _convolution,
    GrayConvReLU2d: _convolution,
    JoinChannels: lambda _: _POINTWISE,
    MaxPool2x2: lambda _: _Layer(down=2),
    WinogradConv2d: lambda _: _Layer(reach=1),
    WinogradConv2dPool: lambda _: _Layer(reach=1),
    nn.ConvTranspose2d: _transposed,
    nn.MaxPool2d: _pooling,
    nn.AvgPool2d: _pooling,
    nn.Upsample: _upsampling,
    nn.UpsamplingNearest2d: _upsampling,
}


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _needed(graph: fx.Graph, layers: dict[fx.Node, _Layer]) -> dict[fx.Node, int]:
    """Return the margin round the core, at each node's own scale, that the core's output is made from."""
    needed = dict.fromkeys(layers, 0)
    for node in reversed(graph.nodes):
        if node in layers:
            for x in node.all_input_nodes:
                needed[x] = max(needed[x], layers[node].needs(needed[node]))
    return needed
