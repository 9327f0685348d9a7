"""The journal: what a kill can do to it, and what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bainite_fast.errors import JournalError, OutputLockedError
from bainite_fast.segmentation.journal import BlockRecord, Journal, exclusive

IDENTITY = {"model": {"sha256": "ab"}, "plan": {"tile": 512, "shape": (3, 4)}}


def _record(by: int, bx: int = 0) -> BlockRecord:
    return BlockRecord(by, bx, (5, 7), "00" * 32, (("0/c/0/0", 12), ("1/c/0/0", None)))


def _journal(folder, blocks):
    journal = Journal.create(folder / "journal.jsonl", {"identity": IDENTITY})
    for block in range(blocks):
        journal.append(_record(block))
    return journal


@given(blocks=st.integers(0, 5), data=st.data())
def test_cut_anywhere_keeps_whole_lines(tmp_path_factory, blocks, data):
    journal = _journal(tmp_path_factory.mktemp("journal"), blocks)
    content = journal.path.read_bytes()
    header = content.index(b"\n") + 1
    cut = data.draw(st.integers(header, len(content)))
    journal.path.write_bytes(content[:cut])
    back = Journal.load(journal.path)
    assert list(back.done) == [(k, 0) for k in range(content[header:cut].count(b"\n"))]
    assert all(record == _record(by) for (by, _), record in back.done.items())
    assert journal.path.read_bytes() == content[:cut]  # reading leaves it to its writer
    back.take_up()
    back.append(_record(9))
    assert (9, 0) in Journal.load(journal.path).done


def test_same_run_goes_on_and_another_is_refused_by_name(tmp_path):
    journal = Journal.load(_journal(tmp_path, 1).path)
    journal.check(IDENTITY)
    with pytest.raises(JournalError, match=r"plan\.tile was 512, is 256.*resume=False"):
        journal.check({**IDENTITY, "plan": {"tile": 256, "shape": (3, 4)}})
    with pytest.raises(JournalError, match=r"model\.sha256"):
        journal.check({**IDENTITY, "model": {"sha256": "cd"}})


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
