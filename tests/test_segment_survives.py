"""Kills, full disks, damaged input: what is finished is kept, and the same command ends with the same bytes."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RUNNER = Path(__file__).with_name("kill_runner.py")
KILLS = int(os.environ.get("BAINITE_FAST_KILLS", "4"))


def _start(folder: Path) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-W", "ignore", str(RUNNER), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def _content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _journal_lines(folder: Path) -> int:
    for path in folder.rglob("journal.jsonl"):
        return path.read_bytes().count(b"\n")
    return 0


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Run once without a kill; return the bytes of all files, and what was printed."""
    folder = tmp_path_factory.mktemp("unbroken")
    printed = _finish(_start(folder))
    return _content(folder), printed


def test_killed_at_random_moments_resumes_to_the_same_bytes(unbroken, tmp_path):
    content, printed = unbroken
    rng = random.Random(20)
    lines_when_killed = []
    for k in range(KILLS):
        folder = tmp_path / str(k)
        process = _start(folder)
        wanted = rng.randrange(0, 50)
        while _journal_lines(folder) < wanted and process.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.random() * 0.03)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        lines_when_killed.append(_journal_lines(folder))
        assert _finish(_start(folder)) == printed
        assert _content(folder) == content
        shutil.rmtree(folder)
    assert any(lines > 0 for lines in lines_when_killed), "no kill came in the middle of a run"
