"""Clean-up of maps under the names that OIM gives its steps, with a log of what was changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..kernels import grains as sums
from ._points import grain_tolerance, grid_shape, neighbourhood_code
from .grain_map import grain_labels, links_of
from .grid import Grid, number_of
from .laue import Phase
from .map import EBSDMap
from .tables import as_table

Step = tuple[Any, ...]

PAPER_CLEANUP: tuple[Step, ...] = (("nci", 0.01), ("noc", 5.0, 2))
"""The clean-up of Durmaz et al., Nat. Commun. 12 (2021) 6272: NCI at CI ≥ 0.01, then NOC at 5°.

The paper does not say up to which level NOC ran; 2 is a cautious choice: of six neighbours four must agree.
"""

MAX_PASSES = 10_000
"""Passes of NCI "to convergence"; it ends when a pass changes nothing, long before."""


@dataclass(frozen=True, eq=False, slots=True)
class CleanStep:
    """What one step changed.

    Attributes
    ----------
    name : str
        Name of the step.
    arguments : tuple
        Its arguments.
    counts : tuple of int
        Points changed in each pass (NCI) or level 0, 1, … (NOC).
    turn : ndarray, (points,), int16
        The last pass or level, counted from 0, that changed a point; -1 for none.
    """

    name: str
    arguments: tuple[Any, ...]
    counts: tuple[int, ...]
    turn: NDArray[np.int16]

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Whether the step changed a point: bool (points,)."""
        return np.asarray(self.turn >= 0)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class CleanLog:
    """What a clean-up changed, step by step.

    Attributes
    ----------
    steps : tuple of CleanStep
        The steps in their order.
    """

    steps: tuple[CleanStep, ...]

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Whether any step changed a point: bool (points,)."""
        if not self.steps:
            raise InputError("a log of no steps does not know how many points there are")
        return np.asarray(np.logical_or.reduce([step.changed for step in self.steps]))

    def __repr__(self) -> str:
        rows = []
        for step in self.steps:
            turns = {"nci": "pass", "noc": "level"}.get(step.name)
            what = f"{step.name} {' '.join(f'{value}' for value in step.arguments)}".rstrip()
            share = f"{100 * step.changed.mean():.2f} %"
            rows.append((what, "all" if len(step.counts) > 1 else "", f"{int(step.changed.sum())}", share))
            if turns and len(step.counts) > 1:
                first = 1 if turns == "pass" else 0
                rows += [("", f"{turns} {n}", f"{count}", "") for n, count in enumerate(step.counts, first)]
        total = int(self.changed.sum()) if self.steps else 0
        return as_table(f"{total} points changed", ("step", "", "points", "of the map"), rows)


def clean(ebsd: EBSDMap, steps: Sequence[Step] = PAPER_CLEANUP) -> tuple[EBSDMap, CleanLog]:
    """Clean up a map; it is not changed, a new one is returned.

    Parameters
    ----------
    ebsd : EBSDMap
        The map.
    steps : sequence of tuples
        Names and arguments of the steps, done in turn:

        - ``("ci_standardisation",)`` or ``("ci_standardisation", tolerance)``: every point takes the largest CI of its
          grain; the grains are those of :func:`grains` at the tolerance, 5° by default.
        - ``("nci", ci)``, ``("nci", ci, passes)`` or ``("nci", ci, "converge")``, neighbour CI correlation: a point
          whose CI is below `ci` takes orientation, phase and CI of its neighbour with the highest CI, if that is
          indexed and above its own. One pass by default; each reads what the one before it left.
        - ``("noc", tolerance, level)``, neighbour orientation correlation: levels 0 … `level` in turn. Level n changes
          a point if, of its K neighbours, at least K - n differ from it by more than the tolerance, and at least K - n
          are similar to one another; it takes orientation and phase of the first neighbour, in raster order, that has
          the most neighbours similar to it. A neighbour that is not indexed counts as different, and never as
          similar; K is the same at the map's border. This is how the step is generally described; OIM's manual was
          not at hand, and its results may differ.

        K = 6 on a hexagonal grid and 8 on a square one, for NCI too.

    Returns
    -------
    cleaned : EBSDMap
        The cleaned map. A point that was not indexed and takes an orientation is indexed.
    log : CleanLog
        What was changed in every step, and where.

    Raises
    ------
    InputError
        If a step is unknown or its arguments are wrong, or the map has no CI and a step needs it, as the default ones
        do: give others for what Oxford Instruments' files hold, such as ``[("noc", 5.0, 2)]``.
    """
    if not isinstance(ebsd, EBSDMap):
        raise InputError(f"clean() needs an EBSDMap; got {type(ebsd).__name__}")
    planned = plan_steps(steps, ebsd.grid, ebsd.phases, has_ci=ebsd.ci is not None)
    done = []
    for step in planned:
        ebsd, turns = step.run(ebsd)
        done.append(step.logged(turns, ebsd.size))
    return ebsd, CleanLog(tuple(done))


Turns = list[NDArray[np.int64]]
"""Points that each pass or level changed."""


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step whose arguments are checked. `passes` is the number of turns at most, each of which looks one row far."""

    name: str
    arguments: tuple[Any, ...]
    passes: int
    run: Callable[[EBSDMap], tuple[EBSDMap, Turns]]

    def logged(self, turns: Turns, points: int) -> CleanStep:
        """Return what is reported of the step."""
        turn = np.full(points, -1, np.int16)
        for number, changed in enumerate(turns):
            turn[changed] = number
        return CleanStep(self.name, self.arguments, tuple(len(changed) for changed in turns), turn)


