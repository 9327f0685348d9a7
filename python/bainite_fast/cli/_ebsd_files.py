"""What ``bainite-fast ebsd`` writes besides EBSD files: arrays, tables, pictures."""

from __future__ import annotations

import csv
import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..ebsd import EBSDMap, Grains, MapOptions, draw, raster_layer, write_layers
from ..ebsd.layers import Layer
from ..ebsd.maps import draw_layer
from ..errors import InputError, OutputError, OutputExistsError
from ..io import open_mosaic, write_image


def check_outputs(paths: Sequence[str] | None, suffixes: Sequence[str], *, overwrite: bool) -> list[Path]:
    """Return outputs that may be written, before anything is computed.

    Raises
    ------
    InputError
        If a suffix is unknown.
    OutputExistsError
        If one exists, and is not to be overwritten.
    """
    targets = [Path(path) for path in paths or ()]
    for path in targets:
        if path.suffix.lower() not in suffixes:
            raise InputError(f"{path}: the suffix {path.suffix!r} is unknown here; use one of {', '.join(suffixes)}")
        if path.exists() and not overwrite:
            raise OutputExistsError(f"{path} exists; choose another name, or overwrite it (overwrite=True)")
    return targets


def write_file(path: Path, fill: Callable[[IO[bytes]], None]) -> None:
    """Write a file beside its place, and put it there when it is whole."""
    partial = path.with_name(f".{path.name}.partial-{uuid.uuid4().hex[:12]}")
    try:
        with partial.open("wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


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


def spare_measurement(file: Path, out: str) -> None:
    """Refuse to write over the scan that was read, whatever --overwrite says.

    Raises
    ------
    InputError
        If both are one file.
    """
    if Path(out).exists() and file.exists() and Path(out).samefile(file):
        raise InputError(
            f"{out} is the scan itself, and a measurement is never replaced by what is made of it; give another name"
        )


def write_values(ebsd: EBSDMap, values: NDArray[Any], path: Path, *, title: str, overwrite: bool) -> None:
    """Write one number per point, KAM in degrees, in the format of the suffix."""
    flat = np.asarray(values, np.float32).reshape(-1)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        write_npy(path, np.asarray(values, np.float32))
    elif suffix == ".csv":
        x, y = ebsd.grid.coordinates()
        write_csv(
            path,
            ("x_um", "y_um", "kam_deg"),
            ((f"{a:.6g}", f"{b:.6g}", "" if np.isnan(v) else f"{v:.6f}") for a, b, v in zip(x, y, flat, strict=True)),
        )
    else:
        layer = Layer(kind="kam", title=title, values=flat, unit="°")
        if suffix == ".png":
            draw_layer(layer, ebsd.grid, path, overwrite=overwrite)
        else:
            image, size = raster_layer(layer, ebsd.grid)
            write_image(
                open_mosaic(image),
                path,
                um_per_px=size,
                overwrite=overwrite,
                attributes={"ebsd": {"kind": "kam", "title": title, "unit": "°"}},
            )


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
        written = write_layers(
            grains.ebsd, ["grains"], path.parent / f".{path.name}.parts", options=options, grains=grains
        )
        _move(written["grains"], path)


def _move(source: Path, path: Path) -> None:
    import shutil

    if path.exists():
        shutil.rmtree(path)
    source.replace(path)
    shutil.rmtree(source.parent)
