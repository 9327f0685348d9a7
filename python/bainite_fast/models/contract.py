"""What a model promises: classes, scale, normalisation, stride and halo. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError

if TYPE_CHECKING:
    from torch import nn

    from .catalog import PackageConfig

Color = tuple[int, int, int]

# Okabe & Ito (2008): distinguishable with any colour vision. Class 0 is the matrix and stays black.
PALETTE: tuple[Color, ...] = (
    (0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115),
    (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip

_FULL_SCALE = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0, np.dtype(np.float32): 1.0}


@dataclass(frozen=True, slots=True)
class Contract:
    """What a model needs and gives.

    Attributes
    ----------
    name : str
        Name of the model.
    sha256 : str
        Digest of everything that decides its output.
    in_channels : int
        Channels of the normalised image.
    out_channels : int
        Channels of the logits: the number of classes, or 1 for two classes by the sign of the logit.
    classes : tuple of str
        Name of each label value, from 0.
    colors : tuple of (int, int, int)
        Colour of each label value, 0…255.
    um_per_px : float or None
        Scale the model was trained at, µm per pixel.
    mean, std : tuple of float
        Per channel, after intensities are brought to 0…1 (see :meth:`gain_offset`).
    stride : int
        Cores must begin on multiples of it, and tiles be multiples of it in size, px.
    halo : int
        Context that a core needs on every side, a multiple of `stride`, px.
    radius : int
        Largest distance between an input pixel and an output pixel that depends on it, px.
    synthetic_only : bool
        The model has seen no real steel.
    temperature : float
        The confidence is softmax(logits / temperature) of the winning class; no label depends on it.
    """

    name: str
    sha256: str
    in_channels: int
    out_channels: int
    classes: tuple[str, ...]
    colors: tuple[Color, ...]
    um_per_px: float | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    stride: int
    halo: int
    radius: int
    synthetic_only: bool
    temperature: float = 1.0

    def gain_offset(self, dtype: np.dtype[Any] | type) -> tuple[np.ndarray, np.ndarray]:
        """Return float32 `gain` and `offset` [in_channels], so that network input = float32(raw) · gain + offset.

        uint8 is divided by 255, uint16 by 65535, float32 taken as it is; then (x − mean) / std.

        Parameters
        ----------
        dtype : dtype
            Of the raw intensities: uint8, uint16 or float32.

        Raises
        ------
        ModelError
            If the dtype is another one.
        """
        full = _FULL_SCALE.get(np.dtype(dtype))
        if full is None:
            raise ModelError(f"a model takes uint8, uint16 or float32 intensities, and got {np.dtype(dtype)}; convert")
        mean, std = np.array(self.mean, np.float64), np.array(self.std, np.float64)
        return (1.0 / (full * std)).astype(np.float32), (-mean / std).astype(np.float32)

    def normalize(self, image: np.ndarray) -> np.ndarray:
        """Return one raw image as a network input.

        Parameters
        ----------
        image : ndarray [H, W] or [H, W, in_channels], uint8, uint16 or float32
            Raw intensities.

        Returns
        -------
        ndarray [1, in_channels, H, W], float32

        Raises
        ------
        ModelError
            If the channels are not the model's or the dtype is another one.
        """
        cube = image[..., np.newaxis] if image.ndim == 2 else image
        if cube.ndim != 3 or cube.shape[2] != self.in_channels:
            raise ModelError(
                f"the model {self.name!r} takes {self.in_channels} channel(s), and got an image of shape "
                f"{image.shape}; give [H, W{'' if self.in_channels == 1 else f', {self.in_channels}'}]"
            )
        gain, offset = self.gain_offset(image.dtype)
        scaled = cube.astype(np.float32) * gain + offset
        return np.ascontiguousarray(scaled.transpose(2, 0, 1)[np.newaxis])


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class LoadedModel:
    """A model in memory.

    Attributes
    ----------
    module : torch.nn.Module
        On the CPU, in evaluation mode, float32; maps [N, C, H, W] to logits [N, K, H, W].
    contract : Contract
        What it needs and gives.
    test_input : ndarray [h, w] or [h, w, C], or None
        Raw intensities that it was tested on.
    test_output : ndarray [K, h, w] float32, or None
        Logits of one pass over the bare `test_input`.
    source : str
        Where it came from.
    config : PackageConfig or None
        All that its package says; None for bare networks.
    """

    module: nn.Module
    contract: Contract
    test_input: np.ndarray | None
    test_output: np.ndarray | None
    source: str
    config: PackageConfig | None = None


def per_channel(value: float | tuple[float, ...] | list[float], channels: int, what: str) -> tuple[float, ...]:
    """Return one finite float per channel from one number or one per channel.

    Raises
    ------
    ModelError
        If the count is wrong, a value is not finite, or a standard deviation is not positive.
    """
    numbers = np.atleast_1d(np.asarray(value, dtype=np.float64))
    if numbers.ndim != 1 or numbers.size not in (1, channels):
        raise ModelError(f"{what} has {numbers.size} value(s) for {channels} channel(s); give one, or one per channel")
    if not np.isfinite(numbers).all() or (what == "std" and (numbers <= 0).any()):
        raise ModelError(f"{what} is {numbers.tolist()}; it must be finite{' and positive' if what == 'std' else ''}")
    return tuple(float(x) for x in np.broadcast_to(numbers, channels))


def default_classes(out_channels: int) -> tuple[str, ...]:
    """Return names for the label values of a model that declares none."""
    return ("background", "foreground") if out_channels == 1 else tuple(f"class {i}" for i in range(out_channels))


def default_colors(classes: int) -> tuple[Color, ...]:
    """Return a colour for each label value: black, then a palette safe for colour-blind readers, repeated."""
    rest = PALETTE[1:]
    return (PALETTE[0], *(rest[i % len(rest)] for i in range(classes - 1)))
