"""Maps for the EBSD tests: the two scans that have reference values, and random ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bainite_fast._reference import quaternion_product
from bainite_fast.ebsd import EBSDMap, Grid, Phase, quaternions_from_euler


def reference_map(data_dir: Path, name: str) -> EBSDMap:
    """Return a scan that has reference values; its columns are read here by NumPy, apart from the readers."""
    folder = data_dir / "ebsd"
    if name == "Cu_hex":
        table = np.loadtxt(folder / "copper_hex.ang", comments="#")
        grid, phases = Grid.hexagonal(231, 104, dx=0.2), (Phase(0, "Copper"),)
    else:
        table = np.loadtxt(folder / "sdss_ferrite_austenite.ang", comments="#")
        grid, phases = Grid.square(100, 117, dx=1.5), (Phase(1, "Austenite"), Phase(2, "Ferrite"))
    return EBSDMap(
        grid=grid,
        phases=phases,
        quaternions=quaternions_from_euler(table[:, :3]),
        phase_id=table[:, 7].astype(np.int16),
        indexed=np.abs(table[:, 0] - 4 * np.pi) > 1e-4,
        ci=table[:, 6].astype(np.float32),
    )


def reference_array(data_dir: Path, name: str) -> NDArray[Any]:
    return np.asarray(np.load(data_dir / "ebsd" / "reference" / f"{name}.npy"))


def random_quaternions(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    quaternions = rng.standard_normal((count, 4))
    return np.asarray(quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True))


def small_rotations(rng: np.random.Generator, count: int, degrees: float) -> NDArray[np.float64]:
    """Return rotations about random axes by some `degrees` (standard deviation along each axis)."""
    quaternions = np.concatenate(
        [np.ones((count, 1)), rng.standard_normal((count, 3)) * np.radians(degrees) / 2], axis=1
    )
    return np.asarray(quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True))


def random_map(
    rng: np.random.Generator,
    grid: Grid,
    *,
    laue: tuple[str, ...] = ("m-3m",),
    spread: float = 1.5,
    cells: int = 4,
    missing: float = 0.1,
) -> EBSDMap:
    """Return a map of a few grains with noise in them, all written in random symmetric copies, and points missing."""
    from bainite_fast._reference import rotations_of

    x, y = grid.coordinates()
    seeds = rng.integers(0, grid.size, cells)
    cell = np.argmin((x[:, None] - x[seeds]) ** 2 + (y[:, None] - y[seeds]) ** 2, axis=1)
    phase = rng.integers(0, len(laue), cells)[cell]
    quaternions = quaternion_product(small_rotations(rng, grid.size, spread), random_quaternions(rng, cells)[cell])
    for number, group in enumerate(laue):
        mine = phase == number
        operators = rotations_of(group)
        quaternions[mine] = quaternion_product(
            operators[rng.integers(0, len(operators), mine.sum())], quaternions[mine]
        )
    return EBSDMap(
        grid=grid,
        phases=tuple(Phase(number, f"Phase {number}", group) for number, group in enumerate(laue)),
        quaternions=quaternions,
        phase_id=phase.astype(np.int16),
        indexed=rng.random(grid.size) >= missing,
        ci=rng.random(grid.size).astype(np.float32),
    )
