"""Streams blocks through threads of this process or through a dask cluster, a bounded number in flight.

One task per block, as futures: 100,000 of them cost neither a graph nor memory. An executor yields results as they
come; after an error, or Ctrl-C, it starts nothing more and joins what runs before it lets go.
"""

from __future__ import annotations

import contextlib
import pkgutil
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Protocol, cast

from .. import kernels
from .._version import __version__
from ..errors import BainiteError, DeviceError, InputError
from ..models import serial_threads
from ..models.device import device_share
from .engine import BlockResult, Job, run_block
from .memory import default_budget

Block = tuple[int, int]


class Executor(Protocol):
    """Runs the blocks of a job, in any order."""

    def results(self, job: Job, blocks: Iterator[Block]) -> Iterator[BlockResult]:
        """Yield the result of every block as it finishes; raise the first error after joining the rest."""


class ThreadExecutor:
    """Threads of this process; the job's plan says how many blocks are in flight."""

    def results(self, job: Job, blocks: Iterator[Block]) -> Iterator[BlockResult]:
        """Yield results in the order in which blocks finish."""
        with ThreadPoolExecutor(job.plan.in_flight, thread_name_prefix="bainite") as pool:
            running: set[Future[BlockResult]] = set()

            def start() -> None:
                block = next(blocks, None)
                if block is not None:
                    running.add(pool.submit(run_block, job, *block))

            for _ in range(job.plan.in_flight):
                start()
            failure: BaseException | None = None
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                running -= done
                for future in done:
                    if failure is None and future.exception() is None:
                        start()
                    failure = failure or future.exception()
                for future in done:
                    if future.exception() is None:
                        yield future.result()
            if failure is not None:
                raise failure


