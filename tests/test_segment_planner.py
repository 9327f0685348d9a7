"""The planner: tiles on the grid, blocks that are shards, memory that fits."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st

import bainite_fast
from bainite_fast.errors import BudgetError, DeviceError, InputError
from bainite_fast.geometry import Region
from bainite_fast.segmentation import format_bytes, parse_memory
from bainite_fast.segmentation.planner import Budget, Demand, Fixed, make_plan
from bainite_fast.segmentation.request import check_request, scale_factor
from bainite_fast.segmentation.run_plan import Plan

GIB = 1 << 30


def _demand(shape=(10_000, 12_000), grid=None, stride=16, halo=96, edge="mirror"):
    return Demand(
        shape=shape,
        grid=grid or shape,
        pixel_bytes=1,
        image_channels=1,
        channels=1,
        stride=stride,
        halo=halo,
        edge=edge,
        confidence=False,
        device="cpu",
        precision="float32",
        layout="channels_last",
    )


def _budget(memory=8 * GIB, per_pixel=500, cores=2, held=GIB // 2):
    return Budget(memory, held, cores, lambda n, h, w: per_pixel * n * h * w)


@given(
    st.tuples(st.integers(1, 30_000), st.integers(1, 30_000)),
    st.integers(1, 33),
    st.integers(0, 8),
    st.integers(1, 3000),
    st.integers(1, 64),
)
def test_plans_fit_and_lie_on_the_grid(shape, stride, halos, per_pixel, cores):
    demand = _demand(shape, stride=stride, halo=stride * halos)
    plan = make_plan(demand, _budget(per_pixel=per_pixel, cores=cores))
    assert plan.tile % stride == plan.block % stride == plan.block % plan.chunk == 0
    assert plan.memory_planned <= plan.memory
    assert 1 <= plan.workers <= cores
    assert math.prod((plan.block, plan.batch, plan.tile)) > 0
    assert Plan.from_dict(plan.to_dict()) == plan


def test_cores_change_neither_tile_nor_block():
    plans = [make_plan(_demand(), _budget(cores=cores)) for cores in (1, 2, 7, 64)]
    assert len({str(plan.identity()) for plan in plans}) == 1
    assert [plan.workers for plan in plans][:2] == [1, 2]


def test_less_memory_gives_smaller_tiles_then_an_error_that_says_how_much():
    tiles = [make_plan(_demand(), _budget(memory=memory)).tile for memory in (16 * GIB, 4 * GIB, 2 * GIB)]
    assert tiles == sorted(tiles, reverse=True)
    assert tiles[0] > tiles[-1]
    with pytest.raises(BudgetError, match="too small") as caught:
        make_plan(_demand(), _budget(memory=GIB // 2))
    enough = re.search("memory='(.*)'", str(caught.value))[1]
    assert make_plan(_demand(), _budget(memory=parse_memory(enough))).workers == 1


def test_given_tile_is_kept_or_refused():
    assert make_plan(_demand(), _budget(), Fixed(tile=320)).tile == 320
    assert make_plan(_demand(), _budget(per_pixel=50), Fixed(tile=4096)).block >= 4096
    with pytest.raises(InputError, match="use 112"):
        make_plan(_demand(), _budget(), Fixed(tile=100))


@given(
    st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    st.floats(0.2, 3.0),
    st.sampled_from(["mirror", "native"]),
)
def test_every_block_reads_what_its_tiles_touch(shape, factor, edge):
    grid = tuple(max(1, round(n * factor)) for n in shape)
    plan = make_plan(_demand(shape, grid, edge=edge), _budget())
    last = list(plan.blocks())[-1]
    for by, bx in {(0, 0), last}:
        area, own, source = plan.area(by, bx), plan.region(by, bx), plan.source(by, bx)
        assert area.y % plan.stride == area.x % plan.stride == 0
        assert area.y1 <= grid[0] and area.x1 <= grid[1]
        assert source.y <= own.y and source.y1 >= own.y1 and source.x <= own.x and source.x1 >= own.x1
        assert Region(0, 0, *shape).y1 >= source.y1
        cores = plan.tiles(by, bx)
        assert max(t.core.y1 for t in cores) >= area.y1 and max(t.core.x1 for t in cores) >= area.x1


@pytest.mark.parametrize(
    ("text", "expected"), [("4GiB", 4 * GIB), ("800MB", 800_000_000), ("1.5 g", 3 * GIB // 2), (12345, 12345)]
)
def test_memory_is_parsed(text, expected):
    assert parse_memory(text) == expected


@pytest.mark.parametrize("text", ["", "four", "-1GiB", "0", "4 PiB", "1e9x"])
def test_bad_memory_is_refused(text):
    with pytest.raises(InputError, match="4GiB"):
        parse_memory(text)


def test_bytes_are_readable():
    assert [format_bytes(n) for n in (7, 2048, 3.5 * GIB, 2048 * GIB)] == ["7 B", "2 KiB", "3.5 GiB", "2 TiB"]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"precision": "fp4"}, InputError),
        ({"edge": "wrap"}, InputError),
        ({"scale": "x"}, InputError),
        ({"scale": -1.0}, InputError),
        ({"tile": 0}, InputError),
        ({"tile": 2.5}, InputError),
        ({"memory": "lots"}, InputError),
        ({"runtime": "onnx"}, InputError),
        ({"device": "tpu"}, InputError),
        ({"device": "cuda"}, DeviceError),
    ],
)
def test_bad_requests_are_refused(wrong, error):
    good = {
        "device": "auto",
        "precision": "auto",
        "runtime": "torchscript",
        "edge": "mirror",
        "scale": "auto",
        "tile": None,
        "memory": None,
        "confidence": False,
        "resume": True,
        "overwrite": False,
        "with_image": False,
    }
    assert check_request(**good).device == "cpu"
    assert type(check_request(**{**good, "tile": np.int64(64)}).tile) is int
    with pytest.raises(error):
        check_request(**{**good, **wrong})


def test_scales_within_two_percent_are_one():
    assert scale_factor("auto", 0.1266, 0.1270) == 1.0
    assert scale_factor("auto", 0.0277, 0.1266) == pytest.approx(0.0277 / 0.1266)
    assert scale_factor("as-is", 0.0277, 0.1266) == 1.0
    assert scale_factor("auto", None, 0.1266) == 1.0
    assert scale_factor(0.2532, None, 0.1266) == pytest.approx(2.0)


def test_strips_that_will_be_kept_are_planned_for(tmp_path, monkeypatch):
    monkeypatch.setattr("bainite_fast.segmentation.memory.held", lambda: 300 << 20)
    pixels = np.zeros((4000, 4000), np.uint8)
    tifffile.imwrite(tmp_path / "strips.tif", pixels, compression="zlib", rowsperstrip=16)
    tifffile.imwrite(tmp_path / "tiles.tif", pixels, compression="zlib", tile=(256, 256))
    net = torch.nn.Conv2d(1, 2, 1).eval()
    tiles, strips = (
        bainite_fast.plan(tmp_path / name, net, memory="2GiB", tile=512) for name in ("tiles.tif", "strips.tif")
    )
    assert strips.workers == tiles.workers
    assert strips.memory_planned - tiles.memory_planned >= pixels.nbytes
