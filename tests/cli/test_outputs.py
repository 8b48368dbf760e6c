"""Files are written whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from mlzsl.cli.errors import FailureError
from mlzsl.cli.outputs import sha256_of_bytes, sha256_of_file, written_atomically


def test_the_file_exists_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "result.txt"
    with written_atomically(target) as temporary:
        temporary.write_text("done")
        assert not target.exists()
        assert temporary.suffix == ".txt"
    assert target.read_text() == "done"
    assert list(target.parent.iterdir()) == [target]


def test_an_exception_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "result.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), written_atomically(target) as temporary:
        temporary.write_text(str(1 / 0))
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "result.txt"
    target.write_text("old")
    with pytest.raises(FailureError, match=r"result\.txt: could not be written: No space left .* unchanged"):  # noqa: SIM117
        with written_atomically(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert target.read_text() == "old"


def test_a_target_below_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FailureError, match="could not be written"), written_atomically(tmp_path / "file" / "x"):
        pass


def test_new_files_have_ordinary_permissions(tmp_path: Path) -> None:
    plain, atomic = tmp_path / "plain", tmp_path / "atomic"
    plain.write_text("")
    with written_atomically(atomic) as temporary:
        temporary.write_text("")
    assert atomic.stat().st_mode == plain.stat().st_mode


def test_the_hash_depends_on_where_parts_end() -> None:
    assert sha256_of_bytes(b"ab", b"c") != sha256_of_bytes(b"a", b"bc")


def test_the_hash_of_a_file_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert sha256_of_file(tmp_path / "empty").startswith("e3b0c44298fc1c14")
