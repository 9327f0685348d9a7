"""Arrays, Zarr of every kind and pictures, read region by region."""

from __future__ import annotations

import functools
import http.server
import json
import pickle
import shutil
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask.array
import fsspec
import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st

from bainite_fast import io
from bainite_fast.errors import InputError, MosaicError, MosaicNotFoundError

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 60000, (300, 420)).astype("u2")
RGB = RNG.integers(0, 256, (90, 120, 3)).astype("u1")


def region(mosaic: io.Mosaic) -> tuple[slice, slice]:
    height, width = mosaic.shape
    return slice(height // 7, height - 3), slice(width // 5, width - 2)


def read(mosaic: io.Mosaic, where: tuple[slice, slice] | None = None) -> np.ndarray:
    y, x = where or (slice(0, mosaic.shape[0]), slice(0, mosaic.shape[1]))
    return mosaic.read(y.start, y.stop, x.start, x.stop)


def check(mosaic: io.Mosaic, expected: np.ndarray) -> None:
    """The mosaic shows these pixels, after pickling too, and its description is JSON."""
    for one in (mosaic, pickle.loads(pickle.dumps(mosaic))):
        where = region(one)
        pixels = read(one, where)
        np.testing.assert_array_equal(pixels, expected[where])
        assert pixels.flags.c_contiguous and pixels.dtype.isnative and pixels.dtype == one.dtype
        assert one.fingerprint() == mosaic.fingerprint()
    json.dumps([mosaic.describe(), mosaic.fingerprint()])


# -- arrays ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("array", "channels", "rgb"),
    [(GRAY, 1, False), (RGB, 3, True), (GRAY.astype("f4"), 1, False), (GRAY[:, :, None], 1, False)],
)
def test_arrays(array: np.ndarray, channels: int, rgb: bool) -> None:
    for source in (array, dask.array.from_array(array, chunks=(50, 60, 1)[: array.ndim])):
        mosaic = io.open_mosaic(source)
        assert (mosaic.channels, mosaic.rgb, mosaic.shape) == (channels, rgb, array.shape[:2])
        check(mosaic, array[..., 0] if array.shape[2:] == (1,) else array)


def test_dtypes_are_converted_as_documented() -> None:
    mask = GRAY > 30000
    np.testing.assert_array_equal(read(io.open_mosaic(mask)), mask * np.uint8(255))
    for kind in ("f2", "f8", ">f4"):
        assert io.open_mosaic((GRAY / 60000).astype(kind)).dtype == np.float32
    assert read(io.open_mosaic(GRAY.astype(">u2"))).dtype == np.dtype("u2")
    for kind in ("i2", "u4", "i8", "c8", "U1", "O"):
        with pytest.raises(MosaicError, match="dtype"):
            io.open_mosaic(np.zeros((4, 4), kind))


def test_stacks_need_a_choice_and_the_error_lists_axes_and_sizes() -> None:
    stack = RNG.integers(0, 255, (2, 5, 30, 40)).astype("u1")
    with pytest.raises(InputError, match=r"t 2, z 5, y 30, x 40.*plane=\{'t': 0, 'z': 0\}"):
        io.open_mosaic(stack)
    with pytest.raises(InputError, match="on which axis"):
        io.open_mosaic(stack, plane=1)
    with pytest.raises(InputError, match="use 0 to 4"):
        io.open_mosaic(stack, plane={"t": 1, "z": 5})
    with pytest.raises(InputError, match="names the axis 'q'"):
        io.open_mosaic(stack, plane={"q": 1})
    check(io.open_mosaic(stack, plane={"t": 1, "z": 3}), stack[1, 3])
    check(io.open_mosaic(stack[0], plane=4), stack[0, 4])
    with pytest.raises(InputError, match="single plane"):
        io.open_mosaic(GRAY, plane=1)


