"""Help answers without loading what only a run needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

COMMANDS = (
    "segment", "demo", "info", "convert", "export", "models", "synth", "train", "search", "recipes", "doctor", "ebsd",
)  # fmt: skip
HEAVY = ("numpy", "torch", "zarr", "zarrs", "dask", "tifffile", "skimage", "matplotlib", "bainite_fast._core")

PROBE = f"""
import sys
from bainite_fast.cli import app
try:
    app(sys.argv[1:])
finally:
    print("loaded:", *[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""


def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help_is_complete_and_light(command: tuple[str, ...]) -> None:
    done = ask(*command, "--help")
    assert done.returncode == 0
    assert done.stderr.strip() == "loaded:"
    for word in COMMANDS if not command else ("Usage:", "--help"):
        assert word in done.stdout


def test_help_of_segment_names_every_option_and_its_unit() -> None:
    text = " ".join(ask("segment", "--help").stdout.split())
    names = "model out name device precision edge tile memory scale normalize plane channel level crop-bar with-image"
    for name in [*names.split(), "ome-version", "confidence", "overwrite", "no-resume", "dry-run", "json", "quiet"]:
        assert f"--{name}" in text
    for unit in ("in px", "4GiB", "µm/px"):
        assert unit in text


def test_version_is_that_of_the_package_and_light() -> None:
    from bainite_fast import __version__

    done = ask("--version")
    assert done.returncode == 0
    assert done.stdout.strip() == f"bainite-fast {__version__}"
    assert done.stderr.strip() == "loaded:"


def test_without_a_command_the_help_is_shown() -> None:
    assert "segment" in ask().stdout + ask().stderr
