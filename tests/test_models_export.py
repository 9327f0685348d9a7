"""Exports: each is loaded by its own runtime and gives the package's test output."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from torch import nn

import bainite_fast
from bainite_fast.errors import ModelError, OutputError, OutputExistsError
from bainite_fast.models import LoadedModel, export, load
from segment_helpers import small_unet, small_vgg16_unet

Run = Callable[[np.ndarray], np.ndarray]
FORMATS = {"torchscript": "m.pt", "pt2": "m.pt2", "onnx": "m.onnx"}
SAME = 1e-4


def package(kind: str, folder: Path) -> LoadedModel:
    """Save and load a package: a gray U-Net, an RGB one of one logit, or a VGG16 U-Net."""
    rng = np.random.default_rng(1)
    networks = {
        "unet": (small_unet(depth=2), {"classes": ("ferrite", "bainite"), "normalize": (0.55, 0.2)}, (48, 64)),
        "rgb": (
            small_unet(depth=1, in_channels=3, classes=1),
            {"classes": ("matrix", "pearlite"), "normalize": ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))},
            (20, 30, 3),
        ),
        "vgg16": (small_vgg16_unet(classes=3), {"classes": ("a", "b", "c"), "um_per_px": 0.1}, (48, 64)),
    }
    network, fields, shape = networks[kind]
    dtype = np.uint16 if kind == "vgg16" else np.uint8
    image = rng.integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    path = bainite_fast.models.save_package(network, folder / kind, test_input=image, temperature=1.3, **fields)  # type: ignore[arg-type]
    return load(path)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedModel]:
    folder = tmp_path_factory.mktemp("packages")
    return {kind: package(kind, folder) for kind in ("unet", "rgb", "vgg16")}


def intensities(model: LoadedModel) -> np.ndarray:
    """Return the package's test image as every exported network takes it."""
    assert model.test_input is not None
    raw = model.test_input if model.test_input.ndim == 3 else model.test_input[..., None]
    return (raw.transpose(2, 0, 1)[None] / np.iinfo(raw.dtype).max).astype(np.float32)