class ClusterExecutor:
    """Workers of a `dask.distributed` cluster, which must see the output's folder.

    Parameters
    ----------
    client : distributed.Client
        A connected client. A worker that is lost costs its blocks in flight, which dask starts again elsewhere.
    """

    def __init__(self, client: Any) -> None:
        self.client = client

    def check(self) -> None:
        """Refuse what is no cluster whose workers can do the blocks of this process.

        Raises
        ------
        InputError
            If the client is not a connected one.
        DeviceError
            If there is no worker, or one lacks this package or has another version of it.
        """
        if not hasattr(self.client, "scatter") or self.client.asynchronous or self.client.status != "running":
            raise InputError(
                f"client={self.client!r} is not a connected, synchronous distributed.Client; give "
                "client=distributed.Client('tcp://…')"
            )
        # A function of Python itself: one of ours cannot be sent to a worker that lacks the package.
        found = self.client.run(pkgutil.resolve_name, "bainite_fast._version:__version__", on_error="return")
        if not found:
            raise DeviceError("the cluster has no workers; start some before the run")
        for worker, version in found.items():
            if version != __version__:
                has = f"has {version}" if isinstance(version, str) else f"cannot import it ({version})"
                raise DeviceError(
                    f"this process has bainite_fast {__version__}, and the worker at {worker} {has}; install the same "
                    "version where the workers run"
                )

    @property
    def memory(self) -> int:
        """Bytes that every worker may take where the caller names none: what their machine has, shared among them.

        Or less, where dask limits the memory of its workers.
        """
        shares: dict[str, list[int]] = {}
        limits: list[int] = []
        for host, budget, limit in self.client.run(worker_memory).values():
            shares.setdefault(host, []).append(budget)
            limits += [] if limit is None else [int(_OF_LIMIT * limit)]
        return min([*(min(budgets) // len(budgets) for budgets in shares.values()), *limits])

    @property
    def size(self) -> tuple[int, int]:
        """Number of workers, and of the machines that they run on."""
        addresses = list(self.client.nthreads())
        return len(addresses), len({address.rpartition("://")[2].rpartition(":")[0] for address in addresses})

    @property
    def threads(self) -> int:
        """Threads over all workers."""
        return sum(int(n) for n in self.client.nthreads().values())

    @property
    def threads_per_worker(self) -> int:
        """Most threads on one worker."""
        return max((int(n) for n in self.client.nthreads().values()), default=1)

    def device_memory(self, device: str) -> int:
        """Return the bytes of its GPU that every worker may take: workers on one GPU share what is free there.

        Raises
        ------
        DeviceError
            If there is no worker, or one of them cannot use the GPU.
        """
        try:
            found = self.client.run(device_share, device).values()
        except (RuntimeError, AssertionError) as error:  # the second is PyTorch's where there is no GPU of this number
            raise DeviceError(f"device={device!r}: a worker of the cluster cannot use it: {error}") from error
        free: dict[tuple[str, str], list[int]] = {}
        for host, gpu, memory in found:
            free.setdefault((host, gpu), []).append(memory)
        if not free:
            raise DeviceError("the cluster has no workers; start some before the run")
        return min(min(memory) // len(memory) for memory in free.values())

    def results(self, job: Job, blocks: Iterator[Block]) -> Iterator[BlockResult]:
        """Yield results in the order in which blocks finish, wherever they run."""
        from distributed import KilledWorker, as_completed

        shared = self.client.scatter(Parcel(job), broadcast=True, hash=False)
        in_flight = max(self.threads, 1) + len(self.client.nthreads())
        running: set[Any] = set()

        def submit(block: Block) -> Any:
            future = self.client.submit(run_block_on_worker, shared, *block, pure=False, retries=0)
            running.add(future)
            return future

        first = [submit(block) for block in _take(blocks, in_flight)]
        queue: Any = as_completed(first)  # type: ignore[no-untyped-call]  # distributed is untyped here
        failure: BaseException | None = None
        try:
            for future in queue:
                running.discard(future)
                error = future.exception()
                if isinstance(error, KilledWorker):
                    error = DeviceError(
                        f"workers of the cluster died {error.allowed_failures + 1} times at one block, perhaps for "
                        "want of memory; give less memory to each, or use fewer. Finished blocks are kept"
                    )
                elif future.cancelled():
                    error = DeviceError(
                        "the connection to the cluster's scheduler was lost, or all its workers were, or the run was "
                        "cancelled there; start them again and give the same command: finished blocks are kept"
                    )
                if error is not None:
                    failure = failure or error
                    continue
                if failure is None:
                    for block in _take(blocks, 1):
                        queue.add(submit(block))
                result: BlockResult = future.result()
                future.release()
                yield result
        finally:
            _join(running)
        if failure is not None:
            raise failure


def _join(running: set[Any]) -> None:
    """Wait for the blocks that workers are at: who holds the output next must be the only one to write there."""
    from distributed import CancelledError, wait

    with contextlib.suppress(CancelledError):
        wait(list(running))  # type: ignore[no-untyped-call]


_OF_LIMIT = 0.8  # there dask pauses a worker; a little above it ends it


def worker_memory(dask_worker: Any) -> tuple[str, int, int | None]:
    """Return the machine that a cluster's worker runs on, the default budget there, and dask's own limit, in bytes."""
    return socket.gethostname(), default_budget(), dask_worker.memory_manager.memory_limit


class Parcel:
    """A job on its way to a worker, which opens it: dask drops the connection over what it cannot unpickle itself."""

    def __init__(self, job: Job) -> None:
        self._job: Job | None = job
        self._packed = b""
        self._opening = threading.Lock()

    def __getstate__(self) -> bytes:
        from distributed.protocol import pickle

        return self._packed or cast(bytes, pickle.dumps(self._job))  # type: ignore[no-untyped-call]

    def __setstate__(self, packed: bytes) -> None:
        self._job, self._packed, self._opening = None, packed, threading.Lock()

    def open(self) -> Job:
        """Return the job.

        Raises
        ------
        DeviceError
            If the input, or a module that the network is made of, is not found on this machine.
        """
        from distributed.protocol import pickle

        with self._opening:
            if self._job is None:
                try:
                    self._job = cast(Job, pickle.loads(self._packed))  # type: ignore[no-untyped-call]
                except (BainiteError, OSError, ImportError, AttributeError) as error:
                    raise _not_there(error) from error
                self._packed = b""
            return self._job


def _not_there(error: Exception) -> DeviceError:
    """Return the error of a worker that does not find what the process that planned the run does."""
    return DeviceError(
        f"{socket.gethostname()}, where a worker of the cluster runs, cannot take up the run: {error}. Let the workers "
        "run where input and output lie under the same paths, and where the modules of the network can be imported"
    )


def run_block_on_worker(parcel: Parcel, by: int, bx: int) -> BlockResult:
    """Do one block on a cluster's worker, whose process belongs to us: its allocator and threads are set for speed."""
    kernels.tune_allocator()
    try:
        with serial_threads():
            return run_block(parcel.open(), by, bx)
    except BainiteError as error:
        # Its cause travels with it, and where that cannot be unpickled, as some of zarr's, neither can be.
        error.__cause__ = error.__context__ = None
        raise
    except FileNotFoundError as error:  # pixels are looked for at the first read
        raise _not_there(error) from None


def _take(blocks: Iterator[Block], count: int) -> Iterator[Block]:
    for _ in range(count):
        block = next(blocks, None)
        if block is None:
            return
        yield block


def stream(executor: Executor, job: Job, blocks: Iterator[Block], on_result: Callable[[BlockResult], None]) -> None:
    """Run blocks and hand each result to `on_result`, in this thread, as it comes."""
    with contextlib.closing(executor.results(job, blocks)) as results:  # type: ignore[type-var]
        for result in results:
            on_result(result)
