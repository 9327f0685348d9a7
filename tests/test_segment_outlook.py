"""What a run would do is what it does: the plan, the place, what becomes of unfinished work, and refusals."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import bainite_fast
from bainite_fast.errors import JournalError, OutputExistsError, OutputLockedError
from bainite_fast.segmentation import look_ahead
from bainite_fast.segmentation.journal import exclusive
from bainite_fast.segmentation.outlook import outlook
from bainite_fast.segmentation.request import check_request
from bainite_fast.segmentation.run import Choice, prepare, resolve_target
from bainite_fast.segmentation.stream import ClusterExecutor
from segment_helpers import small_unet

IMAGE = np.random.default_rng(0).integers(0, 256, (600, 1300), dtype=np.uint8)
NET = small_unet(depth=1)
# More than a process holds that has run other tests.
OPTIONS = {
    "tile": 64,
    "memory": "4GiB",
    "scale": "as-is",
    "precision": "float32",
}  # a process that has run other tests holds more than one


class _BrokenOffError(Exception):
    pass


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def unfinished(tmp_path):
    """Return an output of several blocks that was broken off after the first ones."""
    out = tmp_path / "out.ome.zarr"

    def stop(event):
        if event.done < event.total:
            raise _BrokenOffError

    with pytest.raises(_BrokenOffError):
        bainite_fast.segment(IMAGE, NET, out=out, progress=stop, **OPTIONS)
    return out


def test_the_plan_is_the_run_s_and_nothing_is_written(tmp_path):
    out = tmp_path / "out.ome.zarr"
    ahead = look_ahead(IMAGE, NET, out=out, **OPTIONS)
    assert not list(tmp_path.iterdir())
    done = bainite_fast.segment(IMAGE, NET, out=out, progress=False, **OPTIONS)
    assert (ahead.plan.identity(), ahead.output, ahead.state) == (done.plan.identity(), done.path, "new")
    with pytest.raises(OutputExistsError):
        look_ahead(IMAGE, NET, out=out, **OPTIONS)
    assert look_ahead(IMAGE, NET, out=out, overwrite=True, **OPTIONS).state == "replaces the labels there"


def test_unfinished_work_is_counted_and_its_plan_held(unfinished):
    whole = look_ahead(IMAGE, NET, out=unfinished, resume=False, **OPTIONS)
    assert whole.state == "replaces the unfinished run there"
    journal = next(unfinished.rglob("journal.jsonl"))
    with journal.open("ab") as file:
        file.write(b'{"block": [0,')  # as a kill, or a writer at this very moment, leaves it
    before = _content(unfinished)
    rest = look_ahead(IMAGE, NET, out=unfinished, **{**OPTIONS, "tile": None})
    assert _content(unfinished) == before
    blocks = journal.read_bytes().count(b"\n") - 1
    assert 0 < blocks < whole.plan.n_blocks
    assert rest.state == f"goes on with the unfinished run there, {blocks} of {whole.plan.n_blocks} blocks done"
    assert rest.plan.tile == OPTIONS["tile"]
    done = bainite_fast.segment(IMAGE, NET, out=unfinished, progress=False, **{**OPTIONS, "tile": None})
    assert done.plan.identity() == rest.plan.identity()


def test_what_the_run_refuses_is_refused(unfinished):
    with pytest.raises(JournalError, match="um_per_px was null, is 0.5"):
        look_ahead(IMAGE, NET, out=unfinished, **{**OPTIONS, "scale": 0.5})
    partial = next(unfinished.rglob("journal.jsonl")).parent
    with (
        exclusive(partial / "lock", partial),
        pytest.raises(OutputLockedError, match="is being written by process"),
    ):
        look_ahead(IMAGE, NET, out=unfinished, **OPTIONS)


def test_labels_that_are_not_listed_yet_stay_so(unfinished):
    """A run repairs what a kill left between the place of the labels and their list; to look ahead writes nothing."""
    done = bainite_fast.segment(IMAGE, NET, out=unfinished, progress=False, **OPTIONS)
    listed = done.path.parent / "zarr.json"
    listed.write_text(listed.read_text().replace('"phases"', ""))
    before = _content(unfinished)
    with pytest.raises(OutputExistsError):
        look_ahead(IMAGE, NET, out=unfinished, **OPTIONS)
    assert _content(unfinished) == before
    with pytest.raises(OutputExistsError):
        bainite_fast.segment(IMAGE, NET, out=unfinished, progress=False, **OPTIONS)
    assert '"phases"' in listed.read_text()


def test_unfinished_work_that_is_damaged_is_told_as_the_run_does(unfinished):
    partial = next(unfinished.rglob("journal.jsonl")).parent
    for path in [one for one in (partial / "0" / "c").rglob("*") if one.is_file()]:
        path.unlink()
    assert "unfinished run there, 0 of" in look_ahead(IMAGE, NET, out=unfinished, **OPTIONS).state
    (partial / "layout.json").unlink()  # as a run with resume=False that is killed early leaves it
    for act in (look_ahead, bainite_fast.segment):
        with pytest.raises(JournalError, match="no unfinished labels that can be taken up"):
            act(IMAGE, NET, out=unfinished, **OPTIONS)


def test_a_journal_that_lacks_what_this_version_asks_for_is_refused_by_name(unfinished):
    journal = next(unfinished.rglob("journal.jsonl"))
    _, *blocks = journal.read_bytes().split(b"\n")
    journal.write_bytes(b"\n".join([b'{"format": 1}', *blocks]))
    for act in (look_ahead, bainite_fast.segment):
        with pytest.raises(JournalError, match="belongs to another run: bainite_fast was null"):
            act(IMAGE, NET, out=unfinished, **{**OPTIONS, "tile": None})


def test_the_time_counts_what_is_left(unfinished, monkeypatch):
    monkeypatch.setattr("bainite_fast.segmentation.outlook.bare_network_rate", lambda *_, **__: 1e4)
    rest = look_ahead(IMAGE, NET, out=unfinished, **OPTIONS)
    whole = look_ahead(IMAGE, NET, out=unfinished, resume=False, **OPTIONS)
    assert 0.9 < whole.seconds / (IMAGE.size / 1e4) < 1.4  # tiles at the border are trimmed or padded
    assert 0 < rest.seconds < whole.seconds


def test_the_time_is_that_of_all_workers(tmp_path, monkeypatch):
    class Cluster(ClusterExecutor):
        threads_per_worker = 1

        def __init__(self, *addresses):
            super().__init__(SimpleNamespace(nthreads=lambda: dict.fromkeys(addresses, 1)))

    choice, request = Choice(IMAGE, NET, None, None, None, 0, None, None), check_request(
        device="cpu", runtime="torchscript", edge="mirror", confidence=False, resume=True, overwrite=False,
        with_image=False, **OPTIONS,
    )  # fmt: skip
    rate = lambda runtime, plan, *_, **__: 1e4 * plan.workers  # noqa: E731
    monkeypatch.setattr("bainite_fast.segmentation.outlook.bare_network_rate", rate)
    monkeypatch.setattr("bainite_fast.kernels.get_num_threads", lambda: 2)
    with prepare(choice, request) as prepared:
        target = resolve_target(prepared, tmp_path / "out.ome.zarr", "phases", None)
        workers = ["tcp://a:1", "tcp://a:2", "tcp://a:3", "tcp://b:1", "tcp://b:2"]
        seconds = [outlook(prepared, target, Cluster(*workers[:n])).seconds for n in (1, 2, 3, 5)]
    # Two on two cores are twice as fast, three no more; two machines are twice as fast as one.
    assert np.allclose(seconds[0] / np.array(seconds), [1, 2, 2, 4])


@pytest.mark.parametrize(("shape", "networks"), [((10, 600), 2), ((300, 400), 1)])
def test_the_time_is_that_of_networks_that_have_a_block_and_of_tiles_as_they_are(shape, networks, monkeypatch):
    def rate(runtime, plan, *_, **__):
        assert plan.workers == networks
        return 1e4 * plan.workers

    monkeypatch.setattr("bainite_fast.segmentation.outlook.bare_network_rate", rate)
    monkeypatch.setattr("bainite_fast.kernels.get_num_threads", lambda: 8)
    ahead = look_ahead(IMAGE[: shape[0], : shape[1]], NET, out="never.ome.zarr", **OPTIONS)
    assert ahead.plan.n_blocks == networks
    # Per pixel that is labelled, whatever the tile sees around it; tiles at the border are padded or trimmed.
    assert 0.8 < ahead.seconds * 1e4 * networks / np.prod(shape) < 1.3
