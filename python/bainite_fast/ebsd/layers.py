"""What a map can show: each kind as one value or one colour per point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..kernels._checks import whole
from ._points import angle_argument
from .coloring import grain_colors
from .ipf import ipf_colors
from .map import EBSDMap
from .misorientation import KamMap, checked_order, kam

if TYPE_CHECKING:
    from .boundary_map import Boundaries
    from .grain_map import Grains

Float32 = NDArray[np.float32]
UInt8 = NDArray[np.uint8]

CUBIC = "m-3m"
"""Laue group that inverse pole figures have colours for."""
UNKNOWN = (205, 205, 205)
"""Colour of points without a value: not indexed, or in no grain."""
UNKNOWN_ON_GRAY = (150, 190, 230)
"""The same on a gray scale, where gray is a value."""
_PHASE_COLORS = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0),
    (224, 255, 102), (116, 10, 255), (66, 102, 0), (153, 0, 0), (76, 0, 92), (94, 241, 242), (194, 0, 136),
    (143, 124, 0), (0, 51, 128), (43, 206, 72), (240, 163, 255), (255, 204, 153), (148, 255, 181), (255, 168, 187),
)  # fmt: skip
"""M. Okabe and K. Ito's colours (without the yellow), then those of P. Green-Armytage's colour alphabet (Colour: Design
and Creativity 5 (2010) 10) that are farthest from what is before them and from `UNKNOWN`."""
NOT_INDEXED = "not indexed"
BOUNDARY_COLORS = {"low angle": (0, 114, 178), "high angle": (0, 0, 0), "between phases": (213, 94, 0)}
"""Colour of each kind of boundary segment, in the order of their numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOptions:
    """How what a map shows is computed.

    Attributes
    ----------
    order, perimeter, max_angle
        Of the KAM, see `kam`; max_angle in degrees.
    tolerance, min_points
        Of the grains, see `grains`; tolerance in degrees.
    gam : {"pairs", "kam"}
        Which of the two readings of GAM.
    low_angle, high_angle : float
        Low-angle boundaries reach from one to the other (degrees), high-angle ones lie above.

    Raises
    ------
    InputError
        If a value is out of range.
    """

    order: int = 3
    perimeter: bool = False
    max_angle: float = 5.0
    tolerance: float = 5.0
    min_points: int = 2
    gam: Literal["pairs", "kam"] = "pairs"
    low_angle: float = 2.0
    high_angle: float = 15.0

    def __post_init__(self) -> None:
        checked_order(self.order)
        angle_argument(self.max_angle, "max_angle", infinite=True)
        angle_argument(self.tolerance, "tolerance")
        whole(self.min_points, "min_points", 1)
        if self.gam not in ("pairs", "kam"):
            raise InputError(f"gam={self.gam!r} is unknown; use 'pairs' or 'kam'")
        low, high = angle_argument(self.low_angle, "low_angle"), angle_argument(self.high_angle, "high_angle")
        if low > high:
            raise InputError(f"low_angle={low:g} is above high_angle={high:g}; it must be at most that")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """One kind of map as arrays.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    title : str
        What is shown, with the convention.
    values : ndarray of float32, (points,), or None
        In `unit`, NaN where undefined; None where a kind has colours alone.
    unit : str
        Such as "°"; "" for numbers without.
    colors : ndarray of uint8, (points, 3), or None
        RGB; None where a colour scale is to be used.
    legend : dict
        Name and colour of each class of a kind that shows classes.
    key : str
        "triangle" for inverse pole figures, "scale" for values, "gray" for images of the detector, else "legend".
    limits : (float, float) or None
        Ends of the colour scale where those of all values would not do.
    boundaries : Boundaries or None
        Segments to draw.
    """

    kind: str
    title: str
    values: Float32 | None = None
    unit: str = ""
    colors: UInt8 | None = None
    legend: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    key: Literal["triangle", "scale", "gray", "legend"] = "scale"
    limits: tuple[float, float] | None = None
    boundaries: Boundaries | None = None

    @property
    def channels(self) -> NDArray[Any]:
        """What is written as an image: values, float32 (points,), or colours, uint8 (points, 3)."""
        if self.values is not None and not self.legend:
            return self.values
        if self.colors is not None:
            return self.colors
        raise InputError(f"the map {self.kind!r} has neither values nor colours")


@dataclass(slots=True)
class _Source:
    """A map with what several kinds share, computed once."""

    ebsd: EBSDMap
    options: MapOptions
    known: Grains | None = None

    @property
    def grains(self) -> Grains:
        if self.known is None:
            from .grain_map import grains

            self.known = grains(self.ebsd, self.options.tolerance, self.options.min_points)
        return self.known

    @property
    def grain_text(self) -> str:
        return f"{len(self.grains)} grains, {self.grains.tolerance:g}°, ≥ {self.grains.min_points} points"


def _kam(source: _Source) -> Layer:
    o = source.options
    return kam_layer(kam(source.ebsd, o.order, perimeter=o.perimeter, max_angle=o.max_angle))


