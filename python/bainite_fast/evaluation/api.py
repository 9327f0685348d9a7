"""`evaluate`: the scores of a model on annotated images or on an annotated mosaic."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import kernels
from .._disk import write_text
from ..errors import BainiteWarning, InputError, OutputError
from ..io import Mosaic
from ..models import Contract, LoadedModel, load, serial_threads
from ..training.checks import check_one_meaning
from ..training.dataset import IGNORE, Classes, Dataset, as_dataset
from ..training.matching import SUFFIXES, is_zarr, plain_name
from ..training.pictures import CropBar
from ..training.prepare import digest_of
from ..training.rescale import scale_mask
from ..training.values import MaskValues, UnknownValuesError
from ..training.words import counted
from .boundary import tolerant_counts
from .calibration import Calibration
from .calibration import calibrate as calibrate_logits
from .overlay import LEGEND, legend, overlay, write_png
from .predict import Predictor
from .scores import ImageScores, Scores
from .streaming import evaluate_mosaic

Step = Callable[[int, int], None]

_OTHER_CLASSES = (
    "say which class of the model each value means with mask_values={value: class, …} (255 as class: not scored), or "
    "score a model that was trained on these classes"
)
_MOST_LOGITS = 4_000_000  # pixels that a calibration looks at


def evaluate(
    model: Any,
    images: str | os.PathLike[str] | Sequence[Any] | Dataset | Mosaic,
    masks: Any = None,
    *,
    classes: Classes = None,
    names: str | Path | Sequence[str] | None = None,
    tiles: int | None = None,
    tolerance: int = 0,
    calibrate: bool = False,
    overlays: str | os.PathLike[str] | None = None,
    scale: str | float = "auto",
    precision: str = "auto",
    device: str = "auto",
    normalize: tuple[Any, Any] | None = None,
    mask_values: MaskValues | None = None,
    crop_bar: CropBar = "off",
    progress: Step | None = None,
) -> Scores:
    """Score a model on annotated images.

    Parameters
    ----------
    model : str, path, torch.nn.Module or LoadedModel
        As for :func:`bainite_fast.segment`.
    images, masks : path, sequence of arrays, Dataset, or a mosaic with its labels
        Two folders (of pictures or OME-Zarrs), two sequences of arrays, or one
        :class:`~bainite_fast.training.dataset.Dataset` in place of both. Or a mosaic of any size (an
        OME-Zarr or image file, or what :func:`bainite_fast.io.open_mosaic` gives) and its true labels: the name of
        labels in that OME-Zarr, a label group, or an image file of class indices (255: unknown; 0 and 255 alone are two
        classes, unless the labels name their value 1). A mosaic is read block by block and never held whole.
    classes : int or sequence of str, optional
        Of the masks of folders and arrays; those of the model by default. A name of the model's stands at its value.
    names : path or sequence of str, optional
        Which images of the folders: names, or a text file of them.
    tiles : int, optional
        Predict *on tiles*: cut the images into tiles of so many px at the model's scale and give each to the network
        alone, with the network's own padding and no halo. By default images are predicted whole, by exact tiled
        inference.
    tolerance : int
        Also score without the pixels within 1 … `tolerance` px of a true boundary, where annotators disagree.
    calibrate : bool
        Also measure how far the confidence can be trusted, and fit the temperature that mends it
        (:func:`bainite_fast.evaluation.calibrated_copy` stores it). Do this on validation images, not on the test set.
    overlays : path, optional
        Folder for a picture of each image with over-prediction red, under-prediction blue, and one foreground class
        taken for another orange; ``legend.txt`` in it says so.
    scale : {"auto", "as-is"} or float
        ``"auto"`` resamples images whose µm/px differs from the model's by more than 2 %; predictions come back on the
        images' grid. A number is the images' µm/px.
    precision : {"auto", "float32", "bfloat16", "float16"}
        As for :func:`bainite_fast.segment`.
    device : {"auto", "cpu", "cuda"} or "cuda:N"
        Where the network runs, as for :func:`bainite_fast.segment`.
    normalize : (mean, std), optional
        For bare modules.
    mask_values, crop_bar
        As in :func:`bainite_fast.training.dataset.read_dataset`; the bar is cut off folders of images only.
    progress : callable, optional
        Called with the images, or pixels of a mosaic, done and in all.

    Returns
    -------
    Scores
        Prints as a table. All counts are exact integers of the confusion kernel; pixels of unknown truth (255) are
        left out. ``provenance`` says which model, versions, device, precision, images and masks made them.

    Raises
    ------
    BainiteError
        A subclass says what is wrong with model, images or masks.
    """
    loaded = load(model, normalize=normalize)
    check_tolerance(tolerance)
    _check_scale(scale)
    predictor = Predictor(loaded, precision, device)
    if tiles is not None:
        predictor.check_tile(tiles)
    if is_mosaic(images):
        _refuse_for_mosaics(
            calibrate=calibrate, overlays=overlays, names=names, mask_values=mask_values, classes=classes,
            crop_bar=None if crop_bar == "off" else crop_bar,
        )  # fmt: skip
        if isinstance(images, (str, os.PathLike)):
            _warn_of_seen(loaded, [plain_name(os.fspath(images))], "score it on others")
        return evaluate_mosaic(
            loaded, predictor, images, masks, tile=tiles, tolerance=tolerance, scale=scale, progress=progress
        )
    data = _dataset(loaded, images, masks, classes, names, mask_values, crop_bar)
    _warn_of_scale(loaded.contract, data, scale)
    if isinstance(images, (str, os.PathLike)):
        _warn_of_seen(loaded, data.names, "leave them out (names=)")
    job = Job(data, predictor, _factor(predictor, data, scale), tiles, tolerance, _stride(data) if calibrate else 0)
    folder = None if overlays is None else _folder(Path(overlays), data.class_names)
    found = _run(job, folder, progress)
    total = np.stack([one.counts for one in found]).sum(axis=0, dtype=np.int64)
    seen = {"images": len(data), "sha256": digest_of(data), "um_per_px": data.um_per_px, "factor": job.factor}
    return Scores(
        class_names=data.class_names,
        counts=total[0],
        images=tuple(ImageScores(n, one.counts[0]) for n, one in zip(data.names, found, strict=True)),
        mode="whole images" if tiles is None else f"tiles of {tiles} px",
        model=loaded.contract.name,
        tolerance=total if tolerance else None,
        calibration=_calibration(found, loaded.contract.temperature) if calibrate else None,
        provenance=predictor.provenance(seen),
    )


def check_tolerance(tolerance: int) -> None:
    """Refuse a tolerance that is no whole number of px, 0 or more.

    Raises
    ------
    InputError
        With what came.
    """
    if not isinstance(tolerance, int) or tolerance < 0:
        raise InputError(f"tolerance={tolerance!r} is refused; whole px are needed, 0 or more")


def is_mosaic(images: Any) -> bool:
    """Say whether :func:`evaluate` takes its images for one mosaic, and not for a folder or a sequence of images."""
    if isinstance(images, Mosaic):
        return True
    if not isinstance(images, (str, os.PathLike)):
        return False
    path = Path(images)
    if path.is_dir():
        return is_zarr(path)
    return path.suffix.lower() in (*SUFFIXES, ".zip") or "://" in str(images)


def _refuse_for_mosaics(**given: Any) -> None:
    for name, value in given.items():
        if value:
            raise InputError(f"{name} is for folders of images and not for a mosaic; cut pictures out of it for that")


def _dataset(
    loaded: LoadedModel, images: Any, masks: Any, classes: Classes, names: Any, mask_values: Any, crop_bar: CropBar
) -> Dataset:
    contract = loaded.contract
    if crop_bar != "off" and not isinstance(images, (str, os.PathLike)):
        raise InputError(f"crop_bar={crop_bar} is for folders of images; cut the bar off arrays and data sets yourself")
    if hasattr(images, "subset"):
        data = as_dataset(images, masks, names=names, mask_values=mask_values)
    else:
        try:
            data = as_dataset(
                os.fspath(images) if isinstance(images, os.PathLike) else images,
                os.fspath(masks) if isinstance(masks, os.PathLike) else masks,
                classes=contract.classes if classes is None else classes,
                names=names,
                mask_values=mask_values,
                gray=contract.in_channels == 1,
                crop_bar=None if crop_bar == "off" else crop_bar,
            )
        except UnknownValuesError as error:
            if classes is not None:
                raise
            raise InputError(f"{_knows(contract)}, and the masks hold {error.held}; {_OTHER_CLASSES}") from error
    if data.n_classes != len(contract.classes):
        raise InputError(
            f"{_knows(contract)}, and the masks have {data.n_classes} ({', '.join(data.class_names)}); {_OTHER_CLASSES}"
        )
    said = {f"the model {contract.name!r}": contract.classes, "the masks": data.class_names}
    check_one_meaning(((who, dict(enumerate(names))) for who, names in said.items()), _OTHER_CLASSES)
    if data.channels == 3 and contract.in_channels == 1:
        raise InputError(f"the images are RGB and the model {contract.name!r} takes gray; read them with gray=True")
    return data


def _knows(contract: Contract) -> str:
    classes = ", ".join(f"{value} {name}" for value, name in enumerate(contract.classes))
    return f"the model {contract.name!r} knows {counted(len(contract.classes), 'class', 'classes')} ({classes})"


def _factor(predictor: Predictor, data: Dataset, scale: str | float) -> float:
    if isinstance(scale, str):
        return 1.0 if scale == "as-is" else predictor.factor(data.um_per_px)
    return predictor.factor(float(scale))


def _warn_of_scale(contract: Contract, data: Dataset, scale: str | float) -> None:
    if scale == "auto" and data.um_per_px is None and contract.um_per_px is not None:
        warnings.warn(
            f"the images do not say their µm/px, so they are predicted as they are; the model {contract.name!r} "
            f"expects {contract.um_per_px:.4g} µm/px (give scale=<µm/px of the images>, or scale='as-is')",
            BainiteWarning,
            stacklevel=3,
        )


def _warn_of_seen(loaded: LoadedModel, names: Sequence[str], remedy: str) -> None:
    """Say so when a model is scored on images that it was trained on, as far as its package names them."""
    about = {} if loaded.config is None else loaded.config.training.get("data")
    named = about.get("training images") if isinstance(about, dict) else None
    seen = sorted(set(names) & set(named)) if isinstance(named, list) else []
    if seen:
        more = f" and {len(seen) - 5} more" if len(seen) > 5 else ""
        warnings.warn(
            f"{len(seen)} of {counted(len(names), 'image')} bear the names of images that the model "
            f"{loaded.contract.name!r} was trained on ({', '.join(seen[:5])}{more}): such scores do not say how good "
            f"it is on others; {remedy}",
            BainiteWarning,
            stacklevel=3,
        )


def _check_scale(scale: str | float) -> None:
    if isinstance(scale, str):
        if scale not in ("auto", "as-is"):
            raise InputError(f"scale={scale!r} is not understood; use 'auto', 'as-is' or the images' µm/px")
    elif not (np.isfinite(scale) and scale > 0):
        raise InputError(f"scale={scale} is refused; a positive number of µm/px is needed")


def _stride(data: Dataset) -> int:
    """Return which pixel of the flat images a calibration looks at: every n-th; return n."""
    total = sum(data.mask(i).size for i in range(len(data)))
    return max(1, -(-total // _MOST_LOGITS))


def _folder(path: Path, class_names: Sequence[str]) -> Path:
    """Make the folder of the overlays, with its legend."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_text(path / LEGEND, legend(class_names))
    except OSError as error:
        raise OutputError(f"the folder {path} cannot be made ({error})") from error
    return path


