"""Throughput acceptance: where the time went adds up, and a slower installation is caught."""

from __future__ import annotations

import json
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from bainite_fast import bench
from bainite_fast.bench import acceptance
from bainite_fast.bench.energy import EnergyMeter
from bainite_fast.bench.floors import flop_per_pixel
from bainite_fast.bench.timeline import STAGES, WAITS, timeline
from bainite_fast.bench.usage import DeviceUsage
from bainite_fast.cli import app
from bainite_fast.cli._bench import _latency, doubts, summarize, write_report
from bainite_fast.errors import InputError, OutputError
from bainite_fast.models import UNet, load, save_package
from bainite_fast.models.compiled import Runtime
from bainite_fast.segmentation import spans
from bainite_fast.segmentation.spans import Span
from fake_device import fake_device, small_blocks  # noqa: F401 - fixtures


@pytest.fixture
def mosaic(tmp_path: Path) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (1100, 1500), np.uint8)


def test_each_wait_gets_its_name() -> None:
    noted = [
        Span("read", 1, 3), Span("tiles", 3, 9), Span("gather", 3, 4), Span("network", 4, 7), Span("scatter", 7, 8),
        Span("write", 9, 12),
        Span("read", 3, 6), Span("tiles", 6, 12), Span("network", 6, 12),
    ]  # fmt: skip
    found = timeline(noted, 0, 14, workers=2)
    assert found.network == 9 / 2
    assert found.busy == {"read": 5, "upload": 0, "gather": 1, "network": 9, "scatter": 1, "download": 0, "write": 3}
    # read: both networks for 2 s, one from 3 to 6; gather, scatter: the first for 1 s; write: the first for 3 s
    assert found.waits == {
        "start": 1, "read": 3.5, "upload": 0, "gather": 0.5, "scatter": 0.5, "download": 0, "write": 1.5, "blocks": 0,
        "finish": 2,
    }  # fmt: skip
    assert found.unexplained == 0.5  # the first held its place from 8 to 9


def test_waiting_for_the_device_is_waiting_for_the_start() -> None:
    noted = [Span("read", 1, 2), Span("start", 2, 5), Span("tiles", 5, 9), Span("network", 5, 9), Span("read", 1, 4)]
    found = timeline(noted, 0, 10, workers=1)
    assert found.waits["start"] == 1 + 3 and found.waits["read"] == 1 and found.waits["finish"] == 1
    assert "start" not in found.busy


@settings(deadline=None)
@given(data=st.data(), workers=st.integers(1, 3))
def test_network_and_waits_are_the_wall_time(data: st.DataObject, workers: int) -> None:
    noted, end = [], 0.0
    for _ in range(workers):  # one chain of blocks for each place
        now = data.draw(st.floats(0, 1))
        for _ in range(data.draw(st.integers(0, 4))):
            lengths = data.draw(st.lists(st.floats(0, 2), min_size=10, max_size=10))
            edges = now + np.concatenate([[0.0], np.cumsum(lengths)])
            names = ("read", "start", "wait", "upload", "gather", "network", "scatter", "rest", "download", "write")
            noted += [Span(name, *edges[k : k + 2]) for k, name in enumerate(names) if name != "rest"]
            noted.append(Span("tiles", edges[4], edges[8]))
            now = float(edges[-1])
        end = max(end, now)
    found = timeline(noted, 0.0, end + 1, workers)
    assert found.network + sum(found.waits.values()) + found.unexplained == pytest.approx(end + 1)
    assert min(found.waits.values()) >= 0 and found.unexplained >= 0
    assert set(found.busy) == set(STAGES) and set(found.waits) == set(WAITS)