def kam_layer(values: KamMap) -> Layer:
    """Return a KAM as what is drawn and written; its title says the convention."""
    title = f"KAM, {values.convention}"
    return Layer(kind="kam", title=title, values=np.asarray(values, np.float32).reshape(-1), unit="°")


def _per_grain(source: _Source, values: NDArray[np.floating]) -> Float32:
    ids = source.grains.ids.reshape(-1)
    extended = np.append(np.asarray(values, np.float32), np.float32(np.nan))
    spread: Float32 = extended[ids]
    return spread


def _gos(source: _Source) -> Layer:
    values = _per_grain(source, source.grains.gos)
    return Layer(kind="gos", title=f"GOS, {source.grain_text}", values=values, unit="°")


def _gam(source: _Source) -> Layer:
    values = _per_grain(source, source.grains.gam(source.options.gam))
    title = f"GAM ({source.options.gam}), {source.grain_text}"
    return Layer(kind="gam", title=title, values=values, unit="°")


def _grod(source: _Source) -> Layer:
    values = np.asarray(source.grains.grod, np.float32).reshape(-1)
    return Layer(kind="grod", title=f"GROD, {source.grain_text}", values=values, unit="°")


def _grains(source: _Source) -> Layer:
    ids = source.grains.ids.reshape(-1)
    table = np.concatenate([grain_colors(ids, source.ebsd.grid), np.array([UNKNOWN], np.uint8)])
    legend = {"in no grain": UNKNOWN} if (ids < 0).any() else {}
    return Layer(kind="grains", title=source.grain_text, colors=table[ids], legend=legend, key="legend")


def _boundaries(source: _Source) -> Layer:
    from .boundary_map import boundaries

    ebsd, o = source.ebsd, source.options
    found = boundaries(ebsd, low=o.low_angle, high=o.high_angle)
    # Each point of a segment takes the most of its boundaries: 0 none, 1 low angle, 2 high angle, 3 between phases.
    rank = np.zeros(ebsd.size, np.float32)
    for points in (found.i, found.j):
        np.maximum.at(rank, points, found.kind.astype(np.float32) + 1)
    rank[~ebsd.indexed] = np.nan
    names = list(BOUNDARY_COLORS)
    table = np.array([(255, 255, 255), *BOUNDARY_COLORS.values(), UNKNOWN], np.uint8)
    colors = table[np.where(np.isnan(rank), len(table) - 1, rank).astype(np.int64)]
    present = [name for number, name in enumerate(names) if (found.kind == number).any()]
    limits = {"low angle": f"{o.low_angle:g}–{o.high_angle:g}°", "high angle": f"> {o.high_angle:g}°"}
    legend = {f"{name} {limits.get(name, '')}".strip(): BOUNDARY_COLORS[name] for name in present}
    if not ebsd.indexed.all():
        legend[NOT_INDEXED] = UNKNOWN
    return Layer(
        kind="boundaries",
        title=f"Grain boundaries, {len(found):,} segments",
        values=rank,
        colors=colors,
        legend=legend,
        key="legend",
        boundaries=found,
    )


def _ipf(axis: Literal["x", "y", "z"]) -> Callable[[_Source], Layer]:
    def make(source: _Source) -> Layer:
        ebsd = source.ebsd
        cubic = [phase for phase in ebsd.phases if phase.laue == CUBIC and (ebsd.phase_id == phase.id).any()]
        shown = ebsd.indexed & np.isin(ebsd.phase_id, [phase.id for phase in cubic])
        if not shown.any():
            listed = ", ".join(map(str, ebsd.phases)) or "none"
            raise InputError(f"inverse pole figure colours are for cubic phases ({CUBIC}); this map has {listed}")
        colors = np.full((ebsd.size, 3), UNKNOWN, np.uint8)
        colors[shown] = ipf_colors(ebsd.quaternions[shown], axis)
        gray = [phase.name for phase in ebsd.phases if phase.laue != CUBIC and (ebsd.phase_id == phase.id).any()]
        of = ", ".join(phase.name for phase in cubic) if len(cubic) <= 3 else f"{len(cubic)} phases"
        gray += [] if ebsd.indexed.all() else [NOT_INDEXED]
        return Layer(
            kind=f"ipf-{axis}",
            title=f"Inverse pole figure, sample direction {axis.upper()}, {of} ({CUBIC})",
            colors=colors,
            legend={", ".join(gray): UNKNOWN} if gray else {},
            key="triangle",
        )

    return make


