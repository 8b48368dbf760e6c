"""Input files are read whole up to their limit, or one sentence names the file and the reason."""

from pathlib import Path

import pytest

from mlzsl.cli.errors import UsageError
from mlzsl.cli.inputs import read_bytes, read_text


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345678")
    assert read_bytes(path, 8, "write it again") == b"12345678"
    with pytest.raises(UsageError, match=r"file: is larger than .* MiB; write it again\."):
        read_bytes(path, 7, "write it again")


def test_a_missing_file_and_a_folder_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone: cannot be read \(No such file or directory\); write it\."):
        read_bytes(tmp_path / "gone", 8, "write it")
    with pytest.raises(UsageError, match=r": is a folder; name a file\."):
        read_bytes(tmp_path, 8, "name a file")


def test_text_is_utf8_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "text"
    for prefix in (b"", b"\xef\xbb\xbf"):
        path.write_bytes(prefix + "café\n猫".encode())
        assert read_text(path, 100, "write it again") == "café\n猫"
    path.write_bytes("dog\ncaf\xe9\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"text, line 2: the byte 0xe9 is not UTF-8; save the file as UTF-8\."):
        read_text(path, 100, "write it again")


@pytest.mark.parametrize(("encoding", "name"), [("utf-16", "UTF-16"), ("utf-32", "UTF-32")])
def test_other_encodings_are_named_by_their_byte_order_mark(tmp_path: Path, encoding: str, name: str) -> None:
    path = tmp_path / "text"
    path.write_bytes("dog\n".encode(encoding))
    with pytest.raises(UsageError, match=rf"text: is in {name} by its byte-order mark; save the file as UTF-8\."):
        read_text(path, 100, "write it again")
