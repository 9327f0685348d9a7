"""Packages: the same model out as in, and a clear error for every way a package can be wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from bainite_fast.errors import ModelError, OutputExistsError
from bainite_fast.models import (
    LoadedModel,
    Score,
    UNet,
    VGG16UNet,
    load,
    load_package,
    model_card,
    save_package,
)

PLAIN_DIGEST = "edf13d7348559df11d45c4a5d6a045e9708c88a157e74175b5072ccf09a9fc75"
CLASSES = ["ferrite", "lath bainite"]


def image(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 255, shape).astype(dtype)


@pytest.fixture(scope="module")
def network() -> UNet:
    torch.manual_seed(2)
    net = UNet(base=3, depth=2)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return net.eval()


@pytest.fixture(scope="module")
def saved(network: UNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_package(
        network,
        tmp_path_factory.mktemp("packages") / "laths",
        classes=CLASSES,
        test_input=image(24, 32),
        um_per_px=0.1266,
        normalize=(0.4, 0.2),
        description="Lath bainite",
        card="# Laths\n",
        training={"seed": 2},
        synthetic_only=True,
    )


@pytest.fixture
def package(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "laths"))


def zipped(folder: Path, out: Path, *, prefix: str = "") -> Path:
    with zipfile.ZipFile(out, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, prefix + file.name)
    return out


def edit(package: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a package's config."""
    config = json.loads((package / "config.json").read_text())
    change(config)
    (package / "config.json").write_text(json.dumps(config))


def swap(package: Path, name: str, data: bytes) -> None:
    """Replace a file and its hash, as somebody would who means it."""
    (package / name).write_bytes(data)
    edit(package, lambda config: config["files"].update({name: hashlib.sha256(data).hexdigest()}))


def logits(loaded: LoadedModel, raw: np.ndarray) -> torch.Tensor:
    with torch.inference_mode():
        return loaded.module(torch.from_numpy(loaded.contract.normalize(raw)))


def test_a_package_gives_back_the_network_and_its_contract(saved: Path, network: UNet) -> None:
    loaded = load_package(saved)
    contract = loaded.contract
    assert (contract.name, contract.classes, contract.um_per_px) == ("laths", tuple(CLASSES), 0.1266)
    assert (contract.in_channels, contract.out_channels, contract.stride, contract.halo) == (1, 2, 4, 24)
    assert (contract.mean, contract.std, contract.synthetic_only) == ((0.4,), (0.2,), True)
    assert contract.colors[0] == (0, 0, 0) and len(set(contract.colors)) == 2
    raw = image(40, 16)
    with torch.inference_mode():
        expected = network((torch.from_numpy(raw).float()[None, None] / 255 - 0.4) / 0.2)
    torch.testing.assert_close(logits(loaded, raw), expected, atol=1e-5, rtol=1e-5)
    assert not loaded.module.training
    assert loaded.test_input is not None and loaded.test_output is not None
    assert loaded.test_output.shape == (2, *loaded.test_input.shape)


def test_a_vgg16_unet_is_packed_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = VGG16UNet(base=2).eval()
    made = save_package(net, tmp_path / "vgg.zip", classes=CLASSES, test_input=image(32, 48))
    loaded = load(made)
    contract = loaded.contract
    assert (contract.mean, contract.std, contract.stride, contract.halo) == ((0.0,), (1.0,), 16, 144)
    raw = image(48, 16)
    with torch.inference_mode():
        expected = net(torch.from_numpy(raw).float()[None, None] / 255)
    torch.testing.assert_close(logits(loaded, raw), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ModelError, match="far more than its model needs"):
        swap_weights_of_another(made, tmp_path)


def swap_weights_of_another(made: Path, tmp_path: Path) -> None:
    """Load the package with an architecture too small for its weights."""
    with zipfile.ZipFile(made) as archive:
        archive.extractall(tmp_path / "vgg")
    (tmp_path / "vgg" / "weights.safetensors").write_bytes(bytes(4 * 2**20))
    load(tmp_path / "vgg")


