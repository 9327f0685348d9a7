"""A dask cluster for the length of a command: one that runs already, or workers of this machine."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..errors import BudgetError, InputError, MissingExtraError

_SECONDS_TO_ANSWER = 10
_MORE_THREADS = 2  # of a worker with a GPU than it has cores: threads that wait for the GPU cost nothing


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the blocks run.

    Attributes
    ----------
    client : distributed.Client or None
        None: in threads of this process.
    memory : int or None
        Budget of each process in bytes; None leaves it to the run.
    """

    client: Any
    memory: int | None


@contextmanager
def cluster(scheduler: str | None, workers: int | None, memory: int | None, device: str = "auto") -> Iterator[Cluster]:
    """Connect to a scheduler, or start so many workers here, and let them go at the end.

    Parameters
    ----------
    scheduler : str, optional
        Address, such as ``tcp://10.0.0.5:8786``. Each of its workers gets the whole of `memory`.
    workers : int, optional
        Processes to start on this machine. They and this process share `memory`.
    memory : int, optional
        Budget in bytes; by default the run's own.
    device : str
        What the run asks for. On GPUs, workers of this machine take turns with those of one kind, unless it names one,
        and have threads that read and write beside them.

    Raises
    ------
    MissingExtraError
        Without dask.distributed.
    InputError
        If no scheduler answers, or it has no workers.
    BudgetError
        As the run's, with what it means for all processes together.
    """
    if scheduler is None and workers is None:
        yield Cluster(None, memory)
        return
    try:
        import distributed
    except ImportError as error:
        raise MissingExtraError("a cluster needs dask.distributed: pip install 'bainite-fast[distributed]'") from error
    if workers is not None:
        from ..segmentation import default_budget

        share = (default_budget() if memory is None else memory) // (workers + 1)
        gpus, threads = _gpus_and_threads(device, workers)
        local: Any = distributed.LocalCluster
        with (
            local(
                n_workers=workers,
                threads_per_worker=threads,
                processes=True,
                dashboard_address=None,
                protocol="tcp://",
                silence_logs=logging.ERROR,
                memory_limit=0,  # the plan keeps the budget; dask would kill a worker for it
            ) as here,
            distributed.Client(here) as client,  # type: ignore[no-untyped-call]
        ):
            client.register_plugin(_preparation(distributed, gpus))
            try:
                yield Cluster(client, share)
            except BudgetError as error:
                raise BudgetError(
                    f"{error}. That is for each process: --memory is shared by {workers} workers and this one, so give "
                    f"{workers + 1} times as much, or fewer --workers"
                ) from error
        return
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # a lost connection is an error of the run
    try:
        remote: Any = distributed.Client(scheduler, timeout=_SECONDS_TO_ANSWER)  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError, ValueError) as error:
        raise InputError(
            f"no dask scheduler answers at {scheduler} ({' '.join(str(error).split())}); start one with "
            "`dask scheduler`, and give the address that it prints, such as tcp://10.0.0.5:8786"
        ) from error
    with remote:
        if not remote.nthreads():
            raise InputError(f"the scheduler at {scheduler} has no workers; start some with `dask worker {scheduler}`")
        yield Cluster(remote, memory)


def _gpus_and_threads(device: str, workers: int) -> tuple[list[str], int]:
    """Return the GPUs that the workers of this machine take turns with, and the threads of each worker."""
    from ..kernels import get_num_threads
    from ..models.device import cuda_problem, like_the_first

    if device == "cpu" or cuda_problem() is not None:  # the run says which, or refuses
        return [], 1
    return [] if ":" in device else like_the_first(), max(get_num_threads() // workers, 1) + _MORE_THREADS


def _preparation(distributed: Any, gpus: list[str]) -> Any:
    """Return a plugin by which workers, those that are started again too, ignore Ctrl-C and take their GPU.

    They are silent: what fails in a block comes back, and at the end the scheduler may be gone before them. A terminal
    sends Ctrl-C to every process of a command. Workers that heed it die with the blocks that they are at, and with
    tracebacks; the command itself lets them finish, or ends them.
    """

    class Preparation(distributed.WorkerPlugin):  # type: ignore[misc]  # distributed is not loaded without need
        def setup(self, worker: Any) -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            logging.getLogger("distributed").setLevel(logging.CRITICAL)
            if gpus:  # before anything there has asked for one; its cuda:0 is then its own
                os.environ["CUDA_VISIBLE_DEVICES"] = gpus[int(worker.name) % len(gpus)]

    return Preparation()
