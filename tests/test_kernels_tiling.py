"""Tiles out of images and back, against the NumPy oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bainite_fast import _reference, kernels
from bainite_fast.errors import InputError
from bainite_fast.geometry import PAD_MODES

ITEMS = ["u1", "i2", ">u2", "f4", "f8", "c16", "?", "S5", "M8[s]", "f2", "u1,f4"]


def make_image(shape: tuple[int, ...], dtype: str, seed: int) -> Any:
    kind = np.dtype(dtype)
    bits = np.random.default_rng(seed).integers(0, 2 if kind == np.bool_ else 256, (*shape, kind.itemsize), np.uint8)
    return np.ascontiguousarray(bits).view(kind)[..., 0]


def as_bytes(array: Any) -> bytes:
    return np.ascontiguousarray(array).tobytes()


@given(
    shape=st.one_of(
        st.tuples(st.integers(1, 23), st.integers(1, 23)),
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5)),
    ),
    dtype=st.sampled_from(ITEMS),
    tile=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    halo=st.integers(0, 30),
    pad=st.sampled_from(PAD_MODES),
    threads=st.integers(0, 3),
    seed=st.integers(0, 2**16),
)
def test_tiles_are_windows_of_the_padded_image(
    shape: tuple[int, ...], dtype: str, tile: tuple[int, int], halo: int, pad: Any, threads: int, seed: int
) -> None:
    image = make_image(shape, dtype, seed)
    tiles = kernels.tile_image(image, tile, halo=halo, pad=pad, threads=threads)
    plain = np.ascontiguousarray(image).view(f"V{image.dtype.itemsize}") if pad != "constant" else image
    if pad != "constant" or dtype in ("u1", "f4", "f8", "i2", "f2", "?"):
        expected = _reference.tile_image(plain, tile, halo=halo, pad=pad)
        assert tiles.shape == expected.shape
        assert as_bytes(tiles) == as_bytes(expected)
    assert tiles.dtype == image.dtype
    back = kernels.stitch_tiles(tiles, shape, tile, halo=halo, threads=threads)
    assert as_bytes(back) == as_bytes(image)
    items = tiles.view(f"V{image.dtype.itemsize}")  # joining arrays of values would change their byte order
    assert as_bytes(_reference.stitch_tiles(items, shape, tile, halo=halo)) == as_bytes(image)


VIEWS = {
    "pitched": lambda a: a[:, 3:-2],
    "rows reversed": lambda a: a[::-1],
    "every second row": lambda a: a[::2],
    "transposed": lambda a: a.T,
    "columns apart": lambda a: a[:, ::3],
    "one column": lambda a: a[:, 5:6],
    "one row": lambda a: a[4:5],
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
@pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
def test_any_strides_and_read_only_images(view: Any, dtype: str) -> None:
    image = view(make_image((31, 47), dtype, 1))
    image.flags.writeable = False
    tiles = kernels.tile_image(image, 8, halo=3)
    assert as_bytes(tiles) == as_bytes(_reference.tile_image(image, (8, 8), halo=3))
    tiles.flags.writeable = False
    assert as_bytes(kernels.stitch_tiles(tiles, image.shape, 8, halo=3)) == as_bytes(image)


def test_a_large_image_on_several_threads() -> None:
    image = make_image((1501, 2003), "u1", 2)
    tiles = kernels.tile_image(image, 256, halo=32, threads=0)
    assert np.array_equal(tiles, _reference.tile_image(image, (256, 256), halo=32))
    assert np.array_equal(kernels.stitch_tiles(tiles, image.shape, 256, halo=32), image)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((np.zeros((4, 4), object), 2), {}, "fixed size"),
        ((np.zeros(4), 2), {}, r"\(H, W\)"),
        ((np.zeros((0, 4)), 2), {}, "non-empty"),
        ((np.zeros((4, 4)), 0), {}, "at least 1"),
        ((np.zeros((4, 4)), -3), {}, "tile=-3"),
        ((np.zeros((4, 4)), 2.5), {}, "integer"),
        ((np.zeros((4, 4)), True), {}, "integer"),
        ((np.zeros((4, 4)), (2, 2, 2)), {}, "pair"),
        ((np.zeros((4, 4)), 2), {"halo": -1}, "halo=-1"),
        ((np.zeros((4, 4)), 2**62), {}, "more than any array holds; use a smaller tile or halo"),
        ((np.zeros((4, 4)), 2**70), {}, "smaller tile or halo"),
        ((np.zeros((4, 4)), 2), {"halo": 2**64}, "smaller tile or halo"),
        ((np.zeros((4, 4)), 2), {"pad": "wrap"}, "mirror"),
        ((np.zeros((4, 4)), 2), {"threads": -1}, "threads"),
    ],
)
def test_tile_image_refuses(arguments: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        kernels.tile_image(*arguments, **options)


def test_stitch_tiles_refuses_tiles_that_do_not_fit() -> None:
    tiles = kernels.tile_image(np.zeros((10, 10)), 4, halo=1)
    with pytest.raises(InputError, match=r"\(9, 4, 4\)"):
        kernels.stitch_tiles(tiles, (10, 10), 4)
    with pytest.raises(InputError, match="shape"):
        kernels.stitch_tiles(tiles, (10,), 4, halo=1)
    with pytest.raises(InputError, match="fixed size"):
        kernels.stitch_tiles(np.zeros((1, 4, 4), object), (4, 4), 4)
