"""Model packages: a folder or zip of config, weights, card and a test; nothing is executed or unpickled."""

from __future__ import annotations

import copy
import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from pydantic import ValidationError
from torch import nn

from ..errors import ModelError
from .architectures import architecture, build, load_weights
from .card import model_card
from .catalog import (
    CARD,
    CONFIG,
    DATA_FILES,
    PACKAGE_FILES,
    TEST_INPUT,
    TEST_OUTPUT,
    WEIGHTS,
    ClassConfig,
    PackageConfig,
    Score,
    config_bytes,
    parse_config,
    sanity_limit,
)
from .contract import Color, Contract, LoadedModel, default_colors, per_channel
from .device import exact_math
from .package_files import PackageReader, check_target, write_package
from .receptive_field import probe
from .threads import serial_threads

TOLERANCE = 1e-3  # of the largest logit, or of 1: CPUs differ by 1e-5 or so, wrong weights by far more
_TEST_LIMIT = 512 * 2**20  # bytes of a test array
_CONFIG_LIMIT = 2**20  # bytes


def save_package(
    module: nn.Module,
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str],
    test_input: np.ndarray,
    name: str | None = None,
    colors: Sequence[Color] | None = None,
    um_per_px: float | None = None,
    normalize: tuple[float | Sequence[float], float | Sequence[float]] = (0.0, 1.0),
    description: str = "",
    card: str = "",
    training: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    scores: Sequence[Score | Mapping[str, Any]] = (),
    temperature: float | None = None,
    synthetic_only: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write a model package: stride and halo are measured, and the test output is computed, here.

    Parameters
    ----------
    module : UNet or VGG16UNet
        Trained network.
    path : path
        A folder to make, or a zip file if it ends in ``.zip``. It appears whole or not at all.
    classes : sequence of str
        Name of each label value, from 0; two for a network with one output channel.
    test_input : ndarray [h, w] or [h, w, C], uint8, uint16 or float32
        Raw intensities; h and w are multiples of the network's stride.
    name : str, optional
        Of the model; the file's name without suffix by default.
    colors : sequence of (int, int, int), optional
        Colour of each label value, 0…255.
    um_per_px : float, optional
        Scale that it was trained at, µm per pixel.
    normalize : (mean, std)
        One number or one per channel, of intensities brought to 0…1.
    description, card : str
        One line for lists, and the card (Markdown) that says what the model is for and what it has seen; by default
        :func:`~bainite_fast.models.model_card` writes it from what is given here.
    training : mapping, optional
        Provenance, JSON-able values; ``data`` says, in words or as a mapping, what the model was trained on.
    recipe : mapping, optional
        What it was trained with, JSON-able values: all that is needed to train it again.
    scores : sequence of Score or mapping
        What it reached, on which data, with the interval of each number.
    temperature : float, optional
        Of the calibration, 0.01 to 100: the confidence is softmax(logits / temperature) of the winning class
        (Guo et al., ICML 2017). No label depends on it.
    synthetic_only : bool
        The model has seen no real steel; its outputs are marked so.
    overwrite : bool
        Replace the package, or the file, that is at `path`.

    Returns
    -------
    Path
        Of the package.

    Raises
    ------
    OutputExistsError
        If `path` exists, and `overwrite` is false or it is a folder that holds anything but a package.
    ModelError
        If the network is not a :class:`UNet` or :class:`VGG16UNet`, cannot be tiled, or does not fit what is declared.
    """
    target = Path(path)
    check_target(target, overwrite=overwrite, members=PACKAGE_FILES)
    if not isinstance(test_input, np.ndarray):
        raise ModelError(f"the test input is a {type(test_input).__name__}; give a NumPy array [h, w] or [h, w, C]")
    layers = architecture(module)
    network = copy.deepcopy(module).to("cpu").float().eval()
    files = {
        WEIGHTS: safetensors.torch.save({k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()})
    }
    reach = probe(network, layers.in_channels)
    newer = recipe is not None or bool(scores) or temperature is not None or layers.kind != "unet"
    draft = PackageConfig.model_construct(
        format_version=2 if newer else 1,  # the oldest that can hold it
        name=name or target.name.removesuffix(".zip"),
        description=description,
        architecture=layers,
        classes=_classes(classes, colors),
        um_per_px=um_per_px,
        mean=per_channel(_tuple(normalize[0]), layers.in_channels, "mean"),
        std=per_channel(_tuple(normalize[1]), layers.in_channels, "std"),
        stride=reach.stride,
        halo=reach.halo,
        radius=reach.radius,
        synthetic_only=synthetic_only,
        training=dict(training or {}),
        recipe=None if recipe is None else dict(recipe),
        scores=_scores(scores, target),
        temperature=temperature,
        files=dict.fromkeys(DATA_FILES, "0" * 64),
    )
    try:
        config = parse_config(config_bytes(draft), str(target))
    except (TypeError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"the package {target} cannot be described in JSON ({error}); use plain values") from error
    files[TEST_INPUT] = _npy_bytes(test_input)
    files[TEST_OUTPUT] = _npy_bytes(_test_logits(network, _contract(config), test_input))
    config = config.model_copy(update={"files": {k: hashlib.sha256(files[k]).hexdigest() for k in DATA_FILES}})
    files[CONFIG] = config_bytes(config)
    files[CARD] = (card or model_card(config)).encode()
    write_package(target, files)
    return target


def load_package(path: str | os.PathLike[str]) -> LoadedModel:
    """Read a model package and test it: in a process once, and again when its configuration or a file has changed.

    Parameters
    ----------
    path : path
        Folder or zip.

    Returns
    -------
    LoadedModel

    Raises
    ------
    ModelError
        If a file is missing, corrupt, or not the one that was packed, a key is unknown, the weights do not fit the
        architecture, or the network does not give the packed test output.
    """
    source = Path(path)
    with PackageReader(source) as files:
        config = parse_config(files.read(CONFIG, _CONFIG_LIMIT), str(source))
        limits = {WEIGHTS: sanity_limit(config.architecture), TEST_INPUT: _TEST_LIMIT, TEST_OUTPUT: _TEST_LIMIT}
        data = {name: files.read(name, limit) for name, limit in limits.items()}
    for name, content in data.items():
        if hashlib.sha256(content).hexdigest() != config.files[name]:
            raise ModelError(f"{source}: {name} is not the file that was packed (its sha256 differs); get a fresh copy")
    network = _network(config, data[WEIGHTS], source)
    contract = _contract(config)
    test_input, test_output = (_read_npy(data[x], x, source) for x in (TEST_INPUT, TEST_OUTPUT))
    if contract.sha256 not in _tested:  # once in a process: a run after a run of the same model starts at once
        _self_test(network, contract, test_input, test_output, source)
        _tested.add(contract.sha256)
    return LoadedModel(network, contract, test_input, test_output, str(source), config)


_tested: set[str] = set()  # digests, which cover weights, test input and test output


def _contract(config: PackageConfig) -> Contract:
    """Return the contract; its digest covers config and data files, and so is the same for folder and zip."""
    return Contract(
        name=config.name,
        sha256=hashlib.sha256(config_bytes(config)).hexdigest(),
        in_channels=config.architecture.in_channels,
        out_channels=config.architecture.classes,
        classes=tuple(x.name for x in config.classes),
        colors=tuple(x.color for x in config.classes),
        um_per_px=config.um_per_px,
        mean=config.mean,
        std=config.std,
        stride=config.stride,
        halo=config.halo,
        radius=config.radius,
        synthetic_only=config.synthetic_only,
        temperature=1.0 if config.temperature is None else config.temperature,
    )


def _scores(scores: Sequence[Score | Mapping[str, Any]], target: Path) -> tuple[Score, ...]:
    try:
        return tuple(x if isinstance(x, Score) else Score.model_validate(dict(x)) for x in scores)
    except ValidationError as error:
        what = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'score'}: {e['msg']}" for e in error.errors())
        raise ModelError(f"a score of the package {target} is wrong ({what}); see bainite_fast.models.Score") from error


def _tuple(value: float | Sequence[float]) -> float | tuple[float, ...]:
    return value if isinstance(value, (int, float)) else tuple(value)


def _classes(names: Sequence[str], colors: Sequence[Color] | None) -> tuple[ClassConfig, ...]:
    chosen = default_colors(len(names)) if colors is None else tuple(colors)
    if len(chosen) != len(names):
        raise ModelError(f"{len(names)} classes are named and {len(chosen)} colours given; give one for each")
    # Checked when the configuration is parsed as a whole.
    return tuple(ClassConfig.model_construct(name=n, color=tuple(c)) for n, c in zip(names, chosen, strict=True))


def _test_logits(network: nn.Module, contract: Contract, image: np.ndarray) -> np.ndarray:
    if image.ndim not in (2, 3) or image.size == 0:
        raise ModelError(f"the test input has shape {image.shape}; give one image [h, w] or [h, w, C]")
    with torch.inference_mode(), serial_threads(), exact_math("cpu"):
        logits: np.ndarray = network(torch.from_numpy(contract.normalize(image)))[0].numpy()
    if not np.isfinite(logits).all():
        raise ModelError(f"the model {contract.name!r} returns NaN or infinity for its test input")
    return logits


def _self_test(network: nn.Module, contract: Contract, given: np.ndarray, expected: np.ndarray, source: Path) -> None:
    found = _test_logits(network, contract, given)
    cure = "the package does not do what it did when it was made; pack it again with save_package"
    if found.shape != expected.shape or expected.dtype != np.float32:
        raise ModelError(
            f"{source}: the self-test gives logits {found.shape} float32, and {TEST_OUTPUT} holds {expected.shape} "
            f"{expected.dtype}: {cure}"
        )
    difference = float(np.abs(found - expected).max())
    allowed = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not difference <= allowed:
        raise ModelError(
            f"{source}: the self-test fails, logits differ by up to {difference:.2e} (allowed: {allowed:.2e}): {cure}"
        )


def _network(config: PackageConfig, weights: bytes, source: Path) -> nn.Module:
    try:
        state = safetensors.torch.load(weights)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"{source}: {WEIGHTS} is corrupt ({error}); get a fresh copy") from error
    with torch.device("meta"):  # neither allocates twice nor draws from the caller's random numbers
        network = build(config.architecture)
    load_weights(network, state, source=f"{source}: {WEIGHTS}", assign=True)
    return network.float().requires_grad_(False).eval()


def _npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _read_npy(data: bytes, name: str, source: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ModelError(f"{source}: {name} is not a NumPy array without objects ({error}); pack it again") from error
    return array