def test_older_packages_keep_their_digest(saved: Path, tmp_path: Path) -> None:
    """The digest of a package as it was before version 2: journals of unfinished runs hold such digests."""
    plain = UNet(base=2, depth=1)
    for parameter in plain.parameters():
        torch.nn.init.zeros_(parameter)
    made = save_package(
        plain,
        tmp_path / "plain",
        name="plain",
        classes=("other", "laths"),
        test_input=np.zeros((8, 8), np.uint8),
        um_per_px=0.5,
    )
    assert load(made).contract.sha256 == PLAIN_DIGEST
    config = json.loads((saved / "config.json").read_text())
    assert config["format_version"] == 1
    assert not {"recipe", "scores", "temperature"} & set(config)


def test_what_training_gives_is_kept(network: UNet, saved: Path, tmp_path: Path) -> None:
    recipe = {"loss": {"kind": "focal", "alpha": 1.5}, "epochs": 250, "tile": [256, 256], "scheduler": None}
    scores = [
        Score(metric="IoU", value=0.81, class_name="laths", data="5 folds", low=0.79, high=0.83, interval="95 % CI"),
        {"metric": "accuracy", "value": 0.95},
    ]
    made = save_package(
        network,
        tmp_path / "trained",
        classes=CLASSES,
        test_input=image(8, 8),
        training={"data": {"images": 40, "source": "LOM | Nital"}},
        recipe=recipe,
        scores=scores,
        temperature=1.7,
    )
    loaded = load(made)
    assert loaded.contract.temperature == 1.7
    assert loaded.config is not None
    assert (loaded.config.format_version, loaded.config.recipe, loaded.config.temperature) == (2, recipe, 1.7)
    assert [x.value for x in loaded.config.scores] == [0.81, 0.95]
    card = (made / "card.md").read_text()
    for words in (
        "0.79 … 0.83 (95 % CI)",
        "| loss.alpha | 1.5 |",
        "| tile | 256, 256 |",
        "- source: LOM | Nital",
        "1.7",
    ):
        assert words in card
    assert "Not recorded" not in card and "has seen no real steel" not in card
    older = load(saved).config
    assert older is not None and "Not recorded" in model_card(older)


def test_every_part_of_it_is_part_of_the_identity(network: UNet, tmp_path: Path) -> None:
    parts: list[dict[str, Any]] = [{}, {"recipe": {}}, {"temperature": 2.0}, {"scores": [{"metric": "F1", "value": 1}]}]
    made = [
        save_package(network, tmp_path / str(k), name="m", classes=CLASSES, test_input=image(8, 8), **part)
        for k, part in enumerate(parts)
    ]
    assert len({load(path).contract.sha256 for path in made}) == len(parts)


def test_folder_and_zip_are_one_model(saved: Path, network: UNet, tmp_path: Path) -> None:
    folder = load(saved).contract
    assert load(zipped(saved, tmp_path / "a.zip")).contract == folder
    assert load(zipped(saved, tmp_path / "b.zip", prefix="laths/")).contract == folder
    made = save_package(network, tmp_path / "laths.zip", classes=CLASSES, test_input=image(24, 32))
    assert load(made).contract.sha256 != folder.sha256
    assert zipfile.ZipFile(made).testzip() is None


def test_the_card_is_not_part_of_the_identity(package: Path) -> None:
    before = load(package).contract.sha256
    (package / "card.md").write_text("# A better card\n")
    assert load(package).contract.sha256 == before


def test_loading_draws_no_random_numbers(saved: Path) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    load(saved)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_colour_one_logit_and_any_dtype(dtype: type, tmp_path: Path) -> None:
    made = save_package(
        UNet(3, 1, base=2, depth=1),
        tmp_path / "rgb",
        classes=["matrix", "second phase"],
        test_input=image(10, 12, 3, dtype=dtype),
        normalize=((0.1, 0.2, 0.3), 0.5),
    )
    loaded = load(made)
    assert loaded.contract.std == (0.5, 0.5, 0.5)
    assert logits(loaded, image(6, 8, 3)).shape == (1, 1, 6, 8)
    with pytest.raises(ModelError, match=r"takes 3 channel\(s\), and got an image of shape \(6, 8\); give \[H, W, 3\]"):
        loaded.contract.normalize(image(6, 8))
    with pytest.raises(ModelError, match="uint8, uint16 or float32 intensities, and got float64"):
        loaded.contract.normalize(image(6, 8, 3, dtype=np.float64))


