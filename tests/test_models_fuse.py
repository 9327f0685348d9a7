"""Layers rewritten for fewer passes over memory say what PyTorch's say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import fx, nn
from torch.nn import functional

from bainite_fast import _core
from bainite_fast.models import UNet, compile, fuse, load, runtime, serial_threads
from bainite_fast.models.fold import fold_batch_norm
from bainite_fast.models.fuse import ConvReLU2d, JoinChannels, MaxPool2x2, fuse_layers, middle
from bainite_fast.models.trim import trim
from processor_helpers import onednn_convolves
from property_helpers import examples

DTYPES = [torch.float32, torch.bfloat16]


def noise(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return x.contiguous(memory_format=torch.channels_last)


@examples(60)
@given(
    n=st.integers(1, 3),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    parts=st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3)), min_size=1, max_size=3),
    dtype=st.sampled_from(DTYPES),
    plain=st.booleans(),
)
def test_join_is_cat_of_the_middles(
    n: int, height: int, width: int, parts: list[tuple[int, int]], dtype: torch.dtype, plain: bool
) -> None:
    parts = [*parts, (3, 0)]
    images = [noise(n, c, height + 2 * m, width + 2 * m, dtype=dtype, seed=k) for k, (c, m) in enumerate(parts)]
    if plain:
        images[0] = images[0].contiguous()
    expected = torch.cat([middle(x, m) for x, (_, m) in zip(images, parts, strict=True)], dim=1)
    assert torch.equal(JoinChannels()(*images), expected)


def test_large_joins_pass_by_the_caches() -> None:
    images = [noise(1, 16, 700, 900), noise(1, 20, 706, 906)]
    assert torch.equal(JoinChannels()(*images), torch.cat([images[0], middle(images[1], 3)], dim=1))


@examples(60)
@given(
    n=st.integers(1, 3),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    channels=st.integers(1, 40),
    dtype=st.sampled_from(DTYPES),
    broken=st.lists(st.sampled_from([float("nan"), float("inf"), -float("inf"), -0.0, 1e-40]), max_size=4),
)
def test_pooling_is_pytorchs(
    n: int, height: int, width: int, channels: int, dtype: torch.dtype, broken: list[float]
) -> None:
    x = noise(n, channels, height, width, dtype=dtype)
    for k, value in enumerate(broken):
        x[-1, 0, k % height, k // height % width] = value
    found = MaxPool2x2()(x)
    if min(height, width) < 2:
        assert found.numel() == 0 and found.shape[1] == channels
        return
    torch.testing.assert_close(found, functional.max_pool2d(x, 2), rtol=0, atol=0, equal_nan=True)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_what_does_not_fit_is_refused() -> None:
    image = np.zeros((1, 6, 8, 4), np.float32)
    joins: list[tuple[list[np.ndarray], np.ndarray]] = [
        ([image], np.empty((1, 6, 8, 5), np.float32)),
        ([image[:, :5]], np.empty((1, 6, 8, 4), np.float32)),
        ([image], np.empty((1, 4, 8, 4), np.float32)),
        ([image.astype(np.float16)], np.empty((1, 6, 8, 4), np.float16)),
        ([image[0]], np.empty((1, 6, 8, 4), np.float32)),
        ([image[:, ::2]], np.empty((1, 3, 8, 4), np.float32)),
    ]
    for images, out in joins:
        with pytest.raises(ValueError, match="must be"):
            _core.join_channels(images, out)
    for out in (np.empty((1, 3, 5, 4), np.float32), np.empty((1, 3, 4, 4), np.float16)):
        with pytest.raises(ValueError, match="must be"):
            _core.max_pool2x2(image, out)
    with pytest.raises(ValueError, match="threads"):
        _core.max_pool2x2(image, np.empty((1, 3, 4, 4), np.float32), threads=-1)


class Mixed(nn.Module):
    """Layers that can and cannot be rewritten."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding="same")  # padding in words stays
        self.c = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
        self.d = nn.Conv2d(4, 4, 5, padding=4, dilation=2, groups=2, bias=False)
        self.e = nn.Conv2d(4, 6, 2, stride=2)
        self.pool, self.other = nn.MaxPool2d(2), nn.MaxPool2d(3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.a(x)
        b = torch.relu(self.b(functional.relu(a)))
        d = self.d(self.c(b + a).relu()).relu()
        e = functional.relu(self.e(d))
        return torch.cat([e, torch.cat([self.pool(d), self.other(d)], dim=1)], dim=-3).relu()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_rewriting_keeps_the_answer_and_takes_what_it_may(dtype: torch.dtype, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    network = Mixed().eval().to(dtype=dtype).to(memory_format=layout)  # type: ignore[call-overload]
    x = noise(2, 2, 12, 20, dtype=dtype).contiguous(memory_format=layout)
    with torch.inference_mode():
        expected = network(x)
        fused = fuse_layers(fx.symbolic_trace(network))
        found = fused(x)
    kinds = [type(module) for module in fused.modules()]
    convolutions = 2 if onednn_convolves(dtype) else 0  # d, e
    assert [kinds.count(kind) for kind in (ConvReLU2d, MaxPool2x2, JoinChannels)] == [convolutions, 1, 1]
    assert kinds.count(nn.MaxPool2d) == 1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 if dtype == torch.float32 else 5e-2)


def test_a_unet_in_bfloat16_has_no_pass_between_its_convolutions() -> None:
    torch.manual_seed(0)
    network = fold_batch_norm(UNet(base=4, depth=3).eval())[0]
    fused = fuse_layers(network)
    kinds = [type(module) for module in fused.modules()]
    assert [kinds.count(kind) for kind in (ConvReLU2d, MaxPool2x2, JoinChannels)] == [14, 3, 3]
    assert nn.ReLU not in kinds and nn.MaxPool2d not in kinds


@pytest.mark.parametrize("why", ["no oneDNN", "error", "wrong answer"])
def test_a_network_stays_as_it_is_where_it_must(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    right: Callable[..., torch.Tensor] = fuse._mkldnn_ops._convolution_pointwise

    def wrong(*arguments: object) -> torch.Tensor:
        if why == "error":
            raise RuntimeError("no such convolution")
        return right(*arguments) + 1e-2

    class Operators:
        if why != "no oneDNN":
            _convolution_pointwise = staticmethod(wrong)

    monkeypatch.setattr(fuse, "_mkldnn_ops", Operators)
    network = UNet(base=4, depth=1).eval()
    compiled = compile(load(network))
    assert compiled.mode == "traced"
    x = compiled.new_batch(1, 16, 32).normal_()
    with serial_threads(), torch.inference_mode():
        assert float((compiled.run(x) - network(x)).abs().max()) < 1e-5


def test_the_rest_is_rewritten_where_onednn_has_no_convolution_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    class Operators:
        """Of a processor without the instructions."""

        @staticmethod
        def _is_mkldnn_bf16_supported() -> bool:
            return False

        @staticmethod
        def _convolution_pointwise(*_: object) -> torch.Tensor:
            raise RuntimeError("bf16 path needs the cpu support")

    monkeypatch.setattr(fuse, "_mkldnn_ops", Operators)
    torch.manual_seed(0)
    network = UNet(base=4, depth=2).eval()
    compiled = compile(load(network), precision="bfloat16")
    calls = {"join_channels": 0, "max_pool2x2": 0}
    for name in calls:
        count_calls(monkeypatch, calls, name)
    x = compiled.new_batch(1, 16, 32).normal_()
    with serial_threads(), torch.inference_mode():
        found, expected = compiled.run(x).float(), network(x.float())
    assert calls == {"join_channels": 2, "max_pool2x2": 2}
    assert float((found - expected).abs().max()) < 0.05 * float(expected.abs().max())


def count_calls(monkeypatch: pytest.MonkeyPatch, calls: dict[str, int], name: str) -> None:
    real: Callable[..., None] = getattr(_core, name)

    def counting(*arguments: object, **options: object) -> None:
        calls[name] += 1
        real(*arguments, **options)

    monkeypatch.setattr(_core, name, counting)


def test_fused_layers_are_in_the_compiled_network(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[nn.Module] = []
    monkeypatch.setattr(runtime, "fuse_layers", lambda network: seen.append(fuse_layers(network)) or seen[-1])
    compiled = compile(load(UNet(base=4, depth=2).eval()), precision="bfloat16")
    assert compiled.mode == "traced"
    kinds = {type(module) for module in seen[0].modules()}
    assert {MaxPool2x2, JoinChannels} <= kinds
    assert (ConvReLU2d in kinds) == onednn_convolves(torch.bfloat16)


class _OnTheCpu:
    """The compiled module, whose kernels for a GPU are those of the CPU."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_core, name)

    @staticmethod
    def join_channels(parts: list[torch.Tensor], out: torch.Tensor, *, stream: int = 7, threads: int = 0) -> None:
        assert stream == 7
        _core.join_channels(parts, out)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_upsampling_goes_into_the_concatenation(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU runs, with the kernels of the CPU: as a whole, trimmed, and as TorchScript."""
    monkeypatch.setattr(fuse, "_core", _OnTheCpu())
    monkeypatch.setattr(fuse, "_on_device", lambda x: True)
    monkeypatch.setattr(fuse, "_stream", lambda x: 7)
    monkeypatch.setattr(fuse, "takes_gray", lambda conv: False)  # a kernel that the CPU has not
    library: Any = cast(Any, torch.library.Library)("bainite_fast", "FRAGMENT")
    library.impl("upsample_join", fuse._upsample_join, "CPU")
    loaded = load(UNet(base=8, depth=depth))
    network, _ = fold_batch_norm(loaded.module)
    network = fuse_layers(network.eval().requires_grad_(False).to(memory_format=torch.channels_last))
    halo, stride = loaded.contract.halo, loaded.contract.stride
    x = noise(2, 1, 2 * halo + 3 * stride, 2 * halo + 2 * stride)
    trimming = trim(network, halo)
    assert trimming is not None
    with torch.inference_mode():
        for plain in (network, trimming[0]):
            fused = fuse.fuse_upsampling(plain)
            kinds = [type(layer) for layer in fused.modules()]
            assert kinds.count(fuse.UpsampleJoin) == depth and nn.ConvTranspose2d not in kinds
            expected = plain(x)
            torch.testing.assert_close(fused(x), expected)
            with runtime._quiet():
                script = runtime._jit.trace(fused, x, check_trace=False)
            torch.testing.assert_close(script(x), expected)
    library._destroy()


def test_on_the_cpu_upsampling_stays_as_it_is() -> None:
    network = fuse_layers(fold_batch_norm(UNet(base=4, depth=1).eval())[0])
    assert fuse.fuse_upsampling(network) is network
