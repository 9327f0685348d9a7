"""A network that is ready to run, whatever compiled it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, cast, get_args

import torch
from torch import nn

from ..errors import ModelError
from .contract import Contract
from .device import device_facts, exact_math, peak_device_bytes
from .peak import fit_line, most_elements, peak_bytes, resident_bytes
from .threads import keep_serial, serial_threads

Precision = Literal["float32", "bfloat16", "float16"]
Layout = Literal["channels_last", "contiguous"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
LAYOUTS: tuple[str, ...] = get_args(Layout)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
_FIT_PIXELS = (192**2, 384**2)  # sizes that memory is measured at


@dataclass(slots=True, eq=False)
class Runtime:
    """A network ready to run: on the CPU from any number of threads at once, on a GPU from one.

    Attributes
    ----------
    contract : Contract
        Of the model.
    precision : {"float32", "bfloat16", "float16"}
        Of weights, batch and logits.
    device : str
        "cpu" or "cuda:N": where weights, batch and logits are.
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
    device: str
    mode: str
    folded: int
    winograd: int
    winograd_share: float
    trimmed: int
    weight_bytes: int
    _network: Callable[[torch.Tensor], torch.Tensor] = field(repr=False)
    _core: Callable[[torch.Tensor], torch.Tensor] = field(repr=False)
    _line: tuple[float, float] | None = field(default=None, repr=False)
    _widest: float | None = field(default=None, repr=False)
    _fitting: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def dtype(self) -> str:
        """Name of the batch's dtype."""
        return self.precision

    @property
    def torch_dtype(self) -> torch.dtype:
        """Dtype of batches and logits."""
        return DTYPES[self.precision]

    @property
    def memory_format(self) -> torch.memory_format:
        """Memory format of batches; logits may come in either."""
        return FORMATS[self.layout]

    def new_batch(self, n: int, height: int, width: int) -> torch.Tensor:
        """Return an uninitialised batch [n, in_channels, height, width] of the right dtype and layout."""
        shape = (n, self.contract.in_channels, height, width)
        return torch.empty(shape, dtype=self.torch_dtype, memory_format=self.memory_format, device=self.device)

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
        with torch.inference_mode(), exact_math(self.device):
            try:
                return network(batch)
            except RuntimeError as error:
                if self.device != "cpu":  # its memory may be short
                    raise
                reason = next(iter(str(error).strip().splitlines()[-1:]), type(error).__name__)
                raise ModelError(
                    f"the network fails on a batch {list(batch.shape)} (N, C, H, W): {reason.strip()}. If the image is "
                    "tiny and taken bare (edge='native'), use edge='mirror'"
                ) from error

    def activation_bytes(self, n: int, height: int, width: int) -> int:
        """Return the predicted peak memory of one run in bytes: batch, activations, scratch and logits.

        On the CPU it is what the process grows by when one more thread runs the network: the allocator's loss is in it,
        so the allocator must be tuned before, if at all. On a GPU it is device memory. The first call measures two
        small batches. The weights themselves (:attr:`weight_bytes`) come once on top.
        """
        with self._fitting:
            if self._line is None:
                self._line = self._fit()
            constant, slope = self._line
        batch = n * self.contract.in_channels * height * width * self.torch_dtype.itemsize
        alive = constant + slope * n * height * width + batch
        return resident_bytes(alive, self.weight_bytes) if self.device == "cpu" else int(1.1 * alive)

    def largest_tensor(self, n: int, height: int, width: int) -> int:
        """Return the elements of the largest tensor of one run; the first call measures a small batch."""
        with self._fitting:
            if self._widest is None:
                edge = up_to_stride(self.contract.stride, int(_FIT_PIXELS[0] ** 0.5))
                batch = self.new_batch(1, edge, edge).zero_()
                self._widest = most_elements(partial(self.run, batch)) / edge**2
        return math.ceil(n * height * width * self._widest)

    def _fit(self) -> tuple[float, float]:
        pixels, peaks = [], []
        for area in _FIT_PIXELS:
            edge = up_to_stride(self.contract.stride, int(area**0.5))
            # Scratch may grow with the threads; and in a process forked from one that used them, they are not there.
            with serial_threads():
                batch = self.new_batch(1, edge, edge).zero_()
                self.run(batch)
                run = partial(self.run, batch)
                peaks.append(peak_bytes(run) if self.device == "cpu" else peak_device_bytes(run, self.device))
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
            **device_facts(self.device, self.precision),
        }


def noise(*shape: int, generator: torch.Generator) -> torch.Tensor:
    """Return standard normal float32 on the CPU, whatever dtype and device PyTorch makes tensors of by default."""
    return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")


def lay_out(network: nn.Module, form: torch.memory_format) -> nn.Module:
    """Bring a network's weights into a memory format; those of a Conv3d or a Conv1d stay, for it is of 2-D layers."""

    def convert(x: torch.Tensor) -> torch.Tensor:
        return x.contiguous(memory_format=form) if x.dim() == 4 else x

    return cast(nn.Module, cast(Any, network)._apply(convert))


def up_to_stride(stride: int, least: int) -> int:
    """Return the least multiple of the stride that is at least so large."""
    return -(-least // stride) * stride
