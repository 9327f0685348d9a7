"""Arguments with units, and how numbers are written for a reader."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from bainite_fast.cli import _console, _parsing


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GiB", 4 * 2**30), ("4GB", 4 * 10**9), ("4096MiB", 4 * 2**30), ("4294967296", 2**32), ("1.5 gib", 3 * 2**29)],
)
def test_a_size_with_its_unit(text: str, size: int) -> None:
    assert _parsing.parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "4 GiBs", "-4GiB", "four", "0", "1e9x", "4,5GiB"])
def test_a_size_that_is_none(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="4GiB"):
        _parsing.parse_bytes(text)


@pytest.mark.parametrize(("text", "shape"), [("3,4", (3, 4)), (" 10 x 20 ", (10, 20)), ("1×99", (1, 99))])
def test_a_shape(text: str, shape: tuple[int, int]) -> None:
    assert _parsing.parse_shape(text) == shape


@pytest.mark.parametrize("text", ["", "4", "4,", "0,4", "4,-1", "4,4,4", "4.5,3", "a,b"])
def test_a_shape_that_is_none(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="height,width"):
        _parsing.parse_shape(text)


def test_mean_and_deviation() -> None:
    assert _parsing.parse_normalize("0.45,0.2") == (0.45, 0.2)
    for text in ("", "0.45", "0.4,0", "0.4,-1", "nan,1", "0,inf", "1,2,3"):
        with pytest.raises(typer.BadParameter, match="MEAN,STD"):
            _parsing.parse_normalize(text)


def test_a_scale() -> None:
    assert [_parsing.parse_scale(text) for text in ("auto", "as-is", "0.1266")] == ["auto", "as-is", 0.1266]
    for text in ("", "none", "0", "-1", "inf", "nan"):
        with pytest.raises(typer.BadParameter, match="µm/px"):
            _parsing.parse_scale(text)


def test_an_annotation_bar() -> None:
    assert _parsing.parse_crop_bar("auto") == "auto"
    assert _parsing.parse_crop_bar("44") == 44
    for text in ("", "0", "-3", "x", "4.5"):
        with pytest.raises(typer.BadParameter, match="crop-bar"):
            _parsing.parse_crop_bar(text)


def test_a_plane() -> None:
    assert _parsing.parse_plane("3") == 3
    assert _parsing.parse_plane(" Z=3, t=0 ") == {"z": 3, "t": 0}
    for text in ("", "-1", "z", "z=", "z=-1", "z=1.5", "z=1,z=2", "z=1,", "1,2", "{'z': 1}"):
        with pytest.raises(typer.BadParameter, match="z=3,t=0"):
            _parsing.parse_plane(text)


def test_a_channel() -> None:
    named = [_parsing.parse_channel(text) for text in ("3", "DAPI", "rgb", "0, 2", "red,1")]
    assert named == [3, "DAPI", "rgb", [0, 2], ["red", 1]]
    for text in ("", "0,", ","):
        with pytest.raises(typer.BadParameter, match="is no channel"):
            _parsing.parse_channel(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (42.2, "42 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")],
)
def test_a_time_span(seconds: float, text: str) -> None:
    assert _console.duration(seconds) == text


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_meter_does_not_count_what_an_earlier_run_did() -> None:
    clock = Clock()
    meter = _console.Meter(clock)
    meter.update(900, 1000)
    assert meter.rate is None
    assert meter.seconds_left is None
    clock.now += 2
    meter.update(920, 1000)
    assert meter.rate == pytest.approx(10)
    assert meter.seconds_left == pytest.approx(8)
    assert meter.describe("Mpx", 1) == "920 of 1,000 Mpx, 10 Mpx/s, 8.0 s left"


def test_the_meter_forgets_a_slow_start() -> None:
    clock = Clock()
    meter = _console.Meter(clock)
    meter.update(0, 10_000)
    clock.now += 1000
    for second in range(60):
        clock.now += 1
        meter.update(second * 100, 10_000)
    assert meter.rate == pytest.approx(100)


def test_progress_off_a_terminal_is_plain_lines_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with _console.progress("segment") as step:
        step(0, 2_000_000)
        step(1_000_000, 2_000_000)
        step(2_000_000, 2_000_000)
        step(2_000_000, 2_000_000)  # the last step, and the end of the last epoch
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["segment: 100 %, 2 of 2 Mpx"]


def test_quiet_progress_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with _console.progress("segment", quiet=True) as step:
        step(2, 2)
    assert capsys.readouterr() == ("", "")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@given(st.dictionaries(st.text(), json_values))
def test_every_result_becomes_strict_json(result: dict[str, Any]) -> None:
    json.loads(json.dumps(_console.plain(result), allow_nan=False))


@pytest.mark.parametrize("kind", [np.int64, np.float32, np.bool_])
def test_numpy_scalars_become_numbers(kind: Callable[[int], Any]) -> None:
    assert _console.plain({"x": kind(1)}) == {"x": 1}
    assert _console.plain([math.nan, math.inf, 1.5]) == [None, None, 1.5]
