"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from property_helpers import TIMES

# Before torch is loaded: its threads spin while they wait for one another, and starve each other on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

settings.register_profile(
    "default",
    max_examples=100 * TIMES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("default")

# Files that take longest, which begin first: at the end no process works alone while the others are done.
_LONGEST = (
    "test_segment_cluster", "test_segment_exact", "test_bench", "test_segment_survives", "test_models_export",
    "test_training_run", "test_models_exported", "test_segment_real", "test_evaluation_study", "test_models_runtime",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; with `--no-loadscope-reorder` they are dealt in this order."""
    place = {name: k for k, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(_LONGEST)))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real images, or skip where it is not at hand."""
    value = os.environ.get("BAINITE_FAST_DATA")
    if not value:
        pytest.skip("BAINITE_FAST_DATA is not set: tests on real micrographs are skipped")
    folder = Path(value)
    if not folder.is_dir():
        pytest.fail(f"BAINITE_FAST_DATA={value} is not a folder")
    return folder