def test_channels_of_arrays() -> None:
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 255, "u1")])
    check(io.open_mosaic(rgba), RGB)
    rgba[60, 70, 3] = 254
    with pytest.raises(MosaicError, match="alpha"):
        read(io.open_mosaic(rgba))
    check(io.open_mosaic(rgba, channel=1), RGB[..., 1])
    check(io.open_mosaic(rgba, channel=[2, 0]), RGB[..., [2, 0]])
    with pytest.raises(InputError, match="2 channels"):
        io.open_mosaic(RGB[..., :2])
    with pytest.raises(InputError, match="use 0 to 2"):
        io.open_mosaic(RGB, channel=3)
    with pytest.raises(InputError, match="no channel axis"):
        io.open_mosaic(GRAY, channel=1)


def test_refused() -> None:
    for source in (3, None, b"x", [1, 2]):
        with pytest.raises(InputError, match="cannot be read from"):
            io.open_mosaic(source)
    for empty in (np.zeros((0, 5), "u1"), np.zeros((5, 0), "u1"), np.zeros((0, 4, 4), "u1")):
        with pytest.raises(InputError, match="zero size"):
            io.open_mosaic(empty, plane=None)
    with pytest.raises(InputError, match="is no picture"):
        io.open_mosaic(np.zeros(5, "u1"))
    mosaic = io.open_mosaic(GRAY)
    for bad in ((0, 0, 0, 1), (0, 301, 0, 1), (-1, 3, 0, 1), (5, 4, 0, 1)):
        with pytest.raises(InputError, match="not inside"):
            mosaic.read(*bad)
    assert io.open_mosaic(mosaic) is mosaic
    with pytest.raises(InputError, match="already chosen"):
        io.open_mosaic(mosaic, plane=1)


def test_what_is_read_may_be_written_into() -> None:
    array = GRAY.copy()
    read(io.open_mosaic(array))[...] = 0
    np.testing.assert_array_equal(array, GRAY)


@given(st.data())
def test_any_region(data: st.DataObject) -> None:
    mosaic = io.open_mosaic(RGB)
    y0, x0 = data.draw(st.integers(0, 89)), data.draw(st.integers(0, 119))
    y1, x1 = data.draw(st.integers(y0 + 1, 90)), data.draw(st.integers(x0 + 1, 120))
    np.testing.assert_array_equal(mosaic.read(y0, y1, x0, x1), RGB[y0:y1, x0:x1])


# -- Zarr --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "pipeline"),
    [
        ({"zarr_format": 2}, "zarrs"),
        ({"zarr_format": 2, "dimension_separator": "/"}, "zarrs"),
        ({"zarr_format": 2, "order": "F"}, "zarr-python"),
        ({"zarr_format": 2, "dtype": ">u2"}, "zarr-python"),
        ({"zarr_format": 3}, "zarrs"),
        ({"zarr_format": 3, "dimension_names": ("y", "x")}, "zarrs"),
    ],
)
def test_bare_arrays(tmp_path: Path, options: dict, pipeline: str) -> None:
    before = zarr.config.get("codec_pipeline.path")
    path = tmp_path / "bare.zarr"
    zarr.create(store=path, shape=GRAY.shape, chunks=(128, 100), **{"dtype": "u2", **options})[:] = GRAY
    mosaic = io.open_mosaic(path)
    assert mosaic.describe()["codec_pipeline"] == pipeline
    check(mosaic, GRAY)
    assert mosaic.um_per_px is None and mosaic.source_group is None and mosaic.chunk_shape == (128, 100)
    assert zarr.config.get("codec_pipeline.path") == before


@pytest.fixture(scope="module")
def ome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return io.convert(GRAY, tmp_path_factory.mktemp("ome") / "img.ome.zarr", um_per_px=0.2)


def test_a_level_knows_its_group(ome: Path) -> None:
    io.convert(np.zeros((1500, 1200), "u1"), ome.parent / "large.ome.zarr", um_per_px=0.2)
    group = ome.parent / "large.ome.zarr"
    for source, level in ((group, 1), (group / "1", 0)):
        mosaic = io.open_mosaic(source, level=level)
        assert mosaic.shape == (750, 600) and mosaic.um_per_px == pytest.approx(0.4)
        assert mosaic.source_group == group and mosaic.ome_version == "0.5"
        assert mosaic.level_shapes == ((750, 600), (375, 300)) and mosaic.level_factors == (1, 2)
    with pytest.raises(InputError, match="use 0 to 2"):
        io.open_mosaic(group, level=3)


