"""What is left of a batch whose loss was NaN: to look at."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from .batches import Batch


def write_batch(folder: Path, batch: Batch, *, epoch: int, step: int, loss: float) -> None:
    """Write a batch as ``images.npy`` [N, C, H, W], ``masks.npy`` [N, H, W] and ``batch.json``.

    Parameters
    ----------
    folder : Path
        To make.
    batch : Batch
        As it was cut, before augmentation.
    epoch, step : int
        From 1; the step within the epoch.
    loss : float
        Its value.
    """
    folder.mkdir(parents=True, exist_ok=True)
    images = batch.images.numpy()
    np.save(folder / "images.npy", images, allow_pickle=False)
    np.save(folder / "masks.npy", batch.masks.numpy(), allow_pickle=False)
    crops = [
        {"image": name, "row": row, "column": column, "finite": bool(np.isfinite(image).all())}
        for name, (row, column), image in zip(batch.names, batch.corners, images, strict=True)
    ]
    about = {"epoch": epoch, "step": step, "loss": str(loss), "crops": crops}
    (folder / "batch.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
