"""Every kind of model comes in by one door, and whatever is no model is told apart."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from bainite_fast.errors import BainiteWarning, ModelError
from bainite_fast.models import (
    DEFAULT_MODEL,
    UNet,
    VGG16UNet,
    available,
    catalog,
    compile,
    export,
    is_package,
    load,
    load_weights,
    save_package,
)
from bainite_fast.models.describing import foreign_model


def traced(module: nn.Module, channels: int = 1) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(module.eval(), torch.zeros(1, channels, 16, 16))


def save(module: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module.save(str(path))
    return path


@pytest.fixture
def unet() -> UNet:
    torch.manual_seed(0)
    return UNet(2, 3, base=2, depth=2)


def test_a_module(unet: UNet) -> None:
    unet.train()
    loaded = load(unet, normalize=((0.5, 0.4), 0.25))
    contract = loaded.contract
    assert (contract.name, contract.in_channels, contract.out_channels, contract.stride) == ("UNet", 2, 3, 4)
    assert contract.classes == ("class 0", "class 1", "class 2") and len(contract.colors) == 3
    assert (contract.mean, contract.std) == ((0.5, 0.4), (0.25, 0.25))
    assert unet.training and not loaded.module.training and loaded.module is not unet
    assert loaded.test_input is None


def test_lazy_layers_that_have_seen_nothing_are_named() -> None:
    lazy = nn.Sequential(nn.LazyConv2d(2, 3, padding=1))
    with pytest.raises(ModelError, match="Sequential has lazy layers that have seen no batch yet: run it on one"):
        load(lazy)
    lazy(torch.zeros(1, 1, 8, 8))
    assert load(lazy).contract.halo == 1


def test_layers_that_are_not_of_images_keep_their_weights_as_they_lie() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.deep, self.last = nn.Conv3d(1, 4, (1, 3, 3), padding=(0, 1, 1)), nn.Conv2d(4, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.deep(x[:, None]).squeeze(2))

    loaded, x = load(Deep()), torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(compile(loaded).run(x), loaded.module(x))


def test_what_pytorch_makes_tensors_of_by_default_is_no_matter(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.ReLU())
    expected = load(net).contract
    x = torch.rand(1, 1, 8, 8)
    logits = compile(load(net)).run(x)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")  # as "cuda" would, it makes tensors that are not on the CPU
    try:
        loaded = load(net)
        assert loaded.contract == expected
        assert torch.equal(compile(loaded).run(x), logits)
        export(net, tmp_path / "net.pt")
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


def test_autocast_of_the_caller_does_not_reach_the_network() -> None:
    net, x = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 2, 3, padding=1)), torch.rand(1, 1, 16, 16)
    loaded, other = load(net), load(net)
    with torch.autocast("cpu"):
        assert load(net).contract == loaded.contract
        inside = compile(loaded).run(x)  # compiled there, it would stay in bfloat16
        assert torch.is_autocast_enabled("cpu")
    assert torch.equal(inside, compile(other).run(x))


def test_one_logit_means_two_classes() -> None:
    assert load(nn.Conv2d(1, 1, 1)).contract.classes == ("background", "foreground")


def test_half_precision_and_wrapped_modules_become_float32(unet: UNet) -> None:
    assert next(load(nn.DataParallel(unet).bfloat16()).module.parameters()).dtype == torch.float32


def test_digest_follows_the_weights_and_the_structure(unet: UNet) -> None:
    first = load(unet).contract.sha256
    assert load(unet).contract.sha256 == first
    with torch.no_grad():
        unet.head.bias[0] += 1
    assert load(unet).contract.sha256 != first
    assert (
        load(nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())).contract.sha256 != load(nn.Conv2d(1, 2, 1)).contract.sha256
    )


class Scaled(nn.Module):
    """Holds what decides its answer in a number, a tensor, a buffer that is not saved and a list."""

    def __init__(self, number: float = 1.0, tensor: float = 1.0, buffer: float = 1.0, item: float = 1.0) -> None:
        super().__init__()
        self.number, self.tensor, self.items = number, torch.tensor(tensor), [item]
        self.register_buffer("buffer", torch.tensor(buffer), persistent=False)
        self.conv = nn.Conv2d(1, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x * self.number * float(self.tensor) * self.buffer * self.items[0])


def test_digest_follows_settings_that_are_no_weights() -> None:
    digests = set()
    for which in ({}, {"number": 2.0}, {"tensor": 2.0}, {"buffer": 2.0}, {"item": 2.0}, {}):
        torch.manual_seed(0)
        digests.add(load(Scaled(**which)).contract.sha256)
    assert len(digests) == 5


def test_probabilities_are_no_logits(tmp_path: Path) -> None:
    sigmoid = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Sigmoid())
    with pytest.raises(ModelError, match=r"as after a sigmoid.*leave the sigmoid out"):
        load(sigmoid)
    with pytest.raises(ModelError, match="as after a sigmoid"):
        load(save(traced(sigmoid), tmp_path / "m.pt"))
    with pytest.warns(BainiteWarning, match=r"as after a softmax.*a confidence would be wrong"):
        load(nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Softmax(1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.LogSoftmax(1)))
        load(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Sigmoid(), nn.Conv2d(1, 1, 1)))


@pytest.mark.parametrize("suffix", [".pt", ".ts", ".zip", ""])
def test_a_torchscript_file_by_its_content(suffix: str, unet: UNet, tmp_path: Path) -> None:
    path = save(traced(unet, 2), tmp_path / f"network{suffix}")
    loaded, again = load(path, normalize=(0.5, 0.2)), load(str(path))
    assert (loaded.contract.in_channels, loaded.contract.halo, loaded.contract.name) == (2, 24, "network")
    assert loaded.contract.sha256 == again.contract.sha256
    x = torch.randn(1, 2, 24, 16)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.module(x), unet.eval()(x))


def test_a_torchscript_module_in_memory(unet: UNet) -> None:
    module = traced(unet, 2)
    assert load(module).contract.sha256 == load(module).contract.sha256
    assert load(module).contract.name == "UNet"


def test_a_frozen_file_without_parameters(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frozen = torch.jit.freeze(traced(nn.Conv2d(3, 2, 5, padding=2), 3))
    assert load(save(frozen, tmp_path / "f.pt")).contract.in_channels == 3


class Evil:
    """A pickle that would run code when loaded."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return (exec, ("raise SystemExit('executed')",))


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Evil()))


