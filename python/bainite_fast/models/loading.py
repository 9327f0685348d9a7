"""One door for every kind of model: in the box, package, TorchScript file, ``nn.Module``."""

from __future__ import annotations

import copy
import hashlib
import inspect
import os
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ..errors import BainiteWarning, ModelError
from ..geometry import round_up
from .architectures import recognize
from .catalog import CONFIG, DEFAULT_MODEL, bundled_names, bundled_path
from .compiled import noise
from .contract import Contract, LoadedModel, default_classes, default_colors, per_channel
from .describing import RDF
from .description import described, read_said
from .device import exact_math
from .package import load_package
from .package_files import open_zip
from .receptive_field import Reach, deduce_in_channels, probe, refuse_optimized
from .runtime import is_torchscript, read_torchscript, torchscript_bytes
from .threads import serial_threads

Normalize = tuple[float | Sequence[float], float | Sequence[float]]

_SAFE_WAY = (
    "loading it would execute whatever code it holds, so it is refused. Build the network in Python, load the weights "
    "into it yourself, and pass the nn.Module; or save it as a package with bainite_fast.models.save_package (a U-Net) "
    "or as TorchScript with torch.jit.trace(...).save(path)"
)
_FOREIGN = (
    "{} is {}, made for other programs; segment with the package that it was exported from, or with {} (a .pt file)"
)
_KINDS = "a model is a name in the box, a package (folder or zip), a TorchScript file or an nn.Module"


def load(
    model: str | os.PathLike[str] | nn.Module | LoadedModel | None = None, *, normalize: Normalize | None = None
) -> LoadedModel:
    """Load a model of any kind.

    Parameters
    ----------
    model : str, path, torch.nn.Module, LoadedModel or None
        Name of a model in the box, package folder or zip, TorchScript file, or module; ``None`` is the default model
        in the box. A module is copied to the CPU in float32; the caller's is left as it was.
    normalize : (mean, std), optional
        For bare modules and TorchScript files, which declare none: one number or one per channel, of intensities
        brought to 0…1. ``(0, 1)`` by default. TorchScript files that :func:`export` wrote have it inside, and keep
        the classes, colours, µm/px and temperature of their model.

    Returns
    -------
    LoadedModel

    Raises
    ------
    ModelError
        If there is no such model, it is a pickle, it is corrupt, fails its self-test, cannot be tiled, or ends in a
        sigmoid; or if `normalize` is given for a model that declares its own.
    """
    if isinstance(model, nn.Module):
        return _load_module(model, normalize)
    if isinstance(model, LoadedModel):
        loaded = model
    elif model is None:
        loaded = load_package(bundled_path(DEFAULT_MODEL))
    elif isinstance(model, (str, os.PathLike)):
        found = _load_path(os.fspath(model))
        if isinstance(found, Path):
            return _load_torchscript(found, normalize)
        loaded = found
    else:
        raise ModelError(f"got a {type(model).__name__}; {_KINDS}")
    if normalize is not None:
        raise ModelError(
            f"the model {loaded.contract.name!r} declares its own normalisation (mean {loaded.contract.mean}, std "
            f"{loaded.contract.std}); leave normalize out"
        )
    return loaded


def _load_path(text: str) -> LoadedModel | Path:
    """Return a package, or the path of a TorchScript file."""
    path = Path(text)
    if text in bundled_names():
        return load_package(bundled_path(text))
    if not text or not path.exists():
        names = ", ".join(bundled_names()) or "none in this installation"
        raise ModelError(f"there is no model {text!r}: no such file or folder, and in the box: {names}; {_KINDS}")
    if path.is_dir():
        if (path / RDF).is_file() and not (path / CONFIG).is_file():
            raise ModelError(_FOREIGN.format(path, "a bioimage.io model", "its TorchScript weights"))
        if not (path / CONFIG).is_file() and (path / "model" / CONFIG).is_file():
            raise ModelError(f"{path} is the folder of a training run; its model is {path / 'model'}")
        return load_package(path)
    return load_package(path) if _file_kind(path) == "package" else path


