"""Optimisers and their learning rate, a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from .recipe import OptimiserRecipe, ScheduleRecipe

_ONE_CYCLE_START = 1 / 25  # of the largest learning rate, as Smith & Topin begin
_ONE_CYCLE_WARM_UP = 0.3


def make_optimiser(recipe: OptimiserRecipe, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return Adam or AdamW over parameters."""
    kind = torch.optim.AdamW if recipe.kind == "adamw" else torch.optim.Adam
    return kind(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)


def learning_rate(optimiser: OptimiserRecipe, schedule: ScheduleRecipe, step: int, steps: int) -> float:
    """Return the learning rate of a step.

    Parameters
    ----------
    optimiser, schedule : recipes
        Largest learning rate and its course.
    step : int
        From 0.
    steps : int
        Of the whole run.
    """
    largest, smallest = optimiser.learning_rate, optimiser.learning_rate * schedule.minimum
    share = _ONE_CYCLE_WARM_UP if schedule.kind == "one_cycle" and schedule.warm_up is None else schedule.warm_up or 0.0
    rise = share * steps
    if step < rise:
        if schedule.kind == "one_cycle":
            return _along_cosine(largest * _ONE_CYCLE_START, largest, step / rise)
        return largest * (step + 1) / (math.floor(rise) + 1)
    if schedule.kind == "constant":
        return largest
    return _along_cosine(largest, smallest, (step - rise) / (steps - rise))


def _along_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


class MovingAverage:
    """Exponential moving average of a network's weights (Polyak averaging); its first steps forget faster.

    Parameters
    ----------
    network : torch.nn.Module
        Whose weights to follow.
    decay : float
        Weight of the past in one step.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after a step, counted from 0; counters and batch statistics are copied."""
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = dict(network.named_parameters())
        for name, value in network.state_dict().items():
            if name in parameters:
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)
