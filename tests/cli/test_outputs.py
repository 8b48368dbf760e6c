"""Files are written whole or not at all."""

import errno
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlzsl.cli.errors import FailureError, UsageError
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


def write(target: Path, text: str = "new") -> None:
    with written_atomically(target) as temporary:
        temporary.write_text(text)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755, 0o444])
def test_the_mode_of_an_existing_file_is_kept(tmp_path: Path, mode: int) -> None:
    target = tmp_path / "private.txt"
    target.write_text("old")
    target.chmod(mode)
    if os.access(target, os.W_OK):
        write(target)
        assert target.read_text() == "new"
    else:
        with pytest.raises(FailureError, match=r"Permission denied\. The existing file is unchanged"):
            write(target)
    assert stat.S_IMODE(target.stat().st_mode) == mode
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_owner_of_an_existing_file_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "result.txt"
    target.write_text("old")
    os.chown(target, 1234, 4321)
    write(target)
    assert (target.read_text(), target.stat().st_uid, target.stat().st_gid) == ("new", 1234, 4321)


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_and_the_file_that_it_leads_to_is_written(tmp_path: Path, exists: bool) -> None:
    real, link, second = tmp_path / "elsewhere" / "real.txt", tmp_path / "link.txt", tmp_path / "second.txt"
    real.parent.mkdir()
    if exists:
        real.write_text("old")
    link.symlink_to("elsewhere/real.txt")
    second.symlink_to(link)
    write(second)
    assert second.is_symlink()
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert list(real.parent.iterdir()) == [real]


def test_a_link_to_itself_is_refused_and_stays(tmp_path: Path) -> None:
    link = tmp_path / "link.txt"
    link.symlink_to(link)
    with pytest.raises(FailureError, match="could not be written: Too many levels of symbolic links"):
        write(link)
    assert link.is_symlink()


def test_a_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        write(tmp_path)


@pytest.mark.parametrize("through_link", [False, True])
def test_a_pipe_gets_the_content_and_stays(tmp_path: Path, through_link: bool) -> None:
    pipe = target = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    if through_link:
        target = tmp_path / "link.jsonl"
        target.symlink_to(pipe)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(pipe.read_text)
        write(target, "a" * 200_000)
        assert read.result() == "a" * 200_000
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert pipe in tmp_path.iterdir()


def test_a_device_is_written_through(tmp_path: Path) -> None:
    link = tmp_path / "null"
    link.symlink_to(os.devnull)
    write(link)
    assert link.is_symlink()
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    with pytest.raises(FailureError, match="full: could not be written: No space left on device"):
        write(full)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make device nodes")
def test_a_device_node_stays(tmp_path: Path) -> None:
    node = tmp_path / "node"
    try:
        os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this container may not make device nodes")
    write(node)
    assert stat.S_ISCHR(node.stat().st_mode)


def test_standard_output_is_appended_to_whatever_it_is(tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    output.write_text("before\n")
    code = "from mlzsl.cli.outputs import written_atomically as w\n"
    code += "with w('/dev/stdout') as file: file.write_text('content\\n')\nprint('after')"
    with output.open("a") as stdout:
        subprocess.run([sys.executable, "-c", code], stdout=stdout, check=True)
    assert output.read_text() == "before\ncontent\nafter\n"
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert piped.stdout == "content\nafter\n"
