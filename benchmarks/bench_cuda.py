"""The GPU against its floors: kernels against a copy, the network against matrix products, the job against both.

Run with `make gpu-bench`. Tables go to benchmarks/results/. BAINITE_FAST_GPU_GIGAPIXELS sets the size of the mosaic;
BAINITE_FAST_GPU_MOSAIC names one that is there.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bainite_fast
from bainite_fast import bench, kernels
from bainite_fast.ebsd.device import kam_on_device
from bainite_fast.kernels.orientations import kam_values
from bainite_fast.models import UNet, compile, load, save_package
from bainite_fast.models.precision import labels as labels_of
from bainite_fast.synthetic import make
from gpu import PROBLEM, copier, in_turn_on_device, ratio, save_gpu

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(PROBLEM), reason=PROBLEM or "none")]
GIGAPIXELS = float(os.environ.get("BAINITE_FAST_GPU_GIGAPIXELS", "2.0"))
TILE, HALO, ACROSS = 2048, 96, 8  # px, px, tiles: much more than a GPU caches
CORNERS = [(y * TILE, x * TILE) for y in range(ACROSS) for x in range(ACROSS)]
ROWS: list[dict[str, Any]] = []
KAM: list[dict[str, Any]] = []
JOBS: list[dict[str, Any]] = []


@pytest.fixture(scope="module", autouse=True)
def kernel_table() -> Iterator[None]:
    """Write the table of the kernels at the end."""
    yield
    if ROWS:
        save_gpu(
            "cuda_kernels", ROWS, "Kernels on the GPU against a device-to-device copy of as many bytes, read plus "
            "written: median of 9 rounds in turn. Bar: 0.85.",
        )  # fmt: skip


@pytest.fixture(scope="session")
def net() -> torch.nn.Module:
    """Return the vanilla U-Net of the paper: base 64, four levels, random weights."""
    torch.manual_seed(0)
    return UNet(base=64).eval()


@pytest.fixture(scope="session")
def package(net: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = make((512, 512), preset="lom", seed=11)[0]
    folder = tmp_path_factory.mktemp("model") / "package"
    return save_package(net, folder, classes=("other", "lath bainite"), test_input=image[:256, :256].copy())


@pytest.fixture(scope="session")
def mosaic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("BAINITE_FAST_GPU_MOSAIC")
    return Path(given) if given else bench.draw(tmp_path_factory.mktemp("mosaic") / "mosaic.ome.zarr", GIGAPIXELS)


def against_copy(name: str, moved: int, kernel: Callable[[], Any]) -> None:
    seconds = in_turn_on_device({"copy": copier(moved), "kernel": kernel})
    share = ratio(seconds, "copy", "kernel")
    ROWS.append(
        {
            "kernel": name,
            "GB/s": round(moved / statistics.median(seconds["kernel"]) / 1e9),
            "copy, GB/s": round(moved / statistics.median(seconds["copy"]) / 1e9),
            "× copy": round(share, 3),
        }
    )


def random_bytes(*shape: int, top: int = 256) -> torch.Tensor:
    return torch.randint(0, top, shape, dtype=torch.uint8, device="cuda")


def label_image(side: int, classes: int, kind: str) -> torch.Tensor:
    """Return labels that are noise or patches of 32 x 32 px; band by band, none of more than 2^31 px."""
    image = torch.empty((side, side), dtype=torch.uint8, device="cuda")
    for band in image.chunk(8):
        if kind == "noise":
            band.random_(classes)
        else:
            cells = random_bytes(len(band) // 32, side // 32, top=classes)
            band.view(len(band) // 32, 32, side // 32, 32).copy_(cells[:, None, :, None])
    return image


def stream() -> Any:
    return torch.cuda.current_stream()


@pytest.mark.parametrize("target", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("source", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(("channels", "last"), [(1, False), (3, True), (3, False)])
def test_gather(source: str, target: str, channels: int, last: bool) -> None:
    edge, side = TILE + 2 * HALO, ACROSS * TILE + 2 * HALO
    region = random_bytes(side, side, channels).to(getattr(torch, source))
    shape = (len(CORNERS), channels, edge, edge)
    form = torch.channels_last if last else torch.contiguous_format
    out = torch.empty(shape, dtype=getattr(torch, target), device="cuda", memory_format=form)
    extent = (region.shape[0], region.shape[1])

    def run() -> None:
        kernels.gather(region, out, origin=(0, 0), image_shape=extent, tiles=CORNERS, gain=1 / 255, stream=stream())

    moved = out.numel() * (region.element_size() + out.element_size())
    against_copy(f"gather {source} → {target}, {channels} ch, {'NHWC' if last else 'NCHW'}", moved, run)


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("confidence", [False, True])
def test_scatter(precision: str, classes: int, confidence: bool) -> None:
    logits = torch.randn(ACROSS**2, classes, TILE, TILE, device="cuda").to(getattr(torch, precision))
    logits = logits.contiguous(memory_format=torch.channels_last)
    labels, sure = random_bytes(2, ACROSS * TILE, ACROSS * TILE)
    bad = torch.zeros(1, dtype=torch.int64, device="cuda")
    crops = [(0, 0, TILE, TILE, y, x) for y, x in CORNERS]

    def run() -> None:
        kernels.scatter(logits, labels, crops=crops, confidence=sure if confidence else None, bad=bad, stream=stream())

    moved = logits.numel() * logits.element_size() + labels.numel() * (2 if confidence else 1)
    what = f"scatter {precision}, {classes} classes{', confidence' if confidence else ''}"
    against_copy(what, moved, run)


@pytest.mark.parametrize("kind", ["noise", "patches"])
@pytest.mark.parametrize("classes", [2, 8, 64])
def test_counts(classes: int, kind: str) -> None:
    side = 65_536  # 4 Gpx: every call waits for its counts, and is timed with that
    truth, pred = (label_image(side, classes, kind) for _ in range(2))
    moved = 2 * side * side
    for name, size, run in [
        ("confusion_matrix", moved, lambda: kernels.confusion_matrix(truth, pred, classes, stream=stream())),
        ("class_counts", moved // 2, lambda: kernels.class_counts(truth, classes, stream=stream())),
    ]:
        against_copy(f"{name}, {classes} classes, {kind}", size, run)


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "float32"])
def test_layers(precision: str) -> None:
    x, y = (torch.randn(1, 64, TILE, 2 * TILE, device="cuda").to(getattr(torch, precision)) for _ in range(2))
    x, y = (image.contiguous(memory_format=torch.channels_last) for image in (x, y))
    size = x.numel() * x.element_size()
    join, pool = torch.ops.bainite_fast.join_channels, torch.ops.bainite_fast.max_pool2x2
    against_copy(f"join_channels {precision}", 4 * size, lambda: join([x, y]))
    against_copy(f"max_pool2x2 {precision}", size + size // 4, lambda: pool(x))


def test_downsampling() -> None:
    labels = random_bytes(32_768, 32_768, top=3)
    out = random_bytes(16_384, 16_384)
    moved = labels.numel() + out.numel()
    against_copy("downsample_labels", moved, lambda: kernels.downsample_labels(labels, out=out, stream=stream()))


@pytest.mark.parametrize("order", [1, 3])
def test_kam(order: int) -> None:
    """KAM of 10 million points: ≥ 20 × the CPU's 2 threads, and within 1e-5° of it."""
    rows, columns = 2500, 4000
    rng = np.random.default_rng(0)
    quaternions = rng.standard_normal((rows // 50, columns // 50, 4)).repeat(50, 0).repeat(50, 1)
    quaternions += 0.02 * rng.standard_normal(quaternions.shape)
    quaternions = quaternions.reshape(-1, 4).astype(np.float32)
    options: dict[str, Any] = {"grid": (False, rows, columns, columns), "laue": "m-3m", "neighbourhood": 1}
    expected, found = (np.empty(rows * columns, np.float32) for _ in range(2))
    here, there = torch.from_numpy(quaternions).cuda(), torch.empty(rows * columns, device="cuda")

    def timed(action: Callable[[], Any]) -> float:
        action()
        times = []
        for _ in range(7):
            start = time.perf_counter()
            action()
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    def on_device() -> None:
        kernels.kam(here.view(rows, columns, 4), out=there.view(rows, columns), order=order, stream=stream())

    cpu = timed(lambda: kam_values(quaternions, None, expected, order=order, threads=2, **options))
    whole = timed(
        lambda: kam_on_device(quaternions, None, found, order=order, perimeter=False, max_angle=5.0, **options)
    )
    kernel = timed(on_device)
    for values in (found, there.cpu().numpy()):
        assert np.array_equal(np.isnan(values), np.isnan(expected))
    worst = max(float(np.nanmax(np.abs(x - expected))) for x in (found, there.cpu().numpy()))
    KAM.append(
        {
            "order": order,
            "CPU, 2 threads, ms": round(cpu * 1e3, 1),
            "arrays on the GPU, ms": round(kernel * 1e3, 2),
            "× CPU": round(cpu / kernel, 1),
            "from and to host memory, ms": round(whole * 1e3, 1),
            "× CPU, from host": round(cpu / whole, 1),
            "largest difference, °": f"{worst:.1e}",
        }
    )
    save_gpu("cuda_kam", KAM, "KAM of 2500 × 4000 points, float32, cubic, 8 neighbours: medians of 7. Bar: 20.")
    assert worst <= 1e-5


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_network_and_job(precision: str, package: Path, mosaic: Path, tmp_path: Path) -> None:
    """OME-Zarr to OME-Zarr: ≥ 200 Mpx/s, ≥ 40 % of the matrix rate, ≥ 90 % of the bare network."""
    values = bench.measure(
        str(mosaic), str(package), runs=3, device="cuda", precision=precision, scale="as-is", work=tmp_path
    ).values
    network, plan = values["network"], values["plan"]
    JOBS.append(
        {
            "precision": precision,
            "Gpx": round(plan["shape"][0] * plan["shape"][1] / 1e9, 2),
            "core + halo, batch": f"{plan['tile']} + 2·{plan['halo']}, {plan['batch']}",
            "job, Mpx/s": round(values["pixels_per_second"] / 1e6, 1),
            "bare network, Mpx/s": round(network["bare_pixels_per_second"] / 1e6, 1),
            "job / bare": f"{network['share_of_bare']:.1%}",
            "matrix rate, TFLOP/s": round(network["matrix_flop_per_second"] / 1e12, 1),
            "network / matrix rate": f"{network['utilisation']:.1%}",
            "job / matrix rate": f"{_job_share(values):.1%}",
            "peak GPU memory, GiB": round(values["memory"]["peak_device_bytes"] / 2**30, 2),
            "J/Gpx": round(values["joules_per_gigapixel"] or 0),
            **{f"{k} s": round(v["busy_seconds"], 3) for k, v in values["stages"].items()},
            "waited": ", ".join(f"{k} {v:.2f} s" for k, v in values["network_waited_seconds"].items() if v >= 0.005),
        }
    )
    save_gpu(
        "cuda_job", JOBS, f"Base-64 U-Net ({network['flop_per_pixel'] / 1e6:.3g} MFLOP/px), OME-Zarr to OME-Zarr, "
        "means of 3 runs. Bars: 200 Mpx/s, 40 % of the bf16 matrix rate, 90 % of the bare network on the same tiles.",
    )  # fmt: skip


def _job_share(values: dict[str, Any]) -> float:
    network = values["network"]
    return float(values["pixels_per_second"] * network["flop_per_pixel"] / network["matrix_flop_per_second"])


def test_labels_flip_in_few_pixels(net: torch.nn.Module) -> None:
    """Low precision against float32 on one large tile of synthetic steel: ≤ 0.1 % of the labels."""
    loaded = load(net)
    image = make((1024, 2048), preset="lom", seed=5)[0]
    batch = torch.from_numpy(loaded.contract.normalize(image)).to("cuda")
    full = compile(loaded, device="cuda:0")
    reference = labels_of(full.run(batch.contiguous(memory_format=torch.channels_last)))
    rows = []
    for precision in ("bfloat16", "float16"):
        low = compile(loaded, precision=precision, device="cuda:0")  # type: ignore[arg-type]
        found = labels_of(low.run(batch.to(low.torch_dtype).contiguous(memory_format=torch.channels_last)))
        rows.append({"precision": precision, "labels that flip": f"{float((found != reference).float().mean()):.4%}"})
    note = "Base-64 U-Net of random weights, whose logits are closer than a trained network's. Bar: 0.1 %."
    save_gpu("cuda_flips", rows, note)


def test_against_monai(net: torch.nn.Module, package: Path, mosaic: Path, tmp_path: Path) -> None:
    """≥ 5 × `monai.inferers.sliding_window_inference` on the GPU under autocast, the same network."""
    pytest.importorskip("monai", reason="MONAI is not installed")
    from monai.inferers import sliding_window_inference

    side = 4096
    image = torch.from_numpy(np.tile(make((1024, 1024), preset="lom", seed=3)[0], (4, 4)))[None, None]
    network = net.to("cuda")

    def peer(roi: int) -> None:
        with torch.inference_mode(), torch.autocast("cuda", dtype=torch.bfloat16):
            logits = sliding_window_inference(image.to("cuda").float().div(255), roi, 4, network, overlap=0.25)
            logits.argmax(1).to(torch.uint8).cpu().numpy()

    rates: dict[str, float] = {}
    try:
        for roi in (512, 1024):
            peer(roi)
            start = time.perf_counter()
            peer(roi)
            rates[f"MONAI, roi {roi}, overlap 0.25, autocast bf16"] = side**2 / (time.perf_counter() - start)
    finally:
        net.to("cpu")
    out, options = tmp_path / "out.ome.zarr", {"device": "cuda", "precision": "bfloat16", "scale": "as-is"}
    for _ in range(2):
        seg = bainite_fast.segment(mosaic, package, out=out, overwrite=True, progress=False, **options)  # type: ignore[arg-type]
    rates["job, OME-Zarr to OME-Zarr"] = seg.pixels_per_second
    rows = [
        {"what": name, "Mpx/s": round(rate / 1e6, 2), "the job is faster by": round(seg.pixels_per_second / rate, 2)}
        for name, rate in rates.items()
    ]
    save_gpu("cuda_peers", rows, f"Base-64 U-Net. MONAI from and to host memory, {side}² px. Bar: 5.")
