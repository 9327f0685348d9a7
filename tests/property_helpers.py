"""How many examples a property is tried on: few in `make test`, many times as many in `make soak`."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import settings

TIMES = int(os.environ.get("BAINITE_FAST_EXAMPLES", "1"))


def examples(count: int, **more: Any) -> settings:
    """Return settings for so many examples, times BAINITE_FAST_EXAMPLES."""
    return settings(max_examples=TIMES * count, **more)
