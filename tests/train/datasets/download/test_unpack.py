"""Unpacking: files arrive unchanged; archives that lead out of the folder, are damaged or too large are refused."""

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mlzsl.cli.errors import FailureError
from mlzsl.train.datasets.download import unpack as unpacking
from mlzsl.train.datasets.download.unpack import unpack


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


WRITERS = [(write_zip, "a.zip"), (write_tar, "a.tar"), (write_tar, "a.tar.gz")]
Writer = Callable[[Path, dict[str, bytes]], Path]


def below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.mark.parametrize(("write", "name"), WRITERS)
def test_files_are_unpacked_unchanged_next_to_existing_ones(
    write: Writer, name: str, tmp_path: Path, folder: Path
) -> None:
    (folder / "x").mkdir()
    (folder / "x/old.txt").write_bytes(b"old")
    (folder / "x/b.txt").write_bytes(b"to be replaced")
    archive = write(tmp_path / name, {"x/b.txt": b"b", "x/y/c.txt": b"c" * 5000, "d.txt": b""})
    assert unpack(archive, folder, quiet=True) == {"x/b.txt": 1, "x/y/c.txt": 5000, "d.txt": 0}
    assert below(folder) == {"x/old.txt": b"old", "x/b.txt": b"b", "x/y/c.txt": b"c" * 5000, "d.txt": b""}
    assert not list(folder.glob(".*"))


def test_only_files_of_the_patterns_are_unpacked(tmp_path: Path, folder: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"x/a.json": b"a", "x/b.json": b"b", "y.txt": b"y"})
    assert unpack(archive, folder, ("x/a*.json",), quiet=True) == {"x/a.json": 1}
    assert below(folder) == {"x/a.json": b"a"}
    with pytest.raises(FailureError, match=r"has no file z/\*"):
        unpack(archive, folder, ("z/*",), quiet=True)


@pytest.mark.parametrize(("write", "name"), WRITERS)
@pytest.mark.parametrize("bad", ["../out.txt", "x/../../out.txt", "/out.txt", "C:/out.txt", "..\\out.txt"])
def test_a_member_that_leads_out_of_the_folder_is_refused(
    write: Writer, name: str, bad: str, tmp_path: Path, folder: Path
) -> None:
    archive = write(tmp_path / name, {"good.txt": b"good", bad: b"bad"})
    with pytest.raises(FailureError, match="leads out of the folder"):
        unpack(archive, folder, quiet=True)
    assert {path.name for path in tmp_path.iterdir()} == {name, "data"}
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, tmp_path: Path, folder: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        info = tarfile.TarInfo("x")
        info.type, info.linkname = kind, "/etc/passwd"
        file.addfile(info)
    with pytest.raises(FailureError, match="'x' is a link or a device"):
        unpack(tmp_path / "a.tar", folder, quiet=True)


def test_a_link_in_a_zip_is_refused(tmp_path: Path, folder: Path) -> None:
    info = zipfile.ZipInfo("x")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, "/etc/passwd")
    with pytest.raises(FailureError, match="'x' is a link or a device"):
        unpack(tmp_path / "a.zip", folder, quiet=True)


def test_an_archive_of_an_implausible_ratio_is_refused(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "MAX_RATIO_FROM", 1000)
    archive = write_zip(tmp_path / "a.zip", {f"{place}.bin": bytes(10**6) for place in range(3)})
    with pytest.raises(FailureError, match=r"has .* bytes but unpacks to more than"):
        unpack(archive, folder, quiet=True)
    assert list(folder.iterdir()) == []


def test_an_archive_that_does_not_fit_on_the_disk_is_refused_first(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_zip(tmp_path / "a.zip", {"a.bin": bytes(5000)})
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 4999})())
    with pytest.raises(FailureError, match=r"unpacks to 5,000 bytes, but .* has 4,999 free"):
        unpack(archive, folder, quiet=True)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(("write", "name"), WRITERS)
def test_a_damaged_archive_is_reported_and_leaves_nothing(
    write: Writer, name: str, tmp_path: Path, folder: Path
) -> None:
    archive = write(tmp_path / name, {"a.bin": bytes(range(256)) * 400, "b.bin": b"b" * 100_000})
    content = bytearray(archive.read_bytes())
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(FailureError, match=f"{name}: is not a readable zip or tar"):
        unpack(archive, folder, quiet=True)
    assert list(folder.iterdir()) == []


def test_a_zip_with_changed_bytes_is_reported_and_leaves_nothing(tmp_path: Path, folder: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "first " * 100)
        file.writestr("b.txt", "second " * 100)
    content = archive.read_bytes()
    archive.write_bytes(content.replace(b"second second", b"SECOND second", 1))
    with pytest.raises(FailureError, match="Bad CRC-32"):
        unpack(archive, folder, quiet=True)
    assert list(folder.iterdir()) == []


def test_a_file_that_is_no_archive_is_reported(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"<html>moved</html>")
    with pytest.raises(FailureError, match="is not a readable zip or tar"):
        unpack(tmp_path / "a.zip", folder, quiet=True)
