"""A dask cluster gives the same bytes as threads, whatever the number of workers, and survives the loss of one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import psutil
import pytest
import tifffile
import torch
from imagecodecs import imwrite
from typer.testing import CliRunner

import bainite_fast
from bainite_fast import kernels
from bainite_fast._memory import total_memory
from bainite_fast.cli import app
from bainite_fast.cli._cluster import _gpus_and_threads, cluster
from bainite_fast.errors import BainiteWarning, BudgetError, DeviceError, InputError
from bainite_fast.models import device as models_device
from bainite_fast.segmentation import run
from bainite_fast.segmentation.checks import warn_of_threads
from bainite_fast.segmentation.engine import Engine, Job, forget
from bainite_fast.segmentation.stream import ClusterExecutor, Parcel, ThreadExecutor, run_block_on_worker
from segment_helpers import save_small_package, small_unet

distributed = pytest.importorskip("distributed")
dumps, loads = distributed.protocol.pickle.dumps, distributed.protocol.pickle.loads


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, protocol="tcp://"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory) -> Path:
    rng = np.random.default_rng(3)
    image = np.kron(rng.integers(0, 256, (500, 700), dtype=np.uint8), np.ones((4, 4), np.uint8))
    path = tmp_path_factory.mktemp("cluster") / "mosaic.ome.zarr"
    bainite_fast.io.convert(image, path)
    return path


def _run(mosaic, model, out, **options):
    seg = bainite_fast.segment(
        mosaic, model, out=out, precision="float32", tile=256, scale="as-is", progress=False, **options
    )
    files = (path for path in out.rglob("*") if path.is_file())
    return seg, {str(path.relative_to(out)): path.read_bytes() for path in files}


def test_workers_of_the_command_line_do_not_hear_ctrl_c_and_have_a_gpu_each(monkeypatch):
    """A terminal sends it to them too: they are to finish the blocks that they are at."""
    monkeypatch.setattr(models_device, "cuda_problem", lambda: None)
    monkeypatch.setattr(models_device, "like_the_first", lambda: ["3", "GPU-7"])
    monkeypatch.setattr(kernels, "get_num_threads", lambda: 8)
    with cluster(None, 2, 1 << 30) as here:
        pids = here.client.run(os.getpid)
        for pid in pids.values():
            os.kill(pid, signal.SIGINT)
        assert here.client.submit(pow, 2, 5).result() == 32
        assert here.client.run(os.getpid) == pids
        assert sorted(here.client.run(os.getenv, "CUDA_VISIBLE_DEVICES").values()) == ["3", "GPU-7"]
        assert list(here.client.nthreads().values()) == [6, 6]  # four cores for each, and two that wait for the GPU


@pytest.mark.parametrize(
    ("device", "problem", "expected"),
    [("auto", None, (["0", "1"], 4)), ("cuda", None, (["0", "1"], 4)), ("cuda:1", None, ([], 4)),
     ("cpu", None, ([], 1)), ("auto", "no GPU", ([], 1))],
)  # fmt: skip
def test_workers_of_the_command_line_take_turns_with_the_gpus(device, problem, expected, monkeypatch):
    monkeypatch.setattr(models_device, "cuda_problem", lambda: problem)
    monkeypatch.setattr(models_device, "like_the_first", lambda: ["0", "1"])
    monkeypatch.setattr(kernels, "get_num_threads", lambda: 4)
    assert _gpus_and_threads(device, 2) == expected


def test_gpus_of_another_kind_are_left_out_and_called_as_the_process_does(monkeypatch):
    kinds = ["A100", "RTX 3060", "A100"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(kinds))
    monkeypatch.setattr(models_device, "device_facts", lambda device: {"gpu": kinds[int(device.removeprefix("cuda:"))]})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert models_device.like_the_first() == ["0", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, GPU-aa,GPU-bb")
    assert models_device.like_the_first() == ["4", "GPU-bb"]


def test_a_worker_has_as_many_blocks_in_memory_as_planned(mosaic, tmp_path, monkeypatch):
    running, most, real, plan = [], [], Engine._run, run.make_plan

    def counted(self, by, bx):
        running.append((by, bx))
        most.append(len(running))
        try:
            return real(self, by, bx)
        finally:
            running.remove((by, bx))

    monkeypatch.setattr(Engine, "_run", counted)
    monkeypatch.setattr(run, "make_plan", lambda *args: replace(plan(*args), in_flight=2))
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=6, dashboard_address=None, processes=False) as here,
        distributed.Client(here) as client,
    ):
        seg, _ = _run(mosaic, small_unet(depth=1), tmp_path / "out.ome.zarr", client=client)
    assert seg.plan.n_blocks > 2
    assert max(most) == 2


def test_workers_with_few_threads_are_told_of_on_a_gpu():
    with pytest.warns(BainiteWarning, match="have 1 thread each, so their GPUs wait"):
        warn_of_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_threads(3)


def test_cluster_gives_the_bytes_of_threads(client, mosaic, tmp_path):
    net = small_unet(depth=2)
    package = save_small_package(net, tmp_path / "package", um_per_px=None)
    threads, content = _run(mosaic, package, tmp_path / "threads.ome.zarr")
    cluster, content_of_cluster = _run(mosaic, package, tmp_path / "cluster.ome.zarr", client=client)
    assert cluster.counts == threads.counts
    assert content_of_cluster == content


def test_killed_worker_costs_only_its_blocks(client, mosaic, tmp_path):
    net = small_unet(depth=2)
    _, content = _run(mosaic, net, tmp_path / "threads.ome.zarr")
    killed = threading.Event()

    def kill_one(event) -> None:
        if not killed.is_set():
            killed.set()
            pid = next(iter(client.run(os.getpid).values()))
            os.kill(pid, signal.SIGKILL)

    seg = bainite_fast.segment(
        mosaic,
        net,
        out=tmp_path / "cluster.ome.zarr",
        precision="float32",
        tile=256,
        scale="as-is",
        progress=kill_one,
        client=client,
    )
    assert killed.is_set()
    files = (path for path in (tmp_path / "cluster.ome.zarr").rglob("*") if path.is_file())
    assert {str(p.relative_to(tmp_path / "cluster.ome.zarr")): p.read_bytes() for p in files} == content
    assert sum(seg.counts.values()) == 2000 * 2800


class _Slow(bainite_fast.io.Mosaic):
    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels
        super().__init__(bainite_fast.io.open_mosaic(pixels).spec)

    def _read_region(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        time.sleep(0.5 if y0 or x0 else 0)
        return self.pixels[y0:y1, x0:x1]

    def fingerprint(self) -> dict[str, Any]:
        return {"kind": "slow"}


def test_an_interrupted_run_lets_go_when_its_workers_have_stopped(client, tmp_path):
    image = np.full((2048, 2048), 255, np.uint8)
    net = torch.nn.Conv2d(1, 2, 1).eval()
    with torch.no_grad():
        net.weight[:, 0, 0, 0] = torch.tensor([0.0, 1.0])
        net.bias.zero_()

    def stop(event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bainite_fast.segment(
            _Slow(image), net, out=tmp_path / "o.ome.zarr", tile=64, precision="float32", progress=stop, client=client
        )
    shards = (tmp_path / "o.ome.zarr" / "labels" / "phases.partial" / "0" / "c").rglob("*")
    written = sum(path.is_file() for path in shards)
    assert not any(client.processing().values())
    assert written == 4  # one told of, two at work, one waiting


def _parcel_of(mosaic: Any, out: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Return what would be sent to the workers of a run."""
    sent: list[bytes] = []

    def send(self: ThreadExecutor, job: Job, blocks: Iterator[Any]) -> Iterator[Any]:
        sent.append(dumps(Parcel(job)))
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(ThreadExecutor, "results", send)
    with pytest.raises(KeyboardInterrupt):
        bainite_fast.segment(
            mosaic, small_unet(depth=1), out=out, tile=64, scale="as-is", precision="float32", progress=False
        )
    return sent[0]