@dataclass(frozen=True, slots=True)
class Job:
    """What is done with every image."""

    data: Dataset
    predictor: Predictor
    factor: float
    tile: int | None
    tolerance: int
    every: int  # pixel for the calibration; 0: none


@dataclass(frozen=True, slots=True)
class Found:
    """Counts (tolerance + 1, k, k) of one image, and a sample of logits [K, n] and truth [n] for the calibration."""

    counts: NDArray[np.int64]
    logits: NDArray[np.float32] | None = None
    truth: NDArray[np.uint8] | None = None


def _run(job: Job, folder: Path | None, progress: Step | None) -> list[Found]:
    found: list[Found] = []
    pictures = file_names(job.data.names)

    def one(i: int) -> Found:
        image, truth = job.data.image(i), job.data.mask(i)
        sample = Sample(scale_mask(truth, job.factor), job.every) if job.every else None
        labels = job.predictor.labels(image, factor=job.factor, tile=job.tile, see=sample)
        if folder is not None:
            write_png(folder / f"{pictures[i]}.png", overlay(image, truth, labels))
        counts = tolerant_counts(truth, labels, job.data.n_classes, job.tolerance)
        return Found(counts, *(() if sample is None else sample.taken()))

    with serial_threads(), ThreadPoolExecutor(kernels.get_num_threads(), thread_name_prefix="evaluate") as pool:
        for result in pool.map(one, range(len(job.data))):
            found.append(result)
            if progress is not None:
                progress(len(found), len(job.data))
    return found


