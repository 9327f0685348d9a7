"""The U-Net with a VGG16 encoder of Durmaz et al., Nature Communications 12, 6272 (2021).

The encoder is configuration D of Simonyan & Zisserman (2015) without its last pooling and its classifier.
"""

from __future__ import annotations

import torch
from torch import nn

from ..errors import ModelError
from .unet import ConvBlock, check_size

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of the red, green and blue channel, intensities 0…1
IMAGENET_STD = (0.229, 0.224, 0.225)

_CONVOLUTIONS = (2, 2, 3, 3, 3)  # of the four levels and the centre
_LEVELS = 4


torch.fx.wrap("check_size")


class ImageNetInput(nn.Module):
    """Brings intensities 0…1 to what a network trained on ImageNet takes: (x − mean) / std of each colour channel.

    A gray image is repeated to three channels.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).reshape(1, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [N, 3, H, W] of an image [N, 1 or 3, H, W]."""
        return (x - self.mean) / self.std


def encoder_widths(base: int) -> tuple[int, ...]:
    """Return the channels of the four levels and the centre."""
    return base, 2 * base, 4 * base, 8 * base, 8 * base


def _encoder(base: int) -> nn.Sequential:
    """Return the convolutions, ReLUs and poolings in torchvision's order, so that they have torchvision's names."""
    layers: list[nn.Module] = []
    before = 3
    for level, (width, count) in enumerate(zip(encoder_widths(base), _CONVOLUTIONS, strict=True)):
        if level:
            layers.append(nn.MaxPool2d(2))
        for _ in range(count):
            conv = nn.Conv2d(before, width, 3, padding=1)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # as torchvision starts it
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
            layers += [conv, nn.ReLU(inplace=True)]
            before = width
    return nn.Sequential(*layers)


class VGG16UNet(nn.Module):
    """U-Net whose four levels and centre are the 13 convolutions of VGG16; 25 M parameters at ``base=64``.

    The encoder has no batch norm and carries torchvision's parameter names (``features.0.weight`` …
    ``features.28.bias``), so that ImageNet weights fit as they are: :func:`bainite_fast.models.load_imagenet`. Each of
    ``up4`` … ``up1`` is bilinear upsampling by 2 (``up4upsample``), the skip in front, and two 3×3 convolutions with
    batch norm and ReLU (``up4convr1``, ``up4convr2``) of the skip's width.

    It takes intensities 0…1, gray or RGB: gray is repeated to three channels and ImageNet's normalisation applied
    inside, so that a package declares mean 0 and std 1. All zero-padding happens after it, and so pads with ImageNet's
    mean colour. Upsampling has ``align_corners=False``: an output pixel then lies at a fixed offset from the two input
    pixels that it is made from, so that tiles on the 16-px grid give the answer of the whole image (with
    ``align_corners=True`` that offset depends on the size of the tile).

    Parameters
    ----------
    in_channels : int
        1 for gray, 3 for RGB.
    classes : int
        Channels of the logits; one means foreground where the logit is positive.
    base : int
        Channels of the first level. 64 is VGG16; less makes a network that trains on a CPU, without ImageNet weights.

    Raises
    ------
    ModelError
        If a parameter is out of range.
    """

    def __init__(self, in_channels: int = 1, classes: int = 2, *, base: int = 64) -> None:
        super().__init__()
        if in_channels not in (1, 3) or min(classes, base) < 1:
            raise ModelError(
                "a VGG16 U-Net takes 1 channel (gray) or 3 (RGB), at least 1 class and a positive base, and got "
                f"in_channels={in_channels}, classes={classes}, base={base}"
            )
        self.in_channels, self.classes, self.base, self.depth = in_channels, classes, base, _LEVELS
        widths = encoder_widths(base)
        self.input = ImageNetInput()
        self.features = _encoder(base)
        for level in range(_LEVELS, 0, -1):
            below, width = widths[level], widths[level - 1]
            self.add_module(f"up{level}upsample", nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
            self.add_module(f"up{level}convr1", ConvBlock(width + below, width))
            self.add_module(f"up{level}convr2", ConvBlock(width, width))
        self.head = nn.Conv2d(base, classes, 1)

    @property
    def multiple(self) -> int:
        """Number that must divide height and width, in pixels."""
        return int(2**self.depth)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits [N, classes, H, W] of a batch [N, in_channels, H, W] of intensities 0…1."""
        x = self.input(check_size(x, self.multiple, self.in_channels))
        skips = []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                skips.append(x)
            x = layer(x)
        for level in range(self.depth, 0, -1):
            x = self.get_submodule(f"up{level}upsample")(x)
            x = self.get_submodule(f"up{level}convr1")(torch.cat((skips.pop(), x), dim=1))
            x = self.get_submodule(f"up{level}convr2")(x)
        logits: torch.Tensor = self.head(x)
        return logits
