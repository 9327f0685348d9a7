"""The U-Net with a VGG16 encoder: its layers, its names, its reach, and what it becomes when compiled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bainite_fast.errors import ModelError
from bainite_fast.models import UNet, VGG16UNet, architecture, build, compile, load, probe, serial_threads
from bainite_fast.models.catalog import UNetConfig, VGG16UNetConfig, parameter_count
from bainite_fast.models.fuse import middle

# torchvision.models.vgg16().features: index, input and output channels of each convolution.
TORCHVISION = {
    0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256),
    17: (256, 512), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512),
}  # fmt: skip


def test_the_encoder_is_vgg16_by_torchvisions_names() -> None:
    with torch.device("meta"):
        state = VGG16UNet().state_dict()
    shapes = {k: tuple(v.shape) for k, v in state.items() if k.startswith("features.")}
    expected = {f"features.{i}.weight": (out, into, 3, 3) for i, (into, out) in TORCHVISION.items()}
    expected |= {f"features.{i}.bias": (out,) for i, (_, out) in TORCHVISION.items()}
    assert shapes == expected


def test_the_encoder_sees_what_vgg16_sees_on_imagenet() -> None:
    """The centre's features are those of a plain VGG16 that is fed the gray image in three channels, normalised."""
    torch.manual_seed(0)
    network = VGG16UNet(base=8).eval()
    plain: list[nn.Module] = []
    for index in range(30):
        if index in TORCHVISION:
            into, out = TORCHVISION[index]
            plain.append(nn.Conv2d(into if index == 0 else into // 8, out // 8, 3, padding=1))
        else:
            plain.append(nn.MaxPool2d(2, 2) if index in (4, 9, 16, 23) else nn.ReLU())
    reference = nn.Sequential(*plain)
    reference.load_state_dict({k.removeprefix("features."): v for k, v in network.features.state_dict().items()})
    gray = torch.rand(1, 1, 32, 48)
    # The transform that torchvision documents for its weights.
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalised = (np.repeat(gray[0, 0, ..., None].double().numpy(), 3, axis=2) - mean) / std
    seen: list[torch.Tensor] = []
    network.features[29].register_forward_hook(lambda *arguments: seen.append(arguments[2]))
    with torch.inference_mode():
        network(gray)
        expected = reference(torch.from_numpy(normalised.transpose(2, 0, 1)[None]).float())
    assert seen[0].shape == (1, 64, 2, 3)
    torch.testing.assert_close(seen[0], expected, rtol=1e-4, atol=1e-5)


def test_rgb_and_gray_are_one_network() -> None:
    torch.manual_seed(0)
    gray = VGG16UNet(1, 3, base=4).eval()
    rgb = VGG16UNet(3, 3, base=4).eval()
    rgb.load_state_dict(gray.state_dict())
    x = torch.rand(2, 1, 32, 16)
    with torch.inference_mode():
        torch.testing.assert_close(rgb(x.repeat(1, 3, 1, 1)), gray(x))


def test_decoder_blocks_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        network = VGG16UNet()
    for level, (below, width) in {4: (512, 512), 3: (512, 256), 2: (256, 128), 1: (128, 64)}.items():
        up = network.get_submodule(f"up{level}upsample")
        assert (up.mode, up.scale_factor, up.align_corners) == ("bilinear", 2, False)
        for convr, into in (("convr1", width + below), ("convr2", width)):
            block = network.get_submodule(f"up{level}{convr}")
            assert [type(x) for x in block] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
            assert block.conv.weight.shape == (width, into, 3, 3)
    assert not any(isinstance(x, nn.BatchNorm2d) for x in network.features)


def test_size_and_cost() -> None:
    with torch.device("meta"):
        network, batch = VGG16UNet(), torch.empty(1, 1, 256, 256)
    with FlopCounterMode(display=False) as counter:
        assert network(batch).shape == (1, 2, 256, 256)
    encoder = 9 * (3 * 64 + 64 * 64 + (64 * 128 + 128 * 128) / 4 + (128 * 256 + 2 * 256**2) / 16)
    encoder += 9 * ((256 * 512 + 2 * 512**2) / 64 + 3 * 512**2 / 256)
    decoder = 9 * ((1024 * 512 + 512**2) / 64 + (768 * 256 + 256**2) / 16 + (384 * 128 + 128**2) / 4 + 192 * 64 + 64**2)
    assert counter.get_total_flops() / 256**2 == 2 * (encoder + decoder + 64 * 2)
    assert parameter_count(VGG16UNetConfig()) == sum(x.numel() for x in network.parameters()) == 24_893_122


@pytest.mark.parametrize(("channels", "classes", "base"), [(1, 2, 2), (3, 1, 4), (1, 5, 3)])
def test_any_size_keeps_its_shape(channels: int, classes: int, base: int) -> None:
    network = VGG16UNet(channels, classes, base=base).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, channels, 16, 48)).shape == (2, classes, 16, 48)
    config = architecture(network)
    assert config == VGG16UNetConfig(in_channels=channels, classes=classes, base=base)
    assert parameter_count(config) == sum(x.numel() for x in network.parameters())
    assert architecture(build(config)) == config


