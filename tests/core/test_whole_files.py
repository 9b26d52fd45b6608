"""Files appear whole or not at all."""

import os

import pytest

from cryoready.core.whole_files import written_whole


def fail_halfway(path):
    with written_whole(path) as part:
        part.write_text("new")
        raise OSError("disk full")


def test_a_block_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"):
        fail_halfway(path)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_a_file_has_its_name_when_its_bytes_are_on_the_disk(tmp_path, monkeypatch):
    """Not before: a power cut could leave the name without them."""
    path, forced = tmp_path / "table.tsv", []

    def fsync(number):
        assert not path.exists()
        forced.append(os.fstat(number).st_ino)

    monkeypatch.setattr("os.fsync", fsync)
    with written_whole(path) as part:
        part.write_text("new")
    assert forced == [path.stat().st_ino]


def test_processes_of_two_computers_do_not_write_into_each_others_file(tmp_path, monkeypatch):
    """On a shared file system, where both may well have the same number."""
    path = tmp_path / "table.tsv"
    monkeypatch.setattr("os.getpid", lambda: 7)
    monkeypatch.setattr("socket.gethostname", lambda: "node1")
    with written_whole(path) as one:
        one.write_text("one")
        monkeypatch.setattr("socket.gethostname", lambda: "node2")
        with written_whole(path) as two:
            two.write_text("two")
        assert path.read_text() == "two"
        assert one.read_text() == "one"
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]
