"""Arrays on a device: what is checked before a device is needed, and what is said where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bainite_fast import kernels
from bainite_fast.errors import DeviceError, InputError
from bainite_fast.kernels._checks import core
from bainite_fast.kernels.orientations import kam_values
from device_arrays import ROCM, DeviceArray, InterfaceArray, on_device

LABELS = np.zeros((6, 7), np.uint8)
NO_DEVICE = kernels.cuda_device_count() == 0
needs_none = pytest.mark.skipif(not NO_DEVICE, reason="a device is there, and these arrays are not on it")


def gather(region: Any, out: Any, **change: Any) -> None:
    kernels.gather(region, out, **({"origin": (0, 0), "image_shape": (6, 7), "tiles": [(0, 0)]} | change))


def scatter(logits: Any, labels: Any, **change: Any) -> None:
    kernels.scatter(logits, labels, **({"crops": [(0, 0, 4, 5, 0, 0)]} | change))


BATCH = np.zeros((1, 1, 4, 4), np.float32)
LOGITS = np.zeros((1, 2, 4, 5), np.float32)
GRID = (False, 6, 7, 7)
QUATERNIONS = np.ones((42, 4), np.float32)


def kam(quaternions: Any, out: Any, labels: Any = None, **more: Any) -> None:
    kam_values(quaternions, labels, out, grid=GRID, laue="m-3m", neighbourhood=1, order=2, **more)


CALLS = {
    "kam": lambda wrap, **more: kam(wrap(QUATERNIONS), wrap(np.empty(42, np.float32)), **more),
    "gather": lambda wrap, **more: gather(wrap(LABELS), wrap(BATCH), **more),
    "scatter": lambda wrap, **more: scatter(wrap(LOGITS), wrap(LABELS), confidence=wrap(LABELS.copy()), **more),
    "confusion": lambda wrap, **more: kernels.confusion_matrix(wrap(LABELS), wrap(LABELS), 2, **more),
    "class_counts": lambda wrap, **more: kernels.class_counts(wrap(LABELS), 2, **more),
    "downsample": lambda wrap, **more: kernels.downsample_labels(wrap(LABELS), out=wrap(LABELS[:3, :4]), **more),
}


@needs_none
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("wrap", [on_device, InterfaceArray])
def test_without_a_device_the_error_says_so(call: Any, wrap: Any) -> None:
    what = "can use no CUDA device" if kernels.cuda_built() else "has no CUDA kernels; build it with BAINITE_CUDA=ON"
    with pytest.raises(DeviceError, match=what):
        call(wrap)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_stream_is_for_device_arrays(call: Any) -> None:
    with pytest.raises(InputError, match="in host memory; leave it out"):
        call(np.asarray, stream=3)
    for stream in ("0", -1, True, 1.5):
        with pytest.raises(InputError, match="is no CUDA stream"):
            call(on_device, stream=stream)


@needs_none
def test_the_producer_is_told_of_the_stream() -> None:
    class Torch:
        cuda_stream = 4321

    class Protocol:
        def __cuda_stream__(self) -> tuple[int, int]:
            return 0, 77

    for stream, told in [(None, 1), (0, 1), (5, 5), (Torch(), 4321), (Protocol(), 77)]:
        labels = on_device(LABELS)
        with pytest.raises(DeviceError):
            kernels.class_counts(labels, 2, stream=stream)
        assert labels.streams == [told]


def read_only(array: Any) -> Any:
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("wrap", [on_device, InterfaceArray])
def test_device_arrays_are_checked_as_those_of_the_host(wrap: Any) -> None:
    device = {name: wrap(array) for name, array in [("image", LABELS), ("batch", BATCH), ("logits", LOGITS)]}
    image, batch, logits = device["image"], device["batch"], device["logits"]
    cases: list[tuple[str, Any]] = [
        ("uint8, uint16 or float32", lambda: gather(wrap(LABELS.astype(np.int32)), batch)),
        ("float32, bfloat16 or float16", lambda: gather(image, wrap(BATCH.astype(np.float64)))),
        ("read-only", lambda: gather(image, wrap(read_only(BATCH)))),
        ("contiguous rows", lambda: gather(wrap(LABELS[:, ::2]), batch, image_shape=(6, 4))),
        ("contiguous in its columns", lambda: gather(image, wrap(np.zeros((1, 1, 4, 8), np.float32)[..., ::2]))),
        ("outside of the region", lambda: gather(image, batch, image_shape=(9, 9), tiles=[(4, 4)])),
        ("as many tiles", lambda: gather(image, batch, tiles=[(0, 0), (1, 1)])),
        ("uint8", lambda: scatter(logits, wrap(LABELS.astype(np.int64)))),
        ("leaves the tile", lambda: scatter(logits, image, crops=[(0, 1, 4, 5, 0, 0)])),
        ("labels' shape", lambda: scatter(logits, image, confidence=wrap(LABELS[1:]))),
        (r"int64 \[1\]", lambda: scatter(logits, image, bad=wrap(np.zeros(2, np.int64)))),
        ("read-only", lambda: scatter(logits, wrap(read_only(LABELS)))),
        ("uint8, uint16, int32 or int64", lambda: kernels.class_counts(wrap(LABELS.astype(np.float32)), 2)),
        ("truth's shape", lambda: kernels.confusion_matrix(image, wrap(LABELS[1:]), 2)),
        ("n_classes", lambda: kernels.class_counts(image, 0)),
        ("half of the labels", lambda: kernels.downsample_labels(image, out=wrap(LABELS))),
        ("need out=", lambda: kernels.downsample_labels(image)),
    ]
    for message, call in cases:
        with pytest.raises(InputError, match=message):
            call()


def test_layers_on_a_device_are_checked() -> None:
    def gray(image: Any, out: Any, weights: Any = None, bias: Any = None) -> None:
        weights = np.zeros((9, 8), np.float32) if weights is None else weights
        bias = np.zeros(8, np.float32) if bias is None else bias
        a, b, c, d = (on_device(x) for x in (image, out, weights, bias))
        core.convolve_gray(a, b, weights=c, bias=d, relu=True, stream=0)

    image, out = np.zeros((1, 4, 6), np.float32), np.zeros((1, 4, 6, 8), np.float32)
    quads = np.zeros((1, 2, 3, 2, 2, 8), np.float32)
    cases: list[tuple[str, Any]] = [
        ("16, 32 … 4096 bytes", lambda: gray(image, np.zeros((1, 4, 6, 6), np.float32))),
        ("output's dtype and size", lambda: gray(image[:, 1:], out)),
        ("output's dtype and size", lambda: gray(image.astype(np.float16), out)),
        (r"\[9, 8\]", lambda: gray(image, out, np.zeros((9, 4), np.float32))),
        (r"\[8\]", lambda: gray(image, out, bias=np.zeros(4, np.float32))),
        ("of 16 channels", lambda: core.join_channels([on_device(out), on_device(quads)], on_device(out), stream=0)),
        ("larger by the same even", lambda: core.join_channels([on_device(quads[:, :1])], on_device(out), stream=0)),
        ("half its rows", lambda: core.max_pool2x2(on_device(out), on_device(out), stream=0)),
        ("device memory|CUDA device", lambda: core.max_pool2x2(out, on_device(out), stream=0)),
    ]  # fmt: skip
    for message, call in cases:
        with pytest.raises(ValueError, match=message):
            call()


def test_arrays_of_one_call_lie_together() -> None:
    for message, call in [
        ("out must be in the memory of a CUDA device", lambda: gather(on_device(LABELS), BATCH)),
        ("region must be in the memory of a CUDA device", lambda: gather(LABELS, on_device(BATCH))),
        ("labels is on cuda:1 and logits on cuda:0", lambda: scatter(on_device(LOGITS), DeviceArray(LABELS, device=1))),
        ("pred is on cuda:0 and truth on cuda:2",
         lambda: kernels.confusion_matrix(DeviceArray(LABELS, device=2), on_device(LABELS), 2)),
        ("CUDA device", lambda: kernels.class_counts(DeviceArray(LABELS, kind=ROCM), 2)),
        ("bad is for arrays in device memory", lambda: scatter(LOGITS, LABELS.copy(), bad=np.zeros(1, np.int64))),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=message):
            call()


def test_an_interface_is_read_with_care() -> None:
    for changes, message in [
        ({"typestr": ">u2"}, ">u2"),
        ({"typestr": "<c8"}, "<c8"),
        ({"mask": object()}, "mask"),
        ({"typestr": "<u2", "strides": (7, 1)}, "whole items"),
    ]:
        with pytest.raises(InputError, match=message):
            kernels.class_counts(InterfaceArray(LABELS, **changes), 2)
    with pytest.raises(TypeError, match="pred must be an array in device memory"):
        kernels.confusion_matrix(on_device(LABELS), [[1]], 2)


@pytest.mark.parametrize("wrap", [on_device, InterfaceArray])
def test_items_between_their_addresses_are_refused(wrap: Any) -> None:
    """A GPU stops at such an access, and with it all that the process had there."""
    batch = np.frombuffer(bytearray(BATCH.nbytes + 2), np.float32, BATCH.size, 2).reshape(BATCH.shape)
    with pytest.raises(InputError, match="out must be at an address that is a multiple of its item's 4 bytes"):
        gather(wrap(LABELS), wrap(batch))
    odd = np.frombuffer(bytearray(43), np.uint8, 42, 1).reshape(6, 7)  # bytes lie anywhere
    with pytest.raises(InputError, match="n_classes"):
        kernels.class_counts(wrap(odd), 0)


def test_pinned_memory_is_host_memory() -> None:
    pinned = DeviceArray(np.ones((1, 2, 4, 5), np.float32), kind=3)
    labels = np.full((4, 5), 9, np.uint8)
    assert kernels.scatter(pinned, labels, crops=[(0, 0, 4, 5, 0, 0)]) == 0
    assert not labels.any()
