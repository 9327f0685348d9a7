"""Scores of a mosaic larger than memory: predicted, read and counted block by block."""

from __future__ import annotations

import hashlib
import itertools
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BainiteWarning, InputError, MosaicError, MosaicNotFoundError
from ..geometry import round_up, source_range
from ..io import LabelImage, Mosaic, label_names, open_mosaic, read_labels
from ..models import Contract, LoadedModel, serial_threads
from ..segmentation import ProgressEvent, segment
from ..training.checks import check_one_meaning
from ..training.dataset import IGNORE
from ..training.tiles import plan_grid
from .boundary import tolerant_counts
from .predict import Predictor, classify
from .scores import ImageScores, Scores

_BLOCK = 2048  # px
_OTHER_ORDER = (
    "write them with the model's values, or evaluate the folder that holds the OME-Zarr, which takes "
    "mask_values={value: class, …}"
)
_PREDICTION = 0.95  # of the time for whole images; the rest is comparing

Read = Callable[[int, int, int, int], NDArray[Any]]
Step = Callable[[int, int], None]


def evaluate_mosaic(
    loaded: LoadedModel,
    predictor: Predictor,
    source: Any,
    truth: Any,
    *,
    tile: int | None,
    tolerance: int,
    scale: str | float,
    progress: Step | None,
) -> Scores:
    """Score a model on a mosaic and its true labels; arguments as :func:`bainite_fast.evaluate`.

    The labels of the whole mosaic are written to a temporary folder (``TMPDIR``), and compared there.

    Raises
    ------
    InputError
        If truth and mosaic differ in shape, or the truth holds what is no class, or names its values in another order
        than the model.
    """
    with ExitStack() as stack:
        mosaic = source if isinstance(source, Mosaic) else stack.enter_context(open_mosaic(source))
        read_truth = _truth_reader(truth, mosaic, loaded.contract, stack)
        if tile is None:
            predict: Read = _segmented(mosaic, loaded, scale, predictor, stack, _part(progress, 0, _PREDICTION))
            progress = _part(progress, _PREDICTION, 1)
            block, before = _BLOCK, (0, 0)
        else:
            predict = _tiled(mosaic, predictor, scale, tile)
            block, grid = round_up(_BLOCK, tile), plan_grid(mosaic.shape, tile)
            before = (grid.top, grid.left)
        with serial_threads():
            blocks = _blocks(mosaic.shape, block, before)
            counts, digest = _count(
                blocks, mosaic.shape, predict, read_truth, len(loaded.contract.classes), tolerance, progress
            )
        um_per_px = mosaic.um_per_px if isinstance(scale, str) else float(scale)
        seen = {
            "mosaic": mosaic.fingerprint(),
            "um_per_px": um_per_px,
            "factor": 1.0 if scale == "as-is" else predictor.factor(um_per_px),
            "sha256_of_truth": digest,
        }
    return Scores(
        class_names=loaded.contract.classes,
        counts=counts[0],
        images=(ImageScores(mosaic.name, counts[0]),),
        mode="whole images" if tile is None else f"tiles of {tile} px",
        model=loaded.contract.name,
        tolerance=counts if tolerance else None,
        provenance=predictor.provenance(seen),
    )


def _part(progress: Step | None, start: float, end: float) -> Step | None:
    """Return what moves a bar from one share of its length to another."""
    return progress and (lambda done, total: progress(round(start * total + (end - start) * done), total))


def _count(
    blocks: Iterable[tuple[int, int, int, int]],
    shape: tuple[int, int],
    predict: Read,
    truth: Read,
    classes: int,
    tolerance: int,
    progress: Step | None,
) -> tuple[NDArray[np.int64], str]:
    """Return the counts of all blocks and a sha256 of their truth.

    Around each block, as much truth is read as a boundary may matter from.
    """
    height, width = shape
    total = np.zeros((tolerance + 1, classes, classes), np.int64)
    done, digest = 0, hashlib.sha256()
    for y0, y1, x0, x1 in blocks:
        top, bottom = max(0, y0 - tolerance), min(height, y1 + tolerance)
        left, right = max(0, x0 - tolerance), min(width, x1 + tolerance)
        around = truth(top, bottom, left, right)
        inner = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        total += tolerant_counts(around, predict(y0, y1, x0, x1), classes, tolerance, inner=inner)
        digest.update(around[inner].tobytes())
        done += (y1 - y0) * (x1 - x0)
        if progress is not None:
            progress(done, height * width)
    return total, digest.hexdigest()


