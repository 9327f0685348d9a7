"""EBSD kernels against the formulations that users run today, and the whole chain on a map of 10 million points.

KAM is compared with the formulation of pyebsd in NumPy: rotation matrices, the traces of all 24 symmetric copies, and
every pair from both of its ends. It is timed once, on the same points: on fewer, its arrays would stay in the caches.
Grains are compared with PyEBSDIndex where that is installed. One call of each first, to compile and to warm up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bainite_fast
from bainite_fast import ebsd
from bainite_fast._reference import disorientation, quaternion_product, rotations_of
from timing import save

ROUNDS = 9
SIDE = 1000
ROWS: list[dict[str, Any]] = []


@pytest.fixture(autouse=True)
def table() -> Iterator[None]:
    """Write the table of all measurements so far after each of them."""
    yield
    if ROWS:
        save(
            "ebsd",
            ROWS,
            f"EBSD kernels on {bainite_fast.kernels.get_num_threads()} threads, medians of the clock, and core "
            "seconds: what all threads together spent on a core, which other work on the machine leaves alone. A peer "
            "is timed on the same points. KAM of order 3 counts all 48 neighbours.",
        )


def field(rows: int, columns: int, *, grain: int = 40, noise: float = 0.5) -> ebsd.EBSDMap:
    """Return a map of grains of about `grain`² points, each with a gradient and noise, in random symmetric copies."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:rows, 0:columns]
    wobble = rng.uniform(0, 2 * np.pi, 4)
    number = (y + 6 * np.sin(x / 17 + wobble[0])).astype(int) // grain * (columns // grain + 2)
    number += (x + 6 * np.sin(y / 13 + wobble[1])).astype(int) // grain
    number -= number.min()
    seeds = rng.standard_normal((number.max() + 1, 4))
    seeds /= np.linalg.norm(seeds, axis=1, keepdims=True)
    turn = rng.standard_normal((rows * columns, 3)) * np.radians(noise) / 2
    turn[:, 0] += np.radians(2.0) * (x.ravel() % grain) / grain
    small = np.concatenate([np.ones((len(turn), 1)), turn], axis=1)
    small /= np.linalg.norm(small, axis=1, keepdims=True)
    operators = rotations_of("m-3m")
    quaternions = quaternion_product(small, seeds[number.ravel()])
    quaternions = quaternion_product(operators[rng.integers(0, 24, len(quaternions))], quaternions)
    ci = rng.random(rows * columns, np.float32)
    return ebsd.EBSDMap(
        grid=ebsd.Grid.square(rows, columns, dx=0.1),
        phases=(ebsd.Phase(1, "Ferrite"),),
        quaternions=quaternions,
        ci=ci,
        indexed=ci >= 0.01,
    )


def write_stacked(scan: ebsd.EBSDMap, times: int, path: Path) -> None:
    """Write an ``.ang`` file of copies of a map below one another: one copy is written, the others get its text."""
    ebsd.write(scan, path)
    lines = path.read_bytes().splitlines(keepends=True)
    header = [line for line in lines if line.startswith(b"#")]
    rows, columns = scan.grid.rows, scan.grid.columns
    old = f"NROWS: {rows}\n".encode()
    assert sum(old in line for line in header) == 1
    y = slice(42, 55)  # the column of y, 13 characters
    body = lines[len(header) :]
    assert float(body[-1][y]) == pytest.approx((rows - 1) * scan.grid.dy)
    with path.open("wb") as file:
        file.writelines(line.replace(old, f"NROWS: {rows * times}\n".encode()) for line in header)
        for row in range(rows * times):
            height = f"{row * scan.grid.dy:13.5f}".encode()
            start = row % rows * columns
            file.writelines(line[: y.start] + height + line[y.stop :] for line in body[start : start + columns])


@pytest.fixture(scope="module")
def million() -> ebsd.EBSDMap:
    return field(SIDE, SIDE)


def matrices(quaternions: Any) -> Any:
    w, x, y, z = quaternions.T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0).copy()


def ring_indices(side: int, order: int) -> Any:
    y, x = np.divmod(np.arange(side * side), side)
    steps = [(i, j) for i in range(-order, order + 1) for j in range(-order, order + 1) if (i, j) != (0, 0)]
    inside = [(y + i >= 0) & (y + i < side) & (x + j >= 0) & (x + j < side) for i, j in steps]
    return np.stack([np.where(ok, (y + i) * side + x + j, -1) for ok, (i, j) in zip(inside, steps, strict=True)], 1)


def kam_by_matrices(rotation: Any, neighbours: Any, indexed: Any, max_angle: float = 5.0) -> Any:
    """KAM as pyebsd formulates it: traces of all symmetric copies of the relative rotation matrices."""
    copies = [(copy, copy.nonzero()) for copy in np.round(matrices(rotations_of("m-3m")))]
    trace = np.full(neighbours.shape, -2.0)
    for k in range(neighbours.shape[1]):
        ok = (neighbours[:, k] >= 0) & indexed & indexed[neighbours[:, k]]
        relative = np.einsum("ijk,imk->ijm", rotation[neighbours[ok, k]], rotation[ok])
        for copy, (row, column) in copies:
            here = np.einsum("j,ij->i", copy[row, column], relative[:, row, column])
            trace[ok, k] = np.max(np.vstack([trace[ok, k], here]), axis=0)
    angle = np.degrees(np.arccos((np.minimum(trace, 3.0) - 1) / 2, where=trace > -1, out=np.full(trace.shape, np.nan)))
    counts = angle <= max_angle
    total = np.where(counts, angle, 0.0).sum(1)
    return np.where(counts.any(1), total / np.maximum(counts.sum(1), 1), np.nan)


