"""Recipes: everything that decides a training run, declared once, strict, and saved with the result. No torch here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(gt=0)]
ClassWeights = Literal["none", "balanced", "sqrt"] | Annotated[tuple[NonNegative, ...], Field(min_length=2)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SyntheticSource(_Strict):
    """Images drawn instead of read; see :func:`bainite_fast.evaluation.synthetic_data.synthetic_dataset`.

    Attributes
    ----------
    preset : str
        Microstructure, magnification and etching, as in :data:`bainite_fast.synthetic.PRESETS`.
    images : int
        How many.
    shape : (int, int)
        Height and width of each, px.
    seed : int
        Another seed is another steel.
    """

    preset: str = "lom"
    images: Count = 50
    shape: tuple[Count, Count] = (1024, 1024)
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images."""
        return tuple(f"{self.preset}-{self.seed}-{i}" for i in range(self.images))


class DataRecipe(_Strict):
    """What becomes of the images before the network sees them.

    Attributes
    ----------
    tile : int, optional
        Edge of the square tiles, px; none: images are used whole.
    padding : {"mirror", "drop"}
        What tiles that reach beyond the image get: mirrored pixels, shared evenly between opposite sides, or nothing,
        and the remainder of the image is left out.
    scale : float
        Factor on height and width, 0.5 is half the resolution.
    scale_when : {"before", "after"}
        Whether the image is scaled and then tiled, or the tiles are scaled.
    crop : int, optional
        Edge of random square crops, px after scaling; none: tiles or images are used whole.
    crops_per_image : int, optional
        Crops of each tile or image in an epoch; as many as cover its area by default.
    crops_on_classes : float
        Share of the crops that are laid round a pixel of a class drawn at random, so that rare classes are seen as
        often as common ones; the others lie anywhere.
    margin : int
        Pixels at each side of a crop that the loss leaves out: the network's zero padding changes them, and exact tiled
        inference never shows them.
    synthetic : SyntheticSource, optional
        Draw the images.
    """

    tile: Count | None = None
    padding: Literal["mirror", "drop"] = "mirror"
    scale: Annotated[float, Field(gt=0, le=4)] = 1.0
    scale_when: Literal["before", "after"] = "before"
    crop: Count | None = None
    crops_per_image: Count | None = None
    crops_on_classes: Share = 0.0
    margin: Annotated[int, Field(ge=0)] = 0
    synthetic: SyntheticSource | None = None

    @model_validator(mode="after")
    def _agree(self) -> DataRecipe:
        if (self.crops_per_image is not None or self.crops_on_classes or self.margin) and self.crop is None:
            raise ValueError("crops_per_image, crops_on_classes and margin need crop, the edge of the crops in px")
        if self.crop is not None and 2 * self.margin >= self.crop:
            raise ValueError(
                f"margin {self.margin} leaves nothing of a crop of {self.crop} px; it must be below half the crop"
            )
        if self.scale != 1 and self.scale_when == "after" and self.tile is None:
            raise ValueError('scale_when "after" needs tile: without tiles there is only before')
        return self


class NetworkRecipe(_Strict):
    """The network and where its weights come from.

    Attributes
    ----------
    kind : {"unet", "vgg16_unet"}
        Vanilla U-Net, or the U-Net with a VGG16 encoder.
    base : int
        Channels of the first level.
    depth : int
        Pooling levels of the vanilla U-Net; the VGG16 encoder has four and a centre.
    kernel : int
        Odd edge of the vanilla U-Net's kernels, px.
    outputs : {"per_class", "single"}
        One logit per class, or, for two classes, one logit that is positive on the foreground.
    weights : str
        ``"random"``, ``"imagenet"`` (VGG16 encoder), or a path: a model package to fine-tune, or a file with VGG16
        weights by torchvision's names.
    """

    kind: Literal["unet", "vgg16_unet"] = "unet"
    base: Annotated[int, Field(gt=0, le=1024)] = 64
    depth: Annotated[int, Field(gt=0, le=8)] = 4
    kernel: Annotated[int, Field(gt=0, le=31)] = 3
    outputs: Literal["per_class", "single"] = "per_class"
    weights: Annotated[str, Field(min_length=1)] = "random"

    @property
    def multiple(self) -> int:
        """Number that must divide height and width of what the network is given, px."""
        return int(2**self.depth)

    @model_validator(mode="after")
    def _agree(self) -> NetworkRecipe:
        if self.kind == "vgg16_unet" and (self.depth, self.kernel) != (4, 3):
            raise ValueError("a vgg16_unet has depth 4 and kernel 3; leave both out")
        if self.kind == "unet" and self.weights == "imagenet":
            raise ValueError(
                "ImageNet weights exist for the VGG16 encoder only; set kind: vgg16_unet, or weights: random"
            )
        return self


