"""The journal: what a kill can do to it, and what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bainite_fast.errors import JournalError, OutputLockedError
from bainite_fast.segmentation import journal
from bainite_fast.segmentation.journal import BlockRecord, Journal, exclusive

IDENTITY = {"model": {"sha256": "ab"}, "plan": {"tile": 512, "shape": (3, 4)}}


def _record(by: int, bx: int = 0) -> BlockRecord:
    return BlockRecord(by, bx, (5, 7), "00" * 32, (("0/c/0/0", 12), ("1/c/0/0", None)))


def _journal(folder, blocks):
    begun = Journal.create(folder / "journal.jsonl", {"identity": IDENTITY})
    for block in range(blocks):
        begun.append(_record(block))
    return begun


@given(blocks=st.integers(0, 5), data=st.data())
def test_cut_anywhere_keeps_whole_lines(tmp_path_factory, blocks, data):
    begun = _journal(tmp_path_factory.mktemp("journal"), blocks)
    content = begun.path.read_bytes()
    header = content.index(b"\n") + 1
    cut = data.draw(st.integers(header, len(content)))
    begun.path.write_bytes(content[:cut])
    back = Journal.load(begun.path)
    assert list(back.done) == [(k, 0) for k in range(content[header:cut].count(b"\n"))]
    assert all(record == _record(by) for (by, _), record in back.done.items())
    assert begun.path.read_bytes() == content[:cut]  # another process may be about to write the rest
    back.take_up()
    back.append(_record(9))
    assert (9, 0) in Journal.load(begun.path).done


def test_same_run_goes_on_and_another_is_refused_by_name(tmp_path):
    begun = Journal.load(_journal(tmp_path, 1).path)
    begun.check(IDENTITY)
    with pytest.raises(JournalError, match=r"plan\.tile was 512, is 256.*resume=False"):
        begun.check({**IDENTITY, "plan": {"tile": 256, "shape": (3, 4)}})
    with pytest.raises(JournalError, match=r"model\.sha256"):
        begun.check({**IDENTITY, "model": {"sha256": "cd"}})


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle\n", b"[1]\n", b'{"format": 99}\n', b'{"format": 1}\n{}\n'])
def test_damaged_journal_is_refused(tmp_path, content):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content)
    with pytest.raises(JournalError, match="resume=False"):
        Journal.load(path)


def test_second_writer_is_refused_and_named(tmp_path):
    with (
        exclusive(tmp_path / "lock", tmp_path / "out"),
        pytest.raises(OutputLockedError, match="process"),
        exclusive(tmp_path / "lock", tmp_path / "out"),
    ):
        pass
    with exclusive(tmp_path / "lock", tmp_path / "out"):
        pass


@pytest.mark.parametrize("moment", ["before it is opened", "before it is locked"])
def test_a_lock_in_a_folder_that_got_its_final_name_guards_nothing(tmp_path, monkeypatch, moment):
    partial, lock = tmp_path / "out.partial", journal.lock

    def finish(*_):
        partial.rename(tmp_path / "out")
        return True

    if moment == "before it is locked":
        partial.mkdir()
        monkeypatch.setattr(journal, "lock", lambda *given: lock(*given) and finish())
    with pytest.raises(OutputLockedError, match="has just finished"), exclusive(partial / "lock", tmp_path / "out"):
        pass
