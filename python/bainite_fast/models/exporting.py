"""Models for other programs: TorchScript, torch.export's ``.pt2``, ONNX, and bioimage.io packages.

Every exported network takes intensities 0…1 (uint8 / 255, uint16 / 65535, floats as they are) and gives logits: the
model's own normalisation is its first layer. The model's description travels inside the file, as JSON.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn

from .._optional import require
from ..errors import ModelError
from .bioimageio import MEMBERS, OPSET, Publication, bioimageio_files, citation
from .contract import Contract, LoadedModel
from .description import DESCRIPTION, describe
from .loading import load
from .package_files import check_target, place_file, place_files
from .runtime import is_torchscript, run_torchscript, trace_torchscript
from .threads import serial_threads

Format = Literal["torchscript", "pt2", "onnx", "bioimageio"]
FORMATS: tuple[str, ...] = get_args(Format)

_TOLERANCE = 1e-4  # of the largest logit, or of 1
_PLAIN: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}  # whatever PyTorch makes tensors of by default
_SUFFIXES = {".pt": "torchscript", ".ts": "torchscript", ".pt2": "pt2", ".onnx": "onnx"}


def export(
    model: str | os.PathLike[str] | nn.Module | LoadedModel | None,
    path: str | os.PathLike[str],
    *,
    format: Format | None = None,
    authors: Sequence[str] = (),
    license: str | None = None,
    cite: Sequence[tuple[str, str]] = (),
    overwrite: bool = False,
) -> Path:
    """Write a model for another program, and check there that it gives the same logits.

    The exported network maps float32 intensities 0…1 [N, C, H, W] to logits [N, K, H, W], for any batch; H and W are
    multiples of the model's stride. Tiles need the model's halo on every side. ``torchscript`` and ``onnx`` take one
    stride and more; ``pt2`` two and more, since torch.export treats sizes of 1 (here of the deepest level) as another
    program. ``bioimageio`` is a model of specification 0.5 for ilastik, deepImageJ, napari and others: ``rdf.yaml``,
    TorchScript and ONNX weights, test tensors and the card; its input is in the intensities of the test image (uint8,
    uint16 or float32), which its preprocessing brings to 0…1.

    Parameters
    ----------
    model : str, path, torch.nn.Module, LoadedModel or None
        As for :func:`load`.
    path : path
        File to write; for ``bioimageio`` a folder, or a zip if it ends in ``.zip``. It appears whole or not at all.
    format : {"torchscript", "pt2", "onnx", "bioimageio"}, optional
        By default from the suffix: ``.pt`` or ``.ts``, ``.pt2``, ``.onnx``.
    authors : sequence of str
        Who made the model; unknown by default. This and the next two are for bioimage.io only.
    license : str, optional
        SPDX name of the licence of the weights, such as ``"CC-BY-4.0"``; none is claimed by default.
    cite : sequence of (text, doi or URL)
        What to cite; by default the network's papers.
    overwrite : bool
        Replace the file, or the bioimage.io model, that is at `path`.

    Returns
    -------
    Path
        Of what was written.

    Raises
    ------
    ModelError
        If the format is unknown, the model cannot be exported to it, or what was exported gives other logits.
    OutputExistsError
        If `path` exists, and `overwrite` is false, it is the model itself, or a folder that holds anything else.
    MissingExtraError
        If ONNX is asked for and its packages are missing (``pip install "bainite-fast[export]"``).
    """
    target = Path(path)
    chosen = _format(target, format)
    publication = Publication(tuple(authors), license, tuple(cite))
    for entry in publication.cite:
        citation(*entry)  # wrong ones are refused before the work
    if chosen != "bioimageio" and publication != Publication():
        raise ModelError(
            f"authors, licence and citations go into bioimage.io models, and not into {chosen}; leave them"
        )
    source = model.source if isinstance(model, LoadedModel) else model if isinstance(model, (str, os.PathLike)) else ""
    members = MEMBERS if chosen == "bioimageio" else ()
    check_target(target, overwrite=overwrite, members=members, source=source)
    if chosen in ("onnx", "bioimageio"):
        for name in ("onnx", "onnxscript", "onnxruntime"):
            require(name, "export", "export to ONNX")
    subject = _subject(load(model))
    if chosen == "bioimageio":
        files = _bioimageio(subject, publication)
        place_files(target, files)
    else:
        place_file(target, _WRITERS[chosen](subject))
    return target


@dataclass(frozen=True)
class _Subject:
    """What is exported: the network with its normalisation, and an input 0…1 with the logits that it must give."""

    loaded: LoadedModel
    network: nn.Module
    image: torch.Tensor
    logits: torch.Tensor
    description: str

    @property
    def contract(self) -> Contract:
        return self.loaded.contract


class NormalizedInput(nn.Module):
    """A network behind its normalisation: intensities 0…1 in, logits out."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, contract: Contract) -> None:
        super().__init__()
        shape = (1, contract.in_channels, 1, 1)
        self.register_buffer("mean", torch.tensor(contract.mean, **_PLAIN).reshape(shape))
        self.register_buffer("std", torch.tensor(contract.std, **_PLAIN).reshape(shape))
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits [N, K, H, W] of intensities [N, C, H, W]."""
        y: torch.Tensor = self.network((x - self.mean) / self.std)
        return y


def _format(target: Path, format: str | None) -> str:
    chosen = format or _SUFFIXES.get(target.suffix.lower())
    if chosen not in FORMATS:
        what = f"format {format!r}" if format else f"{target.name}, whose suffix names no format"
        raise ModelError(f"got {what}; give format= one of {', '.join(FORMATS)} (.pt, .pt2 and .onnx name their own)")
    expected = next((suffix for suffix, kind in _SUFFIXES.items() if kind == chosen), None)
    if expected and _SUFFIXES.get(target.suffix.lower()) != chosen:
        raise ModelError(
            f"{target.name} is no name for {chosen}, which ends in {expected}; use {target.with_suffix(expected).name}"
        )
    return chosen


def _subject(loaded: LoadedModel) -> _Subject:
    contract = loaded.contract
    plain = all(m == 0 and s == 1 for m, s in zip(contract.mean, contract.std, strict=True))
    network = loaded.module if plain else NormalizedInput(loaded.module, contract)
    image = torch.from_numpy(_intensities(loaded))
    with torch.inference_mode(), serial_threads():
        logits = network(image)
    return _Subject(loaded, network.eval(), image, logits, json.dumps(describe(contract)))


def _intensities(loaded: LoadedModel) -> np.ndarray:
    """Return the test image as intensities [1, C, h, w] 0…1 float32; noise where the model has none."""
    contract = loaded.contract
    if loaded.test_input is None:
        edge = 3 * contract.stride
        shape = (1, contract.in_channels, edge, edge + contract.stride)
        return np.random.default_rng(0).random(shape, dtype=np.float32)
    raw = loaded.test_input if loaded.test_input.ndim == 3 else loaded.test_input[..., np.newaxis]
    full = {"uint8": 255.0, "uint16": 65535.0}.get(raw.dtype.name, 1.0)
    return np.ascontiguousarray((raw.astype(np.float32) / np.float32(full)).transpose(2, 0, 1)[np.newaxis])


def _frozen(network: nn.Module) -> nn.Module:
    """Return a copy that is not trained any more: no gradient is written into the file."""
    if is_torchscript(network):
        return network  # it refuses to be changed, and is saved as it is
    return copy.deepcopy(network).requires_grad_(False)


def _torchscript(subject: _Subject) -> bytes:
    network = _frozen(subject.network)
    data = trace_torchscript(network, subject.image, {DESCRIPTION: subject.description})
    _check("TorchScript", subject, lambda x: run_torchscript(data, x))
    return data


def _program(subject: _Subject) -> Any:
    """Return the network as an exported program of any batch, and any height and width of at least two strides."""
    if is_torchscript(subject.loaded.module):
        raise ModelError(
            f"{subject.loaded.source} is TorchScript, which cannot be turned into another format; export the package "
            "or the nn.Module that it was made from"
        )
    stride = subject.contract.stride
    rows, columns = (stride * torch.export.Dim(name, min=2) for name in ("row_strides", "column_strides"))
    shapes = {0: torch.export.Dim("batch"), 2: rows, 3: columns}
    sample = torch.rand(2, subject.contract.in_channels, 3 * stride, 4 * stride, **_PLAIN)
    network = _frozen(subject.network)
    try:
        return torch.export.export(network, (sample,), dynamic_shapes=(shapes,))
    except Exception as error:  # a foreign network may hold anything that torch.export does not take
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"torch.export cannot export {subject.contract.name} for any size ({first}); export it to TorchScript"
        ) from error


def _pt2(subject: _Subject) -> bytes:
    buffer = io.BytesIO()
    with _quiet():
        program = _program(subject)
        torch.export.save(program, buffer, extra_files={DESCRIPTION: subject.description})
        buffer.seek(0)
        again = torch.export.load(buffer).module()
    _check("torch.export", subject, again)
    return buffer.getvalue()


def _onnx(subject: _Subject) -> bytes:
    with _quiet():
        program = torch.onnx.export(
            _program(subject), dynamo=True, opset_version=OPSET, input_names=["image"], output_names=["logits"]
        )
        if program is None:
            raise ModelError(f"torch.onnx gave no model for {subject.contract.name}")
        proto: Any = program.model_proto
    for value in (*proto.graph.input, *proto.graph.output):
        for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    del proto.graph.value_info[:]  # optional, and named after the program's own symbols
    entry = proto.metadata_props.add()
    entry.key, entry.value = DESCRIPTION, subject.description
    data: bytes = proto.SerializeToString()
    _check("ONNX", subject, lambda x: run_onnx(data, x))
    return data


def run_onnx(data: bytes, image: torch.Tensor) -> torch.Tensor:
    """Return what ONNX Runtime gives for an image [N, C, H, W] on the CPU."""
    runtime = require("onnxruntime", "export", "running ONNX")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: image.numpy()})[0])


_WRITERS: dict[str, Callable[[_Subject], bytes]] = {"torchscript": _torchscript, "pt2": _pt2, "onnx": _onnx}


def _bioimageio(subject: _Subject, publication: Publication) -> dict[str, bytes]:
    weights = {"torchscript": _torchscript(subject)}
    if not is_torchscript(subject.loaded.module):
        weights["onnx"] = _onnx(subject)

    def run(image: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), serial_threads():
            logits: np.ndarray = subject.network(torch.from_numpy(image)).numpy()
        return logits

    return bioimageio_files(subject.loaded, weights, publication, describe(subject.contract), run)


def _check(what: str, subject: _Subject, run: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Compare what was exported with the network, on the test image and on a batch of another size."""
    stride = subject.contract.stride
    generator = torch.Generator().manual_seed(1)
    other = torch.rand(2, subject.contract.in_channels, 4 * stride, 2 * stride, generator=generator, **_PLAIN)
    with torch.inference_mode(), serial_threads():
        for image, expected in ((subject.image, subject.logits), (other, subject.network(other))):
            try:
                found = run(image)
            except Exception as error:  # whatever the other runtime raises
                first = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise ModelError(f"the {what} file does not run on {list(image.shape)} ({first})") from error
            worst = float((found - expected).abs().max()) if found.shape == expected.shape else float("inf")
            if not worst <= _TOLERANCE * max(1.0, float(expected.abs().max())):
                raise ModelError(
                    f"the {what} file gives logits that are off by {worst:.1e} for {list(image.shape)}: its answer "
                    "depends on more than the image's content, or an operator is translated wrongly"
                )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what PyTorch's exporters say of themselves: deprecations inside, and torchvision not being there."""
    loggers = [logging.getLogger(x) for x in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [x.level for x in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
