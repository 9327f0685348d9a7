"""Each study on a tiny synthetic folder: the numbers in its table are those of the counts beside it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from unittest.mock import MagicMock

import imagecodecs
import numpy as np
import pytest
from typer.testing import CliRunner

import bainite_fast
from bainite_fast.cli.app import app
from bainite_fast.evaluation import recipe_study, tile_study
from bainite_fast.evaluation.folds import CrossValidation, FoldScores
from bainite_fast.evaluation.scores import Scores, from_counts
from bainite_fast.models import load
from bainite_fast.training import read_recipe

TINY = [
    "--epochs", "1", "--folds", "2", "--set", "network.base=2", "--set", "network.depth=1",
    "--set", "precision=float32", "--set", "batch=4", "--classes", "other,lath bainite", "--quiet",
]  # fmt: skip


def write(folder: Path, preset: str, seeds) -> Path:
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for seed in seeds:
        for kind, array in zip(
            ("images", "masks"), bainite_fast.synthetic.make((64, 80), preset=preset, seed=seed), strict=True
        ):
            (folder / kind / f"{preset}{seed}.png").write_bytes(imagecodecs.png_encode(array))
    return folder


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """Training curves take longer to draw than the networks here to train, and are tested elsewhere."""
    monkeypatch.setattr("bainite_fast.training.api.draw_curve", lambda *_: None)


@pytest.fixture(scope="module")
def steel(tmp_path_factory):
    root = tmp_path_factory.mktemp("steel")
    for preset in ("lom", "lom_contrast"):
        write(root / preset, preset, (3, 4, 5))
    return root


def run(*words: object):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stdout


def stored(folder: Path):
    """Return the scores of all folds of a cross-validation, by mode."""
    folds = [json.loads(path.read_text()) for path in sorted(folder.glob("seed*/fold*/scores.json"))]
    return {mode: [from_counts(fold[mode]) for fold in folds] for mode in folds[0]}


def test_table_of_recipes(steel, tmp_path, monkeypatch):
    line = ["study", "table1", "--lom", steel / "lom", "--out", tmp_path, "--recipes", "1,2",
            "--set", "data.tile=32", *TINY]  # fmt: skip
    found = json.loads(run(*line, "--json"))
    assert [row["recipe"] for row in found["rows"]] == ["1", "1", "2", "2"]
    for row in found["rows"]:
        folds = stored(tmp_path / "table1" / row["recipe"])[row["evaluated on"]]
        assert len(folds) == 2
        values = [fold.iou["lath bainite"] for fold in folds]
        assert row["IoU lath bainite"] == pytest.approx(np.mean(values))
        assert row["IoU lath bainite ±"] == pytest.approx(np.std(values, ddof=1))
        assert row["mean IoU"] == pytest.approx(np.mean([fold.mean_iou for fold in folds]))
        pixels = 3 * 64 * 80 if row["recipe"] == "1" else 3 * 32 * 40
        assert sum(fold.counts.sum() for fold in folds) == pixels
    assert "× 0.5 before" in found["rows"][2]["data"]
    folder = tmp_path / "table1"
    assert "| recipe 2 | 32 px | unknown | 6 | 3 |" in (folder / "tiles.md").read_text()
    rows = list(csv.DictReader((folder / "table1.csv").open()))
    assert float(rows[1]["mean IoU"]) == found["rows"][1]["mean IoU"]
    assert f"{found['rows'][3]['accuracy']:.4f}" in (folder / "table1.md").read_text()
    assert (folder / "table1.png").read_bytes()[:4] == b"\x89PNG"
    # The same command trains nothing again, and answers the same.
    monkeypatch.setattr("bainite_fast.evaluation.cross_validation.train", None)
    assert json.loads(run(*line, "--json")) == found


def test_a_study_begun_otherwise_is_thrown_away_on_request(steel, tmp_path):
    for what, sources, recipe in (
        ("table1", ["--lom", steel / "lom", "--recipes", "1"], "1"),
        ("fig4", ["--source", steel / "lom", "--target", steel / "lom_contrast", "--strengths", "0.1"], "the-recipes"),
    ):
        line = [str(x) for x in ("study", what, *sources, "--out", tmp_path, "--set", "data.tile=32", *TINY)]
        run(*line)
        done = CliRunner().invoke(app, [*line, "--set", "batch=3"])
        assert done.exit_code == 1
        assert f"{what}/{recipe} holds a" in done.stderr and "pass --overwrite to throw it away" in done.stderr
        run(*line, "--set", "batch=3", "--overwrite")
        run(*line, "--set", "batch=3")  # is the one that is there


def test_imagenet_weights_that_cannot_be_had_end_a_study_before_it_trains(steel, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe_study, "cross_validate", lambda *_, **__: pytest.fail("it trains"))
    line = ["study", "table1", "--lom", steel / "lom", "--out", tmp_path, "--imagenet", tmp_path / "none.pth", *TINY]
    line[line.index("network.base=2")] = "batch=4"
    line[line.index("network.depth=1")] = "batch=4"
    done = CliRunner().invoke(app, [str(word) for word in (*line, "--recipes", "1,3")])
    assert done.exit_code == 1
    assert "there is no file" in done.stderr


def test_copies_of_one_recipe_are_told_apart_by_their_files(steel, tmp_path, monkeypatch):
    for name in ("small", "large"):  # copied by hand: both are called 1 inside
        shutil.copy(bainite_fast.training.recipe_files.FOLDER / "1.yaml", tmp_path / f"{name}.yaml")
    called = []

    def stop(recipe, data, *, out, changes, **_):
        called.append((changes["name"], out.name))
        if len(called) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(recipe_study, "cross_validate", stop)
    for writer in ("recipe_table", "draw_recipes"):
        monkeypatch.setattr(recipe_study, writer, lambda *_: MagicMock())
    both = f"{tmp_path / 'small.yaml'},{tmp_path / 'large.yaml'}"
    line = ["study", "table1", "--lom", steel / "lom", "--out", tmp_path / "out", "--recipes", both, *TINY]
    assert CliRunner().invoke(app, [str(word) for word in line]).exit_code == 130
    assert called == [("small", "small"), ("large", "large")]
    text = (tmp_path / "out/table1/tiles.md").read_text()
    assert "| recipe small |" in text and "| recipe large |" in text


def test_what_would_end_a_study_half_way_ends_it_before_it_trains(steel, tmp_path, monkeypatch):
    for module in (recipe_study, tile_study):
        name = "cross_validate" if module is recipe_study else "run_recipe"
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("it trains"))
    copied = shutil.copy(bainite_fast.training.recipe_files.FOLDER / "2.yaml", tmp_path / "1.yaml")
    for words, said in (
        (["table1", "--recipes", f"1,{copied}"], "several recipes are called 1,"),
        (["table1", "--recipes", "1,2", "--set", "data.tile=33"], "tiles of 33 px do not fit the network"),
        (["table1", "--recipes", "1", "--set", "validation.early_stop.patience=3"], "1 stops early by a validation"),
        (["table1", "--recipes", "1", "--set", "loss.class_weights=[1,2,3]"], "3 class weights for 2 classes"),
        (["fig2", "--sizes", "32,33"], "tiles of 33 px do not fit the network"),
        (
            ["table1", "--recipes", "1", "--set", "data.tile=null", "--set", "data.crop=32", "--by", "tile"],
            "1 is for whole images; leave it out",
        ),
    ):
        line = ["study", *words, "--lom", str(steel / "lom"), "--out", str(tmp_path / "out"), *TINY]
        done = CliRunner().invoke(app, line)
        assert done.exit_code == 1
        assert said in " ".join(done.stderr.split())


def test_bars_on_tiles_of_several_sizes_say_which_is_which(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        recipe_study, "draw_bars", lambda path, groups, series, **k: drawn.append((groups, k["ylabel"]))
    )
    scores = Scores(("a", "b"), np.int64([[6, 2], [2, 6]]), ())
    done = [
        CrossValidation(read_recipe(name), tmp_path, ("a", "b"), (FoldScores(0, 0, {mode: scores}, tmp_path),))
        for name, mode in (("1", "tiles of 256 px"), ("2", "tiles of 128 px"))
    ]
    recipe_study.draw_recipes(tmp_path / "x.png", done)
    recipe_study.draw_recipes(tmp_path / "x.png", done[:1])
    assert drawn == [(["1\ntiles of 256 px", "2\ntiles of 128 px"], "IoU"), (["1"], "IoU, tiles of 256 px")]


def test_the_papers_recipes_are_all_there():
    from bainite_fast.training import recipe_names

    assert set(recipe_study.LOM_RECIPES) | set(recipe_study.SEM_RECIPES) <= set(recipe_names())


def test_table2_needs_sem(steel, tmp_path):
    done = CliRunner().invoke(app, ["study", "table2", "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert "sem" in done.stderr
    for words, complaint in (
        (["table2", "--lom", steel / "lom"], "--lom is not for table2"),
        (
            ["table1", "--lom", steel / "lom", "--sizes", "16"],
            "--sizes is not for table1, which takes --lom,",
        ),
        (["fig4", "--source", steel / "lom", "--target", steel / "lom", "--seeds", "2"], "fig4 trains once"),
        (["fig2", "--lom", steel / "lom", "--recipes", "1,5"], "fig2 takes one recipe, and 2 are named"),
    ):
        done = CliRunner().invoke(app, ["study", *map(str, words), "--out", str(tmp_path)])
        assert done.exit_code in (1, 2)
        assert complaint in " ".join(done.output.replace("│", " ").split())
    done = CliRunner().invoke(app, ["study", "table1", "--lom", str(tmp_path), "--out", str(tmp_path)])
    assert "images and masks in it" in done.stderr


def test_tile_sizes(steel, tmp_path, monkeypatch):
    draw, called = tile_study.draw_lines, []
    monkeypatch.setattr(tile_study, "draw_lines", lambda *a, **k: (called.append(k["ylabel"]), draw(*a, **k))[1])
    words = ["study", "fig2", "--lom", steel / "lom", "--sizes", "16,48", "--out", tmp_path]
    found = json.loads(run(*words, *TINY, "--json"))
    assert [(row["data"], row["tile px"]) for row in found["rows"]] == [("lom", 16), ("lom", 48)]
    for row in found["rows"]:
        scores = stored(tmp_path / "fig2" / f"{row['data']}-{row['tile px']}")
        tiles = np.mean([one.iou["lath bainite"] for one in scores[f"tiles of {row['tile px']} px"]])
        whole = np.mean([one.iou["lath bainite"] for one in scores["whole images"]])
        assert (row["IoU on tiles"], row["IoU on whole images"]) == (pytest.approx(tiles), pytest.approx(whole))
        assert row["whole minus tiles"] == pytest.approx(whole - tiles)
    assert (tmp_path / "fig2" / "fig2.png").exists()
    assert called[-1] == "IoU of lath bainite"  # as the caption of the table says
    assert "| lom, 16 px | 16 px | unknown | 60 | 3 | 0.0 % |" in (tmp_path / "fig2" / "tiles.md").read_text()


def test_generalisation(steel, tmp_path):
    words = ["study", "fig4", "--source", steel / "lom", "--target", steel / "lom_contrast", "--strengths", "0.1,0.3",
             "--set", "data.tile=32", "--out", tmp_path, *TINY]  # fmt: skip
    found = json.loads(run(*words, "--json"))
    assert len(found["rows"]) == 9
    folders = {"the recipe's": "the-recipes", "brightness and contrast 0.1": "brightness-and-contrast-0.1",
               "brightness and contrast 0.3": "brightness-and-contrast-0.3"}  # fmt: skip
    parts = {"source, kept back": "source", "target, searched on": "search", "target, reported": "target"}
    searched = {}
    for row in found["rows"]:
        content = json.loads((tmp_path / "fig4" / folders[row["augmentation"]] / "scores.json").read_text())
        scores = from_counts(content["scores"][parts[row["tested on"]]])
        assert row["IoU other"] == scores.iou["other"]
        assert row["error"] == pytest.approx(row["lath bainite found"] - row["lath bainite labelled"])
        if row["tested on"] == "target, searched on" and row["augmentation"] != "the recipe's":
            searched[row["augmentation"]] = row["mean IoU"]
    best = {row["augmentation"] for row in found["rows"] if row["searched best"]}
    assert best == {max(searched, key=searched.get)}
    assert "best of the searched strengths; the recipe's own augmentation is not among them" in found["caption"]
    recipe = content["identity"]["recipe"]["augmentation"]
    assert (recipe["brightness"], recipe["contrast"]) == (0.3, 0.6)
    assert list((tmp_path / "fig4" / "the-recipes" / "overlays").iterdir())
    assert json.loads(run(*words, "--json")) == found


@pytest.mark.filterwarnings("ignore:the temperature lies at the end")  # of a network that has learned next to nothing
def test_evaluate_agree_and_cross_validate_from_the_command_line(steel, tmp_path):
    data = ["--images", steel / "lom" / "images", "--masks", steel / "lom" / "masks"]
    done = json.loads(
        run("cross-validate", *data, "--out", tmp_path / "cv", "--set", "data.tile=32",
            "--tiles", "16,32", *TINY, "--json")
    )  # fmt: skip
    assert set(done["modes"]) == {"whole images", "tiles of 16 px", "tiles of 32 px"}
    model = tmp_path / "cv" / "seed0" / "fold0" / "run" / "model"
    trained_on = load(model).config.training["data"]["training images"]
    names = sorted({path.stem for path in (steel / "lom" / "images").iterdir()} - set(trained_on))[:2]
    (tmp_path / "list.txt").write_text("".join(f"{name}.png\n" for name in names))
    out = tmp_path / "calibrated"
    words = ["evaluate", model, *data, "--list", tmp_path / "list.txt", "--tolerance", "2"]
    text = run(*words, "--calibrate", out, "--overlays", tmp_path / "o", "--csv", tmp_path / "s.csv")
    found = json.loads(run(*words, "--json"))
    assert f"mean IoU {found['mean_iou']:.4f}" in text
    assert [one["name"] for one in found["images"]] == names
    assert len(found["tolerance"]) == 3
    pictures = [f"{name}.png" for name in names]
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["legend.txt", *pictures]
    assert "lath bainite was predicted, and the truth is other" in (tmp_path / "o" / "legend.txt").read_text()
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 1 + 3 * 2
    calibrated, plain = load(out), load(model)
    assert calibrated.contract.temperature != plain.contract.temperature == 1.0
    assert f"temperature {calibrated.contract.temperature:.3f}" in text
    assert np.allclose(calibrated.test_output, plain.test_output, atol=1e-5)
    assert (tmp_path / "calibrated.png").exists()
    again = json.loads(run("evaluate", out, *data, "--list", tmp_path / "list.txt", "--json"))
    assert again["counts"] == found["counts"]
    assert CliRunner().invoke(app, [str(w) for w in [*words, "--calibrate", out]]).exit_code == 1
    (tmp_path / "mine.png").write_text("mine")
    refused = CliRunner().invoke(app, [str(w) for w in [*words, "--calibrate", tmp_path / "mine.zip"]])
    assert refused.exit_code == 1 and "mine.png exists" in refused.stderr
    assert (tmp_path / "mine.png").read_text() == "mine"
    for place, what in ((model, "model is the model itself"), (model.parent, "which such a model does not")):
        refused = CliRunner().invoke(app, [str(w) for w in [*words, "--calibrate", place, "--overwrite"]])
        assert refused.exit_code == 1 and f"{what}: it is not replaced" in " ".join(refused.stderr.split())
    assert load(model).contract == plain.contract
    masks, copied = steel / "lom" / "masks", shutil.copytree(steel / "lom" / "masks", tmp_path / "copied")
    assert json.loads(run("agree", masks, copied, "--json"))["kappa"] == 1.0
    bad = CliRunner().invoke(app, ["agree", str(masks), str(masks), "--mask-value", "red"])
    assert bad.exit_code == 1
    assert "VALUE=CLASS" in bad.stderr
