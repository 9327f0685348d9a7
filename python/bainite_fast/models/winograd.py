"""3×3 convolutions of a network by Winograd's minimal filtering, with ReLU, concatenation and pooling in the same pass.

The kernel is ``cpp/include/bainite/winograd.hpp``; here it becomes an operator of PyTorch, so that TorchScript can hold
it, and a rewriting of a traced network, so that any network's 3×3 convolutions go through it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from .. import _core
from .fuse import empty_image, pixels
from .graphs import is_halving, is_plain, is_relu, joined, only_user

CHANNELS = 16  # inputs and output come in multiples of this

_library: Any = cast(Any, torch.library.Library)("bainite_fast", "DEF")
_library.define("conv3x3(Tensor[] inputs, Tensor kernels, Tensor bias, bool relu, int crop=0) -> Tensor")
_library.define("conv3x3_pool2x2(Tensor[] inputs, Tensor kernels, Tensor bias, bool relu) -> (Tensor, Tensor)")


def _conv3x3(
    inputs: Sequence[torch.Tensor], kernels: torch.Tensor, bias: torch.Tensor, relu: bool, crop: int = 0
) -> torch.Tensor:
    height, width = _least(inputs)
    out = empty_image(inputs[0], bias.shape[0], height - 2 * crop, width - 2 * crop)
    _convolve(inputs, out, kernels, bias, relu)
    return out


def _conv3x3_pool2x2(
    inputs: Sequence[torch.Tensor], kernels: torch.Tensor, bias: torch.Tensor, relu: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    height, width = _least(inputs)
    out = empty_image(inputs[0], bias.shape[0], height, width)
    pooled = empty_image(inputs[0], bias.shape[0], height // 2, width // 2)
    _convolve(inputs, out, kernels, bias, relu, pixels(pooled))
    return out, pooled


_library.impl("conv3x3", _conv3x3, "CPU")
_library.impl("conv3x3_pool2x2", _conv3x3_pool2x2, "CPU")


def _convolve(
    inputs: Sequence[torch.Tensor],
    out: torch.Tensor,
    kernels: torch.Tensor,
    bias: torch.Tensor,
    relu: bool,
    pooled: torch.Tensor | None = None,
) -> None:
    """Fill `out` from the middle of the inputs."""
    _core.winograd_convolve(
        [pixels(x) for x in inputs],
        pixels(out),
        kernels=kernels,
        bias=bias,
        relu=relu,
        pooled=pooled,
        threads=torch.get_num_threads(),
    )


def _least(inputs: Sequence[torch.Tensor]) -> tuple[int, int]:
    return min(int(x.shape[2]) for x in inputs), min(int(x.shape[3]) for x in inputs)


class WinogradConv2d(nn.Module):
    """A 3×3 convolution, zero-padded by one pixel, of the concatenation of its inputs; float32 on the CPU.

    Inputs larger than the smallest give what lies round its middle; and of the output, only the middle may be computed.

    Parameters
    ----------
    conv : torch.nn.Conv2d
        To take the place of; see :func:`replaceable`.
    relu : bool
        Whether a ReLU follows.
    """

    kernels: torch.Tensor
    bias: torch.Tensor

    def __init__(self, conv: nn.Conv2d, *, relu: bool) -> None:
        super().__init__()
        kernels = conv.weight.new_empty(36, conv.in_channels, conv.out_channels)
        _core.winograd_kernels(conv.weight.detach().contiguous(), kernels)
        bias = conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach().clone()
        self.register_buffer("kernels", kernels)
        self.register_buffer("bias", bias)
        self.relu = relu

    def forward(self, *inputs: torch.Tensor, crop: int = 0) -> torch.Tensor:
        """Return the convolution [N, out_channels, H, W] of images [N, C, H, W] concatenated along C.

        `crop` px on each side are left out.
        """
        out: torch.Tensor = torch.ops.bainite_fast.conv3x3(list(inputs), self.kernels, self.bias, self.relu, crop)
        return out


class WinogradConv2dPool(WinogradConv2d):
    """The same, and the 2×2 maximum pooling of the answer in the same pass."""

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        """Return the convolution [N, out_channels, H, W] and its pooling [N, out_channels, H // 2, W // 2]."""
        both: tuple[torch.Tensor, torch.Tensor] = torch.ops.bainite_fast.conv3x3_pool2x2(
            list(inputs), self.kernels, self.bias, self.relu
        )
        return both


def replaceable(conv: nn.Module) -> bool:
    """Say whether a module is a convolution that :class:`WinogradConv2d` can take the place of, and gains by it."""
    return (
        type(conv) is nn.Conv2d
        and is_plain(conv)
        and conv.kernel_size == (3, 3)
        and conv.stride == (1, 1)
        and conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.padding in ((1, 1), "same")
        and conv.padding_mode == "zeros"
        and conv.weight.dtype == torch.float32
        and conv.in_channels % CHANNELS == 0
        and conv.out_channels % CHANNELS == 0
    )


@dataclass(frozen=True)
class Rewriting:
    """What became of a network: it, the number of convolutions replaced, and their share of its multiplications."""

    network: nn.Module
    convolutions: int = 0
    share: float = 0.0


def use_winograd(network: nn.Module, sample: torch.Tensor) -> Rewriting:
    """Rewrite a symbolically traced network.

    A ReLU that alone follows a convolution goes into it; so does a 2×2 maximum pooling, and a concatenation along the
    channels before it is read from its parts.

    Parameters
    ----------
    network : torch.nn.Module
        Changed in place. Anything but a ``torch.fx.GraphModule`` is returned as it is.
    sample : torch.Tensor [N, C, H, W]
        An input, to learn the shapes of all that flows.
    """
    if not isinstance(network, fx.GraphModule) or not _core.winograd_available():
        return Rewriting(network)
    ShapeProp(network).propagate(sample)
    modules = dict(network.named_modules())
    replaced, products, all_products = 0, 0, 0
    for node in list(network.graph.nodes):
        conv = modules.get(str(node.target)) if node.op == "call_module" else None
        all_products += _products(node, conv)
        if not isinstance(conv, nn.Conv2d) or not replaceable(conv) or len(node.args) != 1 or node.kwargs:
            continue
        inputs = joined(cast(fx.Node, node.args[0]))
        if any(len(_shape(x)) != 4 or _shape(x)[1] % CHANNELS for x in inputs):
            continue
        relu = only_user(node, lambda user: is_relu(user, modules))
        last = node if relu is None else relu
        pool = next((user for user in last.users if is_halving(user, modules)), None)
        kind = WinogradConv2d if pool is None else WinogradConv2dPool
        name = f"winograd_{replaced}"
        network.add_submodule(name, kind(conv, relu=relu is not None))
        with network.graph.inserting_before(node):
            call = network.graph.call_module(name, tuple(inputs))
            out = call
            if pool is not None:
                out = network.graph.call_function(pair_item, (call, 0))
                pooled = network.graph.call_function(pair_item, (call, 1))
                pooled.meta = dict(pool.meta)
                pool.replace_all_uses_with(pooled)
                network.graph.erase_node(pool)
        out.meta = dict(last.meta)
        last.replace_all_uses_with(out)
        replaced += 1
        products += _products(node, conv)
    network.graph.eliminate_dead_code()
    network.delete_all_unused_submodules()
    network.graph.lint()
    network.recompile()
    return Rewriting(network, replaced, products / max(1, all_products))


def _products(node: fx.Node, module: nn.Module | None) -> int:
    """Return the multiplications of a direct convolution."""
    if isinstance(module, nn.ConvTranspose2d):
        return math.prod(_shape(cast(fx.Node, node.args[0]))) * math.prod(module.weight.shape[1:])
    return math.prod(_shape(node)) * math.prod(module.weight.shape[1:]) if isinstance(module, nn.Conv2d) else 0


def pair_item(pair: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
    """Return one output of :class:`WinogradConv2dPool`: 0 the convolution, 1 its pooling."""
    return pair[index]


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(getattr(node.meta.get("tensor_meta"), "shape", ()))
