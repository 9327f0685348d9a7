"""The U-Net of the paper: its size, its names, its errors."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bainite_fast.errors import ModelError
from bainite_fast.models import UNet
from bainite_fast.models.catalog import UNetConfig, parameter_count


def test_vanilla_network_has_the_size_of_the_paper() -> None:
    with torch.device("meta"):
        network = UNet()
        batch = torch.empty(1, 1, 256, 256)
    with FlopCounterMode(display=False) as counter:
        assert network(batch).shape == (1, 2, 256, 256)
    assert counter.get_total_flops() / 256**2 == pytest.approx(1.47e6, rel=0.01)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(31.0e6, rel=0.01)


def test_blocks_are_named_as_in_the_figures_of_the_paper() -> None:
    with torch.device("meta"):
        names = {name for name, _ in UNet(base=2).named_children()}
    stages = [f"{way}{level}" for way in ("down", "up") for level in (1, 2, 3, 4)] + ["center"]
    assert {f"{stage}convr{i}" for stage in stages for i in (1, 2)} <= names
    with torch.device("meta"):
        network = UNet(base=8)
    assert network.get_submodule("down4convr1").conv.out_channels == 64
    assert network.get_submodule("up4convr2").conv.out_channels == 64
    assert network.get_submodule("up1convr2").conv.out_channels == 8


@pytest.mark.parametrize(
    ("channels", "classes", "base", "depth", "kernel"), [(1, 2, 4, 4, 3), (3, 5, 6, 2, 5), (2, 1, 3, 1, 1)]
)
def test_any_width_depth_and_kernel(channels: int, classes: int, base: int, depth: int, kernel: int) -> None:
    network = UNet(channels, classes, base=base, depth=depth, kernel=kernel).eval()
    side = 3 * 2**depth
    with torch.inference_mode():
        assert network(torch.zeros(2, channels, side, 2 * side)).shape == (2, classes, side, 2 * side)
    config = UNetConfig(in_channels=channels, classes=classes, base=base, depth=depth, kernel=kernel)
    assert parameter_count(config) == sum(p.numel() for p in network.parameters())


def test_wrong_input_says_what_is_needed() -> None:
    network = UNet(base=2, depth=3).eval()
    with pytest.raises(ModelError, match=r"multiples of 8; pad to 24 × 16"):
        network(torch.zeros(1, 1, 20, 16))
    with pytest.raises(ModelError, match=r"takes a batch \[N, 1, H, W\]"):
        network(torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize("wrong", [{"kernel": 4}, {"depth": 0}, {"base": 0}, {"classes": 0}])
def test_impossible_networks_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ModelError, match="positive sizes and an odd kernel"):
        UNet(**wrong)
