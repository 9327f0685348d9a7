"""The other compiler: chosen once, compared before it is used, and held when a run goes on.

Inductor takes long, so it is run once each way, on the CPU, and stood in for otherwise; on a GPU: test_gpu_segment.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

import bainite_fast
from bainite_fast.errors import BainiteWarning, DeviceError, InputError
from bainite_fast.models import compile, exported, load
from bainite_fast.models.compiled import Runtime
from bainite_fast.segmentation import run
from bainite_fast.segmentation.journal import Journal
from segment_helpers import small_unet


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Stand in for Inductor: the network as it is. Return the shapes that it was compiled for."""
    shapes: list[tuple[int, ...]] = []

    def stand_in(network: torch.nn.Module, batch: torch.Tensor, runners: int) -> Callable[[torch.Tensor], torch.Tensor]:
        shapes.append(tuple(batch.shape))
        return network

    monkeypatch.setattr(exported, "aot_compile", stand_in)
    monkeypatch.setattr(exported, "jit_compile", stand_in)
    return shapes


@pytest.mark.slow
@pytest.mark.parametrize("how", ["export", "compile"])
def test_a_run_through_inductor(how: str, tmp_path: Path) -> None:
    image = np.kron(np.random.default_rng(2).integers(0, 256, (80, 90), np.uint8), np.ones((4, 4), np.uint8))
    net = small_unet(depth=2, base=4)  # its trimmed form computes a little more than the core: nobody's pixels
    options: dict[str, Any] = {"precision": "float32", "tile": 64, "scale": "as-is", "progress": False}
    plain = bainite_fast.segment(image, net, out=tmp_path / "a.ome.zarr", **options)
    before = counters["stats"]["unique_graphs"]
    seg = bainite_fast.segment(image, net, out=tmp_path / "b.ome.zarr", runtime=how, **options)
    assert counters["stats"]["unique_graphs"] - before == (how == "compile")  # no worker compiles for itself
    assert seg.plan.runtime == how
    assert np.array_equal(seg.labels, plain.labels)


@pytest.mark.parametrize(("by", "mode"), [("export", "exported"), ("compile", "compiled")])
def test_one_shape_is_compiled_and_the_others_run_as_before(
    by: str, mode: str, compiled: list[tuple[int, ...]]
) -> None:
    loaded = load(small_unet(depth=2, base=4))
    plain = compile(loaded)
    made = exported.export_core(loaded, plain, (2, 96, 96), by=by)
    assert compiled == [(2, 1, 96, 96)]
    assert made.mode == mode and made.fingerprint() != plain.fingerprint()
    assert plain.trimmed > 0
    for shape in [(2, 96, 96), (1, 96, 96), (2, 96, 128)]:
        batch = made.new_batch(*shape).normal_()
        assert torch.allclose(made.run_core(batch), plain.run_core(batch), atol=1e-5)


