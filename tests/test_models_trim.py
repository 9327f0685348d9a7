"""A network trimmed to the core says at the core what the whole network says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import fx, nn
from torch.nn import functional

import bainite_fast
from bainite_fast import _core
from bainite_fast.models import UNet, compile, load, serial_threads
from bainite_fast.models.compiled import Runtime
from bainite_fast.models.fold import fold_batch_norm
from bainite_fast.models.fuse import middle
from bainite_fast.models.receptive_field import probe
from bainite_fast.models.trim import trim
from property_helpers import examples


class Bilinear(nn.Module):
    """A U-Net of one level whose way up is interpolation, with a sum and a wide kernel."""

    def __init__(self, mode: str = "bilinear") -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 4, 5, padding=2)
        self.b = nn.Conv2d(4, 4, 3, padding="same", dilation=2)
        self.pool = nn.AvgPool2d(4)
        self.up = nn.Upsample(scale_factor=4, mode=mode)
        self.c = nn.Conv2d(8, 4, 3, padding=1)
        self.d = nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = torch.sigmoid(self.a(x))
        up = self.up(functional.relu(self.b(self.pool(a))))
        return self.d(self.c(torch.cat([a + up, up], dim=1)))


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def check(network: nn.Module, halo: int, stride: int) -> int:
    """Return the margin, having compared the trimmed network with the whole one."""
    with torch.no_grad():
        trimming = trim(network, halo)
        assert trimming is not None
        trimmed, margin = trimming
        x = noise(2, 1, 2 * halo + 2 * stride, 2 * halo + 3 * stride)
        whole, core = network(x), trimmed(x)
        assert core.shape == middle(whole, margin).shape
        torch.testing.assert_close(middle(core, halo - margin), middle(whole, halo), rtol=0, atol=1e-5)
    return margin


@examples(12)
@given(depth=st.integers(1, 4), kernel=st.sampled_from([3, 5]), base=st.integers(1, 4), spare=st.integers(0, 2))
def test_a_unet_keeps_its_answer_at_the_core(depth: int, kernel: int, base: int, spare: int) -> None:
    torch.manual_seed(0)
    network = UNet(base=base, depth=depth, kernel=kernel).eval()
    contract = load(network).contract
    halo = contract.halo + spare * contract.stride
    margin = check(fold_batch_norm(network)[0], halo, contract.stride)
    assert halo - kernel < margin <= halo


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_interpolation_sums_and_wide_kernels(mode: str) -> None:
    torch.manual_seed(0)
    network = Bilinear(mode).eval()
    reach = probe(network, 1)
    check(fx.symbolic_trace(network), reach.halo, reach.stride)


class Unknown(nn.Module):
    """A network with a layer between its convolutions, and a skip round them."""

    def __init__(self, layer: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.layer = layer
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.up = nn.ConvTranspose2d(1, 1, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.up(self.layer(self.conv(functional.relu(x))))], 1)


@pytest.mark.parametrize(
    "layer",
    [
        nn.MaxPool2d(2, ceil_mode=True),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.MaxPool2d((2, 4)),
        nn.Conv2d(1, 1, 2, stride=2),
        nn.Conv2d(1, 1, 3, padding=0),
        nn.Sequential(nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)),
        nn.Sequential(nn.MaxPool2d(2), nn.Upsample(size=(8, 8))),
        nn.AdaptiveAvgPool2d(1),
        nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1),
        lambda x: x[:, :, ::2, ::2],
        lambda x: torch.cat([x, x], 2),
    ],
    ids=lambda layer: str(layer)[:30] if isinstance(layer, nn.Module) else "function",
)
def test_a_layer_that_is_not_known_leaves_the_network_whole(layer: Callable[..., torch.Tensor]) -> None:
    assert trim(fx.symbolic_trace(Unknown(layer)), 16) is None


def test_what_cannot_be_trimmed_is_left_whole() -> None:
    straight = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))
    assert trim(fx.symbolic_trace(straight), 2) is None  # no way up: nothing to crop
    network = fold_batch_norm(UNet(base=2, depth=2).eval())[0]
    assert trim(network, 4) is None  # the halo is too small for the network
    assert trim(network, 30) is None  # not on the stride grid
    assert trim(nn.Conv2d(1, 1, 1), 0) is None  # not traced


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_compiled_network_runs_the_core(precision: str) -> None:
    torch.manual_seed(0)
    compiled = compile(load(UNet(base=16, depth=3).eval()), precision=precision)  # type: ignore[arg-type]
    halo = compiled.contract.halo
    assert 0 < compiled.trimmed < halo
    assert compiled.fingerprint()["trimmed_px"] == compiled.trimmed
    batch = compiled.new_batch(2, 2 * halo + 40, 2 * halo + 64).normal_()
    with serial_threads():
        whole, core = compiled.run(batch), compiled.run_core(batch)
    assert core.shape[2:] == (batch.shape[2] - 2 * compiled.trimmed, batch.shape[3] - 2 * compiled.trimmed)
    difference = middle(core, halo - compiled.trimmed).float() - middle(whole, halo).float()
    assert difference.abs().max() <= (1e-5 if precision == "float32" else 2e-2)


def count_calls(monkeypatch: pytest.MonkeyPatch, calls: dict[str, int], name: str) -> None:
    real = getattr(Runtime, name)

    def counting(self: Runtime, batch: torch.Tensor) -> torch.Tensor:
        calls[name] += 1
        logits: torch.Tensor = real(self, batch)
        return logits

    monkeypatch.setattr(Runtime, name, counting)


def test_only_tiles_with_the_whole_halo_are_trimmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = UNet(base=2, depth=2).eval()
    image = np.random.default_rng(0).integers(0, 256, (300, 200), np.uint8)
    calls = {"run": 0, "run_core": 0}
    for name in calls:
        count_calls(monkeypatch, calls, name)
    monkeypatch.setattr(Runtime, "activation_bytes", lambda *_: 1 << 20)  # runs nothing
    labels = {}
    for edge in ("mirror", "native"):
        calls.update(run=0, run_core=0)
        seg = bainite_fast.segment(
            image, model, out=tmp_path / f"{edge}.ome.zarr", edge=edge, tile=64, scale="as-is", progress=False
        )
        labels[edge] = np.asarray(seg.labels)
        assert calls["run_core"] > 0
        assert (calls["run"] > 0) == (edge == "native")
    assert labels["mirror"].shape == labels["native"].shape == image.shape


def test_winograd_leaves_margins_out_without_a_pass_of_its_own() -> None:
    if not _core.winograd_available():
        pytest.skip("this CPU has no AVX2")
    from bainite_fast.models.winograd import use_winograd

    torch.manual_seed(0)
    network = fold_batch_norm(UNet(base=16, depth=3).eval())[0]
    done = use_winograd(network, noise(1, 1, 32, 32)).network
    trimming = trim(done, 48)
    assert trimming is not None
    assert "middle" not in trimming[0].code  # type: ignore[operator]
    check(done, 48, 8)
