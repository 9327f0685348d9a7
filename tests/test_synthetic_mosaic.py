"""Synthetic mosaics: the same pixels however they are read, and the statistics that the presets promise."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bainite_fast.errors import InputError
from bainite_fast.synthetic import PRESETS, SpeckleMosaic, SyntheticMosaic, get_preset, make
from bainite_fast.synthetic._fields import Window
from bainite_fast.synthetic._laths import make_laths
from bainite_fast.synthetic._render import TILE, Renderer, _draw_grains, _etch
from property_helpers import examples

HUGE = 316_228  # px: a hundred gigapixels, and more than 2**31 pixels from the first row on


def auc(image: np.ndarray, mask: np.ndarray) -> float:
    """Probability that a bainite pixel is brighter than another, ties counted half (Mann-Whitney)."""
    bainite = np.bincount(image[mask == 1], minlength=256) / np.count_nonzero(mask == 1)
    other = np.bincount(image[mask == 0], minlength=256) / np.count_nonzero(mask == 0)
    return float(np.sum(bainite * (np.cumsum(other) - 0.5 * other)))


@pytest.fixture(scope="module", params=["lom", "sem"])
def large(request: pytest.FixtureRequest) -> tuple[str, np.ndarray, np.ndarray]:
    edge = {"lom": 2048, "sem": 2560}[request.param]
    return request.param, *make((edge, edge), preset=request.param, seed=5)


@examples(12)
@given(
    preset=st.sampled_from(sorted(PRESETS)),
    seed=st.integers(0, 2**40),
    seams=st.booleans(),
    y=st.integers(0, HUGE - 700),
    x=st.integers(0, HUGE - 700),
    inner=st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(1, 399), st.integers(1, 399)),
)
def test_a_region_alone_equals_the_crop_of_a_larger_one(
    preset: str, seed: int, seams: bool, y: int, x: int, inner: tuple[int, int, int, int]
) -> None:
    def mosaic() -> SyntheticMosaic:
        return SyntheticMosaic((HUGE, HUGE), preset=preset, seed=seed, seams=seams)

    dy, dx, height, width = inner
    here = (y + dy, y + dy + height, x + dx, x + dx + width)
    crop = (slice(dy, dy + height), slice(dx, dx + width))
    whole = mosaic()
    np.testing.assert_array_equal(mosaic().read(*here), whole.read(y, y + 699, x, x + 699)[crop])
    np.testing.assert_array_equal(mosaic().read_mask(*here), whole.read_mask(y, y + 699, x, x + 699)[crop])


@examples(25)
@given(
    seed=st.integers(0, 3),
    y=st.integers(0, 20_000),
    x=st.integers(0, 20_000),
    size=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    inner=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)),
)
def test_speckle_region_alone_equals_the_crop(
    seed: int, y: int, x: int, size: tuple[int, int], inner: tuple[float, float]
) -> None:
    mosaic = SpeckleMosaic((30_000, 30_000), seed=seed)
    height, width = size
    dy, dx = int(inner[0] * height), int(inner[1] * width)
    whole = mosaic.read(y, y + height, x, x + width)
    np.testing.assert_array_equal(mosaic.read(y + dy, y + height, x + dx, x + width), whole[dy:, dx:])
    mask = mosaic.read_mask(y, y + height, x, x + width)
    np.testing.assert_array_equal(mask, whole >= 128)


def test_shape_does_not_change_the_pixels() -> None:
    image, mask = make((70, 90), preset="sem", seed=3)
    mosaic = SyntheticMosaic((HUGE, HUGE), preset="sem", seed=3)
    np.testing.assert_array_equal(image, mosaic.read(0, 70, 0, 90))
    np.testing.assert_array_equal(mask, mosaic.read_mask(0, 70, 0, 90))


@pytest.mark.parametrize("preset", ["lom", "sem"])
def test_tiles_join_without_a_seam(preset: str) -> None:
    # The same place drawn in a window of another origin: equal but where float32 rounding picks a table's next sample.
    renderer = Renderer.create(get_preset(preset), 11, seams=False)
    size = TILE + 16
    for moved in ((0, 40), (-333, 7)):
        grays, phases = [], []
        for y0, x0 in ((70_000, 90_000), (70_000 + moved[0], 90_000 + moved[1])):
            window = Window(y0, x0, size)
            grains = _draw_grains(renderer, window)
            in_bainite = np.take(grains.bainite, grains.cells.first)
            phases.append(in_bainite)
            grays.append(_etch(renderer, window, grains, in_bainite)[0])
        here, there = _overlap(moved[0], size), _overlap(moved[1], size)
        for first, second, tolerance in ((*phases, 0), (*grays, 1.0)):
            a, b = first[here[0], there[0]].astype(float), second[here[1], there[1]].astype(float)
            assert np.mean(np.abs(a - b) > tolerance) < 1e-3


def _overlap(moved: int, size: int) -> tuple[slice, slice]:
    return slice(max(moved, 0), size + min(moved, 0)), slice(max(-moved, 0), size - max(moved, 0))


def test_another_seed_is_another_steel() -> None:
    first, second = (make((256, 256), seed=seed)[0] for seed in (1, 2))
    assert np.mean(first == second) < 0.1


def test_threads_read_the_same_bytes() -> None:
    mosaic = SyntheticMosaic((4096, 4096), seed=2)
    regions = [(y, y + 300, x, x + 300) for y in (100, 400) for x in (200, 450)] * 2
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda region: mosaic.read(*region), regions))
    fresh = SyntheticMosaic((4096, 4096), seed=2)
    for region, pixels in zip(regions, found, strict=True):
        np.testing.assert_array_equal(pixels, fresh.read(*region))


def test_phase_fraction_is_that_of_the_preset() -> None:
    for name, edge, tolerance in (("lom", 4096, 0.02), ("sem", 6144, 0.03)):
        mosaic = SyntheticMosaic((edge, edge), preset=name, seed=3)
        fraction = mosaic.read_mask(0, edge, 0, edge).mean()
        assert abs(fraction - get_preset(name).bainite_fraction) < tolerance, name


def test_the_fraction_of_a_changed_preset_is_what_is_drawn() -> None:
    all_alike = replace(PRESETS["lom"], bainite_inside=0.5, bainite_outside=0.5)
    assert all_alike.bainite_fraction == 0.5
    mask = SyntheticMosaic((1024, 1024), preset=all_alike).read_mask(0, 1024, 0, 1024)
    assert abs(mask.mean() - 0.5) < 0.05
    with pytest.raises(TypeError, match="bainite_fraction"):
        replace(PRESETS["lom"], bainite_fraction=0.6)  # nothing would be drawn otherwise


def test_gray_value_does_not_tell_the_phases_apart(large: tuple[str, np.ndarray, np.ndarray]) -> None:
    name, image, mask = large
    assert 0.4 < auc(image, mask) < 0.6
    other = make(image.shape, preset=f"{name}_contrast", seed=5)
    np.testing.assert_array_equal(mask, other[1])  # another etching of the same steel
    assert 0.4 < auc(other[0], mask) < 0.6
    assert abs(float(other[0].mean()) - float(image.mean())) > 15


def test_gray_value_fills_the_range_without_clipping(large: tuple[str, np.ndarray, np.ndarray]) -> None:
    _, image, _ = large
    assert image.dtype == np.uint8
    assert np.mean(image == 0) < 0.01
    assert np.mean(image == 255) < 0.02
    assert image.std() > 15


def test_both_phases_are_embedded_in_each_other() -> None:
    from scipy import ndimage

    _, mask = make((4096, 4096), preset="lom", seed=4)
    for phase in (0, 1):
        parts, count = ndimage.label(mask == phase)
        touching = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
        enclosed = count - np.count_nonzero(touching)
        assert enclosed > 10, phase


def test_mask_is_where_the_parallel_laths_are() -> None:
    # Structure tensor over 21 px: films of bainite agree in direction, rods of granular ferrite do not.
    from scipy import ndimage

    image, mask = make((1024, 1024), preset="lom", seed=6)
    smooth = ndimage.gaussian_filter(image.astype(np.float32), 1.0)
    gy, gx = np.gradient(smooth)
    jxx, jyy, jxy = (ndimage.gaussian_filter(p, 7.0) for p in (gx * gx, gy * gy, gx * gy))
    order = np.hypot(jxx - jyy, 2 * jxy) / (jxx + jyy + 1e-3)
    energy = jxx + jyy
    inner = ndimage.minimum_filter(mask, 15) == 1
    outside = ndimage.maximum_filter(mask, 15) == 0
    granular = outside & (energy > np.median(energy[inner]) * 0.7)
    assert order[inner].mean() > order[granular].mean() + 0.15


def test_lath_widths_are_log_normal() -> None:
    preset = get_preset("lom")
    widths = np.log(np.concatenate(make_laths(preset, 0).widths))
    assert np.exp(np.median(widths)) == pytest.approx(preset.lath_um, rel=0.05)
    assert widths.std() == pytest.approx(preset.lath_sigma, rel=0.08)


def test_seams_step_at_the_border_of_stage_tiles() -> None:
    image, mask = make((640, 2304), preset="lom", seed=9, seams=True)
    plain, plain_mask = make((640, 2304), preset="lom", seed=9)
    assert 0.0 < np.mean(mask != plain_mask) < 0.2
    columns = image.mean(axis=0) - plain.mean(axis=0)
    step = np.abs(columns[2048:2112].mean() - columns[1984:2048].mean())
    elsewhere = np.abs(columns[1088:1152].mean() - columns[1024:1088].mean())
    assert step > 1.0 + elsewhere


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_mosaic_says_what_it_is(name: str) -> None:
    mosaic = SyntheticMosaic((1000, 2000), preset=name, seed=8)
    assert mosaic.shape == (1000, 2000)
    assert mosaic.dtype == np.uint8
    assert mosaic.channels == 1
    assert mosaic.um_per_px == pytest.approx({"l": 0.1266, "s": 0.0277}[name[0]])
    assert mosaic.synthetic
    assert mosaic.fingerprint() == SyntheticMosaic((1000, 2000), preset=name, seed=8).fingerprint()
    assert mosaic.fingerprint() != SyntheticMosaic((1000, 2000), preset=name, seed=9).fingerprint()
    assert mosaic.resident_bytes < 128 * 2**20


@pytest.mark.parametrize("kind", [SyntheticMosaic, SpeckleMosaic])
def test_mosaic_pickles_without_its_tiles(kind: type) -> None:
    mosaic = kind((900, 900), seed=4)
    pixels = mosaic.read(10, 200, 20, 300)
    data = pickle.dumps(mosaic)
    assert len(data) < 4000
    copy = pickle.loads(data)
    np.testing.assert_array_equal(copy.read(10, 200, 20, 300), pixels)
    assert copy.fingerprint() == mosaic.fingerprint()


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="no synthetic preset is called 'tem'; use one of lom, sem"):
        SyntheticMosaic((10, 10), preset="tem")
    for make_it in (make, SyntheticMosaic, SpeckleMosaic):
        for seed in (1.5, "1", True, None):
            with pytest.raises(InputError, match="seed=.* use an integer"):
                make_it((10, 10), seed=seed)
    for shape in ((0, 5), (5, -1), (5,), (5, 5, 5), (2.5, 3), ("a", 5), (np.nan, 5), 5):
        with pytest.raises(InputError, match="two positive whole numbers"):
            make(shape)
    mosaic = SyntheticMosaic((10, 10))
    for read in (mosaic.read, mosaic.read_mask):
        with pytest.raises(InputError, match="not inside"):
            read(0, 11, 0, 5)
        with pytest.raises(InputError, match="empty"):
            read(5, 5, 0, 5)


@pytest.mark.parametrize(
    "change",
    [
        {"um_per_px": 0.0}, {"um_per_px": np.nan}, {"um_per_px": 0.5}, {"grain_um": 1.0}, {"packet_um": 0.3},
        {"region_share": 2.0}, {"film_um": 0.0}, {"lath_um": -1.0}, {"blur_px": 0.0}, {"blur_px": 4.0},
        {"lath_sigma": "0.3"},
    ],
)  # fmt: skip
def test_a_preset_that_cannot_be_drawn_is_refused(change: dict[str, float]) -> None:
    name = "packet_um|grain_um|region_um" if change == {"um_per_px": 0.5} else next(iter(change))
    with pytest.raises(InputError, match=rf"^({name})=.* cannot be drawn; give a "):
        replace(PRESETS["lom"], **change)
    for etching in ({"noise": -1.0}, {"gamma": 0.0}, {"matrix": np.inf}):
        with pytest.raises(InputError, match=next(iter(etching))):
            replace(PRESETS["lom"].etching, **etching)


def test_a_numpy_seed_is_the_same_seed() -> None:
    np.testing.assert_array_equal(make((20, 30), seed=np.int64(7))[0], make((20, 30), seed=7)[0])


def test_the_response_curve_bends_the_gray_values() -> None:
    lom = PRESETS["lom"]
    straight, truth = make((100, 120), preset=lom, seed=3)
    bent, mask = make((100, 120), preset=replace(lom, etching=replace(lom.etching, gamma=2.0)), seed=3)
    expected = 255 * (straight / 255.0) ** 2
    assert np.abs(bent - expected).max() <= 2  # the straight ones are rounded
    np.testing.assert_array_equal(mask, truth)
