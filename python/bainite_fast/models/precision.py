"""What to run a network in: float32 or bfloat16, and in which layout, by the rules and by measurement."""

from __future__ import annotations

import statistics
import time
import warnings
from typing import Any, cast

import numpy as np
import torch

from ..errors import BainiteWarning, DeviceError, ModelError
from ..geometry import round_up
from .compiled import LAYOUTS, PRECISIONS, Layout, Precision, Runtime
from .contract import LoadedModel
from .runtime import compile
from .threads import serial_threads

WINOGRAD_WINS = 0.9  # share of the multiplications from which float32 is as fast as bfloat16 without AMX
FLIP_LIMIT = 1e-3  # share of labels that may differ from float32 before low precision is refused

_mkldnn: Any = torch.backends.mkldnn


def choose_precision(loaded: LoadedModel, requested: str = "auto", device: str = "cpu") -> Precision:
    """Return the precision to run a model in.

    Parameters
    ----------
    loaded : LoadedModel
        The model.
    requested : {"auto", "float32", "bfloat16", "float16"}
        ``"auto"`` is a low precision where it is faster and at most 0.1 % of the labels of the package's own test
        input differ from float32; a model without a test input stays in float32. On the CPU bfloat16 is faster where
        the hardware multiplies it, except that AVX-512 BF16 does not make up for Winograd's convolutions in float32
        (AMX does). On a GPU bfloat16 is tried first, if it multiplies it, then float16, which has three more bits and
        a smaller range.
    device : str
        "cpu" or "cuda:N".

    Raises
    ------
    ModelError
        If `requested` is another word.

    Warns
    -----
    BainiteWarning
        If bfloat16 is requested on a CPU that has no instructions for it.
    """
    if requested in PRECISIONS:
        if requested == "bfloat16" and device == "cpu" and not cpu_has_bfloat16():
            warnings.warn(
                "this processor has no bfloat16 instructions: the network runs in bfloat16 all the same, several times "
                "slower than in float32, which precision='auto' or precision='float32' takes",
                BainiteWarning,
                stacklevel=2,
            )
        return cast(Precision, requested)
    if requested != "auto":
        raise ModelError(f"precision {requested!r} is unknown; use 'auto', {', '.join(map(repr, PRECISIONS))}")
    if loaded.test_input is None or (device == "cpu" and not cpu_has_bfloat16()):
        return "float32"
    full = compile(loaded, device=device)
    amx = torch.cpu.get_capabilities().get("amx_bf16", False)
    if device == "cpu" and full.winograd_share >= WINOGRAD_WINS and not amx:
        return "float32"
    low: list[Precision] = ["bfloat16"] if device == "cpu" or gpu_has_bfloat16(device) else []
    if device != "cpu":
        low.append("float16")
    for precision in low:
        try:
            other = compile(loaded, precision=precision, device=device)
        except DeviceError:
            continue  # a frozen TorchScript file: only an explicit request fails
        if flipped(full, other, loaded.test_input) <= FLIP_LIMIT:
            return precision
    return "float32"


def cpu_has_bfloat16() -> bool:
    """Say whether the CPU multiplies bfloat16 in hardware (AVX-512 BF16 or AMX) and oneDNN can use it."""
    has = torch.cpu.get_capabilities()
    return _mkldnn.is_available() and any(has.get(x, False) for x in ("avx512_bf16", "amx_bf16"))


def gpu_has_bfloat16(device: str | torch.device) -> bool:
    """Say whether a GPU multiplies bfloat16 in hardware: from Ampere on; older ones emulate it, many times slower."""
    return int(torch.cuda.get_device_properties(device).major) >= 8


def flipped(reference: Runtime, other: Runtime, image: np.ndarray) -> float:
    """Return the share of pixels of a raw image that two runtimes label differently."""
    with serial_threads():
        batch = torch.from_numpy(reference.contract.normalize(image))
        a, b = (
            labels(x.run(batch.to(x.device, x.torch_dtype).contiguous(memory_format=x.memory_format)))
            for x in (reference, other)
        )
        return float((a != b).float().mean())


def labels(logits: torch.Tensor) -> torch.Tensor:
    """Return label values [N, H, W] of logits [N, K, H, W]: argmax, ties to the lower class; K = 1: logit > 0."""
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.float().argmax(dim=1)


def measure_layout(
    loaded: LoadedModel, precision: Precision = "float32", *, shape: tuple[int, int] = (512, 512), rounds: int = 3
) -> dict[str, float]:
    """Return the speed of each layout in pixels per second on one thread, the fastest first.

    Parameters
    ----------
    loaded : LoadedModel
        The model.
    precision : {"float32", "bfloat16"}
        To measure in.
    shape : (int, int)
        Height and width of the batch, px; rounded up to the stride.
    rounds : int
        Layouts take turns this many times; the median counts.
    """
    height, width = (round_up(x, loaded.contract.stride) for x in shape)
    runtimes = {layout: compile(loaded, precision=precision, layout=cast(Layout, layout)) for layout in LAYOUTS}
    seconds: dict[str, list[float]] = {layout: [] for layout in LAYOUTS}
    with serial_threads():
        for turn in range(rounds + 1):
            for layout, runtime in runtimes.items():
                batch = runtime.new_batch(1, height, width).zero_()
                start = time.perf_counter()
                runtime.run(batch)
                if turn:  # the first warms caches and compilers up
                    seconds[layout].append(time.perf_counter() - start)
    speeds = {layout: height * width / statistics.median(times) for layout, times in seconds.items()}
    return dict(sorted(speeds.items(), key=lambda item: -item[1]))
