"""`mlzsl-fetch` from a local server: its list, its question, and the files it leaves for `mlzsl-train --data`."""

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result
from fileserver import FileServer, serving
from PIL import Image

from mlzsl.cli.errors import FailureError
from mlzsl.cli.main import main
from mlzsl.graph.labels.sets import load_label_set
from mlzsl.train.datasets.download import catalog as catalogue
from mlzsl.train.datasets.download import fetch
from mlzsl.train.datasets.download import http as download
from mlzsl.train.datasets.download.catalog import CATALOGUE, Entry, RemoteFile
from mlzsl.train.datasets.download.fetch import fetch_entry
from mlzsl.train.datasets.registry import load_data


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(download, "FIRST_WAIT", 0.01)
    with serving() as execution:
        yield execution


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["fetch", *map(str, arguments)])


def published(name: str, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the large files of a catalogue entry by small ones, with their size and checksum."""
    entry = CATALOGUE[name]
    small = [
        replace(file, size=len(files[file.name]), sha256=hashlib.sha256(files[file.name]).hexdigest())
        for file in entry.files
    ]
    monkeypatch.setitem(catalogue.CATALOGUE, name, replace(entry, files=tuple(small)))


def photo() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    return buffer.getvalue()


def tar_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def voc_archive(split: str, dog: str, cat: str) -> bytes:
    """An archive of VOC2007 with two photos, as the challenge packs it."""
    lists = "VOCdevkit/VOC2007/ImageSets/Main"
    return tar_of(
        {
            f"{lists}/{split}.txt": f"{dog}\n{cat}\n".encode(),
            f"{lists}/dog_{split}.txt": f"{dog}  1\n{cat} -1\n".encode(),
            f"{lists}/cat_{split}.txt": f"{dog} -1\n{cat}  1\n".encode(),
            f"VOCdevkit/VOC2007/JPEGImages/{dog}.jpg": photo(),
            f"VOCdevkit/VOC2007/JPEGImages/{cat}.jpg": photo(),
        }
    )


@pytest.fixture
def voc(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    server.files = {
        "VOCtrainval_06-Nov-2007.tar": voc_archive("trainval", "000005", "000007"),
        "VOCtest_06-Nov-2007.tar": voc_archive("test", "000001", "000002"),
    }
    published("voc", server.files, monkeypatch)
    return server


# The list and the question


def test_without_a_name_all_entries_are_listed_with_size_and_licence() -> None:
    result = call()
    assert result.exit_code == 0, result.output
    for name, entry in CATALOGUE.items():
        assert f"{name}: {entry.title}" in result.output
        assert entry.licence in result.output
        assert entry.licence_url in result.output
    assert "20.4 GB, 3 files" in result.output
    assert [row["name"] for row in json.loads(call("--json").stdout)] == list(CATALOGUE)


def test_the_catalogue_has_valid_urls_names_and_checksums() -> None:
    for entry in CATALOGUE.values():
        names = [file.name for file in entry.files]
        assert len(set(names)) == len(names)  # a mirror holds them side by side
        assert urlsplit(entry.licence_url).scheme in ("http", "https")
        for file in entry.files:
            assert urlsplit(file.url).scheme in ("http", "https")
            assert file.sha256 is None or len(bytes.fromhex(file.sha256)) == 32


def test_licence_and_size_are_shown_before_the_question(
    voc: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlzsl.train.datasets.download.cli._on_a_terminal", lambda: True)
    arguments = ["fetch", "voc", "--into", str(tmp_path / "voc"), "--from", voc.url]
    refused = CliRunner().invoke(main, arguments, input="n\n")
    assert refused.exit_code == 2
    shown, question, _ = refused.output.partition("Accept the licence")
    assert CATALOGUE["voc"].licence in shown
    assert "0 MB, 2 files" in shown
    assert question
    assert voc.requests == []
    assert not (tmp_path / "voc").exists()
    assert CliRunner().invoke(main, arguments, input="y\n").exit_code == 0


def test_without_a_terminal_the_licence_needs_yes(voc: FileServer, tmp_path: Path) -> None:
    result = call("voc", "--into", tmp_path / "voc", "--from", voc.url)
    assert result.exit_code == 2
    assert "error: voc: its licence has to be accepted; add --yes if you do." in result.output
    assert voc.requests == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["imagenet"], "NAME: 'imagenet' is not in the list; expected one of coco, voc"),
        (["--keep-archives"], "--keep-archives: has no effect without NAME"),
        (["voc", "--json"], "--json: has no effect with NAME"),
        (["voc", "--yes", "--from", "ftp://host/x"], "--from ftp://host/x: is not a URL"),
        (["voc", "--yes", "--into", "/dev/null/x"], "--into /dev/null/x: is not a folder"),
    ],
)
def test_invalid_arguments_are_refused_in_one_sentence(arguments: list[str], sentence: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert sentence in result.output


# The files


def test_voc_is_fetched_unpacked_and_loaded_by_the_command_it_names(voc: FileServer, tmp_path: Path) -> None:
    folder = tmp_path / "voc"
    voc.drops = [4000, None, 4000]
    result = call("voc", "--into", folder, "--yes", "--from", voc.url, "--quiet")
    assert result.exit_code == 0, result.output
    assert f"next: mlzsl-train --data voc:{folder}" in result.stdout
    assert "bytes=4000-" in voc.asked_ranges
    assert sorted(path.name for path in folder.iterdir()) == ["VOCdevkit", "fetched.json"]
    source = load_data(f"voc:{folder}", load_label_set("voc20"), quiet=True)
    assert source.held_out is not None
    for photos, dog, cat in ((source.training, "000005", "000007"), (source.held_out, "000001", "000002")):
        assert {path.stem: set(labels) for path, labels in zip(photos.paths, photos.labels, strict=True)} == {
            dog: {"dog"},
            cat: {"cat"},
        }


def test_coco_is_fetched_unpacked_and_loaded(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def instances(name: str) -> bytes:
        return json.dumps(
            {
                "images": [{"id": 9, "file_name": name}],
                "annotations": [{"image_id": 9, "category_id": 18}],
                "categories": [{"id": 18, "name": "dog"}],
            }
        ).encode()

    server.files = {
        "annotations_trainval2014.zip": zip_of(
            {
                "annotations/instances_train2014.json": instances("a.jpg"),
                "annotations/instances_val2014.json": instances("b.jpg"),
                "annotations/captions_train2014.json": b"{}",
            }
        ),
        "train2014.zip": zip_of({"train2014/a.jpg": photo()}),
        "val2014.zip": zip_of({"val2014/b.jpg": photo()}),
    }
    published("coco", server.files, monkeypatch)
    result = call("coco", "--into", tmp_path, "--yes", "--from", f"{server.url}/")
    assert result.exit_code == 0, result.output
    source = load_data(f"coco:{tmp_path}", load_label_set("coco80"), quiet=True)
    assert source.held_out is not None
    assert [path.name for path in (*source.training.paths, *source.held_out.paths)] == ["a.jpg", "b.jpg"]
    assert not (tmp_path / "annotations/captions_train2014.json").exists()


def test_open_images_is_fetched_and_loaded_with_photos(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = "ImageID,Source,LabelName,Confidence\n{},verification,/m/0bt9lr,1\n"
    server.files = {
        "class-descriptions.csv": b"/m/0bt9lr,Dog\n",
        **{
            f"{split}-annotations-human-imagelabels.csv": row.format(f"{split}1").encode()
            for split in ("train", "validation", "test")
        },
    }
    published("openimages", server.files, monkeypatch)
    result = call("openimages", "--into", tmp_path, "--yes", "--from", server.url)
    assert result.exit_code == 0, result.output
    assert f"Put them into {tmp_path}/train and {tmp_path}/test." in result.output
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / f"{split}1.jpg").write_bytes(photo())
    source = load_data(f"openimages:{tmp_path}", load_label_set("voc20"), quiet=True)
    assert [path.stem for path in source.training.paths] == ["train1"]


def test_finished_files_are_skipped_and_missing_ones_fetched_again(voc: FileServer, tmp_path: Path) -> None:
    arguments = ("voc", "--into", tmp_path, "--yes", "--from", voc.url)
    assert call(*arguments).exit_code == 0
    voc.requests.clear()
    again = call(*arguments)
    assert again.exit_code == 0
    assert "VOCtest_06-Nov-2007.tar: already fetched" in again.output
    assert voc.requests == []
    (tmp_path / "VOCdevkit").rename(tmp_path / "elsewhere")
    assert call(*arguments).exit_code == 0
    assert len(voc.requests) == 2


def test_an_archive_whose_files_are_missing_or_cut_is_fetched_again(voc: FileServer, tmp_path: Path) -> None:
    arguments = ("voc", "--into", tmp_path, "--yes", "--from", voc.url)
    assert call(*arguments).exit_code == 0
    lists = tmp_path / "VOCdevkit/VOC2007/ImageSets/Main"
    (lists / "dog_test.txt").unlink()  # the folder VOCdevkit, which both archives unpack to, is still there
    voc.requests.clear()
    assert call(*arguments).exit_code == 0
    assert [name for name, *_ in voc.requests] == ["VOCtest_06-Nov-2007.tar"]
    (lists / "dog_trainval.txt").write_text("cut")
    voc.requests.clear()
    assert call(*arguments).exit_code == 0
    assert [name for name, *_ in voc.requests] == ["VOCtrainval_06-Nov-2007.tar"]
    assert (lists / "dog_trainval.txt").read_text().startswith("000005")


def test_the_record_of_an_earlier_version_is_read(voc: FileServer, tmp_path: Path) -> None:
    arguments = ("voc", "--into", tmp_path, "--yes", "--from", voc.url)
    assert call(*arguments).exit_code == 0
    record = json.loads((tmp_path / "fetched.json").read_text())
    for entry in record.values():
        del entry["unpacked"]
        entry["made"] = ["VOCdevkit"]
    (tmp_path / "fetched.json").write_text(json.dumps(record))
    voc.requests.clear()
    assert "VOCtest_06-Nov-2007.tar: already fetched" in call(*arguments).output
    assert voc.requests == []


def test_kept_archives_are_not_fetched_again(voc: FileServer, tmp_path: Path) -> None:
    arguments = ("voc", "--into", tmp_path, "--yes", "--from", voc.url, "--keep-archives")
    assert call(*arguments).exit_code == 0
    assert (tmp_path / "VOCtest_06-Nov-2007.tar").read_bytes() == voc.files["VOCtest_06-Nov-2007.tar"]
    voc.requests.clear()
    (tmp_path / "fetched.json").unlink()
    assert call(*arguments).exit_code == 0
    assert voc.requests == []


def test_an_archive_that_leads_out_of_the_folder_is_refused(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files = {"glove.6B.zip": zip_of({"../glove.6B.300d.txt": b"dog 1 2\n"})}
    published("glove", server.files, monkeypatch)
    result = call("glove", "--into", tmp_path / "glove", "--yes", "--from", server.url)
    assert result.exit_code == 1
    assert "its member '../glove.6B.300d.txt' leads out of the folder" in result.output
    assert [path.name for path in tmp_path.rglob("*")] == ["glove", "glove.6B.zip"]


def test_too_little_space_is_reported_before_the_download(
    voc: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    result = call("voc", "--into", tmp_path, "--yes", "--from", voc.url)
    assert result.exit_code == 1
    assert "has 1,000 bytes free" in result.output
    assert voc.requests == []


def test_an_invalid_record_is_reported(voc: FileServer, tmp_path: Path) -> None:
    (tmp_path / "fetched.json").write_text('{"a": 3}')
    result = call("voc", "--into", tmp_path, "--yes", "--from", voc.url)
    assert result.exit_code == 2
    assert 'fetched.json: ["a"] is 3, not an object; remove it to fetch all files again' in result.output


# Files without a published checksum


@pytest.fixture
def unchecked(server: FileServer) -> Entry:
    server.files = {"list.txt": b"first edition\n"}
    file = RemoteFile(f"{server.url}/list.txt", unpack=False)
    return Entry("a list", "free", "https://example.org", (file,), "cat {into}/list.txt")


def test_a_first_copy_without_checksum_is_trusted_and_later_ones_must_be_equal(
    unchecked: Entry, server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch_entry(unchecked, tmp_path)
    assert "no checksum is published, so this first copy is trusted" in capsys.readouterr().err
    record = json.loads((tmp_path / "fetched.json").read_text())
    assert record["list.txt"]["sha256"] == hashlib.sha256(b"first edition\n").hexdigest()

    fetch_entry(unchecked, tmp_path)
    assert "list.txt: already fetched" in capsys.readouterr().err
    (tmp_path / "list.txt").write_bytes(b"first editiom\n")
    fetch_entry(unchecked, tmp_path)
    assert (tmp_path / "list.txt").read_bytes() == b"first edition\n"
    capsys.readouterr()

    (tmp_path / "list.txt").unlink()
    fetch_entry(unchecked, tmp_path)
    assert "trusted" not in capsys.readouterr().err

    (tmp_path / "list.txt").unlink()
    server.files["list.txt"] = b"other edition\n"
    with pytest.raises(FailureError, match="arrived with SHA-256"):
        fetch_entry(unchecked, tmp_path)
    assert not (tmp_path / "list.txt").exists()
