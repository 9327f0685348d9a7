"""The HDF5 layouts of EDAX, Oxford Instruments and Bruker."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .columns import Columns, Frame, arrange, assemble, check_angles, is_four_pi, oxford_euler, phases_of
from .grid import Grid, GridKind
from .hdf5 import Group
from .laue import Phase, laue_from_point_group, laue_from_space_group, laue_from_tsl, laue_of_oxford
from .map import EBSDMap
from .placing import Hint, Missing, Placement
from .rotations import quaternions_from_euler

INVALID_POSITION = -1_111_111.0
"""x and y of the points of an EDAX file that were not measured."""


def read_edax(scan: Group, source: str, allow_missing: bool) -> EBSDMap:
    """Read a scan of an EDAX file: angles in radians, positions in µm, rows row by row."""
    header, data = scan.group("EBSD/Header"), scan.group("EBSD/Data")
    names = {"sqrgrid": "square", "hexgrid": "hexagonal"}
    kind: GridKind | None = names.get(header.text("Grid Type").lower())  # type: ignore[assignment]
    columns, rows = header.count("nColumns"), header.count("nRows")
    dx, dy = header.step("Step X"), header.step("Step Y")
    phi = data.needed("Phi")
    points = phi.size
    euler = np.stack([data.needed("Phi1", points=points), phi, data.needed("Phi2", points=points)], axis=1)
    confidence = data.values("CI", points=points)
    ids = data.needed("Phase", points=points).astype(np.float64)
    indexed = (ids >= 0) & ~is_four_pi(phi) & ~np.isnan(euler).all(axis=1)
    if confidence is not None:
        indexed &= confidence != -1
    x, y = (data.values(f"{axis} Position", points=points) for axis in "XY")
    if x is None or y is None:
        if kind == "hexagonal":
            data.refuse("the data sets X Position and Y Position are missing, and a hexagonal scan needs them")
        x, y = _regular(header, points, columns, rows, dx, dy)
    valid = (x > 0.9 * INVALID_POSITION) & (y > 0.9 * INVALID_POSITION)
    if not valid.any():
        data.refuse("no point has a valid position")
    phases = _edax_phases(header)
    ids = _edax_ids(np.where(indexed, ids, -1), phases)
    made = Columns()
    check_angles(euler, indexed, 0, 2 * math.pi, data.refuse_row())
    made.add(
        x=x[valid].astype(np.float64),
        y=y[valid].astype(np.float64),
        quaternions=quaternions_from_euler(euler[valid]),
        phase_id=phases_of(ids, 0, phases, data.refuse_row())[valid],
    )
    _add_properties(made, data, points, valid, {"ci": "CI", "iq": "IQ", "fit": "Fit", "sem_signal": "SEM Signal"})
    # Points that were not measured are in the file too: as many as rows × columns are rows of equal length.
    even = columns if kind == "square" or points == rows * columns else None
    hint = Hint(kind, rows, columns, even, dx, dy)
    # Points without a position are missing on purpose.
    missing: Missing = "allow" if allow_missing or not valid.all() else "refuse"
    frame = Frame(phases, hint, missing, source, {"format": "edax-hdf5", "scan": scan.where})
    return assemble(made, frame, data.refuse_row())


def _regular(
    header: Group, points: int, columns: int, rows: int, dx: float, dy: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the positions of a square scan that stores none."""
    if points != rows * columns:
        header.refuse(f"{points} points without positions where nRows × nColumns = {rows} × {columns}")
    x, y = Grid.square(rows, columns, dx=dx, dy=dy).coordinates()
    return x, y


def _edax_ids(ids: NDArray[np.float64], phases: tuple[Phase, ...]) -> NDArray[np.float64]:
    """Return ids where a single phase, written as phase 0, has its own id, and phase 0 of several is not indexed."""
    if any(phase.id == 0 for phase in phases):
        return ids
    single = len(phases) == 1 and not (ids > 0).any()
    return np.where(ids == 0, phases[0].id if single else -1, ids)


def _phase_groups(header: Group, *names: str) -> list[tuple[int, Group]]:
    name = header.first(*names)
    if name is None:
        header.refuse(f"the group {names[0]!r} is missing")
    group = header.group(name)
    numbers = sorted(int(key) for key in group.node if str(key).isdigit() and int(key) < 2**15)
    if not numbers:
        group.refuse("no phase is in here")
    return [(number, group.group(str(number))) for number in numbers]


def _made(group: Group, number: int, name: str, laue: str, lattice: list[float | None]) -> Phase:
    known = None if any(value is None for value in lattice) else tuple(lattice)
    try:
        return Phase(number, name or f"phase {number}", laue, known)  # type: ignore[arg-type]
    except InputError as error:
        group.refuse(str(error))


