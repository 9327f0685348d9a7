"""Checkpoints: weights, optimiser, average and place in the run, in one safetensors file that is whole or not there."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from .._disk import beside
from ..errors import JournalError, OutputError

LAST, BEST = "last.safetensors", "best.safetensors"
_FORMAT = "1"


def save(path: Path, tensors: Mapping[str, torch.Tensor], place: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able values, whole or not at all, to the disk itself.

    Raises
    ------
    OutputError
        If it cannot be written; what was there before is still there.
    """
    own = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    try:
        with beside(path) as made:
            safetensors.torch.save_file(own, made, {"format": _FORMAT, "place": json.dumps(place)})
    except safetensors.SafetensorError as error:
        raise OutputError(f"the checkpoint {path} cannot be written ({error})") from error


def read_place(path: Path) -> dict[str, Any]:
    """Return the JSON-able values of what :func:`save` wrote, without the tensors.

    Raises
    ------
    JournalError
        If the file is not a checkpoint of this version.
    """
    with _opened(path) as (_, values):
        return values


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return what :func:`save` wrote.

    Raises
    ------
    JournalError
        If the file is not a checkpoint of this version.
    """
    with _opened(path) as (file, values):
        return {name: file.get_tensor(name) for name in file.keys()}, values  # noqa: SIM118


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise KeyError("format")
            yield file, json.loads(metadata["place"])
    except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
        raise JournalError(
            f"{path} is not a checkpoint that can be resumed ({error}); start again with overwrite=True"
        ) from error


def pack(
    network: nn.Module, optimiser: torch.optim.Optimizer, average: Mapping[str, torch.Tensor] | None
) -> dict[str, torch.Tensor]:
    """Return everything that a step changes, by name."""
    tensors = {f"network/{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"average/{name}": value for name, value in (average or {}).items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": value for name, value in state.items()}
    return tensors


def unpack(
    tensors: Mapping[str, torch.Tensor],
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: Mapping[str, torch.Tensor] | None,
) -> None:
    """Put back what :func:`pack` took, in place and in the layout that memory has there.

    Raises
    ------
    JournalError
        If the tensors are of another network or optimiser.
    """
    try:
        network.load_state_dict(part(tensors, "network"))
        for name, value in (average or {}).items():
            value.copy_(tensors[f"average/{name}"])
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in part(tensors, "optimiser").items():
            index, _, name = key.partition("/")
            state.setdefault(int(index), {})[name] = value
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        for number, values in state.items():
            like = parameters[number]
            for name, value in values.items():
                if value.shape == like.shape:
                    values[name] = torch.empty_like(like).copy_(value)
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    except (RuntimeError, KeyError, IndexError, ValueError) as error:
        raise JournalError(
            f"the checkpoint is of another network or optimiser ({error}); start again with overwrite=True"
        ) from error


def part(tensors: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """Return the tensors of one part, without its name in front."""
    return {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}
