"""A short run of the fuzzer of EBSD files; `make fuzz` runs a long one."""

from __future__ import annotations

import fuzz_ebsd


def test_damaged_files_are_read_or_refused_by_name() -> None:
    outcomes = fuzz_ebsd.run(400, 20261124, report=lambda line: None)
    assert sum(outcomes.values()) == 400
    assert not [outcome for outcome in outcomes if outcome.endswith("error of another kind")]
    formats = {outcome.partition(":")[0].partition(" ")[0] for outcome in outcomes}
    assert formats == {"ang", "ctf", "crc", "edax", "oxford", "bruker"}
    assert outcomes["ang: error with its line"] and outcomes["ang: map"]
