"""Fewer passes over memory, and faster ones, for what a network does between its convolutions.

A ReLU is computed by the convolution before it, in oneDNN: in bfloat16 PyTorch's own takes longer than a convolution of
16 channels on AMX. Concatenation and 2×2 pooling of channels-last images run at the speed of a copy
(``cpp/include/bainite/layers.hpp``).

On a GPU cuDNN computes the ReLU with the convolution. Two kinds of layers it runs far from the speed of memory, which
is all that bounds them: the 3×3 convolution of a gray image, and the 2×2 transposed convolution, whose bias and crop
take passes of their own. The first is a kernel of ours; the second becomes a matrix product, whose rows the
concatenation that follows puts in their places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import fx, nn

from .. import _core
from .graphs import is_halving, is_plain, is_relu, joined, only_user

_mkldnn_ops: Any = torch.ops.mkldnn
_torch: Any = torch  # whose cuDNN operators are untyped
_DTYPES = (torch.float32, torch.bfloat16)

# Operators of our own, so that TorchScript can hold them; PyTorch's fused convolution has a signature that its tracer
# does not take.
_library: Any = cast(Any, torch.library.Library)("bainite_fast", "FRAGMENT")
_library.define(
    "conv_relu(Tensor x, Tensor weight, Tensor? bias, int[] padding, int[] stride, int[] dilation, int groups)"
    " -> Tensor"
)
_library.define("join_channels(Tensor[] inputs) -> Tensor")
_library.define("max_pool2x2(Tensor x) -> Tensor")
_library.define("conv_gray(Tensor x, Tensor weights, Tensor bias, bool relu) -> Tensor")
_library.define("upsample_join(Tensor[] inputs, int which, int crop, Tensor weight, Tensor? bias) -> Tensor")


def _conv_relu(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    padding: list[int],
    stride: list[int],
    dilation: list[int],
    groups: int,
) -> torch.Tensor:
    y: torch.Tensor = _mkldnn_ops._convolution_pointwise(
        x, weight, bias, padding, stride, dilation, groups, "relu", [], ""
    )
    return y


def _join_channels(inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    height, width = (min(int(x.shape[axis]) for x in inputs) for axis in (2, 3))
    if not all(_streamable(x) and x.dtype == inputs[0].dtype for x in inputs):
        return torch.cat([middle(x, (int(x.shape[2]) - height) // 2) for x in inputs], dim=1)
    out = empty_image(inputs[0], sum(int(x.shape[1]) for x in inputs), height, width)
    _core.join_channels([pixels(x) for x in inputs], pixels(out), threads=torch.get_num_threads())
    return out


def _max_pool2x2(x: torch.Tensor) -> torch.Tensor:
    if not _streamable(x):
        return nn.functional.max_pool2d(x, 2)
    out = empty_image(x, int(x.shape[1]), int(x.shape[2]) // 2, int(x.shape[3]) // 2)
    _core.max_pool2x2(pixels(x), pixels(out), threads=torch.get_num_threads())
    return out


def _conv_relu_cudnn(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    padding: list[int],
    stride: list[int],
    dilation: list[int],
    groups: int,
) -> torch.Tensor:
    return cast(torch.Tensor, _torch.cudnn_convolution_relu(x, weight, bias, stride, padding, dilation, groups))


def _join_channels_cuda(inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    height, width = (min(int(x.shape[axis]) for x in inputs) for axis in (2, 3))
    if not _on_device(inputs[0]):
        parts = [middle(x, (int(x.shape[2]) - height) // 2) for x in inputs]
        return torch.cat(parts, dim=1).contiguous(memory_format=torch.channels_last)
    return _joined([pixels(x) for x in inputs], inputs[0], height, width)


def _joined(parts: list[torch.Tensor], like: torch.Tensor, height: int, width: int) -> torch.Tensor:
    out = empty_image(like, sum(int(x.shape[-1]) for x in parts), height, width)
    _core.join_channels(parts, pixels(out), stream=_stream(out))
    return out


def _upsample_join(
    inputs: Sequence[torch.Tensor], which: int, crop: int, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    parts = [pixels(x) for x in inputs]
    n, height, width, channels = (int(x) for x in parts[which].shape)
    rows = nn.functional.linear(parts[which].view(-1, channels), weight, bias)
    parts[which] = rows.view(n, height, width, 2, 2, -1)
    sizes = [(2 * (height - 2 * crop), 2 * (width - 2 * crop))]
    sizes += [(int(x.shape[2]), int(x.shape[3])) for k, x in enumerate(inputs) if k != which]
    return _joined(parts, inputs[0], min(h for h, _ in sizes), min(w for _, w in sizes))


def _conv_gray(x: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor, relu: bool) -> torch.Tensor:
    out = empty_image(x, int(weights.shape[1]), int(x.shape[2]), int(x.shape[3]))
    _core.convolve_gray(x[:, 0].contiguous(), pixels(out), weights=weights, bias=bias, relu=relu, stream=_stream(out))
    return out


def _max_pool2x2_cuda(x: torch.Tensor) -> torch.Tensor:
    if not _on_device(x):
        return nn.functional.max_pool2d(x, 2)
    out = empty_image(x, int(x.shape[1]), int(x.shape[2]) // 2, int(x.shape[3]) // 2)
    _core.max_pool2x2(pixels(x), pixels(out), stream=_stream(out))
    return out


def _on_device(x: torch.Tensor) -> bool:
    """Say whether our kernels take what is on a GPU."""
    return x.is_cuda and x.dtype in (*_DTYPES, torch.float16) and _core.cuda_built()


def _stream(x: torch.Tensor) -> int:
    return int(torch.cuda.current_stream(x.device).cuda_stream)


_library.impl("conv_relu", _conv_relu_cudnn, "CUDA")
_library.impl("join_channels", _join_channels_cuda, "CUDA")
_library.impl("conv_gray", _conv_gray, "CUDA")
_library.impl("upsample_join", _upsample_join, "CUDA")
_library.impl("max_pool2x2", _max_pool2x2_cuda, "CUDA")
_library.impl("conv_relu", _conv_relu, "CPU")
_library.impl("join_channels", _join_channels, "CPU")
_library.impl("max_pool2x2", _max_pool2x2, "CPU")


def middle(x: torch.Tensor, margin: int) -> torch.Tensor:
    """Return an image [N, C, H, W] without `margin` px on each side."""
    return x[:, :, margin:-margin, margin:-margin] if margin else x


def pixels(x: torch.Tensor) -> torch.Tensor:
    """Return [N, H, W, C], contiguous, of an image [N, C, H, W]: without a copy where it is channels-last."""
    return x.permute(0, 2, 3, 1).contiguous()


def _streamable(x: torch.Tensor) -> bool:
    return x.dtype in _DTYPES and x.is_contiguous(memory_format=torch.channels_last)


def empty_image(like: torch.Tensor, channels: int, height: int, width: int) -> torch.Tensor:
    """Return an uninitialised channels-last image of the batch size, dtype and device of another."""
    shape = (like.shape[0], channels, height, width)
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


class ConvReLU2d(nn.Conv2d):
    """A convolution and its ReLU in one call.

    Parameters
    ----------
    conv : torch.nn.Conv2d
        Whose weights are taken, without a copy.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        sizes = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
        super().__init__(conv.in_channels, conv.out_channels, *sizes, bias=False, device="meta")  # type: ignore[arg-type]
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return max(0, convolution) [N, out_channels, H, W] of an image [N, in_channels, H, W]."""
        y: torch.Tensor = torch.ops.bainite_fast.conv_relu(
            x, self.weight, self.bias, list(self.padding), list(self.stride), list(self.dilation), self.groups
        )
        return y


class GrayConvReLU2d(ConvReLU2d):
    """The 3×3 convolution of a gray image and its ReLU, on a GPU: see :func:`takes_gray`."""

    weights: torch.Tensor
    start: torch.Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv)
        flat = conv.weight.detach().float().reshape(conv.out_channels, 9)
        start = torch.zeros_like(flat[:, 0]) if conv.bias is None else conv.bias.detach().float()
        self.register_buffer("weights", flat.T.contiguous())
        self.register_buffer("start", start.contiguous())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return max(0, convolution) [N, out_channels, H, W] of an image [N, 1, H, W]."""
        y: torch.Tensor = torch.ops.bainite_fast.conv_gray(x, self.weights, self.start, True)
        return y


