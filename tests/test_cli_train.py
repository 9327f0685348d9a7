"""``bainite-fast train`` and ``recipes`` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

from bainite_fast import training
from bainite_fast.cli import app
from bainite_fast.errors import BainiteWarning, InputError
from bainite_fast.evaluation import cross_validate
from bainite_fast.models import load_package
from bainite_fast.training import Progress, read_recipe, recipe_names, search, train
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
    (folders / "images/alone.png").unlink()
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
        (["--set", "loss.alhpa=2"], "alhpa: there is no such key", 1),
        (["--set", "loss"], "sets nothing", 1),
        (["--init", "nowhere"], "there is no model 'nowhere'", 1),
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
    done = run("train", "--out", folders / "out")
    assert done.exit_code == 1 and "give --images DIR and --masks DIR" in done.output


def test_a_stopped_run_says_how_to_go_on(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bainite_fast.cli import _train

    def stop(step: object, *, quiet: bool) -> object:
        def made(now: Progress) -> None:
            if now.step == 3:
                raise KeyboardInterrupt

        return made

    with monkeypatch.context() as patch:
        patch.setattr(_train, "watch", stop)
        done = run(*common(folders), "--out", folders / "out")
    assert done.exit_code == 130
    assert "pass --resume to go on" in run(*common(folders), "--out", folders / "out").stderr
    assert "--resume goes on" in done.stderr
    assert not (folders / "out/model").exists()
    done = run(*common(folders), "--out", folders / "out", "--resume")
    assert done.exit_code == 0 and "goes on with epoch 2 of 3" in done.stderr
    assert len((folders / "out/metrics.csv").read_text().splitlines()) == 4


def test_recipes_are_listed_and_copied(tmp_path: Path) -> None:
    listed = run("recipes")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(recipe_names())
    assert json.loads(run("recipes", "--json").stdout)["2v"]["data"]["scale_when"] == "after"
    done = run("recipes", "--copy", "vgg16", tmp_path / "mine.yaml")
    assert done.exit_code == 0 and "mine.yaml" in done.stdout
    assert read_recipe(tmp_path / "mine.yaml") == read_recipe("vgg16")
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
    assert run(*line, "--trials", 3).exit_code == 1
    more = run(*line, "--trials", 3, "--resume")
    assert len(json.loads(more.stdout)["trials"]) == 3
    recipe = folders / "found/best.yaml"
    done = run(*common(folders)[:-1], recipe, "--out", folders / "out", "--quiet")
    assert done.exit_code == 0, done.output
    wrong = run(*line[:-1], "--set", "loss.kind=dice", "--out", folders / "other")
    assert wrong.exit_code == 1 and "label_smoothing: there is no such key" in wrong.output
