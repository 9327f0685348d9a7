"""A wheel with CUDA inside works where there is no GPU. `make cuda-wheel` builds one and names it here."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

WHEEL = os.environ.get("BAINITE_FAST_CUDA_WHEEL")
pytestmark = pytest.mark.skipif(not WHEEL, reason="BAINITE_FAST_CUDA_WHEEL is not set: make cuda-wheel builds a wheel")

SCRIPT = """
import warnings
import numpy as np, pytest
import bainite_fast
from bainite_fast import kernels
from bainite_fast.errors import BainiteWarning, DeviceError
from device_arrays import on_device

assert bainite_fast.__file__.startswith(WHERE), bainite_fast.__file__
assert kernels.cuda_built() and kernels.build_info()["cuda"]
assert kernels.cuda_device_count() == 0
with pytest.raises(DeviceError, match="can use no CUDA device"):
    kernels.class_counts(on_device(np.zeros((3, 4), np.uint8)), 2)
assert kernels.class_counts(np.zeros((3, 4), np.uint8), 2).tolist() == [12, 0]
image = np.random.default_rng(0).integers(0, 256, (200, 300), np.uint8)
with pytest.raises(DeviceError, match="device='cuda' cannot be used: .*device='cpu'"):
    bainite_fast.segment(image, device="cuda", out="cuda.ome.zarr", progress=False)
found = []
for k in range(2):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", BainiteWarning)
        seg = bainite_fast.segment(image, out=f"auto{k}.ome.zarr", progress=False)
    found.append([str(w.message) for w in told if "runs on the CPU" in str(w.message)])
    assert seg.plan.device == "cpu" and sum(seg.counts.values()) == image.size
assert [len(messages) for messages in found] == [1, 0], found
print("fine")
"""


def test_it_imports_and_segments_without_a_gpu(tmp_path: Path) -> None:
    zipfile.ZipFile(str(WHEEL)).extractall(tmp_path / "wheel")
    paths = [str(tmp_path / "wheel"), str(Path(__file__).parent)]
    hidden = {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"WHERE = {paths[0]!r}\n{SCRIPT}"], cwd=tmp_path, env=os.environ | hidden,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("fine")
