"""Files appear whole or not at all, and nothing else is ever replaced."""

import errno
import os
import threading

import pytest

from accelsdk.backend.files import written
from accelsdk.errors import FailedPrecondition, InvalidArgument, NotFound


def test_the_file_appears_at_the_end(tmp_path):
    path = tmp_path / "a"
    with written(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_failure_leaves_the_older_file(tmp_path, error):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(error), written(path):
        raise error
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    link = tmp_path / "link"
    link.symlink_to("real")
    with written(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    got = []
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    reader.start()
    with written(path) as file:
        file.write(b"xew")
        file.seek(0)
        file.write(b"n")
    reader.join(10)
    assert got == [b"new"]
    assert path.is_fifo()


def test_the_longest_name_can_be_written(tmp_path):
    path = tmp_path / ("n" * 255)
    with written(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_what_is_in_the_way_is_told(tmp_path):
    with pytest.raises(NotFound, match="no folder"), written(tmp_path / "no" / "a"):
        pass
    with pytest.raises(InvalidArgument, match="cannot write"), written(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_nothing_the_caller_did_wrong(tmp_path):
    with pytest.raises(FailedPrecondition, match="free some space"), written(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []
