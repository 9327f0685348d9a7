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
def join_channels(inputs: Sequence[_Array], out: _Array, *, threads: int = 0, stream: int | None = None) -> None: ...
def max_pool2x2(image: _Array, out: _Array, *, threads: int = 0, stream: int | None = None) -> None: ...
def convolve_gray(image: _Array, out: _Array, *, weights: _Array, bias: _Array, relu: bool, stream: int) -> None: ...
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
def kam(
    quaternions: _Array,
    labels: _Array | None,
    out: _Array,
    *,
    grid: tuple[bool, int, int, int],
    laue: int,
    neighbourhood: int,
    order: int,
    perimeter: bool,
    max_angle: float,
    keep: bool = False,
    threads: int = 0,
    stream: int | None = None,
) -> None: ...
def neighbour_angles(
    quaternions: _Array,
    labels: _Array | None,
    out: _Array,
    *,
    grid: tuple[bool, int, int, int],
    laue: int,
    neighbourhood: int,
    keep: bool = False,
    threads: int = 0,
) -> None: ...
def links(
    quaternions: _Array,
    labels: _Array | None,
    out: _Array,
    *,
    grid: tuple[bool, int, int, int],
    laue: int,
    neighbourhood: int,
    tolerance: float,
    threads: int = 0,
) -> None: ...
def disorientation(q1: _Array, q2: _Array, out: _Array, *, laue: int, threads: int = 0) -> None: ...
def label_grains(
    links: _Array,
    labels: _Array,
    ids: _Array,
    *,
    grid: tuple[bool, int, int, int],
    neighbourhood: int,
    threads: int = 0,
) -> int: ...
def grain_table(ids: _Array, first: _Array, sizes: _Array) -> None: ...
def add_moments(
    quaternions: _Array,
    ids: _Array,
    laue: _Array,
    reference: _Array,
    mean: _Array,
    moments: _Array,
    *,
    threads: int = 0,
) -> None: ...
def moment_means(moments: _Array, means: _Array, *, threads: int = 0) -> None: ...
def grain_deviation(
    quaternions: _Array, ids: _Array, laue: _Array, mean: _Array, out: _Array, *, threads: int = 0
) -> None: ...
def add_values(values: _Array, ids: _Array, sums: _Array, counts: _Array, *, threads: int = 0) -> None: ...
def add_pairs(
    angles: _Array,
    ids: _Array,
    sums: _Array,
    counts: _Array,
    *,
    grid: tuple[bool, int, int, int],
    neighbourhood: int,
    threads: int = 0,
) -> None: ...
def nci_sources(
    ci: _Array,
    labels: _Array,
    source: _Array,
    *,
    grid: tuple[bool, int, int, int],
    neighbourhood: int,
    least_ci: float,
    threads: int = 0,
) -> int: ...
def noc_sources(
    quaternions: _Array,
    labels: _Array,
    links: _Array,
    laue: _Array,
    source: _Array,
    *,
    grid: tuple[bool, int, int, int],
    neighbourhood: int,
    tolerance: float,
    level: int,
    threads: int = 0,
) -> int: ...
def kam_cuda(
    quaternions: _Array,
    labels: _Array | None,
    out: _Array,
    *,
    grid: tuple[bool, int, int, int],
    laue: int,
    neighbourhood: int,
    order: int,
    perimeter: bool,
    max_angle: float,
    keep: bool = False,
) -> None: ...
