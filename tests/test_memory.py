"""Memory is what the machine, the container and the job leave to this process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from bainite_fast import _memory
from bainite_fast.segmentation.memory import default_budget

GIB = 2**30


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 64 GiB, of which 48 are free, whose system files lie in a folder."""
    monkeypatch.setattr(_memory, "_ROOT", tmp_path)
    machine = SimpleNamespace(total=64 * GIB, available=48 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    return tmp_path


def write(root: Path, files: dict[str, object]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")


def test_without_control_groups_it_is_the_machine(root: Path) -> None:
    assert (_memory.total_memory(), _memory.free_memory()) == (64 * GIB, 48 * GIB)


def test_a_job_of_a_batch_system_has_the_least_of_the_groups_that_it_is_in(root: Path) -> None:
    job = "sys/fs/cgroup/system.slice/slurmstepd.scope/job_7"
    write(
        root,
        {
            "proc/self/cgroup": "0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0",
            "sys/fs/cgroup/memory.stat": "anon 1",  # the root has no limit
            f"{job}/memory.max": 8 * GIB,
            f"{job}/memory.current": 6 * GIB,
            f"{job}/memory.stat": f"anon {2 * GIB}\ninactive_file {3 * GIB}",
            f"{job}/step_0/memory.max": "max",
            f"{job}/step_0/memory.current": 6 * GIB,
            f"{job}/step_0/user/task_0/memory.max": 9 * GIB,
            f"{job}/step_0/user/task_0/memory.current": 1 * GIB,
            f"{job}/step_0/user/task_0/memory.stat": "inactive_file 0",
        },
    )
    assert (_memory.total_memory(), _memory.free_memory()) == (8 * GIB, 5 * GIB)
    assert default_budget() == 4 * GIB


def test_a_container_sees_its_own_group_as_the_root(root: Path) -> None:
    write(
        root,
        {
            "proc/self/cgroup": "0::/",
            "sys/fs/cgroup/memory.max": 4 * GIB,
            "sys/fs/cgroup/memory.current": 5 * GIB,
            "sys/fs/cgroup/memory.stat": "",
        },
    )
    assert (_memory.total_memory(), _memory.free_memory()) == (4 * GIB, 0)


def test_version_1_with_a_path_that_is_the_machines(root: Path) -> None:
    write(
        root,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n1:name=systemd:/docker/ab\n0::/",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": 16 * GIB,
            "sys/fs/cgroup/memory/memory.usage_in_bytes": 12 * GIB,
            "sys/fs/cgroup/memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {2 * GIB}",
            "sys/fs/cgroup/memory.limit_in_bytes": 1,  # no group's
        },
    )
    assert (_memory.total_memory(), _memory.free_memory()) == (16 * GIB, 6 * GIB)
