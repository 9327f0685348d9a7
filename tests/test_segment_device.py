"""The network on a device, without one: streams, slots, memory that runs out, and decisions that are kept."""

from __future__ import annotations

import contextlib
import json
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import bainite_fast
from bainite_fast import kernels
from bainite_fast.errors import BainiteWarning, BudgetError, DeviceError, InputError, ModelError
from bainite_fast.models import device as models_device
from bainite_fast.segmentation import engine
from bainite_fast.segmentation.device import SLOTS
from bainite_fast.segmentation.device_planner import DeviceBudget, make_device_plan
from bainite_fast.segmentation.journal import Journal
from bainite_fast.segmentation.planner import Budget, Demand, Fixed
from fake_device import FakeBackend, fake_device, small_blocks  # noqa: F401 - fixtures
from segment_helpers import small_unet


def _image(shape, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    top = 1.0 if dtype == np.float32 else np.iinfo(dtype).max
    coarse = rng.random((shape[0] // 4 + 1, shape[1] // 4 + 1, *shape[2:]))
    return (np.kron(coarse, np.ones((4, 4, *[1] * len(shape[2:])))) * top)[: shape[0], : shape[1]].astype(dtype)


def _run(image, net, out, **options):
    return bainite_fast.segment(
        image, net, out=out, progress=False, **{"precision": "float32", "tile": 64, "scale": "as-is", **options}
    )


@pytest.mark.parametrize(
    ("shape", "dtype", "options"),
    [
        ((300, 410), np.uint8, {}),
        ((300, 410), np.uint16, {"confidence": True}),
        ((131, 262), np.float32, {"edge": "native"}),
        ((150, 140, 3), np.uint8, {"confidence": True}),
        ((40, 30), np.uint8, {}),
    ],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_device_gives_the_labels_of_the_cpu(small_blocks, fake_device, tmp_path, shape, dtype, options, seed):
    image, net = _image(shape, dtype, seed), small_unet(depth=2, in_channels=3 if len(shape) == 3 else 1)
    cpu = _run(image, net, tmp_path / "cpu.ome.zarr", device="cpu", **options)
    made = fake_device(seed=seed)
    found = _run(image, net, tmp_path / "device.ome.zarr", device="cuda", **options)
    assert found.plan.device == "cuda"
    assert found.counts == cpu.counts
    assert np.array_equal(found.labels, cpu.labels)
    if "confidence" in options:
        assert np.array_equal(found.confidence, cpu.confidence)
    assert {"read", "upload", "gather", "network", "scatter", "download", "write"} <= found.stages.keys()
    (backend,) = made
    assert backend.prepared == [(found.plan.batch, *[64 + 2 * found.plan.halo] * 2)]
    assert found.provenance["plan"]["device"] == "cuda"


def test_a_mosaic_of_another_scale(small_blocks, fake_device, tmp_path):
    from segment_helpers import save_small_package

    package = save_small_package(small_unet(depth=2), tmp_path / "package", um_per_px=0.1)
    image = _image((260, 330))
    cpu = _run(image, package, tmp_path / "cpu.ome.zarr", device="cpu", scale=0.15)
    fake_device()
    found = _run(image, package, tmp_path / "device.ome.zarr", device="cuda", scale=0.15)
    assert found.plan.scaled
    assert np.array_equal(found.labels, cpu.labels)


def test_the_streams_need_their_marks(small_blocks, fake_device, tmp_path, monkeypatch):
    """The fake device punishes what a real one would: without the waits the labels are wrong."""
    image, net = _image((300, 410)), small_unet(depth=2)
    cpu = _run(image, net, tmp_path / "cpu.ome.zarr", device="cpu")
    monkeypatch.setattr(FakeBackend, "after", lambda self, stream, mark: None)
    monkeypatch.setattr(FakeBackend, "moment", lambda self, mark: mark.reached or 0.0)
    fake_device(seed=1)
    try:
        wrong = not np.array_equal(_run(image, net, tmp_path / "d.ome.zarr", device="cuda").labels, cpu.labels)
    except InputError as error:  # what is in the memory are not even labels
        wrong = "label outside of" in str(error)
    assert wrong


def test_slots_are_a_ring(small_blocks, fake_device, tmp_path):
    made = fake_device()
    seg = _run(_image((700, 700)), small_unet(depth=1), tmp_path / "o.ome.zarr", device="cuda")
    assert seg.plan.n_blocks == 36
    # A counter, and buffers of pixels and labels that grow from the blocks at the border to those inside.
    assert made[0].pairs <= SLOTS * (1 + 2 * 4)


def test_memory_that_runs_out_halves_the_batch_and_says_so_once(small_blocks, fake_device, tmp_path):
    image, net = _image((300, 410)), small_unet(depth=2)
    cpu = _run(image, net, tmp_path / "cpu.ome.zarr", device="cpu")
    seen = 64 + 2 * cpu.plan.halo
    made = fake_device(room=seen * seen)  # of one tile; the plan wants four
    with pytest.warns(BainiteWarning, match="2 tiles at a time from now on") as told:
        found = _run(image, net, tmp_path / "device.ome.zarr", device="cuda")
    assert len([w for w in told if "out of memory" in str(w.message)]) == 1
    assert found.plan.batch == 4
    assert np.array_equal(found.labels, cpu.labels)
    assert made[0].prepared == [(1, seen, seen)] and made[0].released == 2
    assert found.provenance["decided"] == {"batch": 1}


def test_memory_that_runs_out_in_the_middle_is_kept_in_mind(small_blocks, fake_device, tmp_path):
    image, net = _image((300, 410)), small_unet(depth=2)
    cpu = _run(image, net, tmp_path / "cpu.ome.zarr", device="cpu")
    seen = 64 + 2 * cpu.plan.halo
    made = fake_device()
    blocks = 0

    def stop(event: Any) -> None:
        nonlocal blocks
        blocks += 1
        made[0].room = 2 * seen * seen  # somebody else takes memory
        if blocks == 7:
            raise KeyboardInterrupt

    out = tmp_path / "device.ome.zarr"
    with pytest.warns(BainiteWarning, match="2 tiles at a time"), pytest.raises(KeyboardInterrupt):
        bainite_fast.segment(image, net, out=out, precision="float32", tile=64, device="cuda", progress=stop)
    (path,) = out.rglob("journal.jsonl")
    assert Journal.load(path).decided == {"batch": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("error", BainiteWarning)
        found = bainite_fast.segment(image, net, out=out, precision="float32", tile=64, device="cuda", progress=False)
    assert made[1].prepared == [(2, seen, seen)]  # what was decided is held, though there is room again
    assert found.plan.batch == 4
    assert found.provenance["decided"] == {"batch": 2}
    assert np.array_equal(found.labels, cpu.labels)


@pytest.mark.parametrize("tile", [64, 128])  # four in a batch, and one
def test_what_was_recorded_is_given_up_before_the_batch(small_blocks, fake_device, tmp_path, tile):
    """Tiles at the border have another shape: they need memory beside that of the recorded pass."""
    image, net = _image((300, 410)), small_unet(depth=2)
    cpu = _run(image, net, tmp_path / "cpu.ome.zarr", device="cpu", tile=tile)
    seen, batch = tile + 2 * cpu.plan.halo, (128 // tile) ** 2
    made = fake_device(memory=batch * seen * seen)  # of one pass
    with warnings.catch_warnings():
        warnings.simplefilter("error", BainiteWarning)
        found = _run(image, net, tmp_path / "device.ome.zarr", device="cuda", tile=tile)
    assert found.plan.batch == batch and "decided" not in found.provenance
    assert made[0].prepared == [(batch, seen, seen)] and made[0].released == 1
    assert np.array_equal(found.labels, cpu.labels)


def test_a_device_too_small_for_one_tile(small_blocks, fake_device, tmp_path):
    fake_device(room=100)
    with pytest.warns(BainiteWarning, match="out of memory"), pytest.raises(DeviceError, match="one tile of 64 px"):
        _run(_image((300, 410)), small_unet(depth=2), tmp_path / "o.ome.zarr", device="cuda")


def test_logits_that_are_not_finite_are_named(small_blocks, fake_device, tmp_path):
    class Broken(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 2, 1)

        def forward(self, x):
            return self.conv(torch.sqrt(400.0 - x) - 20.0)

    image = np.zeros((50, 60), np.float32)
    image[30:, 30:] = 900.0
    fake_device()
    with pytest.raises(ModelError, match="NaN or infinity at 600 pixels"):
        _run(image, Broken(), tmp_path / "out.ome.zarr", device="cuda")


def test_blocks_are_read_before_the_device_is_there(small_blocks, fake_device, tmp_path, monkeypatch):
    made = fake_device()
    seen = []
    read = engine.Engine._read

    def recorded(self: Any, by: int, bx: int) -> Any:
        seen.append(len(made))
        return read(self, by, bx)

    monkeypatch.setattr(engine.Engine, "_read", recorded)
    found = _run(_image((300, 410)), small_unet(depth=1), tmp_path / "o.ome.zarr", device="cuda")
    assert seen[0] == 0 and len(made) == 1
    assert "start" not in found.stages


def test_a_run_that_is_over_leaves_the_device_to_the_next(monkeypatch) -> None:
    """A worker of a cluster is not told of a run's end, and the next plan counts on the memory of its graphs."""

    class Idle:
        def __init__(self, job: Any) -> None:
            self.job, self.running = job, 0

        def run(self, by: int, bx: int) -> str:
            assert self.running == 1
            return "".join(engine._engines)

    def run(key: str, device: str) -> Any:
        return engine.run_block(SimpleNamespace(key=key, plan=SimpleNamespace(device=device)), 0, 0)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "Engine", Idle)
    monkeypatch.setattr(engine, "_engines", {})
    assert [run("a", "cuda"), run("a", "cuda"), run("b", "cpu"), run("c", "cuda")] == ["a", "a", "b", "bc"]
    engine._engines["c"].running = 1
    assert [run("d", "cuda"), run("e", "cpu"), run("f", "cpu"), run("g", "cpu")] == ["bcd", "bce", "bcef", "cefg"]


def test_an_error_on_the_device_ends_the_run(small_blocks, fake_device, tmp_path, monkeypatch):
    def fail(self: Any, batch: Any, core: bool) -> Any:
        raise RuntimeError("device-side assert")

    monkeypatch.setattr(FakeBackend, "network", fail)
    fake_device()
    with pytest.raises(RuntimeError, match="device-side assert"):
        _run(_image((300, 410)), small_unet(depth=1), tmp_path / "o.ome.zarr", device="cuda")


def _demand(**changes: Any) -> Demand:
    values: dict[str, Any] = {
        "shape": (40_000, 50_000), "grid": (40_000, 50_000), "pixel_bytes": 1, "image_channels": 1, "channels": 1,
        "stride": 16, "halo": 96, "edge": "mirror", "confidence": False, "device": "cuda", "precision": "bfloat16",
        "layout": "channels_last",
    }  # fmt: skip
    return Demand(**(values | changes))


def _bytes(n: int, height: int, width: int) -> int:
    return 1000 * n * height * width


def _device_plan(
    device_gib: float, fixed: Fixed | None = None, host_gib: float = 32, widest: int = 32, **changes: Any
) -> Any:
    host = Budget(int(host_gib * 2**30), 2**30, 8, _bytes)
    device = DeviceBudget(int(device_gib * 2**30), _bytes, lambda n, height, width: widest * n * height * width)
    return make_device_plan(_demand(**changes), host, device, fixed)


def test_tile_and_batch_follow_the_free_memory_of_the_device() -> None:
    plans = {gib: _device_plan(gib) for gib in (40, 12, 4, 1, 0.2)}
    assert (plans[40].tile, plans[40].block, plans[40].batch) == (4096, 4096, 1)
    tiles = [plan.tile for plan in plans.values()]
    assert tiles == sorted(tiles, reverse=True) and len(set(tiles)) >= 4
    for gib, plan in plans.items():
        assert plan.device_memory_planned <= plan.device_memory == int(gib * 2**30)
        assert plan.workers == 1 and plan.in_flight == 10
        assert "GPU memory" in str(plan)
        assert plan.identity().keys() == {
            "shape", "grid", "channels", "block", "chunk", "tile", "halo", "stride", "batch", "edge", "device",
            "precision", "layout", "runtime",
        }  # fmt: skip
    small = _device_plan(40, Fixed(tile=256))
    assert small.tile == 256 and small.batch == 16
    assert _device_plan(40, Fixed(tile=256, batch=3, block=512)).batch == 3


def test_no_tensor_is_larger_than_fast_kernels_address() -> None:
    for widest, tile in ((32, 4096), (128, 2048), (512, 1024)):
        plan = _device_plan(40, widest=widest)
        assert plan.tile == tile
        assert widest * plan.batch * (tile + 2 * plan.halo) ** 2 < 2**31
    with pytest.raises(InputError, match=r"tile=4096 makes a tensor of 2,353,\d+,\d+ elements.*smaller tile"):
        _device_plan(40, Fixed(tile=4096), widest=128)
    assert _device_plan(40, Fixed(tile=3072), widest=128).tile == 3072


def test_a_plan_that_cannot_be() -> None:
    with pytest.raises(BudgetError, match="the device has .* free.*use device='cpu'"):
        _device_plan(0.01)
    with pytest.raises(BudgetError, match="two blocks in flight"):
        _device_plan(40, host_gib=1.001)
    with pytest.raises(InputError, match="multiple of the model's stride"):
        _device_plan(40, Fixed(tile=17))
    assert _device_plan(40, host_gib=1.5).in_flight < 10


def test_a_decision_is_a_line_of_the_journal(tmp_path) -> None:
    journal = Journal.create(tmp_path / "journal.jsonl", {"identity": {}})
    journal.decide(batch=4)
    journal.decide(batch=4)
    journal.decide(batch=2)
    assert [json.loads(line) for line in journal.path.read_text().splitlines()[1:]] == [
        {"decided": {"batch": 4}}, {"decided": {"batch": 2}},
    ]  # fmt: skip
    assert Journal.load(journal.path).decided == {"batch": 2}


def test_what_is_said_of_a_device_that_cannot_be_used(monkeypatch) -> None:
    monkeypatch.setattr(models_device, "_told", type(models_device._told)())
    cases = [
        (False, "13.0", 1, True, "no CUDA kernels"),
        (True, None, 1, False, "a build without CUDA"),
        (True, "13.0", 0, False, "no NVIDIA GPU"),
        (True, "13.0", 1, False, "newer driver"),
    ]
    for built, version, count, usable, message in cases:
        monkeypatch.setattr(kernels, "cuda_built", lambda built=built: built)
        monkeypatch.setattr(torch.version, "cuda", version)
        monkeypatch.setattr(kernels, "cuda_device_count", lambda count=count: count)
        monkeypatch.setattr(torch.cuda, "is_available", lambda usable=usable: usable)
        with pytest.raises(DeviceError, match=f"device='cuda' cannot be used: .*{message}.*device='cpu'"):
            models_device.resolve_device("cuda")
    with pytest.warns(BainiteWarning, match="runs on the CPU: .*newer driver"):
        assert models_device.resolve_device("auto") == "cpu"
    with warnings.catch_warnings():
        warnings.simplefilter("error", BainiteWarning)
        assert models_device.resolve_device("auto") == "cpu"  # said once
        assert models_device.resolve_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert models_device.resolve_device("auto") == "cuda:0"
    assert [models_device.resolve_device(x) for x in ("cuda", "cuda:1")] == ["cuda:0", "cuda:1"]
    with pytest.raises(DeviceError, match="the last of 2 is 'cuda:1'"):
        models_device.resolve_device("cuda:2")
    with pytest.raises(InputError, match="is not known"):
        models_device.resolve_device("gpu")


def test_a_network_runs_with_its_device_the_current_one(monkeypatch) -> None:
    """PyTorch gives away, to our kernels, tensors of the current device alone."""
    entered: list[str] = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext(entered.append(device)))
    for device in ("cpu", "cuda:1"):
        with models_device.exact_math(device):
            pass
    assert entered == ["cuda:1"]


def test_float32_is_float32_until_the_last_thread_is_done(monkeypatch) -> None:
    """TF32 and cuDNN's choice are the process's: what another thread leaves must not end them, nor stay."""
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())

    def flags() -> tuple[Any, ...]:
        cudnn = torch.backends.cudnn
        return torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark

    exact = ("highest", False, True, False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    torch.set_float32_matmul_precision("high")
    try:
        before = flags()
        assert before != exact
        first, second = models_device.exact_math("cuda:0"), models_device.exact_math("cuda:1")
        with first:
            assert flags() == exact
            second.__enter__()
        assert flags() == exact
        second.__exit__(None, None, None)
        assert flags() == before
    finally:
        torch.set_float32_matmul_precision("highest")


def test_float16_is_for_gpus(tmp_path) -> None:
    with pytest.raises(DeviceError, match="on a GPU only"):
        _run(_image((40, 40)), small_unet(depth=1), tmp_path / "o.ome.zarr", device="cpu", precision="float16")
