"""On a GPU: the labels of one pass of the network, the same bytes every time, and no more memory than there is."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import bainite_fast
from bainite_fast import kernels
from bainite_fast.errors import BainiteWarning
from bainite_fast.models import choose_precision, compile, load
from bainite_fast.models.device import free_device_memory
from bainite_fast.segmentation.cuda_backend import CudaBackend
from segment_helpers import assert_exact, save_small_package, small_unet, whole_logits

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here"),
    pytest.mark.skipif(not kernels.cuda_built(), reason="this build has no CUDA kernels: make gpu-test builds them"),
]


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(3)
    return np.kron(rng.integers(0, 256, (340, 420), dtype=np.uint8), np.ones((4, 4), np.uint8))[:1330, :1650]


def _run(image, net, out, **options):
    return bainite_fast.segment(
        image, net, out=out, progress=False, device="cuda", **{"precision": "float32", "scale": "as-is", **options}
    )


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("edge", ["mirror", "native"])
@pytest.mark.parametrize("tile", [None, 64, 512])
def test_labels_are_those_of_one_pass(image, tmp_path, edge, tile):
    net = small_unet(depth=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", BainiteWarning)
        seg = _run(image, net, tmp_path / "o.ome.zarr", edge=edge, tile=tile, confidence=True)
    assert seg.plan.device == "cuda"
    logits = whole_logits(net, image, halo=seg.plan.halo, stride=seg.plan.stride, edge=edge)
    assert_exact(np.asarray(seg.labels), logits)


def test_the_same_plan_gives_the_same_bytes(image, tmp_path):
    net = small_unet(depth=3, base=16)
    for precision in ("float32", "bfloat16", "float16"):
        content = []
        for k in range(2):
            out = tmp_path / f"{precision}{k}.ome.zarr"
            _run(image, net, out, precision=precision, tile=256, confidence=True)
            content.append(_content(out))
        assert content[0] == content[1]


def test_a_stopped_run_goes_on_to_the_same_bytes(image, tmp_path):
    net = small_unet(depth=2)
    _run(image, net, tmp_path / "whole.ome.zarr", tile=256)

    def stop(event):
        raise KeyboardInterrupt

    out = tmp_path / "stopped.ome.zarr"
    with pytest.raises(KeyboardInterrupt):
        bainite_fast.segment(
            image, net, out=out, device="cuda", precision="float32", scale="as-is", tile=256, progress=stop
        )
    _run(image, net, out, tile=256)
    assert _content(out) == _content(tmp_path / "whole.ome.zarr")


def test_low_precision_changes_few_labels(tmp_path):
    package = load(save_small_package(small_unet(depth=3, base=16), tmp_path / "package", um_per_px=None))
    assert choose_precision(package, "auto", "cuda:0") in ("float32", "bfloat16", "float16")
    full = compile(package, device="cuda:0")
    batch = torch.rand(1, 1, 256, 256, device="cuda").contiguous(memory_format=torch.channels_last)
    reference = full.run(batch).argmax(1)
    for precision in ("bfloat16", "float16"):
        low = compile(package, precision=precision, device="cuda:0")  # type: ignore[arg-type]
        assert low.run(batch.to(low.torch_dtype)).dtype == low.torch_dtype
        assert float((low.run(batch.to(low.torch_dtype)).argmax(1) != reference).float().mean()) < 0.02


def test_trimmed_networks_run_as_cuda_graphs():
    runtime = compile(load(small_unet(depth=2, base=16)), precision="bfloat16", device="cuda:0")
    assert runtime.trimmed > 0
    backend = CudaBackend(runtime)
    with warnings.catch_warnings():
        warnings.simplefilter("error", BainiteWarning)
        backend.prepare(2, 256, 256)
    batch = backend.batch(2, 256, 256)
    values = torch.rand(batch.shape).to(batch)
    batch.copy_(values)
    torch.cuda.synchronize()
    logits, trimmed = backend.network(batch, core=True)
    backend.drain()
    assert trimmed == runtime.trimmed
    assert torch.equal(logits, runtime.run_core(values.contiguous(memory_format=torch.channels_last)))


def test_predicted_memory_is_what_the_device_holds():
    runtime = compile(load(small_unet(depth=3, base=16)), precision="bfloat16", device="cuda:0")
    predicted = runtime.activation_bytes(1, 1024, 1024)
    batch = runtime.new_batch(1, 1024, 1024).zero_()
    runtime.run(batch)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    runtime.run(batch)
    grown = torch.cuda.max_memory_allocated() - before
    assert 0.7 * grown < predicted < 2 * grown


def test_memory_that_runs_out_halves_the_batch(image, tmp_path, monkeypatch):
    net = small_unet(depth=2, base=16)
    alone = _run(image, net, tmp_path / "alone.ome.zarr", tile=128)
    assert alone.plan.batch >= 4
    torch.cuda.empty_cache()
    runtime = compile(load(net), device="cuda:0")
    total = torch.cuda.get_device_properties(0).total_memory
    # The plan is made with all the memory; then PyTorch may take no more than a pass of half the batch needs.
    seen = 128 + 2 * alone.plan.halo
    room = torch.cuda.memory_reserved() + (64 << 20) + runtime.activation_bytes(alone.plan.batch // 2, seen, seen)
    free = free_device_memory("cuda:0")
    monkeypatch.setattr("bainite_fast.segmentation.run.free_device_memory", lambda device: free)
    torch.cuda.set_per_process_memory_fraction(min(1.0, room / total))
    try:
        with pytest.warns(BainiteWarning, match="ran out of memory"):
            tight = _run(image, net, tmp_path / "tight.ome.zarr", tile=128)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert tight.provenance["decided"]["batch"] < alone.plan.batch
    assert tight.plan.batch == alone.plan.batch
    # cuDNN may take another algorithm for another batch, and then logits differ in their last bit.
    logits = whole_logits(net, image, halo=alone.plan.halo, stride=alone.plan.stride)
    for seg in (alone, tight):
        assert_exact(np.asarray(seg.labels), logits)


@pytest.fixture(scope="module")
def loaded():
    return load(small_unet(depth=2))


@pytest.mark.parametrize("how", ["compile", "export"])
def test_inductor_gives_the_labels_of_one_pass(how, image, loaded, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", BainiteWarning)  # it can be recorded as a CUDA graph
        seg = _run(image, loaded, tmp_path / "o.ome.zarr", tile=512, runtime=how)
    assert seg.plan.runtime == how
    logits = whole_logits(loaded.module, image, halo=seg.plan.halo, stride=seg.plan.stride)
    assert_exact(np.asarray(seg.labels), logits)


def test_auto_takes_the_faster_compiler(image, loaded, tmp_path):
    """Of the same model as above, whose exported form is at hand still: compiling takes long."""
    seg = _run(image, loaded, tmp_path / "a.ome.zarr", tile=512, runtime="auto")
    assert seg.plan.runtime in ("export", "torchscript")
