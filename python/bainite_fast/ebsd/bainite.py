"""Lath bainite against polygonal ferrite, told from an EBSD map.

No single criterion is enough, so several are weighed, each with its own threshold: KAM and GAM (polygonal ferrite holds
few dislocations), the orientation spread, the shape and size of grains, and the boundary misorientations, where 21–47°
are impossible between two variants of one austenite grain. This follows A. A. Gazder et al., Ultramicroscopy 147 (2014)
114 (size, aspect ratio, misorientation), S. Zajac et al., Mater. Sci. Forum 500–501 (2005) 387 (boundary
misorientations of bainites), and A. R. Durmaz et al., Nat. Commun. 12 (2021) 6272, who take polygonal ferrite grains
out of bainitic regions by their low KAM and GOS.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ._evidence import (
    BAINITE,
    FERRITE,
    NOT_JUDGED,
    UNSURE,
    as_a_whole,
    contacts,
    evidence_of,
    labels_of,
    probability_of,
    weighed,
)
from ._iron import judged_phases
from ._pairs import neighbour_table
from ._parting import Bent, mean_kam, order_of_reach, part_grains
from .criteria import BainiteCriteria
from .features import (
    BoundaryFeatures,
    GrainFeatures,
    boundary_features,
    boundary_lengths,
    grain_features,
    write_table,
)
from .laue import Phase
from .layers import UNKNOWN, Layer
from .map import EBSDMap
from .noise import NoiseFloor, noise_floor
from .tables import as_table

Float64 = NDArray[np.float64]

LABELS = ("polygonal ferrite", "lath bainite", "unsure", "not judged")
_COLORS = ((86, 180, 233), (230, 159, 0), (150, 120, 160), UNKNOWN)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BainiteMap:
    """Lath bainite, polygonal ferrite, and what is unsure.

    Attributes
    ----------
    labels : ndarray of uint8, (points,)
        0 polygonal ferrite, 1 lath bainite, 2 unsure, 3 not judged: points of other phases. Points that are not
        indexed, and grains too small to judge, take the label of what is around them.
    probability : ndarray of float32, (points,)
        Probability of lath bainite by the criteria, NaN where not judged; it ranks, and is not calibrated on any real
        steel.
    embedded_ferrite : ndarray of bool, (points,)
        Polygonal ferrite grains of whose boundary at least half meets lath bainite.
    grain_labels : ndarray of uint8, (grains,)
        Of the grains of the phases judged: 0, 1 or 2.
    grain_probability : ndarray of float64, (grains,)
    features : GrainFeatures
        One row per grain.
    borders : BoundaryFeatures
        One entry per pair of nearest points in two grains.
    evidence : dict of str to ndarray of float64, (grains,)
        What each criterion added to the logit of `grain_probability`, weighed against the others.
    noise : NoiseFloor
        What was taken off KAM and GOS.
    criteria : BainiteCriteria
    phases : tuple of Phase
        Those that were judged.
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
    phases: tuple[Phase, ...]
    shape: tuple[int, ...]

    @property
    def confidence(self) -> NDArray[np.float32]:
        """Probability of the more likely of the two classes, 0.5 … 1, NaN where not judged: float32 (points,)."""
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
            if share or name != LABELS[NOT_JUDGED]
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
        for number, name in enumerate(LABELS[:NOT_JUDGED]):
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
        left = self.fractions[LABELS[NOT_JUDGED]]
        judged = f"judged: {', '.join(map(str, self.phases))}{f'; not judged: {100 * left:.1f} %' if left else ''}"
        return (
            as_table("Lath bainite from EBSD", head, rows)
            + f"\n{judged}\npolygonal ferrite embedded in lath bainite: {embedded:.1f} % of the map; {self.noise}"
        )


