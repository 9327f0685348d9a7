"""Searches: a planted optimum is found, a stopped search goes on, what is given up is given up."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bainite_fast.errors import InputError, JournalError, OutputExistsError, TrainingError
from bainite_fast.training import Recipe, read_recipe, read_space, search
from training_helpers import SPLIT, blobs, small

PLANTED = {
    "optimiser.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True},
    "loss.alpha": {"low": 0.5, "high": 4.0},
    "augmentation.rotation": {"low": 0, "high": 90},
    "network.base": {"choices": [4, 8, 16]},
}
GRID = {"loss.gamma": {"low": 0, "high": 2, "step": 0.5}, "network.base": {"choices": [4, 8]}}


def landscape(recipe: Recipe, report: Callable[[int, float], None]) -> float:
    """1 at the learning rate 1e-3, α 1.5, no rotation and base 8; less elsewhere."""
    alpha: float = recipe.loss.alpha  # type: ignore[union-attr]
    distance = (
        (math.log10(recipe.optimiser.learning_rate) + 3) ** 2
        + (alpha - 1.5) ** 2
        + (recipe.augmentation.rotation / 45) ** 2
        + (math.log2(recipe.network.base) - 3) ** 2
    )
    score = math.exp(-distance / 2)
    report(1, score)
    return score


def test_tpe_finds_a_planted_optimum_and_writes_its_recipe(tmp_path: Path) -> None:
    space = {name: PLANTED[name] for name in ("optimiser.learning_rate", "loss.alpha", "network.base")}
    found = search({"space": space, "trials": 40, "prune": False, "seed": 1}, out=tmp_path / "out", objective=landscape)
    assert found.score > 0.9
    assert found.recipe.network.base == 8
    assert 10**-3.5 < found.recipe.optimiser.learning_rate < 10**-2.5
    scores = [trial["score"] for trial in found.trials]
    assert found.score == max(scores)
    assert sum(scores[20:]) > 1.5 * sum(scores[:20])  # it learns where to look
    written = read_recipe(tmp_path / "out/best.yaml")
    assert written == found.recipe
    assert landscape(written, lambda *_: None) == pytest.approx(found.score)
    assert "best score" in str(found) and "40 complete" in str(found)


def test_overwrite_throws_away_a_search_and_nothing_else(tmp_path: Path) -> None:
    out, space = tmp_path / "out", {"space": PLANTED, "trials": 3}
    search(space, out=out, objective=landscape)
    (out / "trials/trial-0000").mkdir(parents=True)
    again = search({**space, "trials": 2, "seed": 7}, out=out, objective=landscape, overwrite=True)
    assert len(again.trials) == 2 and not (out / "trials").exists()
    with pytest.raises(InputError, match="choose one"):
        search(space, out=out, objective=landscape, overwrite=True, resume=True)
    (out / "thesis.txt").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/thesis.txt").write_text("mine")
    for folder in (out, tmp_path / "elsewhere"):
        with pytest.raises(OutputExistsError, match="no search's .thesis.txt."):
            search(space, out=folder, objective=landscape, overwrite=True)
        assert (folder / "thesis.txt").exists()
    assert (out / "study.db").exists()


def stopping(after: int, seen: list[Any]) -> Any:
    def objective(recipe: Recipe, report: Callable[[int, float], None]) -> float:
        if len(seen) == after:
            raise KeyboardInterrupt
        seen.append((recipe.loss.gamma, recipe.network.base, recipe.optimiser.learning_rate))  # type: ignore[union-attr]
        return landscape(recipe, report)

    return objective


@pytest.mark.parametrize("sampler", ["grid", "random", "tpe"])
def test_a_stopped_search_goes_on(sampler: str, tmp_path: Path) -> None:
    space = {
        "sampler": sampler,
        "space": GRID if sampler == "grid" else PLANTED,
        "trials": 10 if sampler == "grid" else 8,
        "prune": False,
    }
    out, seen = tmp_path / "out", list[Any]()
    with pytest.raises(KeyboardInterrupt):
        search(space, out=out, objective=stopping(4, seen))
    assert (out / "best.yaml").exists()
    with pytest.raises(OutputExistsError, match="resume=True"):
        search(space, out=out, objective=stopping(99, seen))
    done: list[int] = []
    found = search(space, out=out, objective=stopping(99, seen), resume=True, progress=lambda n, total: done.append(n))
    total = 10 if sampler == "grid" else 8
    assert done == list(range(4, total + 1))
    assert len(seen) == len(found.trials) == total
    assert len(set(seen)) == total  # nothing twice, and of a grid everything once
    more = search({**space, "trials": 10}, out=out, objective=stopping(99, seen), resume=True)
    assert len(more.trials) == 10
    with pytest.raises(JournalError, match=r"another space \(seed was 0 and is 5\)"):
        search({**space, "seed": 5}, out=out, objective=landscape, resume=True)
    with pytest.raises(JournalError, match=r"another recipe \(epochs was 250 and is 3\)"):
        search(space, out=out, objective=landscape, resume=True, recipe=read_recipe("vanilla", changes={"epochs": 3}))


def test_bad_trials_are_pruned_and_nan_is_an_answer(tmp_path: Path) -> None:
    ended: list[int] = []

    def objective(recipe: Recipe, report: Callable[[int, float], None]) -> float:
        number = int(recipe.name.rpartition("-")[2])
        if number == 3:
            raise TrainingError("NaN")
        if number == 4:
            return math.nan
        for epoch in range(1, 6):
            report(epoch, 0.9 if number < 7 else 0.1)
        ended.append(number)
        return 0.9

    found = search({"space": PLANTED, "trials": 10, "sampler": "random"}, out=tmp_path / "out", objective=objective)
    assert [t["state"] for t in found.trials] == [*["complete"] * 3, "fail", "fail", *["complete"] * 2, *["pruned"] * 3]
    assert ended == [0, 1, 2, 5, 6]


def test_a_search_trains_and_keeps_the_best_model_only(tmp_path: Path) -> None:
    space = {"space": {"optimiser.learning_rate": {"choices": [1e-2, 1e-7]}}, "sampler": "grid"}
    out, options = tmp_path / "out", {"recipe": small(epochs=4), "split": SPLIT}
    out.mkdir()
    (out / ".lock").touch()  # as of a search that was killed before it began
    first = search({**space, "trials": 1}, blobs(), None, out, **options)
    assert [path.parent.name for path in (out / "trials").glob("*/model")] == ["trial-0000"]
    found = search(space, blobs(), None, out, resume=True, **options)
    assert found.score == first.score and len(found.trials) == 2
    assert found.values == {"optimiser.learning_rate": 1e-2}
    assert found.recipe.name == "small-searched"
    by_rate = {trial["optimiser.learning_rate"]: trial for trial in found.trials}
    assert by_rate[1e-2]["score"] > by_rate[1e-7]["score"]
    # What follows is worse, though the best of its own run: the best model of all stays.
    assert [path.parent.name for path in (out / "trials").glob("*/model")] == ["trial-0000"]
    assert len(list((out / "trials").glob("*/metrics.csv"))) == 2
    with pytest.raises(JournalError, match="begun with other data"):
        search(space, blobs(seed=3), None, out, recipe=small(epochs=4), split=SPLIT, resume=True)
    other = {"train": SPLIT["train"][:2], "validation": ["image 3"]}
    with pytest.raises(JournalError, match="begun with another split"):  # its scores are of another part
        search(space, blobs(), None, out, recipe=small(epochs=4), split=other, resume=True)


@pytest.mark.parametrize(
    ("space", "complaint"),
    [
        (
            {"space": {"loss.alhpa": {"low": 1, "high": 2}}},
            r"loss.alhpa = 1.0: there is no such key \(did",
        ),
        ({"space": {"loss.alpha": {"low": -1, "high": 2}}}, "alpha"),
        ({"space": {"loss.alpha": {"low": 3, "high": 2}}}, "not below"),
        ({"space": {"loss.alpha": {"low": 0, "high": 2, "log": True}}}, "positive low"),
        ({"space": {"network.base": {"low": 4, "high": 8.5, "integer": True}}}, "whole numbers"),
        ({"space": {"loss.alpha": {"low": 1, "high": 2}}, "sampler": "grid"}, "needs a step"),
        ({"space": {"network.base": {"low": 4, "high": 8}}}, "may try network.base = 6.472.* valid integer"),
        ({"space": {"network.base": {"low": 4, "high": 8, "step": 0.5}}}, "network.base = 4.5"),
        ({"space": {"data.crop": {"low": 32, "high": 512, "integer": True}}}, "not a multiple of 16"),
        (
            {"space": {"network.depth": {"choices": [4, 5]}, "data.crop": {"choices": [48, 96]}}},
            "may try network.depth = 5, data.crop = 48, and .* not a multiple of 32",
        ),
        ({"space": {**PLANTED, "loss.kind": {"choices": ["focal", "dice"]}}}, "loss.kind = dice, and .*loss.alpha"),
        ({"space": {}}, "space"),
        ({"space": PLANTED, "sampler": "magic"}, "sampler"),
        ("nowhere", "no search space 'nowhere'"),
    ],
)
def test_bad_spaces(space: Any, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=complaint):
        search(space, out=tmp_path / "out", objective=landscape)
    assert not (tmp_path / "out").exists()


def test_a_search_needs_something_to_score_on(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="validation part"):
        search({"space": {"batch": {"choices": [2, 4]}}}, blobs(), None, tmp_path / "out", recipe=small())
    with pytest.raises(InputError, match="leave images, masks and split out"):
        search({"space": {"batch": {"choices": [2, 4]}}}, blobs(), out=tmp_path / "out", objective=landscape)


def test_the_default_space_fits_the_vanilla_recipe() -> None:
    space = read_space("default")
    space.check(read_recipe("vanilla"))
    assert {"loss.alpha", "loss.gamma", "optimiser.learning_rate", "network.base"} < set(space.space)
    together = {"loss.kind": {"choices": ["focal", "dice"]}, "data.crop": {"low": 32, "high": 320, "step": 16}}
    read_space({"space": together}).check(read_recipe("vanilla"))
    read_space({"space": {"loss.smooth": {"low": 1, "high": 2}, "loss.kind": {"choices": ["dice"]}}}).check(
        read_recipe("vanilla")
    )
