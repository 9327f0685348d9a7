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

import numpy as np
import pytest
import tifffile

import bainite_fast
from bainite_fast.errors import MosaicError
from bainite_fast.segmentation.journal import Journal
from segment_helpers import small_unet

RUNNER = Path(__file__).with_name("kill_runner.py")
KILLS = int(os.environ.get("BAINITE_FAST_KILLS", "2"))


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
        wanted = rng.randrange(50 * k // KILLS, 50 * (k + 1) // KILLS)  # early and late
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


def _mosaic(path: Path) -> Path:
    rng = np.random.default_rng(1)
    image = np.kron(rng.integers(0, 256, (400, 400), dtype=np.uint8), np.ones((4, 4), np.uint8))
    bainite_fast.io.convert(image, path)
    return path


def test_unreadable_shard_is_named_and_the_journal_kept(tmp_path):
    source = _mosaic(tmp_path / "mosaic.ome.zarr")
    net, options = small_unet(depth=1), {"tile": 64, "progress": False, "precision": "float32", "scale": "as-is"}
    whole = bainite_fast.segment(source, net, name="whole", **options)
    shard = max((p for p in (source / "0" / "c").rglob("*") if p.is_file()), key=str)
    good = shard.read_bytes()
    times = shard.stat()
    damaged = bytearray(good)
    for k in range(0, len(good) - 200, 97):
        damaged[k] ^= 0x5A
    shard.write_bytes(bytes(damaged))
    with pytest.raises(MosaicError, match="mosaic.ome.zarr") as caught:
        bainite_fast.segment(source, net, **options)
    assert caught.value.place
    partial = source / "labels" / "phases.partial"
    assert Journal.load(partial / "journal.jsonl").header["identity"]["plan"]["tile"] == 64
    assert not (source / "labels" / "phases").exists()
    shard.write_bytes(good)
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))
    seg = bainite_fast.segment(source, net, **options)
    assert seg.counts == whole.counts
    assert np.array_equal(np.asarray(seg.labels), np.asarray(whole.labels))


def test_corrupt_tiff_tile_is_named(tmp_path):
    path = tmp_path / "mosaic.tif"
    image = np.random.default_rng(0).integers(0, 256, (1400, 900), dtype=np.uint8)
    tifffile.imwrite(path, image, tile=(256, 256), compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        offset, count = tiff.pages[0].dataoffsets[-1], tiff.pages[0].databytecounts[-1]
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = b"\x5a" * count
    path.write_bytes(bytes(content))
    with pytest.raises(MosaicError, match="mosaic.tif") as caught:
        bainite_fast.segment(path, small_unet(depth=1), progress=False, tile=64)
    assert "1280" in str(caught.value)
    assert not (tmp_path / "mosaic.ome.zarr" / "labels" / "phases").exists()


def test_full_disk_is_named_and_the_run_goes_on_when_there_is_room(tmp_path, unbroken):
    """A real file system of 300 kB, in a mount namespace of its own."""
    script = f"""
        set -e
        mount -t tmpfs -o size=300k,nr_inodes=400 tmpfs {tmp_path}
        {sys.executable} -W ignore {RUNNER} {tmp_path} && exit 10
        ls {tmp_path}/out.ome.zarr/labels/phases.partial/journal.jsonl || exit 11
        ls {tmp_path}/out.ome.zarr/labels/phases && exit 12
        mount -o remount,size=64m,nr_inodes=9999 {tmp_path}
        {sys.executable} -W ignore {RUNNER} {tmp_path}
    """
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a small file system (unshare -rm)")
    done = subprocess.run(["unshare", "-rm", "bash", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "OutputError" in done.stderr
    assert "No space left" in done.stderr
    assert done.stdout.endswith(unbroken[1])
