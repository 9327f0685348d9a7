"""What a run would do, and how long it would take. Nothing is written."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import kernels
from ..geometry import round_down, round_up
from .bare import bare_network_rate
from .run import Prepared, foresee
from .run_plan import Plan
from .stream import ClusterExecutor, Executor

if TYPE_CHECKING:
    from ..io import LabelTarget

_SAMPLE_PX = 512  # core of the tile that is timed on a CPU, where a pass over a whole one may take a minute
_SAMPLE_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a run would do.

    Attributes
    ----------
    plan : Plan
        What it would follow; that of the unfinished run, where it goes on with one.
    output : pathlib.Path
        The label group.
    state : str
        What becomes of what is there.
    seconds : float
        About how long the network takes for what is not done, on this machine, or on those of the cluster if they are
        like it; reading and writing go on beside it.
    """

    plan: Plan
    output: Path
    state: str
    seconds: float


def outlook(prepared: Prepared, target: LabelTarget, executor: Executor) -> Outlook:
    """Return what a run would do.

    Raises
    ------
    BainiteError
        As the run would: for an unfinished output of another run, or one that is being written.
    """
    plan, journal = foresee(prepared, target, executor)
    done = set() if journal is None else set(journal.done)
    if journal is not None:
        state = f"goes on with the unfinished run there, {len(done)} of {plan.n_blocks} blocks done"
    elif target.partial_dir.is_dir():
        state = "replaces the unfinished run there"
    else:
        state = "replaces the labels there" if target.path.exists() else "new"
    left = [block for block in plan.blocks() if block not in done]
    seen = sum(tile.input.pixels for block in left for tile in plan.tiles(*block))
    return Outlook(plan, target.path, state, seen / _rate(prepared, plan, executor, max(len(left), 1)))


def _rate(prepared: Prepared, plan: Plan, executor: Executor, blocks: int) -> float:
    """Return the pixels per second that all networks of a run see: of a small tile on the CPU, where one takes long.

    A block is one network's, so no more of them run than there are blocks.
    """
    network, processes, machines = prepared.network.runtime, 1, 1
    if isinstance(executor, ClusterExecutor):
        processes, machines = executor.size
    if plan.device != "cpu":
        rate = bare_network_rate(network, plan, _SAMPLE_SECONDS, repeats=1)
        return min(processes, blocks) * plan.overhead * rate
    tile = max(plan.stride, min(plan.tile, round_down(_SAMPLE_PX, plan.stride)))
    machines = min(machines, blocks)
    networks = min(plan.workers * -(-processes // machines), -(-blocks // machines))
    threads = min(networks, max(kernels.get_num_threads(), plan.workers))
    sample = replace(plan, tile=tile, batch=1, workers=threads)
    core = [min(tile, round_up(size, plan.stride)) for size in plan.grid]  # as the tiles of a narrow mosaic are
    overhead = math.prod(size + 2 * plan.halo for size in core) / math.prod(core)
    return machines * overhead * bare_network_rate(network, sample, _SAMPLE_SECONDS, repeats=1)
