"""Logits and labels of images in memory: whole and exact, or tile by tile without a halo."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .. import kernels
from .._version import __version__
from ..errors import InputError, ModelError
from ..geometry import nearest_index, round_up, scaled_shape
from ..models import LoadedModel, choose_precision, compile
from ..models.device import cuda_problem, resolve_device
from ..training.tiles import plan_grid

_CORE = 1024  # px, edge of the largest core; larger images are cut, to the same labels
_SAME_SCALE = 0.02  # relative difference of µm/px up to which nothing is resampled, as segment() has it

Image = NDArray[Any]
Labels = NDArray[np.uint8]
See = Callable[[int, int, NDArray[np.float32]], None]


class Predictor:
    """A model, compiled, that gives the labels of images in memory as :func:`bainite_fast.segment` gives them.

    Parameters
    ----------
    loaded : LoadedModel
        The model.
    precision : {"auto", "float32", "bfloat16", "float16"}
        As for :func:`bainite_fast.segment`.
    device : {"auto", "cpu", "cuda"} or "cuda:N"
        Where the network runs; images are cut and labels made on the CPU.
    """

    def __init__(self, loaded: LoadedModel, precision: str = "auto", device: str = "auto") -> None:
        self.contract = loaded.contract
        self.device = resolve_device(device)
        self.precision = choose_precision(loaded, precision, self.device)
        self._runtime = compile(loaded, precision=self.precision, device=self.device)
        self._turn: AbstractContextManager[Any] = nullcontext() if self.device == "cpu" else Lock()

    def provenance(self, seen: dict[str, Any]) -> dict[str, Any]:
        """Return, JSON-able, what makes the scores: model, versions, runtime and what was seen (``input``)."""
        return {
            "bainite_fast": __version__,
            "model": {"name": self.contract.name, "sha256": self.contract.sha256},
            "device": self.device,
            "runtime": self._runtime.fingerprint(),
            "input": seen,
        }

    def factor(self, um_per_px: float | None) -> float:
        """Return by which factor images of a scale are resampled to the model's."""
        wanted = self.contract.um_per_px
        if um_per_px is None or wanted is None or abs(um_per_px / wanted - 1) <= _SAME_SCALE:
            return 1.0
        return um_per_px / wanted

    def cores(self, image: Image, dtype: np.dtype[Any]) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
        """Yield (y, x, logits) of cores that cover an image, which is mirrored beyond its border.

        Parameters
        ----------
        image : ndarray [H, W] or [H, W, 3], uint8, uint16 or float32
            Raw intensities at the model's scale.
        dtype : dtype
            Of the raw intensities before resampling, which keeps their units and makes them float32.

        Yields
        ------
        (int, int, ndarray [K, h, w] float32)
            Row and column of the core, and its logits.
        """
        height, width = image.shape[:2]
        stride, halo = self.contract.stride, self.contract.halo
        core_y, core_x = (min(round_up(edge, stride), round_up(_CORE, stride)) for edge in (height, width))
        batch = self._new_batch(core_y + 2 * halo, core_x + 2 * halo)
        for y in range(0, height, core_y):
            for x in range(0, width, core_x):
                self._gather(image, dtype, batch, (y - halo, x - halo), (0, 0), (height, width))
                logits = self._run(batch)[0]
                rows, columns = min(core_y, height - y), min(core_x, width - x)
                yield y, x, logits[:, halo : halo + rows, halo : halo + columns]

    def labels(self, image: Image, *, factor: float = 1.0, tile: int | None = None, see: See | None = None) -> Labels:
        """Return the labels of an image on its own grid, uint8 [H, W].

        Parameters
        ----------
        image : ndarray [H, W] or [H, W, 3], uint8, uint16 or float32
            Raw intensities.
        factor : float
            From its scale to the model's, of :meth:`factor`.
        tile : int, optional
            Cut the image, mirrored evenly up to whole tiles, into tiles of so many px at the model's scale, and give
            each to the network alone, with the network's own padding and no halo. Otherwise the labels are those of
            one pass over the mirrored image.
        see : callable, optional
            Called with all that :meth:`parts` yields.

        Raises
        ------
        InputError
            If the tile is no multiple of the model's stride.
        """
        labels = np.empty(grid_of(image, factor), np.uint8)
        for y, x, logits in self.parts(image, factor=factor, tile=tile):
            if see is not None:
                see(y, x, logits)
            labels[y : y + logits.shape[1], x : x + logits.shape[2]] = classify(logits)
        return back_to(labels, (image.shape[0], image.shape[1]))

    def parts(
        self, image: Image, *, factor: float = 1.0, tile: int | None = None
    ) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
        """Yield (y, x, logits [K, h, w]) that cover an image at the model's scale once; arguments as :meth:`labels`."""
        grid = grid_of(image, factor)
        seen = image if image.shape[:2] == grid else kernels.resample(image, grid, threads=1)
        if tile is None:
            yield from self.cores(seen, image.dtype)
        else:
            yield from self.tiles(seen, image.dtype, tile, plan_grid(grid, tile).corners(), shape=grid)

    def tiles(
        self,
        region: Image,
        dtype: np.dtype[Any],
        tile: int,
        corners: Iterable[tuple[int, int]],
        *,
        origin: tuple[int, int] = (0, 0),
        shape: tuple[int, int],
    ) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
        """Yield (y, x, logits [K, h, w]) of each tile alone, cut to what lies in the image; see :meth:`labels`.

        Parameters
        ----------
        region : ndarray [h, w] or [h, w, 3]
            The part of the image, from pixel `origin` on, that the tiles are made of.
        dtype : dtype
            As for :meth:`cores`.
        tile : int
            Edge, px.
        corners : iterable of (int, int)
            First pixels of the tiles in the image, which may lie outside.
        origin, shape : (int, int)
            Of the region, and rows and columns of the whole image.
        """
        self.check_tile(tile)
        batch = self._new_batch(tile, tile)
        for y, x in corners:
            self._gather(region, dtype, batch, (y, x), origin, shape)
            top, left = max(y, 0), max(x, 0)
            bottom, right = min(y + tile, shape[0]), min(x + tile, shape[1])
            yield top, left, self._run(batch)[0, :, top - y : bottom - y, left - x : right - x]

    def check_tile(self, tile: int) -> None:
        """Refuse tiles that are no multiple of the model's stride.

        Raises
        ------
        InputError
            With the next size that fits.
        """
        stride = self.contract.stride
        if tile < stride or tile % stride:
            raise InputError(
                f"tiles={tile} does not fit the model's stride of {stride} px; use a multiple of it, such as "
                f"tiles={round_up(max(tile, 1), stride)}"
            )

    def _gather(
        self,
        region: Image,
        dtype: np.dtype[Any],
        batch: torch.Tensor,
        corner: tuple[int, int],
        origin: tuple[int, int],
        shape: tuple[int, int],
    ) -> None:
        gain, offset = self.contract.gain_offset(dtype)
        kernels.gather(
            region,
            batch,
            origin=origin,
            image_shape=shape,
            tiles=[corner],
            gain=gain,
            offset=offset,
            pad="mirror",
            threads=1,
        )

    def _new_batch(self, height: int, width: int) -> torch.Tensor:
        """Return uninitialised input of the network for one tile, on the CPU."""
        shape, form = (1, self.contract.in_channels, height, width), self._runtime.memory_format
        return torch.empty(shape, dtype=self._runtime.torch_dtype, memory_format=form)

    def _run(self, batch: torch.Tensor) -> NDArray[np.float32]:
        with self._turn:  # a network on a GPU is run from one thread at a time
            found = self._runtime.run(batch.to(self.device))
            logits: NDArray[np.float32] = found.float().contiguous().cpu().numpy()
        if not np.isfinite(logits).all():
            raise ModelError(
                f"the network {self.contract.name!r} gave NaN or infinity; its weights are damaged, or the precision "
                "is too low: try precision='float32'"
            )
        return logits


