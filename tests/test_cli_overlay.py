"""The picture of the demo: its colours, its scale bar, its letters."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bainite_fast.cli import _lettering, _overlay
from bainite_fast.errors import InputError

COLORS = [(0, 0, 0), (230, 159, 0)]


def example(shape: tuple[int, int] = (64, 96), um_per_px: float | None = 0.1266) -> _overlay.Field:
    random = np.random.default_rng(5)
    truth = np.zeros(shape, np.uint8)
    truth[:, : shape[1] // 2] = 1
    labels = np.zeros(shape, np.uint8)
    labels[: shape[0] // 2] = 1
    return _overlay.Field(random.integers(0, 4096, shape, dtype=np.uint16), labels, truth, um_per_px)


def test_right_foreground_is_tinted_too_much_is_red_missed_is_blue() -> None:
    field = example()
    gray, picture = _overlay.to_gray(field.image).astype(int), _overlay.tinted(field, COLORS).astype(int)
    change = picture - gray
    right, over = change[:32, :48].mean((0, 1)), change[:32, 48:].mean((0, 1))
    missed, matrix = change[32:, :48].mean((0, 1)), change[32:, 48:]
    assert right[0] > right[2]
    assert over[0] > max(over[1], over[2])
    assert missed[2] > max(missed[0], missed[1])
    assert not matrix.any()


def test_a_flat_image_is_no_division_by_zero() -> None:
    flat = np.full((8, 8), 7, np.uint8)
    assert np.isfinite(_overlay.to_gray(flat).astype(float)).all()


def test_rectangles_of_different_size_are_refused() -> None:
    with pytest.raises(InputError, match="same rectangle"):
        _overlay.Field(np.zeros((2, 2)), np.zeros((2, 3), np.uint8), np.zeros((2, 2), np.uint8), None)


@given(st.integers(8, 5000), st.floats(1e-4, 1e3) | st.none())
def test_the_scale_bar_is_as_long_as_it_says(width: int, um_per_px: float | None) -> None:
    length, text = _overlay.bar_length(width, um_per_px)
    number, unit = text.split()
    factor = {"nm": 1e-3, "µm": 1.0, "mm": 1e3, "px": 1.0}[unit]
    assert (unit == "px") == (um_per_px is None)
    assert abs(length - float(number) * factor / (um_per_px or 1.0)) <= max(0.51, length * 1e-4)
    assert length <= width / 4 + 1
    assert f"{float(number):e}"[0] in "125"


@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (300, 5), (200, 260)])
def test_a_page_holds_any_field(shape: tuple[int, int]) -> None:
    page = _overlay.compose(example(shape), COLORS, ["matrix", "lath bainite"], ["heading", "small print"])
    assert page.shape[0] > shape[0]
    assert page.shape[1] > 2 * shape[1]
    assert (page[0] == 255).all()


def test_a_png_is_whole(tmp_path: Path) -> None:
    page = _overlay.compose(example(), COLORS, ["matrix", "lath bainite"], ["heading"])
    _overlay.write_png(tmp_path / "page.png", page)
    assert [path.name for path in tmp_path.iterdir()] == ["page.png"]
    assert (imagecodecs.png_decode((tmp_path / "page.png").read_bytes()) == page).all()


def test_letters_are_drawn_where_they_belong() -> None:
    canvas = np.full((40, 200, 3), 255, np.uint8)
    end = _lettering.draw_text(canvas, 4, 10, "µm 27,9 % ☃", (0, 0, 0))
    assert end == 10 + _lettering.text_width("µm 27,9 % ?")
    inked = np.argwhere(canvas[..., 0] < 128)
    assert inked[:, 0].min() >= 4
    assert inked[:, 0].max() < 4 + _lettering.text_height()
    assert inked[:, 1].min() >= 10
    assert inked[:, 1].max() < end


def test_letters_are_cut_off_at_the_border() -> None:
    canvas = np.full((10, 12, 3), 255, np.uint8)
    _lettering.draw_text(canvas, 0, 0, "WWWW", (0, 0, 0))
    assert canvas.min() < 128


def test_every_character_has_its_own_glyph() -> None:
    assert len(_lettering._glyphs()) == len(_lettering.CHARACTERS)