def _load_torchscript(path: Path, normalize: Normalize | None) -> LoadedModel:
    """Load a TorchScript file: what an export of ours says of itself holds, and all else is measured."""
    _refuse_damaged(path)
    said = read_said(path)
    if said is not None and normalize is not None:
        raise ModelError(f"{path} was exported from {said.name!r} with its normalisation inside; leave normalize out")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    channels = None if said is None else said.channels
    loaded = _bare(read_torchscript(path), path.stem, digest, str(path), normalize, channels)
    return loaded if said is None else replace(loaded, contract=described(loaded.contract, said))


def _file_kind(path: Path) -> str:
    """Return "package" or "torchscript" by what a file holds, whatever its name.

    Raises
    ------
    ModelError
        If it is a pickle, or of another kind.
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
        names = _zip_names(path) if zipfile.is_zipfile(path) else None
    except (OSError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} cannot be read ({error})") from error
    if names is not None:
        leaves = {x.partition("/")[2] for x in names}
        if "constants.pkl" in leaves and any(x.startswith("code/") for x in leaves):
            return "torchscript"
        if CONFIG in names or CONFIG in leaves:
            return "package"
        if "models/model.json" in leaves:
            raise ModelError(_FOREIGN.format(path, "a program of torch.export", "a TorchScript export"))
        if RDF in names:
            raise ModelError(_FOREIGN.format(path, "a bioimage.io model", "its TorchScript weights"))
        if "data.pkl" in leaves or any(x.endswith(".pkl") for x in names):
            raise ModelError(f"{path} is a checkpoint of torch.save, which is a pickle: {_SAFE_WAY}")
        raise ModelError(f"{path} is a zip, but neither a model package (it lacks {CONFIG}) nor TorchScript; {_KINDS}")
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        raise ModelError(f"{path} is a pickle: {_SAFE_WAY}")
    if head[8:9] == b"{":
        raise ModelError(
            f"{path} holds safetensors weights alone, which do not say classes, scale and normalisation"
            f"{_whose(path)}; load them with bainite_fast.models.load_weights and write a package with "
            "bainite_fast.models.save_package"
        )
    if path.suffix == ".onnx":
        raise ModelError(_FOREIGN.format(path, "ONNX", "a TorchScript export"))
    raise ModelError(f"{path} is not a model ({path.stat().st_size} bytes, beginning with {head[:8]!r}); {_KINDS}")


def _zip_names(path: Path) -> list[str]:
    with open_zip(path) as archive:
        return archive.namelist()


def _refuse_damaged(path: Path) -> None:
    """Compare a TorchScript file with its checksums, as PyTorch does not."""
    try:
        with open_zip(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError) as error:
        raise ModelError(f"{path} cannot be read ({error}); get a fresh copy") from error
    if damaged is not None:
        raise ModelError(f"{path} is damaged: {damaged} in it is not what was saved; get a fresh copy")


def _whose(path: Path) -> str:
    """Say which network of ours the weights of a safetensors file belong to, if any."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError):
        return ""
    found = recognize(weights)
    return "" if found is None else f" (they fit bainite_fast.models.build({found.model_dump()}))"


def _load_module(module: nn.Module, normalize: Normalize | None) -> LoadedModel:
    inner = module.module if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)) else module
    refuse_optimized(inner)
    name = str(getattr(inner, "original_name", type(inner).__name__))
    if any(is_lazy(x) for x in (*inner.parameters(), *inner.buffers())):
        raise ModelError(f"the module {name} has lazy layers that have seen no batch yet: run it on one, then pass it")
    try:
        with torch.no_grad():
            own = copy.deepcopy(inner)
    except (RuntimeError, TypeError, NotImplementedError, AttributeError) as error:
        raise ModelError(
            f"the module {name} cannot be copied ({error}); save it as TorchScript and pass that"
        ) from error
    digest = _digest(own)
    return _bare(own, name, digest, f"{type(inner).__module__}.{type(inner).__qualname__}", normalize)


