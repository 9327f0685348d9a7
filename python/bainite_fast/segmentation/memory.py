"""The memory budget: how much there is, how much the process holds now, and how much it has held."""

from __future__ import annotations

import contextlib
import ctypes
import re
import resource
import sys
import threading

from .._memory import free_memory, total_memory
from .._memory import resident as resident
from ..errors import InputError

_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    _UNITS[_letter] = _UNITS[f"{_letter}ib"] = 1024**_power
    _UNITS[f"{_letter}b"] = 1000**_power


def parse_memory(value: int | float | str) -> int:
    """Return a number of bytes from a number or from text such as ``"4GiB"``, ``"512 MB"`` or ``"4G"``.

    Parameters
    ----------
    value : int, float or str
        Bytes, or text with a unit: KiB, MiB, GiB, TiB (powers of 1024; K, M, G, T alike) or kB, MB, GB, TB.

    Returns
    -------
    int
        Bytes, at least 1.

    Raises
    ------
    InputError
        If the text is not a positive amount of memory.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", str(value).lower())
    if match is None or match[2] not in _UNITS or float(match[1]) * _UNITS[match[2]] < 1:
        raise InputError(f"memory={value!r} is not an amount of memory; write it as 4GiB, 800MB or a number of bytes")
    return int(float(match[1]) * _UNITS[match[2]])


def default_budget() -> int:
    """Return the budget when the caller names none: half of the memory, or 80 % of what is free if that is less."""
    return int(min(total_memory() * 0.5, resident() + free_memory() * 0.8))


class _Heap(ctypes.Structure):
    """`struct mallinfo2` of glibc."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = tuple((name, ctypes.c_size_t) for name in _names)


_UNTOUCHED = 256 << 20  # bytes at the top of the heap that `tune_allocator` asks for and that may not be resident yet


def held() -> int:
    """Return the resident memory that this process really uses, in bytes.

    A tuned allocator keeps what an earlier run gave back; the next run takes it again.
    """
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError):  # not glibc, or one older than 2.33: nothing is known of the heap
        return resident()
    mallinfo2.restype = _Heap
    free = max(int(mallinfo2().fordblks) - _UNTOUCHED, 0)
    return max(resident() - free, 0)


def release() -> None:
    """Give the memory that the allocator keeps back to the system, where the allocator can."""
    with contextlib.suppress(AttributeError, OSError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


class PeakSampler:
    """Watches the resident memory of the process from a thread while a context lasts.

    The kernel keeps a peak too, but of the whole life of the process.

    Attributes
    ----------
    peak : int
        Highest resident bytes seen.
    """

    _SECONDS = 0.005

    def __init__(self) -> None:
        self.peak = resident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="bainite-memory", daemon=True)

    def _watch(self) -> None:
        while not self._stop.wait(self._SECONDS):
            self.peak = max(self.peak, resident())

    def __enter__(self) -> PeakSampler:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self.peak = max(self.peak, resident())


def peak_resident() -> int:
    """Return the highest resident memory this process has had, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
