"""EBSD maps of a synthetic mosaic: orientations that fit its image and mask, with the truth behind them."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ..ebsd import EBSDMap, Grid, Phase
from ..ebsd._pairs import nearest_pairs
from ..ebsd._quaternions import from_rotation_vector, multiply
from ..ebsd.variants import ks_variants
from ..errors import InputError
from ._ebsd_sampling import Sampled, sample
from ._hash import UInt64, hash_cells, layer_key, normal, rehash, uniform
from ._render import Renderer
from .picture import check_seed
from .presets import Preset, get_preset

BURGERS_UM = 2.48e-4
"""Burgers vector of ferrite, a√3/2 with a = 0.2866 nm, in µm."""
EMBEDDED_SHARE = 0.5
"""A ferrite grain of whose boundary at least this share meets lath bainite is embedded in it."""
_NOISE, _SPOILT = 81, 82
_PER_M2 = 1e-12  # m⁻² to µm⁻²


@dataclass(frozen=True, slots=True, kw_only=True)
class Crystallography:
    """How orientations are laid out in a synthetic map. The defaults come from literature, not from a classifier.

    Attributes
    ----------
    ks_scatter : float
        Angle (degrees, rms) of a block's orientation from its exact K–S variant. Measured relationships of bainite lie
        between Kurdjumov–Sachs and Nishiyama–Wassermann, 5.26° apart, and scatter by 1–3° (A.-F. Gourgues, H. M.
        Flower, T. C. Lindley, Mater. Sci. Technol. 16 (2000) 26).
    block_laths : float
        Mean number of laths in a block: blocks of one to a few µm of laths of 0.2–0.6 µm (S. Morito et al., Acta Mater.
        51 (2003) 1789).
    lath_spread : float
        Angle (degrees, rms) of a lath's orientation from its block's: lath boundaries are of low angle, 1–3°.
    bainite_gnd, ferrite_gnd : float
        Density of geometrically necessary dislocations (m⁻²), median over packets and over grains. A density ρ bends
        the lattice by ρ·b/2 per length (the relation of KAM to density in M. Calcagnotto et al., Mater. Sci. Eng. A 527
        (2010) 2738). Transformation leaves 10¹⁴–10¹⁵ in bainite and some 10¹³ in ferrite.
    gnd_spread : float
        Standard deviation of the logarithm of the density from grain to grain, packet to packet.
    constrained : float
        Factor on the density of ferrite in regions that turned into bainite: the strain of the transformation puts
        dislocations into the ferrite beside it (same source).
    short_um, long_um : float
        Lengths (µm) over which the lattice bends: cells of dislocations, and the packet or grain as a whole.
    short_share : float
        Share of the squared gradient over the shorter of the two. Dislocations of both signs alternate, so most of the
        bending cancels over a few µm: with the defaults, a packet spreads by some 3° about its variants, as pole
        figures of bainite show.
    ferrite_ks_share : float
        Share of the polygonal ferrite grains that have a K–S variant of their own parent grain: ferrite that nucleates
        on a grain boundary has the relationship to one of its two neighbours as a rule (A. D. King, T. Bell, Metall.
        Trans. A 6 (1975) 1419).
    subgrain_share, subgrain_spread : float
        Share of the polygonal ferrite grains that have subgrains, and the angle (degrees, rms) of each from its grain.
    """

    ks_scatter: float = 1.5
    block_laths: float = 3.0
    lath_spread: float = 1.2
    bainite_gnd: float = 2.5e14
    ferrite_gnd: float = 1.5e13
    gnd_spread: float = 0.5
    constrained: float = 2.0
    short_um: float = 1.0
    long_um: float = 4.0
    short_share: float = 0.9
    ferrite_ks_share: float = 0.5
    subgrain_share: float = 0.15
    subgrain_spread: float = 0.7

    def __post_init__(self) -> None:
        _check_not_negative(self)
        if self.block_laths < 1 or not self.short_um > 0 or not self.long_um > 0:
            raise InputError(
                f"block_laths={self.block_laths} must be at least 1, short_um={self.short_um} and "
                f"long_um={self.long_um} positive"
            )
        for name in ("short_share", "ferrite_ks_share", "subgrain_share"):
            if getattr(self, name) > 1:
                raise InputError(f"{name}={getattr(self, name)} is a share; give a number from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What the microscope does to the orientations.

    Attributes
    ----------
    noise : float
        Angle (degrees, rms) between a measured orientation and the true one; the error is a rotation about a random
        axis, its three components normal with a standard deviation of noise/√3. Indexing by Hough transform reaches
        0.2–1° (S. I. Wright, M. M. Nowell, D. P. Field, Microsc. Microanal. 17 (2011) 316).
    lost, lost_at_obstacles : float
        Share of the points that are not indexed in undisturbed ferrite, and where a carbide film, a particle, an M-A
        island or a grain boundary lies under the beam.
    wrong : float
        Share of the points that are indexed with a wrong orientation, at a low confidence index.
    """

    noise: float = 0.4
    lost: float = 0.01
    lost_at_obstacles: float = 0.25
    wrong: float = 0.003

    def __post_init__(self) -> None:
        _check_not_negative(self)
        if max(self.lost + self.lost_at_obstacles, self.wrong) > 1:
            raise InputError("lost + lost_at_obstacles and wrong are shares of the points; they must not be above 1")