def write_checkpoint(path: Path) -> None:
    torch.save({"state": Evil()}, path)


def write_old_checkpoint(path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [write_pickle, write_checkpoint, write_old_checkpoint])
@pytest.mark.parametrize("name", ["model.pt", "model.zip", "model.ts"])
def test_a_pickle_posing_as_a_model_is_not_run(write: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    with pytest.raises(ModelError, match=r"pickle: loading it would execute .*save_package"):
        load(tmp_path / name)


def test_weights_alone_say_which_network_they_fit(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    for network, words in (
        (UNet(2, 3, base=4, depth=2), "'in_channels': 2, 'classes': 3, 'base': 4, 'depth': 2"),
        (VGG16UNet(3, base=2), "'kind': 'vgg16_unet', 'in_channels': 1, 'classes': 2, 'base': 2"),
    ):
        safetensors.torch.save_file(network.state_dict(), path)
        with pytest.raises(ModelError, match=rf"weights alone.*they fit .*build\(.*{words}.*load_weights"):
            load(path)


def test_weights_of_another_architecture_change_nothing() -> None:
    network = UNet(base=2, depth=2)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    good = {k: v + 1 for k, v in before.items()}
    cases = [
        (
            VGG16UNet(base=2).state_dict(),
            r"lack down1convr1.conv.weight, .* more; hold .*; they are those of a VGG16UNet",
        ),
        (UNet(base=3, depth=2).state_dict(), r"is \[3, 1, 3, 3\] and must be \[2, 1, 3, 3\].*UNet\(.*base=3, depth=2"),
        ({k: v for k, v in good.items() if k != "head.bias"}, r"lack head.bias"),
        ({**good, "extra": torch.zeros(1)}, r"hold extra"),
        ({}, "lack"),
    ]
    for weights, message in cases:
        with pytest.raises(
            ModelError, match=rf"best.safetensors: the weights do not fit the architecture UNet.*{message}"
        ):
            load_weights(network, weights, source="best.safetensors")
        assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    load_weights(network, good, source="best.safetensors")
    assert all(torch.equal(v, good[k]) for k, v in network.state_dict().items())


def test_exports_for_other_programs_say_what_to_use(tmp_path: Path) -> None:
    network = nn.Conv2d(1, 2, 3, padding=1)
    export(network, tmp_path / "m.pt2")
    with pytest.raises(ModelError, match=r"m.pt2 is a program of torch.export, made for other programs; segment with"):
        load(tmp_path / "m.pt2")
    (tmp_path / "m.onnx").write_bytes(b"\x08\x0a" + bytes(30))
    with pytest.raises(ModelError, match="m.onnx is ONNX, made for other programs"):
        load(tmp_path / "m.onnx")
    (tmp_path / "bio").mkdir()
    (tmp_path / "bio" / "rdf.yaml").write_text("type: model")
    with zipfile.ZipFile(tmp_path / "bio.zip", "w") as archive:
        archive.write(tmp_path / "bio" / "rdf.yaml", "rdf.yaml")
    for path in (tmp_path / "bio", tmp_path / "bio.zip"):
        with pytest.raises(ModelError, match="is a bioimage.io model, .*its TorchScript weights"):
            load(path)


def test_files_that_are_no_models(tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(2)}, weights)
    with pytest.raises(ModelError, match="weights alone"):
        load(weights)
    text = tmp_path / "model.pt"
    text.write_text("hello")
    with pytest.raises(ModelError, match=r"is not a model \(5 bytes"):
        load(text)
    text.write_bytes(b"")
    with pytest.raises(ModelError, match=r"is not a model \(0 bytes"):
        load(text)
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with pytest.raises(ModelError, match="neither a model package"):
        load(tmp_path / "x.npz")
    with pytest.raises(ModelError, match="lacks config.json"):
        load(tmp_path)
    with pytest.raises(ModelError, match="got a int"):
        load(3)  # type: ignore[arg-type]


def test_a_torn_torchscript_file(unet: UNet, tmp_path: Path) -> None:
    path = save(traced(unet, 2), tmp_path / "n.pt")
    torn = tmp_path / "torn.pt"
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(torn, "w") as broken:
        for name in whole.namelist():
            broken.writestr(name, b"nonsense(" if name.endswith(".py") else whole.read(name))
    with pytest.raises(ModelError, match="cannot read this TorchScript file"):
        load(torn)


def test_a_torchscript_file_with_a_flipped_bit_in_its_weights(unet: UNet, tmp_path: Path) -> None:
    path = save(traced(unet, 2), tmp_path / "n.pt")
    with zipfile.ZipFile(path) as archive:
        weights = max(archive.infolist(), key=lambda one: one.file_size if "/data/" in one.filename else 0)
    content = bytearray(path.read_bytes())
    content[content.index(bytes(zipfile.ZipFile(path).read(weights))) + 7] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"n\.pt is damaged: {weights.filename} in it is not what was saved"):
        load(path)


