"""The compiled module as a citizen of a process: import, threads, environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import bainite_fast
from bainite_fast import _core, kernels
from bainite_fast.errors import InputError


def python(code: str, **env: str) -> str:
    where = {"PYTHONPATH": str(Path(bainite_fast.__file__).parents[1])} | env
    kept = {key: value for key, value in os.environ.items() if key not in ("BAINITE_NUM_THREADS", "OMP_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=kept | where, check=False)
    return done.stdout + done.stderr


def test_kernels_need_no_torch() -> None:
    code = "import sys; from bainite_fast import kernels, metrics, _reference; print('torch' in sys.modules)"
    assert python(code).strip() == "False"


def test_a_missing_extension_says_how_to_build_it(tmp_path: Path) -> None:
    source = Path(bainite_fast.__file__).parent
    ignored = shutil.ignore_patterns("_core*.so", "__pycache__", "models", "io", "cli", "synthetic", "segmentation")
    shutil.copytree(source, tmp_path / "bainite_fast", ignore=ignored)
    said = python("from bainite_fast import kernels", PYTHONPATH=str(tmp_path))
    assert "pip install ." in said
    assert "ImportError" in said


@pytest.mark.parametrize(
    ("env", "most"),
    [
        ({"BAINITE_NUM_THREADS": "1", "OMP_NUM_THREADS": "7"}, 1),
        ({"OMP_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "1,8"}, 1),
        ({"OMP_NUM_THREADS": "99999"}, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 99999),
        ({"OMP_NUM_THREADS": "nonsense"}, os.cpu_count() or 1),
    ],
)
def test_the_environment_caps_the_threads(env: dict[str, str], most: int) -> None:
    cap = int(python("from bainite_fast import kernels; print(kernels.get_num_threads())", **env))
    assert 1 <= cap <= most


def test_the_cap_can_be_set_and_asked_again() -> None:
    before = kernels.get_num_threads()
    kernels.set_num_threads(3)
    assert kernels.get_num_threads() == 3
    with pytest.raises(ValueError, match="threads"):
        kernels.set_num_threads(-1)
    kernels.set_num_threads(0)
    assert kernels.get_num_threads() >= 1
    kernels.set_num_threads(before)


def test_calls_from_several_threads_at_once_agree() -> None:
    image = np.random.default_rng(3).integers(0, 256, (1500, 1700)).astype(np.uint8)
    expected = kernels.tile_image(image, 128, halo=16, threads=1)
    counts = kernels.class_counts(image, 256, threads=1)

    def work(threads: int) -> bool:
        tiles = kernels.tile_image(image, 128, halo=16, threads=threads)
        same = np.array_equal(tiles, expected)
        return same and np.array_equal(kernels.class_counts(image, 256, threads=threads), counts)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, [0, 1, 2, 0, 1, 4] * 3))


@pytest.mark.parametrize("threads", [2**29, 2**30, 2**31 - 1])
def test_more_threads_than_anyone_has(threads: int) -> None:
    quaternions = np.ones((8, 9, 4))
    out = np.empty((8, 9), np.float32)
    before = kernels.get_num_threads()
    assert not kernels.kam(quaternions, out=out, threads=threads).any()
    kernels.set_num_threads(threads)
    assert not kernels.kam(quaternions, out=out).any()
    kernels.set_num_threads(before)


def test_the_machine_describes_itself() -> None:
    info = kernels.build_info()
    assert info["simd"] in ("avx512", "avx2", "baseline")
    assert info["cuda"] is _core.cuda_built()
    assert _core.cuda_device_count() >= 0
    assert _core.cuda_built() or _core.cuda_device_count() == 0
    assert all(isinstance(name, str) for name in kernels.cpu_features())
    assert python("from bainite_fast import kernels; print(kernels.tune_allocator())").strip() in ("True", "False")


def test_arrays_that_cannot_be_borrowed_are_refused() -> None:
    out = np.zeros((1, 1, 2, 2), np.float32)
    with pytest.raises(InputError, match="complex"):
        kernels.gather(np.zeros((2, 2), complex), out, origin=(0, 0), image_shape=(2, 2), tiles=[(0, 0)])