def test_nothing_is_overwritten_unasked(package: Path, network: UNet) -> None:
    before = (package / "config.json").read_bytes()
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        save_package(network, package, classes=CLASSES, test_input=image(8, 8))
    assert (package / "config.json").read_bytes() == before
    save_package(network, package, classes=CLASSES, test_input=image(8, 8), overwrite=True)
    assert (package / "config.json").read_bytes() != before
    assert [x.name for x in package.parent.iterdir()] == ["laths"]


def test_a_folder_with_anything_else_is_not_replaced(package: Path, network: UNet) -> None:
    (package / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"holds notes\.txt, which such a model does not: it is not replaced"):
        save_package(network, package, classes=CLASSES, test_input=image(8, 8), overwrite=True)
    assert (package / "notes.txt").read_text() == "mine"
    link = package.with_name("link")
    (package / "notes.txt").unlink()
    link.symlink_to(package)
    save_package(network, link, classes=CLASSES, test_input=image(8, 8), overwrite=True)
    assert load(link).source == str(link)
    assert sorted(x.name for x in package.parent.iterdir()) == ["laths", "link"]


def test_a_failed_save_leaves_nothing(network: UNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save_package(network, tmp_path / "p", classes=CLASSES, test_input=image(8, 8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"classes": ["a", "b", "c"]}, "3 classes are named"),
        ({"test_input": [[1, 2], [3, 4]]}, r"test input is a list; give a NumPy array \[h, w\]"),
        ({"classes": ["a", "a"]}, "same name"),
        ({"colors": [(0, 0, 0)]}, "2 classes are named and 1 colours given"),
        ({"colors": [(0, 0, 0), (0, 0, 300)]}, "less than or equal to 255"),
        ({"normalize": (0.5, 0.0)}, "std is .* finite and positive"),
        ({"normalize": ((0.5, 0.5), 1.0)}, r"mean has 2 value\(s\) for 1 channel"),
        ({"um_per_px": -1.0}, "um_per_px: .*greater than 0"),
        ({"um_per_px": float("nan")}, "um_per_px|JSON"),
        ({"training": {"who": object()}}, "JSON"),
        ({"recipe": {"alpha": float("nan")}}, "JSON"),
        ({"temperature": -1.0}, "temperature: .*greater than or equal to 0.01"),
        ({"scores": [{"metric": "IoU"}]}, r"score .* is wrong \(value: Field required\)"),
        ({"scores": [{"metric": "IoU", "value": 0.5, "low": 0.4}]}, "low, high and interval .* together"),
        ({"scores": [{"metric": "IoU", "value": 0.5, "low": 0.6, "high": 0.7, "interval": "x"}]}, "does not lie in"),
        ({"test_input": image(9, 8)}, "multiples of 4"),
        ({"test_input": image(8)}, r"test input has shape \(8,\)"),
    ],
)
def test_wrong_declarations(wrong: dict[str, Any], message: str, network: UNet, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        save_package(network, tmp_path / "p", **{"classes": CLASSES, "test_input": image(8, 8), **wrong})
    assert not list(tmp_path.iterdir())


def test_only_a_unet_is_packed(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"got Conv2d; pass other networks to segment\(\) as they are"):
        save_package(torch.nn.Conv2d(1, 2, 1), tmp_path / "p", classes=CLASSES, test_input=image(8, 8))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "test_input.npy", "test_output.npy"])
@pytest.mark.parametrize("zip_it", [False, True])
def test_a_missing_file_is_named(name: str, zip_it: bool, package: Path, tmp_path: Path) -> None:
    (package / name).unlink()
    source = zipped(package, tmp_path / "p.zip") if zip_it else package
    with pytest.raises(ModelError, match=f"lacks {name}" if not (zip_it and name == "config.json") else "config.json"):
        load(source)


