"""On a GPU: layers of our own say what PyTorch's say, and a compiled network has them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from bainite_fast import kernels
from bainite_fast.models import compile, load
from bainite_fast.models.device import exact_math
from bainite_fast.models.fuse import GrayConvReLU2d, JoinChannels, MaxPool2x2, UpsampleJoin, middle, takes_gray
from segment_helpers import small_unet

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here"),
    pytest.mark.skipif(not kernels.cuda_built(), reason="this build has no CUDA kernels: make gpu-test builds them"),
]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
NAMES = ("conv_gray", "upsample_join", "max_pool2x2")
CLOSE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-3}
settings.register_profile("gpu", settings.get_profile("default"), max_examples=100)


def noise(*shape: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to("cuda", dtype)
    return x.contiguous(memory_format=torch.channels_last)


@settings(settings.get_profile("gpu"))
@given(
    n=st.integers(1, 3),
    size=st.tuples(st.integers(1, 12), st.integers(1, 300)),
    parts=st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3)), max_size=6),
    dtype=st.sampled_from(DTYPES),
    plain=st.booleans(),
)
def test_join_is_cat_of_the_middles(n, size, parts, dtype, plain) -> None:
    parts = [*parts, (8, 0)]
    images = [noise(n, c, size[0] + 2 * m, size[1] + 2 * m, dtype=dtype, seed=k) for k, (c, m) in enumerate(parts)]
    if plain:
        images[0] = images[0].contiguous()
    expected = torch.cat([middle(x, m) for x, (_, m) in zip(images, parts, strict=True)], dim=1)
    found = JoinChannels()(*images)
    assert torch.equal(found, expected) and found.is_contiguous(memory_format=torch.channels_last)


@settings(settings.get_profile("gpu"))
@given(
    n=st.integers(1, 3),
    size=st.tuples(st.integers(2, 12), st.integers(2, 300)),
    channels=st.integers(1, 40),
    dtype=st.sampled_from(DTYPES),
    broken=st.lists(st.sampled_from([float("nan"), float("inf"), -float("inf"), -0.0]), max_size=4),
)
def test_pooling_is_pytorchs(n, size, channels, dtype, broken) -> None:
    x = noise(n, channels, *size, dtype=dtype)
    for k, value in enumerate(broken):
        x[-1, 0, k % size[0], k // size[0] % size[1]] = value
    found = MaxPool2x2()(x)
    torch.testing.assert_close(found, functional.max_pool2d(x, 2), rtol=0, atol=0, equal_nan=True)


def close(found: torch.Tensor, expected: torch.Tensor, times: float = 1.0) -> bool:
    """Say whether values agree with others of float64, to so many times the precision of their type."""
    scale = max(float(expected.abs().max()), 1.0)
    return bool((found.double() - expected).abs().max() <= times * CLOSE[found.dtype] * scale)


@settings(settings.get_profile("gpu"))
@given(
    n=st.integers(1, 3),
    size=st.tuples(st.integers(1, 20), st.integers(1, 300)),
    groups=st.sampled_from([1, 2, 3, 8, 33]),
    bias=st.booleans(),
    dtype=st.sampled_from(DTYPES),
)
def test_gray_images_are_convolved(n, size, groups, bias, dtype) -> None:
    conv = nn.Conv2d(1, 8 * groups, 3, padding=1, bias=bias).to("cuda", dtype).requires_grad_(False)
    assert takes_gray(conv)
    x = noise(n, 1, *size, dtype=dtype)
    start = None if conv.bias is None else conv.bias.double()
    found = GrayConvReLU2d(conv)(x)
    assert close(found, functional.conv2d(x.double(), conv.weight.double(), start, padding=1).relu())
    assert found.is_contiguous(memory_format=torch.channels_last)


@settings(settings.get_profile("gpu"))
@given(
    n=st.integers(1, 2),
    size=st.tuples(st.integers(1, 8), st.integers(1, 90)),
    channels=st.tuples(st.integers(1, 24), st.integers(1, 24), st.integers(1, 24)),
    margins=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    first=st.booleans(),
    dtype=st.sampled_from(DTYPES),
)
def test_upsampling_goes_into_the_concatenation(n, size, channels, margins, first, dtype) -> None:
    conv = nn.ConvTranspose2d(channels[0], channels[1], 2, stride=2).to("cuda", dtype).requires_grad_(False)
    crop, margin = margins
    below = noise(n, channels[0], size[0] + 2 * crop, size[1] + 2 * crop, dtype=dtype)
    skip = noise(n, channels[2], 2 * size[0] + 2 * margin, 2 * size[1] + 2 * margin, dtype=dtype, seed=1)
    with torch.inference_mode(), exact_math("cuda:0"):
        inputs = (below, skip) if first else (skip, below)
        found = UpsampleJoin(conv, 0 if first else 1, crop)(*inputs)
        up = functional.conv_transpose2d(middle(below, crop).double(), conv.weight.double(), conv.bias.double(), 2)
        parts = [up, middle(skip, margin).double()]
        assert close(found, torch.cat(parts if first else parts[::-1], dim=1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_compiled_network_has_them_all(dtype: torch.dtype) -> None:
    loaded = load(small_unet(depth=3, base=16))
    runtime = compile(loaded, precision=str(dtype).removeprefix("torch."), device="cuda:0")  # type: ignore[arg-type]
    for network in (runtime._network, runtime._core):
        code = str(network.graph)  # type: ignore[attr-defined]
        assert [code.count(f"bainite_fast::{name}(") for name in NAMES] == [1, 3, 3]
    halo, cut = loaded.contract.halo, loaded.contract.halo - runtime.trimmed
    x = torch.rand(2, 1, 2 * halo + 64, 2 * halo + 72)
    batch = x.to("cuda", dtype).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = loaded.module.double()(x.double())
        loaded.module.float()
    assert close(middle(runtime.run(batch), halo).cpu(), middle(expected, halo), 4)
    assert close(middle(runtime.run_core(batch), cut).cpu(), middle(expected, halo), 4)
