"""``bainite-fast bench``: throughput acceptance of an installation."""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._disk import write_text
from .._optional import require
from ..errors import InputError, OutputError, OutputExistsError
from ..training.words import duration
from ._console import emit, emit_json, file_size, plain, progress, say, table
from ._options import (
    Channel,
    CropBar,
    Device,
    Json,
    Memory,
    Model,
    Overwrite,
    Plane,
    Precision,
    Quiet,
    Runtime,
    Scale,
    Tile,
)
from ._parsing import parse_output
from ._segment import tune_allocator

if TYPE_CHECKING:
    from ..bench import Report

EXIT_LIMIT = 3
_LIMIT = 10.0  # percent
_GIGAPIXELS = 0.1
_FEWEST_RUNS = 3  # for a comparison


def bench(
    source: Annotated[
        str | None,
        typer.Argument(metavar="SOURCE", help="The mosaic; left out, one is drawn.", show_default=False),
    ] = None,
    model: Model = None,
    gigapixels: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            min=0.0021,  # half a field of bench.mosaic, which rounds up to one
            max=1000,
            help="Size of the mosaic that is drawn where no SOURCE is given.",
            show_default="0.1",
        ),
    ] = None,
    runs: Annotated[int, typer.Option(metavar="N", min=1, help="How many times the mosaic is segmented.")] = 3,
    takt: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0.0,
            help="Time that a mosaic may take: exit status 3 if any took longer.",
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    runtime: Runtime = "torchscript",
    scale: Scale = "auto",
    tile: Tile = None,
    memory: Memory = None,
    plane: Plane = None,
    channel: Channel = None,
    crop_bar: CropBar = None,
    work: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where the drawn mosaic and the labels go for the time being.", show_default="temporary"
        ),
    ] = None,
    save: Annotated[
        str | None,
        typer.Option(parser=parse_output, metavar="FILE", help="Save the report as a baseline.", show_default=False),
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Compare with a baseline: exit status 3 if slower than --limit.", show_default=False
        ),
    ] = None,
    limit: Annotated[
        float | None,
        typer.Option(
            metavar="PERCENT",
            min=0.0,
            help="With --compare: how much slower than the baseline is still accepted.",
            show_default="10",
        ),
    ] = None,
    chart: Annotated[
        str | None,
        typer.Option(parser=parse_output, metavar="PNG", help="Draw the stages as PNG.", show_default=False),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure how fast this installation segments a mosaic, and what the network waits for.

    The network is compiled and warm before the clock starts, which then runs from opening the mosaic to finished
    labels. Utilisation counts the operations of direct convolutions over whole tiles, per second of the network,
    against matrix products measured just before: Winograd's convolutions and tiles trimmed to their core need fewer,
    and may bring it above 100 %, as other work on the machine during that measurement does. Exit status 3 says that a
    limit failed: --takt or --compare.
    """
    for name, value in (("--takt", takt), ("--limit", limit)):
        if value is not None and not math.isfinite(value):
            raise typer.BadParameter(f"{name} {value} is no limit: nothing could fail it; give a finite number")
    if limit is not None and compare is None:
        raise typer.BadParameter("--limit belongs to --compare BASELINE, and nothing is compared")
    if gigapixels is not None and source is not None:
        raise typer.BadParameter("--gigapixels is the size of a mosaic that is drawn, and SOURCE is one; leave out one")
    reads = [path for path in (source, model, compare) if path is not None]
    check_outputs([path for path in (save, chart) if path is not None], map(Path, reads), overwrite=overwrite)
    if work is not None and not work.is_dir():
        raise OutputError(f"{work} is not a folder that is there; make it first, or name another with --work")
    if chart is not None:
        if Path(chart).suffix.lower() != ".png":
            raise typer.BadParameter(f"--chart {chart} does not end in .png, and a PNG is written; name it so")
        require("matplotlib", "plots", "a chart")
    baseline = None if compare is None else read_report(compare)
    tune_allocator()
    from .. import bench as acceptance

    with contextlib.ExitStack() as stack:
        if source is None:
            size = _GIGAPIXELS if gigapixels is None else gigapixels
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bainite-bench-", dir=work))
            source = str(acceptance.draw(Path(folder) / f"drawn-{size:g}-gigapixels.ome.zarr", size))
        with progress("bench", quiet=quiet) as step:
            report = acceptance.measure(
                source,
                model,
                runs=runs,
                device=device,
                precision=precision,
                runtime=runtime,
                scale=scale,
                tile=tile,
                memory_budget=memory,
                plane=plane,
                channel=channel,
                crop_bar=crop_bar,
                work=work,
                baseline=baseline,
                progress=step,
            )
    if save is not None:
        write_report(report, Path(save))
    if chart is not None:
        acceptance.save_png(report, Path(chart))
    slower = None if baseline is None else report.slower_than(baseline)
    most = (_LIMIT if limit is None else limit) / 100
    verdicts = judge(report, takt, slower, most)
    if baseline is not None and (doubt := doubts(report, most)):
        say(f"warning: {doubt}")
    if as_json:
        emit_json({**report.values, "takt_seconds": takt, "slower_than_baseline": slower, "failed": verdicts})
    else:
        emit(f"{summarize(report)}\n\n{acceptance.text(report)}")
        if slower is not None:
            emit(f"\n{'slower' if slower > 0 else 'faster'} than the baseline by {percent(abs(slower))}")
    for verdict in verdicts:
        say(f"failed: {verdict}")
    if verdicts:
        raise typer.Exit(EXIT_LIMIT)


def check_outputs(outputs: Sequence[str], reads: Iterable[Path], *, overwrite: bool) -> None:
    """Refuse what could not be written, or must not be, before anything is measured.

    Parameters
    ----------
    outputs : sequence of str
        Files to write.
    reads : iterable of pathlib.Path
        Source, model and baseline, which no output replaces: a run that failed its limit would be the next baseline.

    Raises
    ------
    InputError
        If two outputs are one file, or one is what is read or lies in it.
    OutputExistsError
        If one exists, and is not to be overwritten, or is a folder.
    OutputError
        If its folder is not there or cannot be written.
    """
    paths, there = [Path(output) for output in outputs], [path.resolve() for path in reads if path.exists()]
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError(f"{paths[0]} is to be written twice, as report and as chart; give two names")
    for path in paths:
        if any(path.resolve().is_relative_to(one) for one in there):
            raise InputError(f"{path} is, or lies in, what this very command reads; give another name")
        if path.is_dir():
            raise OutputExistsError(f"{path} is a folder, and a file is to be written; give another name")
        if path.exists() and not overwrite:
            raise OutputExistsError(f"{path} exists; give another name, or add --overwrite")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            why = "cannot be written" if path.parent.is_dir() else "does not exist"
            raise OutputError(f"cannot write {path}: the folder {path.parent} {why}; make it, or give another")


def read_report(path: Path) -> Report:
    """Read what ``--save`` wrote.

    Raises
    ------
    InputError
        If the file is not there or is no report.
    """
    from ..bench import Report

    try:
        return Report.read(json.loads(path.read_text()))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; save a baseline first: bainite-fast bench … --save {path}") from None
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is not a report of `bainite-fast bench --save` ({error})") from error


def write_report(report: Report, path: Path) -> None:
    """Save a report whole or not at all."""
    write_text(path, json.dumps(plain(report.values), indent=2) + "\n")


def judge(report: Report, takt: float | None, slower: float | None, limit: float) -> list[str]:
    """Return what failed, in words."""
    failed = []
    if takt is not None and report.slowest > takt:
        failed.append(f"a mosaic took {report.slowest:.6g} s, and the takt is {takt:.6g} s")
    if slower is not None and slower > limit:
        failed.append(f"{100 * slower:.4g} % slower than the baseline, and {100 * limit:.4g} % is the limit")
    return failed


def percent(share: float) -> str:
    """Write a share as ``132.1 %``."""
    return f"{100 * share:.1f} %"


def doubts(report: Report, limit: float) -> str:
    """Return why a comparison with a baseline says little; "" where it does not."""
    runs = report.values["latency_seconds"]["runs"]
    apart = (max(runs) - min(runs)) / report.latency
    if len(runs) < _FEWEST_RUNS:
        what = f"{len(runs)} run{'s' * (len(runs) > 1)} cannot tell a slower machine from a busy one"
    elif apart > limit:
        what = f"the runs lie {100 * apart:.3g} % apart, more than the limit of {100 * limit:.4g} %"
    else:
        return ""
    return f"{what}: measure on an idle machine, on a larger mosaic or with more --runs"


def above(utilisation: float) -> str:
    """Return why a utilisation can be above 1; "" where it is not."""
    if utilisation <= 1:
        return ""
    return (
        " (counted as direct convolutions over whole tiles, of which Winograd and trimmed tiles do fewer; or other "
        "work slowed those products)"
    )


_ENOUGH = {"p95": 20, "p99": 100}  # runs, of which one is slower


def _latency(seconds: dict[str, Any]) -> str:
    """Return the percentiles of the time of a mosaic, and which of them so few runs do not tell from the slowest."""
    runs = len(seconds["runs"])
    shown = ", ".join(f"{name} {seconds[name]:.4g} s" for name in ("p50", "p95", "p99"))
    few = [name for name, enough in _ENOUGH.items() if runs < enough]
    if not few or runs == 1:
        return shown
    say = "say" if len(few) > 1 else "says"
    return f"{shown}; {' and '.join(few)} of {runs} runs {say} little more than the slowest, {seconds['max']:.4g} s"


def summarize(report: Report) -> str:
    """Return the figures as lines for a reader."""
    values = report.values
    latency, network, plan = values["latency_seconds"], values["network"], values["plan"]
    waits, utilisation = values["network_waited_seconds"], network["utilisation"]
    resampled = "" if plan["grid"] == plan["shape"] else " of pixels at the model's scale"
    device_bytes, joules = values["memory"]["peak_device_bytes"], values["joules_per_gigapixel"]
    on_device = [] if device_bytes is None else [
        ("GPU", values["machine"]["gpu"]),
        ("GPU memory", f"{file_size(device_bytes)} peak"),
        ("energy", values["joules_missing"] if joules is None else f"{joules:.4g} J per gigapixel"),
    ]  # fmt: skip
    return table(
        [
            ("mosaic", f"{values['mosaic']['name']}, {plan['shape'][0]} × {plan['shape'][1]} px"),
            ("runs", str(values["runs"])),
            ("model", values["model"]["name"]),
            ("device", f"{plan['device']}, {plan['precision']}, {values['workers']} networks at a time"),
            ("machine", f"{values['machine']['cpu']}, {values['machine']['cores']} cores"),
            ("sustained", f"{values['pixels_per_second'] / 1e6:.3g} Mpx/s"),
            ("latency", _latency(latency)),
            ("network", f"{duration(network['seconds'])} of {duration(sum(latency['runs']) / values['runs'])}, "
             f"waited {duration(sum(waits.values()))}"),
            ("bare network", f"{network['bare_pixels_per_second'] / 1e6:.3g} Mpx/s{resampled}; the job has "
             f"{percent(network['share_of_bare'])} of it"),
            ("utilisation", f"{percent(utilisation)} of {network['matrix_flop_per_second'] / 1e9:.4g} GFLOP/s "
             f"measured in matrix products{above(utilisation)}"),
            ("memory", f"{file_size(values['memory']['peak_host_bytes'])} peak of "
             f"{file_size(values['memory']['budget_bytes'])}"),
            *on_device,
        ]
    )  # fmt: skip
