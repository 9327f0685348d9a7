"""``bainite-fast train`` and ``recipes`` as a user runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

from bainite_fast import training
from bainite_fast.cli import _train, app
from bainite_fast.errors import BainiteWarning, InputError
from bainite_fast.evaluation import cross_validate
from bainite_fast.models import load_package
from bainite_fast.training import read_recipe, recipe_names, search, train
from bainite_fast.training.loop import Trainer
from training_helpers import SMALL, blobs


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    data = blobs()
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(4):
        Image.fromarray(data.image(i)).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(data.mask(i)).save(tmp_path / "masks" / f"{i}.png")
    (tmp_path / "split.json").write_text(json.dumps({"train": ["0", "1", "2"], "validate": ["3"]}))
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    return tmp_path


def common(folder: Path) -> list[object]:
    return ["train", "--images", folder / "images", "--masks", folder / "masks", "--recipe", folder / "small.yaml"]


def test_from_folders_to_a_model(folders: Path) -> None:
    done = run(
        *common(folders), "--out", folders / "out", "--split", folders / "split.json", "--epochs", 2, "--seed", 4,
        "--set", "optimiser.learning_rate=5e-3", "--set", "loss.kind=dice", "--classes", "matrix,laths",
        "--um-per-px", 0.5, "--name", "laths-1", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["epochs"] == 2
    assert set(result["scores"]["iou"]) == {"matrix", "laths"}
    assert "epoch 2 of 2: loss" in done.stderr and "train: 100 %" in done.stderr
    contract = load_package(folders / "out/model").contract
    assert (contract.name, contract.classes, contract.um_per_px) == ("laths-1", ("matrix", "laths"), 0.5)
    recipe = read_recipe(folders / "out/recipe.yaml")
    assert (recipe.seed, recipe.epochs, recipe.optimiser.learning_rate, recipe.loss.kind) == (4, 2, 5e-3, "dice")
    again = run(*common(folders), "--out", folders / "out")
    assert again.exit_code == 1 and "holds a finished training run" in again.stderr and "--overwrite" in again.stderr


def test_a_model_says_what_is_known_of_it_and_nothing_else(folders: Path) -> None:
    told = "cast steel, Nital, SEM"
    line = [*common(folders), "--epochs", 1, "--quiet", "--set", "description=small U-Net for trials"]
    for options, out in ((["--description", told], "told"), ([], "untold")):
        done = run(*line, *options, "--out", folders / out)
        assert done.exit_code == 0, done.output
    found = {out: run("info", folders / out / "model").stdout for out in ("told", "untold")}
    source = "images given by the user (not drawn by the package)"
    for text in found.values():
        lines = text.splitlines()
        assert f"trained on    {source}, 4 of them" in lines
        assert "recipe        small: small U-Net for trials" in lines
        assert f"- source: {source}" in lines
        for word in ("real micrographs", "validation images", "Scores", "|"):
            assert word not in text
    assert f"about         {told}" in found["told"].splitlines() and found["told"].count(told) == 2
    assert "about" not in found["untold"].split("Recipe\n")[0]
    scored = run(*line, "--split", folders / "split.json", "--out", folders / "scored")
    assert scored.exit_code == 0, scored.output
    text = run("info", folders / "scored/model").stdout
    assert "- validation images: 3" in text and "Scores\n------\n\nscore " in text


def test_values_of_masks_are_given_meaning(folders: Path) -> None:
    for path in (folders / "masks").iterdir():
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.where(mask == 1, 70, 200).astype(np.uint8)).save(path)
    meaning = ["--mask-value", "200=0", "--mask-value", "70=1"]
    refused = run(*common(folders), "--out", folders / "out")
    assert refused.exit_code == 1 and "--mask-value VALUE=CLASS" in refused.stderr
    (folders / "images/alone.png").write_bytes((folders / "images/0.png").read_bytes())
    line = [*common(folders), *meaning, "--epochs", 1]
    assert run(*line, "--out", folders / "quiet", "--quiet").stderr == ""
    with pytest.warns(BainiteWarning, match="1 image without a mask left out"):
        training.dataset.read_dataset(folders / "images", folders / "masks", mask_values={200: 0, 70: 1})
    (folders / "images/alone.png").rename(folders / "masks/alone.png")
    with pytest.warns(BainiteWarning, match="1 mask without an image left out"):
        training.dataset.read_dataset(folders / "images", folders / "masks", mask_values={200: 0, 70: 1})
    (folders / "masks/alone.png").unlink()
    done = run(*line, "--out", folders / "out")
    assert done.exit_code == 0, done.output
    assert "1 epoch in" in done.stdout
    assert done.stderr.count("train: 100 %") == 1
    share = np.mean([blobs().mask(i).mean() for i in range(4)])
    record = json.loads((folders / "out/run.json").read_text())
    assert record["data"]["class_shares"]["foreground"] == pytest.approx(share)
    (folders / "space.yaml").write_text(yaml.safe_dump({"space": {"batch": {"choices": [4]}}, "trials": 1}))
    line = ["search", *common(folders)[1:], "--space", folders / "space.yaml", "--split", folders / "split.json"]
    found = run(*line, *meaning, "--epochs", 1, "--out", folders / "found")
    assert found.exit_code == 0, found.output
    assert "of 1 trial (" in found.stdout
    # The same from Python: with the meaning, what is complained of is the next mistake.
    where, values, space = (
        (folders / "images", folders / "masks"),
        {200: 0, 70: 1},
        {"space": {"batch": {"choices": [4]}}},
    )
    for options, complaints in (
        ({}, ("mask_values",) * 3),
        ({"mask_values": values}, ("nobody", "validation part", "9 folds are asked for, of 4 micrographs")),
    ):
        with pytest.raises(InputError, match=complaints[0]):
            train(SMALL, *where, folders / "no", split={"train": ["nobody"]}, **options)
        with pytest.raises(InputError, match=complaints[1]):
            search(space, *where, folders / "no", recipe=SMALL, **options)
        with pytest.raises(InputError, match=complaints[2]):
            cross_validate(SMALL, *where, folders / "no", folds=9, **options)
    with pytest.raises(InputError, match="a data set holds masks"):
        train(SMALL, blobs(), out=folders / "no", mask_values=values)


def test_a_drawn_data_set_needs_no_files_and_marks_the_model(tmp_path: Path) -> None:
    source = {"preset": "lom", "images": 2, "shape": [64, 64], "seed": 1}
    drawn = {**SMALL, "epochs": 1, "data": {"crop": 32, "synthetic": source}}
    (tmp_path / "drawn.yaml").write_text(yaml.safe_dump(drawn))
    done = run("train", "--recipe", tmp_path / "drawn.yaml", "--out", tmp_path / "out", "--quiet")
    assert done.exit_code == 0, done.output
    contract = load_package(tmp_path / "out/model").contract
    assert contract.synthetic_only
    assert contract.classes == ("other", "lath bainite")
    assert contract.um_per_px == pytest.approx(0.1266)
    refused = run("train", "--recipe", tmp_path / "drawn.yaml", "--images", tmp_path, "--masks", tmp_path, "--out", "x")
    assert refused.exit_code == 1 and "draws its images" in refused.stderr


def test_mistakes_are_one_line_and_write_nothing(folders: Path) -> None:
    mistakes = [
        (["--set", "loss.alhpa=2"], "the setting loss.alhpa = 2: there is no such key (did you mean loss.alpha?)", 1),
        (
            ["--set", "lr=0.1"],
            "error: the setting lr = 0.1: there is no such key (did you mean optimiser.learning_rate?)",
            1,
        ),
        (["--set", "loss.label_smothing=1"], "(did you mean loss.label_smoothing?)", 1),
        (["--set", "optimizer.weight_decay=1"], "did you mean optimiser.weight_decay?", 1),
        (["--set", "batch=0"], "error: the setting batch = 0: Input should be greater than 0", 1),
        (["--set", "loss={kind: dice, smoth: 1}"], "smoth: there is no such key (did you mean loss.smooth?)", 1),
        (["--set", "zzzz=1"], "the setting zzzz = 1: there is no such key; `bainite-fast recipes", 1),
        (["--set", "epochs=0"], "the setting epochs = 0: Input should be greater than 0", 1),
        (["--set", "loss"], "sets nothing; write NAME=VALUE, for example loss.alpha=2", 1),
        (["--init", "nowhere"], "there is no model 'nowhere'", 1),
        (["--mask-value", "0=0", "--mask-value", "0=1"], "'0=1' contradicts 0=0; choose one", 1),
        (["--split", folders / "nowhere.json"], "nowhere.json", 1),
        (["--classes", "1"], "at least 2", 2),
        (["--device", "cuda:9"], "not there", 1),
        (["--init", "lath-bainite-synthetic"], "another architecture", 1),
    ]
    for options, complaint, status in mistakes:
        done = run(*common(folders), "--out", folders / "out", *options)
        assert done.exit_code == status, done.output
        assert complaint in " ".join(done.output.split()), done.output
        assert not (folders / "out").exists()
    Image.new("L", (10, 10)).save(folders / "masks/0.png")
    done = run(*common(folders), "--out", folders / "out")
    assert done.exit_code == 1 and "10 × 10 px" in done.output
    done = run("train", "--images", folders / "images/0.png", "--masks", folders / "masks", "--out", folders / "out")
    assert done.exit_code == 1 and "0.png is a file, and a folder of images is needed" in done.output
    done = run("train", "--out", folders / "out")
    assert done.exit_code == 1 and "give --images DIR and --masks DIR" in done.output


def press_ctrl_c(monkeypatch: pytest.MonkeyPatch, *, before: int, times: int = 1) -> None:
    """Send SIGINT to this process while a step is trained."""
    whole = Trainer._backward

    def backward(self: Trainer, *arguments: Any) -> Any:
        if self.place.step == before:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return whole(self, *arguments)

    monkeypatch.setattr(Trainer, "_backward", backward)


def test_a_stopped_run_says_how_to_go_on(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        press_ctrl_c(patch, before=2)
        done = run(*common(folders), "--out", folders / "out")
    assert done.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is handler
    assert "stopping after this step" in done.stderr
    assert (
        f"interrupted: the run is kept after 3 steps in {folders / 'out'}; the same command with --resume goes on"
        in done.stderr
    )
    assert "pass --resume to go on" in run(*common(folders), "--out", folders / "out").stderr
    assert not (folders / "out/model").exists()
    done = run(*common(folders), "--out", folders / "out", "--resume")
    assert done.exit_code == 0 and "goes on with epoch 2 of 3" in done.stderr
    assert len((folders / "out/metrics.csv").read_text().splitlines()) == 4


def test_resuming_where_no_run_is_says_that_a_new_one_begins(folders: Path) -> None:
    line, words = [*common(folders), "--epochs", 1, "--resume"], "to go on with; a new one begins"
    assert f"there is no run in {folders / 'out'} {words}" in run(*line, "--out", folders / "out").stderr
    assert words not in run(*line, "--out", folders / "out").stderr
    assert words not in run(*line, "--out", folders / "other", "--quiet").stderr
    assert words not in run(*line, "--out", folders / "images").stderr  # which is refused
    assert (folders / "other/model").is_dir()


def test_a_second_ctrl_c_stops_at_once(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    press_ctrl_c(monkeypatch, before=3, times=2)
    done = run(*common(folders), "--out", folders / "out")
    assert done.exit_code == 130
    assert "interrupted: the run is kept after 2 steps" in done.stderr  # those of the first epoch


@pytest.mark.parametrize("where", ["open_data", "backward"])
def test_a_run_that_was_stopped_before_it_kept_a_step_begins_anew(
    folders: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def stop(*arguments: object, **options: object) -> None:
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        if where == "open_data":
            patch.setattr(_train, "open_data", stop)
        else:
            press_ctrl_c(patch, before=0, times=2)
        done = run(*common(folders), "--out", folders / "out")
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-1].endswith(
        "nothing was finished that could be kept; the same command begins anew"
    )
    again = run(*common(folders), "--out", folders / "out", "--epochs", 1)
    assert again.exit_code == 0, again.output


def test_jobs_of_several_runs_say_how_to_go_on(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``search`` goes on with --resume, ``cross-validate`` and ``study`` by the same command."""
    (folders / "lom").mkdir()
    for name in ("images", "masks"):
        (folders / name).rename(folders / "lom" / name)
    both = ["--images", folders / "lom/images", "--masks", folders / "lom/masks", "--out", folders / "out"]
    jobs = [
        (["search", *both], "bainite_fast.training.search", "out/study.db", "the same command with --resume goes on"),
        (["cross-validate", *both], "bainite_fast.evaluation.cross_validate", "out/cross_validation.json",
         "the same command goes on"),
        (["study", "table1", "--lom", folders / "lom", "--out", folders / "out"],
         "bainite_fast.evaluation.study_recipes", "out/table1/tiles.md", "the same command goes on"),
    ]  # fmt: skip
    for line, function, begun, how in jobs:
        for left in (None, folders / begun):

            def stop(*arguments: object, left: Path | None = left, **options: object) -> None:
                if left is not None:
                    left.parent.mkdir(parents=True, exist_ok=True)
                    left.touch()
                raise KeyboardInterrupt

            monkeypatch.setattr(function, stop)
            done = run(*line)
            assert done.exit_code == 130, done.output
            told = _train.NOTHING_KEPT if left is None else f"what is finished is kept in {left.parent}; {how}"
            assert done.stderr.splitlines()[-1] == f"interrupted: {told}"