def plan_steps(steps: Sequence[Step], grid: Grid, phases: tuple[Phase, ...], *, has_ci: bool) -> list[PlannedStep]:
    """Check steps for a map of this grid and these phases, with or without a CI."""
    if steps is PAPER_CLEANUP and not has_ci:
        raise InputError(
            "the default steps need the confidence index, and this map has none; give others, such as "
            "steps=[('noc', 5.0, 2)]"
        )
    return [plan_step(step, grid, phases, has_ci=has_ci) for step in steps]


def plan_step(step: Step, grid: Grid, phases: tuple[Phase, ...], *, has_ci: bool) -> PlannedStep:
    """Check a step for a map of this grid and these phases, with or without a CI."""
    if not isinstance(step, (tuple, list)) or not step or not isinstance(step[0], str):
        raise InputError(f"step {step!r} is refused; use a tuple such as ('nci', 0.01)")
    name, arguments = step[0], tuple(step[1:])
    if name in ("nci", "ci_standardisation") and not has_ci:
        raise InputError(f"step {name!r} needs the confidence index, and this map has none; leave the step out")
    if name == "ci_standardisation" and len(arguments) <= 1:
        tolerance = standardisation_tolerance(arguments, phases)
        return PlannedStep(name, arguments, 1, lambda before: _standardise(before, tolerance))
    if name == "nci" and 1 <= len(arguments) <= 2:
        ci, passes = _nci_arguments(*arguments)
        return PlannedStep(name, arguments, passes, lambda before: nci(before, ci, passes))
    if name == "noc" and len(arguments) == 2:
        tolerance, level = grain_tolerance(arguments[0], "tolerance of noc", phases), arguments[1]
        most = (6 if grid.kind == "hexagonal" else 8) - 1
        if isinstance(level, bool) or not isinstance(level, (int, np.integer)) or not 0 <= level <= most:
            raise InputError(f"level {level!r} of noc is refused; use an integer from 0 to {most} on this grid")
        levels = int(level) + 1
        return PlannedStep(name, arguments, levels, lambda before: _noc(before, tolerance, levels))
    raise InputError(
        f"step {step!r} is refused; use ('ci_standardisation',), ('nci', ci), ('nci', ci, passes or 'converge') or "
        "('noc', tolerance, level)"
    )


def standardisation_tolerance(arguments: tuple[Any, ...], phases: tuple[Phase, ...]) -> float:
    """Return the tolerance of the grains of CI standardisation in degrees, or refuse it."""
    return grain_tolerance(arguments[0] if arguments else 5.0, "tolerance of ci_standardisation", phases)


