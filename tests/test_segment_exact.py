"""Tiled labels equal those of one pass over the whole image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import Phase, given
from hypothesis import strategies as st

import bainite_fast
from bainite_fast import kernels
from bainite_fast.geometry import scaled_shape
from bainite_fast.models import save_package
from bainite_fast.segmentation import planner
from property_helpers import examples
from segment_helpers import assert_exact, save_small_package, small_unet, small_vgg16_unet, whole_logits

NETS = {
    "unet-2": {"depth": 2},
    "unet-1-k5": {"depth": 1, "kernel": 5},
    "unet-3": {"depth": 3, "base": 2},
    "unet-4": {"depth": 4, "base": 2},
    "one-class": {"depth": 1, "classes": 1},
    "four-classes": {"depth": 2, "classes": 4},
    "rgb": {"depth": 1, "in_channels": 3},
    "winograd": {"depth": 2, "base": 16},  # wide enough for Winograd's convolutions
    "vgg16": {"base": 2},
}


@pytest.fixture(scope="module")
def nets():
    return {name: _make(name, seed=k, **options) for k, (name, options) in enumerate(NETS.items())}


def _make(name, **options):
    return (small_vgg16_unet if name.startswith("vgg16") else small_unet)(**options)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Make blocks of 192 px, so that small images have many."""
    monkeypatch.setattr(planner, "_CHUNK", 96)
    monkeypatch.setattr(planner, "_BLOCKS", (192,))


