"""How far a network looks, measured: the stride and halo that make a tiled run equal to one pass over the whole.

NaN is put into rows of an input and followed to the output: it survives convolution, pooling, normalisation and the
usual activations, and zero times NaN is NaN, so that the answer depends on the structure and not on the weights. The
stride is the smallest shift that the network commutes with, both in NaN patterns and in numbers (float64, where the
deep paths of a fresh network, far below float32 precision, still count). All this in strips, which are cheap; that no
path leads round them, and that a tile equals its part of the whole, is asked at the end.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import ModelError
from .compiled import lay_out
from .device import exact_math
from .threads import serial_threads

_GRANULES = (32, 64, 96, 128, 160, 60, 224, 240, 288, 336, 352)  # px; their divisors are the strides looked for
_LENGTHS = (256, 1024, 4096)  # px; a reach above half the last one counts as unbounded
_WIDTHS = (8, 64, 256)  # px, of the strips, about; wider ones where a path leads past the narrow ones
_CORE = 16  # px, at least, in the last comparison
_AROUND = 128  # px on each side of it, at least, that are looked at
_LOUD = {torch.float64: 1000.0, torch.float32: 10.0}  # what lies outside of a tile there, as far as rounding allows
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5}  # of the largest logit

# Operators that read from places that one of their arguments says, and which.
_OFFSETS = {"aten.grid_sampler": 1, "aten.grid_sampler_2d": 1, "torchvision.deform_conv2d": 2}

Forward = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Reach:
    """What tiling a network needs to know.

    Attributes
    ----------
    stride : int
        Cores must begin on multiples of it, and inputs be multiples of it in size, px.
    halo : int
        Context that a core on that grid needs on every side, a multiple of the stride, px.
    radius : int
        The context that such a core uses, px: the halo before it is rounded up to the stride.
    out_channels : int
        Channels of the logits.
    """

    stride: int
    halo: int
    radius: int
    out_channels: int


@dataclass(frozen=True, slots=True)
class _Axis:
    """A network ready to be measured along one axis, called its rows."""

    forward: Forward  # float32 [n, C, L, width] → logits
    exact: Forward  # the same in `dtype`
    dtype: torch.dtype  # float64, or float32 where the network cannot run in float64
    channels: int
    granule: int  # px, a length that the network accepts
    width: int  # px, the narrowest strip that it accepts
    touched: dict[tuple[int, int, int], torch.Tensor] = field(default_factory=dict)  # what _touched has measured


def probe(module: nn.Module, in_channels: int) -> Reach:
    """Measure stride, halo and radius of a network.

    Parameters
    ----------
    module : torch.nn.Module or TorchScript module
        Maps float32 [N, in_channels, H, W] on the CPU to logits [N, K, H, W]. It is run in evaluation mode and left
        as it was.
    in_channels : int
        Channels of its input.

    Returns
    -------
    Reach

    Raises
    ------
    ModelError
        If the network cannot be tiled exactly: its output is not [N, K, H, W], its reach is unbounded (instance or
        group normalisation, global pooling, attention) or up to the image (deformable layers), it does not commute with
        any shift (``align_corners=True``), it is random, it changes its input or mixes the images of a batch, it
        decides by values of the whole image (``if x.max() > 1``), or it hides NaN so that its reach cannot be measured.
    """
    refuse_optimized(module)
    with serial_threads(), exact_math("cpu"):
        return _measure(module, in_channels)


def _measure(module: nn.Module, in_channels: int) -> Reach:
    network, exact, dtype = _prepare(module, in_channels)
    granule, out_channels = _granule(network, in_channels)
    _refuse_offsets(network, in_channels, granule)
    for least in _WIDTHS:
        axes = []
        for first, second in ((network, exact), (_transposed(network), _transposed(exact))):
            widths = (w for w in (8, 16) if w >= least and _accepts(first, (1, in_channels, 2 * granule, w)))
            width = next(widths, -(-least // granule) * granule)
            axes.append(_Axis(first, second, dtype, in_channels, granule, width))
        reach = _measure_strips(axes, out_channels)
        if _sees_the_tile_alone(network, in_channels, reach):
            return reach
    raise ModelError(
        f"outputs of the network depend on inputs that are more than {_WIDTHS[-1]} px away in both directions at once "
        "(a diagonal shift, or an even kernel of a large dilation?), so its reach cannot be measured"
    )


def _measure_strips(axes: list[_Axis], out_channels: int) -> Reach:
    """Measure a network along both axes, in strips as narrow as they say."""
    granule, in_channels = axes[0].granule, axes[0].channels
    _check_sane(axes[0])
    stride = _stride(axes[0], 1)
    stride = _stride(axes[1], stride)
    odd = granule // stride | 1
    if not all(_accepts(a.forward, (1, in_channels, n * stride, a.width)) for a in axes for n in (odd, odd + 2)):
        stride = math.lcm(stride, granule)
    radius = max(max(_fronts(axis, stride)) for axis in axes)
    halo = -(-radius // stride) * stride
    for axis in axes:
        _check_tiled(axis, stride, halo)
    return Reach(stride, halo, radius, out_channels)


def refuse_optimized(module: nn.Module) -> None:
    """Raise if a TorchScript module went through ``torch.jit.optimize_for_inference``.

    Raises
    ------
    ModelError
        If its graph holds oneDNN operators, which stop NaN and run in one layout only.
    """
    graph = getattr(module, "graph", None)
    if isinstance(graph, torch._C.Graph) and "mkldnn" in str(graph).lower():
        raise ModelError(
            "the TorchScript module went through torch.jit.optimize_for_inference, whose operators cannot be measured "
            "(and are slower here); save it from torch.jit.trace or torch.jit.script instead"
        )


def deduce_in_channels(module: nn.Module) -> int:
    """Return the number of input channels of a network: of its first convolution, or the first count that runs.

    Raises
    ------
    ModelError
        If the network runs with none of the counts tried.
    """
    refuse_optimized(module)
    first = next((x.shape[1] for x in module.state_dict().values() if x.dim() == 4), None)
    candidates = [*([int(first)] if first else []), *(n for n in (1, 3, 2, 4, 5, 6, 8, 16) if n != first)]
    failures = []
    for channels in candidates:
        forward = _forward(module, torch.float32)
        try:
            _granule(forward, channels)
        except ModelError as error:
            failures.append(error)
        else:
            return channels
    raise failures[0]


def _prepare(module: nn.Module, channels: int) -> tuple[Forward, Forward, torch.dtype]:
    forward = _forward(module, torch.float32)
    try:
        with torch.no_grad():
            double = copy.deepcopy(module).double()
        lay_out(double, torch.channels_last)  # twice as fast
        exact = _forward(double, torch.float64)
        _granule(exact, channels)
    except (ModelError, RuntimeError, TypeError):
        # Frozen constants and casts inside a network keep it in float32: measure with the tolerance of float32.
        return forward, forward, torch.float32
    return forward, exact, torch.float64


def _forward(module: nn.Module, dtype: torch.dtype) -> Forward:
    """Return a checked forward pass in evaluation mode."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        training = getattr(module, "training", False)
        if training:
            module.eval()
        try:
            with torch.inference_mode():
                y = module(x.to(dtype))
        except Exception as error:  # a foreign network may raise anything; it is named and passed on
            first = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise ModelError(
                f"the network fails on a float32 batch {list(x.shape)} (N, C, H, W): {first[0]}; it must map "
                "[N, C, H, W] to logits [N, K, H, W] of the same size"
            ) from error
        finally:
            if training:
                module.train()
        if not isinstance(y, torch.Tensor):
            raise ModelError(
                f"the network returns a {type(y).__name__}, not one tensor of logits [N, K, H, W]; "
                "wrap it in a module that returns the logits alone"
            )
        if y.dim() != 4 or y.shape[0] != x.shape[0] or y.shape[2:] != x.shape[2:]:
            raise ModelError(
                f"the network turns a batch {list(x.shape)} into {list(y.shape)}, and must return logits "
                f"[{x.shape[0]}, K, {x.shape[2]}, {x.shape[3]}]: as large as its input. Use same-padded convolutions, "
                "or bring the logits back to the size of the input in its last layer"
            )
        if y.dtype != dtype:
            raise ModelError(
                f"the network returns {y.dtype} for a {dtype} batch, and must return logits of its input's type: "
                "not labels, and without casts"
            )
        return y

    return forward