def _edax_phases(header: Group) -> tuple[Phase, ...]:
    found = []
    for number, group in _phase_groups(header, "Phase", "Phases"):
        symmetry = group.number("Symmetry", "LGsymID")
        try:
            laue = laue_from_tsl(int(symmetry)) if symmetry else laue_from_point_group(group.text("Point Group"))
        except InputError as error:
            group.refuse(str(error))
        keys = ("a", "b", "c", "alpha", "beta", "gamma")
        lattice = [_rounded(group.number(f"Lattice Constant {key}")) for key in keys]
        found.append(_made(group, number, group.text("MaterialName", "Material Name"), laue, lattice))
    return tuple(found)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.7g}")


def _add_properties(
    made: Columns, data: Group, points: int, valid: NDArray[np.bool_] | None, names: dict[str, str]
) -> None:
    for ours, theirs in names.items():
        values = data.values(theirs, points=points)
        if values is not None:
            made.add(**{ours: (values if valid is None else values[valid]).astype(np.float32)})


def read_oxford(scan: Group, source: str, allow_missing: bool) -> EBSDMap:
    """Read a slice of an ``.h5oina`` file, after the specification of Oxford Instruments NanoAnalysis.

    Angles are in radians where the attribute ``Unit`` does not say degrees, those of the lattice too; phase 0 is not
    indexed. Points are row by row: a scan that was stopped lacks the last ones.
    """
    header, data = scan.group("EBSD/Header"), scan.group("EBSD/Data")
    columns, rows = header.count("X Cells"), header.count("Y Cells")
    ids = data.needed("Phase").astype(np.float64)
    points = ids.size
    _check_count(header, data, points, ("Y Cells", rows, "X Cells", columns), allow_missing)
    euler = data.needed("Euler", points=points, width=3)
    phases = _oxford_phases(header)
    # A map that is not rectangular has NaN outside of it.
    phase_id = phases_of(np.where((ids == 0) | np.isnan(euler).any(axis=1), -1, ids), 0, phases, data.refuse_row())
    turn = 360.0 if _in_degrees(data, "Euler") else 2 * math.pi
    check_angles(euler, phase_id >= 0, 0, turn, data.refuse_row())
    euler = oxford_euler(euler, phase_id, phases, turn)
    made = Columns()
    made.add(phase_id=phase_id, quaternions=quaternions_from_euler(euler, degrees=turn > 7))
    names = {"bands": "Bands", "band_contrast": "Band Contrast", "band_slope": "Band Slope"}
    _add_properties(made, data, points, None, names)
    deviation = data.values("Mean Angular Deviation", points=points)
    if deviation is not None:
        given = _in_degrees(data, "Mean Angular Deviation")
        made.add(mad=(deviation if given else np.rad2deg(deviation)).astype(np.float32))
    dx = header.step("X Step")
    dy = header.step("Y Step") if rows > 1 else dx
    grid = Grid.square(rows, columns, dx=dx, dy=dy)
    frame = Frame(phases, Hint(), "refuse", source, {"format": "h5oina", "scan": scan.where})
    return arrange(made, Placement(grid, None if points == grid.size else np.arange(points)), frame)


def _check_count(
    header: Group, data: Group, points: int, announced: tuple[str, int, str, int], allow_missing: bool
) -> None:
    """Refuse more points than the header announces, fewer unless that is allowed, and absurdly few in any case."""
    first, rows, second, columns = announced
    text = f"{first} × {second} = {rows} × {columns}"
    if not points:
        data.refuse("there are no points")
    if points > rows * columns or (points < rows * columns and not allow_missing):
        remedy = "; allow_missing=True reads them" if points < rows * columns else ""
        data.refuse(f"{points} points where {text}{remedy}")
    if rows * columns > max(1 << 20, 50 * points):
        header.refuse(f"{points} points are too few for {text}")


def _in_degrees(group: Group, name: str) -> bool:
    unit: Any = group.node[name].attrs.get("Unit", "rad")
    unit = np.asarray(unit).reshape(-1)[0] if np.asarray(unit).size else "rad"
    text = unit.decode("utf-8", "replace") if isinstance(unit, bytes) else str(unit)
    return text.strip().lower() in ("deg", "degree", "degrees", "°")


def _oxford_phases(header: Group) -> tuple[Phase, ...]:
    found = []
    for number, group in _phase_groups(header, "Phases"):
        laue_number, space = group.number("Laue Group"), group.number("Space Group")
        if not laue_number and not space:
            group.refuse("neither Laue Group nor Space Group is there")
        try:
            laue = laue_of_oxford(int(laue_number or 0), int(space or 0))
        except InputError as error:
            group.refuse(str(error))
        lengths = group.values("Lattice Dimensions")
        angles = group.values("Lattice Angles")
        lattice: list[float | None] = [None]
        if lengths is not None and angles is not None:
            if lengths.size != 3 or angles.size != 3:
                group.refuse("Lattice Dimensions and Lattice Angles are not three numbers each")
            angles = angles.astype(np.float64)
            angles = angles if _in_degrees(group, "Lattice Angles") else np.rad2deg(angles)
            lattice = [_rounded(float(value)) for value in (*lengths, *angles)]
            lattice[3:] = [None if value is None else round(value, 4) for value in lattice[3:]]
        found.append(_made(group, number, group.text("Phase Name"), laue, lattice))
    return tuple(found)


