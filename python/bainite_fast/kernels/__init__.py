"""Array kernels: tiles out of images and back, labels out of logits, counts, pyramids, scaling.

Thin, checked faces of the compiled module ``_core``. Arrays are NumPy arrays or, for :func:`gather` and
:func:`scatter`, anything that speaks DLPack, such as torch tensors; they are borrowed, not copied, and the GIL is
released while a kernel runs. ``threads=0`` means the process-wide cap (:func:`get_num_threads`); ``threads=1`` takes
no lock and starts nothing.

:func:`gather`, :func:`scatter`, :func:`confusion_matrix`, :func:`class_counts`, :func:`downsample_labels` and
:func:`kam` also take arrays on a CUDA device, by DLPack or ``__cuda_array_interface__``, and a ``stream=``; they give
the bits of the CPU. They wait for what made the arrays, and hold them until the call returns, which may be before the
work is done: an array that is let go of then, while its work is on another stream than the one that its library
allocates for, needs ``Tensor.record_stream`` or its like. PyTorch gives away tensors of its current device alone.
"""

from __future__ import annotations

from ..geometry import PadMode
from ._checks import core
from .batches import gather, scatter
from .counting import class_counts, confusion_matrix
from .orientations import kam
from .scaling import downsample_labels, nonfinite, resample, resample_region, resample_source_range
from .tiling import stitch_tiles, tile_image

__all__ = [
    "PadMode",
    "build_info",
    "class_counts",
    "confusion_matrix",
    "cpu_features",
    "cuda_built",
    "cuda_device_count",
    "downsample_labels",
    "gather",
    "get_num_threads",
    "kam",
    "nonfinite",
    "resample",
    "resample_region",
    "resample_source_range",
    "scatter",
    "set_num_threads",
    "stitch_tiles",
    "tile_image",
    "tune_allocator",
]

build_info = core.build_info
cpu_features = core.cpu_features
cuda_built = core.cuda_built
cuda_device_count = core.cuda_device_count
get_num_threads = core.get_num_threads
set_num_threads = core.set_num_threads
tune_allocator = core.tune_allocator
