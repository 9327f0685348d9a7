"""Scaling, label pyramids and the search for values that are not numbers, against the NumPy oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bainite_fast import _reference, kernels
from bainite_fast.errors import InputError


def make_image(shape: Any, dtype: Any, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    if dtype == np.float32:
        return rng.standard_normal(shape).astype(np.float32)
    return rng.integers(0, np.iinfo(dtype).max + 1, shape, dtype)


SIZES = st.integers(1, 40)


@given(
    shape=st.tuples(SIZES, SIZES),
    scaled=st.tuples(SIZES, SIZES),
    channels=st.sampled_from([None, 1, 3]),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    threads=st.integers(0, 2),
    seed=st.integers(0, 2**16),
)
def test_resample_is_box_averaging_down_and_bilinear_up(
    shape: Any, scaled: Any, channels: Any, dtype: Any, threads: int, seed: int
) -> None:
    image = make_image(shape if channels is None else (*shape, channels), dtype, seed)
    result = kernels.resample(image, scaled, threads=threads)
    expected = _reference.resample(image, scaled)
    assert result.shape == expected.shape
    assert result.dtype == np.float32
    assert np.abs(result - expected).max() <= 3e-6 * max(1.0, np.abs(image.astype(np.float64)).max())
    if scaled == shape:
        assert np.array_equal(result, image.astype(np.float32))


@given(shape=st.tuples(SIZES, SIZES), scaled=st.tuples(SIZES, SIZES), data=st.data())
def test_any_region_has_the_bits_of_the_whole(shape: Any, scaled: Any, data: Any) -> None:
    image = make_image((*shape, 2), np.float32, 7)
    whole = kernels.resample(image, scaled)
    y, x = (data.draw(st.integers(0, n - 1)) for n in scaled)
    height, width = data.draw(st.integers(1, scaled[0] - y)), data.draw(st.integers(1, scaled[1] - x))
    rows = kernels.resample_source_range(y, y + height, shape[0], scaled[0])
    cols = kernels.resample_source_range(x, x + width, shape[1], scaled[1])
    block = image[slice(*rows), slice(*cols)]
    block.flags.writeable = False
    place: dict[str, Any] = {"image_shape": shape, "scaled_shape": scaled, "out": (y, x, height, width)}
    region = kernels.resample_region(block, origin=(rows[0], cols[0]), **place)
    assert region.tobytes() == np.ascontiguousarray(whole[y : y + height, x : x + width]).tobytes()
    if len(block) > 1:
        with pytest.raises(InputError, match="resample_source_range"):
            kernels.resample_region(block[1:], origin=(rows[0] + 1, cols[0]), **place)


def test_resample_of_a_gigapixel_axis_is_placed_exactly() -> None:
    n, scaled = 3_000_000_001, 2_000_000_003
    first, last = kernels.resample_source_range(scaled - 2, scaled, n, scaled)
    assert (first, last) == ((scaled - 2) * n // scaled, n)
    assert (
        kernels.resample_source_range(scaled - 2, scaled, scaled, n)[1]
        == ((2 * scaled - 1) * scaled - n) // (2 * n) + 2
    )


@pytest.mark.parametrize(
    ("start", "n", "scaled"), [(2**40, 2**41, 2**42), (2**62, 2**61, 2**63 - 1), (2**40, 2**42, 2**41)]
)
def test_axes_whose_places_integers_do_not_hold_are_refused(start: int, n: int, scaled: int) -> None:
    with pytest.raises(InputError, match=f"axes of {n} samples scaled to {scaled} are too long"):
        kernels.resample_source_range(start, start + 1, n, scaled)
    with pytest.raises(InputError, match="too long"):
        kernels.resample_region(
            np.ones((4, 4), np.uint8), origin=(0, 0), image_shape=(n, 4), scaled_shape=(scaled, 4), out=(start, 0, 1, 4)
        )


def test_a_large_image_on_several_threads() -> None:
    image = make_image((1200, 1300), np.uint8, 8)
    for scaled in ((611, 701), (1500, 400)):
        assert np.array_equal(kernels.resample(image, scaled), kernels.resample(image, scaled, threads=1))


def test_resample_refuses() -> None:
    image = np.zeros((8, 9), np.uint8)
    for bad, scaled, message in [
        (image.astype(np.float64), (4, 4), "float64"),
        (image[0], (4, 4), r"\(H, W\)"),
        (image, (0, 4), "at least 1"),
        (image, (4, 4, 4), "pair"),
        (image, (2**40, 2**40), "more than any array holds; scale"),
        (image, (2**70, 1), "more than any array holds; scale"),
    ]:
        with pytest.raises(InputError, match=message):
            kernels.resample(bad, scaled)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="leave the scaled axis"):
        kernels.resample_region(image, origin=(0, 0), image_shape=(8, 9), scaled_shape=(4, 4), out=(0, 2, 4, 4))
    with pytest.raises(InputError, match=r"\(y, x, height, width\)"):
        kernels.resample_region(image, origin=(0, 0), image_shape=(8, 9), scaled_shape=(4, 4), out=(0, 2, 4))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="stop"):
        kernels.resample_source_range(3, 3, 10, 5)


@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 150)),
    values=st.integers(1, 4),
    view=st.sampled_from(["whole", "pitched", "transposed"]),
    threads=st.integers(0, 2),
    seed=st.integers(0, 2**16),
)
def test_downsampled_labels_are_the_first_of_the_most_frequent(
    shape: Any, values: int, view: str, threads: int, seed: int
) -> None:
    labels = np.random.default_rng(seed).integers(0, values, (shape[0] + 1, shape[1] + 2)).astype(np.uint8)
    labels = {"whole": labels, "pitched": labels[1:, 1:-1], "transposed": labels.T}[view]
    labels.flags.writeable = False
    assert np.array_equal(kernels.downsample_labels(labels, threads=threads), _reference.downsample_labels(labels))


def test_large_labels_on_several_threads() -> None:
    labels = np.random.default_rng(9).integers(0, 3, (1501, 1203)).astype(np.uint8)
    assert np.array_equal(kernels.downsample_labels(labels), kernels.downsample_labels(labels, threads=1))
    with pytest.raises(InputError, match="int64"):
        kernels.downsample_labels(labels.astype(np.int64))
    assert kernels.downsample_labels(np.zeros((0, 4), np.uint8)).shape == (0, 2)
    with pytest.raises(InputError, match=r"out must be uint8 .* got bool"):
        kernels.downsample_labels(labels, out=np.zeros((751, 602), bool))


@given(
    shape=st.one_of(
        st.tuples(st.integers(0, 12), st.integers(0, 40)),
        st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4)),
    ),
    bad=st.lists(st.tuples(st.integers(0, 500), st.sampled_from([np.nan, np.inf, -np.inf])), max_size=3),
    pitched=st.booleans(),
)
def test_nonfinite_finds_the_first(shape: Any, bad: Any, pitched: bool) -> None:
    region = np.ones(shape, np.float32)
    for place, value in bad:
        if region.size:
            region.flat[place % region.size] = value
    if pitched:
        region = region[:, 1:]
    assert kernels.nonfinite(region) == _reference.nonfinite(region)


def test_nonfinite_in_a_large_image() -> None:
    region = np.zeros((1000, 1100), np.float32)
    assert kernels.nonfinite(region) is None
    region[900, 5] = region[901, 4] = np.nan
    region[899, 1099] = np.inf
    assert kernels.nonfinite(region) == (899, 1099, 0)
    with pytest.raises(InputError, match="float64"):
        kernels.nonfinite(region.astype(np.float64))
