"""The other compiler, Inductor, for the one batch shape that most of a mosaic goes through.

It is reached by ``torch.export`` and AOTInductor, or by ``torch.compile``: the same kernels, called by C++ or Python.
Compiling takes a minute or more and pays on large mosaics where it is faster; whether it is, is measured. Batches of
another shape (the mosaic's right and lower border) run as TorchScript.
"""

from __future__ import annotations

import importlib
import statistics
import tempfile
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from ..errors import DeviceError
from .compiled import DTYPES, FORMATS, Runtime, lay_out
from .contract import LoadedModel
from .device import exact_math
from .fold import fold_batch_norm, worst_difference
from .fuse import middle
from .runtime import AGREE, is_torchscript
from .threads import serial_threads
from .trim import trim

RUNTIMES = ("torchscript", "export", "compile")
_MODES = {"export": "exported", "compile": "compiled"}
WINS = 1.03  # how much faster it must be to be worth its compiling
_ROUNDS = 5
Shape = tuple[int, int, int]  # batch, height, width

_Key = tuple[str, str, str, str, Shape, int]
_exported: weakref.WeakKeyDictionary[LoadedModel, dict[_Key, Runtime]] = weakref.WeakKeyDictionary()
_exporting = threading.Lock()


def export_core(
    loaded: LoadedModel, runtime: Runtime, shape: Shape, *, by: str = "export", runners: int = 1
) -> Runtime:
    """Return a runtime whose :meth:`~Runtime.run_core` is compiled by Inductor for batches of one shape.

    A model is compiled once in a process, however many mosaics of one plan it segments.

    Parameters
    ----------
    loaded : LoadedModel
        The model.
    runtime : Runtime
        Of this model: says device, precision and layout, and runs all other batches.
    shape : (int, int, int)
        Tiles, height and width of the batches, px.
    by : {"export", "compile"}
        AOTInductor or ``torch.compile``.
    runners : int
        Threads that run it at a time.

    Raises
    ------
    DeviceError
        If PyTorch cannot export or compile the network, or it then gives other logits.
    """
    if is_torchscript(loaded.module):
        raise DeviceError(f"a TorchScript file cannot be {_MODES[by]}; use runtime='torchscript' or give the nn.Module")
    key = (by, runtime.precision, runtime.layout, runtime.device, shape, runners)
    with _exporting:
        known = _exported.setdefault(loaded, {})
        if key not in known:
            known.clear()  # one at a time: every one holds its weights
            known[key] = _export(loaded, runtime, shape, by, runners)
        return known[key]


def _export(loaded: LoadedModel, runtime: Runtime, shape: Shape, by: str, runners: int) -> Runtime:
    limit = AGREE[runtime.precision]
    batch = runtime.new_batch(*shape).normal_(generator=torch.Generator(runtime.device).manual_seed(0))
    expected = runtime.run_core(batch)
    whole = runtime.run_core
    try:
        with torch.no_grad(), serial_threads(), exact_math(runtime.device):
            compiled = (aot_compile if by == "export" else jit_compile)(_core(loaded, runtime), batch, runners)

        def core(x: torch.Tensor) -> torch.Tensor:
            same = (x.shape, x.stride()) == (batch.shape, batch.stride())
            return compiled(x) if same else whole(x)

        made = replace(runtime, mode=_MODES[by], _core=core)
        with serial_threads():
            found = made.run_core(batch)  # here torch.compile compiles: for how workers call it, or each would anew
    except (RuntimeError, TypeError, ValueError, AttributeError, OSError, ImportError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DeviceError(f"PyTorch cannot {by} this network ({reason}); use runtime='torchscript'") from error
    edge = loaded.contract.halo - runtime.trimmed  # what lies outside of the halo is nobody's: compilers differ there
    if found.shape != expected.shape or not worst_difference(middle(found, edge), middle(expected, edge)) <= limit:
        raise DeviceError(f"the {_MODES[by]} network gives other logits than the network; use runtime='torchscript'")
    return made


def _core(loaded: LoadedModel, runtime: Runtime) -> nn.Module:
    """Return the network as PyTorch's own layers, without the margin that the runtime's core lacks."""
    network, _ = fold_batch_norm(loaded.module)
    network = network.eval().requires_grad_(False).to(runtime.device, DTYPES[runtime.precision])
    network = lay_out(network, FORMATS[runtime.layout])
    if not runtime.trimmed:
        return network
    trimming = trim(network, loaded.contract.halo)
    if trimming is None or trimming[1] != runtime.trimmed:
        raise ValueError("its trimmed form is not that of the runtime")
    return trimming[0]


def aot_compile(network: nn.Module, batch: torch.Tensor, runners: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Compile a network for one batch shape; return what runs it, from so many threads at a time."""
    inductor: Any = torch._inductor
    # Not aoti_load_package: that takes no number of runners.
    load_package: Any = importlib.import_module("torch._inductor.package").load_package
    on_device = batch.device.type != "cpu"  # where it is run from one thread, and its events would forbid a CUDA graph
    options = {"run_single_threaded": on_device, "num_runners": 1 if on_device else runners}
    where = -1 if batch.device.index is None else batch.device.index
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="bainite-export-") as folder:
        warnings.simplefilter("ignore")  # PyTorch's, about itself
        program = torch.export.export(network, (batch,))
        package = inductor.aoti_compile_and_package(program, package_path=str(Path(folder) / "network.pt2"))
        return cast(Callable[[torch.Tensor], torch.Tensor], load_package(package, **options, device_index=where))


def jit_compile(network: nn.Module, batch: torch.Tensor, runners: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Let ``torch.compile`` compile a network at its first pass, for one batch shape and any number of threads."""
    # What it is made of is code of its own: PyTorch gives up where it has compiled one function for many networks.
    graph = torch.export.export(network, (batch,)).module()
    return cast(Callable[[torch.Tensor], torch.Tensor], torch.compile(graph, dynamic=False, fullgraph=True))


def is_faster(exported: Runtime, runtime: Runtime, shape: Shape) -> bool:
    """Say whether an exported core is faster by :data:`WINS`, by medians of passes in turn on one thread."""
    batch = runtime.new_batch(*shape).zero_()
    seconds: dict[str, list[float]] = {"exported": [], "plain": []}
    with serial_threads():
        for turn in range(_ROUNDS + 1):
            for name, one in (("exported", exported), ("plain", runtime)):
                start = time.perf_counter()
                one.run_core(batch)
                if runtime.device != "cpu":
                    torch.cuda.current_stream(runtime.device).synchronize()
                if turn:  # the first warms up
                    seconds[name].append(time.perf_counter() - start)
    return statistics.median(seconds["plain"]) > WINS * statistics.median(seconds["exported"])