@pytest.mark.parametrize("kind", ["zarr", "tif", "png"])
def test_a_worker_in_another_folder_finds_relative_paths(kind, tmp_path, monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (90, 80), np.uint8)
    monkeypatch.chdir(tmp_path)
    source = f"m.{kind}"
    if kind == "zarr":
        bainite_fast.io.convert(image, source)
    else:
        (tifffile.imwrite if kind == "tif" else imwrite)(source, image)
    packed = _parcel_of(source, Path("o.ome.zarr"), monkeypatch)
    monkeypatch.chdir("/")
    parcel = loads(packed)
    assert run_block_on_worker(parcel, 0, 0).pixels == image.size
    assert (tmp_path / "o.ome.zarr" / "labels" / "phases.partial" / "0" / "c" / "0" / "0").is_file()
    forget(parcel.open().key)
    (tmp_path / source).rename(tmp_path / "gone")  # as on a machine that does not share the folder
    with pytest.raises(DeviceError, match="cannot take up the run: .*same paths") as caught:
        run_block_on_worker(loads(packed), 0, 0)
    assert type(loads(dumps(caught.value))) is DeviceError


def test_a_network_whose_module_a_worker_lacks_is_told_of(mosaic, tmp_path, monkeypatch):
    packed = _parcel_of(mosaic, tmp_path / "o.ome.zarr", monkeypatch)
    monkeypatch.setitem(sys.modules, "bainite_fast.models.unet", None)
    with pytest.raises(DeviceError, match="cannot take up the run: .*bainite_fast.models.unet.*modules of the network"):
        run_block_on_worker(loads(packed), 0, 0)


