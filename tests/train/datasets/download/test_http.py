"""Downloads from a local server that drops connections, ignores ranges and changes files."""

import hashlib
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from fileserver import FileServer, serving

from mlzsl.cli.errors import FailureError
from mlzsl.train.datasets.download import http as downloading
from mlzsl.train.datasets.download.http import download

CONTENT = random.Random(7).randbytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(downloading, "FIRST_WAIT", 0.01)
    with serving() as execution:
        execution.files["a.bin"] = CONTENT
        yield execution


def fetch(server: FileServer, target: Path, size: int | None = len(CONTENT), sha256: str | None = SHA256) -> str:
    return download(f"{server.url}/a.bin", target, size, sha256, quiet=True)


def interrupt_download(server: FileServer, target: Path, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the first `after` bytes, as a command does that is interrupted before its second attempt."""

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    server.drops = [after]
    with monkeypatch.context() as patched:
        patched.setattr(downloading.time, "sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(server, target)
    server.requests.clear()
    assert target.with_name("a.bin.part").read_bytes() == CONTENT[:after]
    assert not target.exists()


def test_a_file_arrives_complete_and_nothing_else_is_left(server: FileServer, tmp_path: Path) -> None:
    assert fetch(server, tmp_path / "a.bin") == SHA256
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_dropped_connections_are_resumed(server: FileServer, tmp_path: Path) -> None:
    server.drops = [300_000, 0, 250_000, None]
    fetch(server, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.asked_ranges == [None, "bytes=300000-", "bytes=300000-", "bytes=550000-"]


def test_an_interrupted_download_requests_only_the_rest(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_download(server, tmp_path / "a.bin", 400_000, monkeypatch)
    fetch(server, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.requests == [("a.bin", "bytes=400000-", f'"{hashlib.md5(CONTENT).hexdigest()}"')]


def test_a_server_without_ranges_sends_the_whole_file_again(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.ranges = False
    interrupt_download(server, tmp_path / "a.bin", 400_000, monkeypatch)
    fetch(server, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("validators", [True, False])
def test_a_file_that_changed_is_downloaded_again(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, validators: bool
) -> None:
    """With an ETag the server detects it; without one the checksum does."""
    server.validators = validators
    interrupt_download(server, tmp_path / "a.bin", 400_000, monkeypatch)
    changed = CONTENT[::-1]
    server.files["a.bin"] = changed
    fetch(server, tmp_path / "a.bin", sha256=hashlib.sha256(changed).hexdigest())
    assert (tmp_path / "a.bin").read_bytes() == changed


def test_without_checksum_and_etag_parts_are_not_combined(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.validators = False
    interrupt_download(server, tmp_path / "a.bin", 400_000, monkeypatch)
    server.files["a.bin"] = CONTENT[::-1]
    fetch(server, tmp_path / "a.bin", sha256=None)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT[::-1]
    assert server.asked_ranges == [None]


def test_a_file_that_became_shorter_than_its_part_is_downloaded_again(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.validators = False
    interrupt_download(server, tmp_path / "a.bin", 400_000, monkeypatch)
    server.files["a.bin"] = CONTENT[:1000]
    download(f"{server.url}/a.bin", tmp_path / "a.bin", None, hashlib.sha256(CONTENT[:1000]).hexdigest(), quiet=True)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT[:1000]
    assert server.asked_ranges == ["bytes=400000-", None]


def test_a_wrong_checksum_is_refused_and_the_bytes_are_discarded(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"from before")
    with pytest.raises(FailureError, match=r"arrived with SHA-256 .* expected 000000000000.*--from"):
        fetch(server, tmp_path / "a.bin", sha256="0" * 64)
    assert (tmp_path / "a.bin").read_bytes() == b"from before"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_a_file_of_another_size_is_refused_before_the_download(server: FileServer, tmp_path: Path) -> None:
    server.files["a.bin"] = CONTENT[:-1]
    with pytest.raises(FailureError, match=r"has 999,999 bytes, expected 1,000,000"):
        fetch(server, tmp_path / "a.bin")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_unknown_size_that_ends_early_is_completed(server: FileServer, tmp_path: Path) -> None:
    server.drops = [300_000, 300_000]
    fetch(server, tmp_path / "a.bin", size=None, sha256=None)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_server_that_sends_no_length_needs_a_known_size(server: FileServer, tmp_path: Path) -> None:
    server.lengths = False
    with pytest.raises(FailureError, match="sends no length"):
        fetch(server, tmp_path / "a.bin", size=None)
    fetch(server, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_missing_file_is_reported_at_once(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(FailureError, match=r"b\.bin: the server answers 404 .*--from"):
        download(f"{server.url}/b.bin", tmp_path / "b.bin", None, None, quiet=True)
    assert len(server.requests) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_busy_server_is_asked_again(server: FileServer, tmp_path: Path) -> None:
    server.statuses = [503, 429, None]
    fetch(server, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_repeated_drops_are_reported_and_the_part_is_kept(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(downloading.time, "sleep", waits.append)
    server.drops = [5000, *itertools.repeat(0, 20)]
    with pytest.raises(FailureError, match=r"ended after 5,000 of 1,000,000 bytes.*5,000 bytes are kept"):
        fetch(server, tmp_path / "a.bin")
    assert (tmp_path / "a.bin.part").read_bytes() == CONTENT[:5000]
    assert not (tmp_path / "a.bin").exists()
    assert waits == sorted(waits)
    assert len(server.requests) == downloading.ATTEMPTS + 1


def test_repeated_drops_without_ranges_are_reported(server: FileServer, tmp_path: Path) -> None:
    server.ranges = False
    server.drops = [1000 + place % 7 for place in range(50)]
    with pytest.raises(FailureError, match="could not be downloaded"):
        fetch(server, tmp_path / "a.bin")
    assert len(server.requests) < 20


def test_no_server_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "FIRST_WAIT", 0.001)
    with serving() as gone:
        url = gone.url
    with pytest.raises(FailureError, match="no connection"):
        download(f"{url}/a.bin", tmp_path / "a.bin", None, None, quiet=True)


def test_a_full_disk_is_reported(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(downloading, "_copy", full)
    with pytest.raises(FailureError, match=r"a\.bin\.part: could not be written \(No space left on device\).*--into"):
        fetch(server, tmp_path / "a.bin")
    assert not (tmp_path / "a.bin").exists()
