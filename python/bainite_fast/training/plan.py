"""What a run would train, and how long it would take: known before it begins. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .words import counted, span

if TYPE_CHECKING:
    from .loop import Trainer


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """A run that has not begun.

    Attributes
    ----------
    recipe : str
        Name of the recipe.
    images, validation_images : int
        To learn from, and to validate on.
    items : int
        Tiles, or images where the recipe does not tile.
    tile, crop : int or None
        Edge of tiles and of random crops, px.
    samples_per_epoch, batch : int
        Tiles, crops or images in an epoch, and in a step.
    steps_per_epoch, epochs, steps : int
        Of the whole run.
    class_names : tuple of str
        Of the label values, from 0.
    network, origin : str
        Kind of the network, and where its first weights come from.
    parameters : int
        Trained ones.
    stride, halo, radius : int
        Of the network, px: cores of tiled inference begin on multiples of the stride; context that a core needs; how
        far a pixel sees (receptive field 2 · radius + 1).
    device : str
        Where it is trained.
    threads : int
        Of PyTorch, on the CPU.
    precision : str
        The recipe's; once measured, the one that is used.
    validations : int
        How often it is validated.
    seconds_per_step, seconds_per_validation : float or None
        Measured on this machine, or not.
    """

    recipe: str
    images: int
    validation_images: int
    items: int
    tile: int | None
    crop: int | None
    samples_per_epoch: int
    batch: int
    steps_per_epoch: int
    epochs: int
    steps: int
    class_names: tuple[str, ...]
    network: str
    origin: str
    parameters: int
    stride: int
    halo: int
    radius: int
    device: str
    threads: int
    precision: str
    validations: int = 0
    seconds_per_step: float | None = None
    seconds_per_validation: float | None = None

    @property
    def seconds(self) -> float | None:
        """Expected time of the whole run, s; None where no step was measured."""
        if self.seconds_per_step is None:
            return None
        return self.steps * self.seconds_per_step + self.validations * (self.seconds_per_validation or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, with the expected `seconds`."""
        return {**asdict(self), "class_names": list(self.class_names), "seconds": self.seconds}

    @property
    def extent(self) -> str:
        """What the run goes over, in a line."""
        return (
            f"{counted(self.images, 'image')}, {self._samples} an epoch; {counted(self.steps_per_epoch, 'step')} × "
            f"{counted(self.epochs, 'epoch')} = {counted(self.steps, 'step')}"
        )

    @property
    def _samples(self) -> str:
        edge = self.crop or self.tile
        if edge is None:
            return counted(self.samples_per_epoch, "image")
        return f"{counted(self.samples_per_epoch, 'crop' if self.crop else 'tile')} of {edge} px"

    def __str__(self) -> str:
        where = self.device if self.device != "cpu" else f"cpu, {counted(self.threads, 'thread')}"
        tiles = f" in {counted(self.items, 'tile')} of {self.tile} px" if self.tile else ""
        rows = [
            ("recipe", self.recipe),
            ("images", f"{self.images:,} to learn from{tiles}, {self.validation_images:,} to validate on"),
            ("classes", ", ".join(f"{value} {name}" for value, name in enumerate(self.class_names))),
            ("an epoch", f"{self._samples}, {counted(self.steps_per_epoch, 'step')} of {self.batch}"),
            ("the run", f"{counted(self.epochs, 'epoch')}, {counted(self.steps, 'step')}"),
            ("network", f"{self.network}, {counted(self.parameters, 'parameter')}, from {self.origin}"),
            ("sees", f"{2 * self.radius + 1} px; stride {self.stride} px, halo {self.halo} px"),
            ("device", f"{where}, {self.precision}"),
        ]
        if self.seconds is not None and self.seconds_per_step is not None:
            rows.append(("a step", span(self.seconds_per_step)))
            if self.seconds_per_validation is not None:
                rows.append(("validating", f"{span(self.seconds_per_validation)}, {counted(self.validations, 'time')}"))
            rows.append(("expected", f"about {span(self.seconds)} for the run on this machine as busy as it is now"))
        return "\n".join(f"{name:<10}  {text}" for name, text in rows)


def plan_of(trainer: Trainer, images: int, threads: int) -> TrainingPlan:
    """Return what a trainer will do with so many training images on so many threads; nothing is measured."""
    job, batches = trainer.job, trainer.batches
    recipe, every = job.recipe, job.recipe.validation.every
    return TrainingPlan(
        recipe=recipe.name,
        images=images,
        validation_images=0 if job.validate is None else len(job.validate),
        items=len(job.train),
        tile=recipe.data.tile,
        crop=recipe.data.crop,
        samples_per_epoch=sum(batches.repeats),
        batch=batches.size,
        steps_per_epoch=batches.steps,
        epochs=recipe.epochs,
        steps=trainer.steps,
        class_names=tuple(job.train.class_names),
        network=recipe.network.kind,
        origin=job.start.origin,
        parameters=sum(p.numel() for p in trainer.network.parameters() if p.requires_grad),
        stride=job.reach.stride,
        halo=job.reach.halo,
        radius=job.reach.radius,
        device=str(job.device),
        threads=threads,
        precision=recipe.precision,
        validations=0 if job.validate is None else -(-recipe.epochs // every),
    )
