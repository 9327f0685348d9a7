"""Segments a fixed mosaic with a fixed network: the process that the kill test starts and kills."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import bainite_fast
from bainite_fast.segmentation import planner
from segment_helpers import small_unet


def main(folder: Path) -> None:
    """Run, or go on with, the segmentation in `folder`."""
    planner._CHUNK, planner._BLOCKS = 96, (192,)
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 256, (350, 300), dtype=np.uint8), np.ones((4, 4), np.uint8))
    net = small_unet(depth=2, base=4)
    seg = bainite_fast.segment(
        image, net, out=folder / "out.ome.zarr", tile=64, confidence=True, progress=False, precision="float32"
    )
    print(seg.counts)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
