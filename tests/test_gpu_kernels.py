"""On a GPU: its kernels give the bits of those of the CPU, for any shape, type, layout and stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bainite_fast import kernels
from bainite_fast.errors import InputError
from bainite_fast.geometry import PAD_MODES
from test_kernels_batches import TORCH_TYPES, logits_and_crops, make_image, new_batch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here"),
    pytest.mark.skipif(not kernels.cuda_built(), reason="this build has no CUDA kernels: make gpu-test builds them"),
]
settings.register_profile("gpu", settings.get_profile("default"), max_examples=300)
SOURCES: dict[Any, torch.dtype] = {np.uint8: torch.uint8, np.uint16: torch.uint16, np.float32: torch.float32}
INTEGERS = (np.uint8, np.uint16, np.int32, np.int64)


class Interface:
    """A tensor that speaks ``__cuda_array_interface__`` alone, as CuPy's and Numba's arrays of old do."""

    def __init__(self, array: Any) -> None:
        self._tensor = device(array)
        self.shape = array.shape
        self.__cuda_array_interface__ = {
            "shape": array.shape, "typestr": array.dtype.str, "data": (self._tensor.data_ptr(), False), "version": 3,
        }  # fmt: skip


def device(array: Any) -> torch.Tensor:
    return torch.as_tensor(np.ascontiguousarray(array)).to("cuda")


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.cpu().contiguous().reshape(-1).view(torch.uint8)  # an axis of length 1 keeps any stride


@settings(settings.get_profile("gpu"))
@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 90)),
    channels=st.sampled_from([(1, 1), (2, 2), (3, 3), (5, 5), (3, 1), (1, 3)]),
    dtype=st.sampled_from(list(SOURCES)),
    out_dtype=st.sampled_from(TORCH_TYPES),
    last=st.booleans(),
    size=st.tuples(st.integers(1, 40), st.integers(1, 1400)),
    corners=st.lists(st.tuples(st.integers(-60, 60), st.integers(-60, 60)), min_size=0, max_size=4),
    pad=st.sampled_from(PAD_MODES),
    skip=st.integers(0, 5),
    seed=st.integers(0, 2**16),
)
def test_gather(
    shape: Any, channels: Any, dtype: Any, out_dtype: Any, last: Any, size: Any, corners: Any, pad: Any, skip: int,
    seed: int,
) -> None:  # fmt: skip
    image = make_image(shape if channels[0] == 1 and seed % 2 else (*shape, channels[0]), dtype, seed)
    rng = np.random.default_rng(seed)
    gain, offset = rng.standard_normal((2, channels[1])).astype(np.float32)
    options = {
        "origin": (0, 0), "image_shape": shape, "tiles": np.array(corners, np.int64).reshape(-1, 2), "gain": gain,
        "offset": offset, "pad": pad, "fill": 7.0,
    }  # fmt: skip
    expected = new_batch((len(corners), channels[1], *size), out_dtype, last)
    kernels.gather(image, expected, **options)  # type: ignore[arg-type]
    found = expected.to("cuda").fill_(0)
    padded = device(np.pad(image, [(0, 0), (skip, 0)] + [(0, 0)] * (image.ndim - 2)))
    kernels.gather(padded[:, skip:], found, **options)  # type: ignore[arg-type]
    assert torch.equal(bits(found), bits(expected))


@settings(settings.get_profile("gpu"))
@given(case=logits_and_crops(), wait=st.booleans())
def test_scatter(case: Any, wait: bool) -> None:
    logits, crops = case
    expected, sure = np.full((2, 30, 90), 250, np.uint8)
    bad = kernels.scatter(logits, expected, crops=crops, confidence=sure)
    labels, confidence = device(np.full((2, 30, 90), 250, np.uint8))
    on_device = torch.empty_strided(logits.shape, logits.stride(), dtype=logits.dtype, device="cuda").copy_(logits)
    count = torch.zeros(1, dtype=torch.int64, device="cuda")
    found = kernels.scatter(on_device, labels, crops=crops, confidence=confidence, bad=None if wait else count)
    assert (found if wait else int(count)) == bad
    assert np.array_equal(labels.cpu().numpy(), expected)
    assert np.array_equal(confidence.cpu().numpy(), sure)


@pytest.mark.parametrize("last", [False, True], ids=["planes", "interleaved"])
@pytest.mark.parametrize("classes", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", TORCH_TYPES, ids=str)
def test_scatter_of_many_pixels(dtype: torch.dtype, classes: int, last: bool) -> None:
    """Whole warps, rows of several pieces, and values enough to meet every edge between two bytes of the confidence."""
    logits = new_batch((2, classes, 100, 5003), dtype, last)
    logits.normal_(0.0, 2.0, generator=torch.Generator().manual_seed(classes))
    logits[1, 0, 7, ::97] = torch.nan
    options: dict[str, Any] = {"crops": [(0, 3, 100, 5000, 0, 1), (1, 0, 99, 5003, 100, 0)], "temperature": 1.3}
    expected, sure = np.zeros((2, 200, 5003), np.uint8)
    bad = kernels.scatter(logits, expected, confidence=sure, **options)
    labels, confidence = device(np.zeros((2, 200, 5003), np.uint8))
    assert kernels.scatter(logits.to("cuda"), labels, confidence=confidence, **options) == bad
    assert np.array_equal(labels.cpu().numpy(), expected)
    assert np.array_equal(confidence.cpu().numpy(), sure)


@pytest.mark.parametrize("last", [False, True], ids=["planes", "interleaved"])
@pytest.mark.parametrize("channels", [(1, 1), (3, 3), (3, 1), (1, 3)], ids=str)
@pytest.mark.parametrize("out_dtype", TORCH_TYPES, ids=str)
@pytest.mark.parametrize("dtype", list(SOURCES))
def test_gather_of_long_rows(dtype: Any, out_dtype: torch.dtype, channels: tuple[int, int], last: bool) -> None:
    image = make_image((40, 9000, channels[0]), dtype, 1)
    gain, offset = np.random.default_rng(2).standard_normal((2, channels[1])).astype(np.float32)
    options: dict[str, Any] = {
        "origin": (0, 0), "image_shape": (40, 9000), "tiles": [(-3, -5), (2, 8), (5, -700)], "gain": gain,
        "offset": offset,
    }  # fmt: skip
    expected = new_batch((3, channels[1], 30, 9001), out_dtype, last)
    kernels.gather(image, expected, **options)
    found = expected.to("cuda").fill_(0)
    kernels.gather(device(image), found, **options)
    assert torch.equal(bits(found), bits(expected))


@pytest.mark.parametrize("longest", [1, 400])
@pytest.mark.parametrize("classes", [2, 4, 8, 16, 64, 110, 128])
def test_counts_of_long_rows(classes: int, longest: int) -> None:
    rng, pixels = np.random.default_rng(classes), 60 * 27_013
    runs = rng.integers(0, classes, (2, pixels // longest + 1), np.uint8)
    truth, pred = np.repeat(runs, longest, axis=1)[:, :pixels].reshape(2, 60, 27_013)
    truth[3, ::53] = 255
    on_device = device(truth), device(pred)
    found = kernels.confusion_matrix(*on_device, classes, ignore=255)
    assert np.array_equal(found, kernels.confusion_matrix(truth, pred, classes, ignore=255))
    assert np.array_equal(kernels.class_counts(on_device[1], classes), kernels.class_counts(pred, classes))


@settings(settings.get_profile("gpu"))
@given(
    shape=st.tuples(st.integers(0, 40), st.integers(0, 1500)),
    classes=st.sampled_from([1, 2, 3, 8, 31, 110, 111, 200]),
    dtypes=st.tuples(st.sampled_from(INTEGERS), st.sampled_from(INTEGERS)),
    ignore=st.one_of(st.none(), st.integers(0, 3)),
    interface=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_counts(shape: Any, classes: int, dtypes: Any, ignore: Any, interface: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, pred = (np.repeat(rng.integers(0, classes, shape), 3, axis=1).astype(dtype) for dtype in dtypes)
    on_device = [Interface(x) if interface else device(x) for x in (truth, pred)]
    found = kernels.confusion_matrix(*on_device, classes, ignore=ignore)
    assert np.array_equal(found, kernels.confusion_matrix(truth, pred, classes, ignore=ignore))
    assert np.array_equal(kernels.class_counts(on_device[0], classes), kernels.class_counts(truth, classes))


def test_labels_that_are_none_are_refused() -> None:
    labels = device(np.full((5, 6), 7, np.uint8))
    with pytest.raises(InputError, match="30 pixels"):
        kernels.class_counts(labels, 7)
    with pytest.raises(InputError, match="30 pixels"):
        kernels.confusion_matrix(labels, labels, 3)


@settings(settings.get_profile("gpu"))
@given(shape=st.tuples(st.integers(0, 40), st.integers(0, 3000)), skip=st.integers(0, 17), seed=st.integers(0, 2**16))
def test_downsampling(shape: Any, skip: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 4, (shape[0], shape[1] + skip), np.uint8)
    expected = kernels.downsample_labels(labels[:, skip:])
    out = torch.full(expected.shape, 9, dtype=torch.uint8, device="cuda")
    assert kernels.downsample_labels(device(labels)[:, skip:], out=out) is out
    assert np.array_equal(out.cpu().numpy(), expected)


@settings(settings.get_profile("gpu"))
@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 90)),
    dtype=st.sampled_from([np.float32, np.float64]),
    neighbourhood=st.sampled_from([8, 4]),
    order=st.integers(1, 10),
    max_angle=st.sampled_from([5.0, 20.0, float("inf")]),
    labelled=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_kam(
    shape: Any, dtype: Any, neighbourhood: int, order: int, max_angle: float, labelled: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    quaternions = (np.array([1, 0, 0, 0]) + 0.05 * rng.standard_normal((*shape, 4))).astype(dtype)
    quaternions[rng.random(shape) < 0.1] = np.nan
    grains = rng.integers(-1, 2, shape, np.int32) if labelled else None
    options: dict[str, Any] = {"order": order, "max_angle": max_angle, "neighbourhood": neighbourhood}
    expected = kernels.kam(quaternions, out=np.empty(shape, np.float32), grains=grains, **options)
    on_device = None if grains is None else device(grains)
    found = kernels.kam(device(quaternions), out=torch.empty(shape, device="cuda"), grains=on_device, **options)
    assert np.array_equal(found.cpu().numpy(), expected, equal_nan=True)


def test_a_stream_of_its_own_waits_for_what_made_the_arrays() -> None:
    """What torch has queued on its own stream is done before the kernel reads it on another."""
    stream = torch.cuda.Stream()
    source = torch.zeros((4096, 4096), dtype=torch.uint8, device="cuda")
    torch.cuda._sleep(50_000_000)  # type: ignore[no-untyped-call]
    source.add_(1)
    out = torch.empty((2048, 2048), dtype=torch.uint8, device="cuda")
    kernels.downsample_labels(source, out=out, stream=stream)
    stream.synchronize()
    assert bool((out == 1).all())
