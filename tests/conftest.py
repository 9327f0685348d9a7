"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before torch is loaded: its threads spin while they wait for one another, and starve each other on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("default")


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