def test_a_report_adds_up(mosaic: np.ndarray[Any, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    seen = []
    report = bench.measure(
        mosaic, UNet(base=16, depth=3).eval(), runs=2, tile=512, scale="as-is", work=tmp_path,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    values = report.values
    walls = values["latency_seconds"]["runs"]
    named = values["network"]["seconds"] + sum(values["network_waited_seconds"].values())
    assert named == pytest.approx(np.mean(walls), rel=0.05)
    assert values["pixels_per_second"] == pytest.approx(2 * mosaic.size / sum(walls))
    assert report.slowest == max(walls)
    assert sum(stage["share"] for stage in values["stages"].values()) == pytest.approx(1)
    assert values["memory"]["peak_host_bytes"] > 10_000_000
    assert 0 < values["network"]["utilisation"] < 10
    assert seen[-1] == (2 * mosaic.size, 2 * mosaic.size)
    assert list(tmp_path.iterdir()) == []
    assert json.loads(json.dumps(values))["runs"] == 2


def test_a_utilisation_above_one_is_explained(mosaic: np.ndarray[Any, Any]) -> None:
    report = bench.measure(mosaic, UNet(base=4, depth=1).eval(), runs=1, tile=512, scale="as-is")
    for share, text in ((1.321, "132.1 % of "), (0.5, "50.0 % of ")):
        report.values["network"]["utilisation"] = share
        assert text in summarize(report)
        assert "model's scale" not in summarize(report)
        assert ("direct convolutions" in summarize(report)) == (share > 1)
    report.values["plan"]["grid"] = [550, 750]  # the bare network's rate is not that of the mosaic's pixels
    assert "Mpx/s of pixels at the model's scale; the job has" in summarize(report)


def test_operations_are_those_of_the_layers() -> None:
    # 64 channels, four levels: 1.47 MFLOP a pixel. Its reach is that of a narrow one, which is measured sooner.
    paper = replace(load(UNet(base=2).eval()), module=UNet().eval())
    assert flop_per_pixel(paper) == pytest.approx(1.47e6, rel=0.03)
    assert flop_per_pixel(load(torch.nn.Conv2d(1, 3, 5, padding=2), normalize=(0, 1))) == 2 * 25 * 3


class Clock:
    """A clock of its own: it goes on by what the network takes, and a microsecond whenever it is looked at."""

    def __init__(self) -> None:
        self.now, self.lock = 0.0, threading.Lock()

    def spend(self, seconds: float) -> None:
        with self.lock:
            self.now += seconds

    def perf_counter(self) -> float:
        self.spend(1e-6)
        return self.now


@pytest.fixture
def paced(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Return the pace: a network that takes so many seconds a megapixel on a clock that nothing else moves.

    So what is measured does not depend on what else the machine does.
    """
    pace, clock = {"seconds": 2.0}, Clock()
    monkeypatch.setattr(acceptance, "time", clock)
    monkeypatch.setattr(spans, "time", clock)

    def run(self: Runtime, batch: torch.Tensor) -> torch.Tensor:
        clock.spend(pace["seconds"] * batch.numel() / 1e6)
        n, _, height, width = batch.shape
        cut = 2 * self.trimmed
        return torch.zeros(n, self.contract.out_channels, height - cut, width - cut)

    monkeypatch.setattr(Runtime, "run_core", run)
    monkeypatch.setattr(acceptance, "bare_network_rate", lambda *_: 1e6)  # measured in another test
    return pace


@pytest.fixture
def command(tmp_path: Path, mosaic: np.ndarray[Any, Any]) -> list[str]:
    torch.manual_seed(0)
    package = save_package(
        UNet(base=2, depth=2).eval(), tmp_path / "model", classes=("a", "b"), test_input=mosaic[:64, :64].copy()
    )
    from bainite_fast.io import convert

    convert(mosaic[:1024, :1024], tmp_path / "m.ome.zarr", um_per_px=0.1)
    return ["bench", str(tmp_path / "m.ome.zarr"), "--model", str(package), "--runs", "3", "--tile", "256"]


def test_a_slowdown_of_20_percent_is_caught(paced: dict[str, float], command: list[str], tmp_path: Path) -> None:
    baseline = str(tmp_path / "baseline.json")
    first = CliRunner().invoke(app, [*command, "--save", baseline])
    assert first.exit_code == 0, first.stderr
    again = CliRunner().invoke(app, [*command, "--save", baseline])
    assert again.exit_code == 1
    assert "--overwrite" in again.stderr
    same = CliRunner().invoke(app, [*command, "--compare", baseline])
    assert same.exit_code == 0, same.stderr
    paced["seconds"] *= 1.2
    slower = CliRunner().invoke(app, [*command, "--compare", baseline, "--json"])
    assert slower.exit_code == 3, slower.stderr
    assert "slower than the baseline" in slower.stderr
    assert json.loads(slower.stdout)["slower_than_baseline"] == pytest.approx(0.2, abs=0.01)
    spared = CliRunner().invoke(app, [*command, "--compare", baseline, "--limit", "50"])
    assert spared.exit_code == 0, spared.stderr


def test_a_missed_takt_is_exit_status_3(paced: dict[str, float], command: list[str], tmp_path: Path) -> None:
    paced["seconds"] = 0.01
    chart = tmp_path / "chart.png"
    kept = CliRunner().invoke(app, [*command, "--takt", "100", "--chart", str(chart)])
    assert kept.exit_code == 0, kept.stderr
    assert chart.read_bytes().startswith(b"\x89PNG")
    for word in ("sustained", "latency", "bare network", "read + decode", "waited"):
        assert word in kept.stdout
    paced["seconds"] = 0.1
    missed = CliRunner().invoke(app, [*command, "--takt", "0.05"])
    assert missed.exit_code == 3
    assert "takt" in missed.stderr


def test_a_baseline_of_something_else_is_refused(
    paced: dict[str, float], command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paced["seconds"] = 0.0
    baseline = tmp_path / "baseline.json"
    assert CliRunner().invoke(app, [*command, "--save", str(baseline)]).exit_code == 0
    values = json.loads(baseline.read_text())
    values["mosaic"]["shape"] = [1, 2]
    baseline.write_text(json.dumps(values))
    monkeypatch.setattr(acceptance, "bare_network_rate", lambda *_: pytest.fail("it was measured first"))
    refused = CliRunner().invoke(app, [*command, "--compare", str(baseline)])
    assert refused.exit_code == 1
    assert "shape" in refused.stderr and "save a new baseline" in refused.stderr
    values["mosaic"]["shape"] = [1024, 1024]
    del values["mosaic"]["channels"]
    baseline.write_text(json.dumps(values))
    refused = CliRunner().invoke(app, [*command, "--compare", str(baseline)])
    assert "channels of its mosaic is not noted, and here it is 1" in refused.stderr
    good = {"format": 1, "latency_seconds": {"p50": 1.0}, "mosaic": {}, "model": {}, "plan": {}}
    edited = [
        good | {"plan": 3}, good | {"mosaic": None}, good | {"latency_seconds": [1]},
        good | {"latency_seconds": {"p50": "1"}}, good | {"latency_seconds": {"p50": 0}},
        good | {"latency_seconds": {"p50": float("inf")}}, good | {"latency_seconds": {"p50": float("nan")}},
        good | {"format": 2},
    ]  # fmt: skip
    for text in ("{}", "[1]", "no json", *map(json.dumps, edited)):
        baseline.write_text(text)
        refused = CliRunner().invoke(app, [*command, "--compare", str(baseline)])
        assert refused.exit_code == 1
        assert "is not a report" in refused.stderr
    missing = CliRunner().invoke(app, [*command, "--compare", str(tmp_path / "none.json")])
    assert missing.exit_code == 1
    assert "--save" in missing.stderr


@pytest.mark.filterwarnings("default::bainite_fast.errors.BainiteWarning")
def test_a_baseline_of_another_machine_is_told_of(paced: dict[str, float], command: list[str], tmp_path: Path) -> None:
    paced["seconds"] = 0.0
    baseline = tmp_path / "baseline.json"
    saved = CliRunner().invoke(app, [*command, "--save", str(baseline), "--json"])
    assert saved.exit_code == 0 and "machine" not in saved.stderr
    values = json.loads(baseline.read_text())
    with warnings.catch_warnings(action="error"):
        acceptance.warn_of_machine(values["machine"], acceptance.Report(values))
    values["machine"]["cpu"] = "Slow 9000"
    baseline.write_text(json.dumps(values))
    other = CliRunner().invoke(app, [*command, "--compare", str(baseline), "--limit", "1e9"])
    assert other.exit_code == 0
    assert "another machine (cpu Slow 9000 there" in other.stderr


def test_options_that_could_do_nothing_are_refused(command: list[str], tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    baseline.write_text("{}")
    for wrong in (
        ["--takt", "inf"], ["--takt", "nan"], ["--limit", "5"],
        ["--compare", str(baseline), "--limit", "inf"], ["--compare", str(baseline), "--limit", "nan"],
        ["--gigapixels", "0.1"],
    ):  # fmt: skip
        refused = CliRunner().invoke(app, [*command, *wrong])
        assert refused.exit_code == 2, wrong
        assert wrong[-2] in refused.stderr


def test_outputs_are_checked_before_anything_is_measured(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptance, "measure", lambda *_, **__: pytest.fail("it was measured first"))
    there = tmp_path / "there.json"
    there.write_text("{}")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for options, word in (
        (["--save", str(tmp_path / "gone" / "x.json")], "gone does not exist"),
        (["--chart", str(tmp_path / "gone" / "x.png")], "gone does not exist"),
        (["--save", str(tmp_path)], "is a folder"),
        (["--chart", str(there)], "--overwrite"),
        (["--save", str(there), "--chart", str(there)], "written twice"),
        (["--save", str(there), "--compare", str(there)], "this very command reads"),
        (["--chart", str(next((tmp_path / "m.ome.zarr").glob("*.json")))], "this very command reads"),
        (["--save", str(next((tmp_path / "model").iterdir()))], "this very command reads"),
        (["--work", str(there)], "not a folder"),
        (["--work", str(tmp_path / "gone")], "not a folder"),
    ):
        refused = CliRunner().invoke(app, [*command, *options, *(["--overwrite"] if word != "--overwrite" else [])])
        assert refused.exit_code == 1, options
        assert word in refused.stderr, refused.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_chart_that_cannot_be_written_leaves_the_old_one(
    mosaic: np.ndarray[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    def full(self: Figure, path: Path, **_: Any) -> None:
        path.touch()
        raise OSError(28, "No space left on device")

    report = bench.measure(mosaic, UNet(base=2, depth=1).eval(), runs=1, tile=512, scale="as-is")
    chart = tmp_path / "chart.png"
    chart.write_bytes(b"old")
    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OutputError, match="No space left"):
        bench.save_png(report, chart)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_nothing_is_compiled_and_no_labels_are_replaced_on_the_clock(
    mosaic: np.ndarray[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bainite_fast.models import exported, runtime

    built: list[str] = []
    places: list[Path] = []
    build, one = runtime._build, acceptance._one

    def counted(*args: Any) -> Runtime:
        built.append("torchscript")
        return build(*args)

    def watched(choice: Any, request: Any, out: Path, progress: Any) -> Any:
        assert not out.exists()
        places.append(out)
        return one(choice, request, out, progress)

    def export(network: torch.nn.Module, batch: torch.Tensor, runners: int) -> Any:
        built.append("export")
        return network

    monkeypatch.setattr(runtime, "_build", counted)
    monkeypatch.setattr(exported, "aot_compile", export)  # which takes a minute
    monkeypatch.setattr(acceptance, "_one", watched)
    report = bench.measure(
        mosaic, UNet(base=2, depth=1).eval(), runs=2, tile=512, scale="as-is", runtime="export", work=tmp_path
    )
    assert report.values["plan"]["runtime"] == "export"
    assert built == ["torchscript", "export"] and len(places) == 2
    assert list(tmp_path.iterdir()) == []


def test_the_bare_network_runs_on_tiles_of_the_job(
    mosaic: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = set()
    run = Runtime.run_core
    monkeypatch.setattr(Runtime, "run_core", lambda self, x: (shapes.add(tuple(x.shape[2:])), run(self, x))[1])
    bench.measure(mosaic[:90, :256], UNet(base=2, depth=1).eval(), runs=1, tile=128, scale="as-is")
    (shape,) = shapes
    assert shape[0] < shape[1] < 256  # 90 rows and their halo, 128 columns and theirs


def test_a_mosaic_is_drawn_of_about_the_size_asked(tmp_path: Path) -> None:
    from bainite_fast.io import open_mosaic

    with open_mosaic(bench.draw(tmp_path / "m.ome.zarr", 0.009)) as drawn:
        assert drawn.shape == (2048, 4096)
        assert drawn.um_per_px == pytest.approx(0.1266)
    for wrong in (0.0, -1.0, 1e6):
        with pytest.raises(InputError, match="gigapixels"):
            bench.draw(tmp_path / "other.ome.zarr", wrong)
    with pytest.raises(InputError, match="runs"):
        bench.measure(np.zeros((4, 4), np.uint8), runs=0)


def test_a_report_is_saved_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, text: str, **options: str) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    path = tmp_path / "baseline.json"
    write_report(acceptance.Report({"a": 1}), path)
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="No space left"):
        write_report(acceptance.Report({"a": 2}), path)
    assert json.loads(path.read_text()) == {"a": 1}
    assert [one.name for one in tmp_path.iterdir()] == ["baseline.json"]


def test_a_picture_is_measured_as_it_is_segmented(paced: dict[str, float], command: list[str], tmp_path: Path) -> None:
    import tifffile

    paced["seconds"] = 0.0
    stack = np.random.default_rng(1).integers(0, 256, (2, 90, 80), np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", stack, metadata={"axes": "ZYX"})
    run = ["bench", str(tmp_path / "stack.tif"), *command[2:4], "--runs", "1", "--json"]
    done = CliRunner().invoke(app, [*run, "--plane", "1", "--crop-bar", "10"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["mosaic"]["shape"] == [80, 80]
    assert CliRunner().invoke(app, run).exit_code == 1  # which plane?


def test_a_device_is_measured_with_its_stages(
    small_blocks: None, fake_device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptance, "DeviceUsage", lambda device: DeviceUsage("cpu"))
    monkeypatch.setattr(acceptance, "matrix_rate", lambda *_: 1e9)
    fake_device()
    values = bench.measure(
        np.zeros((300, 300), np.uint8), UNet(base=2, depth=1).eval(), runs=1, device="cuda", tile=64, scale="as-is",
        work=tmp_path,
    ).values  # fmt: skip
    assert values["plan"]["device"] == "cuda"
    assert values["stages"]["upload"]["busy_seconds"] > 0 and values["stages"]["download"]["busy_seconds"] > 0
    named = values["network"]["seconds"] + sum(values["network_waited_seconds"].values())
    wall = values["latency_seconds"]["p50"]
    assert named + values["network"]["unexplained_seconds"] == pytest.approx(wall, rel=0.02)


class Nvml:
    """NVML with one GPU that has taken 40 J, and 7.5 J more at every look."""

    class NVMLError(Exception):
        pass

    def __init__(self, *, broken: bool = False) -> None:
        self.broken, self.energy, self.asked = broken, 40_000, ""

    def nvmlInit(self) -> None:  # noqa: N802 - its name
        if self.broken:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlShutdown(self) -> None: ...  # noqa: N802

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        self.asked = uuid
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        self.energy += 7_500
        return self.energy


def test_energy_is_what_nvml_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gpu:
        uuid = "0123-4567"

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Gpu())
    nvml = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with EnergyMeter("cuda:0") as meter:
        pass
    assert (meter.joules, meter.why_not, nvml.asked) == (7.5, "", "GPU-0123-4567")
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(broken=True))
    with EnergyMeter("cuda:0") as meter:
        pass
    assert meter.joules is None and "Driver Not Loaded" in meter.why_not
    failing = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", failing)
    with EnergyMeter("cuda:0") as meter:
        failing.broken = True
        monkeypatch.setattr(failing, "nvmlDeviceGetTotalEnergyConsumption", lambda handle: failing.nvmlInit())
    assert meter.joules is None and "stopped" in meter.why_not
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "bainite-fast[gpu]" in EnergyMeter("cuda:0").why_not
    assert "on the CPU" in EnergyMeter("cpu").why_not


def test_what_a_comparison_cannot_tell_is_said() -> None:
    def report(*runs: float) -> acceptance.Report:
        return acceptance.Report({"latency_seconds": {"runs": list(runs), "p50": float(np.median(runs))}})

    assert "1 run cannot tell a slower machine from a busy one" in doubts(report(1.0), 0.1)
    assert "the runs lie 30 % apart, more than the limit of 10 %" in doubts(report(1.0, 1.0, 1.3), 0.1)
    assert doubts(report(1.0, 1.0, 1.05), 0.1) == ""


@pytest.mark.parametrize(
    ("runs", "note"),
    [
        (1, ""),
        (3, "; p95 and p99 of 3 runs say little more than the slowest, 3 s"),
        (20, "; p99 of 20 runs says little more than the slowest, 20 s"),
        (100, ""),
    ],
)
def test_percentiles_of_few_runs_are_told_of(runs: int, note: str) -> None:
    seconds = {"runs": [1.0] * runs, "p50": 1.0, "p95": 1.0, "p99": 1.0, "max": float(runs)}
    assert _latency(seconds) == "p50 1 s, p95 1 s, p99 1 s" + note