def _nci_arguments(ci: object, passes: object = 1) -> tuple[float, int]:
    least = number_of(ci)
    if not -1 < least <= 1:
        raise InputError(f"CI {ci!r} of nci is refused; use a number up to 1, such as 0.01")
    if passes == "converge":
        return least, MAX_PASSES
    if isinstance(passes, bool) or not isinstance(passes, (int, np.integer)) or not 1 <= passes <= MAX_PASSES:
        raise InputError(f"passes {passes!r} of nci are refused; use an integer from 1 to {MAX_PASSES}, or 'converge'")
    return least, int(passes)


def _standardise(ebsd: EBSDMap, tolerance: float) -> tuple[EBSDMap, Turns]:
    ids, count = grain_labels(ebsd, tolerance)
    largest = np.full(count, -np.inf, np.float32)
    gather_ci(ebsd.properties["ci"], ids, largest)
    raised, changed = raise_ci(ebsd.properties["ci"], ids, largest)
    return ebsd.replace(ci=raised), [changed]


def gather_ci(ci: NDArray[np.float32], ids: NDArray[np.int32], largest: NDArray[np.float32]) -> None:
    """Raise the largest CI of every grain to what its points have."""
    inside = ids >= 0
    np.fmax.at(largest, ids[inside], ci[inside])


def raise_ci(
    ci: NDArray[np.float32], ids: NDArray[np.int32], largest: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the CI that every point takes from its grain, and the points where it is another one."""
    known = np.append(np.where(np.isfinite(largest), largest, np.nan), np.float32(np.nan))  # the last is for id -1
    raised = np.where(np.isnan(known[ids]), ci, known[ids]).astype(np.float32)
    changed = (raised != ci) & ~(np.isnan(raised) & np.isnan(ci))
    return raised, np.flatnonzero(changed)


def nci(ebsd: EBSDMap, least: float, passes: int) -> tuple[EBSDMap, Turns]:
    """Do neighbour CI correlation; a pass that changes nothing is the last, and is not counted but for the first."""
    code = neighbourhood_code(None, ebsd.grid.kind == "hexagonal")
    turns: Turns = []
    for number in range(passes):
        source, count = sums.nci_sources(
            ebsd.properties["ci"],
            ebsd.phase_id,
            grid=grid_shape(ebsd.grid),
            neighbourhood=code,
            least_ci=least,
        )
        if count == 0 and number > 0:
            break
        ebsd, changed = _take(ebsd, source, count, with_ci=True)
        turns.append(changed)
    return ebsd, turns


def _noc(ebsd: EBSDMap, tolerance: float, levels: int) -> tuple[EBSDMap, Turns]:
    code = neighbourhood_code(None, ebsd.grid.kind == "hexagonal")
    turns: Turns = []
    for level in range(levels):
        source, count = sums.noc_sources(
            ebsd.quaternions,
            np.asarray(ebsd.phase_id, np.int16),
            links_of(ebsd, tolerance, code),
            laue_of_phase={phase.id: phase.laue for phase in ebsd.phases},
            grid=grid_shape(ebsd.grid),
            neighbourhood=code,
            tolerance=tolerance,
            level=level,
        )
        ebsd, changed = _take(ebsd, source, count, with_ci=False)
        turns.append(changed)
    return ebsd, turns


def _take(ebsd: EBSDMap, source: NDArray[np.int64], count: int, *, with_ci: bool) -> tuple[EBSDMap, NDArray[np.int64]]:
    """Return the map after the points with a source took from it, and these points."""
    if count == 0:
        return ebsd, np.empty(0, np.int64)
    to = np.flatnonzero(source >= 0)
    origin = source[to]
    quaternions, phase_id = ebsd.quaternions.copy(), ebsd.phase_id.copy()
    quaternions[to], phase_id[to] = ebsd.quaternions[origin], ebsd.phase_id[origin]
    changes: dict[str, Any] = {"quaternions": quaternions, "phase_id": phase_id}
    if with_ci:
        ci = ebsd.properties["ci"].copy()
        ci[to] = ebsd.properties["ci"][origin]
        changes["ci"] = ci
    return ebsd.replace(**changes), to
