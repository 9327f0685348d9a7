"""The vanilla U-Net of Durmaz et al., Nature Communications 12, 6272 (2021), after Ronneberger et al. (2015)."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import ModelError


class ConvBlock(nn.Sequential):
    """A same-padded convolution, batch normalisation and ReLU.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels before and after.
    kernel : int
        Odd edge of the kernel in pixels.
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int = 3) -> None:
        conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        super().__init__()
        self.add_module("conv", conv)
        self.add_module("norm", nn.BatchNorm2d(out_channels))
        self.add_module("relu", nn.ReLU(inplace=True))


def check_size(x: torch.Tensor, multiple: int, channels: int) -> torch.Tensor:
    """Return `x` ([N, C, H, W]) if a U-Net can take it.

    Raises
    ------
    ModelError
        If the channels are not the network's, or height or width is not a multiple of `multiple`.
    """
    if x.dim() != 4 or x.shape[1] != channels:
        raise ModelError(f"the U-Net takes a batch [N, {channels}, H, W], and got {list(x.shape)}")
    height, width = x.shape[2], x.shape[3]  # not int(): torch.export would take them for constants
    if height % multiple or width % multiple or not height or not width:
        raise ModelError(
            f"the U-Net halves its input down to 1/{multiple} and got {height} × {width} px: height and width must be "
            f"multiples of {multiple}; pad to {-(-height // multiple) * multiple} × {-(-width // multiple) * multiple}"
        )
    return x


torch.fx.wrap("check_size")


class UNet(nn.Module):
    """U-Net with batch normalisation; the defaults are the vanilla network of the paper (31 M parameters).

    Each of ``down1`` … ``down<depth>``, ``center`` and ``up<depth>`` … ``up1`` is two convolution blocks; they are
    named as the paper's figures name them: ``down1convr1``, ``down1convr2``, …, ``centerconvr1``, …, ``up4convr2``.
    2×2 maximum pooling leads down, a 2×2 transposed convolution (``up4transpose`` …) leads up, and the skip comes
    first in each concatenation.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    classes : int
        Channels of the logits; one means foreground where the logit is positive.
    base : int
        Channels of the first level; every level down has twice as many.
    depth : int
        Number of pooling levels. Height and width must be multiples of ``2**depth``.
    kernel : int
        Odd edge of the kernels in pixels.

    Raises
    ------
    ModelError
        If a parameter is out of range.
    """

    def __init__(self, in_channels: int = 1, classes: int = 2, *, base: int = 64, depth: int = 4, kernel: int = 3):
        super().__init__()
        if min(in_channels, classes, base, depth, kernel) < 1 or kernel % 2 == 0:
            raise ModelError(
                f"a U-Net needs positive sizes and an odd kernel, and got in_channels={in_channels}, "
                f"classes={classes}, base={base}, depth={depth}, kernel={kernel}"
            )
        self.in_channels, self.classes, self.base, self.depth, self.kernel = in_channels, classes, base, depth, kernel
        widths = [base * 2**level for level in range(depth + 1)]
        self.pool = nn.MaxPool2d(2)
        before = in_channels
        for level in range(1, depth + 1):
            self._add_pair(f"down{level}", before, widths[level - 1])
            before = widths[level - 1]
        self._add_pair("center", before, widths[depth])
        for level in range(depth, 0, -1):
            width = widths[level - 1]
            self.add_module(f"up{level}transpose", nn.ConvTranspose2d(2 * width, width, 2, stride=2))
            self._add_pair(f"up{level}", 2 * width, width)
        self.head = nn.Conv2d(base, classes, 1)

    @property
    def multiple(self) -> int:
        """Number that must divide height and width, in pixels."""
        return int(2**self.depth)

    def _add_pair(self, name: str, before: int, after: int) -> None:
        self.add_module(f"{name}convr1", ConvBlock(before, after, kernel=self.kernel))
        self.add_module(f"{name}convr2", ConvBlock(after, after, kernel=self.kernel))

    def _pair(self, name: str, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.get_submodule(f"{name}convr2")(self.get_submodule(f"{name}convr1")(x))
        return y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits [N, classes, H, W] of a normalised batch [N, in_channels, H, W]."""
        x = check_size(x, self.multiple, self.in_channels)
        skips = []
        for level in range(1, self.depth + 1):
            x = self._pair(f"down{level}", x)
            skips.append(x)
            x = self.pool(x)
        x = self._pair("center", x)
        for level in range(self.depth, 0, -1):
            x = self.get_submodule(f"up{level}transpose")(x)
            x = self._pair(f"up{level}", torch.cat((skips.pop(), x), dim=1))
        logits: torch.Tensor = self.head(x)
        return logits