@pytest.mark.parametrize("kind", ["package", "torchscript"])
def test_damaged_files_are_refused_by_one_error(kind: str, unet: UNet, tmp_path: Path) -> None:
    path = tmp_path / "m.zip"
    if kind == "package":
        save_package(unet, path, classes=("a", "b", "c"), test_input=np.zeros((8, 8, 2), np.uint8))
    else:
        save(traced(unet, 2), path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for case in range(150):
        content = np.frombuffer(whole, np.uint8).copy()
        near_end = case % 3  # the directory of the zip lies there
        first = max(0, len(content) - 1500) if near_end else 0
        content[rng.integers(first, len(content), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(content.tobytes()[: rng.integers(len(content)) if case % 5 == 0 else None])
        try:
            load(path)
        except ModelError:
            refused += 1
        is_package(path)
        foreign_model(path)
    assert refused > 75  # not all bytes matter


def test_torchscript_that_returns_another_shape(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="as large as its input"):
        load(save(traced(nn.MaxPool2d(2)), tmp_path / "half.pt"))
    with pytest.raises(ModelError, match="gives another answer to every tile"):
        load(save(traced(nn.Sequential(nn.Conv2d(1, 2, 1), nn.GroupNorm(1, 2))), tmp_path / "norm.pt"))


def test_names(tmp_path: Path, unet: UNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "BUNDLED", tmp_path / "none")
    assert available() == {}
    with pytest.raises(ModelError, match=f"no model '{DEFAULT_MODEL}'.*the box is empty"):
        load()
    monkeypatch.setattr(catalog, "BUNDLED", tmp_path)
    for name in ("another", DEFAULT_MODEL):
        save_package(unet, tmp_path / name, classes=["a", "b", "c"], test_input=np.zeros((8, 8, 2), np.uint8))
    listed = available()
    assert list(listed) == [DEFAULT_MODEL, "another"]
    assert listed["another"]["classes"] == ["a", "b", "c"]
    assert (listed["another"]["stride"], listed["another"]["halo"], listed["another"]["default"]) == (4, 24, False)
    assert listed["another"]["parameters"] == sum(p.numel() for p in unet.parameters())
    assert load().contract.name == DEFAULT_MODEL and load("another").contract.name == "another"
    with pytest.raises(
        ModelError, match=f"no model 'anather': no such file or folder, and in the box: {DEFAULT_MODEL}, another"
    ):
        load("anather")
    with pytest.raises(ModelError, match="declares its own normalisation"):
        load("another", normalize=(0.5, 0.5))


@pytest.mark.parametrize("wrong", [(0.5, 0.0), (float("nan"), 1.0), ((0.1, 0.2), 1.0), 0.5, (0.5, "b")])
def test_wrong_normalisation(wrong: Any) -> None:
    with pytest.raises(ModelError, match="mean|std"):
        load(nn.Conv2d(1, 2, 1), normalize=wrong)


def test_listing_models_imports_no_torch() -> None:
    code = "import sys; from bainite_fast import models; models.available(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_bundled_models_are_whole_and_small() -> None:
    for name, model in available().items():
        assert model["bytes"] <= 8_000_000
        assert load(name).contract.name == name


def test_the_folder_of_a_training_run_names_the_model_in_it(tmp_path: Path) -> None:
    model = save_package(
        UNet(base=2, depth=1), tmp_path / "run" / "model", classes=("a", "b"), test_input=np.zeros((8, 8), np.uint8)
    )
    with pytest.raises(ModelError, match="training run; its model is .*model"):
        load(model.parent)
