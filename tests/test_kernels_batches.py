"""gather and scatter, against the NumPy oracle and torch's own rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bainite_fast import _reference, kernels
from bainite_fast.errors import InputError
from bainite_fast.geometry import PAD_MODES, source_range

TORCH_TYPES = [torch.float32, torch.bfloat16, torch.float16]


def make_image(shape: tuple[int, ...], dtype: Any, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype) == np.float32:
        return (rng.standard_normal(shape) * 100).astype(np.float32)
    return rng.integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def new_batch(shape: tuple[int, ...], dtype: torch.dtype, last: bool) -> torch.Tensor:
    form = torch.channels_last if last else torch.contiguous_format
    return torch.full(shape, torch.nan, dtype=dtype).to(memory_format=form)


@given(
    shape=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    channels=st.sampled_from([(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (3, 1), (1, 3)]),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    out_dtype=st.sampled_from(TORCH_TYPES),
    last=st.booleans(),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    corners=st.lists(st.tuples(st.integers(-60, 60), st.integers(-60, 60)), min_size=0, max_size=4),
    pad=st.sampled_from(PAD_MODES),
    threads=st.integers(0, 2),
    seed=st.integers(0, 2**16),
)
def test_gather_pads_scales_and_casts(
    shape: Any, channels: Any, dtype: Any, out_dtype: Any, last: Any, size: Any, corners: Any, pad: Any, threads: Any,
    seed: Any,
) -> None:  # fmt: skip
    image = make_image(shape if channels[0] == 1 and seed % 2 else (*shape, channels[0]), dtype, seed)
    image.flags.writeable = False
    rng = np.random.default_rng(seed)
    gain, offset = rng.standard_normal((2, channels[1])).astype(np.float32)
    out = new_batch((len(corners), channels[1], *size), out_dtype, last)
    kernels.gather(
        image, out, origin=(0, 0), image_shape=shape, tiles=np.array(corners, np.int64).reshape(-1, 2), gain=gain,
        offset=offset, pad=pad, fill=7.0, threads=threads,
    )  # fmt: skip
    if corners:
        expected = _reference.gather(image, corners, size, gain, offset, pad=pad, fill=7.0)
        assert torch.equal(out, torch.from_numpy(expected).to(out_dtype))


@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    corner=st.tuples(st.integers(-30, 40), st.integers(-30, 40)),
    pad=st.sampled_from(["mirror", "symmetric", "edge"]),
)
def test_a_region_that_just_suffices_gives_what_the_image_gives(size: Any, corner: Any, pad: Any) -> None:
    image = make_image((19, 23), np.uint16, 3)
    y, y1 = source_range(corner[0], corner[0] + size[0], 19, pad)
    x, x1 = source_range(corner[1], corner[1] + size[1], 23, pad)
    region = image[y:y1, x:x1]  # a view: rows are apart
    out = np.empty((1, 1, *size), np.float32)
    kernels.gather(region, out, origin=(y, x), image_shape=(19, 23), tiles=[corner], pad=pad)
    assert np.array_equal(out, _reference.gather(image, [corner], size, [1], [0], pad=pad))
    if region.shape[0] > 1:
        with pytest.raises(InputError, match="outside of the region"):
            kernels.gather(region[1:], out, origin=(y + 1, x), image_shape=(19, 23), tiles=[corner], pad=pad)
    if region.shape[1] > 1:
        with pytest.raises(InputError, match="larger region"):
            kernels.gather(region[:, :-1], out, origin=(y, x), image_shape=(19, 23), tiles=[corner], pad=pad)


def test_every_float_rounds_as_torch_rounds() -> None:
    rng = np.random.default_rng(4)
    bits = rng.integers(0, 2**32, 1 << 18, np.uint32)
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    with np.errstate(invalid="ignore"):
        ties = np.nextafter(halves, np.float32(np.inf)) / 2 + halves / 2
    edges = np.array([65504, 65519.996, 65520, 6e-8, 2.98e-8, 2.9802322e-8, 5.96e-8, 0.0, -0.0, 3.4e38], np.float32)
    values = np.concatenate([bits.view(np.float32), halves, ties, edges, -edges])
    values = values[np.newaxis]
    for dtype in TORCH_TYPES:
        out = new_batch((1, 1, *values.shape), dtype, False)
        kernels.gather(values, out, origin=(0, 0), image_shape=values.shape, tiles=[(0, 0)], offset=-0.0)
        expected = torch.from_numpy(values).to(dtype)[None, None]
        assert torch.equal(out.isnan(), expected.isnan())
        number = ~expected.isnan()
        assert torch.equal(out[number], expected[number])
        assert torch.equal(out[number].signbit(), expected[number].signbit())


def test_gather_refuses() -> None:
    image = np.zeros((8, 9), np.uint8)
    good: dict[str, Any] = {"origin": (0, 0), "image_shape": (8, 9), "tiles": [(0, 0)]}
    out = np.zeros((1, 1, 4, 4), np.float32)
    read_only = out.copy()
    read_only.flags.writeable = False
    for region, target, change, message in [
        (image.astype(np.int32), out, {}, "uint8, uint16 or float32"),
        (image, out.astype(np.float64), {}, "float32, bfloat16 or float16"),
        (image, read_only, {}, "read-only"),
        (image, out[0], {}, "4-D"),
        (image, out, {"tiles": [(0, 0), (1, 1)]}, "as many tiles"),
        (image, out, {"tiles": [(0, 0, 0)]}, r"\[n, 2\]"),
        (image, np.zeros((1, 2, 4, 4), np.float32), {}, "channels"),
        (image, np.zeros((1, 1, 4, 8), np.float32)[..., ::2], {}, "contiguous"),
        (image, out, {"gain": [1, 2]}, "gain"),
        (image, out, {"origin": (1, 0)}, "inside the image"),
        (image, out, {"pad": "wrap"}, "wrap"),
        (image, out, {"threads": -2}, "threads"),
        (image[:, ::2], out, {"image_shape": (8, 5)}, "contiguous rows"),
        (image.astype(">u2"), out, {}, "byte"),
        (image, out, {"tiles": [(0.5, 1.0)]}, "tiles has dtype float64; integers are needed"),
        (image, out, {"tiles": np.array([(2**64 - 4, 0)], np.uint64)}, "tiles goes up to 18446744073709551612"),
        (image, out, {"tiles": [(0, 2**63 - 1)]}, "tile 0 has the corner 9223372036854775807; .* 2\\^60"),
        (image, out, {"tiles": [(-(2**63), 0)]}, "tile 0 has the corner -9223372036854775808"),
        (image, out, {"image_shape": (2**62, 9)}, r"image_shape must be \(1, 1\) to \(2\^60, 2\^60\)"),
        (image, out, {"origin": (2**63 - 1, 0)}, "inside the image"),
        *((image, out, {"pad": "constant", "fill": fill}, "fill is .*, 0 to 255") for fill in (-1, 256, np.nan)),
        (image.astype(np.uint16), out, {"pad": "constant", "fill": 65536}, "fill is .*, 0 to 65535"),
    ]:
        with pytest.raises(InputError, match=message):
            kernels.gather(region, target, **(good | change))
    with pytest.raises(TypeError, match="region must be"):
        kernels.gather([[1]], out, **good)


def test_gather_of_nothing_does_nothing() -> None:
    for channels, n, size in [(0, 1, (4, 5)), (2, 0, (4, 5)), (2, 1, (0, 5)), (2, 1, (4, 0))]:
        region, out = np.zeros((4, 5, channels), np.uint8), np.zeros((n, channels, *size), np.float32)
        kernels.gather(region, out, origin=(0, 0), image_shape=(4, 5), tiles=np.zeros((n, 2), int))


@st.composite
def logits_and_crops(draw: Any) -> Any:
    n, classes = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3, 4, 5, 9]))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 70))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    step = draw(st.sampled_from([1.0, 0.01]))  # whole numbers: many ties
    values = np.round(rng.standard_normal((n, classes, height, width)) * 3 / step) * step
    if draw(st.booleans()):
        bad = rng.random(values.shape) < 0.05
        values[bad] = rng.choice([np.nan, np.inf, -np.inf], bad.sum())
    crops = []
    for i in range(n):
        y, x = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        crops.append((y, x, draw(st.integers(0, height - y)), draw(st.integers(0, width - x)), i * 9, 3 * i))
    dtype = draw(st.sampled_from(TORCH_TYPES))
    logits = torch.from_numpy(values).to(dtype)
    layout = draw(st.sampled_from(["nchw", "nhwc", "apart"]))
    if layout == "nhwc":
        logits = logits.to(memory_format=torch.channels_last)
    elif layout == "apart":
        logits = torch.nn.functional.pad(logits, (1, 2, 3, 4))[:, :, 3:-4, 1:-2]
    return logits, crops


@given(case=logits_and_crops(), temperature=st.sampled_from([1.0, 0.3, 2.7]), threads=st.integers(0, 2))
def test_scatter_takes_the_first_of_the_largest_and_says_how_sure(case: Any, temperature: float, threads: int) -> None:
    logits, crops = case
    labels = np.full((30, 90), 250, np.uint8)[:, 2:-3]
    sure = np.full((30, 85), 251, np.uint8)
    expected, expected_sure = labels.copy(), sure.astype(np.float64)
    bad = 0
    unknown = np.zeros(labels.shape, bool)
    for tile, (y, x, height, width, to_y, to_x) in zip(logits, crops, strict=True):
        label, confidence, finite = _reference.classify(
            tile[:, y : y + height, x : x + width].float().numpy(), temperature
        )
        place = np.s_[to_y : to_y + height, to_x : to_x + width]
        expected[place], expected_sure[place], unknown[place] = label, confidence, ~finite
        bad += int((~finite).sum())
    options: dict[str, Any] = {"confidence": sure, "temperature": temperature, "threads": threads}
    assert kernels.scatter(logits, labels, crops=crops, **options) == bad
    assert np.array_equal(labels[~unknown], expected[~unknown])
    assert np.abs(sure - expected_sure)[~unknown].max(initial=0) <= 0.51
    assert (sure[unknown] == 0).all()
    again = np.full_like(sure, 250)
    kernels.scatter(logits, again, crops=crops)
    assert np.array_equal(again[~unknown], expected[~unknown])


@pytest.mark.parametrize("temperature", [1.0, 1e-3, 1e3])
@pytest.mark.parametrize("classes", [1, 2, 256])
def test_confidence_over_the_whole_range_of_logits(classes: int, temperature: float) -> None:
    values = np.concatenate([np.linspace(-130, 130, 5001), [0, 1e-30, -1e-30, 3e38, -3e38, 88.8, -88.8]])
    logits = np.zeros((1, classes, 1, values.size), np.float32)
    logits[0, -1, 0] = values
    labels, sure = np.empty((2, 1, values.size), np.uint8)
    crops = [(0, 0, 1, values.size, 0, 0)]
    assert kernels.scatter(logits, labels, crops=crops, confidence=sure, temperature=temperature) == 0
    label, confidence, _ = _reference.classify(logits[0], temperature)
    assert np.array_equal(labels, label)
    assert np.abs(sure - confidence).max() <= 0.51


def test_a_large_batch_on_several_threads() -> None:
    logits = torch.randn((3, 3, 700, 900), generator=torch.Generator().manual_seed(5))
    labels = np.zeros((700, 2700), np.uint8)
    kernels.scatter(logits, labels, crops=[(0, 0, 700, 900, 0, 900 * i) for i in range(3)])
    assert np.array_equal(labels, np.concatenate(list(logits.argmax(1).numpy()), axis=1))


def test_scatter_refuses() -> None:
    logits, labels = np.zeros((1, 2, 4, 5), np.float32), np.zeros((6, 7), np.uint8)
    whole = [(0, 0, 4, 5, 0, 0)]
    for first, second, crops, confidence, message in [
        (logits.astype(np.float64), labels, whole, None, "float32, bfloat16 or float16"),
        (logits[0], labels, whole, None, "4-D"),
        (np.zeros((1, 257, 4, 5), np.float32), labels, whole, None, "256 classes"),
        (logits, labels.astype(np.int64), whole, None, "uint8"),
        (logits, labels, [], None, r"\[n, 6\]"),
        (logits, labels, [(0, 1, 4, 5, 0, 0)], None, "leaves the tile"),
        (logits, labels, [(0, 0, 4, 5, 3, 0)], None, "leaves the tile"),
        (logits, labels, [(0, 0, -1, 5, 0, 0)], None, "leaves the tile"),
        (logits, labels, [(2**63 - 1, 0, 4, 5, 0, 0)], None, "leaves the tile"),
        (logits, labels, [(0, 0, 4.0, 5.0, 0, 0.5)], None, "crops has dtype float64; integers are needed"),
        (logits, labels.astype(bool), whole, None, r"uint8 .* got bool"),
        (logits, labels, whole, labels[1:], "shape"),
        (logits, labels, whole, labels.astype(np.float32), "uint8"),
    ]:
        with pytest.raises(InputError, match=message):
            kernels.scatter(first, second, crops=crops, confidence=confidence)
    for temperature in (0.0, -1.0, 1e4, np.nan):
        with pytest.raises(InputError, match=r"temperature is .* 0.001 to 1000"):
            kernels.scatter(logits, labels, crops=whole, temperature=temperature)