def _check_not_negative(settings: Crystallography | Measurement) -> None:
    for field in fields(settings):
        value = getattr(settings, field.name)
        known = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
        if not known or not (np.isfinite(value) and value >= 0):
            raise InputError(f"{field.name}={value!r} is refused; give a finite number that is not negative")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EBSDTruth:
    """What a synthetic EBSD map really shows, for every point, row by row as in its grid.

    Attributes
    ----------
    lath_bainite : ndarray of bool, (points,)
        As the mask of the picture at the same place.
    embedded_ferrite : ndarray of bool, (points,)
        Polygonal ferrite grains of whose boundary at least half meets lath bainite.
    grain : ndarray of int32, (points,)
        The grain of the mosaic, 0 … n - 1; of a bainite grain, all its packets.
    packet : ndarray of int32, (points,)
        The packet, -1 in ferrite.
    block : ndarray of int32, (points,)
        The block, -1 in ferrite.
    variant : ndarray of int8, (points,)
        The K–S variant, 1 … 24 as in `ks_variants`, that was drawn for the block or for the ferrite grain; 0 where
        there is none.
    parent : ndarray of int32, (points,)
        The prior-austenite grain.
    parent_orientation : ndarray of float64, (points, 4)
        Its orientation, as quaternion.
    orientation : ndarray of float64, (points, 4)
        The true orientation, without noise and wrong points.
    """

    lath_bainite: NDArray[np.bool_]
    embedded_ferrite: NDArray[np.bool_]
    grain: NDArray[np.int32]
    packet: NDArray[np.int32]
    block: NDArray[np.int32]
    variant: NDArray[np.int8]
    parent: NDArray[np.int32]
    parent_orientation: NDArray[np.float64]
    orientation: NDArray[np.float64]


