"""``bainite-fast doctor``: what this installation can do, and why not."""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import typer

from ..errors import BainiteError
from ._console import emit, emit_json
from ._options import Json

DISTRIBUTION = "bainite-fast"
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
BROKEN = (ImportError, OSError, ValueError, TypeError, AttributeError, RuntimeError)
"""What packages raise at import that lack a library, or do not fit each other's versions."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    name : str
        What was looked at.
    status : {"ok", "absent", "broken"}
        ``absent`` is something optional that this installation or machine does not have.
    detail : str
        What there is, or why not.
    cure : str
        What to do about it; empty where nothing is needed.
    """

    name: str
    status: Literal["ok", "absent", "broken"]
    detail: str
    cure: str = ""


Look = Callable[[], Iterator[Finding]]


def doctor(
    as_json: Json = False,
) -> None:
    """Say what this installation can do, and why not. Exit status 1 if something that it needs is broken."""
    findings = examine(LOOKS)
    healthy = all(finding.status != "broken" for finding in findings)
    if as_json:
        emit_json({"healthy": healthy, "findings": [asdict(finding) for finding in findings]})
    else:
        emit(describe(findings))
    if not healthy:
        raise typer.Exit(1)


def examine(looks: Iterable[tuple[str, Look]]) -> list[Finding]:
    """Look at everything; what cannot even be imported is a finding too, and not the end of the visit."""
    findings: list[Finding] = []
    for name, look in looks:
        try:
            findings += look()
        except BROKEN as error:
            cure = f'install it again: pip install --force-reinstall "{DISTRIBUTION}"'
            what = "cannot be imported" if isinstance(error, ImportError) else f"fails with {type(error).__name__}"
            findings.append(Finding(name, "broken", f"{what}: {error}", cure))
    return findings


def describe(findings: list[Finding]) -> str:
    """Return the findings as lines for a reader."""
    width = max(len(finding.name) for finding in findings)
    mark = {"ok": "ok ", "absent": " – ", "broken": "BAD"}
    lines = []
    for finding in findings:
        lines.append(f"{mark[finding.status]}  {finding.name:<{width}}  {finding.detail}")
        if finding.cure:
            lines.append(f"{'':{width + 7}}{finding.cure}")
    return "\n".join(lines)


def look_at_version() -> Iterator[Finding]:
    """Look at the package, Python and the machine."""
    try:
        version = metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        from .._version import __version__

        version = f"{__version__}, run from its source tree"
    where = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Finding("bainite-fast", "ok", f"{version}; {where}; {sys.prefix}")


def look_at_kernels() -> Iterator[Finding]:
    """Look at the compiled kernels and their threads."""
    try:
        from .. import _core
    except ImportError as error:
        yield Finding(
            "kernels",
            "broken",
            f"the compiled part cannot be imported: {error}",
            "build it where Python can see it: pip install . in the repository, with a C++17 compiler",
        )
        return
    built = _core.build_info()
    facts = ", ".join(f"{key} {value}" for key, value in built.items() if key != "cuda")
    yield Finding("kernels", "ok", facts)
    yield Finding("threads", "ok", f"{_core.get_num_threads()} ({'; '.join(_thread_limits())})")
    kept = _core.tune_allocator()
    yield Finding(
        "allocator",
        "ok" if kept else "absent",
        "large buffers are kept between tiles"
        if kept
        else "not glibc: every large buffer is mapped anew, which costs time",
    )
    if built.get("cuda"):
        yield Finding("cuda kernels", "ok", "in this build")
    else:
        cure = "to have them, build it where nvcc is: pip install . -C cmake.define.BAINITE_CUDA=ON"
        yield Finding("cuda kernels", "absent", "this build has none; the network and the kernels run on the CPU", cure)


