"""The gate and the guard of the memory budget, and what the engine keeps."""

from __future__ import annotations

import dataclasses
import mmap
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import bainite_fast
from bainite_fast.errors import BainiteWarning, BudgetError, ModelError
from bainite_fast.models import load, runtime
from bainite_fast.models.precision import flipped
from bainite_fast.segmentation import guard, memory
from segment_helpers import save_small_package, small_unet


def _plan(**changes):
    plan = bainite_fast.plan(np.zeros((64, 64), np.uint8), small_unet(depth=1))
    return dataclasses.replace(plan, **changes)


def test_peak_sampler_sees_what_is_gone_again():
    size = 64 << 20
    with memory.PeakSampler() as sampler, mmap.mmap(-1, size) as ballast:  # given back at once, whatever the allocator
        ballast.write(bytes(1) * size)
        time.sleep(0.05)
    assert sampler.peak - memory.resident() > 48 << 20


def test_memory_that_the_allocator_keeps_is_not_held():
    script = """
from bainite_fast import kernels
from bainite_fast.segmentation import memory
import numpy as np
kernels.tune_allocator()
before = memory.held()
ballast = [np.ones(128 << 20, np.uint8) for _ in range(8)]
most = memory.held()
del ballast
print(most - before >> 20, memory.held() - before >> 20, memory.resident() >> 20)
memory.release()
print(memory.resident() >> 20)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    most, kept, resident, released = map(int, done.stdout.split())
    assert most > 700
    assert resident > 1000  # the process has not given it back ...
    assert kept < 300  # ... and the next plan may use it
    assert released < resident - 700  # a smaller budget gets it given back


def test_gate_lets_as_many_in_as_its_limit_says():
    gate, go_on, inside, seen = guard.Gate(2), threading.Event(), [], []

    def enter():
        with gate():
            inside.append(1)
            seen.append(len(inside))
            go_on.wait()
            inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(seen) < 2:
        time.sleep(0.001)
    time.sleep(0.02)  # a third one would come in now
    assert len(seen) == 2
    gate.set_limit(1)
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert max(seen[:2]) <= 2
    assert seen[2:] == [1] * 6


GIB = 1 << 30


def _hold(monkeypatch, *amounts):
    """Let the process hold these amounts of memory, in GiB, one after another; the last for good."""
    left = [amount * GIB for amount in amounts]
    monkeypatch.setattr(memory, "resident", lambda: left.pop(0) if len(left) > 1 else left[0])


def _pass(keeper):
    with keeper.watching():
        time.sleep(0.02)


@pytest.mark.parametrize(("workers", "opened"), [(8, 3), (2, 2)])
def test_guard_opens_the_gate_after_the_first_pass(monkeypatch, workers, opened):
    plan = _plan(workers=workers, memory=4 * GIB, memory_planned=4 * GIB)
    _hold(monkeypatch, 1, 1, 2, 1)  # before, at the start of the pass, its peak, afterwards
    keeper = guard.Guard(plan)
    assert keeper.gate.limit == 1
    _pass(keeper)
    assert keeper.gate.limit == opened  # 4 GiB less the 1 GiB held, at 1 GiB a network


def test_guard_does_not_wait_where_there_is_room_to_spare():
    assert guard.Guard(_plan(workers=5, memory=4 * GIB, memory_planned=2 * GIB)).gate.limit == 5


def test_guard_shrinks_then_stops(monkeypatch):
    plan = _plan(workers=2, memory=3 * GIB, memory_planned=3 * GIB)
    _hold(monkeypatch, 1)
    keeper = guard.Guard(plan)
    _pass(keeper)
    assert keeper.gate.limit == 2
    _hold(monkeypatch, 4)
    with pytest.warns(BainiteWarning, match="1 networks at a time from now on"):
        _pass(keeper)
    with pytest.raises(BudgetError, match="smaller than"):
        _pass(keeper)


def test_network_that_gives_nan_is_named(tmp_path):
    class Broken(torch.nn.Module):
        """Fine on dark images, NaN on bright ones: the probe and the compiler see nothing wrong."""

        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 2, 1)

        def forward(self, x):
            return self.conv(torch.sqrt(400.0 - x) - 20.0)

    image = np.zeros((50, 60), np.float32)
    image[30:, 30:] = 900.0
    with pytest.raises(ModelError, match="NaN or infinity at 600 pixels"):
        bainite_fast.segment(image, Broken(), out=tmp_path / "out.ome.zarr", progress=False)
    assert not (tmp_path / "out.ome.zarr" / "labels" / "phases").exists()


def test_two_runs_at_a_time_in_one_process(tmp_path):
    net = small_unet(depth=1)
    images = [np.random.default_rng(k).integers(0, 256, (700, 600), dtype=np.uint8) for k in range(2)]
    alone = [
        bainite_fast.segment(image, net, out=tmp_path / f"alone{k}.ome.zarr", progress=False).counts
        for k, image in enumerate(images)
    ]
    together = [None, None]

    def run(k):
        together[k] = bainite_fast.segment(images[k], net, out=tmp_path / f"both{k}.ome.zarr", progress=False).counts

    threads = [threading.Thread(target=run, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_progress_and_result_read_well(tmp_path, capsys):
    image = np.zeros((700, 900), np.uint8)
    events = []
    seg = bainite_fast.segment(image, small_unet(depth=1), out=tmp_path / "a.ome.zarr", progress=events.append)
    assert [event.done for event in events] == sorted(event.done for event in events)
    assert events[-1].done == events[-1].total == image.size
    assert events[-1].seconds_left == 0
    bainite_fast.segment(image, small_unet(depth=1), out=tmp_path / "b.ome.zarr", progress=True)
    assert "100.0 %" in capsys.readouterr().err
    assert "700 × 900 px" in str(seg)
    assert sum(seg.fractions.values()) == pytest.approx(1)
    assert seg.seconds > 0 and seg.pixels_per_second > 0
    assert {"read", "gather", "network", "scatter", "write"} <= seg.stages.keys()
    assert seg.provenance["input"]["sha256_of_block_sha256"]


def test_a_second_run_of_a_file_is_not_compiled_again(tmp_path, monkeypatch):
    built = []
    build = runtime._build
    monkeypatch.setattr(runtime, "_build", lambda loaded, *rest: built.append(loaded) or build(loaded, *rest))
    image = np.arange(40 * 50, dtype=np.uint8).reshape(40, 50)

    def labels(model):
        seg = bainite_fast.segment(image, model, out=tmp_path / "out.ome.zarr", overwrite=True, progress=False)
        return np.asarray(seg.labels)

    one, other = (small_unet(seed=seed) for seed in (1, 2))
    package = save_small_package(one, tmp_path / "package")
    first = labels(package)
    count = len(built)
    assert count > 0
    assert np.array_equal(labels(package), first)
    assert len(built) == count
    # The same path with other weights, and a module that changes between runs, are another network.
    shutil.rmtree(package)
    save_small_package(other, package)
    changed = labels(package)
    assert len(built) > count
    assert not np.array_equal(changed, first)
    assert np.array_equal(labels(other), changed)
    with torch.no_grad():
        other.head.bias += torch.tensor([100.0, 0.0])
    assert not labels(other).any()


class _Threads(TorchDispatchMode):
    """Notes how many threads each operator of PyTorch may use."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "empty" not in str(func):
            self.seen.add(torch.get_num_threads())
        return func(*args, **(kwargs or {}))


def test_a_forked_process_is_not_waiting_for_threads_that_it_lacks():
    compiled = runtime.compile(load(torch.nn.Conv2d(1, 2, 3, padding=1)))
    before = torch.get_num_threads()
    torch.set_num_threads(2)  # those of the parent; PyTorch waits for them for ever in the child
    try:
        with _Threads() as threads:
            compiled.activation_bytes(1, 64, 64)
            flipped(compiled, compiled, np.zeros((64, 64), np.uint8))
        assert threads.seen == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
