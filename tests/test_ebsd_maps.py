"""Maps as arrays, pictures and OME-Zarr: right values in right places, on square and on hexagonal grids."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from bainite_fast import io
from bainite_fast.ebsd import (
    KINDS,
    EBSDMap,
    Grid,
    MapOptions,
    Phase,
    available_kinds,
    boundaries,
    draw,
    grains,
    kam,
    map_layer,
    raster_layer,
    write_layers,
)
from bainite_fast.ebsd._quaternions import from_rotation_vector
from bainite_fast.ebsd._raster import raster_points
from bainite_fast.errors import InputError, OutputExistsError
from bainite_fast.synthetic import make_ebsd
from property_helpers import examples

GRIDS = {"square": Grid.square(40, 50, dx=0.3), "hexagonal": Grid.hexagonal(40, 50, dx=0.3)}


@pytest.fixture(scope="module", params=list(GRIDS))
def ebsd(request: pytest.FixtureRequest) -> EBSDMap:
    return make_ebsd(GRIDS[request.param], preset="sem", seed=3)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_one_entry_per_point(ebsd: EBSDMap, kind: str) -> None:
    layer = map_layer(ebsd, kind)
    assert layer.kind == kind
    assert layer.title
    assert layer.channels.shape[0] == ebsd.size
    if layer.values is not None:
        assert layer.values.dtype == np.float32
        assert layer.values.shape == (ebsd.size,)
    if layer.colors is not None:
        assert layer.colors.dtype == np.uint8
        assert layer.colors.shape == (ebsd.size, 3)


def test_values_are_those_of_the_kernels(ebsd: EBSDMap) -> None:
    found = grains(ebsd, 5.0, 2)
    options = MapOptions(order=2, min_points=2)
    np.testing.assert_array_equal(
        map_layer(ebsd, "kam", options=options).values, np.asarray(kam(ebsd, 2), np.float32).reshape(-1)
    )
    ids = found.ids.reshape(-1)
    for kind, per_grain in (("gos", found.gos), ("gam", found.gam())):
        values = map_layer(ebsd, kind, options=options, grains=found).values
        assert values is not None
        np.testing.assert_array_equal(np.isnan(values[ids < 0]), True)
        np.testing.assert_array_equal(values[ids >= 0], per_grain.astype(np.float32)[ids[ids >= 0]])
    colors = map_layer(ebsd, "grains", grains=found).colors
    assert colors is not None
    lines = boundaries(ebsd)
    across = (ids[lines.i] != ids[lines.j]) & (ids[lines.i] >= 0) & (ids[lines.j] >= 0)
    assert (colors[lines.i[across]] != colors[lines.j[across]]).any(axis=1).all()
    rank = map_layer(ebsd, "boundaries").values
    assert rank is not None
    assert (rank[lines.i[lines.is_high]] >= 2).all()
    assert (rank[np.setdiff1d(np.flatnonzero(ebsd.indexed), np.concatenate([lines.i, lines.j]))] == 0).all()


@examples(30)
@given(
    rows=st.integers(1, 12),
    columns=st.integers(2, 12),
    hexagonal=st.booleans(),
    fine=st.sampled_from([1.0, 0.5, 0.23, 0.1]),
)
def test_each_pixel_shows_the_point_whose_cell_it_is_in(rows: int, columns: int, hexagonal: bool, fine: float) -> None:
    grid = Grid.hexagonal(rows, columns, dx=1.0) if hexagonal else Grid.square(rows, columns, dx=1.0)
    points = raster_points(grid, fine)
    x, y = grid.coordinates()
    top = 0.5 if not hexagonal else grid.dy * 2 / 3
    px = -0.5 + (np.arange(points.shape[1]) + 0.5) * fine
    py = -top + (np.arange(points.shape[0]) + 0.5) * fine
    distance = np.hypot(px[None, :, None] - x, py[:, None, None] - y)
    shown = points >= 0
    chosen = np.take_along_axis(distance, np.maximum(points, 0)[..., None], 2)[..., 0]
    np.testing.assert_allclose(chosen[shown], distance.min(axis=2)[shown], atol=1e-9)
    if fine < 0.5:
        # Every point is there with the area of its cell.
        area = np.bincount(points[shown], minlength=grid.size) * fine**2
        np.testing.assert_allclose(area, grid.point_area, atol=4.5 * fine)
        assert area.mean() == pytest.approx(grid.point_area, rel=2.5 * fine)


def test_a_square_map_is_written_point_for_pixel(tmp_path: Path) -> None:
    ebsd = make_ebsd(GRIDS["square"], preset="sem", seed=3)[0]
    paths = write_layers(ebsd, ["kam", "ipf-z", "iq"], tmp_path)
    with io.open_mosaic(paths["kam"]) as image:
        assert image.um_per_px == pytest.approx(0.3)
        np.testing.assert_array_equal(image.read(0, 40, 0, 50), np.asarray(kam(ebsd), np.float32))
    with io.open_mosaic(paths["ipf-z"]) as image:
        assert image.rgb
        colors = map_layer(ebsd, "ipf-z").colors
        assert colors is not None
        np.testing.assert_array_equal(image.read(0, 40, 0, 50), colors.reshape(40, 50, 3))
    with pytest.raises(OutputExistsError, match="kam"):
        write_layers(ebsd, ["kam"], tmp_path)
    write_layers(ebsd, ["kam"], tmp_path, overwrite=True)


def test_a_hexagonal_map_keeps_all_its_points_in_an_image(tmp_path: Path) -> None:
    ebsd = make_ebsd(GRIDS["hexagonal"], preset="sem", seed=3)[0]
    layer = map_layer(ebsd, "iq")
    image, step = raster_layer(layer, ebsd.grid)
    assert step == pytest.approx(0.15)
    assert layer.values is not None
    assert set(image[np.isfinite(image)].tolist()) == set(layer.values.tolist())
    paths = write_layers(ebsd, ["iq"], tmp_path, step=0.05)
    with io.open_mosaic(paths["iq"]) as written:
        assert written.um_per_px == pytest.approx(0.05)
        assert written.shape[1] >= 50 * 6


@pytest.mark.parametrize("kind", ["kam", "boundaries", "grains", "ipf-x"])
def test_a_picture_shows_the_map_its_key_and_a_scale_bar(ebsd: EBSDMap, kind: str, tmp_path: Path) -> None:
    path = draw(ebsd, kind, tmp_path / f"{kind}.png", outlines=kind == "kam")
    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert min(picture.shape[:2]) > 400
    # Colours of the map itself are in the picture, in about the share that they have in the map.
    layer = map_layer(ebsd, kind)
    if layer.colors is not None and kind != "boundaries":
        colors, number = np.unique(layer.colors, axis=0, return_counts=True)
        most = colors[np.argmax(number)]
        there = (picture == most).all(axis=2).sum()
        of_map = (picture != 255).any(axis=2).sum()
        assert there / of_map == pytest.approx(number.max() / ebsd.size, abs=0.12)
    # The scale bar: a run of black pixels, at least a twentieth of the width.
    black = (picture < 10).all(axis=2)
    runs = [max(map(len, "".join("x" if p else " " for p in row).split()), default=0) for row in black]
    assert max(runs) > picture.shape[1] / 20
    with pytest.raises(OutputExistsError):
        draw(ebsd, kind, path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def _map_in(path: Path) -> tuple[tuple[int, ...], tuple[slice, ...]]:
    """Return the size of a picture, and where the map is in it: the largest thing that is not white."""
    picture = np.asarray(Image.open(path).convert("RGB"))
    labels, _ = ndimage.label((picture < 250).any(axis=2), np.ones((3, 3)))
    boxes = ndimage.find_objects(labels)
    return picture.shape, max(boxes, key=lambda box: (box[0].stop - box[0].start) * (box[1].stop - box[1].start))


@pytest.mark.parametrize("grid", [Grid.square(20, 25, dx=0.3), Grid.hexagonal(30, 20, dx=0.3)])
def test_every_picture_of_a_scan_has_the_map_in_the_same_place(grid: Grid, tmp_path: Path) -> None:
    ebsd = make_ebsd(grid, preset="sem", seed=3)[0]
    assert ebsd.iq is not None
    ebsd = ebsd.replace(iq=ebsd.iq * 1000)  # wide numbers beside the colour bar
    kinds = ("kam", "boundaries", "grains", "ipf-z", "iq")
    found = {kind: _map_in(draw(ebsd, kind, tmp_path / f"{kind}.png", outlines=kind == "iq")) for kind in kinds}
    size, (rows, columns) = found["kam"]
    assert {kind: place for kind, place in found.items() if place != found["kam"]} == {}
    # Little is left white around it, but for the colour bar at its right.
    assert rows.start < 110
    assert columns.start < 40
    assert rows.stop > size[0] - 110
    assert columns.stop > size[1] - 260
    assert (columns.stop - columns.start) / (rows.stop - rows.start) == pytest.approx(
        raster_points(grid, 0.01).shape[1] / raster_points(grid, 0.01).shape[0], rel=0.01
    )


def test_many_phases_and_long_titles_leave_the_map_in_its_place(tmp_path: Path) -> None:
    ebsd = make_ebsd(GRIDS["square"], preset="sem", seed=3)[0]
    phases = tuple(Phase(number, f"a phase with the rather long name ${number}") for number in range(9))
    many = ebsd.replace(phases=phases, phase_id=(np.arange(ebsd.size) % 9).astype(np.int16))
    few = many.replace(phase_id=(np.arange(ebsd.size) % 3).astype(np.int16))
    plain, place = _map_in(draw(ebsd, "kam", tmp_path / "kam.png"))
    high, legend_below = _map_in(draw(many, "phase", tmp_path / "phase.png"))
    assert legend_below == place
    assert high[1] == plain[1]
    assert plain[0] < high[0] < plain[0] + 400
    picture = np.asarray(Image.open(tmp_path / "phase.png").convert("RGB"))
    assert (picture[:, [0, -1]] == 255).all()  # the legend is not cut at the edge
    assert (picture[[0, -1]] == 255).all()
    assert _map_in(draw(few, "ipf-x", tmp_path / "ipf.png")) == (plain, place)


def test_a_flat_map_has_its_scale_bar_beside_it(tmp_path: Path) -> None:
    for name, grid in (("flat", Grid.square(4, 200, dx=1)), ("narrow", Grid.square(200, 4, dx=1))):
        plain = EBSDMap(grid=grid, phases=(Phase(0, "Ferrite"),), quaternions=np.tile([1.0, 0, 0, 0], (grid.size, 1)))
        path = draw(plain, "phase", tmp_path / f"{name}.png")
        _, (rows, columns) = _map_in(path)
        picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
        inside = picture[rows, columns][5:-5, 5:-5]
        assert len(np.unique(inside.reshape(-1, 3), axis=0)) == 1  # nothing is drawn over it
        black = (picture < 10).all(axis=2)
        assert black.sum() > 100
        assert (picture[:, [0, -1]] == 255).all()


@pytest.mark.parametrize(
    "grid", [Grid.square(30, 30, dx=0.3), Grid.hexagonal(30, 30, dx=0.3), Grid.square(8, 400, dx=1)]
)
def test_lines_of_boundaries_have_the_colour_of_their_legend(grid: Grid, tmp_path: Path) -> None:
    x, y = grid.coordinates()
    middle = grid.extent[0] / 2
    turn = np.radians(np.select([x < 0.7 * middle, x < 1.3 * middle], [0.0, 5.0], 40.0))[:, None] * [0, 0, 1.0]
    phase_id = np.where(y < grid.extent[1] * 0.6, 0, 1).astype(np.int16)
    phase_id[0] = -1
    phases = (Phase(0, "Ferrite"), Phase(1, "Austenite"))
    ebsd = EBSDMap(grid=grid, phases=phases, quaternions=from_rotation_vector(turn), phase_id=phase_id)
    layer = map_layer(ebsd, "boundaries")
    assert list(layer.legend) == ["low angle 2–15°", "high angle > 15°", "between phases", "not indexed"]
    picture = np.asarray(Image.open(draw(ebsd, "boundaries", tmp_path / "a.png")).convert("RGB")).astype(int)
    inside = picture[: picture.shape[0] - 90]  # without the legend
    for name in ("low angle 2–15°", "between phases"):
        color = np.array(layer.legend[name])
        assert (inside == color).all(axis=2).sum() > 20
        # Whatever of this hue is paler than the legend is the smoothed edge of a line.
        away = 255 - color
        share = ((255 - inside) @ away) / (away @ away)
        of_hue = (np.abs((255 - inside) - share[..., None] * away).max(axis=2) < 6) & (share > 0.1)
        assert share[of_hue].mean() > 0.72


def test_points_without_a_value_have_a_colour_that_no_value_has(tmp_path: Path) -> None:
    whole = make_ebsd(GRIDS["square"], preset="sem", seed=3)[0]
    assert whole.band_contrast is not None
    contrast = np.where(whole.grid.row_and_column()[0] < 20, np.nan, whole.band_contrast)
    half = whole.replace(band_contrast=contrast)
    picture = np.asarray(Image.open(draw(half, "band_contrast", tmp_path / "a.png")).convert("RGB")).astype(int)
    colored = np.ptp(picture, axis=2) > 30
    assert 0.25 < colored.mean() < 0.5
    assert len(np.unique(picture[colored & (picture == [150, 190, 230]).all(axis=2)], axis=0)) == 1
    for kind in ("grains", "ipf-z"):
        assert list(map_layer(half, kind, options=MapOptions(min_points=3)).legend.values()) == [(205, 205, 205)]


def test_limits_change_the_picture_and_outlines_do(tmp_path: Path) -> None:
    ebsd = make_ebsd(GRIDS["hexagonal"], preset="sem", seed=3)[0]
    plain = draw(ebsd, "kam", tmp_path / "a.png").read_bytes()
    assert draw(ebsd, "kam", tmp_path / "b.png", limits=(0, 1)).read_bytes() != plain
    assert draw(ebsd, "kam", tmp_path / "c.png", outlines=True).read_bytes() != plain
    assert draw(ebsd, "kam", tmp_path / "b.png", overwrite=True).read_bytes() == plain


def test_an_inverse_pole_figure_says_of_which_direction_and_phases() -> None:
    ebsd = make_ebsd(GRIDS["square"], preset="sem", seed=3)[0]
    phases = (Phase(0, "Ferrite"), Phase(1, "Austenite"), Phase(2, "Titanium", "6/mmm"))
    for present, names in ((1, "Ferrite"), (2, "Ferrite, Austenite"), (3, "Ferrite, Austenite")):
        ids = (np.arange(ebsd.size) % present).astype(np.int16)
        layer = map_layer(ebsd.replace(phases=phases, phase_id=ids), "ipf-y")
        assert layer.title == f"Inverse pole figure, sample direction Y, {names} (m-3m)"
        assert list(layer.legend) == (["Titanium"] if present == 3 else [])


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    grid = Grid.square(6, 7, dx=1.0)
    turn = from_rotation_vector(np.radians(np.arange(42.0))[:, None] * [0, 0, 1.0])
    ebsd = EBSDMap(grid=grid, phases=(Phase(0, "Titanium", "6/mmm"),), quaternions=turn)
    with pytest.raises(InputError, match="no map is called 'kamm'"):
        map_layer(ebsd, "kamm")
    with pytest.raises(InputError, match="cubic"):
        draw(ebsd, "ipf-z", tmp_path / "a.png")
    with pytest.raises(InputError, match="has no iq"):
        draw(ebsd, "iq", tmp_path / "a.png")
    with pytest.raises(InputError, match="PNG"):
        draw(ebsd, "kam", tmp_path / "a.jpg")
    with pytest.raises(InputError, match="limits"):
        draw(ebsd, "kam", tmp_path / "a.png", limits=(1, 1))
    with pytest.raises(InputError, match="has no colour scale"):
        draw(ebsd, "phase", tmp_path / "a.png", limits=(0, 1))
    with pytest.raises(InputError, match="no map is called"):
        write_layers(ebsd, ["kam", "x"], tmp_path / "out")
    with pytest.raises(InputError, match="step="):
        write_layers(ebsd, ["kam"], tmp_path / "out", step=-1)
    with pytest.raises(InputError, match="grains are of a map"):
        map_layer(ebsd, "gos", grains=grains(make_ebsd(Grid.square(5, 5, dx=0.3))[0]))
    with pytest.raises(InputError, match="what ebsd.grains"):
        map_layer(ebsd, "gos", grains=grains(ebsd).ids)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="EBSDMap; got ndarray"):
        map_layer(ebsd.quaternions, "kam")  # type: ignore[arg-type]
    assert "iq" not in available_kinds(ebsd)
    assert not any(kind.startswith("ipf") for kind in available_kinds(ebsd))
    assert list(tmp_path.iterdir()) == []


def test_a_map_without_an_indexed_point_is_drawn_gray(tmp_path: Path) -> None:
    whole = make_ebsd(GRIDS["square"], preset="sem", seed=3)[0]
    blind = whole.replace(phase_id=np.full(whole.size, -1, np.int16))
    for kind in ("gos", "grains", "boundaries", "ci"):
        assert map_layer(blind, kind).channels.shape[0] == blind.size
    for kind in ("kam", "phase"):
        assert draw(blind, kind, tmp_path / f"{kind}.png").stat().st_size > 1000


def test_real_maps_are_drawn(tmp_path: Path) -> None:
    folder = os.environ.get("BAINITE_FAST_DATA")
    if not folder:
        pytest.skip("BAINITE_FAST_DATA is not set: no real EBSD maps at hand")
    from bainite_fast.ebsd import read

    for name in ("copper_hex.ang", "sdss_ferrite_austenite.ang"):
        real = read(Path(folder) / "ebsd" / name)
        for kind in ("kam", "ipf-z", "boundaries"):
            assert draw(real, kind, tmp_path / f"{name}-{kind}.png").stat().st_size > 10_000
    reference = np.load(Path(folder) / "ebsd/reference/SDSS_sqr__KAM_cheb_o3_full_thr5.npy")
    values = map_layer(real, "kam").values
    assert values is not None
    np.testing.assert_allclose(values, reference.reshape(-1), atol=1e-5)


@pytest.mark.parametrize(("count", "least"), [(6, 20.0), (20, 14.0), (40, 3.0)])
def test_phases_have_colours_that_the_eye_tells_apart(count: int, least: float) -> None:
    from skimage.color import deltaE_ciede2000, rgb2lab

    grid = Grid.square(count + 1, 4, dx=1.0)
    row, _ = grid.row_and_column()
    phases = tuple(Phase(number, f"phase {number}") for number in range(count))
    ids = np.where(row == count, -1, row).astype(np.int16)
    ebsd = EBSDMap(grid=grid, phases=phases, quaternions=np.tile([1.0, 0, 0, 0], (grid.size, 1)), phase_id=ids)
    layer = map_layer(ebsd, "phase")
    assert layer.colors is not None
    shown = layer.colors.reshape(count + 1, 4, 3)[:, 0]
    assert list(layer.legend.values()) == [tuple(color) for color in shown.tolist()]
    lab = rgb2lab(shown[None].astype(float) / 255)[0]
    apart = deltaE_ciede2000(lab[:, None], lab[None])
    assert apart[~np.eye(count + 1, dtype=bool)].min() >= least