def _thread_limits() -> Iterator[str]:
    yield f"{os.cpu_count()} processors"
    if hasattr(os, "sched_getaffinity"):
        yield f"{len(os.sched_getaffinity(0))} by affinity"
    if CPU_QUOTA.is_file():
        quota, _, period = CPU_QUOTA.read_text().partition(" ")
        yield f"cgroup quota {quota if quota == 'max' else f'{int(quota) / int(period):g}'}"
    yield f"OMP_NUM_THREADS {os.environ.get('OMP_NUM_THREADS', 'not set')}"


def look_at_memory() -> Iterator[Finding]:
    """Look at the memory, and at the budget that follows from it."""
    from .._memory import format_bytes, resident, total_memory
    from ..segmentation.memory import default_budget

    yield Finding(
        "memory",
        "ok",
        f"{format_bytes(total_memory())} for this process; default budget {format_bytes(default_budget())};"
        f" {format_bytes(resident())} held now",
    )


def look_at_network() -> Iterator[Finding]:
    """Look at torch, and at what the processor has for it."""
    from ..models import precision

    yield Finding("torch", "ok", metadata.version("torch"))
    if precision.cpu_has_bfloat16():
        yield Finding("bfloat16", "ok", "in hardware; precision=auto may take it")
    else:
        yield Finding("bfloat16", "absent", "not in this processor's instructions; precision=auto means float32")


def look_at_gpu() -> Iterator[Finding]:
    """Look for a GPU that the network can run on, where this build has kernels for one."""
    from .. import _core
    from ..models.device import cuda_problem, describe_devices

    if not _core.cuda_built():
        return
    problem = cuda_problem()
    if problem is None:
        yield Finding("gpu", "ok", "; ".join(describe_devices()))
    else:
        yield Finding("gpu", "absent", problem)


def look_at_codecs() -> Iterator[Finding]:
    """Look at the fast Zarr codecs."""
    from ..io import codec_pipeline

    name, why = codec_pipeline()
    cure = "" if not why else "pip install --force-reinstall zarrs"
    yield Finding("zarr codecs", "absent" if why else "ok", f"{name}{f': {why}' if why else ''}", cure)


def look_at_extras() -> Iterator[Finding]:
    """Look at optional packages, by the extra that brings them."""
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield Finding("extras", "absent", "not known: the package runs from its source tree", "pip install .")
        return
    wanted: dict[str, list[str]] = {}
    for requirement in requirements:
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", requirement)
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if extra and name and name[0].lower() != DISTRIBUTION:
            wanted.setdefault(extra[1], []).append(name[0])
    for group, names in sorted(wanted.items()):
        missing = [package for package in names if not _is_installed(package)]
        if missing:
            cure = f'pip install "{DISTRIBUTION}[{group}]"'
            yield Finding(f"extra {group}", "absent", f"without {', '.join(missing)}", cure)
        else:
            yield Finding(f"extra {group}", "ok", ", ".join(names))


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def look_at_models() -> Iterator[Finding]:
    """Run the self-test of every model in the box."""
    from ..models import available, load

    found = available()
    if not found:
        yield Finding("models", "broken", "the box is empty", "reinstall bainite-fast")
    for name in found:
        try:
            load(name)
        except BainiteError as error:
            yield Finding(f"model {name}", "broken", str(error), "reinstall bainite-fast")
        else:
            yield Finding(f"model {name}", "ok", "its self-test passes")


def look_at_disk() -> Iterator[Finding]:
    """Look for a writable place for temporary files."""
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"bainite")
    except OSError as error:
        yield Finding("temporary files", "broken", f"{folder}: {error}", "set TMPDIR to a writable folder")
    else:
        yield Finding("temporary files", "ok", folder)


LOOKS: tuple[tuple[str, Look], ...] = (
    (DISTRIBUTION, look_at_version),
    ("kernels", look_at_kernels),
    ("memory", look_at_memory),
    ("network", look_at_network),
    ("gpu", look_at_gpu),
    ("zarr codecs", look_at_codecs),
    ("extras", look_at_extras),
    ("models", look_at_models),
    ("temporary files", look_at_disk),
)