def read_bruker(scan: Group, source: str, allow_missing: bool) -> EBSDMap:
    """Read a scan of a Bruker file: angles in degrees, phase 0 not indexed, order given by the beam's positions."""
    header, data = scan.group("EBSD/Header"), scan.group("EBSD/Data")
    columns, rows = header.count("NCOLS"), header.count("NROWS")
    phi = data.needed("PHI")
    points = phi.size
    _check_count(header, data, points, ("NROWS", rows, "NCOLS", columns), allow_missing)
    euler = np.stack([data.needed("phi1", points=points), phi, data.needed("phi2", points=points)], axis=1)
    ids = data.needed("Phase", points=points).astype(np.float64)
    phases = _bruker_phases(header)
    zero_based = any(phase.id == 0 for phase in phases)
    phase_id = phases_of(ids if zero_based else np.where(ids == 0, -1, ids), 0, phases, data.refuse_row())
    check_angles(euler, phase_id >= 0, 0, 360.0, data.refuse_row())
    made = Columns()
    made.add(phase_id=phase_id, quaternions=quaternions_from_euler(euler, degrees=True))
    names = {"bands": "NIndexedBands", "mad": "MAD", "iq": "RadonQuality"}
    _add_properties(made, data, points, None, names)
    dx, dy = header.step("XSTEP"), header.step("YSTEP") if rows > 1 else header.step("XSTEP")
    grid = Grid.square(rows, columns, dx=dx, dy=dy)
    frame = Frame(phases, Hint(), "refuse", source, {"format": "bruker-hdf5", "scan": scan.where})
    return arrange(made, Placement(grid, _bruker_order(scan, data, grid, points)), frame)


def _bruker_order(scan: Group, data: Group, grid: Grid, points: int) -> NDArray[np.int64] | None:
    """Return the place of every point, from the beam's positions: the order of acquisition may be another."""
    sem = next((scan.group(name) for name in ("EBSD/SEM", "SEM") if scan.has(name)), None)
    pair = None if sem is None else (sem.values("IX", "SEM IX"), sem.values("IY", "SEM IY"))
    if pair is None or pair[0] is None or pair[1] is None:
        pair = (data.values("X BEAM"), data.values("Y BEAM"))
    column, row = pair
    if column is None or row is None:
        if points != grid.size:
            data.refuse("points are missing, and nothing says which: neither SEM/IX, IY nor X BEAM, Y BEAM is there")
        return None
    if column.size != points or row.size != points:
        data.refuse(f"{column.size} and {row.size} beam positions for {points} points")
    places = _along(data, row, grid.rows, "Y") * grid.columns + _along(data, column, grid.columns, "X")
    if np.unique(places).size != points:
        data.refuse("two points have the same beam position")
    return None if points == grid.size and bool((places == np.arange(points)).all()) else places


def _along(data: Group, positions: NDArray[Any], count: int, axis: str) -> NDArray[np.int64]:
    """Return positions in steps from the first; the beam may move by several pixels a step."""
    present = np.unique(positions)
    if not np.isfinite(present).all():
        data.refuse(f"a beam position in {axis} is not finite")
    steps = np.diff(present.astype(np.float64))
    step = float(steps.min()) if steps.size else 1.0
    place = (positions.astype(np.float64) - float(present[0])) / step
    whole = np.rint(place)
    # Pixels are whole numbers, so steps between them may differ by one.
    if present.size == count and steps.size and steps.max() <= steps.min() + 1:
        return np.searchsorted(present, positions).astype(np.int64)
    if np.abs(place - whole).max() > 0.2 or whole.max() >= count:
        data.refuse(f"the beam positions in {axis} are no grid of {count}")
    return whole.astype(np.int64)


def _bruker_phases(header: Group) -> tuple[Phase, ...]:
    found = []
    for number, group in _phase_groups(header, "Phases"):
        space = group.number("IT")
        symbol = group.text("PointGroup", "Point Group")
        try:
            if space:
                laue = laue_from_space_group(int(space))
            elif symbol:
                laue = laue_from_point_group(symbol)
            else:
                group.refuse("the space group (IT) is missing")
        except InputError as error:
            group.refuse(str(error))
        constants = group.values("LatticeConstants")
        lattice: list[float | None] = [None]
        if constants is not None:
            if constants.size != 6:
                group.refuse(f"LatticeConstants has {constants.size} numbers; 6 are needed")
            lattice = [_rounded(float(value)) for value in constants]
        found.append(_made(group, number, group.text("Name", "Formula"), laue, lattice))
    return tuple(found)