def make_ebsd(
    grid: Grid,
    *,
    preset: str | Preset = "sem",
    seed: int = 0,
    crystallography: Crystallography | None = None,
    measurement: Measurement | None = None,
) -> tuple[EBSDMap, EBSDTruth]:
    """Draw the EBSD map of a synthetic mosaic.

    Grains, packets, laths, carbide films and islands are those of the picture that `make` draws with the same preset
    and seed; the point at (x, y) µm is under pixel (⌊y/s⌋, ⌊x/s⌋), s µm/px. The parts of a bainite grain are packets of
    the picture, each with one {111} plane of its prior-austenite grain; a packet is a stack of blocks, groups of laths
    that share one of the six variants of that plane. Which plane a packet has is drawn, so the direction of the laths
    in the picture does not follow from the orientation.

    Parameters
    ----------
    grid : Grid
        Square or hexagonal, of any step.
    preset : str or Preset
        As for `make`.
    seed : int
        Another seed is another steel.
    crystallography : Crystallography, optional
        How orientations are laid out.
    measurement : Measurement, optional
        Noise, points that are not indexed, wrong points.

    Returns
    -------
    map : EBSDMap
        One phase, "Ferrite", m-3m; confidence index, image quality and band contrast.
    truth : EBSDTruth

    Raises
    ------
    InputError
        If the grid, the preset or the seed is not valid.

    Examples
    --------
    >>> ebsd, truth = make_ebsd(Grid.square(40, 50, dx=0.3), preset="lom", seed=1)
    >>> ebsd.shape, truth.variant.dtype.name
    ((40, 50), 'int8')
    """
    if not isinstance(grid, Grid):
        raise InputError(f"grid={grid!r} is not a Grid; use Grid.square(…) or Grid.hexagonal(…)")
    seed = check_seed(seed)
    model = crystallography if crystallography is not None else Crystallography()
    scan = measurement if measurement is not None else Measurement()
    renderer = Renderer.create(get_preset(preset), seed, seams=False)
    sampled = sample(renderer, grid, block_laths=model.block_laths, lengths_um=(model.short_um, model.long_um))
    variant = _variants(sampled, model)
    orientation = _orientations(sampled, variant, model)
    truth = EBSDTruth(
        lath_bainite=sampled.bainite,
        embedded_ferrite=_embedded(grid, sampled),
        grain=_dense(sampled.grain, np.ones(grid.size, np.bool_)),
        packet=_dense(sampled.packet, sampled.bainite),
        block=_dense(sampled.block, sampled.bainite),
        variant=(variant + 1).astype(np.int8),
        parent=_dense(sampled.parent, np.ones(grid.size, np.bool_)),
        parent_orientation=_random_rotations(sampled.parent, 60),
        orientation=orientation,
    )
    return _measure(grid, sampled, orientation, scan, seed), truth


def _dense(bits: UInt64, wanted: NDArray[np.bool_]) -> NDArray[np.int32]:
    numbers = np.full(bits.shape, -1, np.int32)
    numbers[wanted] = np.unique(bits[wanted], return_inverse=True)[1].ravel()
    return numbers


def _variants(sampled: Sampled, model: Crystallography) -> NDArray[np.int64]:
    """Return the index 0 … 23 of each point's variant, -1 where it has none."""
    plane = np.floor(4.0 * uniform(sampled.packet, 61)).astype(np.int64)
    # Consecutive blocks differ: each packet has its own order of the six variants, the stack a place in it.
    chances = np.stack([uniform(sampled.packet, 62 + k) for k in range(6)], axis=1)
    order = np.argsort(chances, axis=1)
    within = np.take_along_axis(order, (sampled.stack % 6)[:, None], 1)[:, 0]
    chosen = 6 * plane + within
    related = uniform(sampled.grain, 68) < model.ferrite_ks_share
    ferrite = np.where(related, np.floor(24.0 * uniform(sampled.grain, 69)).astype(np.int64), -1)
    return np.where(sampled.bainite, chosen, ferrite)


def _orientations(sampled: Sampled, variant: NDArray[np.int64], model: Crystallography) -> NDArray[np.float64]:
    unit = np.where(sampled.bainite, sampled.block, sampled.grain)
    child = multiply(ks_variants()[np.maximum(variant, 0)], _random_rotations(sampled.parent, 60))
    base = np.where((variant >= 0)[:, None], child, _random_rotations(sampled.grain, 70))
    base = multiply(_small_rotations(unit, 71, model.ks_scatter), base)
    laths = _small_vectors(sampled.lath, 72, model.lath_spread)
    has_subgrains = uniform(sampled.grain, 73) < model.subgrain_share
    subgrains = _small_vectors(sampled.subgrain, 74, model.subgrain_spread) * has_subgrains[:, None]
    local = np.where(sampled.bainite[:, None], laths, subgrains) + _bending(sampled, model)
    turned = multiply(from_rotation_vector(local), base)
    return np.where(turned[:, :1] < 0, -turned, turned)