def test_every_layer_learns() -> None:
    torch.manual_seed(0)
    network = VGG16UNet(base=2)
    network(torch.rand(2, 1, 32, 32)).square().sum().backward()
    assert all(x.grad is not None and bool(torch.isfinite(x.grad).all()) for x in network.parameters())


@pytest.mark.parametrize("wrong", [{"in_channels": 2}, {"classes": 0}, {"base": 0}])
def test_impossible_networks_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ModelError, match="1 channel .gray. or 3 .RGB.*and got"):
        VGG16UNet(**wrong)
    with pytest.raises(ModelError, match=next(iter(wrong))):
        build({"kind": "vgg16_unet", **wrong})


def test_wrong_input_says_what_is_needed() -> None:
    with pytest.raises(ModelError, match=r"multiples of 16; pad to 32 × 16"):
        VGG16UNet(base=1)(torch.zeros(1, 1, 20, 16))


def test_build_tells_networks_apart() -> None:
    assert isinstance(build({"base": 2}), UNet)
    assert isinstance(build(UNetConfig(base=2, depth=1)), UNet)
    assert isinstance(build({"kind": "vgg16_unet", "base": 2}), VGG16UNet)
    with pytest.raises(ModelError, match="vit"):
        build({"kind": "vit"})
    with pytest.raises(ModelError, match="depth"):
        build({"kind": "vgg16_unet", "depth": 3})


def test_stride_and_halo() -> None:
    torch.manual_seed(0)
    reach = probe(VGG16UNet(base=2), 1)
    assert (reach.stride, reach.halo, reach.out_channels) == (16, 144, 2)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_compiled_network_is_folded_fused_and_trimmed(precision: str) -> None:
    torch.manual_seed(0)
    network = VGG16UNet(base=8).eval()
    compiled = compile(load(network), precision=precision)  # type: ignore[arg-type]
    assert (compiled.mode, compiled.folded) == ("traced", 8)
    halo = compiled.contract.halo
    assert halo - 16 < compiled.trimmed < halo
    batch = compiled.new_batch(1, 2 * halo + 32, 2 * halo + 48)
    batch.copy_(torch.rand(batch.shape))
    with serial_threads(), torch.inference_mode():
        whole, core, plain = compiled.run(batch), compiled.run_core(batch), network(batch.float())
    allowed = (2e-5 if precision == "float32" else 3e-2) * float(plain.abs().max())
    assert (whole.float() - plain).abs().max() <= allowed
    assert (middle(core, halo - compiled.trimmed).float() - middle(plain, halo)).abs().max() <= allowed
