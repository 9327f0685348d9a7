"""Integer geometry against numpy and against plain enumeration."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bainite_fast.errors import InputError
from bainite_fast.geometry import (
    PAD_MODES,
    Region,
    block_region,
    blocks_of,
    mirror_index,
    nearest_index,
    round_up,
    source_range,
    tiles_of,
)

NUMPY_MODE = {"mirror": "reflect", "symmetric": "symmetric", "edge": "edge"}


@given(st.integers(1, 12), st.integers(0, 40), st.integers(0, 40), st.sampled_from(sorted(NUMPY_MODE)))
def test_mirror_index_is_numpy_pad(size, before, after, mode):
    expected = np.pad(np.arange(size), (before, after), mode=NUMPY_MODE[mode])
    assert [mirror_index(i, size, mode) for i in range(-before, size + after)] == expected.tolist()


@given(st.integers(1, 15), st.integers(-60, 60), st.integers(1, 70), st.sampled_from(PAD_MODES))
def test_source_range_is_tight(size, start, length, mode):
    touched = [mirror_index(i, size, mode) for i in range(start, start + length)]
    inside = [i for i in touched if i >= 0]
    expected = (min(inside), max(inside) + 1) if inside else (0, 0)
    assert source_range(start, start + length, size, mode) == expected


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 4), st.integers(1, 6), st.integers(0, 3))
def test_cores_cover_once_on_the_grid(height, width, stride, multiple, halos):
    tile, halo = stride * multiple, stride * halos
    area = Region(2 * stride, 3 * stride, height, width)
    seen = np.zeros((area.y1 + stride, area.x1 + stride), int)
    for item in tiles_of(area, tile, stride, halo):
        core = item.core
        assert core.y % stride == core.x % stride == core.height % stride == core.width % stride == 0
        assert (item.input.y, item.input.x1) == (core.y - halo, core.x1 + halo)
        seen[core.y : core.y1, core.x : core.x1] += 1
    inside = seen[area.y : area.y + round_up(height, stride), area.x : area.x + round_up(width, stride)]
    assert (inside == 1).all()
    assert seen.sum() == inside.size


def test_native_clips_the_halo():
    (tile,) = tiles_of(Region(0, 0, 30, 20), 64, 16, 32, native=(32, 32))
    assert tile.input == Region(0, 0, 32, 32)


def test_off_grid_is_refused_with_the_cure():
    with pytest.raises(InputError, match="use 112"):
        tiles_of(Region(0, 0, 10, 10), 100, 16, 0)
    with pytest.raises(InputError, match="stride grid"):
        tiles_of(Region(3, 0, 10, 10), 16, 16, 0)


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 20))
def test_blocks_cover_once(height, width, block):
    seen = np.zeros((height, width), int)
    for by, bx in blocks_of((height, width), block):
        region = block_region((height, width), block, by, bx)
        seen[region.y : region.y1, region.x : region.x1] += 1
    assert (seen == 1).all()
    with pytest.raises(InputError, match="outside"):
        block_region((height, width), block, 99, 0)


@given(st.integers(1, 200), st.integers(1, 200))
def test_nearest_index_holds_the_centre(size, scaled):
    for i in range(size):
        j = nearest_index(i, size, scaled)
        assert 0 <= j < scaled
        assert j <= (i + 0.5) * scaled / size <= j + 1