def _blocks(shape: tuple[int, int], block: int, before: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield (y0, y1, x0, x1) of blocks that cover a shape, on a grid that begins `before` px outside of it."""
    for y in range(-before[0], shape[0], block):
        for x in range(-before[1], shape[1], block):
            yield max(y, 0), min(y + block, shape[0]), max(x, 0), min(x + block, shape[1])


def _segmented(
    mosaic: Mosaic,
    loaded: LoadedModel,
    scale: str | float,
    predictor: Predictor,
    stack: ExitStack,
    progress: Step | None,
) -> Read:
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bainite-evaluate-"))

    def follow(event: ProgressEvent) -> None:
        if progress is not None:
            progress(event.done, event.total)

    out = Path(folder) / "labels.ome.zarr"
    segment(
        mosaic, loaded, out=out, scale=scale, precision=predictor.precision, device=predictor.device, progress=follow
    )
    return read_labels(out, "phases").read


def _tiled(mosaic: Mosaic, predictor: Predictor, scale: str | float, tile: int) -> Read:
    um_per_px = mosaic.um_per_px if isinstance(scale, str) else float(scale)
    if scale != "as-is" and predictor.factor(um_per_px) != 1.0:
        raise InputError(
            f"{mosaic.name} has {um_per_px} µm/px and the model {predictor.contract.um_per_px}: tiles of a mosaic are "
            "taken at its own scale only; convert it to the model's scale first, or use scale='as-is'"
        )
    wanted = predictor.contract.um_per_px
    if scale == "auto" and mosaic.um_per_px is None and wanted is not None:  # segment() says so of whole images
        warnings.warn(
            f"{mosaic.name} does not say its µm/px, so its tiles are predicted as they are; the model "
            f"{predictor.contract.name!r} expects {wanted:.4g} µm/px (give scale=<µm/px of the mosaic>, or "
            "scale='as-is')",
            BainiteWarning,
            stacklevel=4,
        )

    grid = plan_grid(mosaic.shape, tile)

    def predict(y0: int, y1: int, x0: int, x1: int) -> NDArray[np.uint8]:
        ys = range(_start(y0, grid.top, tile), y1, tile)
        xs = range(_start(x0, grid.left, tile), x1, tile)
        top, bottom = source_range(ys[0], ys[-1] + tile, mosaic.shape[0])
        left, right = source_range(xs[0], xs[-1] + tile, mosaic.shape[1])
        region = mosaic.read(top, bottom, left, right)
        corners = itertools.product(ys, xs)
        labels = np.empty((y1 - y0, x1 - x0), np.uint8)
        for y, x, part in predictor.tiles(region, mosaic.dtype, tile, corners, origin=(top, left), shape=mosaic.shape):
            labels[y - y0 : y - y0 + part.shape[1], x - x0 : x - x0 + part.shape[2]] = classify(part)
        return labels

    return predict


def _start(first: int, before: int, tile: int) -> int:
    """Return where the tile that holds pixel `first` begins, on a grid that begins `before` px outside."""
    return (first + before) // tile * tile - before


def _open_truth(path: Path, mosaic: Mosaic, stack: ExitStack) -> LabelImage | Mosaic:
    group = mosaic.source_group
    if group is not None and not path.exists() and "://" not in str(path):
        names = label_names(group)
        raise MosaicNotFoundError(
            f"{mosaic.name} has no label image {str(path)!r} (it has {', '.join(names) or 'none'}), and no file is "
            "called so; give the name of one of its label images, a label group, or an image of class indices"
        )
    try:
        return read_labels(path)
    except (MosaicError, MosaicNotFoundError):  # no label group: an array or a picture, or nothing, which is told
        return stack.enter_context(open_mosaic(path, indexed=True))


def _truth_reader(truth: Any, mosaic: Mosaic, contract: Contract, stack: ExitStack) -> Read:
    labels: LabelImage | Mosaic
    if isinstance(truth, Mosaic):
        labels = truth
    elif isinstance(truth, np.ndarray):
        labels = stack.enter_context(open_mosaic(truth))
    elif isinstance(truth, (str, os.PathLike)):
        group = mosaic.source_group
        if group is not None and str(truth) in label_names(group):
            labels = read_labels(group, str(truth))
        else:
            labels = _open_truth(Path(truth), mosaic, stack)
    else:
        raise InputError(
            f"the true labels of the mosaic are {type(truth).__name__}; give the name of labels in its OME-Zarr, a "
            "label group, or an image of class indices"
        )
    if isinstance(labels, LabelImage) and "model" in labels.provenance:
        warnings.warn(
            f"the true labels were made by the model {labels.provenance['model']['name']}: unless they were corrected "
            "by hand since, these scores say how far two predictions agree, and not how right they are",
            BainiteWarning,
            stacklevel=4,
        )
    if labels.shape != mosaic.shape:
        raise InputError(
            f"the mosaic is {mosaic.shape[0]} × {mosaic.shape[1]} px and its true labels {labels.shape[0]} × "
            f"{labels.shape[1]}; one grid is needed"
        )

    if isinstance(labels, LabelImage):
        said = {one.value: one.name for one in labels.classes}
        model = (f"the model {contract.name!r}", dict(enumerate(contract.classes)))
        check_one_meaning((model, (f"the true labels {labels.name}", said)), _OTHER_ORDER)
    classes = len(contract.classes)

    def read(y0: int, y1: int, x0: int, x1: int) -> NDArray[np.uint8]:
        block = labels.read(y0, y1, x0, x1)
        strange = (block >= classes) & (block != IGNORE) if block.ndim == 2 else np.ones(1, bool)
        if block.dtype.kind == "f" and block.ndim == 2:
            strange |= block != np.rint(block)  # fractions, and NaN
        if strange.any() or (block.dtype.kind != "u" and block.min() < 0):
            shown = "colours" if block.ndim != 2 else ", ".join(map(str, np.unique(block[strange])[:6]))
            raise InputError(
                f"the true labels hold {shown} in pixels [{y0}:{y1}, {x0}:{x1}]; class indices 0 … {classes - 1}, or "
                f"{IGNORE} where the class is not known, are needed"
            )
        return block.astype(np.uint8)

    named = {one.value for one in labels.classes} if isinstance(labels, LabelImage) else set()
    if classes == 2 and 1 not in named and _black_and_white(read, mosaic.shape):
        return lambda *region: (read(*region) == IGNORE).astype(np.uint8)
    return read


def _black_and_white(read: Read, shape: tuple[int, int]) -> bool:
    """Say whether 0 and 255 are all that a truth holds, which means two classes as in folders of masks."""
    white = False
    for region in _blocks(shape, _BLOCK, (0, 0)):
        values = read(*region)
        if ((values != 0) & (values != IGNORE)).any():
            return False
        white = white or bool((values == IGNORE).any())
    return white
