"""Types of the compiled kernels. Arrays are borrowed by DLPack: NumPy arrays and torch tensors alike.

With a `stream`, arrays are on a CUDA device, but for small tables (tiles, gain, offset, crops, counts).
"""

from collections.abc import Sequence
from typing import Any, Protocol, TypedDict

from typing_extensions import Buffer

class _Array(Protocol):
    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...

class BuildInfo(TypedDict):
    version: str
    compiler: str
    simd: str
    cuda: bool

def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def build_info() -> BuildInfo: ...
def cpu_features() -> list[str]: ...
def cuda_built() -> bool: ...
def cuda_device_count() -> int: ...
def tune_allocator() -> bool: ...
def gather(
    region: _Array,
    out: _Array,
    *,
    origin: tuple[int, int],
    image_shape: tuple[int, int],
    tiles: _Array,
    gain: _Array,
    offset: _Array,
    pad: int = 0,
    fill: float = 0.0,
    threads: int = 0,
    stream: int | None = None,
) -> None: ...
def tile_copy(image: _Array, out: _Array, *, tiles: _Array, pad: int = 0, fill: _Array, threads: int = 0) -> None: ...
def nonfinite(region: _Array, *, threads: int = 0) -> tuple[int, int, int] | None: ...
def scatter(
    logits: _Array,
    labels: _Array,
    *,
    crops: _Array,
    confidence: _Array | None = None,
    temperature: float = 1.0,
    threads: int = 0,
    stream: int | None = None,
    bad: _Array | None = None,
) -> int: ...
def stitch_copy(tiles: _Array, image: _Array, *, core: tuple[int, int], halo: int = 0, threads: int = 0) -> None: ...
def confusion(
    truth: _Array,
    pred: _Array,
    counts: _Array,
    *,
    n_classes: int,
    ignore: int | None = None,
    threads: int = 0,
    stream: int | None = None,
) -> int: ...
def class_counts(
    labels: _Array, counts: _Array, *, n_classes: int, threads: int = 0, stream: int | None = None
) -> int: ...
def downsample_labels(labels: _Array, out: _Array, *, threads: int = 0, stream: int | None = None) -> None: ...
def resample(
    source: _Array,
    out: _Array,
    *,
    origin: tuple[int, int],
    image_shape: tuple[int, int],
    scaled_shape: tuple[int, int],
    out_origin: tuple[int, int],
    threads: int = 0,
) -> None: ...
def resample_source_range(start: int, stop: int, n: int, n_scaled: int) -> tuple[int, int]: ...
def join_channels(inputs: Sequence[_Array], out: _Array, *, threads: int = 0) -> None: ...
def max_pool2x2(image: _Array, out: _Array, *, threads: int = 0) -> None: ...
def winograd_available() -> bool: ...
def winograd_kernels(weight: _Array, out: _Array) -> None: ...
def winograd_convolve(
    inputs: Sequence[_Array],
    out: _Array,
    *,
    kernels: _Array,
    bias: _Array,
    relu: bool,
    pooled: _Array | None = None,
    threads: int = 0,
) -> None: ...
def measure_text(text: Buffer, *, threads: int = 0) -> tuple[int, int]: ...
def read_text(
    text: Buffer, out: Buffer, *, decimal_comma: bool = False, threads: int = 0
) -> tuple[int, int, int, int, int, int]: ...
def quaternions_of_euler(euler: Buffer, out: Buffer, *, half: float = 0.5, threads: int = 0) -> None: ...