def takes_gray(conv: nn.Conv2d) -> bool:
    """Say whether our kernel computes a convolution: 3×3 of a gray image, to 16, 32 … 4096 bytes a pixel."""
    plain = (conv.kernel_size, conv.stride, conv.padding, conv.dilation) == ((3, 3), (1, 1), (1, 1), (1, 1))
    size = conv.out_channels * conv.weight.element_size()
    return plain and conv.in_channels == 1 and size % 16 == 0 and size <= 4096 and _on_device(conv.weight)


class UpsampleJoin(nn.Module):
    """A 2×2 transposed convolution of stride 2 and the concatenation that it goes into, on a GPU.

    Parameters
    ----------
    conv : torch.nn.ConvTranspose2d
        Whose weights are taken.
    which : int
        Its place among what is joined.
    crop : int
        Margin that its input loses first, px.
    """

    weight: torch.Tensor

    def __init__(self, conv: nn.ConvTranspose2d, which: int, crop: int) -> None:
        super().__init__()
        self.which, self.crop = which, crop
        # One row of weights for each channel of each of the four pixels.
        rows = conv.weight.detach().permute(2, 3, 1, 0).reshape(4 * conv.out_channels, conv.in_channels)
        self.register_buffer("weight", rows.contiguous())
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach().repeat(4))

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return [N, sum of C, H, W] as :class:`JoinChannels`, of images of which one is not upsampled yet."""
        y: torch.Tensor = torch.ops.bainite_fast.upsample_join(
            list(inputs), self.which, self.crop, self.weight, self.bias
        )
        return y


class JoinChannels(nn.Module):
    """Concatenation along the channels; of larger inputs, the middle is taken."""

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return [N, sum of C, H, W] of images [N, C, H + 2 · margin, W + 2 · margin], the smallest of margin 0."""
        y: torch.Tensor = torch.ops.bainite_fast.join_channels(list(inputs))
        return y


