"""``bainite-fast ebsd``: EBSD maps read, measured, cleaned, drawn and converted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import InputError
from ._console import emit, emit_json, say, table
from ._options import Json, Overwrite
from ._parsing import MAP_KINDS, parse_map_kind, parse_output, parse_step, parse_step_um

if TYPE_CHECKING:
    from ..ebsd import EBSDMap

File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help=".ang, .ctf, .cpr/.crc, .h5, .oh5, .h5oina, or a .zarr of ours.", show_default=False
    ),
]
Scan = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Which scan of an HDF5 file with several: name, or place from 0.", show_default=False
    ),
]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Read truncated files; the points that are missing are not indexed.")
]
Order = Annotated[int, typer.Option(metavar="N", min=1, max=10, help="Neighbour order of the KAM.")]
Perimeter = Annotated[bool, typer.Option("--perimeter", help="Only neighbours of exactly this order.")]
MaxAngle = Annotated[float, typer.Option(metavar="DEG", help="Neighbours at a larger angle do not count; inf: all do.")]
Tolerance = Annotated[float, typer.Option(metavar="DEG", help="Neighbours up to this angle are of one grain.")]
MinPoints = Annotated[int, typer.Option(metavar="N", min=1, help="Points of the smallest grain that counts.")]
Outputs = Annotated[
    list[str] | None,
    typer.Option(
        "--out", parser=parse_output, metavar="PATH", help="Write it too; may be given again.", show_default=False
    ),
]

SCANS = (".ang", ".ctf", ".zarr")
"""What scans are written as."""

ebsd = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@ebsd.callback()
def group() -> None:
    """Read, clean and map EBSD scans, on square and hexagonal grids: KAM, grains, GOS, GAM, boundaries, bainite.

    Formats are told by their content. Results go to stdout (--json: one JSON object).
    """


def _read(path: Path, scan: str | None, allow_missing: bool) -> EBSDMap:
    from ..ebsd import read

    return read(path, scan=scan, allow_missing=allow_missing)


def _read_indexed(path: Path, scan: str | None, allow_missing: bool) -> EBSDMap:
    """Read a scan whose orientations are needed; refuse one that has none."""
    from ..ebsd.describe import check_indexed

    found = _read(path, scan, allow_missing)
    check_indexed(found)
    return found


@ebsd.command(short_help="What a scan holds: grid, phases, what is indexed.")
def info(file: File, scan: Scan = None, allow_missing: AllowMissing = False, as_json: Json = False) -> None:
    """Say what a scan holds: grid, step, phases with Laue group, lattice and share, points that are not indexed."""
    found = _read(file, scan, allow_missing)
    if as_json:
        from ..ebsd.describe import summary

        emit_json(summary(found) | {"metadata": dict(found.metadata)})
    else:
        emit(repr(found))


@ebsd.command(short_help="Kernel average misorientation.")
def kam(
    file: File,
    order: Order = 3,
    perimeter: Perimeter = False,
    max_angle: MaxAngle = 5.0,
    neighbourhood: Annotated[
        Literal["hexagonal", "8", "4"] | None,
        typer.Option(help="By default hexagonal on a hexagonal grid, 8 on a square one; 4: diamonds, as in MTEX."),
    ] = None,
    in_grains: Annotated[
        float | None,
        typer.Option(
            "--in-grains", metavar="DEG", help="Only pairs inside of the grains at this tolerance.", show_default=False
        ),
    ] = None,
    out: Outputs = None,
    scan: Scan = None,
    allow_missing: AllowMissing = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Compute the KAM of every point, in degrees, and its mean and quantiles.

    --out writes it: .npy (float32, NaN where undefined), .csv (x, y in µm, KAM), .png, or .ome.zarr.
    """
    import numpy as np

    from .. import ebsd as house
    from ..ebsd._points import angle_argument, grain_tolerance
    from ._ebsd_files import check_outputs, write_kam

    targets = check_outputs(out, (".npy", ".csv", ".png", ".zarr"), scan=file, overwrite=overwrite)
    angle_argument(max_angle, "max_angle", infinite=True)
    found = _read_indexed(file, scan, allow_missing)
    if in_grains is not None:
        grain_tolerance(in_grains, "in_grains", found.phases)
    kind: Any = None if neighbourhood is None else neighbourhood if neighbourhood == "hexagonal" else int(neighbourhood)
    grains = None if in_grains is None else house.grains(found, in_grains)
    values = house.kam(found, order, perimeter=perimeter, max_angle=max_angle, neighbourhood=kind, grains=grains)
    for path in targets:
        write_kam(found, values, path, overwrite=overwrite)
    flat = np.asarray(values).reshape(-1)
    defined = flat[np.isfinite(flat)].astype(np.float64)
    quantiles = np.quantile(defined, [0.5, 0.95]).tolist() if defined.size else [None, None]
    result = {
        "source": found.source,
        "convention": str(values.convention),
        "points": flat.size,
        "defined": defined.size,
        "mean_deg": defined.mean() if defined.size else None,
        "median_deg": quantiles[0],
        "q95_deg": quantiles[1],
        "written": [str(path) for path in targets],
    }
    if as_json:
        emit_json(result)
        return
    rows = [("KAM", str(values.convention)), ("points", f"{flat.size:,}, {defined.size:,} with a value")]
    if defined.size:
        rows.append(("mean", f"{defined.mean():.4f}°"))
        rows.append(("median, 95 %", f"{quantiles[0]:.4f}°, {quantiles[1]:.4f}°"))
    emit(table([*rows, *_written(targets)]))


