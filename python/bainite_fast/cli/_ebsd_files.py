"""What ``bainite-fast ebsd`` writes besides EBSD files: arrays, tables, pictures."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .._disk import beside
from .._optional import require
from ..ebsd import (
    BainiteMap,
    EBSDMap,
    Grains,
    Grid,
    KamMap,
    MapOptions,
    available_kinds,
    draw,
    draw_layer,
    map_layer,
    write,
)
from ..ebsd.cleanup import Step, plan_step
from ..ebsd.describe import check_indexed
from ..ebsd.layer_images import write_layer
from ..ebsd.layers import kam_layer
from ..ebsd.writing import left_out
from ..errors import InputError, OutputError, OutputExistsError
from ._console import say


def check_outputs(
    paths: Sequence[str] | None, suffixes: Sequence[str], *, scan: Path, overwrite: bool
) -> tuple[Path, ...]:
    """Return outputs that may be written, before anything is computed.

    Raises
    ------
    InputError
        If a suffix is unknown, one is given twice, or it is the scan that is read, whatever --overwrite says.
    OutputExistsError
        If one exists, and is not to be overwritten.
    OutputError
        If its folder does not exist.
    MissingExtraError
        If one is a picture, and matplotlib is missing.
    """
    targets = tuple(Path(path) for path in paths or ())
    for number, path in enumerate(targets):
        if path.suffix.lower() not in suffixes:
            raise InputError(f"{path}: the suffix {path.suffix!r} is unknown here; use one of {', '.join(suffixes)}")
        if path in targets[:number]:
            raise InputError(f"{path} is to be written twice; name it once")
        if path.exists() and scan.exists() and path.samefile(scan):
            raise InputError(
                f"{path} is the scan itself, and a measurement is never replaced by what is made of it; give another "
                "name"
            )
        _spare(path, overwrite=overwrite)
        if not path.parent.is_dir():
            raise OutputError(f"the folder {path.parent} does not exist; make it first")
    if any(path.suffix.lower() == ".png" for path in targets):
        require("matplotlib", "plots", "drawing a map")
    return targets


def _spare(path: Path, *, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists; choose another name, or overwrite it (overwrite=True)")


def check_maps(
    ebsd: EBSDMap, kinds: Sequence[str] | None, folder: Path, suffix: str, *, overwrite: bool
) -> dict[str, Path]:
    """Return where each kind of map goes, before any is drawn; all that the scan has data for where none is named.

    Raises
    ------
    InputError
        If the scan lacks what a kind needs.
    OutputExistsError
        If a map exists, and is not to be overwritten.
    OutputError
        If the folder is a file.
    """
    there = available_kinds(ebsd)
    if not there or (not ebsd.indexed.any() and not set(kinds or there) <= set(there)):
        check_indexed(ebsd)
    lacking = [kind for kind in kinds or () if kind not in there]
    if lacking:
        raise InputError(
            f"{ebsd.source} has no data for a map of {', '.join(lacking)}; it has data for {', '.join(there)}"
        )
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; give the folder that the maps go to")
    paths = {kind: folder / f"{kind}{suffix}" for kind in kinds or there}
    for path in paths.values():
        _spare(path, overwrite=overwrite)
    return paths


def check_steps(ebsd: EBSDMap, steps: Sequence[tuple[str, Step]]) -> list[Step]:
    """Return steps of clean-up, each given as typed and as a tuple; what is wrong with one is said as it was typed.

    Raises
    ------
    InputError
        If an argument is out of range, or the scan has no CI and a step needs it.
    """
    for text, step in steps:
        try:
            plan_step(step, ebsd.grid, ebsd.phases, has_ci=ebsd.ci is not None)
        except InputError as error:
            raise InputError(f"--step {text}: {error}") from None
    return [step for _, step in steps]


def write_scan(ebsd: EBSDMap, path: Path, *, overwrite: bool) -> None:
    """Write a scan, and say on stderr what its format has no place for."""
    write(ebsd, path, overwrite=overwrite)
    lost = left_out(ebsd, path.suffix)
    if lost:
        say(f"warning: {path.name}: {path.suffix.lower()} has no place for {', '.join(lost)}; .zarr keeps all")


def write_file(path: Path, fill: Callable[[IO[bytes]], None]) -> None:
    """Write a file beside its place, and put it there when it is whole."""
    with beside(path) as made, made.open("wb") as file:
        fill(file)


def write_npy(path: Path, array: NDArray[Any]) -> None:
    """Write an array as .npy."""
    write_file(path, lambda file: np.save(file, array, allow_pickle=False))


def write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as .csv, UTF-8."""

    def fill(file: IO[bytes]) -> None:
        import io

        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text)
        writer.writerow(head)
        writer.writerows(rows)
        text.flush()
        text.detach()

    write_file(path, fill)


