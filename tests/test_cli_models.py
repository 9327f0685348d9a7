"""Models on the command line: listed, described, exported."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from bainite_fast.cli import app
from bainite_fast.cli._card import readable
from bainite_fast.models import DEFAULT_MODEL, VGG16UNet, load, save_package

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, [str(x) for x in arguments])


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return save_package(
        VGG16UNet(base=2),
        tmp_path_factory.mktemp("packages") / "laths.zip",
        classes=("ferrite", "bainite"),
        test_input=np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8),
        description="laths in etched sections",
        training={"data": "40 micrographs"},
        recipe={"loss": {"alpha": 1.5}},
        scores=[
            {"metric": "IoU", "class_name": "bainite", "value": 0.8125, "data": "5 folds", "low": 0.79, "high": 0.83,
             "interval": "95 % t-interval"},
        ],
        temperature=1.25,
    )  # fmt: skip


def test_the_list_says_what_kind_of_network(run: Run) -> None:
    done = run("models")
    assert done.exit_code == 0
    kinds = [line.split()[1:] for line in done.stdout.splitlines() if line.strip().startswith("network")]
    assert kinds == [["U-Net"], ["U-Net"]]
    found = json.loads(run("models", "--json").stdout)
    assert {name: model["kind"] for name, model in found.items()} == {DEFAULT_MODEL: "unet", "uhcs": "unet"}


def test_a_card_is_readable_in_a_terminal(run: Run) -> None:
    text = run("info", "uhcs").stdout
    assert "|" not in text and "{" not in text and "**" not in text and "##" not in text
    assert "Scores\n------\n" in text
    rows = [line for line in text.splitlines() if "test images of the published split" in line]
    assert len(rows) == 6 and len({line.index("4 test images") for line in rows}) == 1  # in one column
    assert "loss.terms.1.loss.kind" in text and "trained on    16 training and 4 validation micrographs" in text
    table = "| x \\| y |  | z |\n| --- | --- | --- |\n| 1 |  | 22 |"
    assert readable(f"**a** `b`\n\n{table}\n") == "a b\n\nx | y  z\n1      22"


def test_info_shows_contract_scores_and_card(run: Run, package: Path) -> None:
    text = " ".join(run("info", package).stdout.split())
    for words in (
        "kind model package", "about laths in etched sections", "network U-Net with VGG16 encoder",
        "classes 0 ferrite, 1 bainite", "stride, halo 16 px, 144 px", "softmax of logits / 1.25",
        "IoU of bainite 0.8125 0.79 … 0.83 (95 % t-interval) 5 folds", load(package).contract.sha256,
        "laths ----- laths in etched", "Recipe ------ setting value loss.alpha 1.5", "trained on 40 micrographs",
    ):  # fmt: skip
        assert words in text
    found = json.loads(run("info", package, "--json").stdout)
    assert (found["kind"], found["temperature"], found["format_version"]) == ("vgg16_unet", 1.25, 2)
    assert found["scores"][0]["low"] == 0.79 and found["recipe"] == {"loss": {"alpha": 1.5}}


def test_info_takes_a_name_in_the_box_a_folder_and_a_file_of_that_name_first(run: Run, package: Path) -> None:
    shown = json.loads(run("info", DEFAULT_MODEL, "--json").stdout)
    assert (shown["name"], shown["default"]) == (DEFAULT_MODEL, True)
    assert shown["temperature"] == load(DEFAULT_MODEL).contract.temperature != 1.0
    with zipfile.ZipFile(package) as archive:
        archive.extractall(DEFAULT_MODEL)
    assert json.loads(run("info", DEFAULT_MODEL, "--json").stdout)["name"] == "laths"
    Path(DEFAULT_MODEL, "config.json").write_text("{}")
    done = run("info", DEFAULT_MODEL)
    assert done.exit_code == 1
    assert "config.json does not describe a model package" in done.stderr


def test_info_on_the_folder_of_a_run_names_its_model(run: Run, package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        archive.extractall("run/model")
    done = run("info", "run")
    assert done.exit_code == 1
    assert "run is the folder of a training run; its model is run/model" in done.stderr


@pytest.mark.parametrize(
    ("name", "files", "words"),
    [
        ("a.pt2", ("a/archive_format", "a/models/model.json"), "a network exported by torch.export"),
        ("a.zip", ("rdf.yaml", "weights.onnx"), "a bioimage.io model"),
        ("a.pt", ("a/data.pkl", "a/data/0"), "a pickle"),
        ("a.onnx", None, "a network in ONNX"),
    ],
)
def test_info_says_what_other_models_are(name: str, files: tuple[str, ...] | None, words: str, run: Run) -> None:
    if files is None:
        Path(name).write_bytes(b"\x08\x08\x12\x07pytorch")
    else:
        with zipfile.ZipFile(name, "w") as archive:
            for file in files:
                archive.writestr(file, "{}")
    done = run("info", name)
    assert done.exit_code == 1
    assert f"{name} is {words}" in done.stderr and "package" in done.stderr


def test_info_says_that_segment_takes_torchscript(run: Run) -> None:
    with torch.no_grad():
        torch.jit.trace(torch.nn.Conv2d(1, 2, 3, padding=1), torch.zeros(1, 1, 32, 32)).save("a.ts")
    done = run("info", "a.ts")
    assert done.exit_code == 1
    assert "a.ts is a TorchScript network" in done.stderr and "`bainite-fast segment --model` takes it" in done.stderr


def test_a_model_is_exported_and_a_name_says_where(run: Run, package: Path) -> None:
    done = run("export", package, "--to", "torchscript", "--out", "laths.pt", "--json")
    assert re.search(r"multiples of \d+ px; .* mirror the image by \d+ px", done.stderr)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == {"paths": ["laths.pt"]}
    assert load("laths.pt").contract.halo == 144
    again = run("export", package, "laths.pt", "--to", "torchscript")
    assert again.exit_code == 1 and "--overwrite" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--to", "onnx"), 2, "say once where to write"),
        (("a.onnx", "--to", "onnx", "--out", "b.onnx"), 2, "got a.onnx and b.onnx"),
        (("a.ome.tif",), 2, "is a model: say --to torchscript, pt2, onnx or bioimageio"),
        (("a.ome.tif", "--license", "MIT"), 2, "--license belong to --to bioimageio"),
        (("a.pt", "--to", "torchscript", "--name", "x"), 2, "--name chooses among labels"),
        (("a.onnx", "--to", "torchscript"), 1, "is no name for torchscript, which ends in .pt; use a.pt"),
        (("a.pt", "--to", "torchscript", "--author", "me"), 1, "go into bioimage.io models"),
        (("a", "--to", "bioimageio", "--cite", "our drawer"), 1, "'our drawer' is neither a DOI"),
    ],
)
def test_wrong_exports(arguments: tuple[str, ...], status: int, message: str, run: Run, package: Path) -> None:
    done = run("export", package, *arguments)
    assert done.exit_code == status
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert list(Path().iterdir()) == []