def find_bainite(
    ebsd: EBSDMap,
    *,
    phases: int | str | Iterable[int | str] | None = None,
    criteria: BainiteCriteria | None = None,
    noise: NoiseFloor | None = None,
    fill: bool = False,
) -> BainiteMap:
    """Tell lath bainite from polygonal ferrite, grain by grain.

    Parameters
    ----------
    ebsd : EBSDMap
        Best as measured or after the paper's clean-up (`PAPER_CLEANUP`).
    phases : int, str or several of them, optional
        Ids or names of the phases to judge. By default those that can be ferrite or bainite: body-centred cubic iron,
        which is of Laue group m-3m and, where the file has a lattice, of a = 2.87 ± 0.09 Å, else of a name such as
        Ferrite, Iron bcc, Fe-alpha, Bainite or Steel. Points of other phases are not judged.
    criteria : BainiteCriteria, optional
        Thresholds and weights.
    noise : NoiseFloor, optional
        Of the same map, where it is known; else it is estimated.
    fill : bool
        Give points of other phases the label of what is around them, as points that are not indexed: films of
        retained austenite between the laths then belong to the bainite.

    Returns
    -------
    BainiteMap

    Raises
    ------
    InputError
        If no phase of the map can be ferrite and none is named, the map has no grains or no such phase, or too few
        points for a noise floor.

    Warns
    -----
    BainiteWarning
        If neither lattice nor name says what the phase judged is, or several phases are judged alike.

    Notes
    -----
    A grain whose lattice is quiet here and bent there is judged in parts, each of them one connected region, so that
    these are not the grains of :func:`grains`.

    Judged on synthetic maps alone so far: see benchmarks/results/ebsd_bainite.md. Martensite looks like lath bainite to
    every one of these criteria; take it out by band contrast or by its own phase first.
    """
    from .grain_map import grains as find_grains

    if not isinstance(ebsd, EBSDMap):
        raise InputError(f"find_bainite() needs an EBSDMap; got {type(ebsd).__name__}")
    rules = criteria if criteria is not None else BainiteCriteria()
    judged = judged_phases(ebsd, phases)
    of_judged = np.isin(ebsd.phase_id, [phase.id for phase in judged])
    others = ebsd.indexed & ~of_judged & (not fill)
    ebsd = ebsd.replace(indexed=of_judged)
    grains = find_grains(ebsd, rules.tolerance, 1)
    if not len(grains):
        raise InputError(f"the map {ebsd.source or ''} has no grains: none of its {ebsd.size} points is indexed")
    floor = noise if noise is not None else noise_floor(ebsd, grains=grains.ids)
    order = order_of_reach(ebsd.grid, rules.reach)
    bent = Bent.over(ebsd.grid, order, floor, (rules.curvature, rules.reach))
    whole = grains
    grains = part_grains(ebsd, whole, order, limit=bent, reach=rules.reach, diameter=rules.diameter)
    borders = boundary_features(ebsd, grains, ks_tolerance=rules.ks_tolerance)
    features = grain_features(ebsd, grains, borders)
    evidence = evidence_of(features, mean_kam(ebsd, grains, order), bent, rules)
    evidence = weighed(evidence, features, contacts(grains, borders, boundary_lengths(ebsd.grid, borders)), rules)
    evidence = as_a_whole(evidence, whole.point_ids[grains.first], features.points, rules.sure)
    probability = probability_of(evidence)
    labels = labels_of(probability, rules.sure)
    ids = grains.ids.reshape(-1)
    point_labels, point_probability = _fill(ebsd, ids, (labels, probability), others)
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
        phases=judged,
        shape=ebsd.shape,
    )


def _fill(
    ebsd: EBSDMap, ids: NDArray[np.int32], of_grains: tuple[NDArray[np.uint8], Float64], others: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return label and probability of every point; those in no grain take the mean of their neighbours.

    `others`: points of other phases, which are not judged, nor are points that have them alone around.
    """
    labels, probability = of_grains
    known = ids >= 0
    values = np.where(known, probability[ids], np.nan)
    votes = np.where(known, labels[ids], NOT_JUDGED).astype(np.int64)
    # From round to round only what lies next to known points is looked at; the last entry is for no neighbour, -1.
    known = np.append(known | others, False)
    table = neighbour_table(ebsd.grid)
    at = np.flatnonzero(~known[:-1])
    at = at[known[table[at]].any(axis=1)]
    while len(at):
        around = table[at]
        meets = known[around]
        votes_around = np.where(meets, votes[around], -1)
        ferrite, bainite, apart = ((votes_around == vote).sum(axis=1) for vote in (FERRITE, BAINITE, NOT_JUDGED))
        own = meets & (votes_around != NOT_JUDGED)
        total, number = np.where(own, values[around], 0.0).sum(axis=1), own.sum(axis=1)
        # A tie between the two classes is unsure; one with another phase is judged.
        label = np.where(ferrite > bainite, FERRITE, np.where(bainite > ferrite, BAINITE, UNSURE))
        label[apart > number] = NOT_JUDGED
        votes[at] = label
        values[at] = np.where(label == NOT_JUDGED, np.nan, total / np.maximum(number, 1))
        known[at] = True
        beside = np.unique(around[around >= 0])
        at = beside[~known[beside]]
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
