"""Peak memory of a run from 64 Mpx to 10 Gpx: it must not grow with the mosaic.

Every size runs in a process of its own: a generated mosaic that needs no disk, a one-layer model, the labels written
and thrown away. Run with `make memory-table`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIDES = (8_192, 16_384, 32_768, 65_536, 100_000)
BUDGET = "1GiB"


def child(side: int) -> None:
    """Segment one mosaic and print pixels, seconds and the peak of the process."""
    import torch

    import bainite_fast
    from bainite_fast import kernels
    from bainite_fast.segmentation import memory
    from bainite_fast.synthetic import SpeckleMosaic

    kernels.tune_allocator()
    torch.manual_seed(0)
    net = torch.nn.Conv2d(1, 2, 1).eval()
    with torch.inference_mode():
        net.bias.sub_(net(torch.full((1, 1, 1, 1), 0.5)).flatten())
    mosaic = SpeckleMosaic((side, side), seed=1)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.ome.zarr"
        start = time.perf_counter()
        seg = bainite_fast.segment(
            mosaic, net, out=out, memory=BUDGET, progress=False, precision="float32", scale="as-is"
        )
        seconds = time.perf_counter() - start
    print(
        json.dumps({"pixels": side**2, "seconds": seconds, "peak": memory.peak_resident(), "budget": seg.plan.memory})
    )


def main() -> None:
    """Run every size in a fresh process and write the table."""
    from timing import save

    rows = []
    for side in SIDES:
        done = subprocess.run([sys.executable, __file__, str(side)], check=True, stdout=subprocess.PIPE, text=True)
        result = json.loads(done.stdout.splitlines()[-1])
        rows.append(
            {
                "mosaic": f"{side} × {side} px ({result['pixels'] / 1e9:.3g} Gpx)",
                "peak resident (MiB)": round(result["peak"] / 2**20),
                "budget (MiB)": round(result["budget"] / 2**20),
                "Mpx/s": f"{result['pixels'] / result['seconds'] / 1e6:.0f}",
            }
        )
        print(rows[-1], flush=True)
    save("memory", rows, f"Peak resident memory of the whole process, one-layer model, --memory {BUDGET}.")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(int(sys.argv[1]))
    else:
        main()