def test_a_dry_run_tells_and_writes_nothing(folders: Path) -> None:
    line = [*common(folders), "--out", folders / "out", "--split", folders / "split.json", "--threads", 1, "--dry-run"]
    done = run(*line)
    assert done.exit_code == 0, done.output
    for words in ("3 to learn from", "6 crops of 32 px, 2 steps of 4", "6 steps", "halo", "cpu, 1 thread", "(new)"):
        assert words in done.stdout
    assert not (folders / "out").exists()
    found = json.loads(run(*line, "--json", "--epochs", 5).stdout)
    assert (found["steps"], found["output"], found["steps_kept"]) == (10, str(folders / "out"), 0)
    assert found["seconds"] >= 10 * found["seconds_per_step"] > 0
    (folders / "out").mkdir()
    (folders / "out/thesis.txt").write_text("mine")
    refused = run(*line)
    assert refused.exit_code == 1 and "thesis.txt" in refused.stderr


def test_the_expected_time_is_said_once() -> None:
    times = iter([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    estimate = _train.Estimate(lambda: next(times))
    said = [estimate.update(done, 1005) for done in range(7)]
    assert said[5] == "a step takes 1.0 s: about 16 min 40 s for the 1,000 steps to go, validation not counted"
    assert said[:5] == [""] * 5 and said[6] == ""
    slow = iter([0.0, 50.0])
    estimate = _train.Estimate(lambda: next(slow))
    assert [estimate.update(7, 9), estimate.update(8, 9)][1].startswith("a step takes 50 s: about 50 s for the 1 step")


def test_threads_that_wait_sleep() -> None:
    """PyTorch's threads spin by default, which is many times slower where the cores are busy with other work."""
    told = "import os, sys; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    line = [sys.executable, "-c", f"from bainite_fast.cli._train import tune_training; tune_training(); {told}"]
    kept = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    for given, expected in (({}, "passive False"), ({"OMP_WAIT_POLICY": "active"}, "active False")):
        done = subprocess.run(line, env={**kept, **given}, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected


def test_recipes_are_listed_and_copied(tmp_path: Path) -> None:
    listed = run("recipes")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(recipe_names())
    assert json.loads(run("recipes", "--json").stdout)["2v"]["data"]["scale_when"] == "after"
    done = run("recipes", "--copy", "vgg16", tmp_path / "mine.yaml")
    assert done.exit_code == 0 and "mine.yaml" in done.stdout
    mine, theirs = read_recipe(tmp_path / "mine.yaml"), read_recipe("vgg16")
    assert mine.name == "mine" and mine.description == f"copy of vgg16 ({theirs.description})"
    assert mine == theirs.model_copy(update={"name": mine.name, "description": mine.description})
    assert run("recipes", "--copy", "vgg16", tmp_path / "mine.yaml").exit_code == 1


def test_a_search_writes_a_recipe_that_trains(folders: Path) -> None:
    assert run("recipes", "--copy-space", folders / "space.yaml").exit_code == 0
    assert "loss.alpha" in yaml.safe_load((folders / "space.yaml").read_text())["space"]
    space = {"space": {"batch": {"choices": [2, 4]}, "loss.label_smoothing": {"low": 0, "high": 0.2}}}
    (folders / "space.yaml").write_text(yaml.safe_dump(space))
    line = ["search", *common(folders)[1:], "--space", folders / "space.yaml", "--out", folders / "found"]
    line += ["--split", folders / "split.json", "--epochs", 1, "--sampler", "random", "--json"]
    done = run(*line, "--trials", 2)
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["trials"]) == 2
    assert "search: 100 %, 2 of 2 trials" in done.stderr
    refused = run(*line, "--trials", 3)
    assert refused.exit_code == 1 and "--resume" in refused.stderr and "--overwrite" in refused.stderr
    more = run(*line, "--trials", 3, "--resume")
    assert len(json.loads(more.stdout)["trials"]) == 3
    assert "there is no search" not in more.stderr
    mistyped = run(*line, "--trials", 1, "--resume", "--out", folders / "fuond")
    assert f"there is no search in {folders / 'fuond'} to go on with; a new one begins" in mistyped.stderr
    anew = run(*line, "--trials", 1, "--overwrite")
    assert anew.exit_code == 0 and len(json.loads(anew.stdout)["trials"]) == 1
    recipe = folders / "found/best.yaml"
    told = run(*line[:-1], "--trials", 1, "--resume").stdout.splitlines()[0]
    assert told == f"best validation mean IoU {json.loads(anew.stdout)['score']:.4f} of 1 trial (1 complete):"
    assert "Best of a search: validation mean IoU 0." in read_recipe(recipe).description
    done = run(*common(folders)[:-1], recipe, "--out", folders / "out", "--quiet")
    assert done.exit_code == 0, done.output
    wrong = run(*line[:-1], "--set", "loss.kind=dice", "--out", folders / "other")
    assert wrong.exit_code == 1 and "label_smoothing = 0.0: this kind of loss has no such key" in wrong.output
