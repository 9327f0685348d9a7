"""What a synthetic complex-phase steel looks like: sizes in micrometres, gray values in 8-bit steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Literal, get_args

from ..errors import InputError

_ABOVE_ZERO = math.ulp(0.0)
_FINEST_UM = 0.005  # per px; stamps of particles of a finer picture would not fit into memory
_SMALLEST_CELL = 20.0  # px between grains; of smaller ones more would meet in a part than `voronoi` can tell apart
_WIDEST_BLUR = 2.0  # px; the blur is cut off at two of these

PresetName = Literal["lom", "sem", "lom_contrast", "sem_contrast"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Etching:
    """Gray values that an etchant and a detector give to the same microstructure.

    Attributes
    ----------
    matrix, lath : float
        Mean gray of ferrite and of the laths of bainite.
    grain_spread, packet_spread, lath_spread : float
        Standard deviation of the gray from grain to grain, packet to packet and lath to lath.
    film, particle, boundary : float
        Gray added on carbide films, on particles, and on the sharpest grain boundaries (negative: darker).
    island, island_rim : float
        Gray added inside and on the rim of martensite-austenite (M-A) islands.
    relief : float
        Gray per unit slope of the etched surface, lit from the upper left (secondary electrons); 0 for light optics.
    mottle, roughness : float
        Standard deviation of the gray over about a micrometre, and of the roughness of single pixels before blur.
    pitting : float
        Standard deviation of the gray of etch pits a tenth of a micrometre wide; 0 where they are not resolved.
    noise, shot : float
        Standard deviation of the detector noise: constant part, and part at gray 128 growing with its square root.
    shading : float
        Depth of the uneven illumination over a stage tile, as a share of the gray value.
    gamma : float
        Exponent of the response curve of the detector, which leaves black and white where they are.

    Raises
    ------
    InputError
        If a value is not finite, a spread or a depth is negative, or the exponent not positive.
    """

    matrix: float
    lath: float
    grain_spread: float
    packet_spread: float
    lath_spread: float
    film: float
    particle: float
    boundary: float
    island: float
    island_rim: float
    relief: float
    mottle: float
    roughness: float
    pitting: float = 0.0
    noise: float
    shot: float
    shading: float
    gamma: float = 1.0

    def __post_init__(self) -> None:
        _check_range(self, [one.name for one in fields(self)], -math.inf)
        spreads = ("grain_spread", "packet_spread", "lath_spread", "mottle", "roughness", "pitting", "noise", "shot")
        _check_range(self, (*spreads, "shading"), 0.0)
        _check_range(self, ("gamma",), _ABOVE_ZERO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A microstructure, a magnification and an etching.

    Attributes
    ----------
    um_per_px : float
        Pixel size (µm).
    region_share : float
        Share of the regions (former austenite grains) that turned mainly into bainite.
    bainite_inside, bainite_outside : float
        Share of the grains that are bainite in such regions, and elsewhere: the former leaves ferrite grains inside
        bainite, the latter makes bainite islands inside ferrite.
    region_um, grain_um, packet_um : float
        Mean spacing (µm) of regions, grains and bainite packets.
    lath_um, lath_sigma : float
        Median and logarithmic standard deviation of the log-normal lath width (µm).
    film_um : float
        Mean thickness of the carbide films between laths (µm).
    granular_share : float
        Share of the other grains that hold granular second phase.
    blur_px : float
        Standard deviation of the point spread (px), at most 2.

    Raises
    ------
    InputError
        If a size is not positive, a share not within 0 … 1, the pixels are finer than 0.005 µm, or regions, grains or
        packets are less than 20 px apart.
    """

    name: str
    um_per_px: float
    region_share: float
    bainite_inside: float
    bainite_outside: float
    region_um: float = 24.0
    grain_um: float = 8.5
    packet_um: float = 5.5
    lath_um: float = 0.60
    lath_sigma: float = 0.30
    film_um: float
    granular_share: float = 0.65
    blur_px: float
    etching: Etching

    def __post_init__(self) -> None:
        _check_range(self, ("um_per_px",), _FINEST_UM)
        shares = ("region_share", "bainite_inside", "bainite_outside", "granular_share")
        _check_range(self, shares, 0.0, 1.0)
        _check_range(self, ("lath_um", "film_um"), _ABOVE_ZERO)
        _check_range(self, ("lath_sigma",), 0.0, 1.0)
        _check_range(self, ("blur_px",), _ABOVE_ZERO, _WIDEST_BLUR)
        _check_range(self, ("region_um", "grain_um", "packet_um"), _SMALLEST_CELL * self.um_per_px)

    @property
    def bainite_fraction(self) -> float:
        """Area fraction of lath bainite, averaged over a large mosaic: what the three shares of bainite make."""
        return self.region_share * self.bainite_inside + (1.0 - self.region_share) * self.bainite_outside


