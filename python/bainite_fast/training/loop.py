"""The loop: batches in, weights out, a checkpoint at the end of every epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import metrics
from ..errors import TrainingError
from ..models import Reach
from . import checkpoint
from .augment import Augmentation
from .batches import Batch, Batches, Intensities, without_margin
from .dataset import Dataset
from .hardware import Hardware, check_precision, choose_hardware, determinism, seconds_of, without_trace
from .losses import LossFunction
from .nonfinite import write_batch
from .optimise import MovingAverage, learning_rate, make_optimiser
from .plan import TrainingPlan
from .predict import count_confusion
from .recipe import Recipe
from .start import Start

_CHECKPOINT_SECONDS = 300.0  # epochs may be long; a run that is killed loses no more than this


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is.

    Attributes
    ----------
    epoch, epochs : int
        Epochs begun, and of the whole run.
    step, steps : int
        Steps done, and of the whole run.
    loss : float
        Mean of the epoch so far.
    scores : mapping or None
        At the end of an epoch: its row of ``metrics.csv``.
    plan : TrainingPlan or None
        Before the first step, when nothing has been done yet: what will be trained.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    scores: Mapping[str, float] | None = None
    plan: TrainingPlan | None = None


Callback = Callable[[Progress], None]


@dataclass(slots=True)
class Place:
    """What a checkpoint holds beside tensors."""

    step: int = 0
    loss_sum: float = 0.0
    images_seen: int = 0
    best: float = -math.inf
    best_epoch: int = 0
    stopped: bool = False
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {**values, "best": None if math.isinf(self.best) else self.best}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Place:
        """Return what :meth:`to_dict` gave."""
        known = {name: values[name] for name in cls.__slots__}  # earlier versions kept more
        return cls(**{**known, "best": -math.inf if known["best"] is None else known["best"]})


@dataclass(frozen=True, slots=True)
class Job:
    """What a run works with, prepared and checked.

    Attributes
    ----------
    recipe : Recipe
        In full.
    start : Start
        First weights and normalisation.
    train, validate : Dataset
        Tiles or images to learn from; whole images to validate on, or None.
    loss : LossFunction
        Of logits and labels.
    intensities : Intensities
        Of the training images.
    reach : Reach
        Stride and halo of the network.
    device : torch.device
        Where.
    folder : Path
        Of the checkpoints.
    """

    recipe: Recipe
    start: Start
    train: Dataset
    validate: Dataset | None
    loss: LossFunction
    intensities: Intensities
    reach: Reach
    device: torch.device
    folder: Path


class Trainer:
    """Trains the network of a job.

    Parameters
    ----------
    job : Job
        Everything prepared.

    Raises
    ------
    DeviceError
        If the device cannot train in the recipe's precision.
    InputError
        If images that are not cropped differ in size.
    """

    def __init__(self, job: Job) -> None:
        self.job, recipe = job, job.recipe
        self.progress: Callback = _ignore
        check_precision(job.device, recipe.precision)
        self.network: nn.Module = job.start.network.to(job.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = make_optimiser(recipe.optimiser, self.network.parameters())
        self.average = None if recipe.ema is None else MovingAverage(self.network, recipe.ema)
        self.batches = Batches(job.train, recipe, job.reach.stride)
        self.augmentation = Augmentation(recipe.augmentation, seed=recipe.seed, window=job.intensities.window)
        self.mean, self.std = (
            torch.tensor(x, device=job.device).view(1, -1, 1, 1) for x in (job.start.mean, job.start.std)
        )
        self.place = Place()
        self.steps = recipe.epochs * self.batches.steps
        self.hardware = Hardware(job.device, "float32")
        self.scaler = torch.amp.GradScaler(job.device.type, enabled=False)
        self._saved = self._began = time.monotonic()
        self._saved_step = -1

    def begin(self, plan: TrainingPlan) -> Progress:
        """Return where the run stands before its first step, of this time."""
        last = self.job.folder / checkpoint.LAST
        step = int(checkpoint.read_place(last)["place"]["step"]) if last.exists() else 0
        epoch = min(step // self.batches.steps + 1, self.job.recipe.epochs)
        return Progress(epoch, self.job.recipe.epochs, step, self.steps, math.nan, plan=plan)

    def run(self, progress: Callback) -> Place:
        """Train to the end, from the last checkpoint where there is one.

        Parameters
        ----------
        progress : callable
            Called with a :class:`Progress` after every step and every epoch. What it raises ends the run; the
            checkpoint stays. A ``KeyboardInterrupt`` loses nothing: the steps done are saved first.
        """
        self.progress, self._began = progress, time.monotonic()
        last = self.job.folder / checkpoint.LAST
        if last.exists():
            self._restore(last)
        else:
            self._use(choose_hardware(self.job.device, self.job.recipe.precision, self._trial))
            self._save()
        with determinism(self.job.recipe.deterministic):
            if self.place.images_seen and self.place.step % self.batches.steps == 0:
                self._end_epoch()  # it was broken off between an epoch's last step and its end
            while self.place.step < self.steps and not self.place.stopped:
                self._step()
                if self.place.step % self.batches.steps == 0:
                    self._end_epoch()
                elif time.monotonic() - self._saved > _CHECKPOINT_SECONDS:
                    self._save()
        return self.place

    def measure(self) -> tuple[str, float, float | None]:
        """Return the precision that a run would take, and the seconds of a step and of a validation.

        A few steps are done for it, and nothing is written: the trainer is of no use for a run afterwards.
        """
        self._use(choose_hardware(self.job.device, self.job.recipe.precision, self._trial))

        def step() -> None:
            batch = self.batches.batch(0, self.place.step % self.batches.steps)
            self.network.train()
            loss = self._backward(batch, self.hardware)
            self.scaler.step(self.optimiser)
            self.scaler.update()
            self.optimiser.zero_grad(set_to_none=True)
            self.place.step += 1
            float(loss.detach())  # so that a GPU has finished

        seconds = seconds_of(step)
        whole = self.job.validate
        if whole is None:
            return self.hardware.precision, seconds, None
        first = whole.subset((0,))
        start = time.perf_counter()
        self._validate(first)
        share = first.mask(0).size / sum(whole.mask(i).size for i in range(len(whole)))
        return self.hardware.precision, seconds, (time.perf_counter() - start) / share

    def result(self) -> nn.Module:
        """Return the network with the weights that the recipe keeps, in evaluation mode."""
        if self.job.recipe.validation.keep == "best" and self.place.best_epoch:
            tensors, _ = checkpoint.read(self.job.folder / checkpoint.BEST)
            self.network.load_state_dict(checkpoint.part(tensors, "network"))
        elif self.average is not None:
            self.network.load_state_dict(self.average.state)
        self.network.eval()
        return self.network

    def _step(self) -> None:
        recipe, place = self.job.recipe, self.place
        epoch, index = divmod(place.step, self.batches.steps)
        batch = self.batches.batch(epoch, index)
        rate = learning_rate(recipe.optimiser, recipe.schedule, place.step, self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.network.train()
        loss = self._backward(batch, self.hardware)
        self.scaler.unscale_(self.optimiser)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), recipe.optimiser.clip_gradient or math.inf)
        value = float(loss.detach())
        # A scaler skips steps of its own whose gradients overflow.
        if not math.isfinite(value) or not (self.scaler.is_enabled() or math.isfinite(float(norm))):
            self._fail(batch, epoch, index, value)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.network, place.step)
        place.step += 1
        place.loss_sum += value * len(batch.names)
        place.images_seen += len(batch.names)
        self._tell(Progress(epoch + 1, recipe.epochs, place.step, self.steps, place.loss_sum / place.images_seen))

    def _tell(self, now: Progress) -> None:
        try:
            self.progress(now)
        except KeyboardInterrupt:
            if self.place.step != self._saved_step:
                self._save()
            raise

    def _backward(self, batch: Batch, hardware: Hardware) -> torch.Tensor:
        """Leave the gradients of a batch in the network and return its loss."""
        images, masks = hardware.place(batch.images), batch.masks.to(hardware.device)
        images, masks = self.augmentation(images, masks, self.place.step)
        images = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        with hardware.autocast():
            logits = self.network(images)
        loss = self.job.loss(logits.float(), without_margin(masks, self.job.recipe.data.margin))
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss

    def _trial(self, hardware: Hardware) -> None:
        batch = self.batches.batch(0, 0)
        without_trace(self.network, lambda network: _ignore(self._backward(batch, hardware)))

    def _use(self, hardware: Hardware) -> None:
        self.hardware = hardware
        self.scaler = torch.amp.GradScaler(hardware.device.type, enabled=hardware.precision == "float16")

    def _end_epoch(self) -> None:
        recipe, place = self.job.recipe, self.place
        epoch = place.step // self.batches.steps
        row: dict[str, float] = {
            "epoch": epoch,
            "learning_rate": learning_rate(recipe.optimiser, recipe.schedule, place.step - 1, self.steps),
            "loss": place.loss_sum / place.images_seen,
        }
        if self.job.validate is not None and (epoch % recipe.validation.every == 0 or epoch == recipe.epochs):
            row |= self._validate(self.job.validate)
            self._compare(epoch, row["mean_iou"])
        self._clock()
        row["seconds"] = place.seconds
        place.history.append(row)
        place.loss_sum, place.images_seen = 0.0, 0
        self._save()
        self._tell(Progress(epoch, recipe.epochs, place.step, self.steps, row["loss"], row))

    def _clock(self) -> None:
        now = time.monotonic()
        self.place.seconds += now - self._began
        self._began = now

    def _validate(self, data: Dataset) -> dict[str, float]:
        trained = {name: value.clone() for name, value in self.network.state_dict().items()}
        if self.average is not None:
            self.network.load_state_dict(self.average.state)
        try:
            start, job = self.job.start, self.job
            counts = count_confusion(
                self.network, data, mean=start.mean, std=start.std, reach=job.reach, hardware=self.hardware
            )
        finally:
            if self.average is not None:
                self.network.load_state_dict(trained)
        return scores_of(counts)

    def _compare(self, epoch: int, score: float) -> None:
        """Keep the weights if they are the best so far; stop if the recipe says so."""
        place, stop = self.place, self.job.recipe.validation.early_stop
        if score > place.best:
            place.best, place.best_epoch = score, epoch
            state = self.network.state_dict() if self.average is None else self.average.state
            tensors = {f"network/{name}": value for name, value in state.items()}
            checkpoint.save(self.job.folder / checkpoint.BEST, tensors, {"epoch": epoch, "mean_iou": score})
        scores = [row["mean_iou"] for row in place.history if "mean_iou" in row]
        if stop is not None and validations_without_rise([*scores, score], stop.minimum_gain) >= stop.patience:
            place.stopped = True

    def _save(self) -> None:
        self._clock()
        tensors = checkpoint.pack(self.network, self.optimiser, None if self.average is None else self.average.state)
        place = {
            "place": self.place.to_dict(),
            "precision": self.hardware.precision,
            "scaler": self.scaler.state_dict(),
        }
        checkpoint.save(self.job.folder / checkpoint.LAST, tensors, place)
        self._saved, self._saved_step = time.monotonic(), self.place.step

    def _restore(self, path: Path) -> None:
        tensors, values = checkpoint.read(path)
        average = None if self.average is None else self.average.state
        checkpoint.unpack(tensors, self.network, self.optimiser, average)
        self.place = Place.from_dict(values["place"])
        self._saved_step = self.place.step
        self._use(Hardware(self.job.device, values["precision"]))
        if values["scaler"]:
            self.scaler.load_state_dict(values["scaler"])

    def _fail(self, batch: Batch, epoch: int, index: int, value: float) -> None:
        folder = self.job.folder.parent / "nan_batch"
        write_batch(folder, batch, epoch=epoch + 1, step=index + 1, loss=value)
        kept = self.place.step // self.batches.steps
        raise TrainingError(
            f"{'the loss' if not math.isfinite(value) else 'the gradient'} of step {index + 1} in epoch {epoch + 1} is "
            f"NaN or infinite; its images are {', '.join(dict.fromkeys(batch.names))}, and the batch lies in {folder}. "
            f"The weights of {'the start' if not kept else f'epoch {kept}'} are kept in {self.job.folder}. Look at the "
            "batch for broken pixels; if it has none, lower optimiser.learning_rate, set optimiser.clip_gradient, or "
            "train in float32",
            place=str(folder),
        )


def validations_without_rise(scores: Sequence[float], minimum_gain: float) -> int:
    """Return how many scores at the end are no rise by more than the gain over the last that was one."""
    level, since = -math.inf, 0
    for score in scores:
        level, since = (score, 0) if score > level + minimum_gain else (level, since + 1)
    return since


def scores_of(counts: np.ndarray) -> dict[str, float]:
    """Return mean IoU, accuracy and the IoU of every class of a confusion matrix [K, K], row = truth."""
    per_class = {f"iou_{i}": float(x) for i, x in enumerate(metrics.iou_from_confusion(counts))}
    return {
        "mean_iou": metrics.mean_iou_from_confusion(counts),
        "accuracy": metrics.accuracy_from_confusion(counts),
        **per_class,
    }


def _ignore(_: object) -> None:
    return None
