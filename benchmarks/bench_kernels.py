"""Kernels against a plain copy of the same bytes, and against NumPy: ratios of one run.

A kernel and its yardstick take turns, round after round, on one thread each and on buffers of the same kind; the ratio
is the median over rounds. A copy "of the same bytes" moves as many bytes in all (read plus written) as the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from bainite_fast import kernels
from timing import in_turn, save

ROUNDS = 9
SIDE = 8192
RNG = np.random.default_rng(0)
ROWS: list[dict[str, Any]] = []


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """Write the table of all measurements at the end."""
    yield
    if ROWS:
        save("kernels", ROWS, "Kernels on one thread and on all, against a yardstick on one thread.")


@pytest.fixture(scope="module")
def image() -> Any:
    return RNG.integers(0, 255, (SIDE, SIDE), np.uint8)


def measure(benchmark: Any, name: str, pixels: int, yardstick: Callable[[], Any], kernel: Callable[[int], Any]) -> None:
    """Add a row: the kernel on one thread and on all, as multiples of the yardstick's speed."""
    times = in_turn({"yardstick": yardstick, "one": lambda: kernel(1), "all": lambda: kernel(0)}, ROUNDS)
    row = {
        "kernel": name,
        "Mpx/s, 1 thread": round(pixels / times.median("one") / 1e6),
        "Mpx/s, all": round(pixels / times.median("all") / 1e6),
        "× yardstick, 1 thread": round(times.ratio("yardstick", "one"), 2),
        "× yardstick, all": round(times.ratio("yardstick", "all"), 2),
    }
    ROWS.append(row)
    benchmark.extra_info.update(row)
    benchmark.pedantic(lambda: kernel(0), rounds=3)


def copier(total_bytes: int) -> Callable[[], None]:
    """Return a warm copy that reads and writes `total_bytes` in all."""
    source = np.ones(total_bytes // 2, np.uint8)
    target = np.empty_like(source)
    target.fill(2)
    return lambda: np.copyto(target, source)


@pytest.mark.parametrize(("tile", "halo"), [(256, 0), (512, 0), (1024, 96), (100, 0)])
def test_tile_image(benchmark: Any, image: Any, tile: int, halo: int) -> None:
    large = np.tile(image, (2, 2))  # 256 MiB, into memory as fresh as the copy's
    source = np.ones(kernels.tile_image(large, tile, halo=halo).shape, np.uint8)
    measure(
        benchmark,
        f"tile_image {tile} + 2·{halo}, uint8 (copy)",
        source.size,
        source.copy,
        lambda threads: kernels.tile_image(large, tile, halo=halo, threads=threads),
    )


@pytest.mark.parametrize("tile", [256, 1024])
def test_stitch_tiles(benchmark: Any, image: Any, tile: int) -> None:
    large = np.tile(image, (2, 2))
    tiles = kernels.tile_image(large, tile)
    measure(
        benchmark,
        f"stitch_tiles {tile}, uint8 (copy)",
        tiles.size,
        tiles.copy,
        lambda threads: kernels.stitch_tiles(tiles, large.shape, tile, threads=threads),
    )


@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize(("source", "target"), [("uint8", "float32"), ("uint16", "float32"), ("uint8", "float16")])
def test_gather(benchmark: Any, image: Any, batch: int, source: str, target: str) -> None:
    region = image[:4608, :4608].astype(source)
    core, halo = 1024, 96
    side = int(batch**0.5)
    corners = [(y * core - halo, x * core - halo) for y in range(side) for x in range(side)]
    out = np.zeros((batch, 1, core + 2 * halo, core + 2 * halo), target)
    measure(
        benchmark,
        f"gather {batch} × 1216², {source} → {target} (copy of the same bytes)",
        out.size,
        copier(out.size * (region.itemsize + out.itemsize)),
        lambda threads: kernels.gather(
            region, out, origin=(0, 0), image_shape=region.shape, tiles=corners, gain=1 / 255, threads=threads
        ),
    )


@pytest.mark.parametrize("confidence", [False, True])
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_scatter(benchmark: Any, classes: int, confidence: bool) -> None:
    side = 2048
    logits = RNG.standard_normal((1, classes, side + 192, side + 192), np.float32)
    labels, sure = np.empty((2, side, side), np.uint8)
    crops = [(96, 96, side, side, 0, 0)]
    cropped = logits[0, :, 96:-96, 96:-96]

    def with_numpy() -> None:
        np.copyto(labels, cropped.argmax(0).astype(np.uint8))

    measure(
        benchmark,
        f"scatter {classes} classes, float32{', confidence' * confidence} (numpy.argmax)",
        labels.size,
        with_numpy,
        lambda threads: kernels.scatter(
            logits, labels, crops=crops, confidence=sure if confidence else None, threads=threads
        ),
    )


@pytest.mark.parametrize("labels", ["noise", "patches"])
@pytest.mark.parametrize("classes", [2, 4, 8, 64])
def test_confusion_matrix(benchmark: Any, classes: int, labels: str) -> None:
    truth, pred = RNG.integers(0, classes, (2, 4096, 4096)).astype(np.uint8)
    if labels == "patches":
        truth, pred = (np.kron(a[:32, :32], np.ones((128, 128), np.uint8)) for a in (truth, pred))
    wide = np.uint8 if classes <= 15 else np.int64  # the narrowest type that holds truth * k + pred: NumPy's best

    def with_numpy() -> None:
        np.bincount((truth.astype(wide) * wide(classes) + pred).ravel(), minlength=classes**2)

    measure(
        benchmark,
        f"confusion_matrix {classes} classes, {labels} (numpy.bincount)",
        truth.size,
        with_numpy,
        lambda threads: kernels.confusion_matrix(truth, pred, classes, threads=threads),
    )


def test_downsample_labels(benchmark: Any, image: Any) -> None:
    labels = image & 1
    measure(
        benchmark,
        "downsample_labels (copy of the labels)",
        labels.size,
        labels.copy,
        lambda threads: kernels.downsample_labels(labels, threads=threads),
    )


def test_resample(benchmark: Any, image: Any) -> None:
    from skimage.transform import resize

    region = image[:2048, :2048]
    shape = (1337, 1453)
    measure(
        benchmark,
        "resample 2048² → 1337 × 1453 (skimage resize, anti-aliased)",
        region.size,
        lambda: resize(region, shape, order=1, anti_aliasing=True, preserve_range=True),
        lambda threads: kernels.resample(region, shape, threads=threads),
    )