def test_what_cannot_be_exported_is_refused(compiled: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(small_unet(depth=1))
    plain = compile(loaded)
    for more in (1, torch.nan):
        monkeypatch.setattr(exported, "aot_compile", lambda network, *_, more=more: lambda x: network(x) + more)
        with pytest.raises(DeviceError, match="gives other logits"):
            exported.export_core(loaded, plain, (1, 64, 64))

    def fail(*_: Any) -> Any:
        raise RuntimeError("no compiler\nand a long story")

    monkeypatch.setattr(exported, "aot_compile", fail)
    with pytest.raises(DeviceError, match=r"cannot export this network \(no compiler\)"):
        exported.export_core(loaded, plain, (1, 64, 64))
    monkeypatch.setattr(exported, "jit_compile", fail)
    with pytest.raises(DeviceError, match=r"cannot compile this network \(no compiler\)"):
        exported.export_core(loaded, plain, (1, 64, 64), by="compile")
    script = torch.jit.trace(torch.nn.Conv2d(1, 2, 3, padding=1).eval(), torch.zeros(1, 1, 32, 32))
    with pytest.raises(DeviceError, match="TorchScript file cannot be exported"):
        exported.export_core(load(script), compile(load(script)), (1, 64, 64))


def test_the_faster_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(small_unet(depth=1))
    one, other = compile(loaded), compile(loaded, layout="contiguous")
    slow = {id(one): 0.004, id(other): 0.012}
    monkeypatch.setattr(Runtime, "run_core", lambda self, batch: time.sleep(slow[id(self)]))
    assert exported.is_faster(one, other, (1, 32, 32))
    assert not exported.is_faster(other, one, (1, 32, 32))


def test_a_run_with_the_exported_network(compiled: list[tuple[int, ...]], tmp_path: Path) -> None:
    image = np.kron(np.random.default_rng(0).integers(0, 256, (80, 90), np.uint8), np.ones((4, 4), np.uint8))
    net = small_unet(depth=2)
    options: dict[str, Any] = {"precision": "float32", "tile": 64, "scale": "as-is", "progress": False}
    plain = bainite_fast.segment(image, net, out=tmp_path / "a.ome.zarr", **options)
    seg = bainite_fast.segment(image, net, out=tmp_path / "b.ome.zarr", runtime="export", **options)
    assert (plain.plan.runtime, seg.plan.runtime) == ("torchscript", "export")
    assert compiled == [(seg.plan.batch, 1, *seg.plan.pass_shape[1:])]
    assert np.array_equal(seg.labels, plain.labels)
    assert seg.provenance["plan"]["runtime"] == "export"
    with pytest.raises(InputError, match="runtime='fast' is not known"):
        bainite_fast.segment(image, net, out=tmp_path / "c.ome.zarr", runtime="fast", **options)


def test_what_auto_chose_is_held(
    compiled: list[tuple[int, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, net = np.random.default_rng(1).integers(0, 256, (1100, 1100), np.uint8), small_unet(depth=1)
    options: dict[str, Any] = {"precision": "float32", "tile": 256, "scale": "as-is", "runtime": "auto"}

    def stop(event: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "o.ome.zarr"
    monkeypatch.setattr(run, "is_faster", lambda *_: True)
    with pytest.raises(KeyboardInterrupt):
        bainite_fast.segment(image, net, out=out, progress=stop, **options)
    (path,) = out.rglob("journal.jsonl")
    assert Journal.load(path).header["identity"]["plan"]["runtime"] == "export"
    monkeypatch.setattr(run, "is_faster", lambda *_: pytest.fail("it was decided already"))
    assert bainite_fast.segment(image, net, out=out, progress=False, **options).plan.runtime == "export"


def test_auto_does_without_what_cannot_be_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(exported, "aot_compile", fail)
    image, out = np.random.default_rng(1).integers(0, 256, (70, 80), np.uint8), tmp_path / "o.ome.zarr"
    options: dict[str, Any] = {"precision": "float32", "scale": "as-is", "runtime": "auto", "progress": False}
    with pytest.warns(BainiteWarning, match=r"takes TorchScript: PyTorch cannot export this network \(no compiler\)"):
        seg = bainite_fast.segment(image, small_unet(depth=1), out=out, **options)
    assert seg.plan.runtime == "torchscript"


def test_on_a_device_it_is_run_without_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """AOTInductor asks, before each pass, for the event of the last: an error while a CUDA graph is recorded."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(torch.export, "export", lambda *_: None)
    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", lambda program, package_path: package_path)
    monkeypatch.setattr("torch._inductor.package.load_package", lambda path, **options: asked.append(options))
    for device in ("cpu", "cuda:1"):
        exported.aot_compile(torch.nn.Identity(), SimpleNamespace(device=torch.device(device)), 3)  # type: ignore[arg-type]
    assert asked == [
        {"run_single_threaded": False, "num_runners": 3, "device_index": -1},
        {"run_single_threaded": True, "num_runners": 1, "device_index": 1},
    ]
