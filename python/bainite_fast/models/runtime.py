"""The compiled network: batch norm folded, channels last, traced and frozen by TorchScript.

PyTorch calls ``torch.jit`` deprecated. It is used in this module alone, so that another compiler can stand beside it.
"""

from __future__ import annotations

import contextlib
import copy
import io
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from ..errors import DeviceError, ModelError
from .compiled import DTYPES, FORMATS, LAYOUTS, PRECISIONS, Layout, Precision, Runtime, lay_out, noise, up_to_stride
from .contract import Contract, LoadedModel
from .device import exact_math
from .fold import fold_batch_norm, worst_difference
from .fuse import fuse_layers, fuse_upsampling, middle
from .threads import serial_threads
from .trim import trim
from .winograd import Rewriting, use_winograd

_jit: Any = torch.jit  # untyped, and without exporting the names of its warnings
# Worst relative difference of a compiled network from the eager one, by precision.
AGREE = {"float32": 2e-5, "bfloat16": 3e-2, "float16": 5e-3}

_compiled: weakref.WeakKeyDictionary[LoadedModel, dict[tuple[str, str, str], Runtime]] = weakref.WeakKeyDictionary()
_compiling = threading.Lock()


def compile(
    loaded: LoadedModel, *, precision: Precision = "float32", layout: Layout | None = None, device: str = "cpu"
) -> Runtime:
    """Compile a model for a device, once: a second call returns the same runtime.

    Parameters
    ----------
    loaded : LoadedModel
        From :func:`bainite_fast.models.load`; it is not changed.
    precision : {"float32", "bfloat16", "float16"}
        See :func:`choose_precision`; float16 is for GPUs.
    layout : {"channels_last", "contiguous"}, optional
        Channels last by default: nowhere slower in the measurements of :func:`measure_layout`.
    device : str
        "cpu" or "cuda:N", as :func:`~bainite_fast.models.device.resolve_device` returns it.

    Raises
    ------
    DeviceError
        If the network cannot run in that precision there.
    ModelError
        If `precision` or `layout` is unknown.
    """
    layout = layout or "channels_last"
    if precision not in PRECISIONS or layout not in LAYOUTS:
        raise ModelError(f"precision {precision!r} and layout {layout!r}: use one of {PRECISIONS} and of {LAYOUTS}")
    if precision == "float16" and device == "cpu":
        raise DeviceError(
            "float16 networks run on a GPU only; use precision='bfloat16' or precision='float32' on the CPU"
        )
    key: tuple[Precision, Layout, str] = (precision, layout, device)
    with _compiling:
        if key not in _compiled.setdefault(loaded, {}):
            _compiled[loaded][key] = _build(loaded, _Target(*key))
        return _compiled[loaded][key]


@dataclass(frozen=True, slots=True)
class _Target:
    """What a network is compiled for."""

    precision: Precision
    layout: Layout
    device: str

    def put(self, batch: torch.Tensor) -> torch.Tensor:
        """Return a batch as the compiled network takes it."""
        return batch.to(self.device, DTYPES[self.precision]).contiguous(memory_format=FORMATS[self.layout])

    def put_network(self, network: nn.Module) -> nn.Module:
        """Move a network's weights there."""
        return lay_out(network.to(self.device, DTYPES[self.precision]), FORMATS[self.layout])


def _build(loaded: LoadedModel, target: _Target) -> Runtime:
    precision, layout, device = target.precision, target.layout, target.device
    with torch.inference_mode(False), torch.no_grad(), _quiet(), serial_threads(), exact_math(device):
        build = _compile_script if is_torchscript(loaded.module) else _compile_module
        made = build(loaded, target)
    weights = [*loaded.module.parameters(), *loaded.module.buffers()]
    size = sum(x.numel() for x in weights) * DTYPES[precision].itemsize
    return Runtime(
        loaded.contract,
        precision,
        layout,
        device,
        mode=made.mode,
        folded=made.folded,
        winograd=made.winograd,
        winograd_share=made.winograd_share,
        trimmed=made.trimmed,
        weight_bytes=size,
        _network=_call(made.network),
        _core=_call(made.network if made.core is None else made.core),
    )


