"""The oracle of the engine: one float32 pass of the network over the whole image."""

from __future__ import annotations

import numpy as np
import torch

from bainite_fast.geometry import round_up
from bainite_fast.models import UNet, VGG16UNet, save_package

TIE = 1e-4


def small_unet(*, base=4, depth=2, kernel=3, in_channels=1, classes=2, seed=0):
    """Return a U-Net of random weights whose batch norms are not the identity and whose classes are balanced."""
    torch.manual_seed(seed)
    return _lively(UNet(in_channels=in_channels, classes=classes, base=base, depth=depth, kernel=kernel))


def small_vgg16_unet(*, base=2, in_channels=1, classes=2, seed=0):
    """Return a VGG16 U-Net of the same kind."""
    torch.manual_seed(seed)
    return _lively(VGG16UNet(in_channels=in_channels, classes=classes, base=base))


def _lively(net):
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.6, 1.4)
            module.bias.data.normal_(0, 0.2)
        elif isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            # He scaling keeps the signal alive over many layers, so that distant pixels matter.
            fan_in = module.weight[0].numel()
            module.weight.data.normal_(0, (2 / fan_in) ** 0.5)
    net.eval()
    last = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)][-1]
    with torch.inference_mode():
        probe = torch.rand(1, net.in_channels, 8 * net.multiple, 8 * net.multiple)
        mean = net(probe).mean(dim=(0, 2, 3))
    last.bias.data -= mean.clone()
    return net


def save_small_package(net, path, *, um_per_px=0.1, **fields):
    """Save a one-channel, two-class network as a package, tested on noise."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    return save_package(net, path, classes=("ferrite", "bainite"), test_input=noise, um_per_px=um_per_px, **fields)


def whole_logits(net, image, *, halo, stride, edge="mirror"):
    """Return float32 logits (K, H, W) of one pass over the mirror-padded, or with "native" the bare, image."""
    planes = image[..., None] if image.ndim == 2 else image
    scale = {"uint8": 255, "uint16": 65535}.get(image.dtype.name, 1)
    values = (planes.astype(np.float64) / scale).astype(np.float32)
    height, width = image.shape[:2]
    before = 0 if edge == "native" else halo
    below = round_up(height, stride) - height + before
    right = round_up(width, stride) - width + before
    padded = np.pad(values, ((before, below), (before, right), (0, 0)), mode="reflect")
    with torch.inference_mode():
        logits = net(torch.from_numpy(padded.transpose(2, 0, 1)[None].copy()))[0].numpy()
    return logits[:, before : before + height, before : before + width]


def assert_exact(labels, logits):
    """Check labels against logits wherever the best two differ by more than 1e-4."""
    if logits.shape[0] == 1:
        expected, margin = logits[0] > 0, np.abs(logits[0])
    else:
        ordered = np.sort(logits, axis=0)
        expected, margin = logits.argmax(axis=0), ordered[-1] - ordered[-2]
    clear = margin > TIE
    wrong = clear & (np.asarray(labels) != expected)
    assert labels.shape == logits.shape[1:]
    assert not wrong.any(), f"{wrong.sum()} labels differ, first at {np.argwhere(wrong)[0]}"
    assert clear.mean() > 0.95 or clear.size < 10_000, f"only {clear.mean():.1%} of the pixels are clear"
