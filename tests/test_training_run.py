"""Training from end to end: it learns, resumes to the same bits, stops on NaN, and refuses what it should."""

from __future__ import annotations

import csv
import json
import sys
import types
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bainite_fast
from bainite_fast.errors import (
    BainiteWarning,
    DeviceError,
    InputError,
    JournalError,
    ModelError,
    OutputExistsError,
    OutputLockedError,
    TrainingError,
)
from bainite_fast.metrics import iou_from_confusion
from bainite_fast.models import describe_package
from bainite_fast.training import Progress, plan_training, read_recipe, record, train
from bainite_fast.training import loop as loop_module
from bainite_fast.training.checkpoint import read
from bainite_fast.training.dataset import array_dataset, class_pixels
from bainite_fast.training.folder import locked, steps_kept
from training_helpers import SPLIT, blobs, small

EVERYTHING = {
    "optimiser__kind": "adamw", "optimiser__weight_decay": 0.01, "schedule__kind": "one_cycle", "ema": 0.9,
    "augmentation__flips": True, "augmentation__rotation": 20, "augmentation__noise": 0.05,
    "augmentation__elastic__amplitude": 1, "optimiser__clip_gradient": 1.0,
}  # fmt: skip


@pytest.mark.parametrize("augmented", [False, True])
def test_what_lies_in_the_margin_is_not_learned(tmp_path: Path, augmented: bool) -> None:
    data = blobs(4, (32, 32))
    inner = np.zeros((32, 32), np.bool_)
    inner[6:-6, 6:-6] = True
    others = [np.where(inner, mask, 1 - mask).astype(np.uint8) for mask in data.masks]
    turns = {"augmentation.flips": True, "augmentation.quarter_turns": True} if augmented else {}

    def trained(name: str, masks: Any, margin: int) -> dict[str, torch.Tensor]:
        changes = {"data.margin": margin, "epochs": 1, **turns}
        return weights(train(small(), data.images, masks, tmp_path / name, changes=changes))

    first, second = trained("first", data.masks, 6), trained("second", others, 6)
    assert all(torch.equal(first[key], second[key]) for key in first)
    third = trained("third", others, 5)
    assert not all(torch.equal(first[key], third[key]) for key in first)


class StopHereError(Exception):
    pass


def stop_at(step: int) -> Any:
    def progress(now: Progress) -> None:
        if now.step == step:
            raise StopHereError

    return progress


def weights(run: bainite_fast.TrainingRun) -> dict[str, torch.Tensor]:
    return run.load().module.state_dict()


def rows(run: bainite_fast.TrainingRun) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.history]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> bainite_fast.TrainingRun:
    return train(small(epochs=12), blobs(), out=tmp_path_factory.mktemp("runs") / "blobs", split=SPLIT)


def test_it_learns_and_leaves_a_package(trained: bainite_fast.TrainingRun) -> None:
    assert trained.mean_iou is not None and trained.mean_iou > 0.9
    assert trained.history[-1]["loss"] < 0.5 * trained.history[0]["loss"]
    best = max(row["mean_iou"] for row in trained.history)
    assert trained.mean_iou == best
    assert "mean IoU" in str(trained)
    loaded = trained.load()
    assert loaded.contract.classes == ("background", "foreground")
    assert loaded.contract.um_per_px == 0.25
    data = blobs()
    pixels = np.concatenate([data.image(i).ravel() for i in range(3)]) / 255
    assert loaded.contract.mean == pytest.approx((pixels.mean(),), rel=1e-6)
    assert loaded.contract.std == pytest.approx((pixels.std(),), rel=1e-6)
    card = (trained.package / "card.md").read_text()
    assert "image 3" in card and f"| mean IoU | {best:.4g} |" in card
    config = json.loads((trained.package / "config.json").read_text())
    assert config["recipe"] == trained.recipe.to_dict()
    assert config["training"]["data"]["training images"] == SPLIT["train"]
    assert config["training"]["origin"] == "random weights"
    assert not config["synthetic_only"]