def runner(path: Path) -> tuple[Run, dict[str, Any]]:
    """Load an exported file by its own runtime, without bainite_fast; return it and the description in it."""
    extra = {"bainite_fast.json": ""}
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        extra = session.get_modelmeta().custom_metadata_map
        assert [x.name for x in session.get_inputs()] == ["image"]
        return lambda x: session.run(["logits"], {"image": x})[0], json.loads(extra["bainite_fast.json"])
    network: Any
    if path.suffix == ".pt2":
        network = torch.export.load(path, extra_files=extra).module()
    else:
        network = torch.jit.load(path, _extra_files=extra)

    def run(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            y: np.ndarray = network(torch.from_numpy(x)).numpy()
        return y

    return run, json.loads(extra["bainite_fast.json"])


def check_onnx(path: Path, model: LoadedModel) -> None:
    """Check that axes and opset are as promised."""
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    assert [x.version for x in proto.opset_import if x.domain == ""][0] >= 17
    channels = (model.contract.in_channels, model.contract.out_channels)
    for value, count in zip((proto.graph.input[0], proto.graph.output[0]), channels, strict=True):
        axes = [x.dim_param or x.dim_value for x in value.type.tensor_type.shape.dim]
        assert axes == ["batch", count, "height", "width"]


@pytest.mark.parametrize(
    ("kind", "format"),
    [("unet", "torchscript"), ("unet", "pt2"), ("unet", "onnx"), ("rgb", "torchscript"),
     ("vgg16", "torchscript"), ("vgg16", "pt2")],  # their ONNX is tested with bioimage.io's
)  # fmt: skip
def test_an_export_gives_the_test_output(
    kind: str, format: str, models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    model = models[kind]
    path = export(model, tmp_path / FORMATS[format])
    run, description = runner(path)
    if format == "onnx":
        check_onnx(path, model)
    assert model.test_output is not None
    assert np.abs(run(intensities(model))[0] - model.test_output).max() <= SAME
    contract = model.contract
    # Any batch, height and width.
    stride = contract.stride
    for n, rows, columns in ((1, 2, 5), (3, 4, 2)):
        x = np.random.default_rng(n).random((n, contract.in_channels, rows * stride, columns * stride), np.float32)
        mean, std = (np.array(v, np.float32).reshape(1, -1, 1, 1) for v in (contract.mean, contract.std))
        with torch.inference_mode():
            expected = model.module(torch.from_numpy((x - mean) / std)).numpy()
        assert np.abs(run(x) - expected).max() <= SAME
    assert (description["name"], description["sha256"]) == (kind, contract.sha256)
    assert (description["stride"], description["halo"], description["temperature"]) == (stride, contract.halo, 1.3)
    assert description["classes"] == list(contract.classes)
    assert "0…1" in description["input"] and "part of the network" in description["input"]
    assert [x.name for x in tmp_path.iterdir()] == [path.name]


def test_a_torchscript_export_is_segmented_as_the_package_is(models: dict[str, LoadedModel], tmp_path: Path) -> None:
    path = export(models["unet"], tmp_path / "m.pt")
    image = np.random.default_rng(3).integers(0, 256, (130, 90), np.uint8)
    options: dict[str, Any] = {"scale": "as-is", "progress": False, "precision": "float32"}
    labels = [
        np.asarray(bainite_fast.segment(image, m, out=tmp_path / f"{k}.ome.zarr", **options).labels)
        for k, m in enumerate((models["unet"], path))
    ]
    assert (labels[0] != labels[1]).mean() < 1e-3 and 0.01 < labels[0].mean() < 0.99


@pytest.fixture(scope="module")
def folder(models: dict[str, LoadedModel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(models["vgg16"], tmp_path_factory.mktemp("bioimageio") / "m", format="bioimageio")


def test_bioimageio_by_its_own_validator(models: dict[str, LoadedModel], folder: Path, tmp_path: Path) -> None:
    spec = pytest.importorskip("bioimageio.spec")
    publication: dict[str, Any] = {
        "authors": ["A. Metallographer"], "license": "CC-BY-4.0", "cite": [("Our report", "https://example.org/report")]
    }  # fmt: skip
    zipped = export(models["rgb"], tmp_path / "m.zip", format="bioimageio", **publication)
    for kind, source in (("rgb", zipped), ("vgg16", folder / "rdf.yaml")):
        found = spec.load_description(source, perform_io_checks=True)
        assert type(found).__name__ == "ModelDescr", found.validation_summary.format()
        assert found.validation_summary.status in ("passed", "valid-format"), found.validation_summary.format()
        contract = models[kind].contract
        assert [x.halo for x in found.outputs[0].axes[2:]] == [contract.halo] * 2
        assert [x.size.step for x in found.inputs[0].axes[2:]] == [contract.stride] * 2
        if kind == "rgb":
            assert [x.name for x in found.authors] == ["A. Metallographer"]
            assert (str(found.license), str(found.cite[0].url)) == ("CC-BY-4.0", "https://example.org/report")
        else:
            assert [(x.scale, x.unit) for x in found.inputs[0].axes[2:]] == [(0.1, "micrometer")] * 2


def test_bioimageio_holds_a_scale_that_gives_the_halo_again(tmp_path: Path) -> None:
    spec = pytest.importorskip("bioimageio.spec")
    image = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    # 24 · 0.1 / 0.1 is not 24 in floating point.
    made = bainite_fast.models.save_package(
        small_unet(depth=2), tmp_path / "steel", classes=("a", "b"), test_input=image, um_per_px=0.1
    )
    found = spec.load_description(export(made, tmp_path / "m", format="bioimageio") / "rdf.yaml")
    assert type(found).__name__ == "ModelDescr", found.validation_summary.format()
    assert found.outputs[0].axes[2].halo == 24
    assert found.inputs[0].axes[2].scale == pytest.approx(0.1, rel=1e-9)


def test_bioimageio_weights_give_its_test_output(folder: Path) -> None:
    rdf = yaml.safe_load((folder / "rdf.yaml").read_text())
    assert (rdf["type"], rdf["format_version"][:3], rdf["authors"]) == ("model", "0.5", [{"name": "unknown"}])
    assert "license" not in rdf and len(rdf["cite"]) == 2
    image, logits = rdf["inputs"][0], rdf["outputs"][0]
    for entry in (image["test_tensor"], logits["test_tensor"], *rdf["weights"].values()):
        assert hashlib.sha256((folder / entry["source"]).read_bytes()).hexdigest() == entry["sha256"]
    raw, expected = (np.load(folder / x["test_tensor"]["source"]) for x in (image, logits))
    assert raw.dtype.name == image["data"]["type"]
    size = image["axes"][2]["size"]
    assert all(n >= size["min"] and (n - size["min"]) % size["step"] == 0 for n in raw.shape[2:])
    assert size["min"] > 2 * logits["axes"][2]["halo"]
    x = raw
    for step in image["preprocessing"]:  # as the specification has them done
        if step["id"] == "ensure_dtype":
            x = x.astype(step["kwargs"]["dtype"])
        else:
            assert step["id"] == "scale_linear"
            x = (x * step["kwargs"]["gain"] + step["kwargs"]["offset"]).astype(np.float32)
    for weights, name in (("torchscript", "weights.torchscript.pt"), ("onnx", "weights.onnx")):
        assert rdf["weights"][weights]["source"] == name
        assert np.abs(runner(folder / name)[0](x) - expected).max() <= SAME
    assert sorted(x.name for x in folder.iterdir()) == [
        "README.md", "rdf.yaml", "test_input.npy", "test_output.npy", "weights.onnx", "weights.torchscript.pt",
    ]  # fmt: skip
    readme = (folder / "README.md").read_text()
    assert "softmax(logits / 1.3)" in readme and "16 px and have 144 px of context" in readme


def test_bare_networks_are_exported_too(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    x = np.random.default_rng(0).random((1, 1, 9, 7), np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(x)).numpy()
    for name in FORMATS.values():
        assert np.abs(runner(export(network, tmp_path / name))[0](x) - expected).max() <= SAME
    script = tmp_path / "m.pt"
    again = export(str(script), tmp_path / "again.pt")
    assert np.abs(runner(again)[0](x) - expected).max() <= SAME
    with pytest.raises(ModelError, match="is TorchScript, which cannot be turned into another format"):
        export(str(script), tmp_path / "again.onnx")


class Sized(nn.Module):
    """A network whose code depends on the size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) * (2.0 if x.shape[2] > 3 else 1.0)


def test_what_would_give_another_answer_is_not_written(tmp_path: Path) -> None:
    bare = load(nn.Conv2d(1, 2, 3, padding=1))
    sized = LoadedModel(Sized().eval(), bare.contract, None, None, "test")
    with pytest.raises(ModelError, match="TorchScript file gives logits that are off by"):
        export(sized, tmp_path / "m.pt")
    with pytest.raises(ModelError, match="torch.export cannot export .*for any size"):
        export(sized, tmp_path / "m.pt2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("m.bin", {}, "m.bin, whose suffix names no format; give format= one of torchscript, pt2, onnx, bioimageio"),
        ("m.onnx", {"format": "tflite"}, "format 'tflite'; give format= one of"),
        ("m.onnx", {"format": "torchscript"}, "is no name for torchscript, which ends in .pt; use m.pt"),
        ("m.onnx", {"license": "MIT"}, "go into bioimage.io models"),
        ("m", {"format": "bioimageio", "cite": [("x", "our drawer")]}, "neither a DOI .* nor a URL"),
    ],
)
def test_wrong_requests(
    name: str, options: dict[str, Any], message: str, models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        export(models["unet"], tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unasked(models: dict[str, LoadedModel], tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_text("mine")
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        export(models["unet"], path)
    assert path.read_text() == "mine"
    export(models["unet"], path, overwrite=True)
    assert zipfile.is_zipfile(io.BytesIO(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        ("photos", "bioimageio", r"photos holds a\.png, b\.png, c\.png and 1 more, which such a model does not"),
        ("photos.pt", "torchscript", "photos.pt is a folder, where a file is to be written"),
        ("photos.zip", "bioimageio", "photos.zip is a folder, where a file is to be written"),
        ("README.md", "bioimageio", "README.md is a file, where a folder is to be written"),
        ("docs", "bioimageio", "docs is a folder without rdf.yaml"),
        ("unet", "bioimageio", "unet is the model itself"),
    ],
)
def test_only_its_like_is_replaced(name: str, format: Any, message: str, tmp_path: Path) -> None:
    model = package("unet", tmp_path)
    for folder in ("photos", "photos.pt", "photos.zip"):
        (tmp_path / folder).mkdir()
        for picture in "abcd":
            (tmp_path / folder / f"{picture}.png").write_text("mine")
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "README.md").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputExistsError, match=f"{message}.*it is not replaced"):
        export(model, tmp_path / name, format=format, overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", ["unet", "rgb", "vgg16"])
def test_torchscript_comes_back_as_the_model_that_it_was(
    kind: str, models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    own = models[kind].contract
    read = load(export(models[kind], tmp_path / "m.pt"))
    for field in ("name", "classes", "colors", "um_per_px", "temperature", "synthetic_only", "in_channels", "stride"):
        assert getattr(read.contract, field) == getattr(own, field), field
    assert read.contract.halo <= own.halo  # measured again
    assert set(read.contract.mean) == {0.0} and set(read.contract.std) == {1.0}  # these are inside
    with pytest.raises(ModelError, match="normalisation inside; leave normalize out"):
        load(tmp_path / "m.pt", normalize=(0.5, 0.2))
    export(read, tmp_path / "again.pt")
    assert load(tmp_path / "again.pt").contract.classes == own.classes


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ("{", "holds a description that cannot be read"),
        ('{"name": "m", "channels": 1, "classes": ["a"], "colors": [[0, 0, 0]], "um_per_px": 0.1}', "cannot be read"),
        (
            '{"name": "m", "channels": 1, "classes": ["a", "b", "c"], "colors": [[0,0,0],[1,1,1],[2,2,2]], '
            '"um_per_px": null}',
            "gives 2 classes, and its description names 3",
        ),
        (
            '{"name": "m", "channels": 1, "classes": ["a", "b"], "colors": [[0, 0, 0], [1, 1, 300]], "um_per_px": 0.1}',
            "less than",
        ),
    ],
)
def test_a_description_that_is_none_is_refused(wrong: str, complaint: str, tmp_path: Path) -> None:
    traced = torch.jit.trace(nn.Conv2d(1, 2, 3, padding=1).eval(), torch.zeros(1, 1, 32, 32))
    torch.jit.save(traced, str(tmp_path / "m.pt"), _extra_files={"bainite_fast.json": wrong})
    with pytest.raises(ModelError, match=complaint):
        load(tmp_path / "m.pt")


def test_a_folder_that_cannot_be_made_is_named(models: dict[str, LoadedModel], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"cannot write m\.pt"):
        export(models["rgb"], tmp_path / "file" / "m.pt")


def test_a_bioimageio_model_and_an_empty_folder_are_replaced(models: dict[str, LoadedModel], tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    for _ in range(2):
        export(models["rgb"], tmp_path / "m", format="bioimageio", overwrite=True)
        assert (tmp_path / "m" / "rdf.yaml").is_file()
    assert [x.name for x in tmp_path.iterdir()] == ["m"]