def test_zip_files(ome: Path) -> None:
    flat = shutil.make_archive(str(ome.parent / "flat.ome.zarr"), "zip", ome)
    nested = shutil.make_archive(str(ome.parent / "nested"), "zip", ome.parent, ome.name)
    for path in (flat, nested):
        mosaic = io.open_mosaic(path)
        check(mosaic, GRAY)
        assert mosaic.um_per_px == pytest.approx(0.2) and mosaic.source_group is None


class RangeHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:  # noqa: N802
        wanted, path = self.headers.get("Range"), Path(self.translate_path(self.path))
        if wanted is None or not path.is_file():
            return super().do_GET()
        data = path.read_bytes()
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start = int(first) if first else len(data) - int(last)
        part = data[start : int(last) + 1 if first and last else len(data)]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)
        return None


@pytest.fixture
def server(ome: Path):
    handler = functools.partial(RangeHandler, directory=str(ome.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def test_http(ome: Path, server: str) -> None:
    pytest.importorskip("aiohttp", reason="reading from http needs the extra 'remote'")
    check(io.open_mosaic(f"{server}/img.ome.zarr"), GRAY)
    shutil.make_archive(str(ome.parent / "web"), "zip", ome)
    np.testing.assert_array_equal(read(io.open_mosaic(f"zip::{server}/web.zip")), GRAY)
    with pytest.raises(MosaicNotFoundError, match=r"nothing\.zarr"):
        io.open_mosaic(f"{server}/nothing.zarr")
    with pytest.raises(MosaicError, match="only Zarr is read from URLs"):
        io.open_mosaic(f"{server}/img.tif")


def test_fsspec_memory(ome: Path) -> None:
    fsspec.filesystem("memory").put(str(ome), "/bucket/img.ome.zarr", recursive=True)
    mosaic = io.open_mosaic("memory://bucket/img.ome.zarr")
    check(mosaic, GRAY)
    assert mosaic.um_per_px == pytest.approx(0.2) and mosaic.source_group is None
    for url in ("memory://bucket/none.zarr", "nosuchprotocol://a/b.zarr", "http://127.0.0.1:1/x.zarr"):
        with pytest.raises((MosaicNotFoundError, MosaicError), match=url.partition(":")[0]):
            io.open_mosaic(url)


def test_s3(ome: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moto = pytest.importorskip("moto.server", reason="the S3 test needs moto[server] (extra 'test')")
    s3fs = pytest.importorskip("s3fs", reason="reading from S3 needs the extra 'remote'")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    serving = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    serving.start()
    try:
        host, port = serving.get_host_and_port()
        options = {"client_kwargs": {"endpoint_url": f"http://{host}:{port}"}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of botocore, about dates
            files = s3fs.S3FileSystem(**options, skip_instance_cache=True)
            files.mkdir("mosaics")
            files.put(str(ome), "mosaics/img.ome.zarr", recursive=True)
            check(io.open_mosaic("s3://mosaics/img.ome.zarr", storage_options=options), GRAY)
    finally:
        serving.stop()


def five_dimensional(path: Path, omero: dict | None, dtype: str = "u1", channels: int = 3) -> np.ndarray:
    """Write a 0.5 image of axes t, c, z, y, x with nm and one anisotropic axis to spare."""
    data = RNG.integers(0, 200, (2, channels, 4, 40, 50)).astype(dtype)
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.create_array("s0", shape=data.shape, chunks=(1, 1, 1, 32, 32), dtype=dtype)[:] = data
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    scale = {"type": "scale", "scale": [1, 1, 500, 250, 250]}
    entry = {"axes": axes, "datasets": [{"path": "s0", "coordinateTransformations": [scale]}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [entry], **({} if omero is None else {"omero": omero})}
    return data


def test_axes_channels_and_units_of_ome_zarr(tmp_path: Path) -> None:
    path = tmp_path / "five.zarr"
    data = five_dimensional(path, {"channels": [{"label": name, "color": "FFFFFF"} for name in ("bf", "df", "pol")]})
    with pytest.raises(InputError, match=r"t 2, c 3, z 4, y 40, x 50.*\['bf', 'df', 'pol'\]"):
        io.open_mosaic(path, plane={"t": 0, "z": 0})
    with pytest.raises(InputError, match="plane="):
        io.open_mosaic(path, channel=0)
    mosaic = io.open_mosaic(path, plane={"t": 1, "z": 2}, channel="df")
    check(mosaic, data[1, 1, 2])
    assert mosaic.um_per_px == pytest.approx(0.25) and mosaic.unit_source == "OME-Zarr scale"
    colours = io.open_mosaic(path, plane={"t": 1, "z": 2}, channel="rgb")
    assert colours.rgb
    check(colours, data[1, :, 2].transpose(1, 2, 0))
    with pytest.raises(InputError, match="'xx'"):
        io.open_mosaic(path, plane={"t": 1, "z": 2}, channel="xx")
    described = io.describe(path)
    assert "no plane" not in described["choose"] or described["described"]


def test_colours_of_ome_zarr_are_recognised(tmp_path: Path) -> None:
    five_dimensional(tmp_path / "plain.zarr", None)
    assert io.open_mosaic(tmp_path / "plain.zarr", plane={"t": 0, "z": 0}).rgb  # three uint8 channels, nothing said
    five_dimensional(tmp_path / "deep.zarr", None, "u2")
    with pytest.raises(InputError, match='channel="rgb"'):
        io.open_mosaic(tmp_path / "deep.zarr", plane={"t": 0, "z": 0})
    assert io.open_mosaic(io.convert(RGB, tmp_path / "rgb.ome.zarr")).rgb


def test_pixels_that_are_not_square_are_refused(ome: Path, tmp_path: Path) -> None:
    path = shutil.copytree(ome, tmp_path / "long.ome.zarr")
    group = zarr.open_group(path, mode="r+")
    value = group.attrs["ome"]
    value["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"] = [0.2, 0.25]
    group.attrs["ome"] = value
    with pytest.raises(MosaicError, match="square pixels"):
        io.open_mosaic(path)


def test_groups_that_are_no_image(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    group.create_array("foo", shape=(4, 4), dtype="u1")
    with pytest.raises(MosaicError, match=r"'foo'.*g\.zarr/foo"):
        io.open_mosaic(tmp_path / "g.zarr")
    group.attrs["ome"] = {"version": "0.6", "multiscales": [{}]}
    with pytest.raises(MosaicError, match=r"0\.4 and 0\.5"):
        io.open_mosaic(tmp_path / "g.zarr")
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": 3}]}
    with pytest.raises(MosaicError, match="breaks the OME-Zarr specification"):
        io.open_mosaic(tmp_path / "g.zarr")
    (tmp_path / "g.zarr" / "zarr.json").write_text("{")
    with pytest.raises(MosaicError, match="cannot be opened as Zarr"):
        io.open_mosaic(tmp_path / "g.zarr")


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "folder"])
def test_damaged_shards_are_named(ome: Path, tmp_path: Path, damage: str) -> None:
    path = shutil.copytree(ome, tmp_path / "bad.ome.zarr")
    shard = path / "0" / "c" / "0" / "0"
    data = bytearray(shard.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    shard.write_bytes({"flip": data, "cut": data[: len(data) // 2], "empty": b""}.get(damage, data))
    if damage == "folder":
        shard.unlink()
        shard.mkdir()
    mosaic = io.open_mosaic(path)
    with pytest.raises(MosaicError, match=r"chunk \(0, 0\)") as caught:
        read(mosaic)
    assert "bad.ome.zarr" in str(caught.value.place) and "array '0'" in str(caught.value.place)


def test_every_flipped_byte_is_caught_even_in_part_of_a_chunk(ome: Path, tmp_path: Path) -> None:
    path = shutil.copytree(ome, tmp_path / "flip.ome.zarr")
    shard = path / "0" / "c" / "0" / "0"
    whole = shard.read_bytes()
    mosaic = io.open_mosaic(path)
    for position in range(0, len(whole), len(whole) // 40):
        data = bytearray(whole)
        data[position] ^= 0x10
        shard.write_bytes(data)
        with pytest.raises(MosaicError):
            mosaic.read(11, 37, 5, 301)


def test_a_damaged_index_without_checksum_does_not_end_the_process(tmp_path: Path) -> None:
    codecs = zarr.codecs
    sharded = codecs.ShardingCodec(
        chunk_shape=(64, 64), codecs=[codecs.BytesCodec(), codecs.ZstdCodec()], index_codecs=[codecs.BytesCodec()]
    )
    array = zarr.create_array(
        tmp_path / "s.zarr", shape=(128, 128), dtype="u1", chunks=(128, 128), serializer=sharded, compressors=None
    )
    array[:] = pixels = np.arange(128 * 128, dtype=np.uint8).reshape(128, 128)
    check(io.open_mosaic(tmp_path / "s.zarr"), pixels)
    shard = tmp_path / "s.zarr" / "c" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[-56:-48] = (2**44).to_bytes(8, "little")  # the size of the first chunk: 16 TiB
    shard.write_bytes(content)
    with pytest.raises((MosaicError, MemoryError)):
        io.open_mosaic(tmp_path / "s.zarr").read(0, 10, 0, 10)


def test_missing_chunks_are_fill_values_and_a_missing_disk_is_an_error(ome: Path, tmp_path: Path) -> None:
    path = shutil.copytree(ome, tmp_path / "gone.ome.zarr")
    mosaic = io.open_mosaic(path)
    (path / "0" / "c" / "0" / "0").unlink()
    assert not read(mosaic).any()
    shutil.rmtree(path)
    with pytest.raises(MosaicError, match="vanished"):
        read(mosaic)


def test_threads_read_the_same(ome: Path) -> None:
    mosaic = io.open_mosaic(ome)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda y: mosaic.read(y, y + 50, 0, 420), [*range(0, 300, 50)] * 3))
    np.testing.assert_array_equal(np.concatenate(parts[:6]), GRAY)


# -- pictures and files ------------------------------------------------------------------------------------------------
def test_pictures(tmp_path: Path) -> None:
    gray8 = (GRAY >> 8).astype("u1")
    for name, pixels in (("g.png", gray8), ("deep.png", GRAY), ("rgb.png", RGB)):
        (tmp_path / name).write_bytes(imagecodecs.png_encode(pixels))
        mosaic = io.open_mosaic(tmp_path / name)
        check(mosaic, pixels)
        assert mosaic.resident_bytes == pixels.nbytes and mosaic.rgb == (pixels.ndim == 3)
    (tmp_path / "x.bmp").write_bytes(imagecodecs.bmp_encode(RGB))
    check(io.open_mosaic(tmp_path / "x.bmp"), RGB)
    coded = imagecodecs.jpeg8_encode(gray8, level=90)
    (tmp_path / "x.jpg").write_bytes(coded)
    check(io.open_mosaic(tmp_path / "x.jpg"), imagecodecs.jpeg8_decode(coded))
    (tmp_path / "cut.jpg").write_bytes(coded[: len(coded) // 2])
    (tmp_path / "cut.png").write_bytes((tmp_path / "g.png").read_bytes()[:2000])
    for name in ("cut.jpg", "cut.png"):
        with pytest.raises(MosaicError, match=name):
            io.open_mosaic(tmp_path / name)


def test_pictures_with_alpha_palette_and_one_bit(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="these pictures are drawn with Pillow, which scikit-image brings")
    alpha = np.dstack([RGB, np.full(RGB.shape[:2], 255, "u1")])
    image.fromarray(alpha).save(tmp_path / "a.png")
    check(io.open_mosaic(tmp_path / "a.png"), RGB)
    alpha[3, 4, 3] = 0
    image.fromarray(alpha).save(tmp_path / "a.png")
    with pytest.raises(MosaicError, match=r"a\.png: .* alpha .* channel=0 \(1 or 2\)$"):
        io.open_mosaic(tmp_path / "a.png")
    image.fromarray(alpha[..., 2:]).save(tmp_path / "g.png")  # gray
    with pytest.raises(MosaicError, match=r"g\.png: .* alpha .* channel=0$"):
        io.open_mosaic(tmp_path / "g.png")
    paletted = image.fromarray(RGB).convert("P")
    paletted.save(tmp_path / "p.png")
    check(io.open_mosaic(tmp_path / "p.png"), np.asarray(paletted.convert("RGB")))
    bits = image.fromarray(RGB).convert("1")
    bits.save(tmp_path / "b.png")
    check(io.open_mosaic(tmp_path / "b.png"), np.asarray(bits) * np.uint8(255))


@pytest.mark.parametrize("place", [18, 22])
def test_a_bmp_that_is_shorter_than_its_header_says_does_not_end_the_process(tmp_path: Path, place: int) -> None:
    content = bytearray(imagecodecs.bmp_encode(RGB))
    (tmp_path / "b.bmp").write_bytes(content)
    check(io.open_mosaic(tmp_path / "b.bmp"), RGB)
    content[place + 2] = 16  # a million px
    (tmp_path / "b.bmp").write_bytes(content)
    with pytest.raises(MosaicError, match="its header says"):
        io.open_mosaic(tmp_path / "b.bmp")


def test_files_that_are_no_mosaic(tmp_path: Path) -> None:
    for name, content in (("e.tif", b""), ("t.txt", b"hello"), ("z.zip", b"PK34"), ("p.png", b"\x89PNG\r\n\x1a\nxx")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MosaicError, match=name):
            io.open_mosaic(tmp_path / name)
    with pytest.raises(MosaicNotFoundError, match="does not exist"):
        io.open_mosaic(tmp_path / "none.tif")
    with pytest.raises(InputError, match="path of the mosaic is empty"):
        io.open_mosaic("")
    with pytest.raises(MosaicError, match="without Zarr metadata"):
        io.open_mosaic(tmp_path)


def test_fingerprints_tell_sources_apart(tmp_path: Path, ome: Path) -> None:
    changed = GRAY.copy()
    changed[0, 0] += 1
    assert io.open_mosaic(GRAY).fingerprint() != io.open_mosaic(changed).fingerprint()
    path = tmp_path / "g.png"
    path.write_bytes(imagecodecs.png_encode(RGB))
    first = io.open_mosaic(path).fingerprint()
    assert first != io.open_mosaic(path, channel=1).fingerprint()
    path.write_bytes(imagecodecs.png_encode(RGB[::-1].copy()))
    assert first != io.open_mosaic(path).fingerprint()
    assert io.open_mosaic(ome).fingerprint() != io.open_mosaic(ome, crop_bar=3).fingerprint()


def test_planes_and_channels_of_dask_arrays_are_told_apart() -> None:
    stack, colours = dask.array.from_array(np.stack([GRAY, GRAY + 1])), dask.array.from_array(RGB)
    choices = [io.open_mosaic(stack, plane=plane) for plane in (0, 1)]
    choices += [io.open_mosaic(colours, channel=channel) for channel in (None, 0, 1)]
    identities = [json.dumps(mosaic.fingerprint()) for mosaic in choices]
    assert len(set(identities)) == len(choices)
    assert io.open_mosaic(stack, plane={"z": 1}).fingerprint() == choices[1].fingerprint()


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            lambda block: block.astype("u1"),
            r"rows 40:50, columns 5:15 are uint16 of .* computes uint8 of shape \(10, 10\)",
        ),
        (lambda block: block / 65535, "computes float64"),
        (lambda block: block[1:], r"computes uint16 of shape \(9, 10\)"),
    ],
)
def test_a_dask_array_that_computes_something_else_than_it_says_is_refused(function, words: str) -> None:
    array = dask.array.from_array(GRAY, chunks=50).map_blocks(function, dtype="u2", meta=np.empty((0, 0), "u2"))
    with io.open_mosaic(array) as mosaic, pytest.raises(InputError, match=words):
        mosaic.read(40, 50, 5, 15)


@pytest.mark.parametrize("dtype", [">u2", "f2", "f4", "f8", "?"])
def test_a_dask_array_may_compute_what_is_read_alike(dtype: str) -> None:
    array = dask.array.from_array(
        GRAY > 9 if dtype == "?" else GRAY / np.float32(65535) if "f" in dtype else GRAY, chunks=50
    )
    said = array.map_blocks(lambda block: block.astype(dtype), dtype=array.dtype)
    expected = io.open_mosaic(array.astype(dtype).compute()).read(0, 10, 5, 15)
    assert np.array_equal(io.open_mosaic(said).read(0, 10, 5, 15), expected)


def test_a_dask_array_of_unknown_shape_is_refused() -> None:
    array = dask.array.from_array(GRAY, chunks=100)
    with pytest.raises(InputError, match="compute_chunk_sizes"):
        io.open_mosaic(array[array[:, 0] > 9])


def test_a_masked_array_is_refused() -> None:
    for masked in (np.ma.masked_less(GRAY, 9), dask.array.ma.masked_less(dask.array.from_array(GRAY), 9)):
        with pytest.raises(InputError, match=r"its mask would be lost; fill it first"):
            io.open_mosaic(masked)
    filled = dask.array.ma.filled(masked, 0)
    assert np.array_equal(io.open_mosaic(filled).read(0, 300, 0, 420), np.where(GRAY < 9, 0, GRAY))


def test_choices_may_be_integers_of_numpy(tmp_path: Path) -> None:
    stack = np.stack([GRAY, GRAY + 1])
    for name, axes in (("stack", ("z", "y", "x")), ("colours", ("c", "y", "x"))):
        zarr.create_array(tmp_path / f"{name}.zarr", data=stack, dimension_names=axes)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    (tmp_path / "rgb.png").write_bytes(imagecodecs.png_encode(RGB))
    one = np.int64(1)
    for name in ("stack.zarr", "stack.tif"):
        for plane in (one, {"z": one} if name == "stack.zarr" else one):
            check(io.open_mosaic(tmp_path / name, plane=plane), stack[1])
    check(io.open_mosaic(tmp_path / "rgb.png", channel=one), RGB[..., 1])
    check(io.open_mosaic(tmp_path / "colours.zarr", channel=one), stack[1])
    check(io.open_mosaic(tmp_path / "colours.zarr", channel=list(np.arange(2))), stack.transpose(1, 2, 0))
    check(io.open_mosaic(tmp_path / "colours.zarr", channel=np.arange(2)), stack.transpose(1, 2, 0))
    check(io.open_mosaic(GRAY, crop_bar=np.int64(7)), GRAY[:-7])


@pytest.mark.parametrize(
    "choice",
    [
        *({"plane": one} for one in (1.0, True, "1", [1], {"z": 1.5}, {"z": None})),
        *({"channel": one} for one in (1.0, True, {0: 1}, [[0]])),
        *({"level": one} for one in (0.0, None, "0")),
        *({"crop_bar": one} for one in (20.0, True, "20", (1, 2, 3), (1.0, 2.0))),
    ],
    ids=str,
)
def test_choices_of_another_type_are_refused_and_not_rounded(choice: dict) -> None:
    with pytest.raises(InputError, match=f"{next(iter(choice))}="):
        io.open_mosaic(np.zeros((5, 30, 40), np.uint8), **{"plane": 0, **choice})