@pytest.mark.parametrize("order", [1, 3])
def test_kam(benchmark: Any, million: ebsd.EBSDMap, order: int) -> None:
    rotation, neighbours = matrices(million.quaternions), ring_indices(SIDE, order)
    expected: list[Any] = []
    peer = measure(lambda: expected.append(kam_by_matrices(rotation, neighbours, million.indexed)), 1)
    found = bainite_fast.kam(million, order).ravel()
    assert np.array_equal(np.isnan(found), np.isnan(expected[0]))
    # 1e-4° is what the trace of a matrix can tell of a small angle; but for points with a pair right at the cap of 5°.
    for point in np.flatnonzero(np.abs(found - expected[0]) > 1e-4):
        others = neighbours[point, neighbours[point] >= 0]
        angles = disorientation(million.quaternions[[point]].astype(np.float64), million.quaternions[others])
        assert np.min(np.abs(angles - 5.0)) < 1e-5
    ours = measure(lambda: bainite_fast.kam(million, order), ROUNDS)
    note(f"KAM, order {order}, 1 M points", ours, "matrices in NumPy (pyebsd's formulation)", peer)
    benchmark.pedantic(lambda: bainite_fast.kam(million, order), rounds=3)


def test_grains(benchmark: Any, million: ebsd.EBSDMap) -> None:
    grainlabel = pytest.importorskip("pyebsdindex.grainlabel", reason="needs PyEBSDIndex (and numba)")
    quaternions = million.quaternions.astype(np.float64)
    phase = np.where(million.indexed, 0, -1).astype(np.int64)
    operators = rotations_of("m-3m").copy()

    def peer() -> Any:
        return grainlabel.phaselabel(quaternions, phase, 5.0, [operators], [SIDE, SIDE], nnonly=True)

    labels, found = np.asarray(peer()).ravel(), ebsd.grains(million).point_ids
    pairs = np.unique(np.stack([labels, found])[:, found >= 0], axis=1)
    same = pairs.shape[1] == found.max() + 1 == len(np.unique(pairs[0]))
    name = f"PyEBSDIndex, numba, 1 thread ({'same' if same else 'another'} partition)"
    note("grains at 5°, 1 M points", measure(lambda: ebsd.grains(million), ROUNDS), name, measure(peer, 3))
    benchmark.pedantic(lambda: ebsd.grains(million), rounds=3)


Times = list[tuple[float, float]]
"""Seconds by the clock, and seconds that all threads together spent on a core."""


def measure(function: Callable[[], Any], rounds: int) -> Times:
    times = []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        function()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return times


def note(job: str, ours: Times, peer: str = "", theirs: Times | None = None, memory: str = "") -> None:
    wall, cpu = np.median(ours, axis=0)
    row = {"job": job, "seconds": f"{wall:.4g}", "best": f"{min(ours)[0]:.4g}", "core seconds": f"{cpu:.4g}"}
    row |= {"peer": peer, "peer seconds": "", "peer core seconds": "", "times as fast": "", "by core seconds": ""}
    if theirs is not None:
        peer_wall, peer_cpu = np.median(theirs, axis=0)
        row |= {"peer seconds": f"{peer_wall:.4g}", "peer core seconds": f"{peer_cpu:.4g}"}
        row |= {"times as fast": f"{peer_wall / wall:,.1f}", "by core seconds": f"{peer_cpu / cpu:,.1f}"}
    ROWS.append(row | {"peak memory": memory})


CHAIN = """
import json, resource, sys, time
import bainite_fast
from bainite_fast import ebsd
marks, start = {}, (time.perf_counter(), time.process_time())
def mark(name):
    global start
    now = time.perf_counter(), time.process_time(); marks[name] = [now[0] - start[0], now[1] - start[1]]; start = now
scan = ebsd.read(sys.argv[1]); mark("read")
scan, log = ebsd.clean(scan); mark("clean")
grains = ebsd.grains(scan); mark("grains")
kam = bainite_fast.kam(scan, 3, grains=grains); mark("KAM, order 3")
gos = grains.gos; mark("GOS")
gam = grains.gam(); mark("GAM")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps({"marks": marks, "peak": peak, "points": scan.size, "grains": len(grains)}))
"""


def test_whole_chain(million: ebsd.EBSDMap, tmp_path: Path) -> None:
    tiles = int(os.environ.get("BAINITE_FAST_CHAIN_TILES", "10"))  # of a million points each, below one another
    path = tmp_path / "map.ang"
    write_stacked(million, tiles, path)
    run = subprocess.run([sys.executable, "-c", CHAIN, str(path)], capture_output=True, text=True, check=True)
    result = json.loads(run.stdout.splitlines()[-1])
    total = np.sum(list(result["marks"].values()), axis=0)
    size = f"{result['points'] / 1e6:.1f} M points, {path.stat().st_size / 1e9:.2f} GB of .ang"
    for name, seconds in result["marks"].items():
        note(f"chain: {name}", [tuple(seconds)])
    note(f"chain: all ({size}, {result['grains']:,} grains)", [tuple(total)], memory=f"{result['peak']:.2f} GiB")