def _texture(shape, channels=1, dtype=np.uint8, seed=0):
    """Return smooth noise: contrast at every scale that a receptive field sees."""
    rng = np.random.default_rng(seed)
    size = (*shape, channels) if channels > 1 else shape
    noise = sum(
        np.kron(
            rng.random([-(-n // 2**k) for n in shape] + list(size[2:])), np.ones([2**k, 2**k] + [1] * len(size[2:]))
        )[: shape[0], : shape[1]]
        for k in range(4)
    )
    values = noise / 4
    if dtype == np.float32:
        return values.astype(np.float32)
    return (values * np.iinfo(dtype).max).astype(dtype)


def _segment(image, net, folder, **options):
    options = {"precision": "float32", "progress": False, **options}
    return bainite_fast.segment(image, net, out=folder / "out.ome.zarr", **options)


@pytest.fixture(scope="module", params=sorted(NETS))
def package(request, nets, tmp_path_factory):
    """Save each network in turn as a package: a file is compiled once for all mosaics, and a module for every one."""
    net, options = nets[request.param], NETS[request.param]
    channels = options.get("in_channels", 1)
    shape = (64, 64, channels) if channels > 1 else (64, 64)
    path = save_package(
        net, tmp_path_factory.mktemp("package") / request.param, um_per_px=None,
        classes=[f"class {k}" for k in range(max(2, options.get("classes", 2)))],
        test_input=np.random.default_rng(0).integers(0, 256, shape, np.uint8),
    )  # fmt: skip
    return path, net, channels


# A failing case is reported as it comes: shrinking would run the network for minutes.
@examples(7, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    shape=st.tuples(st.integers(1, 420), st.integers(1, 420)),
    tile=st.integers(1, 12),
    edge=st.sampled_from(["mirror", "native"]),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    seed=st.integers(0, 99),
)
def test_any_shape_tile_and_edge(package, tmp_path_factory, shape, tile, edge, dtype, seed):
    path, net, channels = package
    image = _texture(shape, channels, dtype, seed)
    stride = net.multiple
    seg = _segment(image, path, tmp_path_factory.mktemp("exact"), tile=tile * stride, edge=edge)
    assert (seg.plan.stride, seg.plan.tile, seg.plan.edge) == (stride, tile * stride, edge)
    logits = whole_logits(net, image, halo=seg.plan.halo, stride=stride, edge=edge)
    assert_exact(np.asarray(seg.labels), logits)
    classes, pixels = np.unique(np.asarray(seg.labels), return_counts=True)
    assert [list(seg.counts.values())[k] for k in classes] == pixels.tolist()


@pytest.mark.parametrize("shape", [(1, 1), (1, 1700), (2311, 3), (1203, 1777)])
def test_planned_tile_and_real_blocks(nets, tmp_path, monkeypatch, shape):
    monkeypatch.undo()
    image = _texture(shape, seed=5)
    seg = _segment(image, nets["unet-4"], tmp_path, memory="3GiB")
    assert_exact(np.asarray(seg.labels), whole_logits(nets["unet-4"], image, halo=seg.plan.halo, stride=16))


@pytest.mark.parametrize(("base", "tile", "edge"), [(2, 16, "mirror"), (2, 96, "native"), (16, 112, "mirror")])
def test_the_vgg16_unet_is_exact(tmp_path, base, tile, edge):
    """Bilinear upsampling, three convolutions a level, and base 16 through Winograd's."""
    net = small_vgg16_unet(base=base, seed=3)
    image = _texture((331, 250), seed=6)
    apart = np.diff(whole_logits(net, image, halo=144, stride=16, edge=edge), axis=0)
    net.head.bias.data[1] -= float(np.median(apart))  # as many pixels of one class as of the other
    save_small_package(net, tmp_path / "package")
    seg = _segment(image, tmp_path / "package", tmp_path, tile=tile, edge=edge, scale="as-is")
    assert (seg.plan.stride, seg.plan.halo, seg.plan.tile) == (16, 144, tile)
    logits = whole_logits(net, image, halo=144, stride=16, edge=edge)
    assert_exact(np.asarray(seg.labels), logits)
    assert min(seg.counts.values()) > 0.4 * image.size


def test_halo_is_needed(nets, tmp_path):
    """The check can fail: without a halo, labels differ."""
    image = _texture((300, 300), seed=3)
    seg = _segment(image, nets["unet-2"], tmp_path, tile=32)
    logits = whole_logits(nets["unet-2"], image, halo=seg.plan.halo, stride=4)
    pieces = kernels.tile_image(image, 32)
    with torch.inference_mode():
        alone = nets["unet-2"](torch.from_numpy(pieces[:, None].astype(np.float32) / 255)).argmax(1).numpy()
    with pytest.raises(AssertionError, match="labels differ"):
        assert_exact(kernels.stitch_tiles(alone.astype(np.uint8), image.shape, 32), logits)


def test_workers_and_batches_give_the_same_bytes(nets, tmp_path, monkeypatch):
    image = _texture((500, 410), seed=1)
    results = []
    for workers in (1, 2, 3):
        monkeypatch.setattr(kernels, "get_num_threads", lambda workers=workers: workers)
        (tmp_path / str(workers)).mkdir()
        seg = _segment(image, nets["unet-2"], tmp_path / str(workers), tile=64, confidence=True)
        assert seg.plan.workers == workers
        results.append((np.asarray(seg.labels).tobytes(), np.asarray(seg.confidence).tobytes()))
    assert results[0] == results[1] == results[2]


def test_confidence_is_the_softmax_of_the_winner(nets, tmp_path):
    image = _texture((150, 170), seed=2)
    net = nets["four-classes"]
    seg = _segment(image, net, tmp_path, confidence=True)
    logits = torch.from_numpy(whole_logits(net, image, halo=seg.plan.halo, stride=4).copy())
    expected = 255 * torch.softmax(logits.double(), 0).amax(0).numpy()
    assert np.abs(np.asarray(seg.confidence).astype(float) - expected).max() <= 1


def test_a_temperature_changes_the_confidence_and_no_label(nets, tmp_path):
    image = _texture((150, 170), seed=2)
    net = nets["unet-2"]
    runs = {}
    for temperature in (None, 2.5, 0.01):
        package, out = tmp_path / f"{temperature}", tmp_path / f"{temperature}-run"
        save_small_package(net, package, temperature=temperature)
        out.mkdir()
        runs[temperature] = _segment(image, package, out, confidence=True, scale="as-is")
    plain, calibrated, sharp = runs.values()
    logits = torch.from_numpy(whole_logits(net, image, halo=plain.plan.halo, stride=4).copy())
    expected = 255 * torch.softmax(logits.double() / 2.5, 0).amax(0).numpy()
    assert np.abs(np.asarray(calibrated.confidence).astype(float) - expected).max() <= 1
    assert np.asarray(sharp.confidence).mean() > np.asarray(plain.confidence).mean() > expected.mean()
    assert np.array_equal(plain.labels, calibrated.labels)
    assert np.array_equal(plain.labels, sharp.labels)


@pytest.mark.parametrize("factor", [0.5, 0.7391, 1.62])
@pytest.mark.parametrize("edge", ["mirror", "native"])
def test_resampled_run_equals_the_untiled_one(nets, tmp_path, factor, edge):
    image = _texture((391, 507), seed=4)
    net = nets["unet-2"]
    # A bare module has no scale of its own: save it as a package that has.
    package = tmp_path / "package"
    save_small_package(net, package)
    seg = _segment(image, package, tmp_path, tile=40, edge=edge, scale=0.1 * factor)
    grid = scaled_shape(image.shape, 0.1 * factor / 0.1)
    assert seg.plan.grid == grid != seg.plan.shape
    resampled = kernels.resample(image, grid) / 255
    logits = whole_logits(net, resampled.astype(np.float32), halo=seg.plan.halo, stride=4, edge=edge)
    index = [((2 * np.arange(n) + 1) * m) // (2 * n) for n, m in zip(image.shape, grid, strict=True)]
    assert_exact(np.asarray(seg.labels), logits[:, index[0]][:, :, index[1]])


def test_real_micrographs_are_exact(nets, tmp_path, data_dir):
    for k, path in enumerate(sorted((data_dir / "uhcs" / "images").iterdir())[:3]):
        with bainite_fast.io.open_mosaic(path) as mosaic:
            image = mosaic.read(0, mosaic.shape[0], 0, mosaic.shape[1])
        image = image if image.ndim == 2 else np.rint(image @ [0.299, 0.587, 0.114]).astype(np.uint8)
        (tmp_path / str(k)).mkdir()
        seg = _segment(image, nets["unet-4"], tmp_path / str(k), tile=128)
        assert_exact(np.asarray(seg.labels), whole_logits(nets["unet-4"], image, halo=seg.plan.halo, stride=16))