class _Deadly(_Slow):
    def _read_region(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        if distributed.worker.thread_state.__dict__.get("execution_state"):  # in a task of a worker
            os._exit(1)
        return super()._read_region(y0, y1, x0, x1)


def test_workers_that_die_again_and_again_are_told_of(tmp_path):
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, protocol="tcp://") as here,
        distributed.Client(here) as client,
        pytest.raises(DeviceError, match="died 1 times at one block.*memory"),
    ):
        bainite_fast.segment(
            _Deadly(np.ones((64, 64), np.uint8)),
            torch.nn.Conv2d(1, 2, 1).eval(),
            out=tmp_path / "o.ome.zarr",
            precision="float32",
            progress=False,
            client=client,
        )


SCRIPT = "import sys; from bainite_fast.cli import main; sys.argv[0] = 'bainite-fast'; main()"


def _start_two_workers(mosaic, package, out) -> subprocess.Popen[str]:
    command = ["segment", str(mosaic), "--model", str(package), "--out", str(out), "--precision", "float32"]
    options = ["--tile", "256", "--scale", "as-is", "--workers", "2", "--memory", "6GiB", "--json"]
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_two_workers_of_the_command_line_give_the_bytes_of_threads(mosaic, tmp_path):
    package = save_small_package(small_unet(depth=2), tmp_path / "package", um_per_px=None)
    _, content = _run(mosaic, package, tmp_path / "threads.ome.zarr")
    out = tmp_path / "workers.ome.zarr"
    process = _start_two_workers(mosaic, package, out)
    printed, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert json.loads(printed)["plan"]["memory"] == 2 * 2**30
    files = (path for path in out.rglob("*") if path.is_file())
    assert {str(path.relative_to(out)): path.read_bytes() for path in files} == content
    assert "Traceback" not in said


def _blocks_done(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") - 1 for path in out.rglob("journal.jsonl"))


def test_a_worker_of_the_command_line_that_is_killed_costs_only_its_blocks(tmp_path):
    rng = np.random.default_rng(5)
    image = np.kron(rng.integers(0, 256, (768, 1024), dtype=np.uint8), np.ones((4, 4), np.uint8))
    mosaic = tmp_path / "mosaic.ome.zarr"
    bainite_fast.io.convert(image, mosaic)
    package = save_small_package(small_unet(depth=2, base=8), tmp_path / "package", um_per_px=None)
    threads, content = _run(mosaic, package, tmp_path / "threads.ome.zarr")
    out = tmp_path / "workers.ome.zarr"
    process = _start_two_workers(mosaic, package, out)
    while _blocks_done(out) < 1 and process.poll() is None:
        time.sleep(0.005)
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "spawn_main" in " ".join(child.cmdline())
    ]
    done = _blocks_done(out)
    assert len(workers) == 2 and 0 < done < threads.plan.n_blocks
    workers[0].kill()
    printed, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert json.loads(printed)["counts"] == threads.counts
    files = (path for path in out.rglob("*") if path.is_file())
    assert {str(path.relative_to(out)): path.read_bytes() for path in files} == content


def test_a_scheduler_is_used_and_named_in_errors(client, mosaic, tmp_path, monkeypatch):
    monkeypatch.chdir(mosaic.parent)
    package = save_small_package(small_unet(depth=1), tmp_path / "package", um_per_px=None)
    command = ["segment", mosaic.name, "--model", str(package), "--out", str(tmp_path / "o.ome.zarr"), "--quiet"]
    address = client.scheduler.address
    done = CliRunner().invoke(app, [*command, "--scheduler", address])
    assert done.exit_code == 0, done.stderr
    both = CliRunner().invoke(app, [*command, "--scheduler", address, "--workers", "2"])
    assert both.exit_code == 2
    monkeypatch.setattr("bainite_fast.cli._cluster._SECONDS_TO_ANSWER", 1)
    nobody = CliRunner().invoke(app, [*command, "--overwrite", "--scheduler", "tcp://127.0.0.1:9"])
    assert nobody.exit_code == 1
    assert "no dask scheduler answers at tcp://127.0.0.1:9" in nobody.stderr


