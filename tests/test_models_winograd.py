"""Winograd's convolution is the convolution, and networks are rewritten to it without changing what they say."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from bainite_fast import _core
from bainite_fast.models import UNet, compile, load, precision, runtime, serial_threads, winograd
from bainite_fast.models.winograd import WinogradConv2d, WinogradConv2dPool, use_winograd
from property_helpers import examples

pytestmark = pytest.mark.skipif(not _core.winograd_available(), reason="this CPU has no AVX2")


def image(n: int, channels: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, channels, height, width, generator=generator)
    return x.contiguous(memory_format=torch.channels_last)


def exactly(conv: nn.Conv2d, inputs: list[torch.Tensor], *, relu: bool) -> torch.Tensor:
    bias = None if conv.bias is None else conv.bias.double()
    y = functional.conv2d(torch.cat(inputs, 1).double(), conv.weight.double(), bias, padding=1)
    return y.relu() if relu else y


@examples(60)
@given(
    n=st.integers(1, 3),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.lists(st.sampled_from([16, 32, 48]), min_size=1, max_size=3),
    out=st.sampled_from([16, 32, 48, 80]),
    relu=st.booleans(),
    bias=st.booleans(),
)
def test_every_shape_is_the_convolution_in_float64(
    n: int, height: int, width: int, channels: list[int], out: int, relu: bool, bias: bool
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(sum(channels), out, 3, padding=1, bias=bias)
    inputs = [image(n, c, height, width, seed=k) for k, c in enumerate(channels)]
    with torch.inference_mode():
        found = WinogradConv2d(conv, relu=relu)(*inputs)
        both, pooled = WinogradConv2dPool(conv, relu=relu)(*inputs)
        expected = exactly(conv, inputs, relu=relu)
    assert found.shape == expected.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert float((found - expected).abs().max()) < 2e-5
    assert torch.equal(both, found)
    assert pooled.shape == (n, out, height // 2, width // 2)
    if min(height, width) > 1:
        assert torch.equal(pooled, functional.max_pool2d(found, 2))


def test_the_rounding_error_is_a_few_times_that_of_a_direct_convolution() -> None:
    torch.manual_seed(0)
    conv, x = nn.Conv2d(64, 64, 3, padding=1), image(1, 64, 96, 96)
    with torch.inference_mode():
        expected = exactly(conv, [x], relu=False)
        direct = (conv(x) - expected).square().mean().sqrt()
        ours = (WinogradConv2d(conv, relu=False)(x) - expected).square().mean().sqrt()
    assert 0 < float(ours) < 4 * float(direct)


def test_threads_do_not_change_a_bit() -> None:
    conv, x = nn.Conv2d(32, 48, 3, padding=1), image(2, 32, 75, 110)
    module, before = WinogradConv2d(conv, relu=True), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = module(x)
        torch.set_num_threads(3)
        assert torch.equal(module(x), one)
    finally:
        torch.set_num_threads(before)


def test_images_that_are_not_channels_last_and_nan_go_through() -> None:
    conv, x = nn.Conv2d(16, 16, 3, padding=1), image(1, 16, 12, 20).contiguous()
    x[0, 3, 5, 7] = float("nan")
    with torch.inference_mode():
        assert torch.isnan(WinogradConv2d(conv, relu=True)(x)[0, :, 5, 7]).all()
        x[0, 3, 5, 7] = 0.0
        assert float((WinogradConv2d(conv, relu=True)(x) - exactly(conv, [x], relu=True)).abs().max()) < 1e-5


def test_what_does_not_fit_is_refused() -> None:
    kernels, bias = np.zeros((36, 16, 16), np.float32), np.zeros(16, np.float32)

    def convolve(x: np.ndarray, out: np.ndarray, **change: object) -> None:
        arguments = {"kernels": kernels, "bias": bias, "relu": True} | change
        _core.winograd_convolve([x], out, **arguments)  # type: ignore[arg-type]

    x, out = np.zeros((1, 6, 7, 16), np.float32), np.empty((1, 6, 7, 16), np.float32)
    convolve(x, out)
    assert not out.any()
    cases: list[tuple[np.ndarray, np.ndarray, dict[str, object]]] = [
        (x[:, :5], out, {}),
        (x.astype(np.float64), out, {}),
        (x[..., :8], out, {}),
        (x[:, ::2], out[:, ::2], {}),
        (x, np.empty((1, 6, 7, 24), np.float32), {}),
        (x, out, {"kernels": kernels[:, :8]}),
        (x, out, {"kernels": kernels[:35]}),
        (x, out, {"bias": bias[:8]}),
        (x, out, {"pooled": np.empty((1, 3, 4, 16), np.float32)}),
        (x, out, {"threads": -1}),
    ]
    for a, b, change in cases:
        with pytest.raises(ValueError, match="must be"):
            convolve(a, b, **change)
    with pytest.raises(ValueError, match="must be"):
        _core.winograd_kernels(np.zeros((16, 16, 5, 5), np.float32), kernels)


class Mixed(nn.Module):
    """Convolutions that can and cannot be replaced, joined in all the ways that matter."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)  # 3 channels
        self.a = nn.Conv2d(16, 32, 3, padding="same")
        self.b = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.grouped = nn.Conv2d(32, 32, 3, padding=1, groups=2)
        self.dilated = nn.Conv2d(32, 32, 3, padding=2, dilation=2)
        self.mirrored = nn.Conv2d(32, 32, 3, padding=1, padding_mode="reflect")
        self.wide_pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.c = nn.Conv2d(99, 16, 3, padding=1)  # 99 channels
        self.d = nn.Conv2d(96, 48, 3, padding=1)
        self.e = nn.Conv2d(48, 16, 3, padding=1)
        self.head = nn.Conv2d(32, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = functional.relu(self.first(x))
        a = self.a(first)  # used before and after its ReLU
        b = self.b(torch.relu(a)).relu()
        halves = self.pool(b) + self.wide_pool(b)
        parts = [a, self.grouped(b), torch.cat([self.dilated(b)], dim=1)]
        d = torch.relu(self.d(torch.cat(parts, dim=-3)))
        c = self.c(torch.cat([x, *parts], 1))
        e = self.e(d)
        y = torch.cat([torch.relu(e), c], dim=1)
        return self.head(y) + functional.interpolate(self.head(self.mirrored(halves)), scale_factor=2.0)


def test_rewriting_keeps_the_answer_and_takes_what_it_may() -> None:
    torch.manual_seed(0)
    network, x = Mixed().eval(), image(2, 3, 24, 36)
    with torch.inference_mode():
        expected = network(x)
        done = use_winograd(torch.fx.symbolic_trace(network), x)
        found = done.network(x)
    assert done.convolutions == 4  # a, b, d, e
    assert 0 < done.share < 1
    assert float((found - expected).abs().max()) < 1e-5
    kinds = [type(x) for x in done.network.modules()]
    assert kinds.count(WinogradConv2dPool) == 1
    assert kinds.count(nn.MaxPool2d) == 1


def test_a_unet_loses_its_concatenations_and_poolings() -> None:
    torch.manual_seed(0)
    network, x = UNet(base=16, depth=3).eval(), image(1, 1, 32, 48)
    with torch.inference_mode(), torch.no_grad():
        expected = network(x)
        done = use_winograd(runtime.fold_batch_norm(network)[0], x)
        found = done.network(x)
    assert done.convolutions == 13
    assert done.share > 0.9
    assert float((found - expected).abs().max()) < 1e-5
    assert isinstance(done.network, torch.fx.GraphModule)
    assert "cat" not in done.network.code
    assert not any(isinstance(x, nn.MaxPool2d) for x in done.network.modules())


def test_the_compiled_network_uses_it_and_says_so() -> None:
    torch.manual_seed(0)
    network = UNet(base=16, depth=2).eval()
    compiled, x = compile(load(network)), image(1, 1, 64, 96)
    assert (compiled.mode, compiled.winograd) == ("traced", 9)
    assert compiled.fingerprint()["winograd_convolutions"] == 9
    with serial_threads(), torch.inference_mode():
        assert float((compiled.run(x) - network(x)).abs().max()) < 2e-5


@pytest.mark.parametrize("why", ["no such instructions", "wrong answer", "layout"])
def test_a_network_stays_direct_where_it_must(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    network, layout = UNet(base=16, depth=1).eval(), "channels_last"
    if why == "no such instructions":
        monkeypatch.setattr(winograd._core, "winograd_available", lambda: False)
    elif why == "wrong answer":
        right: Callable[..., None] = _core.winograd_convolve

        def wrong(inputs: list[torch.Tensor], out: torch.Tensor, **options: object) -> None:
            right(inputs, out, **options)
            out += 1e-2

        monkeypatch.setattr(winograd._core, "winograd_convolve", wrong)
    else:
        layout = "contiguous"
    compiled = compile(load(network), layout=layout)  # type: ignore[arg-type]
    assert (compiled.winograd, compiled.winograd_share) == (0, 0.0)
    x = compiled.new_batch(1, 16, 32).zero_()
    with torch.inference_mode():
        assert float((compiled.run(x) - network(x)).abs().max()) < 1e-5


def test_auto_stays_in_float32_where_winograd_is_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = dataclasses.replace(load(UNet(base=16, depth=2).eval()), test_input=np.zeros((32, 32), np.uint8))
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(precision, "flipped", lambda *_: 0.0)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert precision.choose_precision(model) == "float32"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": True})
    assert precision.choose_precision(model) == "bfloat16"