def _phase(source: _Source) -> Layer:
    ebsd = source.ebsd
    present = [phase for phase in ebsd.phases if (ebsd.phase_id == phase.id).any()]
    colors = np.full((ebsd.size, 3), UNKNOWN, np.uint8)
    legend = {}
    for number, phase in enumerate(present):
        color = _phase_color(number)
        own = ebsd.phase_id == phase.id
        colors[own] = color
        legend[f"{phase.name} {100 * own.mean():.1f} %"] = color
    if not ebsd.indexed.all():
        legend[f"{NOT_INDEXED} {100 * (~ebsd.indexed).mean():.1f} %"] = UNKNOWN
    values = ebsd.phase_id.astype(np.float32)
    return Layer(kind="phase", title="Phases", values=values, colors=colors, legend=legend, key="legend")


def _phase_color(number: int) -> tuple[int, int, int]:
    """Return the colour of the n-th phase of a map: darker ones of the same hue where the palette is used up."""
    again, which = divmod(number, len(_PHASE_COLORS))
    red, green, blue = (round(channel * 0.55**again) for channel in _PHASE_COLORS[which])
    return red, green, blue


_MEASURED = {"iq": "Image quality", "ci": "Confidence index", "band_contrast": "Band contrast"}


def _measured(name: str) -> Callable[[_Source], Layer]:
    def make(source: _Source) -> Layer:
        values = getattr(source.ebsd, name)
        if values is None:
            have = ", ".join(source.ebsd.properties) or "nothing of the kind"
            raise InputError(f"the map {source.ebsd.source or ''} has no {name}; it has {have}")
        # Points that are not indexed may hold -1: they would take the scale from the rest.
        shown = values[source.ebsd.indexed & np.isfinite(values)]
        low, high = np.quantile(shown, [0.01, 0.99]).tolist() if shown.size else (0.0, 1.0)
        limits = (low, high) if high > low else (low, low + 1.0)
        return Layer(kind=name, title=_MEASURED[name], values=values, key="gray", limits=limits)

    return make


_MAKERS: dict[str, Callable[[_Source], Layer]] = {
    "kam": _kam,
    "gos": _gos,
    "gam": _gam,
    "grod": _grod,
    "boundaries": _boundaries,
    "grains": _grains,
    "ipf-x": _ipf("x"),
    "ipf-y": _ipf("y"),
    "ipf-z": _ipf("z"),
    "iq": _measured("iq"),
    "ci": _measured("ci"),
    "band_contrast": _measured("band_contrast"),
    "phase": _phase,
}
KINDS = tuple(_MAKERS)
"""What a map can show; `map_layer`, `draw` and `write_layers` take any of them."""


def available_kinds(ebsd: EBSDMap) -> tuple[str, ...]:
    """Return those of `KINDS` that a map has the data for.

    Where no point is indexed, these are what was measured besides orientations and differs from point to point.
    """
    if not ebsd.indexed.any():
        return tuple(name for name in _MEASURED if len(np.unique(ebsd.properties.get(name, np.zeros(1)))) > 1)
    missing = {name for name in _MEASURED if getattr(ebsd, name) is None}
    cubic = any(phase.laue == CUBIC and (ebsd.phase_id == phase.id).any() for phase in ebsd.phases)
    return tuple(kind for kind in KINDS if kind not in missing and (cubic or not kind.startswith("ipf-")))


def map_layer(ebsd: EBSDMap, kind: str, *, options: MapOptions | None = None, grains: Grains | None = None) -> Layer:
    """Compute one kind of map as arrays.

    Parameters
    ----------
    ebsd : EBSDMap
        The map.
    kind : str
        One of `KINDS`: "kam", "gos", "gam" and "grod" (degrees), "boundaries" (0 none, 1 low angle, 2 high angle, 3
        between phases), "grains" (unique colours, neighbours differ), "ipf-x", "ipf-y" and "ipf-z" (cubic phases),
        "iq", "ci" and "band_contrast" (as measured), "phase".
    options : MapOptions, optional
        Conventions and limits.
    grains : Grains, optional
        Grains found before; else they are found with the tolerance of `options` where the kind needs them.

    Returns
    -------
    Layer

    Raises
    ------
    InputError
        If there is no such kind, or the map lacks what it needs.
    """
    return layer_of(source_of(ebsd, options, grains), kind)


def layer_of(source: _Source, kind: str) -> Layer:
    """Compute one kind of map from a source shared by several."""
    if kind not in _MAKERS:
        raise InputError(f"no map is called {kind!r}; use one of {', '.join(KINDS)}")
    return _MAKERS[kind](source)


def source_of(ebsd: EBSDMap, options: MapOptions | None, grains: Grains | None) -> _Source:
    """Return a source for several kinds of one map."""
    from .grain_map import Grains

    if not isinstance(ebsd, EBSDMap):
        raise InputError(f"a map is drawn of an EBSDMap; got {type(ebsd).__name__}")
    if grains is not None and not isinstance(grains, Grains):
        raise InputError(f"grains must be what ebsd.grains() returns; got {type(grains).__name__}")
    if grains is not None and grains.ids.size != ebsd.size:
        raise InputError(f"the grains are of a map of {grains.ids.size} points, and this one has {ebsd.size}")
    return _Source(ebsd, options if options is not None else MapOptions(), grains)