def _check_range(of: Etching | Preset, names: Sequence[str], least: float, most: float = math.inf) -> None:
    for name in names:
        value = getattr(of, name)
        is_number = isinstance(value, Real)
        if not is_number or not (math.isfinite(value) and least <= value <= most):
            wanted = "a finite number"
            if least > -math.inf:
                wanted = "a positive number" if least == _ABOVE_ZERO else f"a number of at least {least:g}"
            wanted += "" if most == math.inf else f" and at most {most:g}"
            raise InputError(f"{name}={value!r} cannot be drawn; give {wanted}")


_LOM = Preset(
    name="lom",
    um_per_px=0.1266,
    region_share=0.296,
    bainite_inside=0.84,
    bainite_outside=0.04,
    film_um=0.155,
    blur_px=0.85,
    etching=Etching(
        matrix=188.0,
        lath=205.0,
        grain_spread=13.0,
        packet_spread=9.0,
        lath_spread=6.0,
        film=-100.0,
        particle=-115.0,
        boundary=-125.0,
        island=-18.0,
        island_rim=-75.0,
        relief=0.0,
        mottle=5.0,
        roughness=9.0,
        noise=3.0,
        shot=3.0,
        shading=0.06,
    ),
)

_SEM = Preset(
    name="sem",
    um_per_px=0.0277,
    region_share=0.672,
    bainite_inside=0.86,
    bainite_outside=0.06,
    film_um=0.085,
    blur_px=0.8,
    etching=Etching(
        matrix=88.0,
        lath=84.0,
        grain_spread=9.0,
        packet_spread=6.0,
        lath_spread=4.0,
        film=68.0,
        particle=78.0,
        boundary=70.0,
        island=26.0,
        island_rim=70.0,
        relief=48.0,
        mottle=3.5,
        roughness=8.0,
        pitting=5.0,
        noise=5.0,
        shot=7.0,
        shading=0.05,
    ),
)

PRESETS: dict[str, Preset] = {
    "lom": _LOM,
    "sem": _SEM,
    # A tint etchant: grains differ strongly from each other, films are fainter, everything darker.
    "lom_contrast": replace(
        _LOM,
        name="lom_contrast",
        etching=replace(
            _LOM.etching,
            matrix=112.0,
            lath=121.0,
            grain_spread=20.0,
            packet_spread=15.0,
            film=-46.0,
            particle=-48.0,
            boundary=-40.0,
            island=45.0,
            island_rim=-25.0,
            shading=0.10,
        ),
    ),
    # Lightly etched, another detector: brighter matrix, weak relief, more noise.
    "sem_contrast": replace(
        _SEM,
        name="sem_contrast",
        etching=replace(
            _SEM.etching,
            matrix=128.0,
            lath=126.0,
            grain_spread=14.0,
            packet_spread=10.0,
            film=42.0,
            particle=46.0,
            boundary=-30.0,
            island=15.0,
            island_rim=30.0,
            relief=10.0,
            noise=8.0,
            shot=11.0,
        ),
    ),
}


def get_preset(preset: str | Preset) -> Preset:
    """Return a preset by name; a `Preset` is returned as it is.

    Raises
    ------
    InputError
        If there is no preset of that name.
    """
    if isinstance(preset, Preset):
        return preset
    if not isinstance(preset, str) or preset not in PRESETS:
        raise InputError(f"no synthetic preset is called {preset!r}; use one of {', '.join(get_args(PresetName))}")
    return PRESETS[preset]