def test_the_reported_score_is_that_of_segmenting_the_validation_image(
    trained: bainite_fast.TrainingRun, tmp_path: Path
) -> None:
    data = blobs()
    labels = bainite_fast.segment(
        data.image(3), model=str(trained.package), out=tmp_path / "labels.zarr", precision="float32", scale="as-is"
    )
    counts = bainite_fast.confusion_matrix(data.mask(3), np.asarray(labels.labels[:]), 2)
    scores = iou_from_confusion(counts)
    assert trained.scores is not None
    assert [trained.scores["iou_0"], trained.scores["iou_1"]] == pytest.approx(scores.tolist(), abs=1e-9)


def test_the_table_and_the_curve(trained: bainite_fast.TrainingRun) -> None:
    with (trained.out / "metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in table] == list(range(1, 13))
    assert float(table[-1]["loss"]) == pytest.approx(trained.history[-1]["loss"], rel=1e-6)
    assert (trained.out / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert read_recipe(trained.out / "recipe.yaml") == trained.recipe


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> bainite_fast.TrainingRun:
    recipe = small(data__crops_per_image=4, **EVERYTHING)
    return train(recipe, blobs(), out=tmp_path_factory.mktemp("runs") / "unbroken", split=SPLIT)


@pytest.mark.parametrize("step", [2, 5, 8])
def test_a_resumed_run_equals_an_unbroken_one(
    step: int, unbroken: bainite_fast.TrainingRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, data, out = unbroken.recipe, blobs(), tmp_path / "broken"
    if step == 8:  # saved in the middle of an epoch too
        monkeypatch.setattr(loop_module, "_CHECKPOINT_SECONDS", -1.0)
    with pytest.raises(StopHereError):
        train(recipe, data, out=out, split=SPLIT, progress=stop_at(step))
    assert not (out / "model").exists()
    assert read(out / "checkpoints/last.safetensors")[1]["place"]["step"] == {2: 0, 5: 3, 8: 7}[step]
    torch.manual_seed(99)
    resumed = train(recipe, data, out=out, split=SPLIT, resume=True)
    assert rows(resumed) == rows(unbroken)
    expected = weights(unbroken)
    for name, value in weights(resumed).items():
        assert torch.equal(value, expected[name]), name
    assert len((out / "metrics.csv").read_text().splitlines()) == 4
    again = train(recipe, data, out=out, split=SPLIT, resume=True, progress=stop_at(1))
    assert rows(again) == rows(unbroken)  # finished: nothing is trained


def test_a_seed_is_a_run_and_another_seed_another(tmp_path: Path) -> None:
    runs = [
        train(small(epochs=1), blobs(), out=tmp_path / str(i), split=SPLIT, seed=seed)
        for i, seed in enumerate([5, 5, 6])
    ]
    states = [weights(run) for run in runs]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not torch.equal(states[0]["head.weight"], states[2]["head.weight"])


def test_the_callers_random_numbers_are_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    train(small(epochs=1, **EVERYTHING), blobs(), out=tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("step", [4, 6])  # in the middle of an epoch of three steps, and after its last, before its end
def test_ctrl_c_between_steps_loses_none(step: int, unbroken: bainite_fast.TrainingRun, tmp_path: Path) -> None:
    recipe, data, out = unbroken.recipe, blobs(), tmp_path / "broken"
    seen: list[int] = []

    def interrupt(now: Progress) -> None:
        seen.append(now.step)
        if now.step == step and now.scores is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, out=out, split=SPLIT, progress=interrupt)
    assert steps_kept(out) == seen[-1] == step
    seen.clear()
    resumed = train(recipe, data, out=out, split=SPLIT, resume=True, progress=lambda now: seen.append(now.step))
    assert seen[0] == step  # before the first step
    assert rows(resumed) == rows(unbroken)
    expected = weights(unbroken)
    for name, value in weights(resumed).items():
        assert torch.equal(value, expected[name]), name
    with (out / "metrics.csv").open() as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == [1, 2, 3]


def test_a_run_that_kept_no_step_is_in_nobodys_way(tmp_path: Path) -> None:
    def interrupt(now: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(small(), blobs(), out=tmp_path / "run", progress=interrupt)
    with pytest.raises(StopHereError):
        train(small(), blobs(), out=tmp_path / "run", progress=stop_at(1))
    assert (tmp_path / "run/checkpoints/last.safetensors").exists() and steps_kept(tmp_path / "run") == 0
    # Not even the same recipe is needed.
    assert len(train(small(epochs=1, batch=2), blobs(), out=tmp_path / "run").history) == 1
    with pytest.raises(OutputExistsError, match="a finished training run"):
        train(small(), blobs(), out=tmp_path / "run")


def test_a_resumed_run_keeps_its_number_of_threads(tmp_path: Path) -> None:
    def begin(name: str) -> Path:
        with pytest.raises(StopHereError):
            train(small(), blobs(), out=tmp_path / name, threads=2, progress=stop_at(3))
        return tmp_path / name

    before, used = torch.get_num_threads(), set()
    out = begin("kept")
    train(small(), blobs(), out=out, resume=True, progress=lambda now: used.add(torch.get_num_threads()))
    assert (used, torch.get_num_threads()) == ({2}, before)
    assert json.loads((out / "run.json").read_text())["threads"] == 2
    out = begin("changed")
    with pytest.warns(BainiteWarning, match="begun with 2 threads and goes on with 1: .* last bits"):
        train(small(), blobs(), out=out, resume=True, threads=1)
    assert json.loads((out / "run.json").read_text())["threads"] == 1
    with pytest.raises(InputError, match="threads=0"):
        train(small(), blobs(), out=tmp_path / "none", threads=0)


def test_a_plan_says_what_a_run_does_and_writes_nothing(
    unbroken: bainite_fast.TrainingRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = plan_training(unbroken.recipe, blobs(), split=SPLIT, threads=1)
    assert list(tmp_path.iterdir()) == []
    assert (plan.steps, plan.steps_per_epoch, plan.epochs) == (9, 3, 3) == (9, 3, len(unbroken.history))
    assert (plan.images, plan.validation_images, plan.samples_per_epoch, plan.batch) == (3, 1, 12, 4)
    network = unbroken.load()
    assert plan.parameters == sum(p.numel() for p in network.module.parameters())
    assert (plan.stride, plan.halo, plan.radius) == (
        network.contract.stride, network.contract.halo, network.contract.radius,
    )  # fmt: skip
    assert plan.class_names == ("background", "foreground") and plan.precision == "float32"
    step, validation = plan.seconds_per_step, plan.seconds_per_validation
    assert step is not None and validation is not None and min(step, validation) > 0
    assert plan.seconds == pytest.approx(9 * step + plan.validations * validation)
    text = str(plan)
    for words in ("12 crops of 32 px, 3 steps of 4", "3 epochs, 9 steps", "cpu, 1 thread", "expected"):
        assert words in text
    assert "NaN" not in text and json.loads(json.dumps(plan.to_dict()))["seconds"] == plan.seconds
    alone = plan_training(small(), blobs())
    assert alone.seconds_per_validation is None and "validating" not in str(alone)


def test_a_run_of_other_data_or_recipe_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(StopHereError):
        train(small(), blobs(), out=tmp_path / "run", progress=stop_at(3))
    with pytest.raises(JournalError, match=r"another recipe \(batch was 4 and is 2\)"):
        train(small(batch=2), blobs(), out=tmp_path / "run", resume=True)
    with pytest.raises(
        JournalError, match=r"loss\.kind was \"cross_entropy\" and is \"dice\", loss\.class_weights was"
    ):
        train(small(loss__kind="dice"), blobs(), out=tmp_path / "run", resume=True)
    with pytest.raises(JournalError, match="begun with other data"):
        train(small(), blobs(seed=1), out=tmp_path / "run", resume=True)
    with pytest.raises(OutputExistsError, match="unfinished.*resume=True"):
        train(small(), blobs(), out=tmp_path / "run")
    with pytest.raises(InputError, match="choose one"):
        train(small(), blobs(), out=tmp_path / "run", resume=True, overwrite=True)
    (tmp_path / "run/checkpoints/last.safetensors").write_bytes(b"torn")
    with pytest.raises(JournalError, match="not a checkpoint"):
        train(small(), blobs(), out=tmp_path / "run", resume=True)
    assert train(small(batch=2), blobs(), out=tmp_path / "run", overwrite=True).recipe.batch == 2


def test_a_run_of_a_version_that_knew_fewer_keys_goes_on(unbroken: bainite_fast.TrainingRun, tmp_path: Path) -> None:
    recipe, out = unbroken.recipe, tmp_path / "run"
    with pytest.raises(StopHereError):
        train(recipe, blobs(), out=out, split=SPLIT, progress=stop_at(4))
    whole = (out / "run.json").read_text()
    for place, key in ((None, "deterministic"), ("augmentation", "blur"), ("data", "crops_on_classes")):
        old = json.loads(whole)
        for values in (old["recipe"], old["fingerprint"]["recipe"]):
            del (values if place is None else values[place])[key]  # as if it had been added since
        (out / "run.json").write_text(json.dumps(old))
        other = {None: {"deterministic": True}}.get(place, {f"{place}__{key}": 0.5})
        with pytest.raises(JournalError, match=rf"recipe \(([a-z]+\.)?{key} was (false|0.0) and is (true|0.5)\)"):
            train(small(data__crops_per_image=4, **EVERYTHING, **other), blobs(), out=out, split=SPLIT, resume=True)
    resumed = train(recipe, blobs(), out=out, split=SPLIT, resume=True)
    assert rows(resumed) == rows(unbroken)
    unknown = json.loads(whole)
    unknown["fingerprint"]["recipe"]["magic"] = 1
    (out / "run.json").write_text(json.dumps(unknown))
    with pytest.raises(JournalError, match="magic: there is no such key"):
        train(recipe, blobs(), out=out, split=SPLIT, resume=True)


def test_what_a_killed_run_was_writing_stands_in_nobodys_way(tmp_path: Path) -> None:
    out = tmp_path / "run"
    for options in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(StopHereError):
            train(small(), blobs(), out=out, progress=stop_at(3), overwrite=out.exists())
        scraps = [out / ".metrics.csv.partial", out / ".run.json.partial", out / ".model.0a1b2c3d.partial"]
        for scrap in scraps[:2]:
            scrap.write_text("half")
        scraps[2].mkdir()
        train(small(), blobs(), out=out, **options)
        assert not any(scrap.exists() for scrap in scraps)


def test_a_folder_with_other_files_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(OutputExistsError, match="thesis.txt"):
            train(small(), blobs(), out=tmp_path, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    with locked(tmp_path / "run"), pytest.raises(OutputLockedError, match="another process"):
        train(small(), blobs(), out=tmp_path / "run", resume=True)


def test_a_nan_loss_stops_names_the_batch_and_keeps_the_last_good_weights(tmp_path: Path) -> None:
    recipe = small(optimiser__learning_rate=1e30, epochs=5)
    with pytest.raises(TrainingError, match=r"NaN or infinite.*image [0-3].*learning_rate") as caught:
        train(recipe, blobs(), out=tmp_path / "run")
    folder = Path(str(caught.value.place))
    about = json.loads((folder / "batch.json").read_text())
    images, masks = np.load(folder / "images.npy"), np.load(folder / "masks.npy")
    assert images.shape == (4, 1, 32, 32) and masks.shape == (4, 32, 32)
    data = blobs()
    for crop, image, mask in zip(about["crops"], images, masks, strict=True):
        i, y, x = data.names.index(crop["image"]), crop["row"], crop["column"]
        np.testing.assert_allclose(image[0], data.image(i)[y : y + 32, x : x + 32] / np.float32(255), rtol=1e-6)
        np.testing.assert_array_equal(mask, data.mask(i)[y : y + 32, x : x + 32])
    tensors, _ = read(tmp_path / "run/checkpoints/last.safetensors")
    assert all(torch.isfinite(value).all() for value in tensors.values())
    assert not (tmp_path / "run/model").exists()


def test_tensorboard_gets_every_epoch_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[tuple[str, float, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path / "run/tensorboard")

        def add_scalar(self, name: str, value: float, epoch: int) -> None:
            events.append((name, value, epoch))

        def close(self) -> None:
            events.append(("closed", 0.0, 0))

    fake = types.ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    monkeypatch.setattr(record, "find_spec", lambda name: object())
    run = train(small(epochs=2), blobs(), out=tmp_path / "run")
    losses = [event for event in events if event[0] == "loss"]
    assert losses == [("loss", row["loss"], i) for i, row in enumerate(run.history, start=1)]
    assert events[-1][0] == "closed"


def test_early_stop(tmp_path: Path) -> None:
    recipe = small(epochs=30, validation__early_stop__patience=2, validation__early_stop__minimum_gain=1.0)
    run = train(recipe, blobs(), out=tmp_path / "run", split=SPLIT)
    assert len(run.history) == 3  # the first is a rise, and two more are not
    with pytest.raises(InputError, match="no validation part"):
        train(recipe, blobs(), out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_last_weights_and_rare_validation(tmp_path: Path) -> None:
    recipe = small(epochs=5, validation__every=2, validation__keep="last")
    run = train(recipe, blobs(), out=tmp_path / "run", split=SPLIT)
    assert [int(row["epoch"]) for row in run.history if "mean_iou" in row] == [2, 4, 5]
    assert run.kept_epoch == 5
    tensors, _ = read(tmp_path / "run/checkpoints/last.safetensors")
    assert all(torch.equal(value, tensors[f"network/{name}"]) for name, value in weights(run).items())


VARIANTS: dict[str, tuple[dict[str, Any], int]] = {
    "tiles": ({"data": {"tile": 16}, "augmentation": {"quarter_turns": True}}, 2),
    "tiles, scaled after": ({"data": {"tile": 32, "scale": 0.5, "scale_when": "after"}}, 2),
    "whole images, scaled": ({"data": {"scale": 0.5}}, 2),
    "crops larger than the image": ({"data": {"crop": 64}}, 2),
    "four classes": ({"loss": {"kind": "focal", "class_weights": "balanced"}}, 4),
    "one logit": ({"network": {"base": 4, "depth": 1, "outputs": "single"}, "loss": {"kind": "weighted_bce"}}, 2),
    "VGG16": ({"network": {"kind": "vgg16_unet", "base": 2}, "normalize": "none"}, 3),
}


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_variants_train_and_load(name: str, tmp_path: Path) -> None:
    values, classes = VARIANTS[name]
    recipe = read_recipe({**small(epochs=1).to_dict(), **values})
    run = train(recipe, blobs(classes=classes), out=tmp_path / "run", split=SPLIT)
    loaded = run.load()
    assert loaded.contract.out_channels == (1 if recipe.network.outputs == "single" else classes)
    assert len(loaded.contract.classes) == classes
    assert loaded.contract.um_per_px == pytest.approx(0.25 / recipe.data.scale)
    assert np.isfinite(run.history[0]["loss"])


def test_arrays_of_every_kind(tmp_path: Path) -> None:
    data = blobs(2)
    kinds: dict[str, list[np.ndarray]] = {
        "uint16": [data.image(i).astype(np.uint16) * 200 for i in range(2)],
        "float32": [data.image(i).astype(np.float32) * 3.7 - 50 for i in range(2)],
    }
    for name, images in kinds.items():
        bright = pytest.warns(BainiteWarning, match=r"images reach 789.9, and float32 intensities are taken as 0…1")
        with bright if name == "float32" else nullcontext():
            run = train(
                small(epochs=1, augmentation__gamma=0.3, augmentation__brightness=0.1),
                images, [data.mask(i) for i in range(2)], tmp_path / name, classes=["matrix", "laths"],
            )  # fmt: skip
        assert run.load().contract.classes == ("matrix", "laths")
        scale = 65535 if name == "uint16" else 1
        assert run.load().contract.mean[0] == pytest.approx(np.mean(images) / scale, rel=1e-5)


def test_colour_images(tmp_path: Path) -> None:
    gray = blobs(2)
    images = [np.stack([255 - gray.image(i), gray.image(i), gray.image(i) // 2], axis=2) for i in range(2)]
    data = array_dataset(images, [gray.mask(i) for i in range(2)], gray=False)
    split = {"train": ["image 0"], "validation": ["image 1"]}
    run = train(small(epochs=2, augmentation__contrast=0.2), data, out=tmp_path / "run", split=split)
    contract = run.load().contract
    assert contract.in_channels == 3
    assert contract.mean == pytest.approx((images[0] / 255).mean(axis=(0, 1)).tolist(), rel=1e-6)


def test_a_class_that_the_validation_part_lacks_has_no_iou(tmp_path: Path) -> None:
    data = blobs(2, classes=3)
    images, masks = [data.image(i) for i in range(2)], [data.mask(0), np.minimum(data.mask(1), 1)]
    network = bainite_fast.models.UNet(1, 3, base=4, depth=1)
    with torch.no_grad():
        network.head.bias[2] = -1e3  # never answers 2
    names = ["class 0", "class 1", "class 2"]
    bainite_fast.models.save_package(network, tmp_path / "start", classes=names, test_input=images[0])
    recipe, split = small(epochs=1, optimiser__learning_rate=1e-9), {"train": ["image 0"], "validation": ["image 1"]}
    for resume in (False, True):
        run = train(
            recipe, images, masks, tmp_path / "run", split=split, classes=3, init=tmp_path / "start", resume=resume
        )
        assert run.scores is not None and np.isnan(run.scores["iou_2"]) and run.scores["mean_iou"] > 0
        assert run.to_dict()["scores"]["iou"]["class 2"] is None
        json.loads((tmp_path / "run/run.json").read_text(), parse_constant=pytest.fail)


def test_classes_that_nobody_names_take_the_names_of_the_package(tmp_path: Path) -> None:
    data = blobs(2)
    named = replace(data, class_names=("matrix", "laths"))
    start = train(small(epochs=1), named, out=tmp_path / "start")
    tuned = train(small(epochs=1), data, out=tmp_path / "tuned", init=start.package)
    assert tuned.class_names == tuned.load().contract.classes == ("matrix", "laths")
    other = replace(data, class_names=("ferrite", "bainite"))
    assert train(small(epochs=1), other, out=tmp_path / "o", init=start.package).class_names == other.class_names
    folds = bainite_fast.cross_validate(small(epochs=1), data, out=tmp_path / "cv", folds=2, init=start.package)
    assert folds.class_names == folds.folds[0].scores["whole images"].class_names == ("matrix", "laths")
    white = [255 * data.mask(i) for i in range(2)]
    run = train(small(epochs=1), [data.image(i) for i in range(2)], white, tmp_path / "white")
    shares = class_pixels(data) / sum(data.mask(i).size for i in range(2))
    card = (run.package / "card.md").read_text()
    assert f"class shares of the images.background: {shares[0]:.4g}" in card
    assert "classes of mask values.255: 1" in card
    assert json.loads((tmp_path / "white/run.json").read_text())["data"]["mask_values"] == {"0": 0, "255": 1}


def test_a_package_is_fine_tuned(trained: bainite_fast.TrainingRun, tmp_path: Path) -> None:
    recipe = small(epochs=1, optimiser__learning_rate=1e-6)
    run = train(recipe, blobs(seed=5), out=tmp_path / "tuned", split=SPLIT, init=trained.package)
    assert run.mean_iou is not None and run.mean_iou > 0.85  # a fresh network has not learned anything by then
    assert run.load().contract.mean == trained.load().contract.mean
    assert "| network.weights | the package blobs |" in (run.package / "card.md").read_text()
    assert "it starts from the package blobs" in describe_package(run.package)["trained_on"]
    assert "starts from" not in describe_package(trained.package)["trained_on"]
    with pytest.warns(BainiteWarning, match="last layer is made anew"):
        other = train(recipe, blobs(classes=3), out=tmp_path / "three", init=trained.package)
    before, after = weights(trained), weights(other)
    assert after["head.weight"].shape[0] == 3
    assert torch.allclose(before["centerconvr1.conv.weight"], after["centerconvr1.conv.weight"], atol=1e-4)
    with pytest.raises(ModelError, match="base 4 in the package and 8 in the recipe"):
        train(small(network__base=8), blobs(), out=tmp_path / "wide", init=trained.package)
    in_recipe = small(epochs=1, network__weights=str(trained.package))
    assert train(in_recipe, blobs(), out=tmp_path / "by-recipe").load().contract.mean == trained.load().contract.mean
    with pytest.raises(ModelError, match="does not exist"):
        train(small(network__weights="nowhere"), blobs(), out=tmp_path / "no")
    for model in (trained.package, None):  # what it starts from is not thrown away
        with pytest.raises(OutputExistsError, match="overwrite=True would throw away"):
            train(in_recipe, blobs(), out=trained.out, init=model, overwrite=True)
        with pytest.raises(OutputExistsError, match="overwrite=True would throw away"):
            bainite_fast.cross_validate(in_recipe, blobs(), out=trained.out.parent, folds=2, init=model, overwrite=True)
    assert trained.load().contract.name == "blobs"


@pytest.mark.parametrize(
    ("changes", "options", "error", "complaint"),
    [
        ({"data__tile": 16, "data__crop": None, "data__crops_per_image": None}, {"device": "tpu"}, DeviceError, "tpu"),
        ({}, {"device": "cuda:7"}, DeviceError, "not there"),
        ({"precision": "float16"}, {}, DeviceError, "GPUs only"),
        ({"network__outputs": "single"}, {"classes": 3}, InputError, "classes=3"),
        ({}, {"split": {"train": ["nobody"]}}, InputError, "nobody"),
        ({}, {"split": {"0": ["image 0"], "1": ["image 1"]}}, InputError, "folds"),
        ({"loss__class_weights": [1, 2, 3]}, {}, InputError, "3 class weights for 2"),
        ({"data__synthetic__preset": "lom"}, {}, InputError, "draws its images"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    changes: dict[str, Any], options: dict[str, Any], error: type[Exception], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=complaint):
        train(small(**changes), blobs(), out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_bad_images_are_refused(tmp_path: Path) -> None:
    data = blobs(2)
    images, masks = [data.image(i) for i in range(2)], [data.mask(i) for i in range(2)]
    for bad_images, bad_masks, complaint in (
        (images, [masks[0], masks[1][:-1]], "48 × 56.*47 × 56"),
        (images, [np.zeros_like(m) for m in masks], "one class only"),
        ([], [], "0 images"),
        ([np.full_like(x, 7) for x in images], masks, "one gray value"),
        (None, None, "no images"),
    ):
        with pytest.raises(InputError, match=complaint):
            train(small(), bad_images, bad_masks, tmp_path / "run")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="class"):
        train(small(), images, [m + 7 for m in masks], tmp_path / "run", classes=2)
    with pytest.raises(InputError, match="differ in size"):
        whole = small(data={})
        train(whole, [images[0], images[1][:-8]], [masks[0], masks[1][:-8]], tmp_path / "run")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        train(small(), tmp_path / "empty", tmp_path / "empty", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    only_one = {"train": ["image 0"], "validation": ["image 1"]}
    with pytest.raises(InputError, match="class 0.*only"):
        train(small(), images, [np.zeros_like(masks[0]), masks[1]], tmp_path / "run", split=only_one)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["auto", "float32", "float16"])
def test_a_gpu_learns_too(precision: str, tmp_path: Path) -> None:
    recipe = small(epochs=12, precision=precision, ema=0.9, augmentation__rotation=10, augmentation__noise=0.05)
    run = train(recipe, blobs(), out=tmp_path / "run", split=SPLIT, device="cuda")
    assert run.mean_iou is not None and run.mean_iou > 0.85
    assert run.device.startswith("cuda")
