"""ImageNet weights of VGG16 for the encoder of :class:`~bainite_fast.models.VGG16UNet`: from a file, or downloaded."""

from __future__ import annotations

import hashlib
import os
import re
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from urllib.parse import urlsplit

import safetensors
import torch
from torch import nn

from .._disk import beside
from ..errors import ModelError
from .vgg16_unet import VGG16UNet

VGG16_URL = "https://download.pytorch.org/models/vgg16-397923af.pth"
"""Where torchvision publishes ``VGG16_Weights.IMAGENET1K_V1``; the name ends in the first digits of its sha256."""

_PREFIX = "features."
_TIMEOUT = 30.0  # s without a byte
_PIECE = 2**20  # bytes
_ASIDE = "the file holds weights by torchvision's names: features.0.weight … features.28.bias"


def load_imagenet(
    network: VGG16UNet,
    source: str | os.PathLike[str] | None = None,
    *,
    url: str = VGG16_URL,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Start the encoder of a VGG16 U-Net from ImageNet weights; the decoder stays as it is.

    Parameters
    ----------
    network : VGG16UNet
        With ``base=64``, whose shapes are VGG16's. Changed in place, and only if all weights fit.
    source : path, optional
        A file by torchvision's parameter names (``features.0.weight`` … ``features.28.bias``; the classifier may be
        there and is not read): safetensors, or ``.pth`` of ``torch.save``, read without executing what is in it. By
        default it is downloaded from `url` once, into torch's own cache (``$TORCH_HOME/hub/checkpoints``, where
        torchvision looks too).
    url : str
        http or https address of a copy whose name carries the first digits of its sha256, ``…-0123abcd.pth``.
    progress : callable, optional
        Called with the bytes downloaded and their number (0 where the server does not tell).

    Returns
    -------
    Path
        Of the file that the weights were read from.

    Raises
    ------
    ModelError
        If the file cannot be had or read, its sha256 is not the one in its name, or a name, shape or value is wrong.
    OutputError
        If the download cannot be written.
    """
    if not isinstance(network, VGG16UNet):
        raise ModelError(f"ImageNet weights of VGG16 belong into a VGG16UNet, and got a {type(network).__name__}")
    path = download(url, progress=progress) if source is None else Path(source)
    wanted = {f"{_PREFIX}{name}": parameter for name, parameter in network.features.named_parameters()}
    found = _read(path)
    _check(found, wanted, path)
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(found[name])
    return path


def download(
    url: str = VGG16_URL, *, folder: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Return the local copy of a file whose name carries the first digits of its sha256; fetch it if there is none.

    It appears in the folder (torch's cache of checkpoints by default) whole and checked, or not at all.

    Raises
    ------
    ModelError
        If it cannot be fetched or is not the file that its name promises.
    OutputError
        If the folder cannot be written.
    """
    address = urlsplit(url)
    name = address.path.rpartition("/")[2]
    promised = re.search(r"-([0-9a-f]{8,64})\.[a-z]+$", name)
    if address.scheme not in ("http", "https") or promised is None:
        raise ModelError(
            f"{url!r} is not an http or https address that ends in NAME-SHA256.pth, with at least the first 8 digits "
            f"of the file's sha256, as {VGG16_URL} does"
        )
    target = (Path(torch.hub.get_dir()) / "checkpoints" if folder is None else folder) / name
    if target.is_file():
        if _sha256(target).startswith(promised[1]):
            return target
        raise ModelError(f"{target} is not the file that its name promises (its sha256 differs): delete it")
    with beside(target) as scratch:
        digest = _fetch(url, scratch, target, progress)
        if not digest.startswith(promised[1]):
            raise ModelError(
                f"{url} gave a file whose sha256 is {digest[:16]}… and not {promised[1]}…: it was cut short or changed "
                "on its way; try again"
            )
    return target


def _fetch(url: str, scratch: Path, target: Path, progress: Callable[[int, int], None] | None) -> str:
    """Download to `scratch` and return the sha256."""
    digest, done = hashlib.sha256(), 0
    with scratch.open("wb") as file:
        for piece, total in _pieces(url, target):
            file.write(piece)
            digest.update(piece)
            done += len(piece)
            if progress is not None:
                progress(done, total)
    return digest.hexdigest()


def _pieces(url: str, target: Path) -> Iterator[tuple[bytes, int]]:
    """Yield the answer piece by piece, with its announced length in bytes."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            total = int(answer.headers.get("Content-Length") or 0)
            while piece := answer.read(_PIECE):
                yield piece, total
    except (OSError, HTTPException) as error:  # HTTP and URL errors, timeouts, cut connections
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ModelError(
            f"the ImageNet weights cannot be downloaded from {url} ({reason}). On a machine without network, fetch "
            f"that file elsewhere and put it at {target}, or give its path: `bainite-fast train … --set "
            "network.weights=FILE`, `bainite-fast study … --imagenet FILE`; or train from random weights: --set "
            "network.weights=random"
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> dict[str, torch.Tensor]:
    """Return what a file of weights holds below ``features.``; nothing in it is executed."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
        if head[8:9] == b"{":
            with safetensors.safe_open(path, framework="pt") as weights:
                return {name: weights.get_tensor(name) for name in weights.keys() if name.startswith(_PREFIX)}  # noqa: SIM118
        # torchvision's file of 2017 is older than the zip format, and cannot be mapped.
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except FileNotFoundError as error:
        raise ModelError(f"there is no file {path}; fetch {VGG16_URL} and give its path") from error
    except (OSError, UnpicklingError, RuntimeError, EOFError, ValueError, safetensors.SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(
            f"{path} is neither safetensors nor plain weights of torch.save ({reason}); {_ASIDE}, such as {VGG16_URL}"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(x, torch.Tensor) for x in state.values()):
        held = ", ".join(map(str, list(state)[:5])) if isinstance(state, dict) else type(state).__name__
        raise ModelError(f"{path} is not a dictionary of weights alone (it holds {held}); {_ASIDE}")
    return {str(name): x for name, x in state.items() if str(name).startswith(_PREFIX)}


def _check(found: dict[str, torch.Tensor], wanted: dict[str, nn.Parameter], path: Path) -> None:
    missing = [name for name in wanted if name not in found]
    strange = [name for name in found if name not in wanted]
    if missing or strange:
        lacks = f"lacks {', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}" if missing else ""
        holds = f"holds {', '.join(strange[:3])}{' …' if len(strange) > 3 else ''}" if strange else ""
        raise ModelError(
            f"{path} is not VGG16 (without batch norm): it {' and '.join(x for x in (lacks, holds) if x)}; {_ASIDE}"
        )
    for name, parameter in wanted.items():
        given = found[name]
        if given.shape != parameter.shape:
            raise ModelError(
                f"{path}: {name} is {list(given.shape)}, and the network's is {list(parameter.shape)}; ImageNet "
                "weights fit a VGG16UNet of base=64"
            )
        if not given.is_floating_point() or not bool(torch.isfinite(given).all()):
            raise ModelError(f"{path}: {name} ({given.dtype}) holds values that are no finite floats; get a fresh copy")
