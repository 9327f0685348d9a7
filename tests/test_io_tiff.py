"""TIFF of every layout, the pixel sizes that microscopes write, and the annotation bar."""

from __future__ import annotations

import os
import pickle
import tracemalloc
from pathlib import Path

import imagecodecs
import numpy as np
import psutil
import pytest
import tifffile

from bainite_fast import io
from bainite_fast.errors import BainiteWarning, InputError, MosaicError
from bainite_fast.io.jpeg_check import check_jpeg

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (333, 470)).astype("u1")
DEEP = RNG.integers(0, 60000, (333, 470)).astype("u2")
RGB = RNG.integers(0, 256, (150, 200, 3)).astype("u1")


def check(mosaic: io.Mosaic, expected: np.ndarray) -> None:
    """Regions equal the whole decode, pickled and reopened too."""
    assert mosaic.shape == expected.shape[:2]
    for one in (mosaic, pickle.loads(pickle.dumps(mosaic))):
        height, width = one.shape
        for y0, y1, x0, x1 in ((0, height, 0, width), (height // 3, height // 3 + 1, 7, width - 5), (5, height, 3, 4)):
            np.testing.assert_array_equal(one.read(y0, y1, x0, x1), expected[y0:y1, x0:x1])
        one.close()
        np.testing.assert_array_equal(one.read(0, 1, 0, 1), expected[:1, :1])  # opens it again
        one.close()


LAYOUTS = [
    {},
    {"tile": (128, 64)},
    {"tile": (64, 64), "compression": "zlib", "predictor": True},
    {"rowsperstrip": 16, "compression": "zlib"},
    {"rowsperstrip": 7},
    {"compression": "lzw"},
    {"bigtiff": True, "tile": (64, 64), "compression": "zstd"},
    {"byteorder": ">"},
    {"byteorder": ">", "tile": (64, 64), "compression": "zlib"},
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("pixels", [GRAY, DEEP, RGB, DEEP.astype("f4")], ids=["u1", "u2", "rgb", "f4"])
def test_layouts(tmp_path: Path, layout: dict, pixels: np.ndarray) -> None:
    path = tmp_path / "a.tif"
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(path, pixels, photometric=photometric, **layout)
    mosaic = io.open_mosaic(path)
    assert mosaic.rgb == (pixels.ndim == 3) and mosaic.um_per_px is None
    check(mosaic, pixels)


def test_planar_rgb_jpeg_and_rgba(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "p.tif", RGB.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    check(io.open_mosaic(tmp_path / "p.tif"), RGB)
    tifffile.imwrite(tmp_path / "j.tif", RGB, photometric="rgb", compression="jpeg", tile=(64, 64))
    check(io.open_mosaic(tmp_path / "j.tif"), tifffile.imread(tmp_path / "j.tif"))
    for space in ("ycbcr", "cielab"):  # which no decoder turns into red, green and blue
        tifffile.imwrite(tmp_path / "y.tif", RGB, photometric=space, compression="lzw")
        with pytest.raises(InputError, match="has 3 channels and none is chosen"):
            io.open_mosaic(tmp_path / "y.tif")
        check(io.open_mosaic(tmp_path / "y.tif", channel=0), RGB[..., 0])  # the brightness
    alpha = np.dstack([RGB, np.full(RGB.shape[:2], 255, "u1")])
    tifffile.imwrite(tmp_path / "a.tif", alpha, photometric="rgb", extrasamples=["unassalpha"])
    check(io.open_mosaic(tmp_path / "a.tif"), RGB)
    alpha[140, 10, 3] = 0
    tifffile.imwrite(tmp_path / "a.tif", alpha, photometric="rgb", extrasamples=["unassalpha"])
    mosaic = io.open_mosaic(tmp_path / "a.tif")
    mosaic.read(0, 100, 0, 200)
    with pytest.raises(MosaicError, match="alpha") as caught:
        mosaic.read(100, 150, 0, 200)
    assert "a.tif" in str(caught.value)


def test_special_pixels(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "w.tif", GRAY, photometric="miniswhite")
    check(io.open_mosaic(tmp_path / "w.tif"), 255 - GRAY)
    tifffile.imwrite(tmp_path / "b.tif", GRAY > 99, photometric="minisblack")
    check(io.open_mosaic(tmp_path / "b.tif"), (GRAY > 99) * np.uint8(255))
    for bits in (2, 4, 12):  # packed; below 8 bits white is 255, above it is what the bits can hold
        few, top = (GRAY if bits < 8 else DEEP) % 2**bits, 2**bits - 1
        step = 255 // top if bits < 8 else 1
        for photometric, shown in (("minisblack", few), ("miniswhite", top - few)):
            tifffile.imwrite(tmp_path / "f.tif", few, bitspersample=bits, photometric=photometric)
            check(io.open_mosaic(tmp_path / "f.tif"), shown * step)
            check(io.open_mosaic(tmp_path / "f.tif", indexed=True), shown)
    tifffile.imwrite(tmp_path / "p.tif", GRAY, photometric="palette", colormap=np.zeros((3, 256), "u2"))
    with pytest.raises(MosaicError, match="palette"):
        io.open_mosaic(tmp_path / "p.tif")
    for kind in ("i2", "u4", "c8"):
        tifffile.imwrite(tmp_path / "k.tif", GRAY.astype(kind))
        with pytest.raises(MosaicError, match="dtype"):
            io.open_mosaic(tmp_path / "k.tif")


def test_stacks_channels_and_pyramids_of_ome_tiff(tmp_path: Path) -> None:
    path = tmp_path / "o.ome.tif"
    stack = RNG.integers(0, 60000, (2, 3, 4, 50, 60)).astype("u2")
    sizes = {f"PhysicalSize{axis}{end}": value for axis in "XY" for end, value in (("", 250.0), ("Unit", "nm"))}
    tifffile.imwrite(path, stack, metadata={"axes": "TCZYX", "Channel": {"Name": ["bf", "df", "pol"]}, **sizes})
    with pytest.raises(InputError, match=r"t 2, c 3, z 4, y 50, x 60"):
        io.open_mosaic(path)
    with pytest.raises(InputError, match="plane="):
        io.open_mosaic(path, channel=0)
    assert str(path) not in [one.path for one in psutil.Process().open_files()]  # what is refused is closed
    mosaic = io.open_mosaic(path, plane={"t": 1, "z": 3}, channel="df")
    assert mosaic.um_per_px == pytest.approx(0.25) and mosaic.unit_source == "OME-TIFF PhysicalSizeX"
    check(mosaic, stack[1, 1, 3])
    check(io.open_mosaic(path, plane={"t": 0, "z": 1}, channel=[2, 0]), stack[0, [2, 0], 1].transpose(1, 2, 0))
    assert io.describe(path)["choose"]

    levels = [GRAY, GRAY[::2, ::2].copy(), GRAY[::4, ::4].copy()]
    with tifffile.TiffWriter(tmp_path / "pyramid.ome.tif", bigtiff=True) as writer:
        meta = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        writer.write(levels[0], subifds=2, tile=(64, 64), metadata=meta)
        for level in levels[1:]:
            writer.write(level, subfiletype=1, tile=(64, 64))
    for number, level in enumerate(levels):
        mosaic = io.open_mosaic(tmp_path / "pyramid.ome.tif", level=number)
        check(mosaic, level)
        assert mosaic.um_per_px == pytest.approx(0.5 * 2**number, rel=0.02)
    with pytest.raises(InputError, match="use 0 to 2"):
        io.open_mosaic(tmp_path / "pyramid.ome.tif", level=3)


def _ome(path: Path, pixels: str = "", inside: str = "", end: str = "</OME>") -> Path:
    """Write a TIFF with the OME-XML of another program."""
    sizes = 'DimensionOrder="XYCZT" Type="uint8" SizeX="64" SizeY="64" SizeC="1" SizeZ="1" SizeT="1"'
    image = f'<Image ID="Image:0"><Pixels ID="Pixels:0" {sizes} {pixels}>{inside}<TiffData/></Pixels></Image>'
    head = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), description=head + image + end, metadata=None)
    return path


def test_sparse_ome_xml(tmp_path: Path) -> None:
    path = tmp_path / "o.ome.tif"
    assert io.open_mosaic(_ome(path, inside="<Channel/>")).shape == (64, 64)
    nm = 'PhysicalSizeX="100" PhysicalSizeXUnit="nm"'
    assert io.open_mosaic(_ome(path, nm)).um_per_px == pytest.approx(0.1)
    with pytest.raises(MosaicError, match="PhysicalSizeY='0,1', which is no number"):
        io.open_mosaic(_ome(path, 'PhysicalSizeX="0,1" PhysicalSizeY="0,1"'))
    with pytest.raises(MosaicError, match="cannot be parsed"):
        io.open_mosaic(_ome(path, end="<</OME>"))


def test_ome_tiffs_in_several_files_and_planes_that_are_not_there(tmp_path: Path) -> None:
    """z0 lies in a.ome.tif, which is small, z1 in b.ome.tif, and z2 nowhere."""
    planes = "".join(
        f'<TiffData FirstZ="{z}" IFD="0"><UUID FileName="{file}.ome.tif">urn:uuid:{file}</UUID></TiffData>'
        for z, file in enumerate("abc")
    )
    sizes = 'DimensionOrder="XYZCT" Type="uint8" SizeX="470" SizeY="333" SizeZ="3" SizeC="1" SizeT="1"'
    image = f'<Image ID="Image:0"><Pixels ID="Pixels:0" {sizes}>{planes}</Pixels></Image></OME>'
    for file, pixels, packing in (("a", GRAY // 255, "zlib"), ("b", GRAY, None)):
        head = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{file}">'
        tifffile.imwrite(
            tmp_path / f"{file}.ome.tif", pixels, description=head + image, metadata=None, compression=packing
        )
    for name in ("a.ome.tif", "b.ome.tif"):
        check(io.open_mosaic(tmp_path / name, plane=0), GRAY // 255)
        check(io.open_mosaic(tmp_path / name, plane=1), GRAY)
    with pytest.raises(MosaicError, match="names a plane in its OME-XML that is neither in it nor in a file beside it"):
        io.open_mosaic(tmp_path / "a.ome.tif", plane=2)  # and not zeros
    mosaic = io.open_mosaic(tmp_path / "a.ome.tif", plane=1)
    before = mosaic.fingerprint()
    os.utime(tmp_path / "b.ome.tif", (1, 1))
    assert mosaic.fingerprint() != before
    with (tmp_path / "b.ome.tif").open("r+b") as file:
        file.truncate(9000)
    check(io.open_mosaic(tmp_path / "a.ome.tif", plane=0), GRAY // 255)
    with pytest.raises(MosaicError, match=r"b\.ome\.tif is truncated"):
        io.open_mosaic(tmp_path / "a.ome.tif", plane=1)


def test_pages_are_a_stack(tmp_path: Path) -> None:
    pages = np.stack([GRAY, GRAY // 2, GRAY // 3, GRAY // 4, GRAY // 5])
    tifffile.imwrite(tmp_path / "s.tif", pages, photometric="minisblack", compression="zlib")
    with pytest.raises(InputError, match="is a stack and no plane is chosen"):
        io.open_mosaic(tmp_path / "s.tif")
    check(io.open_mosaic(tmp_path / "s.tif", plane=3), pages[3])


# -- damage ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("compression", ["zlib", "lzw", "jpeg"])
def test_a_corrupt_tile_is_named(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "c.tif"
    tifffile.imwrite(path, GRAY, tile=(128, 128), compression=compression)
    with tifffile.TiffFile(path) as tiff:
        start, count = tiff.pages[0].dataoffsets[5], tiff.pages[0].databytecounts[5]
    data = bytearray(path.read_bytes())
    data[start + count // 3 : start + count] = bytes(RNG.integers(0, 256, count - count // 3, dtype="u1"))
    path.write_bytes(data)
    mosaic = io.open_mosaic(path)
    mosaic.read(0, 128, 0, 470)
    with pytest.raises(MosaicError, match=r"tile \(1, 1\), pixels \[128:256, 128:256\]") as caught:
        mosaic.read(0, 333, 0, 470)
    assert "c.tif" in str(caught.value.place)


def test_a_truncated_file_is_refused_at_once(tmp_path: Path) -> None:
    for layout in ({"rowsperstrip": 16}, {"tile": (64, 64), "compression": "zlib"}):
        tifffile.imwrite(tmp_path / "t.tif", GRAY, **layout)
        data = (tmp_path / "t.tif").read_bytes()
        (tmp_path / "t.tif").write_bytes(data[: len(data) * 2 // 3])
        with pytest.raises(MosaicError, match="truncated"):
            io.open_mosaic(tmp_path / "t.tif")


@pytest.mark.parametrize("tag", ["ImageWidth", "ImageLength", "RowsPerStrip", "SamplesPerPixel", "XResolution"])
@pytest.mark.parametrize("damage", ["zero", "count", "text"])
def test_damaged_tags_are_told(tmp_path: Path, tag: str, damage: str) -> None:
    path = tmp_path / "d.tif"
    tifffile.imwrite(path, GRAY, resolution=(5000, 5000))
    with tifffile.TiffFile(path) as tiff:
        found = tiff.pages[0].tags[tag]
        place, value = {
            "zero": (found.valueoffset, b"\0\0"),
            "count": (found.offset + 4, b"\2\0\0\0"),
            "text": (found.offset + 2, b"\2\0"),
        }[damage]
    with path.open("r+b") as file:
        file.seek(place)
        file.write(value)
    try:
        io.open_mosaic(path).read(0, 1, 0, 1)
    except MosaicError as error:
        assert str(path) in str(error)  # any other error is a failure


def test_an_unknown_compression_is_told(tmp_path: Path) -> None:
    path = tmp_path / "c.tif"
    tifffile.imwrite(path, GRAY, compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        place = tiff.pages[0].tags["Compression"].valueoffset
    with path.open("r+b") as file:
        file.seek(place)
        file.write((9999).to_bytes(2, "little"))
    with pytest.raises(MosaicError, match="9999"):
        io.open_mosaic(path).read(0, 1, 0, 1)


def test_a_narrow_region_of_wide_strips_does_not_hold_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.tile(GRAY, (9, 18))
    tifffile.imwrite(tmp_path / "w.tif", pixels, rowsperstrip=16, compression="zlib")
    monkeypatch.setattr("bainite_fast.io.tiff_source.STRIP_CACHE_BYTES", 0)
    with io.open_mosaic(tmp_path / "w.tif") as mosaic:
        mosaic.read(0, 1, 0, 9)
        tracemalloc.start()
        narrow = mosaic.read(0, len(pixels), 40, 49)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    np.testing.assert_array_equal(narrow, pixels[:, 40:49])
    assert peak < pixels.nbytes / 2


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, GRAY)
    mosaic = io.open_mosaic(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(MosaicError, match="too early") as caught:
        mosaic.read(0, 333, 0, 470)
    assert "s.tif" in str(caught.value.place)


def test_jpeg_structure() -> None:
    whole = imagecodecs.jpeg8_encode(RGB, level=80)
    check_jpeg(whole)
    for bad in (whole[:-2], whole[:100], whole[2:], b"", whole[: len(whole) // 2] + b"\xff\x01" + whole[-300:]):
        with pytest.raises(ValueError, match="JPEG"):
            check_jpeg(bad)


# -- size of a pixel ---------------------------------------------------------------------------------------------------
def opened(tmp_path: Path, **options: object) -> io.Mosaic:
    tifffile.imwrite(tmp_path / "u.tif", GRAY, **options)
    return io.open_mosaic(tmp_path / "u.tif")


ZEISS = (
    "0\r\n0\r\n0\r\n2.77e-008\r\nAP_PIXEL_SIZE\r\nPixel Size = {scan}\r\n"
    "AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = {image}\r\nDP_DETECTOR_CHANNEL\r\nSignal A = InLens\r\n"
)
FEI = "[Scan]\r\nPixelWidth=2.5e-008\r\nPixelHeight=2.5e-008\r\n[Image]\r\nResolutionX=470\r\nResolutionY={rows}\r\n"


@pytest.mark.parametrize(
    ("options", "um", "source"),
    [
        ({"imagej": True, "resolution": (4.0, 4.0), "metadata": {"unit": "um"}}, 0.25, "ImageJ"),
        ({"imagej": True, "resolution": (4.0, 4.0), "metadata": {"unit": "micron"}}, 0.25, "ImageJ"),
        ({"imagej": True, "resolution": (4.0, 4.0), "metadata": {"unit": "\\u00B5m"}}, 0.25, "ImageJ"),
        ({"imagej": True, "resolution": (0.05, 0.05), "metadata": {"unit": "nm"}}, 0.02, "ImageJ"),
        ({"resolution": (50000.0, 50000.0), "resolutionunit": "CENTIMETER"}, 0.2, "TIFF XResolution"),
        ({"resolution": (254000.0, 254000.0), "resolutionunit": "INCH"}, 0.1, "TIFF XResolution"),
        ({"extratags": [(34118, 2, None, ZEISS.format(scan="55.4 nm", image="27.7 nm"), True)]}, 0.0277, "Zeiss"),
        ({"extratags": [(34118, 2, None, ZEISS.format(scan="1.5 µm", image="?"), True)]}, 1.5, "Zeiss"),
        ({"extratags": [(34118, 2, None, ZEISS.format(scan="?", image="?"), True)]}, 0.0277, "Zeiss"),
        ({"extratags": [(34680, 2, None, FEI.format(rows=333), True)]}, 0.025, "FEI"),
        ({"extratags": [(34682, 2, None, FEI.format(rows=333), True)]}, 0.025, "FEI"),
    ],
)
def test_pixel_size(tmp_path: Path, options: dict, um: float, source: str) -> None:
    options["extratags"] = [
        (code, kind, count, value.encode("latin-1"), once)
        for code, kind, count, value, once in options.get("extratags", ())
    ]
    mosaic = opened(tmp_path, **options)
    assert mosaic.um_per_px == pytest.approx(um) and source in str(mosaic.unit_source)
    np.testing.assert_array_equal(mosaic.read(0, 333, 0, 470), GRAY)


@pytest.mark.parametrize(
    ("dpi", "unit"), [(1, "INCH"), (72, "INCH"), (96, "INCH"), (300, "INCH"), (28.346, "CENTIMETER"), (4000, "NONE")]
)
def test_default_resolutions_are_no_scale(tmp_path: Path, dpi: float, unit: str) -> None:
    assert opened(tmp_path, resolution=(dpi, dpi), resolutionunit=unit).um_per_px is None
    if unit != "NONE":  # ImageJ hands on the resolution of the file that it opened
        assert opened(tmp_path, imagej=True, resolution=(dpi, dpi), metadata={"unit": unit.lower()}).um_per_px is None


def test_pixels_that_are_not_square_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MosaicError, match="square pixels"):
        opened(tmp_path, resolution=(50000.0, 40000.0), resolutionunit="CENTIMETER")


# -- annotation bar ----------------------------------------------------------------------------------------------------
def with_bar(image: np.ndarray, rows: int, *, dark: bool = True, frame: bool = False) -> np.ndarray:
    """Draw a bar with text-like strokes below an image."""
    back, ink = (0, 255) if dark else (255, 0)
    bar = np.full((rows, image.shape[1]), back, "u1")
    text = np.random.default_rng(3).random((rows // 3, image.shape[1] // 2)) < 0.3
    bar[rows // 3 : rows // 3 + text.shape[0], 5 : 5 + text.shape[1]][text] = ink
    bar[rows // 2, -60:-10] = ink
    if frame:
        bar[0] = ink
    return np.vstack([image, bar])


@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize("frame", [True, False])
@pytest.mark.parametrize("rows", [20, 60])
def test_a_drawn_bar_is_found(dark: bool, frame: bool, rows: int) -> None:
    image = with_bar(GRAY, rows, dark=dark, frame=frame)
    for pixels in (image, np.dstack([image] * 3)):
        mosaic = io.open_mosaic(pixels, crop_bar="auto")
        assert mosaic.shape == GRAY.shape
        np.testing.assert_array_equal(mosaic.read(0, 333, 0, 470), pixels[:333])
    lossy = imagecodecs.jpeg8_decode(imagecodecs.jpeg8_encode(image, level=85))
    assert abs(io.open_mosaic(lossy, crop_bar="auto").shape[0] - 333) <= 2


def test_what_is_no_bar_stays() -> None:
    dark = GRAY.copy()
    dark[-40:] = 0  # an unfilled edge of a mosaic has no text
    ramp = np.linspace(0, 255, 300 * 300).reshape(300, 300).astype("u1")
    for image in (GRAY, dark, ramp, np.zeros((50, 50), "u1"), GRAY[:5], with_bar(GRAY[:60], 60)):
        with pytest.warns(BainiteWarning, match="no annotation bar was found in array"):
            assert io.open_mosaic(image, crop_bar="auto").shape == image.shape


def test_no_bar_is_found_in_real_micrographs(data_dir: Path) -> None:
    pictures = [*(data_dir / "uhcs" / "images").iterdir(), *(data_dir / "nasa_super" / "images").iterdir()]
    assert len(pictures) > 40
    assert [path.name for path in pictures if io.find_bar(io.open_mosaic(path))] == []
    assert io.find_bar(io.open_mosaic(data_dir / "mosaic_dendritic.tif")) == 0


def test_bars_drawn_on_real_micrographs_are_found(data_dir: Path) -> None:
    for path in sorted((data_dir / "uhcs" / "images").iterdir())[:8]:
        with io.open_mosaic(path) as mosaic:
            image = mosaic.read(0, mosaic.shape[0], 0, mosaic.shape[1])
        assert io.find_bar(io.open_mosaic(with_bar(image, 40))) == 40


def test_a_declared_bar_and_rows_by_hand(tmp_path: Path) -> None:
    tag = (34682, 2, None, FEI.format(rows=300).encode(), True)
    tifffile.imwrite(tmp_path / "fei.tif", GRAY, extratags=[tag])
    assert io.open_mosaic(tmp_path / "fei.tif", crop_bar="auto").shape == (300, 470)
    cropped = io.open_mosaic(tmp_path / "fei.tif", crop_bar=(10, 20))
    assert cropped.shape == (303, 470) and cropped.origin == (10, 0) and cropped.um_per_px == pytest.approx(0.025)
    np.testing.assert_array_equal(cropped.read(0, 303, 0, 470), GRAY[10:-20])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cropped)).read(1, 2, 3, 4), GRAY[11:12, 3:4])
    assert io.open_mosaic(GRAY, crop_bar=33).shape == (300, 470)
    for bad in (333, (300, 33), -1, "bottom"):
        with pytest.raises(InputError):
            io.open_mosaic(GRAY, crop_bar=bad)