def _written(paths: Sequence[Path]) -> list[tuple[str, str]]:
    return [("written", str(path)) for path in paths]


@ebsd.command(short_help="Grains: number, size, GOS and GAM.")
def grains(
    file: File,
    tolerance: Tolerance = 5.0,
    min_points: MinPoints = 2,
    out: Outputs = None,
    scan: Scan = None,
    allow_missing: AllowMissing = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Find grains, and say how many there are, how large, and how bent (GOS, GAM; means weighted by area).

    --out writes one row per grain to a .csv, the grain of every point to a .npy (int32, -1 in none), or unique
    colours to a .png or .ome.zarr.
    """
    from .. import ebsd as house
    from ..ebsd._points import angle_argument
    from ._ebsd_files import check_outputs, grain_summary, write_grains

    targets = check_outputs(out, (".npy", ".csv", ".png", ".zarr"), scan=file, overwrite=overwrite)
    angle_argument(tolerance, "tolerance")
    found = house.grains(_read_indexed(file, scan, allow_missing), tolerance, min_points)
    for path in targets:
        write_grains(found, path, overwrite=overwrite)
    result = grain_summary(found)
    if as_json:
        emit_json(result | {"written": [str(path) for path in targets]})
        return
    # Grains of single points have no GAM.
    names = (("GOS", "gos_deg"), ("GAM, pairs", "gam_pairs_deg"), ("GAM, KAM", "gam_kam_deg"))
    rows = [(name, f"{result[key]:.4f}°") for name, key in names if result[key] is not None]
    emit(f"{found!r}\n{table([*rows, *_written(targets)])}".rstrip())


@ebsd.command(short_help="Clean-up: CI standardisation, NCI, NOC.")
def clean(
    file: File,
    out: Annotated[
        str,
        typer.Argument(parser=parse_output, metavar="OUT", help=".ang, .ctf or .zarr to write.", show_default=False),
    ],
    step: Annotated[
        list[Any] | None,
        typer.Option(
            "--step",
            parser=parse_step,
            metavar="NAME[:ARG,…]",
            help="ci_standardisation[:DEG], nci:CI[,PASSES|converge], noc:DEG,LEVEL; in the order given. "
            "By default nci:0.01, then noc:5,2, for scans with a confidence index (CI). Those of Oxford Instruments "
            "(.ctf, .cpr) and Bruker have none: give steps without nci there, such as --step noc:5,2.",
            show_default=False,
        ),
    ] = None,
    scan: Scan = None,
    allow_missing: AllowMissing = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Clean up a scan and write it; say how many points every step, pass and level changed.

    The default steps need a confidence index (.ang and other EDAX files); a .ctf or .cpr scan needs --step noc:5,2.
    """
    from .. import ebsd as house
    from ..ebsd.writing import check_grid
    from ._ebsd_files import check_outputs, check_steps, write_scan

    (path,) = check_outputs([out], SCANS, scan=file, overwrite=overwrite)
    found = _read_indexed(file, scan, allow_missing)
    check_grid(found, path.suffix)
    steps = check_steps(found, step) if step else house.PAPER_CLEANUP
    if not step and found.ci is None:
        raise InputError(
            f"{file.name} has no confidence index, which the default steps need; name others, such as --step noc:5,2"
        )
    cleaned, log = house.clean(found, steps)
    write_scan(cleaned, path, overwrite=overwrite)
    if as_json:
        listed = [
            {"name": item.name, "arguments": list(item.arguments), "changed": item.changed.sum(), "counts": item.counts}
            for item in log.steps
        ]
        emit_json({"written": str(path), "points": cleaned.size, "changed": log.changed.sum(), "steps": listed})
    else:
        emit(f"{log!r}\n{table(_written([path]))}")


@ebsd.command(short_help="Pictures: KAM, GOS, grains, boundaries, IPF …")
def maps(
    file: File,
    out: Annotated[
        str, typer.Argument(parser=parse_output, metavar="FOLDER", help="Where the maps go.", show_default=False)
    ],
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            parser=parse_map_kind,
            metavar="KIND",
            help=f"One kind of map; may be given again: {', '.join(MAP_KINDS)}. By default all it has data for.",
            show_default=False,
        ),
    ] = None,
    image_format: Annotated[
        Literal["png", "ome-zarr"], typer.Option("--format", help="PNG, or OME-Zarr images.")
    ] = "png",
    order: Order = 3,
    perimeter: Perimeter = False,
    max_angle: MaxAngle = 5.0,
    tolerance: Tolerance = 5.0,
    min_points: MinPoints = 2,
    outlines: Annotated[bool, typer.Option("--outlines", help="High-angle boundaries over every PNG.")] = False,
    scan: Scan = None,
    allow_missing: AllowMissing = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Draw maps of a scan, each with its colour bar or key and a scale bar."""
    from .. import ebsd as house
    from ._ebsd_files import check_maps

    options = house.MapOptions(
        order=order, perimeter=perimeter, max_angle=max_angle, tolerance=tolerance, min_points=min_points
    )
    if outlines and image_format != "png":
        raise InputError("--outlines draws on PNG only; leave it out, or add --kind boundaries for an image of its own")
    found = _read(file, scan, allow_missing)
    folder, suffix = Path(out), ".png" if image_format == "png" else ".ome.zarr"
    paths = check_maps(found, kind, folder, suffix, overwrite=overwrite)
    common = house.grains(found, tolerance, min_points) if {"gos", "gam", "grod", "grains"} & set(paths) else None
    if image_format == "ome-zarr":
        house.write_layers(found, paths, folder, options=options, grains=common, overwrite=overwrite)
    else:
        for name, path in paths.items():
            say(f"maps: {name}")
            house.draw(found, name, path, options=options, grains=common, outlines=outlines, overwrite=overwrite)
    if as_json:
        emit_json({"source": found.source, "maps": {name: str(path) for name, path in paths.items()}})
    else:
        emit(table([(name, str(path)) for name, path in paths.items()]))


@ebsd.command(short_help="Lath bainite against polygonal ferrite.")
def bainite(
    file: File,
    phases: Annotated[
        list[str] | None,
        typer.Option(
            "--phases",
            metavar="NAME",
            help="Name or id of a phase to judge; may be given again. By default body-centred cubic iron.",
            show_default=False,
        ),
    ] = None,
    fill: Annotated[
        bool, typer.Option("--fill", help="Points of other phases, such as austenite films, count to what is around.")
    ] = False,
    out: Outputs = None,
    scan: Scan = None,
    allow_missing: AllowMissing = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Tell lath bainite from polygonal ferrite, grain by grain, and say what share of the map each has.

    Only body-centred cubic iron is judged, told by its lattice or name; other phases are "not judged". A grain that is
    quiet here and bent there is judged in parts. --out writes one row per grain to a .csv, the label of every point to
    a .npy (uint8: 0 polygonal ferrite, 1 lath bainite, 2 unsure, 3 not judged), or a map to a .png or .ome.zarr.
    """
    from .. import ebsd as house
    from ._ebsd_files import bainite_summary, check_outputs, phase_arguments, write_bainite

    targets = check_outputs(out, (".npy", ".csv", ".png", ".zarr"), scan=file, overwrite=overwrite)
    measured = _read_indexed(file, scan, allow_missing)
    found = house.find_bainite(measured, phases=phase_arguments(measured, phases), fill=fill)
    for path in targets:
        write_bainite(found, measured.grid, path, overwrite=overwrite)
    if as_json:
        emit_json({"source": measured.source} | bainite_summary(found) | {"written": [str(path) for path in targets]})
    else:
        emit(f"{found!r}\n{table(_written(targets))}".rstrip())


@ebsd.command(short_help="To .ang, .ctf or .zarr.")
def convert(
    file: File,
    out: Annotated[
        str,
        typer.Argument(parser=parse_output, metavar="OUT", help=".ang, .ctf or .zarr to write.", show_default=False),
    ],
    square: Annotated[
        float | None,
        typer.Option(
            "--square",
            parser=parse_step_um,
            metavar="UM",
            help="Put it on a square grid of this step in µm, by nearest points.",
            show_default=False,
        ),
    ] = None,
    scan: Scan = None,
    allow_missing: AllowMissing = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Convert a scan: .ang (TSL, EDAX), .ctf (Oxford Instruments, square grids) or .zarr (exact, for large maps)."""
    from ..ebsd.describe import summary
    from ._ebsd_files import check_outputs, write_scan

    (path,) = check_outputs([out], SCANS, scan=file, overwrite=overwrite)
    found = _read(file, scan, allow_missing)
    found = found if square is None else found.to_square(square)
    write_scan(found, path, overwrite=overwrite)
    if as_json:
        emit_json(summary(found) | {"written": str(path)})
    else:
        emit(f"{found!r}\n{table(_written([path]))}")