def _call(network: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the method, and not the module: torch.fx, tracing in another thread, patches the call of modules."""
    return cast(Any, network).forward if is_torchscript(network) else network


def is_torchscript(module: nn.Module) -> bool:
    """Say whether a module is TorchScript, saved or in memory."""
    return isinstance(module, _jit.ScriptModule)


def read_torchscript(source: Path) -> nn.Module:
    """Read a TorchScript file onto the CPU.

    Raises
    ------
    ModelError
        If PyTorch cannot read it.
    """
    try:
        with _quiet():
            return cast(nn.Module, _jit.load(str(source), map_location="cpu"))
    except (RuntimeError, ValueError, OSError, IndexError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{source}: PyTorch {torch.__version__} cannot read this TorchScript file ({reason}); save it again with "
            "torch.jit.save from the version that made it"
        ) from error


def torchscript_bytes(module: nn.Module) -> bytes:
    """Return a TorchScript module as it would be saved: code, constants and weights."""
    buffer = io.BytesIO()
    with _quiet():
        _jit.save(module, buffer)
    return buffer.getvalue()


def trace_torchscript(module: nn.Module, sample: torch.Tensor, extra: dict[str, str]) -> bytes:
    """Return a network as a TorchScript file that holds `extra` (text by name) too.

    A TorchScript module is saved as it is; any other is traced on `sample` [N, C, H, W].
    """
    buffer = io.BytesIO()
    with _quiet(), torch.no_grad(), serial_threads():
        script = module if is_torchscript(module) else _jit.trace(module, sample, check_trace=False)
        _jit.save(script, buffer, _extra_files=extra)
    return buffer.getvalue()


def run_torchscript(data: bytes, image: torch.Tensor) -> torch.Tensor:
    """Return what the network in a TorchScript file gives for an image [N, C, H, W]."""
    with _quiet(), torch.no_grad():
        y: torch.Tensor = _jit.load(io.BytesIO(data), map_location="cpu")(image)
    return y


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what is known here: torch.jit is deprecated, and size checks in Python are not traced."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.*", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*torch.jit.*", category=FutureWarning)
        warnings.filterwarnings("ignore", category=_jit.TracerWarning)
        yield


@dataclass(frozen=True)
class _Compiled:
    """A compiled network and, where it gains, the one for tiles that have the halo on every side."""

    network: nn.Module
    mode: str
    folded: int = 0
    winograd: int = 0
    winograd_share: float = 0.0
    core: nn.Module | None = None
    trimmed: int = 0


def _samples(loaded: LoadedModel, layout: Layout) -> list[torch.Tensor]:
    """Return three float32 batches of noise of different height, width and number."""
    contract = loaded.contract
    a, b, c = (up_to_stride(contract.stride, x) for x in (32, 48, 80))
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, a, b), (2, c, a), (1, 2 * b, c)]
    return [
        noise(n, contract.in_channels, h, w, generator=generator).contiguous(memory_format=FORMATS[layout])
        for n, h, w in shapes
    ]


def _compile_module(loaded: LoadedModel, target: _Target) -> _Compiled:
    samples, precision = _samples(loaded, target.layout), target.precision
    reference = [loaded.module(x) for x in samples]
    network, folded = fold_batch_norm(loaded.module)
    if not _agrees(network, samples, reference):
        network, folded = copy.deepcopy(loaded.module), 0  # fx took a wrong turn: keep the network as it is
    network = target.put_network(network.eval().requires_grad_(False))
    inputs = [target.put(x) for x in samples]
    try:
        expected = [network(x) for x in inputs]
    except RuntimeError as error:
        raise DeviceError(f"the network does not run in {precision} ({error}); use precision='float32'") from error
    rewriting = Rewriting(network)
    if target == _Target("float32", "channels_last", "cpu"):
        faster = use_winograd(copy.deepcopy(network), samples[0])
        if _same(faster.network, inputs, expected, precision):
            rewriting, network = faster, faster.network
    fused = fuse_layers(copy.deepcopy(network))
    with contextlib.suppress(RuntimeError):  # oneDNN or cuDNN has no such convolution
        network = fused if _same(fused, inputs, expected, precision) else network
    made = _Compiled(network, "eager", folded, rewriting.convolutions, rewriting.share)
    for mode in ("traced", "scripted"):
        frozen = _freeze(network, mode, inputs, expected, precision)
        if frozen is not None:
            return _with_core(replace(made, network=frozen, mode=mode), network, loaded.contract, target)
    return made


def _agrees(network: nn.Module, samples: list[torch.Tensor], reference: list[torch.Tensor]) -> bool:
    """Say whether what fx made of a network runs and gives the same."""
    try:
        found = [network(x) for x in samples]
    except Exception:  # a foreign forward may hold anything that fx writes down wrongly
        return False
    return all(worst_difference(x, y) <= AGREE["float32"] for x, y in zip(found, reference, strict=True))


def _freeze(
    network: nn.Module, mode: str, samples: list[torch.Tensor], expected: list[torch.Tensor], precision: Precision
) -> nn.Module | None:
    """Return the network as TorchScript, or None where that fails or gives something else than `expected`."""
    upsampled = fuse_upsampling(network) if mode == "traced" else network
    if upsampled is not network:
        frozen = _freeze_as(upsampled, mode, samples, expected, precision)
        if frozen is not None:
            return frozen
    return _freeze_as(network, mode, samples, expected, precision)


def _freeze_as(
    network: nn.Module, mode: str, samples: list[torch.Tensor], expected: list[torch.Tensor], precision: Precision
) -> nn.Module | None:
    try:
        made = _jit.trace(network, samples[0], check_trace=False) if mode == "traced" else _jit.script(network)
        frozen = cast(nn.Module, _jit.freeze(_on_its_own(made.eval())))
        for _ in range(2):  # the second run is the optimised one
            same = _same(frozen, samples, expected, precision)
    except (RuntimeError, TypeError, ValueError, AttributeError, _jit.TracingCheckError):
        return None
    return frozen if same else None


def _on_its_own(script: nn.Module) -> Any:
    """Return a TorchScript module as it is once saved and read again.

    What is traced or scripted shares one compilation unit of the process, which keeps for good what freezing adds to
    it: all weights. What is read has a unit of its own, and goes with it. What calls Python cannot be saved, and stays.
    """
    buffer = io.BytesIO()
    try:
        _jit.save(script, buffer)
    except RuntimeError:
        return script
    buffer.seek(0)
    return _jit.load(buffer)


def _with_core(made: _Compiled, network: nn.Module, contract: Contract, target: _Target) -> _Compiled:
    """Add the trimmed network, if there is one and it gives the same logits where the halo is known."""
    halo = contract.halo
    trimming = trim(network, halo)
    if trimming is None:
        return made
    trimmed, margin = trimming
    height, width = (2 * halo + contract.stride * k for k in (2, 3))
    sample = target.put(noise(1, contract.in_channels, height, width, generator=torch.Generator().manual_seed(0)))
    core = _freeze(trimmed, "traced", [sample], [middle(network(sample), halo)], target.precision)
    return made if core is None else replace(made, core=core, trimmed=margin)


def _same(network: Any, samples: list[torch.Tensor], expected: list[torch.Tensor], precision: Precision) -> bool:
    """Say whether the answers agree where they are expected: all of it, or the middle."""
    found = [network(x) for x in samples]
    return all(
        x.shape[:2] == y.shape[:2]
        and x.shape[2:] >= y.shape[2:]
        and worst_difference(middle(x, (x.shape[2] - y.shape[2]) // 2), y) <= AGREE[precision]
        for x, y in zip(found, expected, strict=True)
    )


def _compile_script(loaded: LoadedModel, target: _Target) -> _Compiled:
    samples, precision, dtype = _samples(loaded, target.layout), target.precision, DTYPES[target.precision]
    reference = [loaded.module(x) for x in samples]
    network = copy.deepcopy(loaded.module)
    if hasattr(network, "training"):  # freezing takes the attribute away
        network = _jit.freeze(cast(Any, target.put_network(network)).eval())
    try:
        for _ in range(2):
            found = [network(target.put(x)) for x in samples]
    except RuntimeError as error:
        raise DeviceError(
            f"this TorchScript file does not run in {precision} on {target.device} (its weights, casts or device are "
            "frozen into it); use precision='float32' on the CPU or give the nn.Module"
        ) from error
    if any(
        a.dtype != dtype or not worst_difference(a.cpu(), b) <= 4 * AGREE[precision]
        for a, b in zip(found, reference, strict=True)
    ):
        raise DeviceError(
            f"this TorchScript file gives other logits in {precision} than in float32; use precision='float32'"
        )
    return _Compiled(network, "frozen")
