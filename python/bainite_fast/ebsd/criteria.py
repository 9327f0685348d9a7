"""Thresholds and weights of the criteria by which lath bainite is told from polygonal ferrite; see `find_bainite`."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from ..errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class BainiteCriteria:
    """Thresholds and weights. Each criterion adds weight · tanh((value - threshold)/width) to the evidence.

    The evidence E of a grain is a logit: the probability of lath bainite is 1/(1 + e⁻ᴱ). What the lattice itself shows
    (curvature and spread) comes first: a quiet lattice takes the say from shape, size, boundaries and neighbours, as
    far as it is sure, since polygonal ferrite within lath bainite has these in common with it.

    Attributes
    ----------
    tolerance, min_points : float, int
        Of grains: degrees, and points below which a grain follows its neighbours.
    ks_tolerance : float
        Angle (degrees) up to which a boundary counts as one between two K–S variants.
    curvature, curvature_width, curvature_weight : float
        Bending of the lattice in °/µm, from the KAM without its noise over neighbours as far apart as `reach`.
        0.71°/µm are dislocations of one sign at 10¹⁴ m⁻² (ρ·b/2), between the 10¹³ of polygonal ferrite and the
        10¹⁴–10¹⁵ of bainite. Densities differ by factors: logarithms are compared, and the width is one. Where the
        noise leaves the bending of a grain open, the criterion says little.
    reach : float
        Length in µm over which bending adds up. Dislocations of both signs alternate from cell to cell, so over larger
        lengths the KAM of bainite grows no further, and shows subgrain boundaries of ferrite everywhere; over shorter
        lengths it drowns in the noise, which is the same at all lengths.
    spread, spread_width, spread_weight : float
        Grain orientation spread in degrees, without its noise. Quiet lattice and a small spread speak for ferrite only
        as far as the grain has room to bend: in proportion to its width up to 4·`reach`, since a block of a few laths
        is quiet too.
    aspect, aspect_width, aspect_weight : float
        Aspect ratio: laths and blocks are long; equiaxed grains speak less for ferrite than long ones for bainite. A
        grain that the edge of the map cuts has none.
    diameter, diameter_width, diameter_weight : float
        Diameter in µm: polygonal ferrite is larger than blocks; the width is a share of it. A grain that the edge of
        the map cuts may be larger than it looks: it can speak for ferrite alone.
    relation, relation_width, relation_weight : float
        Share of the boundary between variants of one parent, less the share that cannot be (21–47°).
    neighbours : float
        Weight of the grains around, by their share of the boundary: a block has blocks beside it. It is never more than
        `neighbours`.
    sure : float
        Probability above which a grain is lath bainite; below 1 - `sure` it is polygonal ferrite; between, unsure.
    """

    tolerance: float = 5.0
    min_points: int = 5
    ks_tolerance: float = 6.0
    curvature: float = 0.71
    curvature_width: float = 0.7
    curvature_weight: float = 2.0
    reach: float = 0.5
    spread: float = 0.8
    spread_width: float = 0.35
    spread_weight: float = 1.5
    aspect: float = 2.2
    aspect_width: float = 0.8
    aspect_weight: float = 0.5
    diameter: float = 4.0
    diameter_width: float = 0.4
    diameter_weight: float = 1.0
    relation: float = 0.35
    relation_width: float = 0.3
    relation_weight: float = 1.0
    neighbours: float = 1.0
    sure: float = 0.7

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            known = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
            if not known or not (np.isfinite(value) and value >= 0):
                raise InputError(f"{item.name}={value!r} is refused; give a finite number that is not negative")
            if item.name.endswith("width") and value == 0:
                raise InputError(f"{item.name} is 0; give a positive width")
        if not 0.5 <= self.sure < 1:
            raise InputError(f"sure={self.sure} is refused; give a probability from 0.5 up to, not including, 1")
        if not 0 < self.tolerance <= 45 or self.min_points < 1 or self.min_points != int(self.min_points):
            raise InputError(
                f"tolerance={self.tolerance}° and min_points={self.min_points} are refused; "
                "give degrees up to 45, and at least 1 point"
            )
