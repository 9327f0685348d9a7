"""What users run today: the same network over the same image with MONAI, TorchIO and dask, in their own ways.

Every function takes an image in memory (rows, columns) uint8 and a module in eval mode, and returns labels uint8 in
memory: unlike the job they are compared with, they neither read nor write a file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Image = npt.NDArray[np.uint8]
Network = Callable[[torch.Tensor], torch.Tensor]


def _tensor(image: Image) -> torch.Tensor:
    return torch.from_numpy(image)[None, None].float() / 255


def monai_default(image: Image, network: Network, *, roi: int) -> Image:
    """Segment with `monai.inferers.sliding_window_inference` as it comes: overlap 0.25, windows averaged; not exact."""
    from monai.inferers import sliding_window_inference

    with torch.inference_mode():
        logits = sliding_window_inference(_tensor(image), roi, 1, network)
        return logits.argmax(1)[0].to(torch.uint8).numpy()


def torchio_exact(image: Image, network: Network, *, tile: int, halo: int) -> Image:
    """Segment with TorchIO's grid sampler, mirrored border and cropped overlap: exact where tiles divide the image."""
    import torchio as tio

    subject = tio.Subject(image=tio.ScalarImage(tensor=_tensor(image)[0, ..., None]))
    patch, overlap = (tile + 2 * halo, tile + 2 * halo, 1), (2 * halo, 2 * halo, 0)
    sampler = tio.GridSampler(subject, patch, overlap, padding_mode="reflect")
    aggregator = tio.inference.GridAggregator(sampler, overlap_mode="crop")
    with torch.inference_mode():
        for item in sampler:
            values = item["image"].data[None, ..., 0]
            logits = network(values)
            aggregator.add_batch(logits[..., None], item["location"][None])
        return aggregator.get_output_tensor()[..., 0].argmax(0).to(torch.uint8).numpy()


def dask_exact(image: Image, network: Network, *, tile: int, halo: int) -> Image:
    """Segment with `dask.array.map_overlap`, as image-analysis notebooks do: exact but for the mirroring rule."""
    import dask.array as da

    def block(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        with torch.inference_mode():
            labels = network(_tensor(values)).argmax(1)[0].to(torch.uint8)
        return np.asarray(labels.numpy())

    lazy = da.from_array(image, chunks=tile)
    labels = da.map_overlap(
        block, lazy, depth=halo, boundary="reflect", dtype=np.uint8, meta=np.empty((0, 0), np.uint8)
    )
    # One block at a time: torch's own threads share the cores, and memory stays that of one network.
    return np.asarray(labels.compute(scheduler="synchronous"))