def file_names(names: Sequence[str]) -> list[str]:
    """Return a name for a file for each of some names, all different; other characters become an underscore."""
    chosen: dict[str, None] = {}
    for name in names:
        plain = "".join(c if c.isalnum() or c in "-_.@," else "_" for c in name)
        number, other = 2, plain
        while other in chosen:
            number, other = number + 1, f"{plain}_{number}"
        chosen[other] = None
    return list(chosen)


class Sample:
    """Takes logits and truth of every n-th pixel of an image, n that of :func:`_stride`, at the model's scale."""

    def __init__(self, truth: NDArray[np.uint8], every: int) -> None:
        self._truth, self._every = truth, every
        self._logits: list[NDArray[np.float32]] = []
        self._classes: list[NDArray[np.uint8]] = []

    def __call__(self, y: int, x: int, logits: NDArray[np.float32]) -> None:
        """See a part of the image."""
        labels = self._truth[y : y + logits.shape[1], x : x + logits.shape[2]]
        self._logits.append(logits.reshape(len(logits), -1)[:, :: self._every].copy())
        self._classes.append(labels.reshape(-1)[:: self._every])

    def taken(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return logits [K, n] and truth [n]."""
        return np.concatenate(self._logits, axis=1), np.concatenate(self._classes)


def _calibration(found: list[Found], present: float) -> Calibration:
    logits = np.concatenate([one.logits for one in found if one.logits is not None], axis=1)
    truth = np.concatenate([one.truth for one in found if one.truth is not None])
    keep = truth != IGNORE
    return calibrate_logits(logits[:, keep], truth[keep], present)