@pytest.mark.parametrize("name", ["weights.safetensors", "test_input.npy", "test_output.npy"])
def test_a_flipped_byte_is_found(name: str, package: Path) -> None:
    data = bytearray((package / name).read_bytes())
    data[-1] ^= 1
    (package / name).write_bytes(data)
    with pytest.raises(ModelError, match=f"{name} is not the file that was packed"):
        load(package)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(surprise=1), "surprise: Extra inputs are not permitted"),
        (lambda c: c["architecture"].update(dropout=0.5), "architecture.dropout"),
        (lambda c: c["architecture"].update(kind="vit"), r"architecture.kind: .*'vit'.*'unet', 'vgg16_unet'"),
        (lambda c: c["architecture"].update(kind="vgg16_unet"), "architecture.depth"),
        (lambda c: c.pop("stride"), "stride: Field required"),
        (lambda c: c.update(halo=19), "not a multiple of the stride"),
        (lambda c: c.update(halo=c["halo"] - c["stride"]), "are not the network's, which looks"),
        (lambda c: c.update(stride=1), "its tiles would differ from the whole image"),
        (lambda c: c.update(format_version=3), r"format_version 3, and bainite_fast .* reads 1 to 2: upgrade"),
        (lambda c: c.update(format_version="2"), "format_version"),
        (lambda c: c.update(temperature=1.5), "temperature need format_version 2"),
        (lambda c: c.update(format_version=2, temperature=0.0), "temperature: .*greater than or equal to 0.01"),
        (lambda c: c.update(std=[0.0]), "std"),
        (lambda c: c.update(mean=[0.0, 0.0]), "mean and std need one value"),
        (lambda c: c["files"].update({"../evil": "0" * 64}), "sha256 of exactly"),
        (lambda c: c["classes"].pop(), "classes"),
    ],
)
def test_a_wrong_config_says_where(change: Callable[[dict[str, Any]], object], message: str, package: Path) -> None:
    edit(package, change)
    with pytest.raises(ModelError, match=message):
        load(package)


def test_config_that_is_no_json(package: Path) -> None:
    (package / "config.json").write_text("{classes: ferrite")
    with pytest.raises(ModelError, match=r"config.json does not describe a model package .*JSON"):
        load(package)


def test_corrupt_and_foreign_weights(package: Path) -> None:
    good = (package / "weights.safetensors").read_bytes()
    swap(package, "weights.safetensors", good[: len(good) // 2])
    with pytest.raises(ModelError, match="weights.safetensors is corrupt"):
        load(package)
    other = UNet(base=4, depth=2).state_dict()
    swap(package, "weights.safetensors", safetensors.torch.save(other))
    with pytest.raises(
        ModelError,
        match=r"weights.safetensors: the weights do not fit the architecture UNet\(.*base=3.*those of a UNet\(.*base=4",
    ):
        load(package)


def test_failing_self_tests(package: Path, network: UNet) -> None:
    state = {k: v.clone() for k, v in network.state_dict().items()}
    state["head.bias"] += 0.1
    good = (package / "weights.safetensors").read_bytes()
    swap(package, "weights.safetensors", safetensors.torch.save(state))
    with pytest.raises(ModelError, match=r"self-test fails, logits differ by up to 1.00e-01 .*save_package"):
        load(package)
    state["head.bias"][:] = torch.nan
    swap(package, "weights.safetensors", safetensors.torch.save(state))
    with pytest.raises(ModelError, match="NaN or infinity"):
        load(package)
    swap(package, "weights.safetensors", good)
    output = package / "test_output.npy"
    np.save(output, np.load(output)[:, :-1])
    swap(package, "test_output.npy", output.read_bytes())
    with pytest.raises(
        ModelError, match=r"gives logits \(2, 24, 32\) float32, and test_output.npy holds \(2, 23, 32\)"
    ):
        load(package)


def test_object_arrays_are_not_unpickled(package: Path) -> None:
    path = package / "test_input.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    swap(package, "test_input.npy", path.read_bytes())
    with pytest.raises(ModelError, match="not a NumPy array without objects"):
        load(package)


def test_unbelievable_sizes_are_refused(package: Path) -> None:
    with (package / "weights.safetensors").open("ab") as file:
        file.truncate(50 * 2**20)
    with pytest.raises(ModelError, match="far more than its model needs"):
        load(package)


def test_zips_that_reach_outside_or_are_torn(package: Path, tmp_path: Path) -> None:
    evil = zipped(package, tmp_path / "evil.zip")
    with zipfile.ZipFile(evil, "a") as archive:
        archive.writestr("../../evil.py", "boom")
    with pytest.raises(ModelError, match="evil.py, which no model package holds"):
        load(evil)
    good = zipped(package, tmp_path / "good.zip")
    data = bytearray(good.read_bytes())
    at = data.find(b"\x93NUMPY") + 200
    data[at] ^= 0xFF
    good.write_bytes(data)
    with pytest.raises(ModelError, match=r"npy cannot be read \(Bad CRC"):
        load(good)