class MaxPool2x2(nn.Module):
    """2×2 maximum pooling of stride 2."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [N, C, H // 2, W // 2] of an image [N, C, H, W]."""
        y: torch.Tensor = torch.ops.bainite_fast.max_pool2x2(x)
        return y


def fuse_layers(network: nn.Module) -> nn.Module:
    """Rewrite a symbolically traced network.

    A ReLU that alone follows a convolution goes into it, where there is such a convolution for the network's dtype and
    device; concatenations along the channels and 2×2 maximum poolings are replaced by our own.

    Parameters
    ----------
    network : torch.nn.Module
        Changed in place. Anything but a ``torch.fx.GraphModule`` is returned as it is.
    """
    if not isinstance(network, fx.GraphModule):
        return network
    modules = dict(network.named_modules())
    can_fuse = _can_fuse(network)
    for node in reversed(list(network.graph.nodes)):  # a concatenation before those that it holds
        conv = modules.get(str(node.target)) if node.op == "call_module" else None
        relu = only_user(node, lambda user: is_relu(user, modules))
        parts = joined(node)
        layer: nn.Module
        if relu is not None and _fusable(conv) and can_fuse:
            kind = GrayConvReLU2d if takes_gray(cast(nn.Conv2d, conv)) else ConvReLU2d
            layer = kind(cast(nn.Conv2d, conv))
            last = relu
        elif is_halving(node, modules):
            layer, last = MaxPool2x2(), node
        elif parts != [node]:
            layer, last = JoinChannels(), node
        else:
            continue
        name = f"layer_{len(modules)}"
        modules[name] = layer
        network.add_submodule(name, layer)
        inputs = tuple(parts) if isinstance(layer, JoinChannels) else node.args
        with network.graph.inserting_after(last):
            last.replace_all_uses_with(network.graph.call_module(name, inputs))
    network.graph.eliminate_dead_code()
    network.delete_all_unused_submodules()
    network.graph.lint()
    network.recompile()
    return network


def fuse_upsampling(network: nn.Module) -> nn.Module:
    """Return a copy of a rewritten network for a GPU, in which concatenations take in the upsampling before them.

    It is not for :func:`~bainite_fast.models.trim.trim`, which knows no layer of two scales, and so comes after it. The
    layers are shared. A network that has nothing of it, or is on the CPU, is returned as it is.
    """
    if not isinstance(network, fx.GraphModule):
        return network
    modules = dict(network.named_modules())
    graph = fx.Graph()
    graph.output(graph.graph_copy(network.graph, {}))
    fused = fx.GraphModule(network, graph)
    count = 0
    for node in list(graph.nodes):
        if node.op != "call_module" or not isinstance(modules[str(node.target)], JoinChannels):
            continue
        which = next((k for k, part in enumerate(node.args) if _upsamples(part, node, modules)), None)
        if which is None:
            continue
        part = node.args[which]
        below, crop = part.args[0], 0
        if below.op == "call_function" and below.target is middle:
            below, crop = below.args
        name, count = f"upsampling_{count}", count + 1
        fused.add_submodule(name, UpsampleJoin(cast(nn.ConvTranspose2d, modules[str(part.target)]), which, int(crop)))
        inputs = tuple(below if k == which else x for k, x in enumerate(node.args))
        with graph.inserting_after(node):
            node.replace_all_uses_with(graph.call_module(name, inputs))
    if not count:
        return network
    graph.eliminate_dead_code()
    fused.delete_all_unused_submodules()
    graph.lint()
    fused.recompile()
    return fused.eval()


def _upsamples(part: Any, user: fx.Node, modules: dict[str, nn.Module]) -> bool:
    conv = modules.get(str(part.target)) if part.op == "call_module" else None
    return (
        type(conv) is nn.ConvTranspose2d
        and only_user(part, lambda x: x is user) is not None
        and (conv.kernel_size, conv.stride, conv.padding) == ((2, 2), (2, 2), (0, 0))
        and (conv.output_padding, conv.dilation, conv.groups) == ((0, 0), (1, 1), 1)
        and _on_device(conv.weight)
    )


def _can_fuse(network: nn.Module) -> bool:
    weight = next(network.parameters(), None)
    if weight is not None and weight.is_cuda:
        return True  # where cuDNN has no such kernel, the comparison of the networks finds out
    if not torch.backends.mkldnn.is_available() or not hasattr(_mkldnn_ops, "_convolution_pointwise"):  # type: ignore[no-untyped-call]
        return False
    # Not in bfloat16 without AVX-512 or AVX-NE-CONVERT; a convolution that fails takes all other rewriting with it.
    return weight is None or weight.dtype != torch.bfloat16 or bool(_mkldnn_ops._is_mkldnn_bf16_supported())


def _fusable(conv: Any) -> bool:
    plain = type(conv) is nn.Conv2d and is_plain(conv)
    return plain and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