def _bare(
    module: nn.Module, name: str, digest: str, source: str, normalize: Normalize | None, channels: int | None = None
) -> LoadedModel:
    """Measure a module that declares nothing, or no more than its channels."""
    mean, std = _plain(normalize)
    module = module.to("cpu").float()
    if getattr(module, "training", False):
        module.eval()
    with serial_threads(), exact_math("cpu"):
        channels = channels or deduce_in_channels(module)
        reach = probe(module, channels)
        _refuse_probabilities(module, channels, reach)
    classes = default_classes(reach.out_channels)
    contract = Contract(
        name=name,
        sha256=digest,
        in_channels=channels,
        out_channels=reach.out_channels,
        classes=classes,
        colors=default_colors(len(classes)),
        um_per_px=None,
        mean=per_channel(mean, channels, "mean"),
        std=per_channel(std, channels, "std"),
        stride=reach.stride,
        halo=reach.halo,
        radius=reach.radius,
        synthetic_only=False,
    )
    return LoadedModel(module, contract, None, None, source)


def _refuse_probabilities(module: nn.Module, channels: int, reach: Reach) -> None:
    """Refuse a network that ends in a sigmoid, whose label is the sign of its one logit; warn of other probabilities.

    Raises
    ------
    ModelError
        If its one channel lies within 0…1 whatever it is given.

    Warns
    -----
    BainiteWarning
        If its channels do: the labels are right, and the confidence is not.
    """
    edge = round_up(64, reach.stride)
    x = noise(1, channels, edge, edge, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        y = torch.cat([module(x), module(100 * x)])  # no logits stay within 0…1 when their input grows so much
    if not ((y >= 0) & (y <= 1)).all() or y.max() == y.min():
        return
    if reach.out_channels == 1:
        raise ModelError(
            "the network's one channel lies within 0…1, as after a sigmoid, and its logit is needed, which is positive "
            "where the class is; leave the sigmoid out, or wrap the network in a module that returns torch.logit of it"
        )
    warnings.warn(
        "the network's channels lie within 0…1, as after a softmax, and logits are expected: the labels are the same, "
        "but a confidence would be wrong; leave the softmax out, or wrap the network in a module that returns "
        "torch.log of it",
        BainiteWarning,
        stacklevel=5,
    )


def _plain(normalize: Normalize | None) -> tuple[float | tuple[float, ...], float | tuple[float, ...]]:
    """Return mean and std as plain numbers."""
    try:
        mean, std = (float(x) if isinstance(x, (int, float)) else tuple(map(float, x)) for x in normalize or (0.0, 1.0))
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"normalize is {normalize!r}; give (mean, std), each one number or one for each channel"
        ) from error
    return mean, std


def _digest(module: nn.Module) -> str:
    """Return a sha256 over a module's code, structure, weights and settings: the same in every process."""
    if is_torchscript(module):
        return hashlib.sha256(torchscript_bytes(module)).hexdigest()
    digest = hashlib.sha256(repr(module).encode())
    for kind in sorted({type(x) for x in module.modules()}, key=lambda x: f"{x.__module__}.{x.__qualname__}"):
        digest.update(f"{kind.__module__}.{kind.__qualname__}".encode())
        if not kind.__module__.startswith("torch."):
            digest.update(_source(kind))
    # Not the state_dict, which lacks buffers that are not saved.
    tensors = dict([*module.named_parameters(), *module.named_buffers()])
    for key, tensor in sorted(tensors.items(), key=lambda item: item[0]):
        digest.update(f"{key} {_setting(tensor)}".encode())
    for name, layer in module.named_modules():
        settings = {key: value for key, value in vars(layer).items() if key not in _INTERNALS}
        digest.update(f"{name} {_setting(settings)}".encode())
    return digest.hexdigest()


_INTERNALS = frozenset(vars(nn.Module()))  # weights, layers, hooks, and whether it is trained


def _setting(value: object) -> str:
    """Return text that tells apart the values that a module may keep; of objects and functions, their kind alone."""
    if isinstance(value, torch.Tensor):
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(content).hexdigest()}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_setting(k)}: {_setting(x)}' for k, x in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_setting, value))}]"
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    return repr(value) if isinstance(value, (bool, int, float, complex, str, bytes, type(None))) else kind


def _source(kind: type) -> bytes:
    try:
        return inspect.getsource(kind).encode()
    except (OSError, TypeError):
        return b""  # made in an interpreter: its name, structure and weights must do