class FocalLoss(_Strict):
    """Focal loss of Lin et al. (2017); see :func:`bainite_fast.training.losses.focal_loss`."""

    kind: Literal["focal"] = "focal"
    alpha: Positive = 1.5
    gamma: NonNegative = 2.0
    class_weights: ClassWeights = "none"


class CrossEntropyLoss(_Strict):
    """Cross-entropy; see :func:`bainite_fast.training.losses.cross_entropy`."""

    kind: Literal["cross_entropy"]
    class_weights: ClassWeights = "none"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


class WeightedBCELoss(_Strict):
    """Weighted binary cross-entropy; see :func:`bainite_fast.training.losses.weighted_bce`."""

    kind: Literal["weighted_bce"]
    positive_weight: Positive | Literal["data"] = "data"


class DiceLoss(_Strict):
    """Soft Dice loss; see :func:`bainite_fast.training.losses.dice_loss`."""

    kind: Literal["dice"]
    smooth: Positive = 1.0


SingleLoss = Annotated[FocalLoss | CrossEntropyLoss | WeightedBCELoss | DiceLoss, Field(discriminator="kind")]


class LossTerm(_Strict):
    """One summand: a weight and a loss."""

    weight: Positive = 1.0
    loss: SingleLoss


class SumLoss(_Strict):
    """Weighted sum of losses."""

    kind: Literal["sum"]
    terms: Annotated[tuple[LossTerm, ...], Field(min_length=1)]


Loss = Annotated[FocalLoss | CrossEntropyLoss | WeightedBCELoss | DiceLoss | SumLoss, Field(discriminator="kind")]


class OptimiserRecipe(_Strict):
    """Adam of Kingma & Ba (2015), or AdamW of Loshchilov & Hutter (2019).

    Attributes
    ----------
    kind : {"adam", "adamw"}
        With the weight decay in the gradient, or decoupled from it.
    learning_rate : float
        Largest learning rate of the schedule.
    weight_decay : float
        Pull towards zero.
    clip_gradient : float, optional
        Largest norm of the gradient of a step; larger ones are scaled down.
    """

    kind: Literal["adam", "adamw"] = "adam"
    learning_rate: Positive = 1e-3
    weight_decay: NonNegative = 0.0
    clip_gradient: Positive | None = None


class ScheduleRecipe(_Strict):
    """Learning rate over the run, set at every step.

    Attributes
    ----------
    kind : {"constant", "cosine", "one_cycle"}
        As it is; cosine annealing of Loshchilov & Hutter (2017), without restarts; or the one-cycle policy of Smith &
        Topin (2018): up, then down, both along cosines.
    minimum : float
        Of the largest learning rate, where annealing ends.
    warm_up : float
        Share of the run over which the learning rate rises: linearly for "constant" and "cosine"; along a cosine from
        1/25 for "one_cycle", 0.3 by default there.
    """

    kind: Literal["constant", "cosine", "one_cycle"] = "constant"
    minimum: Share = 0.0
    warm_up: Annotated[float, Field(ge=0, lt=1)] | None = None


class ElasticRecipe(_Strict):
    """Elastic deformation of Simard et al. (2003).

    Attributes
    ----------
    amplitude : float
        Standard deviation of the displacement in x and in y, px.
    smoothness : float
        Standard deviation of the Gaussian that smooths the displacements, px.
    """

    amplitude: NonNegative = 0.0
    smoothness: Annotated[float, Field(gt=0, le=64)] = 12.0


