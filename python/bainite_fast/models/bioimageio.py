"""A model as the bioimage.io specification 0.5 describes it (https://bioimage.io/docs/, model RDF): the files of it."""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
import yaml

from ..errors import ModelError
from .card import model_card
from .contract import Contract, LoadedModel
from .describing import RDF, is_package
from .package_files import read_description

OPSET = 18  # of ONNX
SPEC = "0.5.3"  # the oldest version that has all that is written here
_WEIGHTS = {"torchscript": "weights.torchscript.pt", "onnx": "weights.onnx"}
_CARD, _TEST_INPUT, _TEST_OUTPUT = "README.md", "test_input.npy", "test_output.npy"
MEMBERS = (RDF, _CARD, _TEST_INPUT, _TEST_OUTPUT, *_WEIGHTS.values())
"""Files of a model."""
_FULL_SCALE = {"uint8": 255, "uint16": 65535}

PAPERS: tuple[tuple[str, str], ...] = (
    (
        "A. R. Durmaz et al., A deep learning approach for complex microstructure inference, Nat. Commun. 12, 6272 "
        "(2021)",
        "10.1038/s41467-021-26565-5",
    ),
    (
        "O. Ronneberger, P. Fischer, T. Brox, U-Net: Convolutional networks for biomedical image segmentation, MICCAI "
        "(2015)",
        "10.1007/978-3-319-24574-4_28",
    ),
)


@dataclass(frozen=True)
class Publication:
    """Who made a model, under which licence it may be used, and what to cite: (text, DOI or URL)."""

    authors: tuple[str, ...] = ()
    license: str | None = None
    cite: tuple[tuple[str, str], ...] = ()


def bioimageio_files(
    loaded: LoadedModel,
    weights: Mapping[str, bytes],
    publication: Publication,
    description: Mapping[str, Any],
    run: Callable[[np.ndarray], np.ndarray],
) -> dict[str, bytes]:
    """Return the files of a bioimage.io model by name.

    Parameters
    ----------
    loaded : LoadedModel
        The model.
    weights : mapping
        Content of the weights by format, ``"torchscript"`` or ``"onnx"``: networks that take intensities 0…1.
    publication : Publication
        Authors, licence and citations.
    description : mapping
        What else goes into ``config.bainite_fast``.
    run : callable
        Gives float32 logits [N, K, H, W] of float32 intensities [N, C, H, W] of 0…1.
    """
    raw = _test_image(loaded)
    scaled = raw.astype(np.float32) / np.float32(_FULL_SCALE.get(raw.dtype.name, 1))
    files = {
        _CARD: _readme(loaded).encode(),
        _TEST_INPUT: _npy(raw),
        _TEST_OUTPUT: _npy(run(scaled)),
        **{_WEIGHTS[kind]: content for kind, content in weights.items()},
    }
    rdf = {
        "type": "model",
        "format_version": SPEC,
        "name": _name(loaded.contract.name),
        "description": _summary(loaded),
        "authors": [{"name": name} for name in publication.authors or ("unknown",)],
        "cite": [citation(*entry) for entry in publication.cite or PAPERS],
        **({"license": publication.license} if publication.license else {}),
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "tags": ["semantic-segmentation", "steel", "microstructure", "metallography", "unet", "2d", "pytorch"],
        "documentation": _CARD,
        "inputs": [_input(loaded.contract, raw.dtype.name, files)],
        "outputs": [_output(loaded.contract, files)],
        "weights": _weights(files),
        "config": {"bainite_fast": dict(description)},
    }
    return {RDF: yaml.safe_dump(rdf, sort_keys=False, allow_unicode=True, width=120).encode(), **files}


def _test_image(loaded: LoadedModel) -> np.ndarray:
    """Return the raw test image [1, C, h, w], mirrored to a size from which the halo can be cropped."""
    contract = loaded.contract
    least = _least(contract)
    image = loaded.test_input
    if image is None:
        image = np.random.default_rng(0).random((least, least, contract.in_channels), dtype=np.float32)
    cube = image if image.ndim == 3 else image[..., np.newaxis]
    missing = [max(0, least - n) for n in cube.shape[:2]]
    padded = np.pad(cube, [*((0, n) for n in missing), (0, 0)], mode="symmetric")
    return np.ascontiguousarray(padded.transpose(2, 0, 1)[np.newaxis])


def _least(contract: Contract) -> int:
    """Return the smallest input that leaves something when the halo is cropped, and that every format takes, px."""
    return 2 * contract.halo + contract.stride if contract.halo else 2 * contract.stride


