"""Lath bainite against polygonal ferrite, told from an EBSD map.

No single criterion is enough, so several are weighed, each with its own threshold: KAM and GAM (polygonal ferrite holds
few dislocations), the orientation spread, the shape and size of grains, and the boundary misorientations, where 21–47°
are impossible between two variants of one austenite grain. This follows A. A. Gazder et al., Ultramicroscopy 147 (2014)
114 (size, aspect ratio, misorientation), S. Zajac et al., Mater. Sci. Forum 500–501 (2005) 387 (boundary
misorientations of bainites), and A. R. Durmaz et al., Nat. Commun. 12 (2021) 6272, who take polygonal ferrite grains
out of bainitic regions by their low KAM and GOS.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import BainiteWarning, InputError
from ._pairs import nearest_pairs
from ._parting import kam_at_bending, mean_kam, order_of_reach, part_grains
from .criteria import BainiteCriteria
from .features import (
    BoundaryFeatures,
    GrainFeatures,
    boundary_features,
    grain_features,
    write_table,
)
from .layers import Layer
from .map import EBSDMap
from .noise import NoiseFloor, noise_floor
from .tables import as_table

if TYPE_CHECKING:
    from .grain_map import Grains

Float64 = NDArray[np.float64]

FERRITE, BAINITE, UNSURE = 0, 1, 2
LABELS = ("polygonal ferrite", "lath bainite", "unsure")
_COLORS = ((86, 180, 233), (230, 159, 0), (160, 160, 160))
_SPREAD_PER_NOISE = 2.0 * np.sqrt(2.0 / (3.0 * np.pi))
"""Mean over rms angle of an isotropic normal error, 0.921: the GOS that noise alone gives, over the noise."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BainiteMap:
    """Lath bainite, polygonal ferrite, and what is unsure.

    Attributes
    ----------
    labels : ndarray of uint8, (points,)
        0 polygonal ferrite, 1 lath bainite, 2 unsure. Points that are not indexed, and grains too small to judge, take
        the label of what is around them.
    probability : ndarray of float32, (points,)
        Probability of lath bainite by the criteria; it ranks, and is not calibrated on any real steel.
    embedded_ferrite : ndarray of bool, (points,)
        Polygonal ferrite grains of whose boundary at least half meets lath bainite.
    grain_labels : ndarray of uint8, (grains,)
    grain_probability : ndarray of float64, (grains,)
    features : GrainFeatures
        One row per grain.
    borders : BoundaryFeatures
        One entry per pair of nearest points in two grains.
    evidence : dict of str to ndarray of float64, (grains,)
        What each criterion added.
    noise : NoiseFloor
        What was taken off KAM and GOS.
    criteria : BainiteCriteria
    shape : tuple of int
        Shape of the map.
    """

    labels: NDArray[np.uint8]
    probability: NDArray[np.float32]
    embedded_ferrite: NDArray[np.bool_]
    grain_labels: NDArray[np.uint8]
    grain_probability: Float64
    features: GrainFeatures = field(repr=False)
    borders: BoundaryFeatures = field(repr=False)
    evidence: dict[str, Float64] = field(repr=False)
    noise: NoiseFloor
    criteria: BainiteCriteria
    shape: tuple[int, ...]

    @property
    def confidence(self) -> NDArray[np.float32]:
        """Probability of the more likely of the two classes, 0.5 … 1: float32 (points,)."""
        certain: NDArray[np.float32] = np.maximum(self.probability, np.float32(1) - self.probability)
        return certain

    @property
    def fractions(self) -> dict[str, float]:
        """Share of the points by class."""
        return {name: float(np.mean(self.labels == number)) for number, name in enumerate(LABELS)}

    def layer(self) -> Layer:
        """Return the map of classes, to be drawn with `draw_layer`."""
        legend = {
            f"{name} {100 * share:.1f} %": color
            for (name, share), color in zip(self.fractions.items(), _COLORS, strict=True)
        }
        colors = np.array(_COLORS, np.uint8)[self.labels]
        title = "Lath bainite against polygonal ferrite"
        return Layer(
            kind="bainite",
            title=title,
            values=self.labels.astype(np.float32),
            colors=colors,
            legend=legend,
            key="legend",
        )

    def write_csv(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write label, probability, features and evidence of every grain as CSV."""
        columns = {
            "label": np.array(LABELS)[self.grain_labels],
            "probability": self.grain_probability,
            **self.features.columns(),
            **{f"evidence_{name}": values for name, values in self.evidence.items()},
        }
        return write_table(Path(path), columns, overwrite=overwrite)

    def __repr__(self) -> str:
        rows = []
        for number, name in enumerate(LABELS):
            own = self.grain_labels == number
            part = self.features.area_um2[own]
            weights = part if part.sum() > 0 else None
            numbers = [
                f"{np.average(values[own], weights=weights):.2f}" if own.any() else "–"
                for values in (
                    np.nan_to_num(self.features.kam3),
                    np.nan_to_num(self.features.gos),
                    self.features.aspect_ratio,
                    self.features.diameter_um,
                    np.nan_to_num(self.features.ks),
                    np.nan_to_num(self.features.gap),
                )
            ]
            rows.append((name, f"{100 * self.fractions[name]:.1f} %", str(int(own.sum())), *numbers))
        head = ("class", "area", "grains", "KAM3 °", "GOS °", "aspect", "diameter µm", "K–S share", "21–47° share")
        embedded = 100 * float(self.embedded_ferrite.mean())
        return (
            as_table("Lath bainite from EBSD", head, rows)
            + f"\npolygonal ferrite embedded in lath bainite: {embedded:.1f} % of the map; {self.noise}"
        )


def find_bainite(
    ebsd: EBSDMap,
    *,
    phase: int | str | None = None,
    criteria: BainiteCriteria | None = None,
    noise: NoiseFloor | None = None,
) -> BainiteMap:
    """Tell lath bainite from polygonal ferrite, grain by grain.

    Parameters
    ----------
    ebsd : EBSDMap
        Best as measured or after the paper's clean-up (`PAPER_CLEANUP`); the cubic ferrite phase should be most of it.
    phase : int or str, optional
        Id or name of the ferrite phase. Points of other phases, such as films of retained austenite, then count as not
        indexed: they take the label of what is around them. Without it all phases are judged as if they were ferrite,
        with a warning where there are several.
    criteria : BainiteCriteria, optional
        Thresholds and weights.
    noise : NoiseFloor, optional
        Of the same map, where it is known; else it is estimated.

    Returns
    -------
    BainiteMap

    Raises
    ------
    InputError
        If the map has no grains or no such phase, or too few points for a noise floor.

    Warns
    -----
    BainiteWarning
        If the map has points of several phases, and `phase` does not say which one is the ferrite.

    Notes
    -----
    Judged on synthetic maps alone so far: see benchmarks/results/ebsd_bainite.md. Martensite looks like lath bainite to
    every one of these criteria; take it out by band contrast or by its own phase first.
    """
    from .grain_map import grains as find_grains

    if not isinstance(ebsd, EBSDMap):
        raise InputError(f"find_bainite() needs an EBSDMap; got {type(ebsd).__name__}")
    rules = criteria if criteria is not None else BainiteCriteria()
    ebsd = _of_ferrite(ebsd, phase)
    grains = find_grains(ebsd, rules.tolerance, 1)
    if not len(grains):
        raise InputError(f"the map {ebsd.source or ''} has no grains: none of its {ebsd.size} points is indexed")
    floor = noise if noise is not None else noise_floor(ebsd, grains=grains.ids)
    order = order_of_reach(ebsd.grid, rules.reach)
    kam_at = kam_at_bending(ebsd.grid, order, floor, (rules.curvature, rules.reach))
    grains = part_grains(ebsd, grains, order, kam_at=kam_at, reach=rules.reach, diameter=rules.diameter)
    borders = boundary_features(ebsd, grains, ks_tolerance=rules.ks_tolerance)
    features = grain_features(ebsd, grains, borders)
    bending = (mean_kam(ebsd, grains, order), kam_at)
    evidence = _evidence(features, bending, floor, rules)
    around = _contacts(grains, borders)
    total = _with_neighbours(evidence, features, around, rules)
    probability = 1.0 / (1.0 + np.exp(-total))
    labels = np.full(len(grains), UNSURE, np.uint8)
    labels[probability >= rules.sure] = BAINITE
    labels[probability <= 1.0 - rules.sure] = FERRITE
    ids = grains.ids.reshape(-1)
    point_labels, point_probability = _fill(ebsd, ids, labels, probability)
    return BainiteMap(
        labels=point_labels,
        probability=point_probability,
        embedded_ferrite=_embedded(ids, labels, borders, (features.points >= rules.min_points, rules.tolerance)),
        grain_labels=labels,
        grain_probability=probability,
        features=features,
        borders=borders,
        evidence=evidence,
        noise=floor,
        criteria=rules,
        shape=ebsd.shape,
    )


def _of_ferrite(ebsd: EBSDMap, phase: int | str | None) -> EBSDMap:
    """Return the map with the points of the ferrite phase alone indexed."""
    if phase is not None:
        return ebsd.replace(indexed=ebsd.phase_id == ebsd.phase(phase).id)
    present = [item for item in ebsd.phases if (ebsd.phase_id == item.id).any()]
    if len(present) > 1:
        warnings.warn(
            f"{', '.join(map(str, present))} are all judged as if they were ferrite; say which one it is, such as "
            f"phase={present[0].name!r}",
            BainiteWarning,
            stacklevel=3,
        )
    return ebsd


def _evidence(
    features: GrainFeatures, bending: tuple[Float64, float], floor: NoiseFloor, rules: BainiteCriteria
) -> dict[str, Float64]:
    """Return what each criterion adds to the logit of every grain; `bending`: KAM of the grains, and its threshold."""
    kam, kam_at = bending
    spread_at = float(np.hypot(_SPREAD_PER_NOISE * floor.noise, rules.spread))
    relation = np.nan_to_num(features.ks - features.gap, nan=rules.relation)
    diameter = np.log(np.maximum(features.diameter_um, 1e-6) / rules.diameter)
    # An ellipse of few points is long by chance.
    trust = np.minimum(features.points / 20.0, 1.0)
    found = {
        "curvature": rules.curvature_weight
        * np.tanh((np.nan_to_num(kam, nan=kam_at) - kam_at) / (rules.curvature_width * kam_at)),
        "spread": rules.spread_weight * np.tanh((features.gos - spread_at) / rules.spread_width),
        "aspect": rules.aspect_weight * np.tanh((features.aspect_ratio - rules.aspect) / rules.aspect_width),
        "diameter": -rules.diameter_weight * np.tanh(diameter / rules.diameter_width),
        "relation": rules.relation_weight * np.tanh((relation - rules.relation) / rules.relation_width),
    }
    # Even bent lattice spreads little in a grain that is small.
    room = np.minimum(1.0, features.diameter_um * rules.curvature / max(rules.spread, 1e-6))
    found["spread"] = np.where(found["spread"] < 0, room, 1.0) * found["spread"]
    return {name: values * trust for name, values in found.items()}


def _contacts(grains: Grains, borders: BoundaryFeatures) -> tuple[NDArray[np.int64], NDArray[np.int64], Float64]:
    """Return which grains touch (both ways), and the share of the first one's boundary that is with the second."""
    ids = grains.ids.reshape(-1).astype(np.int64)
    a = np.concatenate([ids[borders.i], ids[borders.j]])
    b = np.concatenate([ids[borders.j], ids[borders.i]])
    pair, number = np.unique(a * len(grains) + b, return_counts=True)
    one, other = pair // len(grains), pair % len(grains)
    total = np.bincount(one, number, minlength=len(grains))
    return one, other, number / total[one]


def _with_neighbours(
    evidence: dict[str, Float64],
    features: GrainFeatures,
    around: tuple[NDArray[np.int64], NDArray[np.int64], Float64],
    rules: BainiteCriteria,
) -> Float64:
    """Add what the neighbours say; grains too small to judge follow them alone."""
    own: Float64 = np.sum(list(evidence.values()), axis=0)
    small = features.points < rules.min_points
    own[small] = 0.0
    one, other, share = around
    total = own.copy()
    for _ in range(8):
        # The neighbours' say is their own evidence first, and spreads over small grains from round to round.
        belief = np.tanh(0.5 * total)
        said = np.bincount(one, share * belief[other], minlength=len(own))
        weight = np.where(small, 4.0, rules.neighbours)
        total = own + weight * said
    evidence["neighbours"] = total - own
    return total


def _fill(
    ebsd: EBSDMap, ids: NDArray[np.int32], labels: NDArray[np.uint8], probability: Float64
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return label and probability of every point; those in no grain take the mean of their neighbours."""
    known = ids >= 0
    values = np.where(known, probability[ids], 0.5)
    votes = np.where(known, labels[ids], UNSURE).astype(np.int64)
    i, j = nearest_pairs(ebsd.grid)
    a, b = np.concatenate([i, j]), np.concatenate([j, i])
    while not known.all():
        meets = ~known[a] & known[b]
        if not meets.any():
            break
        at, source = a[meets], b[meets]
        number = np.bincount(at, minlength=ebsd.size)
        table = np.bincount(3 * at + votes[source], minlength=3 * ebsd.size).reshape(-1, 3)
        new = number > 0
        values[new] = np.bincount(at, values[source], minlength=ebsd.size)[new] / number[new]
        # A tie between the two classes is unsure.
        ferrite, bainite = table[new, FERRITE], table[new, BAINITE]
        votes[new] = np.where(ferrite > bainite, FERRITE, np.where(bainite > ferrite, BAINITE, UNSURE))
        known = known | new
    return votes.astype(np.uint8), values.astype(np.float32)


def _embedded(
    ids: NDArray[np.int32],
    labels: NDArray[np.uint8],
    borders: BoundaryFeatures,
    counted: tuple[NDArray[np.bool_], float],
) -> NDArray[np.bool_]:
    """Return the points of ferrite grains of whose boundary at least half meets lath bainite.

    `counted`: grains large enough to count as neighbours, and the angle above which a contact is a boundary. Wrong
    points inside a grain, and what was parted from it, are no boundary of it.
    """
    large, tolerance = counted
    real = (large[ids[borders.i]] & large[ids[borders.j]]) & ~(borders.angle <= tolerance)
    i, j = borders.i[real], borders.j[real]
    a, b = np.concatenate([ids[i], ids[j]]), np.concatenate([ids[j], ids[i]])
    meeting = np.bincount(a, labels[b] == BAINITE, minlength=len(labels))
    total = np.bincount(a, minlength=len(labels))
    embedded = (labels == FERRITE) & (total > 0) & (meeting >= 0.5 * total)
    found: NDArray[np.bool_] = np.append(embedded, False)[ids]
    return found
