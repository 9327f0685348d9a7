"""What PyTorch can do on the processor that the tests run on."""

from __future__ import annotations

import torch


def onednn_convolves(dtype: torch.dtype) -> bool:
    """Say whether oneDNN has convolutions of a dtype here, by trying one; PyTorch's own take their place otherwise."""
    image, weight = torch.zeros(1, 1, 4, 4, dtype=dtype), torch.zeros(1, 1, 3, 3, dtype=dtype)
    try:
        torch.ops.mkldnn._convolution_pointwise(image, weight, None, [1, 1], [1, 1], [1, 1], 1, "relu", [], "")
    except RuntimeError:
        return False
    return True
