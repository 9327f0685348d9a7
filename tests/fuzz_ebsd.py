"""Random damage to EBSD files of every format: `python tests/fuzz_ebsd.py [cases] [seed]`.

Each case is a small file of one format, damaged at random, and read. Right are a map, or a BainiteError that names the
file; anything else is kept in `fuzz-failures/` and fails the run. HDF5 files damaged below the level of their data sets
are read in a child process, which libhdf5 may bring down without harm to the run.
"""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

import numpy as np

from bainite_fast import ebsd
from bainite_fast.errors import BainiteError
from ebsd_files import FERRITE, SEEDS, TITANIUM, make_map

SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # in memory, where there is such a place
SECONDS = 20
GIBIBYTES = 6
GRIDS = (
    ebsd.Grid.square(3, 4, dx=0.25),
    ebsd.Grid.hexagonal(4, 4, dx=0.1),
    ebsd.Grid.square(1, 6, dx=1.0),
)
WORDS = ("nan", "-1", "0", "1e300", "99999999999", "-0.5", "inf", "", "abc", "12,5", "1e-320", "\ufeff", "2147483648")


class TooSlowError(Exception):
    """A case took longer than it may."""


def seeds(folder: Path) -> dict[str, list[tuple[str, bytes, bytes]]]:
    """Return (suffix, content, content of the file beside it) of small valid files of every format."""
    made: dict[str, list[tuple[str, bytes, bytes]]] = {}
    for name, (suffix, write) in SEEDS.items():
        for number, grid in enumerate(GRIDS):
            if grid.kind == "hexagonal" and name not in ("ang", "edax"):
                continue
            for phases in ((FERRITE,), (FERRITE, TITANIUM)):
                path = write(make_map(grid, phases=phases, seed=number), folder / f"seed{suffix}")
                beside = path.with_suffix(".crc")
                extra = beside.read_bytes() if name == "crc" else b""
                made.setdefault(name, []).append((suffix, path.read_bytes(), extra))
                path.unlink()
    return made


def damage_text(rng: random.Random, content: bytes) -> bytes:
    """Return a text file with words, lines or bytes changed, or in another encoding, or cut short."""
    kind = rng.randrange(8)
    if kind == 0:
        return damage_bytes(rng, content)
    if kind == 1:
        return content[: rng.randrange(len(content))]
    if kind == 2:
        return content.decode().encode(rng.choice(["utf-16", "utf-32", "utf-8-sig", "cp037", "utf-16-be"]))
    lines = content.decode().split("\n")
    at = rng.randrange(len(lines))
    if kind == 3:
        del lines[at]
    elif kind == 4:
        lines.insert(at, lines[rng.randrange(len(lines))])
    elif kind == 5:
        rng.shuffle(lines)
    else:
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(lines))
            words = re.split(r"(\s+|[:=;])", lines[at])
            words[rng.randrange(len(words))] = rng.choice(WORDS)
            lines[at] = "".join(words)
    return rng.choice(["\n", "\n", "\r\n", "\r"]).join(lines).encode()