def write_kam(ebsd: EBSDMap, values: KamMap, path: Path, *, overwrite: bool) -> None:
    """Write KAM in degrees, one number per point, in the format of the suffix."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        write_npy(path, np.asarray(values, np.float32))
    elif suffix == ".csv":
        x, y = ebsd.grid.coordinates()
        write_csv(
            path,
            ("x_um", "y_um", "kam_deg"),
            (
                (f"{a:.9g}", f"{b:.9g}", "" if np.isnan(v) else f"{v:.6f}")
                for a, b, v in zip(x, y, np.asarray(values).reshape(-1), strict=True)
            ),
        )
    elif suffix == ".png":
        draw_layer(kam_layer(values), ebsd.grid, path, overwrite=overwrite)
    else:
        write_layer(kam_layer(values), ebsd.grid, path, overwrite=overwrite)


def grain_summary(grains: Grains) -> dict[str, Any]:
    """Return what matters of grains as plain values; means are weighted by area."""
    area = grains.area_um2
    found: dict[str, Any] = {
        "source": grains.ebsd.source,
        "tolerance_deg": grains.tolerance,
        "min_points": grains.min_points,
        "grains": len(grains),
        "points": grains.ebsd.size,
        "points_in_grains": int(grains.sizes.sum()),
        "mean_area_um2": float(area.mean()) if len(grains) else None,
    }
    for name, values in (
        ("gos_deg", grains.gos),
        ("gam_pairs_deg", grains.gam("pairs")),
        ("gam_kam_deg", grains.gam("kam")),
    ):
        known = np.isfinite(values)
        found[name] = float(np.average(values[known], weights=area[known])) if known.any() else None
    return found


def write_grains(grains: Grains, path: Path, *, overwrite: bool) -> None:
    """Write grains in the format of the suffix: a table, the grain of every point, or unique colours."""
    suffix = path.suffix.lower()
    options = MapOptions(tolerance=grains.tolerance, min_points=grains.min_points)
    if suffix == ".npy":
        write_npy(path, grains.ids)
    elif suffix == ".csv":
        head = ("grain", "phase", "points", "area_um2", "gos_deg", "gam_pairs_deg", "gam_kam_deg", "w", "x", "y", "z")
        columns = (grains.gos, grains.gam("pairs"), grains.gam("kam"), *grains.mean_orientation.T)
        numbers = np.column_stack(columns).tolist()
        write_csv(
            path,
            head,
            (
                (number, int(phase), int(size), f"{area:.8g}", *("" if v != v else f"{v:.8g}" for v in row))
                for number, (phase, size, area, row) in enumerate(
                    zip(grains.phase_id, grains.sizes, grains.area_um2, numbers, strict=True)
                )
            ),
        )
    elif suffix == ".png":
        draw(grains.ebsd, "grains", path, options=options, grains=grains, overwrite=overwrite)
    else:
        layer = map_layer(grains.ebsd, "grains", options=options, grains=grains)
        write_layer(layer, grains.ebsd.grid, path, overwrite=overwrite)


def phase_arguments(ebsd: EBSDMap, texts: Sequence[str] | None) -> tuple[int | str, ...] | None:
    """Return phases as they are called in the scan: what is no name and is a number is an id. None where none is."""
    if not texts:
        return None
    names = {phase.name for phase in ebsd.phases}
    return tuple(int(text) if text not in names and text.isdecimal() else text for text in texts)


def bainite_summary(found: BainiteMap) -> dict[str, Any]:
    """Return what matters of the classes as plain values."""
    counts = np.bincount(found.grain_labels, minlength=3).tolist()
    return {
        "phases": [{"id": phase.id, "name": phase.name} for phase in found.phases],
        "fractions": {name.replace(" ", "_"): share for name, share in found.fractions.items()},
        "embedded_ferrite": float(found.embedded_ferrite.mean()),
        "grains": dict(zip(("polygonal_ferrite", "lath_bainite", "unsure"), counts, strict=True)),
        "noise_deg": found.noise.noise,
    }


def write_bainite(found: BainiteMap, grid: Grid, path: Path, *, overwrite: bool) -> None:
    """Write the classes in the format of the suffix: a row per grain, the label of every point, or a map."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        write_npy(path, found.labels.reshape(found.shape))
    elif suffix == ".csv":
        found.write_csv(path, overwrite=overwrite)
    elif suffix == ".png":
        draw_layer(found.layer(), grid, path, overwrite=overwrite)
    else:
        write_layer(found.layer(), grid, path, overwrite=overwrite)
