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
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch import nn

from ..errors import DeviceError, ModelError
from .contract import Contract, LoadedModel
from .fold import fold_batch_norm, worst_difference
from .fuse import fuse_layers, middle
from .peak import fit_line, peak_bytes, resident_bytes
from .threads import keep_serial, serial_threads
from .trim import trim
from .winograd import Rewriting, use_winograd

Precision = Literal["float32", "bfloat16"]
Layout = Literal["channels_last", "contiguous"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
LAYOUTS: tuple[str, ...] = get_args(Layout)

_jit: Any = torch.jit  # untyped, and without exporting the names of its warnings
_mkldnn: Any = torch.backends.mkldnn
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
_AGREE = {"float32": 2e-5, "bfloat16": 3e-2}  # worst relative difference of a compiled network from the eager one
_FIT_PIXELS = (192**2, 384**2)  # sizes that memory is measured at


@dataclass(slots=True, eq=False)
class Runtime:
    """A network ready to run on the CPU, from any number of threads at once.

    Attributes
    ----------
    contract : Contract
        Of the model.
    precision : {"float32", "bfloat16"}
        Of weights, batch and logits.
    layout : {"channels_last", "contiguous"}
        Of batches in memory.
    mode : {"traced", "scripted", "frozen", "eager"}
        How the network runs: ``"frozen"`` is a TorchScript file as it came; ``"eager"`` where tracing changes the
        answer.
    folded : int
        Batch norms folded into convolutions.
    winograd : int
        Convolutions replaced by :class:`~bainite_fast.models.winograd.WinogradConv2d`.
    winograd_share : float
        Their share of the network's multiplications, 0…1.
    trimmed : int
        Margin in px that :meth:`run_core` leaves out on each side; 0 where it runs the whole network.
    """

    contract: Contract
    precision: Precision
    layout: Layout
    mode: str
    folded: int
    winograd: int
    winograd_share: float
    trimmed: int
    weight_bytes: int
    _network: Callable[[torch.Tensor], torch.Tensor] = field(repr=False)
    _core: Callable[[torch.Tensor], torch.Tensor] = field(repr=False)
    _line: tuple[float, float] | None = field(default=None, repr=False)
    _fitting: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def dtype(self) -> str:
        """Name of the batch's dtype."""
        return self.precision

    @property
    def torch_dtype(self) -> torch.dtype:
        """Dtype of batches and logits."""
        return _DTYPES[self.precision]

    @property
    def memory_format(self) -> torch.memory_format:
        """Memory format of batches; logits may come in either."""
        return _FORMATS[self.layout]

    def new_batch(self, n: int, height: int, width: int) -> torch.Tensor:
        """Return an uninitialised batch [n, in_channels, height, width] of the right dtype and layout."""
        shape = (n, self.contract.in_channels, height, width)
        return torch.empty(shape, dtype=self.torch_dtype, memory_format=self.memory_format)

    def run(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the logits of a normalised batch.

        Parameters
        ----------
        batch : torch.Tensor [n, in_channels, height, width]
            From :meth:`new_batch`; height and width are multiples of the model's stride.

        Returns
        -------
        torch.Tensor [n, out_channels, height, width]
            In the runtime's dtype and in either layout.

        Raises
        ------
        ModelError
            If the batch has another shape or dtype.
        """
        return self._run(self._network, batch)

    def run_core(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the logits where the halo is in the batch, and of up to a halo of pixels round it.

        Parameters
        ----------
        batch : torch.Tensor [n, in_channels, height, width]
            As for :meth:`run`, and at least two halos and a stride high and wide.

        Returns
        -------
        torch.Tensor [n, out_channels, height - 2 · trimmed, width - 2 · trimmed]
            In the runtime's dtype and in either layout.

        Raises
        ------
        ModelError
            If the batch has another shape or dtype.
        """
        return self._run(self._core, batch)

    def _run(self, network: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
        stride, channels = self.contract.stride, self.contract.in_channels
        if batch.dim() != 4 or batch.shape[1] != channels or batch.dtype != self.torch_dtype:
            raise ModelError(
                f"the runtime takes {self.precision} batches [N, {channels}, H, W], and got {batch.dtype} "
                f"{list(batch.shape)}; make them with new_batch"
            )
        if batch.shape[2] % stride or batch.shape[3] % stride:
            raise ModelError(
                f"a batch of {batch.shape[2]} × {batch.shape[3]} px does not fit the model's stride of {stride} px"
            )
        keep_serial()
        with torch.inference_mode():
            return network(batch)

    def activation_bytes(self, n: int, height: int, width: int) -> int:
        """Return the predicted peak memory of one run in bytes: batch, activations, scratch and logits.

        It is what the process grows by when one more thread runs the network: the allocator's loss is in it, so the
        allocator must be tuned before, if at all. The first call measures two small batches. The weights themselves
        (:attr:`weight_bytes`) come once on top.
        """
        with self._fitting:
            if self._line is None:
                self._line = self._fit()
            constant, slope = self._line
        batch = n * self.contract.in_channels * height * width * self.torch_dtype.itemsize
        return resident_bytes(constant + slope * n * height * width + batch, self.weight_bytes)

    def _fit(self) -> tuple[float, float]:
        pixels, peaks = [], []
        for area in _FIT_PIXELS:
            edge = _edge(self.contract.stride, int(area**0.5))
            batch = self.new_batch(1, edge, edge).zero_()
            with serial_threads():  # scratch may grow with the threads
                self.run(batch)
                peaks.append(peak_bytes(partial(self.run, batch)))
            pixels.append(edge * edge)
        if pixels[0] == pixels[1]:
            return 0.0, peaks[1] / pixels[1]
        return fit_line((pixels[0], pixels[1]), (peaks[0], peaks[1]))

    def fingerprint(self) -> dict[str, Any]:
        """Return, JSON-able, all that decides the bits of the logits besides model and input."""
        return {
            "precision": self.precision,
            "layout": self.layout,
            "mode": self.mode,
            "folded_batch_norms": self.folded,
            "winograd_convolutions": self.winograd,
            "trimmed_px": self.trimmed,
            "torch": torch.__version__,
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "mkldnn": _mkldnn.is_available(),
            "intra_op_threads": 1,
        }


_compiled: weakref.WeakKeyDictionary[LoadedModel, dict[tuple[str, str], Runtime]] = weakref.WeakKeyDictionary()
_compiling = threading.Lock()


def compile(loaded: LoadedModel, *, precision: Precision = "float32", layout: Layout | None = None) -> Runtime:
    """Compile a model for the CPU, once: a second call returns the same runtime.

    Parameters
    ----------
    loaded : LoadedModel
        From :func:`bainite_fast.models.load`; it is not changed.
    precision : {"float32", "bfloat16"}
        See :func:`choose_precision`.
    layout : {"channels_last", "contiguous"}, optional
        Channels last by default: nowhere slower in the measurements of :func:`measure_layout`.

    Raises
    ------
    DeviceError
        If the network cannot run in that precision.
    ModelError
        If `precision` or `layout` is unknown.
    """
    layout = layout or "channels_last"
    if precision not in PRECISIONS or layout not in LAYOUTS:
        raise ModelError(f"precision {precision!r} and layout {layout!r}: use one of {PRECISIONS} and of {LAYOUTS}")
    key = (precision, layout)
    with _compiling:
        if key not in _compiled.setdefault(loaded, {}):
            _compiled[loaded][key] = _build(loaded, precision, layout)
        return _compiled[loaded][key]


def _build(loaded: LoadedModel, precision: Precision, layout: Layout) -> Runtime:
    with torch.inference_mode(False), torch.no_grad(), _quiet(), serial_threads():
        build = _compile_script if is_torchscript(loaded.module) else _compile_module
        made = build(loaded, precision, layout)
    weights = [*loaded.module.parameters(), *loaded.module.buffers()]
    size = sum(x.numel() for x in weights) * _DTYPES[precision].itemsize
    return Runtime(
        loaded.contract,
        precision,
        layout,
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
    except (RuntimeError, ValueError, OSError) as error:
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


def _edge(stride: int, least: int) -> int:
    return -(-least // stride) * stride


def _samples(loaded: LoadedModel, layout: Layout) -> list[torch.Tensor]:
    """Return three float32 batches of noise of different height, width and number."""
    contract = loaded.contract
    a, b, c = (_edge(contract.stride, x) for x in (32, 48, 80))
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, a, b), (2, c, a), (1, 2 * b, c)]
    return [
        torch.randn(n, contract.in_channels, h, w, generator=generator).contiguous(memory_format=_FORMATS[layout])
        for n, h, w in shapes
    ]


def _compile_module(loaded: LoadedModel, precision: Precision, layout: Layout) -> _Compiled:
    samples, dtype = _samples(loaded, layout), _DTYPES[precision]
    reference = [loaded.module(x) for x in samples]
    network, folded = fold_batch_norm(loaded.module)
    if any(worst_difference(network(x), y) > _AGREE["float32"] for x, y in zip(samples, reference, strict=True)):
        network, folded = copy.deepcopy(loaded.module), 0  # fx took a wrong turn: keep the network as it is
    network = network.eval().requires_grad_(False).to(dtype=dtype).to(memory_format=_FORMATS[layout])  # type: ignore[call-overload]
    inputs = [x.to(dtype) for x in samples]
    try:
        expected = [network(x) for x in inputs]
    except RuntimeError as error:
        raise DeviceError(f"the network does not run in {precision} ({error}); use precision='float32'") from error
    rewriting = Rewriting(network)
    if precision == "float32" and layout == "channels_last":
        faster = use_winograd(copy.deepcopy(network), samples[0])
        if _same(faster.network, inputs, expected, precision):
            rewriting, network = faster, faster.network
    fused = fuse_layers(copy.deepcopy(network))
    with contextlib.suppress(RuntimeError):  # oneDNN has no such convolution
        network = fused if _same(fused, inputs, expected, precision) else network
    made = _Compiled(network, "eager", folded, rewriting.convolutions, rewriting.share)
    for mode in ("traced", "scripted"):
        frozen = _freeze(network, mode, inputs, expected, precision)
        if frozen is not None:
            return _with_core(replace(made, network=frozen, mode=mode), network, loaded.contract, precision, layout)
    return made


def _freeze(
    network: nn.Module, mode: str, samples: list[torch.Tensor], expected: list[torch.Tensor], precision: Precision
) -> nn.Module | None:
    """Return the network as TorchScript, or None where that fails or gives something else than `expected`."""
    try:
        made = _jit.trace(network, samples[0], check_trace=False) if mode == "traced" else _jit.script(network)
        frozen = cast(nn.Module, _jit.freeze(made.eval()))
        for _ in range(2):  # the second run is the optimised one
            same = _same(frozen, samples, expected, precision)
    except (RuntimeError, TypeError, ValueError, AttributeError, _jit.TracingCheckError):
        return None
    return frozen if same else None


def _with_core(
    made: _Compiled, network: nn.Module, contract: Contract, precision: Precision, layout: Layout
) -> _Compiled:
    """Add the trimmed network, if there is one and it gives the same logits where the halo is known."""
    halo = contract.halo
    trimming = trim(network, halo)
    if trimming is None:
        return made
    trimmed, margin = trimming
    height, width = (2 * halo + contract.stride * k for k in (2, 3))
    noise = torch.randn(1, contract.in_channels, height, width, generator=torch.Generator().manual_seed(0))
    noise = noise.to(_DTYPES[precision]).contiguous(memory_format=_FORMATS[layout])
    core = _freeze(trimmed, "traced", [noise], [middle(network(noise), halo)], precision)
    return made if core is None else replace(made, core=core, trimmed=margin)


def _same(network: Any, samples: list[torch.Tensor], expected: list[torch.Tensor], precision: Precision) -> bool:
    """Say whether the answers agree where they are expected: all of it, or the middle."""
    found = [network(x) for x in samples]
    return all(
        x.shape[:2] == y.shape[:2]
        and x.shape[2:] >= y.shape[2:]
        and worst_difference(middle(x, (x.shape[2] - y.shape[2]) // 2), y) <= _AGREE[precision]
        for x, y in zip(found, expected, strict=True)
    )


def _compile_script(loaded: LoadedModel, precision: Precision, layout: Layout) -> _Compiled:
    samples, dtype = _samples(loaded, layout), _DTYPES[precision]
    reference = [loaded.module(x) for x in samples]
    network = copy.deepcopy(loaded.module)
    if hasattr(network, "training"):  # freezing takes the attribute away
        network = network.to(dtype=dtype).to(memory_format=_FORMATS[layout])  # type: ignore[call-overload]
        network = _jit.freeze(cast(Any, network).eval())
    try:
        for _ in range(2):
            found = [network(x.to(dtype)) for x in samples]
    except RuntimeError as error:
        raise DeviceError(
            f"this TorchScript file does not run in {precision} (its weights or casts are frozen into it); "
            "use precision='float32' or give the nn.Module"
        ) from error
    if any(
        a.dtype != dtype or worst_difference(a, b) > 4 * _AGREE[precision]
        for a, b in zip(found, reference, strict=True)
    ):
        raise DeviceError(
            f"this TorchScript file gives other logits in {precision} than in float32; use precision='float32'"
        )
    return _Compiled(network, "frozen")