class AugmentationRecipe(_Strict):
    """Changes of the batch, drawn anew at every step; 0 or false switches one off.

    Attributes
    ----------
    probability : float
        With which each change but flips and quarter turns happens to an image.
    flips : bool
        Upside down and left to right, each in half of the cases.
    quarter_turns : bool
        By 0, 90, 180 or 270°, equally often; square tiles and crops only.
    rotation : float
        Largest angle to either side, degrees.
    scale : float
        s: magnification between 1/(1 + s) and 1 + s.
    shear : float
        Largest angle to either side, degrees (with rotation, scale and shift this is the affine map).
    shift : float
        Largest shift to either side, share of the edge.
    elastic : ElasticRecipe
        Elastic deformation.
    brightness : float
        Largest change to either side, share of the full intensity scale.
    contrast : float
        c: factor on the distance from the mean gray value of the image, between 1/(1 + c) and 1 + c.
    gamma : float
        g: exponent of the intensities on the 0…1 scale, between 1/(1 + g) and 1 + g.
    noise : float
        Largest standard deviation of Gaussian noise, share of the full intensity scale.
    blur : float
        Largest standard deviation of Gaussian blur, px.
    """

    probability: Share = 0.5
    flips: bool = False
    quarter_turns: bool = False
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    scale: Annotated[float, Field(ge=0, le=4)] = 0.0
    shear: Annotated[float, Field(ge=0, le=60)] = 0.0
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    elastic: ElasticRecipe = ElasticRecipe()
    brightness: Share = 0.0
    contrast: Annotated[float, Field(ge=0, le=4)] = 0.0
    gamma: Annotated[float, Field(ge=0, le=4)] = 0.0
    noise: Share = 0.0
    blur: Annotated[float, Field(ge=0, le=8)] = 0.0


class EarlyStop(_Strict):
    """Stop when the validation mean IoU has not risen.

    Attributes
    ----------
    patience : int
        Validations in a row without a rise.
    minimum_gain : float
        What counts as a rise of the mean IoU over the last one that did, 0…1; more than this.
    """

    patience: Count = 20
    minimum_gain: Share = 0.0


class ValidationRecipe(_Strict):
    """How the validation part of a split is used.

    Attributes
    ----------
    every : int
        Epochs from one validation to the next; the last epoch is always validated.
    keep : {"best", "last"}
        Which weights become the model: those of the best validation mean IoU, or the last. Without a validation part
        it is the last.
    early_stop : EarlyStop, optional
        Off in the paper's recipes, whose folds have no validation part.
    """

    every: Count = 1
    keep: Literal["best", "last"] = "best"
    early_stop: EarlyStop | None = None


class Recipe(_Strict):
    """A training run, in full.

    Attributes
    ----------
    name, description : str
        For lists and the model's card.
    data, network, loss, optimiser, schedule, augmentation, validation
        See the classes.
    normalize : {"auto", "data", "none"} or (float, float)
        Mean and standard deviation of the intensities on the 0…1 scale: measured on the training images; none; or two
        numbers. ``"auto"`` measures them, except for the VGG16 U-Net, which holds ImageNet's inside. A run that starts
        from a package keeps the package's.
    epochs : int
        Passes over the training images.
    batch : int
        Tiles, crops or images in a step.
    ema : float, optional
        Decay per step of an exponential moving average of the weights, which is then what is validated and kept.
    seed : int
        Of first weights, order, crops and augmentation.
    precision : {"auto", "float32", "bfloat16", "float16"}
        Of the products inside the network; weights stay float32. ``"auto"`` is bfloat16 or float16 on a GPU, and on a
        CPU bfloat16 where one measurement at the start finds it faster.
    deterministic : bool
        Refuse operations whose result differs from run to run.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)] = "unnamed"
    description: str = ""
    data: DataRecipe = DataRecipe()
    network: NetworkRecipe = NetworkRecipe()
    normalize: Literal["auto", "data", "none"] | tuple[float, Positive] = "auto"
    loss: Loss = FocalLoss()
    optimiser: OptimiserRecipe = OptimiserRecipe()
    schedule: ScheduleRecipe = ScheduleRecipe()
    epochs: Count = 250
    batch: Count = 8
    augmentation: AugmentationRecipe = AugmentationRecipe()
    validation: ValidationRecipe = ValidationRecipe()
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    deterministic: bool = False

    @field_validator("loss", mode="before")
    @classmethod
    def _of_default_kind(cls, loss: Any) -> Any:
        """Take a loss that does not say its kind for the default one, as the other sections are taken."""
        return {"kind": "focal", **loss} if isinstance(loss, dict) else loss

    @model_validator(mode="after")
    def _agree(self) -> Recipe:
        if self.augmentation.quarter_turns and self.data.crop is None and self.data.tile is None:
            raise ValueError("augmentation.quarter_turns needs square tiles or crops; set data.tile or data.crop")
        multiple = 2**self.network.depth
        if self.data.crop is not None and self.data.crop % multiple:
            raise ValueError(f"data.crop {self.data.crop} is not a multiple of {multiple}, which the network needs")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, every default written out."""
        return self.model_dump(mode="json")