def _bending(sampled: Sampled, model: Crystallography) -> NDArray[np.float64]:
    """Return the rotation vectors (radians) by which dislocations bend the lattice: float64 (points, 3)."""
    unit = np.where(sampled.bainite, sampled.packet, sampled.grain)
    factor = np.exp(model.gnd_spread * normal(unit, 75))
    ferrite = model.ferrite_gnd * np.where(sampled.in_region, model.constrained, 1.0)
    density = np.where(sampled.bainite, model.bainite_gnd, ferrite) * factor * _PER_M2
    gradient = 0.5 * BURGERS_UM * density  # radians per µm, rms along a line
    # Smooth noise of unit variance changes by 1.18/spacing per length along an axis; three components add up.
    per_unit = 1.18 * np.sqrt(3.0)
    short = np.sqrt(model.short_share) * model.short_um / per_unit
    long = np.sqrt(1.0 - model.short_share) * model.long_um / per_unit
    bent: NDArray[np.float64] = gradient[:, None] * (short * sampled.short + long * sampled.long)
    return bent


def _random_rotations(bits: UInt64, salt: int) -> NDArray[np.float64]:
    # K. Shoemake, Graphics Gems III (1992) 124: uniform over all rotations.
    u, v, w = (uniform(bits, 3000 + 3 * salt + k) for k in range(3))
    a, b = np.sqrt(1.0 - u), np.sqrt(u)
    tau = 2.0 * np.pi
    return np.stack([a * np.sin(tau * v), a * np.cos(tau * v), b * np.sin(tau * w), b * np.cos(tau * w)], axis=1)


def _small_vectors(bits: UInt64, salt: int, rms_degrees: float) -> NDArray[np.float64]:
    components = np.stack([normal(bits, 5000 + 3 * salt + k) for k in range(3)], axis=1)
    scaled: NDArray[np.float64] = components * (np.radians(rms_degrees) / np.sqrt(3.0))
    return scaled


def _small_rotations(bits: UInt64, salt: int, rms_degrees: float) -> NDArray[np.float64]:
    return from_rotation_vector(_small_vectors(bits, salt, rms_degrees))


def _embedded(grid: Grid, sampled: Sampled) -> NDArray[np.bool_]:
    """Find the ferrite grains of whose boundary at least `EMBEDDED_SHARE` meets lath bainite."""
    grain = _dense(sampled.grain, np.ones(grid.size, np.bool_))
    first, second = nearest_pairs(grid)
    one, other = np.concatenate([first, second]), np.concatenate([second, first])
    border = grain[one] != grain[other]
    all_of = np.bincount(grain[one[border]], minlength=int(grain.max()) + 1)
    meeting = np.bincount(grain[one[border]], sampled.bainite[other[border]], minlength=int(grain.max()) + 1)
    embedded = (meeting >= EMBEDDED_SHARE * all_of) & (all_of > 0)
    found: NDArray[np.bool_] = embedded[grain] & ~sampled.bainite
    return found


def _measure(grid: Grid, sampled: Sampled, orientation: NDArray[np.float64], scan: Measurement, seed: int) -> EBSDMap:
    row, column = grid.row_and_column()
    noise = hash_cells(layer_key(seed, _NOISE), row.astype(np.int64), column.astype(np.int64))
    spoilt = hash_cells(layer_key(seed, _SPOILT), row.astype(np.int64), column.astype(np.int64))
    measured = multiply(_small_rotations(noise, 76, scan.noise), orientation)
    indexed = uniform(spoilt, 1) >= scan.lost + scan.lost_at_obstacles * sampled.obstacle
    wrong = uniform(spoilt, 2) < scan.wrong
    measured[wrong] = _random_rotations(rehash(spoilt[wrong], 3), 77)
    quality = 1.0 - 0.12 * sampled.bainite - 0.45 * sampled.obstacle + 0.05 * normal(spoilt, 4)
    ci = np.where(wrong, 0.08 * uniform(spoilt, 5), np.clip(0.85 * quality - 0.1 * uniform(spoilt, 6), 0.1, 1.0))
    return EBSDMap(
        grid=grid,
        phases=(Phase(0, "Ferrite", "m-3m", (2.866, 2.866, 2.866, 90.0, 90.0, 90.0)),),
        quaternions=measured,
        phase_id=np.where(indexed, 0, -1).astype(np.int16),
        ci=np.where(indexed, ci, -1.0).astype(np.float32),
        iq=(2000.0 * np.clip(quality, 0.05, None)).astype(np.float32),
        band_contrast=np.clip(190.0 * quality, 0.0, 255.0).astype(np.float32),
        source=f"synthetic-{seed}",
        metadata={"synthetic": True, "seed": seed},
    )