class FakeCluster:
    """A client whose workers answer what they are told to."""

    asynchronous, status = False, "running"

    def __init__(self, *answers: Any) -> None:
        self.answers = answers

    def scatter(self) -> None: ...

    def run(self, function: Any, *args: Any, **options: Any) -> dict[str, Any]:
        return {f"tcp://{i}": answer for i, answer in enumerate(self.answers)}


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ((), "no workers"),
        ((bainite_fast.__version__, "0.0.9"), "worker at tcp://1 has 0.0.9; install the same version"),
        ((ModuleNotFoundError("No module named 'bainite_fast'"),), "tcp://0 cannot import it.*No module named"),
    ],
)
def test_workers_of_another_version_are_refused(answers: tuple[Any, ...], words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        bainite_fast.segment(np.zeros((64, 64), np.uint8), client=FakeCluster(*answers))


def test_what_is_no_client_is_refused() -> None:
    closed = FakeCluster()
    closed.status = "closed"
    for wrong in ("tcp://127.0.0.1:8786", closed):
        with pytest.raises(InputError, match="not a connected, synchronous distributed.Client"):
            bainite_fast.segment(np.zeros((64, 64), np.uint8), client=wrong)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([("a", 900, None)], 900),
        ([("a", 900, None), ("a", 880, None), ("b", 600, None)], 440),  # two share a machine
        ([("a", 900, 1000), ("b", 900, 500)], 400),  # 80 % of dask's limit
    ],
)
def test_workers_share_the_memory_of_their_machine(answers: list[Any], expected: int) -> None:
    assert ClusterExecutor(FakeCluster(*answers)).memory == expected


def test_a_real_worker_is_of_this_version_and_says_its_memory(client) -> None:
    executor = ClusterExecutor(client)
    executor.check()
    assert 0 < executor.memory <= total_memory() // 4  # two workers share half of the machine


def test_a_scheduler_that_is_lost_is_told_of(mosaic, tmp_path, monkeypatch):
    futures = []
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, processes=False) as here,
        distributed.Client(here) as client,
        pytest.raises(DeviceError, match="connection.*was lost.*finished blocks are kept"),
    ):
        submit = client.submit
        monkeypatch.setattr(client, "submit", lambda *args, **kw: futures.append(submit(*args, **kw)) or futures[-1])
        bainite_fast.segment(
            mosaic, small_unet(depth=1), out=tmp_path / "o.ome.zarr", tile=256, scale="as-is", precision="float32",
            progress=lambda event: client.cancel(futures, force=True), client=client,
        )  # fmt: skip


def test_a_budget_that_is_shared_is_told_of():
    words = "too small.*shared by 1 workers and this one, so give 2 times"
    with pytest.raises(BudgetError, match=words), cluster(None, 1, 1 << 30) as here:
        assert here.memory == 1 << 29
        raise BudgetError("too small")


class FakeClient:
    def __init__(self, shares: list[tuple[str, str, int]]) -> None:
        self.shares = shares

    def run(self, function: Any, device: str) -> dict[str, tuple[str, str, int]]:
        assert device == "cuda:0"
        return {f"tcp://{i}": share for i, share in enumerate(self.shares)}


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([("a", "gpu0", 100)], 100),
        ([("a", "gpu0", 90), ("a", "gpu0", 80)], 40),  # two processes on one GPU
        ([("a", "gpu0", 90), ("a", "gpu1", 80)], 80),  # one each
        ([("a", "gpu0", 90), ("b", "gpu0", 80)], 80),  # two machines
        ([("a", "gpu0", 90), ("a", "gpu0", 90), ("b", "gpu0", 60)], 45),
    ],
)
def test_workers_on_one_gpu_share_its_memory(shares: list[tuple[str, str, int]], expected: int) -> None:
    assert ClusterExecutor(FakeClient(shares)).device_memory("cuda:0") == expected


def test_workers_without_the_gpu_are_named() -> None:
    with pytest.raises(DeviceError, match="no workers"):
        ClusterExecutor(FakeClient([])).device_memory("cuda:0")

    def run(*_: Any) -> Any:
        raise AssertionError("Invalid device id")  # PyTorch's, of a GPU that is not there

    client = FakeClient([])
    client.run = run  # type: ignore[method-assign]
    with pytest.raises(DeviceError, match="device='cuda:0': a worker of the cluster cannot use it: Invalid device id"):
        ClusterExecutor(client).device_memory("cuda:0")


def test_a_real_worker_without_a_gpu_says_so(client) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError, match="worker of the cluster cannot use it"):
        ClusterExecutor(client).device_memory("cuda:0")
