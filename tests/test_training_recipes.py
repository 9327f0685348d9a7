"""Recipes: those of the package, a user's own, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bainite_fast import training
from bainite_fast.errors import InputError, OutputExistsError
from bainite_fast.training import Recipe, copy_recipe, parse_changes, read_recipe, read_space, recipe_names, recipe_text

# The table of the study: tile, kind, loss, weights, scale, when, epochs.
TABLE = {
    "1": (256, "unet", "focal", "random", 1.0, "before", 250),
    "2": (256, "unet", "focal", "random", 0.5, "before", 250),
    "2v": (256, "unet", "focal", "random", 0.5, "after", 250),
    "3": (256, "vgg16_unet", "cross_entropy", "imagenet", 1.0, "before", 150),
    "3b": (256, "vgg16_unet", "weighted_bce", "imagenet", 1.0, "before", 150),
    "3v": (256, "vgg16_unet", "cross_entropy", "random", 1.0, "before", 250),
    "4": (256, "vgg16_unet", "cross_entropy", "imagenet", 0.5, "before", 150),
    "5": (512, "unet", "focal", "random", 1.0, "before", 250),
    "6": (512, "unet", "focal", "random", 0.5, "before", 250),
    "6v": (512, "unet", "focal", "random", 0.5, "after", 250),
    "7": (512, "vgg16_unet", "cross_entropy", "imagenet", 1.0, "before", 150),
    "8": (512, "vgg16_unet", "cross_entropy", "imagenet", 0.5, "before", 150),
    "8v": (512, "vgg16_unet", "cross_entropy", "random", 0.5, "before", 250),
    "vanilla": (256, "unet", "focal", "random", 1.0, "before", 250),
    "vgg16": (256, "vgg16_unet", "cross_entropy", "imagenet", 1.0, "before", 150),
}


def test_every_row_of_the_table_has_its_recipe() -> None:
    assert set(recipe_names()) == set(TABLE)
    assert recipe_names()[:2] == ("vanilla", "vgg16")


@pytest.mark.parametrize("name", sorted(TABLE))
def test_a_recipe_is_its_row(name: str) -> None:
    r = read_recipe(name)
    row = (r.data.tile, r.network.kind, r.loss.kind, r.network.weights, r.data.scale, r.data.scale_when, r.epochs)
    assert row == TABLE[name]
    assert r.name == name
    assert r.optimiser.kind == "adam"
    assert r.schedule.kind == ("constant" if r.network.kind == "unet" else "cosine")
    assert r.validation.early_stop is None
    assert r.validation.keep == "last"
    if r.loss.kind == "focal":
        assert r.loss.alpha == 1.5


@pytest.mark.parametrize("name", sorted(TABLE))
def test_text_and_back_is_the_same_recipe(name: str, tmp_path: Path) -> None:
    recipe = read_recipe(name)
    copy = read_recipe(copy_recipe(name, tmp_path / "mine.yaml"))
    assert (copy.name, copy.description) == ("mine", f"copy of {name} ({recipe.description})")
    assert copy == recipe.model_copy(update={"name": copy.name, "description": copy.description})
    assert read_recipe(yaml.safe_load(recipe_text(recipe))) == recipe


def test_changes_by_dotted_name() -> None:
    changes = parse_changes(["loss.alpha=2", "optimiser.learning_rate=1e-4", "data.crop=128", "ema=0.99"])
    recipe = read_recipe("vanilla", changes=changes)
    assert (recipe.loss.alpha, recipe.loss.gamma) == (2.0, 2.0)  # type: ignore[union-attr]
    assert (recipe.optimiser.learning_rate, recipe.data.crop, recipe.ema) == (1e-4, 128, 0.99)
    assert read_recipe("vanilla").loss.alpha == 1.5  # type: ignore[union-attr]


def test_another_kind_starts_from_its_own_defaults() -> None:
    recipe = read_recipe("vanilla", changes={"loss.kind": "dice"})
    assert recipe.loss.model_dump() == {"kind": "dice", "smooth": 1.0}
    kept = read_recipe("vanilla", changes={"loss.kind": "cross_entropy", "loss.class_weights": "balanced"})
    assert kept.loss.class_weights == "balanced"  # type: ignore[union-attr]


def test_what_is_set_beside_a_kind_holds_in_either_order() -> None:
    dice = {"loss": {"kind": "dice", "smooth": 3.0}}
    for texts in (["loss.alpha=2", "loss.kind=focal"], ["loss.kind=focal", "loss.alpha=2"]):
        loss = read_recipe(dice, changes=parse_changes(texts)).loss
        assert loss.model_dump() == {"kind": "focal", "alpha": 2.0, "gamma": 2.0, "class_weights": "none"}
    terms = {"loss": {"kind": "sum", "terms": [{"loss": {"kind": "dice"}}]}}
    inner = read_recipe(terms, changes={"loss.terms.0.loss.gamma": 1, "loss.terms.0.loss.kind": "focal"}).loss
    assert inner.terms[0].loss.gamma == 1.0  # type: ignore[union-attr]


def test_a_kind_that_is_left_out_is_the_default_one() -> None:
    short = {"network": {"base": 8}, "optimiser": {"learning_rate": 0.1}, "loss": {"alpha": 3}}
    same = read_recipe(short, changes={"network.kind": "unet", "optimiser.kind": "adam", "loss.kind": "focal"})
    assert same == read_recipe(short)
    assert (same.network.base, same.optimiser.learning_rate) == (8, 0.1)
    assert same.loss.alpha == 3.0  # type: ignore[union-attr]
    assert read_recipe({}, changes={"loss.alpha": 2}).loss.alpha == 2.0  # type: ignore[union-attr]


def test_a_section_that_is_off_can_be_switched_on() -> None:
    recipe = read_recipe("vanilla", changes={"validation.early_stop.patience": 7})
    assert recipe.validation.early_stop is not None
    assert recipe.validation.early_stop.patience == 7


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"loss.alhpa": 2}, r"^the setting loss.alhpa = 2: there is no such key \(did you mean loss.alpha\?\)"),
        ({"los.alpha": 2}, r"^the setting los.alpha = 2: there is no such key \(did you mean loss.alpha\?\)"),
        ({"lr": 2}, r"^the setting lr = 2: there is no such key \(did you mean optimiser.learning_rate\?\)"),
        ({"loss": {"kind": "dice", "smoth": 1}}, r"^the setting loss = .*: smoth: .*did you mean loss.smooth"),
        ({"epochs": 0}, "epochs"),
        ({"epochs.more": 3}, "holds one value"),
        ({"data.crop": 100}, "not a multiple of 16"),
        ({"network.weights": "imagenet"}, "VGG16 encoder only"),
        ({"optimiser.learning_rate": "fast"}, "learning_rate"),
        ({"loss.alpha": float("nan")}, "alpha"),
        ({"data.tile": None, "data.scale": 0.5, "data.scale_when": "after"}, "needs tile"),
        ({"data.tile": None}, "quarter_turns needs square"),
        ({"data.crops_per_image": 4}, "need crop"),
        ({"data.margin": 4}, "need crop"),
        ({"data.crop": 64, "data.margin": 32}, "below half the crop"),
        ({"loss.kind": "hinge"}, "loss"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_recipe("vanilla", changes=changes)


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("optimizer: {kind: adam}\nloss: {kind: dice, label_smoothing: 0.1}\n")
    with pytest.raises(InputError) as caught:
        read_recipe(tmp_path / "wrong.yaml", changes={"batch": 0})
    for words in (
        "wrong.yaml: optimizer: there is no such key (did you mean optimiser.",
        "wrong.yaml: loss.dice.label_smoothing: this kind of loss has no such key",
        "the setting batch = 0: Input should be greater than 0",
    ):
        assert words in str(caught.value)
    with pytest.raises(InputError, match="there is no recipe 'vanila'.*vanilla"):
        read_recipe("vanila")
    (tmp_path / "broken.yaml").write_text("loss: {kind: [")
    with pytest.raises(InputError, match="not a recipe in YAML"):
        read_recipe(tmp_path / "broken.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(InputError, match="holds a list"):
        read_recipe(tmp_path / "list.yaml")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    for read, words in ((read_recipe, "empty.yaml is empty; a recipe"), (read_space, "empty.yaml is empty; a search")):
        with pytest.raises(InputError, match=words):
            read(tmp_path / "empty.yaml")
    with pytest.raises(InputError, match="sets nothing"):
        parse_changes(["loss.alpha"])


def test_a_short_recipe_is_filled_up(tmp_path: Path) -> None:
    (tmp_path / "short.yaml").write_text("optimiser: {learning_rate: 1.0e-3}\nepochs: 3\n")
    assert read_recipe(tmp_path / "short.yaml") == Recipe(epochs=3)
    (tmp_path / "short.yaml").write_text("optimiser: {learning_rate: 1e-3}\nepochs: 3\n")
    assert read_recipe(tmp_path / "short.yaml") == Recipe(epochs=3)


def test_a_copy_never_overwrites(tmp_path: Path) -> None:
    copy_recipe("vgg16", tmp_path / "mine.yaml")
    with pytest.raises(OutputExistsError):
        copy_recipe("vanilla", tmp_path / "mine.yaml")
    assert read_recipe(tmp_path / "mine.yaml").description.startswith("copy of vgg16 (")


def test_no_public_name_hides_behind_a_module_of_its_name() -> None:
    # Importing a submodule sets it on the package, and a function of the same name would then be out of reach.
    modules = {path.stem for path in Path(training.__file__).parent.glob("*.py")}
    assert not modules & set(training.__all__)
    assert all(getattr(training, name) is not None for name in training.__all__)