def evaluation_device(trained_on: str) -> str:
    """Return where to score what was trained on a device: there, or on the CPU where only training can use that GPU."""
    return trained_on if trained_on in ("auto", "cpu") or cuda_problem() is None else "cpu"


def classify(logits: NDArray[np.float32]) -> Labels:
    """Return the labels of logits [K, h, w]: the largest, ties to the lower class; K = 1: above 0. uint8 [h, w]."""
    labels = np.empty(logits.shape[1:], np.uint8)
    height, width = logits.shape[1], logits.shape[2]
    kernels.scatter(np.ascontiguousarray(logits[np.newaxis]), labels, crops=[(0, 0, height, width, 0, 0)], threads=1)
    return labels


def grid_of(image: Image, factor: float) -> tuple[int, int]:
    """Return the rows and columns of an image at the model's scale."""
    shape = image.shape[0], image.shape[1]
    return shape if factor == 1.0 else scaled_shape(shape, factor)


def back_to(labels: Labels, shape: tuple[int, int]) -> Labels:
    """Return labels on another grid: each pixel takes the label of the one that holds its centre."""
    if labels.shape == shape:
        return labels
    rows, columns = (
        np.array([nearest_index(i, new, old) for i in range(new)]) for new, old in zip(shape, labels.shape, strict=True)
    )
    return np.ascontiguousarray(labels[rows][:, columns])
