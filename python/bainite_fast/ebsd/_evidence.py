"""What the criteria say of every grain, weighed against each other; see `find_bainite`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ._parting import Bent
from .criteria import BainiteCriteria
from .features import BoundaryFeatures, GrainFeatures

if TYPE_CHECKING:
    from .grain_map import Grains

Float64 = NDArray[np.float64]

FERRITE, BAINITE, UNSURE, NOT_JUDGED = 0, 1, 2, 3
_ROOM = 4.0
"""Width in lengths of `reach` from which on a grain has room to bend: 2 µm, or some five laths."""
_SPREAD_PER_NOISE = 2.0 * np.sqrt(2.0 / (3.0 * np.pi))
"""Mean over rms angle of an isotropic normal error, 0.921: the GOS that noise alone gives, over the noise."""


def evidence_of(features: GrainFeatures, kam: Float64, bent: Bent, rules: BainiteCriteria) -> dict[str, Float64]:
    """Return what each criterion by itself says of every grain, as a logit; `kam`: of the grains, in degrees."""
    spread_at = float(np.hypot(_SPREAD_PER_NOISE * bent.floor.noise, rules.spread))
    relation = np.nan_to_num(features.ks - features.gap, nan=rules.relation)
    diameter = np.log(np.maximum(features.diameter_um, 1e-6) / rules.diameter)
    size = -np.tanh(diameter / rules.diameter_width)
    shape = np.tanh((features.aspect_ratio - rules.aspect) / rules.aspect_width)
    # Of a grain that the edge of the map cuts, the rest may be of any size and shape: what is seen is a least size.
    size = np.where(features.edge, np.minimum(size, 0.0), size)
    shape = np.where(features.edge, 0.0, shape)
    bending = bent.contrast(kam, features.points, rules.curvature_width)
    spread = np.tanh((features.gos - spread_at) / rules.spread_width)
    # A block as narrow as a few laths is as quiet inside as ferrite: bending needs room to show.
    room = np.minimum(1.0, features.diameter_um / np.sqrt(features.aspect_ratio) / max(_ROOM * rules.reach, 1e-6))
    found = {
        "curvature": rules.curvature_weight * np.where(bending < 0, room, 1.0) * bending,
        "spread": rules.spread_weight * np.where(spread < 0, room, 1.0) * spread,
        "aspect": rules.aspect_weight * shape,
        "diameter": rules.diameter_weight * size,
        "relation": rules.relation_weight * np.tanh((relation - rules.relation) / rules.relation_width),
    }
    # An ellipse of few points is long by chance, and a few points spread little.
    trust = np.minimum(features.points / 20.0, 1.0)
    return {name: values * (1.0 if name == "curvature" else trust) for name, values in found.items()}


def contacts(
    grains: Grains, borders: BoundaryFeatures, length: Float64
) -> tuple[NDArray[np.int64], NDArray[np.int64], Float64]:
    """Return which grains touch (both ways), and the share of the first one's boundary that is with the second.

    `length`: of every piece of boundary, in any unit.
    """
    ids = grains.ids.reshape(-1).astype(np.int64)
    a = np.concatenate([ids[borders.i], ids[borders.j]])
    b = np.concatenate([ids[borders.j], ids[borders.i]])
    pair, which = np.unique(a * len(grains) + b, return_inverse=True)
    shared = np.bincount(which, np.concatenate([length, length]))
    one, other = pair // len(grains), pair % len(grains)
    total = np.bincount(one, shared, minlength=len(grains))
    return one, other, shared / total[one]


def weighed(
    evidence: dict[str, Float64],
    features: GrainFeatures,
    around: tuple[NDArray[np.int64], NDArray[np.int64], Float64],
    rules: BainiteCriteria,
) -> dict[str, Float64]:
    """Weigh the criteria against each other and add what the neighbours say; the sum is the logit of each grain.

    A quiet lattice (bending and spread) is what sets polygonal ferrite apart. Shape, size, boundaries and neighbours
    are circumstances, which ferrite within bainite has in common with it: they count as far as the lattice is not
    quiet for sure. A bent lattice does not take their say: ferrite with subgrains, or beside bainite, is bent too.
    Grains too small to judge follow their neighbours alone.
    """
    small = features.points < rules.min_points
    lattice = np.where(small, 0.0, evidence["curvature"] + evidence["spread"])
    # Twice the distance of the probability from one half, by the lattice alone.
    open_share = 1.0 - np.tanh(0.5 * np.maximum(-lattice, 0.0))
    parts = {
        name: np.where(small, 0.0, values if name in ("curvature", "spread") else open_share * values)
        for name, values in evidence.items()
    }
    own: Float64 = np.sum(list(parts.values()), axis=0)
    one, other, share = around
    weight = np.where(small, 4.0, rules.neighbours * open_share)
    said: Float64 = np.zeros(len(own))
    for _ in range(8):
        # The neighbours' say is their own evidence first, and spreads over small grains from round to round.
        belief = np.tanh(0.5 * (own + weight * said))
        said = np.bincount(one, share * belief[other], minlength=len(own)).astype(np.float64)
    parts["neighbours"] = weight * said
    return parts


def probability_of(evidence: dict[str, Float64]) -> Float64:
    total: Float64 = np.sum(list(evidence.values()), axis=0)
    return 1.0 / (1.0 + np.exp(-total))


def labels_of(probability: Float64, sure: float) -> NDArray[np.uint8]:
    labels = np.full(len(probability), UNSURE, np.uint8)
    labels[probability >= sure] = BAINITE
    labels[probability <= 1.0 - sure] = FERRITE
    return labels


def as_a_whole(
    evidence: dict[str, Float64], whole: NDArray[np.int32], points: NDArray[np.int64], sure: float
) -> dict[str, Float64]:
    """Judge the part of a grain that is unsure by itself by the evidence of all its parts; `whole`: the grain of each.

    Bent and quiet lattice in one grain are two things only where each is clearly one of the two: else it is one grain,
    with subgrains.
    """
    weight = np.bincount(whole, points)
    doubtful = (labels_of(probability_of(evidence), sure) == UNSURE) & (np.bincount(whole)[whole] > 1)
    return {
        name: np.where(doubtful, (np.bincount(whole, points * values) / weight)[whole], values)
        for name, values in evidence.items()
    }
