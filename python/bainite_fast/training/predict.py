"""Labels of whole images by a network in training, exact and in bounded memory, and their counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .. import kernels
from ..geometry import round_up
from ..models import Reach
from .dataset import IGNORE, Dataset
from .hardware import Hardware

_LARGEST = 1024  # px, edge of a core: larger images are cut


def predict(
    network: nn.Module,
    image: NDArray[Any],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    reach: Reach,
    hardware: Hardware,
) -> NDArray[np.uint8]:
    """Return the labels of an image, as segmenting it with ``edge="mirror"`` gives them.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode.
    image : ndarray [H, W] or [H, W, C], uint8, uint16 or float32
        Raw intensities.
    mean, std : sequence of float
        Per channel.
    reach : Reach
        Stride and halo of the network, px.
    hardware : Hardware
        Device and precision.

    Returns
    -------
    ndarray [H, W], uint8
    """
    height, width = image.shape[:2]
    full = {"u1": 255.0, "u2": 65535.0}.get(image.dtype.str[1:], 1.0)
    center, spread = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    core_y, core_x = (min(round_up(edge, reach.stride), round_up(_LARGEST, reach.stride)) for edge in (height, width))
    batch = torch.empty(1, len(center), core_y + 2 * reach.halo, core_x + 2 * reach.halo)
    labels = np.empty((height, width), np.uint8)
    for y in range(0, height, core_y):
        for x in range(0, width, core_x):
            kernels.gather(
                np.ascontiguousarray(image),
                batch,
                origin=(0, 0),
                image_shape=(height, width),
                tiles=[(y - reach.halo, x - reach.halo)],
                gain=1 / (full * spread),
                offset=-center / spread,
            )
            with torch.inference_mode(), hardware.autocast():
                logits = network(hardware.place(batch)).float().cpu()
            rows, columns = min(core_y, height - y), min(core_x, width - x)
            kernels.scatter(logits, labels, crops=[(reach.halo, reach.halo, rows, columns, y, x)])
    return labels


def count_confusion(
    network: nn.Module,
    data: Dataset,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    reach: Reach,
    hardware: Hardware,
) -> NDArray[np.int64]:
    """Return the confusion matrix [K, K] of whole images, row = truth; ignored pixels are in none."""
    network.eval()
    counts = np.zeros((data.n_classes, data.n_classes), np.int64)
    for i in range(len(data)):
        labels = predict(network, data.image(i), mean=mean, std=std, reach=reach, hardware=hardware)
        counts += kernels.confusion_matrix(data.mask(i), labels, data.n_classes, ignore=IGNORE)
    return counts
