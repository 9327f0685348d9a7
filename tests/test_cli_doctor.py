"""The doctor tells what works and why the rest does not, and never falls ill itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bainite_fast.cli import _doctor, app
from bainite_fast.cli._doctor import Finding


def test_a_sound_installation_is_found_sound() -> None:
    done = CliRunner().invoke(app, ["doctor", "--json"])
    report = json.loads(done.stdout)
    assert report["healthy"], report
    assert done.exit_code == 0
    by_name = {finding["name"]: finding for finding in report["findings"]}
    for name in ("bainite-fast", "kernels", "threads", "memory", "torch", "temporary files"):
        assert by_name[name]["status"] == "ok"
        assert by_name[name]["detail"]
    assert by_name["cuda kernels"]["detail"]
    assert any(name.startswith("model ") for name in by_name)


def test_text_and_json_say_the_same() -> None:
    runner = CliRunner()
    text = runner.invoke(app, ["doctor"]).stdout
    for finding in json.loads(runner.invoke(app, ["doctor", "--json"]).stdout)["findings"]:
        assert finding["name"] in text


def test_what_cannot_be_imported_is_a_finding() -> None:
    def look() -> Iterator[Finding]:
        yield Finding("first", "ok", "there")
        raise ImportError("libgone.so.1: cannot open shared object file")

    def after() -> Iterator[Finding]:
        yield Finding("after", "ok", "there")

    found = _doctor.examine([("broken part", look), ("after", after)])
    assert [(finding.name, finding.status) for finding in found[-2:]] == [("broken part", "broken"), ("after", "ok")]
    assert "libgone.so.1" in found[-2].detail
    assert found[-2].cure


@pytest.mark.parametrize(
    "error", [OSError("libtorch_cpu.so: cannot open shared object file"), ValueError("numpy.dtype size changed")]
)
def test_what_fails_otherwise_at_import_is_a_finding_too(error: Exception) -> None:
    def look() -> Iterator[Finding]:
        raise error
        yield

    def after() -> Iterator[Finding]:
        yield Finding("after", "ok", "there")

    broken, last = _doctor.examine([("network", look), ("after", after)])
    assert (broken.name, broken.status, last.status) == ("network", "broken", "ok")
    assert str(error) in broken.detail and type(error).__name__ in broken.detail


def test_a_broken_part_makes_the_exit_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def look() -> Iterator[Finding]:
        raise ImportError("gone")
        yield

    monkeypatch.setattr(_doctor, "LOOKS", (("kernels", look),))
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "BAD  kernels" in done.stdout


def test_no_room_for_temporary_files_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    (finding,) = _doctor.look_at_disk()
    assert finding.status == "broken"
    assert "TMPDIR" in finding.cure