def _transposed(forward: Forward) -> Forward:
    return lambda x: forward(x.transpose(2, 3).contiguous()).transpose(2, 3)


def _granule(forward: Forward, channels: int) -> tuple[int, int]:
    """Return a size in px that the network accepts, and the channels of its logits."""
    first: ModelError | None = None
    for granule in _GRANULES:
        try:
            logits = forward(_zeros(1, channels, granule, 2 * granule))
        except ModelError as error:
            first = first or error
        else:
            return granule, int(logits.shape[1])
    raise first or ModelError("the network accepts no size")


class _Offsets(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees whether an operator is told by NaN from which places to read."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        place = _OFFSETS.get(str(func).partition(".default")[0])
        self.found |= place is not None and bool(args[place].isnan().any())
        return func(*args, **(kwargs or {}))


def _refuse_offsets(forward: Forward, channels: int, granule: int) -> None:
    """Refuse deformable layers: how far they reach, the image decides, and another may let them reach further."""
    with _Offsets() as mode:
        forward(_zeros(1, channels, granule, 2 * granule).fill_(math.nan))
    if mode.found:
        raise ModelError(
            "the network samples its features at places that it computes from the image (grid_sample, deformable "
            "convolution), so its reach has no bound that holds for every image, and no tiling of it can be exact; "
            "use convolutions in place of such layers"
        )


def _accepts(forward: Forward, shape: tuple[int, int, int, int]) -> bool:
    try:
        forward(_zeros(*shape))
    except ModelError:
        return False
    return True


def _zeros(*shape: int) -> torch.Tensor:
    """Return a blank batch, whatever dtype and device PyTorch makes tensors of by default."""
    return torch.zeros(shape, dtype=torch.float32, device="cpu")


def _noise(axis: _Axis, length: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(length)
    shape = (1, axis.channels, length, axis.width)
    return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")


def _check_sane(axis: _Axis) -> None:
    """Refuse a network that is random, blows up, changes its input, mixes a batch, or hides NaN altogether."""
    x = _noise(axis, axis.granule).to(axis.dtype)
    given = x.clone()
    once = axis.exact(x)
    if not torch.equal(x, given):
        raise ModelError(
            "the network changes its input in place (x -= mean, x.div_(…), or an in-place activation as its first "
            "layer?); make it work on a new tensor"
        )
    twice = axis.exact(x)
    if not torch.isfinite(once).all():
        raise ModelError("the network returns NaN or infinity for standard normal noise; are its weights finite?")
    if not torch.equal(once, twice):
        raise ModelError("the network gives two answers to one input (dropout or noise that eval() leaves on?)")
    if not _close(axis, axis.exact(torch.cat((x.flip(2), x)))[1:], once):
        raise ModelError(
            "the network gives an image another answer in a batch with another one (batch statistics, or a mean or "
            "softmax over dim=0?), and tiles are run in batches"
        )
    inside = slice(axis.granule // 4, -axis.granule // 4)  # the border may be a constant
    if not axis.forward(torch.full_like(x, math.nan))[:, :, inside].isnan().any(dim=3).all():
        raise ModelError(
            "the network turns NaN into numbers (torch.where, a comparison or nan_to_num?), so its reach cannot be "
            "measured; write the activation with torch.relu, clamp or leaky_relu"
        )


def _touched(axis: _Axis, length: int, start: int, stop: int) -> torch.Tensor:
    """Return which output rows (bool [length]) see input rows start…stop."""
    key = (length, start, stop)
    if key not in axis.touched:
        x = _zeros(1, axis.channels, length, axis.width)
        x[:, :, start:stop] = math.nan
        axis.touched[key] = axis.forward(x).isnan().any(dim=3).any(dim=1)[0]
    return axis.touched[key]


def _length(axis: _Axis, rows: int) -> int:
    """Return the smallest length from `rows` on that the network accepts for sure and that has a middle."""
    return -(-rows // (2 * axis.granule)) * 2 * axis.granule


def _fronts(axis: _Axis, stride: int) -> tuple[int, int]:
    """Return how far NaN below an edge on the stride grid is seen above it, and NaN above the edge below it, px."""
    for rows in _LENGTHS:
        length = _length(axis, max(rows, 4 * stride))
        edge = length // 2 // stride * stride
        up = _touched(axis, length, edge, length).nonzero().flatten()
        down = _touched(axis, length, 0, edge).nonzero().flatten()
        first = int(up[0]) if len(up) else edge
        last = int(down[-1]) if len(down) else edge - 1
        if first > 0 and last < length - 1:
            return max(0, edge - first), max(0, last - edge + 1)
        if length >= _LENGTHS[1] and bool(_touched(axis, length, 0, 1)[-1]):
            break  # from end to end: do not ask attention for the square of an even longer input
    raise ModelError(
        f"every output of the network depends on inputs more than {_LENGTHS[1] // 2} px away: instance, group or "
        "layer normalisation over the image, global pooling, squeeze-and-excitation, attention or circular padding. "
        "Such a network gives another answer to every tile; use batch normalisation and local layers"
    )


def _stride(axis: _Axis, known: int) -> int:
    """Return the smallest multiple of `known` that is a shift the network commutes with, px."""
    margin = max(_fronts(axis, 1))
    for period in (known, *_GRANULES):
        if period % known or period == 1 or not _pattern_commutes(axis, period, margin):
            continue
        least = period
        for prime in (2, 3, 5, 7, 11):
            while least % (prime * known) == 0 and _pattern_commutes(axis, least // prime, margin):
                least //= prime
        # NaN cannot tell two paths that reach equally far apart, numbers can: try multiples of what the pattern says.
        for factor in range(1, period // least + 1):
            if period % (least * factor) == 0 and _numbers_commute(axis, least * factor, margin):
                return least * factor
    raise ModelError(
        f"the network commutes with no shift up to {_GRANULES[-1]} px, so its answer depends on where a tile lies: "
        "upsampling with align_corners=True, position encodings or resizing to a fixed size? Use align_corners=False "
        "with an integer scale factor, or transposed convolutions"
    )


def _pattern_commutes(axis: _Axis, shift: int, margin: int) -> bool:
    """Say whether shifting a row of NaN by `shift` rows shifts what it touches by as many."""
    length = _length(axis, 2 * (margin + _GRANULES[0]) + 2 * shift)
    row = length // 2 - shift
    here = _touched(axis, length, row, row + 1)
    there = _touched(axis, length, row + shift, row + shift + 1)
    return torch.equal(here[: length - shift], there[shift:])


def _numbers_commute(axis: _Axis, shift: int, margin: int) -> bool:
    """Say whether shifting noise by `shift` rows shifts the output by as many."""
    # The reach was measured at one phase of the grid; at another it is longer by less than a stride.
    margin += max(shift, _GRANULES[0])
    length = _length(axis, 2 * margin + shift + 32)
    x = _noise(axis, length + shift)
    still, moved = axis.exact(x[:, :, :length]), axis.exact(x[:, :, shift:])
    return _close(axis, still[:, :, margin + shift : length - margin], moved[:, :, margin : length - margin - shift])


def _close(axis: _Axis, a: torch.Tensor, b: torch.Tensor) -> bool:
    scale = max(float(a.abs().max()), 1e-30)
    return float((a - b).abs().max()) <= _TOLERANCE[axis.dtype] * scale


def _check_tiled(axis: _Axis, stride: int, halo: int) -> None:
    """Refuse a network whose tile differs from the whole: then something hid NaN, and the reach is wrong."""
    extra = -(-max(2 * _CORE, halo // 2) // stride) * stride
    core = -(-_CORE // stride) * stride
    x = _noise(axis, 2 * (extra + halo) + core)
    inside = slice(extra, extra + 2 * halo + core)
    # Intensities 0…1 in an image that is far brighter, or far darker: its maximum, minimum and mean are not the tile's.
    generator = torch.Generator().manual_seed(0)
    tile = torch.rand(x[:, :, inside].shape, generator=generator, dtype=x.dtype, device="cpu")
    tiled = axis.exact(tile)[:, :, halo : halo + core]
    for sign in (1, -1):
        image = _LOUD[axis.dtype] * (x + sign)
        image[:, :, inside] = tile
        whole = axis.exact(image)[:, :, extra + halo : extra + halo + core]
        if not _close(axis, whole, tiled):
            difference = float((whole - tiled).abs().max())
            raise ModelError(
                f"with stride {stride} and halo {halo} px a tile still differs from the whole image by "
                f"{difference:.1e}: some layer hides NaN (torch.where, a comparison or nan_to_num?), depends on the "
                "size of its input, or the network decides by a value of the whole image (if x.max() > 1?); write "
                "activations with torch.relu, clamp or leaky_relu, and scale intensities by normalize=(mean, std)"
            )


def _sees_the_tile_alone(network: Forward, channels: int, reach: Reach) -> bool:
    """Say whether NaN all round a square tile leaves its core alone: in a strip, some paths lead outside of it."""
    core = -(-_CORE // reach.stride) * reach.stride
    edge = -(-max(2 * _CORE, _AROUND - reach.halo) // reach.stride) * reach.stride
    x = _zeros(1, channels, *(2 * [2 * (edge + reach.halo) + core])).fill_(math.nan)
    x[..., edge:-edge, edge:-edge] = 0
    inside = slice(edge + reach.halo, edge + reach.halo + core)
    return not bool(network(x)[..., inside, inside].isnan().any())