def _input(contract: Contract, dtype: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    channels = {1: ["gray"], 3: ["red", "green", "blue"]}.get(contract.in_channels)
    full = _FULL_SCALE.get(dtype)
    steps: list[dict[str, Any]] = [{"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}]
    if full:
        steps.append({"id": "scale_linear", "kwargs": {"gain": 1 / full, "offset": 0.0}})
    return {
        "id": "image",
        "description": "micrograph; the preprocessing brings it to 0…1, and the network normalises it",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": channels or [f"channel {i}" for i in range(contract.in_channels)]},
            *(_space(contract, axis, {"min": _least(contract), "step": contract.stride}) for axis in "yx"),
        ],
        "data": {"type": dtype},
        "preprocessing": steps,
        "test_tensor": _reference(_TEST_INPUT, files),
    }


def _output(contract: Contract, files: Mapping[str, bytes]) -> dict[str, Any]:
    halo = {"halo": contract.halo} if contract.halo else {}
    names = [contract.classes[1]] if contract.out_channels == 1 else list(contract.classes)
    return {
        "id": "logits",
        "description": "logits; above 0 is the class"
        if contract.out_channels == 1
        else "logits; the class is the argmax",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": names},
            *(_space(contract, axis, {"tensor_id": "image", "axis_id": axis}) | halo for axis in "yx"),
        ],
        "data": {"type": "float32"},
        "test_tensor": _reference(_TEST_OUTPUT, files),
    }


def _space(contract: Contract, axis: str, size: dict[str, Any]) -> dict[str, Any]:
    scale = {} if contract.um_per_px is None else {"scale": _scale(contract), "unit": "micrometer"}
    return {"type": "space", "id": axis, "size": size, **scale}


def _scale(contract: Contract) -> float:
    """Return the µm/px; where the specification's halo · scale / scale is not the halo again, of 32 bits alone."""
    scale = contract.um_per_px or 1.0
    if contract.halo * scale / scale == contract.halo:
        return scale
    fraction, exponent = math.frexp(scale)
    return math.ldexp(round(fraction * 2**32), exponent - 32)  # products with such numbers are exact


def _weights(files: Mapping[str, bytes]) -> dict[str, Any]:
    entries: dict[str, Any] = {
        "torchscript": {
            **_reference(_WEIGHTS["torchscript"], files),
            "pytorch_version": torch.__version__.partition("+")[0],
        }
    }
    if _WEIGHTS["onnx"] in files:
        entries["onnx"] = {**_reference(_WEIGHTS["onnx"], files), "opset_version": OPSET, "parent": "torchscript"}
    return entries


def _reference(name: str, files: Mapping[str, bytes]) -> dict[str, str]:
    return {"source": name, "sha256": hashlib.sha256(files[name]).hexdigest()}


def citation(text: str, where: str) -> dict[str, str]:
    """Return one entry of ``cite``.

    Raises
    ------
    ModelError
        If `where` is neither a DOI nor a URL.
    """
    doi = re.fullmatch(r"(?:https?://(?:dx\.)?doi\.org/|doi:)?(10\.[0-9]{4,}/\S+)", where.strip())
    if doi is None and not where.startswith(("http://", "https://")):
        raise ModelError(f"{where!r} is neither a DOI (10.1038/…) nor a URL; give the text and where to find it")
    return {"text": text or where, "doi": doi[1]} if doi else {"text": text or where, "url": where}


def _name(name: str) -> str:
    """Return a name of the characters, and the 5 to 128 of them, that the specification allows."""
    plain = re.sub(r"[^A-Za-z0-9_+\- ()]+", "-", name).strip("- ")[:128]
    return plain if len(plain) >= 5 else f"{plain} model".strip()


def _summary(loaded: LoadedModel) -> str:
    text = loaded.config.description if loaded.config is not None else ""
    return (text or f"Segments micrographs into {', '.join(loaded.contract.classes)}")[:1024]


def _readme(loaded: LoadedModel) -> str:
    contract = loaded.contract
    card = f"# {contract.name}\n"
    if loaded.config is not None:
        own = read_description(loaded.source)[1] if is_package(loaded.source) else ""
        card = own or model_card(loaded.config)
    validation = "Compare the labels with your own annotation, by the intersection over union of each class."
    tiles = (
        f"Cut tiles that begin on multiples of {contract.stride} px and have {contract.halo} px of context on every "
        "side; crop the context from the answer. Then it is that of one pass over the whole image."
    )
    return f"{card}\n## Validation\n\n{validation}\n\n## In tiles\n\n{tiles}\n"


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()