def damage_bytes(rng: random.Random, content: bytes) -> bytes:
    """Return bytes with some changed, removed or added."""
    out = bytearray(content)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(out)) if out else 0
        kind = rng.randrange(4)
        if kind == 0:
            out[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del out[at : at + rng.randrange(1, 40)]
        elif kind == 2:
            out[at:at] = rng.randbytes(rng.randrange(1, 40))
        else:
            out[at : at + 8] = rng.choice([b"\0" * 8, b"\xff" * 8, rng.randbytes(8)])
    return bytes(out)


def damage_hdf5(rng: random.Random, path: Path) -> None:
    """Change, remove or replace data sets and groups of an HDF5 file that stays a valid one."""
    import h5py

    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        for _ in range(rng.randrange(1, 4)):
            name = rng.choice(names)
            if name not in file:
                continue
            node, kind = file[name], rng.randrange(6)
            if kind == 0 or not isinstance(node, h5py.Dataset):
                del file[name]
                continue
            value = np.asarray(node[()])
            if kind == 1 and value.dtype.kind in "if" and value.size:
                flat = value.reshape(-1).copy()
                special = [-1, 0, 1e9, 300] if value.dtype.kind == "i" else [np.nan, np.inf, -1.0, 0.0, 1e30, 1e-30]
                with np.errstate(all="ignore"):
                    flat[rng.randrange(flat.size)] = np.asarray(rng.choice(special)).astype(value.dtype)
                replacement: object = flat.reshape(value.shape)
            else:
                replacement = {
                    1: value,
                    2: value.reshape(-1)[:-1],
                    3: np.array([b"text"]),
                    4: np.zeros((2, 3, 4)),
                    5: np.full(value.shape, 10**9) if value.size < 4 else np.zeros(0),
                }[kind]
            del file[name]
            file[name] = replacement


def attempt(path: Path) -> str:
    """Read a file, and say what came of it."""
    try:
        read = ebsd.read(path, allow_missing=path.stat().st_size % 5 == 0)
    except BainiteError as error:
        if path.stem not in str(error) or not str(error).strip():
            raise AssertionError(f"the error does not name the file: {error}") from error
        return "error with its line" if ", line " in str(error) else "error"
    assert np.isfinite(read.quaternions).all()
    assert read.size == read.grid.size == len(read.indexed)
    repr(read)
    return "map"


def in_child(path: Path) -> str:
    """Read a file in a child process: what comes of it, or how the child ended."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.alarm(SECONDS)
            with suppress(Exception):
                attempt(path)
                code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"libhdf5 ended by signal {os.WTERMSIG(status)}"
    return "error of another kind" if os.WEXITSTATUS(status) else "read or refused in a child"


def one_case(rng: random.Random, made: dict[str, list[tuple[str, bytes, bytes]]], folder: Path) -> tuple[str, str]:
    """Damage a file and read it; return its format and the outcome."""
    name = rng.choice(list(made))
    suffix, content, beside = rng.choice(made[name])
    path = folder / f"fuzzed{suffix}"
    if name in ("ang", "ctf"):
        path.write_bytes(damage_text(rng, content))
    elif name == "crc":
        where = rng.randrange(3)
        path.write_bytes(damage_text(rng, content) if where else content)
        path.with_suffix(".crc").write_bytes(damage_bytes(rng, beside) if where != 1 else beside)
    else:
        if rng.randrange(40) == 0:
            path.write_bytes(damage_bytes(rng, content))
            return f"{name} (bytes)", in_child(path)
        path.write_bytes(content)
        damage_hdf5(rng, path)
    return name, attempt(path)


def run(cases: int, seed: int, *, report: Callable[[str], None] = print) -> Counter[str]:
    """Read damaged files; return how often each outcome came. The first that is wrong raises, and is kept.

    Parameters
    ----------
    cases : int
        How many.
    seed : int
        The same seed gives the same cases.
    report : callable
        Takes a line of text.
    """

    def too_slow(number: int, frame: FrameType | None) -> None:
        raise TooSlowError(f"a case took more than {SECONDS} s")

    rng = random.Random(seed)
    outcomes: Counter[str] = Counter()
    before = signal.signal(signal.SIGALRM, too_slow)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (GIBIBYTES << 30, limits[1]))
    start = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory(dir=SCRATCH) as scratch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            folder = Path(scratch)
            made = seeds(folder)
            for number in range(cases):
                signal.alarm(SECONDS)
                try:
                    outcomes[": ".join(one_case(rng, made, folder))] += 1
                except BaseException:
                    kept = Path("fuzz-failures")
                    kept.mkdir(exist_ok=True)
                    for item in folder.glob("fuzzed*"):
                        (kept / f"{seed}-{number}-{item.name}").write_bytes(item.read_bytes())
                    report(f"seed {seed}, case {number} failed; its file is in {kept}/")
                    raise
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)
    report(f"{cases} cases, {cases / (time.perf_counter() - start):.0f} per second")
    return outcomes


if __name__ == "__main__":
    counts = run(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    for outcome, count in sorted(counts.items()):
        print(f"{count:8}  {outcome}")
    wrong = [outcome for outcome in counts if outcome.endswith("error of another kind")]
    sys.exit(f"wrong: {', '.join(wrong)}" if wrong else 0)
